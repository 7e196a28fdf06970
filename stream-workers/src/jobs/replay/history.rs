//! Raw webhooks of a stretch of time, for `process` to work again under a replay id.

use std::collections::{HashMap, HashSet};

use router_runtime::consumer::Incoming;
use router_schemas::{EventId, ProcessedRecord, RawMeta, dead_letter, raw::ReplayMeta};

use super::{Job, SENT, Tally};

pub(super) fn replay(job: &Job) -> anyhow::Result<Tally> {
    let names = job.kafka.names();
    let wanted = job
        .wish
        .category
        .as_deref()
        .map(|category| categorised(job, category))
        .transpose()?;
    let mut tally = Tally::default();
    job.window(&names.raw, job.wish.to_ms, "replaying")?
        .read(|record| {
            let Ok(meta) = RawMeta::read(record.headers()) else {
                tally.count("not readable, passed over");
                return Ok(());
            };
            if job
                .wish
                .source
                .is_some_and(|source| source != meta.source_id)
            {
                tally.count("of another source");
                return Ok(());
            }
            if wanted
                .as_ref()
                .is_some_and(|wanted| !wanted.contains(&meta.event_id))
            {
                tally.count("of another category");
                return Ok(());
            }
            let replay = ReplayMeta {
                replay_id: Some(job.replay_id),
                destination_id: job.wish.destination,
                round: 0,
            };
            send_raw(
                job,
                record,
                RawMeta {
                    replay: Some(replay),
                    ..meta
                },
            )?;
            tally.count(SENT);
            Ok(())
        })?;
    Ok(tally)
}

/// Events that had this category when they were processed: the last word on each counts, replays do not.
pub(super) fn categorised(job: &Job, category: &str) -> anyhow::Result<HashSet<EventId>> {
    let mut of: HashMap<EventId, bool> = HashMap::new();
    let names = job.kafka.names();
    job.window(&names.processed, i64::MAX, "reading categories")?
        .read(|record| {
            // Only the fields that are needed here, and only of records that can be read.
            let Ok(processed) = serde_json::from_slice::<ProcessedRecord>(record.payload()) else {
                return Ok(());
            };
            if processed.replay_id.is_none()
                && let Some(classification) = processed.classification
            {
                let ours = classification.category == category;
                // Of the others only those are remembered that were thought to be ours before.
                if ours || of.contains_key(&processed.event_id) {
                    of.insert(processed.event_id, ours);
                }
            }
            Ok(())
        })?;
    Ok(of
        .into_iter()
        .filter_map(|(event, ours)| ours.then_some(event))
        .collect())
}

/// To `webhooks.replay`, with the body as it is.
pub(super) fn send_raw(job: &Job, record: &Incoming, mut meta: RawMeta) -> anyhow::Result<()> {
    // Settings as they are now are what a replay is worked with.
    meta.config_offset = job.config_offset;
    let mut headers = Vec::with_capacity(16);
    meta.write(|name, value| headers.push((name, value.to_vec())));
    // How often it came to rest goes along.
    let told = record
        .headers()
        .find(|(name, _)| *name == dead_letter::INFO);
    if let Some((_, Some(value))) = told {
        headers.push((dead_letter::INFO, value.to_vec()));
    }
    job.outbox.send(
        &job.kafka.names().replay,
        record.key(),
        record.payload(),
        &headers,
    )
}
