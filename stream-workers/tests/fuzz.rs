//! Bodies that nobody would send, through everything that reads a body before it is delivered: unpacking, parsing,
//! features, extraction, the payload of a result. Nothing may panic, and nothing may take long for its size.
//! Two seconds of all of it and half a minute of what the classifier reads in `make test`, ten minutes of each in
//! `make soak`. `fuzz_corpus/` keeps what was odd enough to be tried again each time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use stream_workers::{
    body::Body,
    classify::{Features, MAX_TOKENS, MAX_WORDS, Vocabulary, example},
    extract::Extractor,
    headers::SenderHeaders,
};

const LIMIT_BYTES: usize = 1 << 20;
/// A body of a few kilobytes takes microseconds; this is for a machine that is busy with something else.
const SLOWEST: Duration = Duration::from_millis(500);

/// What is mutated: a little of every format that is read.
const SEEDS: [(&str, &str); 8] = [
    (
        "application/json",
        r#"{"id":"evt_1","type":"invoice.paid","created":1780000000,"data":{"object":{"amount":4200,"currency":"eur","lines":[{"a":1},{"a":-1e999}]}}}"#,
    ),
    (
        "application/json",
        r#"[{"event":"bounce","email":"a@example.com","timestamp":1513299569},{"event":"\u0000\ud83d\ude00"}]"#,
    ),
    (
        "application/x-www-form-urlencoded",
        "MessageSid=SM1&From=%2B4912345&Body=caf%C3%A9+%26+more&payload=%7B%22a%22%3A%5B1%5D%7D",
    ),
    (
        "multipart/form-data; boundary=b",
        "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n{}\r\n--b--\r\n",
    ),
    (
        "application/xml",
        "<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY x \"&x;\">]><a b='c'><d>&x;</d><![CDATA[<>]]></a>",
    ),
    ("text/plain", "backup of ledger-db finished: 48 GB in 611 s"),
    (
        "application/json",
        r#"{"action":"opened","pull_request":{"number":1,"title":"x","user":{"login":"alice"}},"repository":{"full_name":"a/b"}}"#,
    ),
    ("", ""),
];

/// SplitMix64 (Steele, Lea, Flood 2014): the same run for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    fn mutate(&mut self, body: &mut Vec<u8>) {
        let at = self.below(body.len() + 1);
        match self.below(7) {
            0 => body.insert(at, u8::try_from(self.next() & 0xff).unwrap()),
            1 if at < body.len() => drop(body.remove(at)),
            2 if at < body.len() => body[at] ^= 1 << self.below(8),
            3 => body.truncate(at),
            // A piece again, many times: depth, width, repeated keys.
            4 => {
                let end = at + self.below(24).min(body.len() - at);
                let piece = body[at..end].to_vec();
                let times = 1 << self.below(11);
                for _ in 0..times {
                    if body.len() + piece.len() < 64 << 10 {
                        body.splice(at..at, piece.iter().copied());
                    }
                }
            }
            5 => {
                const TOKENS: [&[u8]; 12] = [
                    b"{",
                    b"[",
                    b"\"",
                    b"\\u0000",
                    b"\\ud800",
                    b"null",
                    b"1e999",
                    b"-0",
                    b"&",
                    b"%",
                    b"\xff",
                    b"\xe2\x80\xae",
                ];
                let token = TOKENS[self.below(TOKENS.len())];
                body.splice(at..at, token.iter().copied());
            }
            _ => {
                let other = SEEDS[self.below(SEEDS.len())].1.as_bytes();
                body.splice(at..at, other.iter().copied());
            }
        }
    }
}

fn fuzz(seed: u64, length: Duration) -> u64 {
    let mut random = Random(seed);
    let extractor = Extractor::default();
    let began = Instant::now();
    let mut tried = 0;
    while began.elapsed() < length {
        let (content_type, text) = SEEDS[random.below(SEEDS.len())];
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..=random.below(12) {
            random.mutate(&mut bytes);
        }
        let encoding = [None, None, None, Some("gzip"), Some("br"), Some("zstd")][random.below(6)];
        let headers = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned();
        let shown = bytes.clone();
        let one = Instant::now();
        let body = Body::read(
            Bytes::from(bytes),
            Some(content_type),
            encoding,
            LIMIT_BYTES,
        );
        for headers in [r#"[["x-github-event","push"]]"#, &headers] {
            let headers = SenderHeaders::parse(headers);
            let read = example(&headers, body.content_type.as_deref(), &body.bytes);
            assert!(read.tokens.len() <= 256);
            let result = extractor.extract(&headers, &body);
            serde_json::to_vec(&result).unwrap();
        }
        let payload = serde_json::to_vec(&body.payload()).unwrap();
        serde_json::from_slice::<&serde_json::value::RawValue>(&payload).unwrap();
        assert!(
            one.elapsed() < SLOWEST,
            "{:?} for {} bytes: {:?}",
            one.elapsed(),
            shown.len(),
            String::from_utf8_lossy(&shown[..shown.len().min(300)])
        );
        tried += 1;
    }
    tried
}

#[test]
fn nothing_that_reads_bodies_panics_or_dawdles() {
    assert!(fuzz(1, Duration::from_secs(2)) > 100);
}

#[test]
#[ignore = "takes ten minutes; run by `make soak`"]
fn nothing_that_reads_bodies_panics_or_dawdles_for_ten_minutes() {
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    println!(
        "seed {seed}: {} bodies",
        fuzz(seed, Duration::from_secs(600))
    );
}

/// Bodies that were kept, and a few hundred of those that the classifier learns from.
fn kept() -> Vec<Vec<u8>> {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut bodies: Vec<Vec<u8>> = std::fs::read_dir(here.join("tests/fuzz_corpus"))
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(bodies.len() > 10);
    for entry in std::fs::read_dir(here.join("classifier/corpus/many")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        bodies.extend(
            text.lines()
                .step_by(20)
                .map(|line| line.as_bytes().to_vec()),
        );
    }
    bodies
}

fn read(content_type: &str, body: &[u8]) -> usize {
    let headers = SenderHeaders::default();
    let tokens = example(&headers, Some(content_type), body).tokens;
    assert!(tokens.len() <= 256);
    assert!(tokens.iter().all(|token| token.as_bytes()[1] == b':'));
    tokens.len()
}

const CONTENT_TYPES: [&str; 5] = [
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "text/xml",
    "",
];

/// What the classifier reads, without what comes before and after it: many more bodies in the same time.
fn fuzz_reading(seed: u64, length: Duration) -> u64 {
    let mut random = Random(seed);
    let kept = kept();
    let words = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/classifier/model/vocabulary.txt"
    );
    let vocabulary = Vocabulary::read(&std::fs::read_to_string(words).unwrap()).unwrap();
    let mut features = Features::new(&vocabulary);
    let began = Instant::now();
    let mut tried = 0;
    while began.elapsed() < length {
        let mut body = kept[random.below(kept.len())].clone();
        for _ in 0..=random.below(12) {
            random.mutate(&mut body);
        }
        let one = Instant::now();
        let content_type = CONTENT_TYPES[random.below(CONTENT_TYPES.len())];
        read(content_type, &body);
        let text = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        let headers = [
            (text.to_lowercase(), text.clone()),
            ("x-event".to_owned(), text),
        ];
        let headers = SenderHeaders::from_pairs(headers.into_iter());
        let row = features.read(&headers, Some(content_type), &body);
        assert!(row.tokens.len() <= MAX_TOKENS && row.words.len() <= MAX_WORDS);
        assert_eq!(row.words.len(), row.groups.len());
        assert!(
            one.elapsed() < SLOWEST,
            "{:?} for {:?}",
            one.elapsed(),
            String::from_utf8_lossy(&body[..body.len().min(300)])
        );
        tried += 1;
    }
    tried
}

#[test]
fn what_the_classifier_reads_never_panics() {
    let tried = fuzz_reading(2, Duration::from_secs(30));
    println!("{tried} bodies");
    assert!(tried > 10_000);
}

#[test]
#[ignore = "takes ten minutes; run by `make soak`"]
fn what_the_classifier_reads_never_panics_for_ten_minutes() {
    let seed = Random(std::process::id().into()).next();
    println!(
        "seed {seed}: {} bodies",
        fuzz_reading(seed, Duration::from_secs(600))
    );
}

/// Every kept body over and over: sixteen times as much takes no more than about sixteen times as long.
#[test]
fn what_the_classifier_reads_takes_time_by_its_length_at_the_most() {
    const SHORT: usize = 16 << 10;
    const TIMES: usize = 16;
    let fastest = |content_type: &str, body: &[u8]| {
        let times = (0..5).map(|_| {
            let began = Instant::now();
            std::hint::black_box(read(content_type, body));
            began.elapsed()
        });
        times.min().unwrap()
    };
    for body in kept().iter().filter(|body| !body.is_empty()).take(60) {
        for content_type in CONTENT_TYPES {
            let long: Vec<u8> = body.iter().copied().cycle().take(SHORT * TIMES).collect();
            let short = fastest(content_type, &long[..SHORT]).max(Duration::from_micros(200));
            let taken = fastest(content_type, &long);
            assert!(
                taken < short * (3 * TIMES as u32),
                "{content_type}: {short:?} for 16 KB, {taken:?} for 256 KB of {:?}",
                String::from_utf8_lossy(&body[..body.len().min(100)])
            );
        }
    }
}
