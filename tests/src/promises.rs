//! What was promised, against what arrived.

use std::time::Duration;

use crate::{Receiver, Sent, SteadySender, World, WorldSettings, eventually};

/// A world with one receiver for everything, and a sender at work; none where there is no stack.
pub async fn under_load(
    name: &str,
    settings: WorldSettings,
    per_second: u32,
) -> Option<(World, Receiver, SteadySender)> {
    let world = World::start(name, settings).await?;
    let receiver = Receiver::start().await;
    let destination = world.destination("app", &receiver.url(), &["--concurrency", "64"]);
    world.route("all", &destination, &[]);
    world.send("{}").await;
    let sender = SteadySender::start(&world, per_second);
    Some((world, receiver, sender))
}

/// Waits until every promised event has arrived, each under one delivery id.
///
/// # Panics
/// One has not within `patience`, or came under several ids.
pub async fn all_arrive(receiver: &Receiver, sent: &Sent, patience: Duration) {
    let what = "every promised webhook is delivered";
    let arrived = eventually(what, patience, async || {
        if receiver.count() < sent.accepted.len() {
            return None;
        }
        let arrived = receiver.arrivals();
        let mut promised = sent.accepted.iter();
        promised
            .all(|id| arrived.contains_key(id))
            .then_some(arrived)
    })
    .await;
    for (event, arrivals) in &arrived {
        let mut ids = arrivals.iter().map(|arrival| &arrival.delivery);
        assert!(
            ids.all(|id| *id == arrivals[0].delivery),
            "event {event} came under several delivery ids"
        );
    }
}
