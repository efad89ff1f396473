//! Whole histories under simulated time: what faults, changes and deaths do to a replication, and that
//! the target equals the source in the end.

use chrono::{DateTime, TimeDelta, Utc};
use weir::sim::{Options, STREAMS, Simulator};

use crate::support::world::{World, at};

const ALL: &str = "
source: WIKI
target: OUT
defaults: { mode: MODE, refresh: 0s, inputs: { custom_content_types: ['ac:com.example.diagrams:diagram', 'forge:1b2c3d4e:9f8e7d6c:board'] } }
checkpoint: { seconds: 1, mib: 1 }
limits: { requests_per_second: 20, concurrency: 4 }
streams: { '*': }
";

fn small(seed: u64) -> Options {
    Options {
        seed,
        spaces: 3,
        pages: 14,
        blog_posts: 4,
        attachments: 6,
        groups: 3,
        tasks: 8,
        custom_content: 4,
        labels: 40,
        body_bytes: 64,
        heavy_parents: 0,
        ..Options::default()
    }
}

fn start() -> DateTime<Utc> {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

#[test]
fn a_killed_run_goes_on_until_the_target_equals_the_source() {
    for mode in ["full-refresh", "incremental"] {
        for steps in [3, 40, 111, 222, 333] {
            let world = World::new(Simulator::new(small(7)));
            let replication = ALL.replace("MODE", mode);
            let mut lives = 0;
            let report = loop {
                lives += 1;
                let life = (lives < 40).then_some(steps);
                let now = start() + TimeDelta::hours(lives);
                if let Some(report) = world.live(&replication, life, at(now)) {
                    break report.unwrap();
                }
            };
            assert_eq!(report.status, weir::sync::RunStatus::Done, "{report:#?}");
            let faults: Vec<String> =
                STREAMS.iter().flat_map(|stream| world.faults(stream)).collect();
            assert!(faults.is_empty(), "{mode}, {steps} steps a life, {lives} lives: {faults:#?}");
            println!("{mode} {steps}: {lives} lives, {} requests", world.requests());
            assert_eq!(world.memory.staged(), 0);
        }
    }
}
