//! How changes reach the topic: fenced publishers, an outage of Kafka, the running control plane.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use control_plane::{
    publisher::{PublishError, Publisher},
    store::{Change, outbox, sources},
};
use router_schemas::{DeliveryId, DestinationId, ProjectId, events::ControlEvent};

use crate::support::{NO_KAFKA, Produced, Ran, World, until};

/// Changes a table as a command would, and publishes nothing.
async fn change_only(world: &World, name: &str) -> String {
    let mut change = Change::begin(&world.pool, "test", ProjectId::DEFAULT)
        .await
        .unwrap();
    let (source, _) = sources::create(&mut change, name).await.unwrap();
    change.commit().await.unwrap();
    format!("source/{}", source.id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_lost_its_place_cannot_write() {
    let Some(world) = World::installed().await else {
        return;
    };
    let mut connection = world.pool.acquire().await.unwrap();
    let (mut older, mut newer) = (
        Publisher::new(world.kafka.clone()),
        Publisher::new(world.kafka.clone()),
    );
    older.take_over().await.unwrap();
    newer.take_over().await.unwrap();
    let key = change_only(&world, "fenced").await;

    let refused = older.publish_pending(&mut connection).await;
    assert!(matches!(refused, Err(PublishError::Fenced)), "{refused:?}");
    assert_eq!(world.record(&key), None);
    assert_eq!(outbox::unpublished(&world.pool).await.unwrap().len(), 1);

    assert_eq!(newer.publish_pending(&mut connection).await.unwrap(), 1);
    assert_eq!(world.record(&key).unwrap()["value"]["name"], "fenced");
    assert!(outbox::unpublished(&world.pool).await.unwrap().is_empty());
    drop(connection);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_changes_that_waited_only_the_newest_is_written() {
    let Some(world) = World::installed().await else {
        return;
    };
    let key = change_only(&world, "first").await;
    let before: i64 = 1;
    for name in ["second", "third"] {
        let mut change = Change::begin(&world.pool, "test", ProjectId::DEFAULT)
            .await
            .unwrap();
        let fields = sources::Update {
            name: Some(name.into()),
            ..sources::Update::default()
        };
        let wanted = key.trim_start_matches("source/").into();
        sources::update(&mut change, &wanted, "update", fields)
            .await
            .unwrap();
        change.commit().await.unwrap();
    }
    let mut connection = world.pool.acquire().await.unwrap();
    let mut publisher = Publisher::new(world.kafka.clone());
    let written = publisher.publish_pending(&mut connection).await.unwrap();
    assert_eq!(written, 1, "older versions of a key are not written behind");
    let record = world.record(&key).unwrap();
    assert_eq!(record["value"]["name"], "third");
    assert_eq!(record["version"], before + 2);
    assert!(outbox::unpublished(&world.pool).await.unwrap().is_empty());
    drop(connection);
    world.end().await;
}

fn without_kafka(world: &World, arguments: &[&str]) -> Ran {
    let mut command = world.command(arguments);
    Ran::of(command.env("KAFKA_BROKERS", NO_KAFKA).output().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_made_while_kafka_is_away_is_saved_and_published_by_the_next_command() {
    let Some(world) = World::installed().await else {
        return;
    };
    let ran = without_kafka(&world, &["key", "create", "--name", "early", "--json"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.errors.contains("stored but not yet published"),
        "{}",
        ran.errors
    );
    let key: serde_json::Value = serde_json::from_str(&ran.text).unwrap();
    assert!(
        key["key"].as_str().unwrap().starts_with("whr_"),
        "the key is shown now or never"
    );
    let record = format!("key/{}", key["id"].as_str().unwrap());
    assert_eq!(world.record(&record), None);
    world.ok(&["source", "create", "--name", "another"]);
    assert!(world.record(&record).is_some());
    world.end().await;
}

/// `control-plane serve`; ended when dropped.
struct Serve(Child);

impl Serve {
    fn start(world: &World) -> Self {
        let mut command = world.command(&["serve", "--addr", "127.0.0.1:0"]);
        Self(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    /// Asks it to end; returns its exit code.
    fn stop(mut self) -> Option<i32> {
        let id = self.0.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_control_plane_publishes_and_listens() {
    let Some(world) = World::installed().await else {
        return;
    };
    let waits = change_only(&world, "waits").await;
    let serve = Serve::start(&world);
    until("what waited is published", async || {
        world.record(&waits).is_some()
    })
    .await;

    // A command beside it returns when that process has published.
    let made = world.json(&[
        "destination",
        "create",
        "--name",
        "gone",
        "--url",
        "http://127.0.0.1:1/",
    ]);
    let destination_id: DestinationId = made["id"].as_str().unwrap().parse().unwrap();
    let key = format!("destination/{destination_id}");
    assert_eq!(world.record(&key).unwrap()["value"]["disabled"], false);

    // The data plane tells of a destination that answered 410; garbage beside it stops nothing.
    let event = ControlEvent::DestinationGone {
        project_id: ProjectId::DEFAULT,
        destination_id,
        delivery_id: DeliveryId::generate(),
        at_ms: 1,
    };
    let event = serde_json::to_vec(&event).unwrap();
    for value in [b"garbage".as_slice(), &event, &event] {
        world.produce(Produced {
            topic: &world.names.events,
            partition: 0,
            key: b"",
            value: Some(value),
            headers: Vec::new(),
        });
    }
    until("the destination is disabled", async || {
        world.record(&key).unwrap()["value"]["disabled"] == true
    })
    .await;
    let listed = world.ok(&["destination", "list"]);
    assert!(listed.contains("410"), "{listed}");
    let disabled: i64 =
        sqlx::query_scalar("select count(*) from audit_log where action = 'destination.disable'")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(disabled, 1, "telling it twice disables once");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(serve.stop(), Some(0));
    world.end().await;
}
