//! What senders do wrong, each with its clear answer; what is odd but allowed goes all the way.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use bytes::Bytes;
use router_e2e::{Receiver, World, WorldSettings, eventually};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const LIMIT: usize = 5 * 1024 * 1024;
const SOON: Duration = Duration::from_secs(30);

async fn problem(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["status"], status);
    assert!(body["title"].is_string());
    (status, body)
}

fn chunked(bytes: usize) -> reqwest::Body {
    let chunks = std::iter::repeat_n(Bytes::from(vec![b' '; 64 * 1024]), bytes / (64 * 1024));
    let rest = Bytes::from(vec![b' '; bytes % (64 * 1024)]);
    let chunks = chunks
        .chain([rest])
        .filter(|chunk| !chunk.is_empty())
        .map(Ok::<_, std::io::Error>);
    reqwest::Body::wrap_stream(futures_util::stream::iter(chunks.collect::<Vec<_>>()))
}

async fn connect(world: &World) -> TcpStream {
    let address = world.edge_url.strip_prefix("http://").unwrap();
    TcpStream::connect(address).await.unwrap()
}

/// Start of a request that the edge would accept, up to the headers that tell of its body.
fn head(world: &World, body: &str) -> Vec<u8> {
    format!(
        "POST /webhooks HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\n{body}\r\n\r\n",
        world.key
    )
    .into_bytes()
}

/// Writes these pieces by hand, one every `pace`, reading meanwhile; what the edge has answered when it closes or
/// `patience` is over, and after how long that was.
async fn by_hand(
    world: &World,
    pieces: Vec<Vec<u8>>,
    pace: Duration,
    patience: Duration,
) -> (String, Duration) {
    let (mut reader, mut writer) = connect(world).await.into_split();
    let began = Instant::now();
    let writing = tokio::spawn(async move {
        for piece in pieces {
            // Whoever is refused may be cut off while he writes; the answer is read all the same.
            if writer.write_all(&piece).await.is_err() {
                break;
            }
            tokio::time::sleep(pace).await;
        }
        writer
    });
    let mut answer = Vec::new();
    tokio::time::timeout(patience, reader.read_to_end(&mut answer))
        .await
        .ok();
    writing.abort();
    (
        String::from_utf8_lossy(&answer).into_owned(),
        began.elapsed(),
    )
}

/// The status of an answer that was read by hand; 0 where there is none.
fn status((answer, _): &(String, Duration)) -> u16 {
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    status.and_then(|status| status.parse().ok()).unwrap_or(0)
}

const AT_ONCE: Duration = Duration::ZERO;
const ONE_A_SECOND: Duration = Duration::from_secs(1);

fn bytes(text: &[u8]) -> Vec<Vec<u8>> {
    text.iter().map(|byte| vec![*byte]).collect()
}

/// A body of this size in pieces, with its head: announced, or chunked.
fn large(world: &World, size: usize, announced: bool) -> Vec<Vec<u8>> {
    let length = if announced {
        format!("content-length: {size}")
    } else {
        "transfer-encoding: chunked".to_owned()
    };
    let body = vec![b' '; size];
    let pieces = body.chunks(64 * 1024).map(|piece| {
        if announced {
            return piece.to_vec();
        }
        let size = format!("{:x}\r\n", piece.len());
        [size.as_bytes(), piece, &b"\r\n"[..]].concat()
    });
    let end = (!announced).then(|| b"0\r\n\r\n".to_vec());
    let head = std::iter::once(head(world, &length));
    head.chain(pieces).chain(end).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_are_told_what_is_wrong() {
    let settings = WorldSettings {
        env: vec![
            ("EDGE_BODY_TIMEOUT_MS", "2000".into()),
            ("EDGE_HEADER_TIMEOUT_MS", "2000".into()),
        ],
        ..WorldSettings::default()
    };
    let Some(world) = World::start("bad-input", settings).await else {
        return;
    };
    let client = reqwest::Client::new();
    let url = format!("{}/webhooks", world.edge_url);

    // Keys: missing, wrong, of another shape. The same answer, so that nobody learns which.
    for key in [None, Some("whr_wrong"), Some("")] {
        let request = client.post(&url).body("{}");
        let request = if let Some(key) = key {
            request.header("x-api-key", key)
        } else {
            request
        };
        let (status, body) = problem(request.send().await.unwrap()).await;
        assert_eq!(status, 401, "{body}");
    }
    let flipped: String = world.key.chars().rev().collect();
    assert_eq!(
        problem(
            client
                .post(&url)
                .header("x-api-key", flipped)
                .send()
                .await
                .unwrap()
        )
        .await
        .0,
        401
    );
    let token = client
        .post(format!("{}/in/whs_nobody", world.edge_url))
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(problem(token).await.0, 404);

    // The limit holds with and without an announced length, and not one byte earlier.
    let at_limit = world
        .webhook()
        .await
        .body(vec![b' '; LIMIT])
        .send()
        .await
        .unwrap();
    assert_eq!(at_limit.status(), 202);
    assert_eq!(
        world
            .webhook()
            .await
            .body(chunked(LIMIT))
            .send()
            .await
            .unwrap()
            .status(),
        202
    );
    for announced in [true, false] {
        let pieces = large(&world, LIMIT + 1, announced);
        let answered = by_hand(&world, pieces, AT_ONCE, SOON).await;
        assert_eq!(status(&answered), 413, "announced: {announced}");
    }
    // Nothing of the body need follow.
    let only_head = vec![head(&world, &format!("content-length: {}", LIMIT + 1))];
    assert_eq!(
        status(&by_hand(&world, only_head, AT_ONCE, SOON).await),
        413
    );

    // Headers, on both protocols.
    let long = "h".repeat(33 * 1024);
    let answer = world
        .webhook()
        .await
        .header("x-long", &long)
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(problem(answer).await.0, 431);
    // 33 KiB are above the edge's limit and below what its HTTP/2 parser takes: the edge itself must answer.
    // On a connection of its own each: beyond the limits a connection may end with its request.
    let request = || {
        let http2 = reqwest::Client::builder().http2_prior_knowledge().build();
        let request = http2.unwrap().post(&url);
        request.header("x-api-key", &world.key)
    };
    let answer = request().header("x-long", &long).send().await.unwrap();
    assert_eq!(problem(answer).await.0, 431);
    let far_too_long = "h".repeat(200 * 1024);
    // Beyond that the parser refuses: with a bare 431, or by ending the stream or the connection.
    if let Ok(answer) = request().header("x-long", &far_too_long).send().await {
        assert_eq!(answer.status(), 431);
    }
    assert_eq!(request().body("{}").send().await.unwrap().status(), 202);

    // One byte a second is neither a body nor a header, and half a header line is nothing.
    let mut slow_body = vec![head(&world, "content-length: 100")];
    slow_body.extend(bytes(&[b'x'; 100]));
    let answered = by_hand(&world, slow_body, ONE_A_SECOND, SOON).await;
    assert_eq!(status(&answered), 408);
    let start = b"POST /webhooks HTTP/1.1\r\nhost: x\r\nx-part";
    // HTTP/2: the preface, empty settings, and headers of a stream that say they go on.
    let http2 = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82],
    ];
    for (pieces, pace) in [
        (bytes(start), ONE_A_SECOND),
        (vec![start.to_vec()], Duration::from_secs(60)),
        (vec![http2.concat()], Duration::from_secs(60)),
    ] {
        let (answer, after) = by_hand(&world, pieces, pace, SOON).await;
        assert!(
            after < Duration::from_secs(7),
            "a sender of slow headers is not let go: {answer}"
        );
    }

    idle_uploads_keep_nobody_out(&world).await;

    // Methods and paths.
    assert_eq!(problem(client.get(&url).send().await.unwrap()).await.0, 405);
    assert_eq!(
        problem(
            client
                .post(format!("{}/nothing", world.edge_url))
                .send()
                .await
                .unwrap()
        )
        .await
        .0,
        404
    );

    // A rate is held per key, and said with the time to wait.
    let slow_key = world.control_json(&[
        "key", "create", "--name", "slow", "--rate", "1", "--burst", "2",
    ]);
    let slow_key = slow_key["key"].as_str().unwrap();
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let answer = client
            .post(&url)
            .header("x-api-key", slow_key)
            .body("{}")
            .send()
            .await
            .unwrap();
        if answer.status() == 429 {
            assert!(answer.headers().contains_key("retry-after"));
        }
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(
        statuses.iter().filter(|status| **status == 202).count(),
        2,
        "{statuses:?}"
    );
    assert!(statuses.contains(&429), "{statuses:?}");
}

/// Together they announce more than the edge may hold (256 MiB), and send nothing.
async fn idle_uploads_keep_nobody_out(world: &World) {
    let mut idle = Vec::new();
    for _ in 0..60 {
        let mut stream = connect(world).await;
        let announced = head(world, &format!("content-length: {LIMIT}"));
        stream.write_all(&announced).await.unwrap();
        idle.push(stream);
    }
    // The edge has read the heads by then, and gives up on none of the bodies yet.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let request = world.webhook().await.body("{}");
    let began = Instant::now();
    assert_eq!(request.send().await.unwrap().status(), 202);
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "idle uploads kept a webhook waiting for {:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_bodies_go_all_the_way() {
    let Some(world) = World::start("odd-bodies", WorldSettings::default()).await else {
        return;
    };
    let receiver = Receiver::start().await;
    let raw_receiver = Receiver::start().await;
    let destination = world.destination("app", &receiver.url(), &[]);
    let raw = world.destination("raw", &raw_receiver.url(), &["--body", "raw"]);
    world.route("all", &destination, &[]);
    world.route("raw", &raw, &[]);

    let gzip = |data: &[u8]| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(data).unwrap();
        packer.finish().unwrap()
    };
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let bomb = gzip(&vec![b'0'; 200 << 20]);
    let bodies: Vec<(&str, Option<&str>, Vec<u8>)> = vec![
        ("empty", None, Vec::new()),
        ("invalid UTF-8", None, vec![0xff, 0xfe, 0x00, 0x80]),
        ("deeply nested", None, deep.clone().into_bytes()),
        (
            "duplicate keys",
            None,
            br#"{"a":1,"a":2,"type":"x"}"#.to_vec(),
        ),
        (
            "NUL",
            None,
            br#"{"type":"a\u0000b","title":"c\u0000d"}"#.to_vec(),
        ),
        ("packed", Some("gzip"), gzip(br#"{"type":"invoice.paid"}"#)),
        ("bomb", Some("gzip"), bomb.clone()),
        ("lies", Some("br"), b"this is no brotli".to_vec()),
    ];
    let mut ids = std::collections::HashMap::new();
    for (name, encoding, body) in &bodies {
        let mut request = world.webhook().await;
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", *encoding);
        }
        let answer = request.body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 202, "{name}");
        let id = answer.json::<Value>().await.unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        ids.insert(id, *name);
    }
    let all = bodies.len();
    eventually("every delivery", SOON, async || {
        (receiver.count() == all && raw_receiver.count() == all).then_some(())
    })
    .await;
    for received in receiver.received() {
        // Ten thousand levels are more than most parsers take, this test's among them.
        let text = String::from_utf8_lossy(&received.body).into_owned();
        if text.contains(&deep) {
            continue;
        }
        let result = received.json();
        let payload = &result["payload"];
        match ids[result["id"].as_str().unwrap()] {
            "empty" => assert_eq!(payload, ""),
            "invalid UTF-8" => assert_eq!(payload, &json!({"base64": "//4AgA=="})),
            "duplicate keys" => assert!(text.contains(r#"{"a":1,"a":2,"type":"x"}"#)),
            "NUL" => assert!(text.contains(r#""type":"a\u0000b""#)),
            "packed" => assert_eq!(payload["type"], "invoice.paid"),
            "bomb" | "lies" => assert!(payload["base64"].is_string()),
            other => panic!("{other}: {text}"),
        }
    }
    let raws: Vec<Bytes> = raw_receiver
        .received()
        .into_iter()
        .map(|received| received.body)
        .collect();
    assert!(
        raws.iter().any(|body| body == &bomb),
        "what is not unpacked is sent on as it came"
    );
    assert!(raws.iter().any(|body| body == deep.as_bytes()));

    let pool = world.database().await;
    eventually("every row", SOON, async || {
        let rows: i64 =
            sqlx::query_scalar("select count(*) from processed_results where category is not null")
                .fetch_one(&pool)
                .await
                .unwrap();
        (rows == all as i64).then_some(())
    })
    .await;
    world.balances(SOON).await;
}
