//! What goes wrong at Confluence while everything else goes well: comments that are deleted while they are
//! read, a page that cannot be rendered.

use std::time::Duration;

use serde_json::Value;
use weir::report::NoticeKind;
use weir::sync::report::{RunReport, RunStatus};
use weir_sim::{FaultRule, Faults, Options, What, When};

use crate::support::{rows, world::World};

const COMMENTS: [&str; 2] = ["page_footer_comments", "page_inline_comments"];

fn replication(streams: &[&str]) -> String {
    let streams = streams.join(": , ");
    format!(
        "source: WIKI\ntarget: OUT\ndefaults: {{ mode: incremental }}\n\
         limits: {{ requests_per_second: 50, concurrency: 4 }}\nstreams: {{ {streams}: }}\n"
    )
}

fn small(seed: u64) -> Options {
    Options {
        seed,
        spaces: 3,
        pages: 14,
        blog_posts: 2,
        body_bytes: 64,
        heavy_parents: 0,
        now: Some("2026-10-01T00:00:00Z".parse().unwrap()),
        ..Options::default()
    }
}

fn faulty(part: &str, when: When, what: What) -> Faults {
    let rules = vec![FaultRule { part: part.to_owned(), when, what }];
    Faults { rules, ..Faults::default() }
}

fn gone(run: &RunReport) -> u64 {
    let notices = run.streams.iter().flat_map(|stream| &stream.notices);
    notices.filter(|notice| notice.kind == NoticeKind::Gone).map(|notice| notice.count).sum()
}

/// Once it is quiet, the target is what the site is.
fn ends_well(world: &World, replication: &str, streams: &[&str]) {
    world.simulator.set_faults(Faults::default());
    world.pass(Duration::from_hours(25));
    let run = world.run(replication);
    assert_eq!(run.status, RunStatus::Done, "{run:#?}");
    for stream in streams {
        assert_eq!(world.faults(stream), Vec::<String>::new());
    }
}

#[test]
fn comments_that_are_deleted_while_they_are_read_fail_nothing() {
    let mut deleted = 0;
    for seed in 0..50 {
        let bulk = seed % 2 == 0;
        let options = Options { replies_in_global_lists: !bulk, ..small(seed) };
        let mut world = World::new(options);
        let route = if bulk { "bulk" } else { "default" };
        world.options.routes =
            COMMENTS.map(|stream| (stream.to_owned(), route.to_owned())).to_vec();
        world.simulator.set_faults(faulty("-comments/", When::Share(0.1), What::Deleted));
        let replication = replication(&COMMENTS);
        let run = world.run(&replication);
        assert_eq!(run.status, RunStatus::Done, "{seed}: {run:#?}");
        assert!(run.streams.iter().all(|stream| stream.complete), "{seed}: {run:#?}");
        deleted += gone(&run);
        ends_well(&world, &replication, &COMMENTS);
    }
    assert!(deleted > 50, "{deleted}");
}

#[test]
fn a_page_that_cannot_be_rendered_comes_without_its_body() {
    for route in ["default", "list_then_fetch"] {
        let mut world = World::new(small(3));
        world.options.routes = vec![("pages".to_owned(), route.to_owned())];
        let pages = world.simulator.truth("pages").unwrap();
        let broken = pages[5]["id"].as_str().unwrap().to_owned();
        let fault = What::Unrenderable(broken.clone());
        world.simulator.set_faults(faulty("body-format=", When::Always, fault));
        let replication = replication(&["pages"]);
        let run = world.run(&replication);
        assert_eq!(run.status, RunStatus::DoneWithErrors, "{run:#?}");
        assert_eq!(run.errors.len(), 1, "{route}: {run:#?}");
        assert_eq!(run.errors[0].slice, format!("id={broken}"));
        let batches = world.memory.batches("pages").unwrap();
        let rows: Vec<_> = batches.iter().flat_map(rows::read).collect();
        assert_eq!(rows.len(), pages.len());
        let without = rows.iter().filter(|row| row.get("body").is_none_or(Value::is_null));
        let without: Vec<&str> = without.map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(without, [broken.as_str()], "{route}");
        ends_well(&world, &replication, &["pages"]);
    }
}
