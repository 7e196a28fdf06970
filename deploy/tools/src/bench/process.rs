//! `bench process`: how fast raw webhooks become results and deliveries, classification by the real model
//! included.

use serde_json::json;

use super::{
    Options,
    drain::drain,
    preload::{self, Owner},
    report::{Figures, Table, thousands},
    world::World,
};
/// What issue and architecture aim at.
const AIM_PER_SECOND: f64 = 12_000.0;

/// # Errors
/// The stack does not answer, or the role fails.
pub(super) fn run(options: &Options) -> anyhow::Result<Figures> {
    let world = World::create(&options.stack, "process")?;
    let key = world.create_key()?;
    let destination = world.create_destination("bench", "http://127.0.0.1:9/", &[])?;
    world.route_everything(destination)?;
    let records = options.records(200_000, 5_000);
    let owner = Owner {
        project_id: key.project_id,
        source_id: key.source_id,
    };
    preload::raw(world.kafka(), owner, records)?;

    let names = world.kafka().names();
    let drained = drain(&world, "process", &names.processed, records)?;
    let routed = world.topics.count(&names.deliveries)?;
    let dead = world.topics.count(&names.dead_letter)?;
    anyhow::ensure!(
        routed == records && dead == 0,
        "{routed} of {records} webhooks were routed, {dead} are dead letters: not the work to measure"
    );
    Ok(Figures {
        name: "process",
        parameters: json!({ "records": records, "partitions": 12, "routes": 1, "destinations": 1 }),
        figures: json!({ "drained": drained, "aim_per_second": AIM_PER_SECOND }),
        notes: vec![format!(
            "From the first finished record to the last; aim {} a second. The first was finished {:.1} s after \
             the process was started.",
            thousands(AIM_PER_SECOND),
            drained.until_first_s
        )],
        tables: vec![Table {
            title: format!(
                "process, {} raw webhooks, one route",
                thousands(records as f64)
            ),
            headings: vec!["role", "records/s", "of aim", "CPU us", "peak MiB"],
            rows: vec![vec![
                "process".to_owned(),
                thousands(drained.per_second),
                format!("{:.2}", drained.per_second / AIM_PER_SECOND),
                format!("{:.1}", drained.cpu_us_per_record),
                format!("{:.0}", drained.memory.peak_kib as f64 / 1024.0),
            ]],
        }],
    })
}
