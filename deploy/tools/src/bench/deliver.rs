//! `bench deliver`: how fast deliveries reach a receiver that answers at once, attempts recorded, and what
//! that costs beside a bare reqwest loop to the same receiver in the same run.

use serde_json::json;

use super::{
    Options, bare_loop,
    drain::drain,
    preload::{self, Owner},
    report::{Figures, Table, thousands},
    world::World,
};

const DESTINATIONS: usize = 16;
/// Requests in flight to each destination. 16 of them allow 512 in all.
const CONCURRENCY: &str = "32";
const AIM_PER_SECOND: f64 = 12_000.0;
/// At most this many times the CPU of the bare loop.
const AIM_CPU_RATIO: f64 = 4.0;

/// # Errors
/// The stack does not answer, the role fails, or a delivery does not arrive exactly once.
pub(super) fn run(options: &Options) -> anyhow::Result<Figures> {
    let world = World::create(&options.stack, "deliver")?;
    let key = world.create_key()?;
    let receiver = world.start_own("receiver", &["--tracked-ids", "2000000"])?;
    let destinations = (1..=DESTINATIONS)
        .map(|number| {
            let (name, url) = (
                format!("bench-{number}"),
                format!("http://{}/{number}", receiver.admin),
            );
            world.create_destination(&name, &url, &["--concurrency", CONCURRENCY])
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let records = options.records(200_000, 5_000);
    let owner = Owner {
        project_id: key.project_id,
        source_id: key.source_id,
    };
    preload::deliveries(world.kafka(), owner, &destinations, records)?;

    eprintln!("  a bare reqwest loop to the same receiver");
    let before = bare_loop::run(receiver.admin, records / 2)?;
    world.reset_receiver(receiver.admin)?;
    let drained = drain(&world, "deliver", &world.kafka().names().attempts, records)?;
    let stats = world.receiver_stats(receiver.admin)?;
    anyhow::ensure!(
        stats.distinct_ids == records && stats.duplicates == 0,
        "{} of {records} deliveries arrived, {} twice",
        stats.distinct_ids,
        stats.duplicates
    );
    let after = bare_loop::run(receiver.admin, records / 2)?;
    receiver.child.stop()?;

    let bare_cpu = f64::midpoint(before.cpu_us_per_request, after.cpu_us_per_request);
    let bare_rate = f64::midpoint(before.per_second, after.per_second);
    let ratio = drained.cpu_us_per_record / bare_cpu;
    Ok(Figures {
        name: "deliver",
        parameters: json!({
            "records": records, "destinations": DESTINATIONS, "concurrency": CONCURRENCY, "partitions": 12,
        }),
        figures: json!({
            "drained": drained, "bare_loop": [before, after], "cpu_ratio": ratio,
            "aim_per_second": AIM_PER_SECOND, "aim_cpu_ratio": AIM_CPU_RATIO,
        }),
        notes: vec![format!(
            "Every delivery arrived once. Aim {} a second and at most {AIM_CPU_RATIO} times the CPU of the bare \
             loop, which ran before and after.",
            thousands(AIM_PER_SECOND)
        )],
        tables: vec![Table {
            title: format!(
                "deliver, {} deliveries to {DESTINATIONS} destinations",
                thousands(records as f64)
            ),
            headings: vec!["", "deliveries/s", "of aim", "CPU us", "x", "peak MiB"],
            rows: vec![
                vec![
                    "bare reqwest, 64 in flight".into(),
                    thousands(bare_rate),
                    String::new(),
                    format!("{bare_cpu:.1}"),
                    "1.00".into(),
                    String::new(),
                ],
                vec![
                    "deliver".into(),
                    thousands(drained.per_second),
                    format!("{:.2}", drained.per_second / AIM_PER_SECOND),
                    format!("{:.1}", drained.cpu_us_per_record),
                    format!("{ratio:.2}"),
                    format!("{:.0}", drained.memory.peak_kib as f64 / 1024.0),
                ],
            ],
        }],
    })
}
