//! Dead letters, each back to the stage that gave it up: deliveries under their own ids in a new round, raw
//! webhooks to `process`.

use router_runtime::{consumer::Incoming, now_ms};
use router_schemas::{DeadLetterInfo, DeliveryMeta, RawMeta, raw::ReplayMeta};

use super::{
    Job, SENT, Tally,
    history::{categorised, send_raw},
};

/// Bodies of letters that were too large for the dead letters stand in the topic they came from only.
const EFFECT_REFUSED: &str = "effect_refused";

pub(super) fn redrive(job: &Job) -> anyhow::Result<Tally> {
    let names = job.kafka.names();
    let wanted = job
        .wish
        .category
        .as_deref()
        .map(|category| categorised(job, category))
        .transpose()?;
    let mut tally = Tally::default();
    job.window(&names.dead_letter, job.wish.to_ms, "redriving")?
        .read(|record| {
            let Ok(info) = DeadLetterInfo::read(record.headers()) else {
                tally.count("not readable, passed over");
                return Ok(());
            };
            let of_category = |event| wanted.as_ref().is_none_or(|wanted| wanted.contains(&event));
            let of_source = |source| job.wish.source.is_none_or(|wanted| wanted == source);
            if let Ok((meta, content_type)) = DeliveryMeta::read(record.headers()) {
                let outcome = if !of_source(meta.source_id) {
                    "of another source"
                } else if !of_category(meta.event_id) {
                    "of another category"
                } else if job
                    .wish
                    .destination
                    .is_some_and(|wanted| wanted != meta.destination_id)
                {
                    "of another destination"
                } else if !job.lives(meta.destination_id) {
                    "for a destination that was deleted"
                } else {
                    send_delivery(job, record, meta, content_type.as_deref())?;
                    SENT
                };
                tally.count(outcome);
                return Ok(());
            }
            let raw = info.stage == "process" || info.stage == "reprocess";
            let outcome = match RawMeta::read(record.headers()) {
                _ if !raw => "of a stage that takes nothing again",
                Err(_) => "not readable, passed over",
                Ok(_) if info.reason == EFFECT_REFUSED && record.payload().is_empty() => {
                    "too large to be kept whole"
                }
                Ok(meta) if !of_source(meta.source_id) => "of another source",
                Ok(meta) if !of_category(meta.event_id) => "of another category",
                Ok(meta) => {
                    let before = meta.replay;
                    let replay = ReplayMeta {
                        replay_id: before.and_then(|replay| replay.replay_id),
                        destination_id: job
                            .wish
                            .destination
                            .or(before.and_then(|r| r.destination_id)),
                        round: before.map_or(0, |replay| replay.round) + 1,
                    };
                    send_raw(
                        job,
                        record,
                        RawMeta {
                            replay: Some(replay),
                            ..meta
                        },
                    )?;
                    SENT
                }
            };
            tally.count(outcome);
            Ok(())
        })?;
    Ok(tally)
}

fn send_delivery(
    job: &Job,
    record: &Incoming,
    mut meta: DeliveryMeta,
    content_type: Option<&str>,
) -> anyhow::Result<()> {
    meta.round += 1;
    meta.attempts = 0;
    meta.parked = None;
    meta.queued_at_ms = now_ms();
    meta.config_offset = job.config_offset;
    let mut headers = Vec::with_capacity(3);
    meta.write(content_type, |name, value| {
        headers.push((name, value.to_vec()))
    });
    job.outbox.send(
        &job.kafka.names().redeliveries,
        record.key(),
        record.payload(),
        &headers,
    )
}
