//! Routes: whichever is taken, the table is the same.

use std::time::Duration;

use serde_json::Value;
use weir::report::Event;
use weir::sync::report::RunStatus;
use weir_sim::{Churn, Options, STREAMS};

use super::support::{
    rig::{Rig, confluence, own_routes},
    world::{Life, World},
};

/// A replication of everything with these inputs.
fn replication(inputs: &str) -> String {
    format!(
        "source: WIKI\ntarget: OUT\n\
         defaults: {{ metadata: {{ synced_at: false }}, inputs: {inputs} }}\n\
         limits: {{ requests_per_second: 0, concurrency: 4 }}\nstreams: {{ '*': }}\n"
    )
}

/// A small tenant with lists longer than those that come inside other answers.
fn tenant() -> Options {
    Options { pages: 40, attachments: 14, labels: 90, ..Options::default() }
}

fn rig(options: Options, stream: &str, route: &str) -> Rig {
    let mut rig = Rig::new(options).only(&[stream]);
    rig.options.routes = vec![(stream.to_owned(), route.to_owned())];
    rig
}

fn table(rig: &Rig, stream: &str) -> Vec<String> {
    let rows = rig.rows(stream).unwrap();
    let mut rows: Vec<String> = rows.into_iter().map(|row| Value::from(row).to_string()).collect();
    rows.sort();
    rows
}

#[tokio::test]
async fn every_stream_is_the_same_by_each_of_its_routes() {
    let spec = confluence();
    let mut compared = 0;
    for inputs in ["{}", "{ child_types: page }", "{ statuses: [current] }"] {
        let text = replication(inputs);
        for (name, stream) in spec.selectable().filter(|(_, stream)| !stream.routes.is_empty()) {
            let own = rig(tenant(), name, "default");
            let report = own.run(&text).await;
            assert_eq!(report.status, RunStatus::Done, "{report:?}");
            let expected = table(&own, name);
            assert!(expected.len() > 3, "{name}");
            for route in stream.routes.keys() {
                let rig = rig(tenant(), name, route);
                if rig.plan(&text).is_err() {
                    continue;
                }
                let report = rig.run(&text).await;
                assert_eq!(report.status, RunStatus::Done, "{name} by {route}: {report:?}");
                let found = table(&rig, name);
                assert_eq!(found.len(), expected.len(), "{inputs}: {name} by {route}");
                assert_eq!(found, expected, "{inputs}: {name} by {route}");
                let told = report.streams.iter().find(|one| one.stream == *name).unwrap();
                assert_eq!((told.route.as_str(), told.duplicates), (route.as_str(), 0));
                compared += 1;
            }
        }
    }
    assert!(compared > 60, "{compared}");
}

#[tokio::test]
async fn titles_of_versions_come_when_they_are_asked_for() {
    let rig = Rig::new(tenant()).only(&["page_versions"]);
    rig.run(&replication("{ version_titles: true }")).await;
    let rows = rig.rows("page_versions").unwrap();
    let titled = rows.iter().filter(|row| row["title"].is_string()).count();
    assert!(titled * 10 > rows.len() * 9, "{titled} of {}", rows.len());
}

/// Streams that are told to come inside the answers about single objects, of which each is asked for once.
#[tokio::test]
async fn what_comes_together_is_the_same_and_asked_for_once() {
    let text = replication("{}");
    let spec = confluence();
    let own = Rig::new(tenant());
    own.run(&text).await;
    let mut rig = Rig::new(tenant());
    for (name, stream) in spec.selectable() {
        if stream.routes.contains_key("fused") {
            rig.options.routes.push((name.clone(), "fused".to_owned()));
        }
    }
    let report = rig.run(&text).await;
    assert_eq!(report.status, RunStatus::Done, "{report:?}");
    for (name, _) in spec.selectable() {
        assert_eq!(table(&rig, name), table(&own, name), "{name}");
    }
    let log = rig.simulator.log();
    let mut singles: Vec<&str> = log
        .iter()
        .filter(|request| request.query.contains("include-"))
        .map(|request| &*request.path)
        .collect();
    let all = singles.len();
    singles.sort_unstable();
    singles.dedup();
    assert_eq!(singles.len(), all, "an object was asked for twice");
    let parents = ["spaces", "pages", "blog_posts", "attachments"];
    let parents: usize = parents.iter().map(|name| table(&own, name).len()).sum();
    assert!(all * 10 > parents * 9, "{all} of {parents}");
}

/// Warnings that name a stream and its route.
fn warnings(rig: &Rig) -> Vec<String> {
    let told = |event: Event| match event {
        Event::Warning { stream: Some(stream), message } if message.contains("route") => {
            Some(format!("{stream}: {message}"))
        }
        _ => None,
    };
    rig.events.events().into_iter().filter_map(told).collect()
}

/// Requests of a refused path, perhaps with a parameter.
fn asked(rig: &Rig, refused: &str) -> usize {
    let (path, parameter) = refused.split_once('?').unwrap_or((refused, ""));
    let (start, end) = path.split_once("{id}").unwrap_or((path, ""));
    let like = |path: &str| {
        let inner = path.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
        inner.is_some_and(|inner| inner.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let log = rig.simulator.log();
    log.iter().filter(|one| like(&one.path) && one.query.contains(parameter)).count()
}

#[tokio::test]
async fn a_route_that_is_refused_is_left_for_the_next_with_a_warning() {
    let text = replication("{}");
    let own = Rig::new(tenant()).by_own_requests();
    own.run(&text).await;
    let all: Vec<String> = confluence().selectable().map(|(name, _)| name.clone()).collect();
    let cases = [
        ("/wiki/api/v2/footer-comments", vec!["*"], None),
        ("/wiki/api/v2/pages/{id}?include-labels", vec!["*"], None),
        ("/wiki/rest/api/content/search", vec!["page_labels"], Some("search")),
        ("/wiki/api/v2/labels", vec!["blog_post_labels"], Some("inverted")),
        ("/wiki/api/v2/labels/{id}/attachments", vec!["attachment_labels"], Some("inverted")),
    ];
    for (refused, streams, route) in cases {
        for status in [400, 403, 404, 410] {
            let refuses = vec![(refused.to_owned(), status)];
            let mut rig = Rig::new(Options { refuses, ..tenant() }).only(&streams);
            let routes = route.iter().map(|route| (streams[0].to_owned(), (*route).to_owned()));
            rig.options.routes = routes.collect();
            let report = rig.run(&text).await;
            let what = format!("{refused} {status}");
            assert_eq!(report.status, RunStatus::Done, "{what}: {report:#?}");
            for name in all.iter().filter(|name| streams.contains(&"*") || streams[0] == **name) {
                assert_eq!(table(&rig, name), table(&own, name), "{what}: {name}");
            }
            let told = warnings(&rig);
            assert!((1..=2).contains(&told.len()), "{what}: {told:?}");
            // Those that were under way when the first one was refused, and no more.
            assert!((1..=8).contains(&asked(&rig, refused)), "{what}: {}", asked(&rig, refused));
            // The next run does not try it again by itself.
            rig.options.routes = Vec::new();
            rig.simulator.clear_log();
            let report = rig.run(&text).await;
            assert_eq!(report.status, RunStatus::Done, "{what}: {report:#?}");
            assert_eq!(warnings(&rig).len(), told.len(), "{what}");
        }
    }
}

/// Listings of changes that a site may refuse, and the streams for which they are.
const CHANGES: [(&str, &[&str]); 4] = [
    ("/wiki/api/v2/footer-comments?sort", &["page_footer_comments", "blog_post_footer_comments"]),
    ("/wiki/api/v2/tasks?completed-at-from", &["tasks"]),
    // One of two, of which the other one has brought rows.
    ("/wiki/api/v2/tasks?created-at-from", &["tasks"]),
    // With children that follow its changes, and others that are read by their own.
    ("/wiki/api/v2/pages?sort", &["pages"]),
];

const INCREMENTAL: &str = "
source: WIKI
target: OUT
defaults: { mode: incremental }
checkpoint: { every: 1s, size: 1MiB }
limits: { requests_per_second: 20, concurrency: 4 }
streams: { '*': }
";

/// A tenant that refuses something, of which everything was read before it changed.
fn refusing(refused: &str, status: u16) -> World {
    let refuses = vec![(refused.to_owned(), status)];
    let now = Some("2026-10-01T00:00:00Z".parse().unwrap());
    let small = Options { pages: 10, attachments: 4, labels: 40, heavy_parents: 0, ..tenant() };
    let mut world = World::new(Options { refuses, now, ..small });
    world.list_changes_apart("pages");
    world.options.routes = own_routes();
    assert_eq!(world.run(INCREMENTAL).status, RunStatus::Done);
    world.pass(Duration::from_hours(1));
    world.churn(7, &Churn::of(25));
    world.pass(Duration::from_hours(1));
    world
}

/// Streams that were told to be read whole, since their changes are not listed.
fn read_whole(life: &Life) -> Vec<&str> {
    let told = life.events.iter().filter_map(|event| match event {
        Event::Warning { stream: Some(stream), message }
            if message.contains("incremental read is not possible") =>
        {
            Some(stream.as_str())
        }
        _ => None,
    });
    told.collect()
}

#[test]
fn a_listing_of_changes_that_is_refused_is_left_for_a_whole_reading_in_the_same_run() {
    let twin = refusing("/wiki/api/v2/labels", 404);
    assert_eq!(twin.run(INCREMENTAL).status, RunStatus::Done);
    let expected: Vec<_> = STREAMS.iter().filter(|s| !twin.faults(s).is_empty()).collect();
    for (refused, streams) in CHANGES {
        for status in [400, 403, 404, 410] {
            let what = format!("{refused} {status}");
            let world = refusing(refused, status);
            let life = world.live(INCREMENTAL, None, world.beginning());
            assert_eq!(read_whole(&life), streams, "{what}");
            let report = life.report.unwrap().unwrap();
            assert_eq!(report.status, RunStatus::Done, "{what}: {report:#?}");
            for stream in &report.streams {
                if streams.contains(&stream.stream.as_str()) {
                    assert_eq!(stream.reach, "everything", "{what}");
                    // What is gone shows as well.
                    assert_eq!(world.faults(&stream.stream), [""; 0], "{what}");
                }
            }
            let behind: Vec<_> = STREAMS.iter().filter(|s| !world.faults(s).is_empty()).collect();
            assert!(behind.iter().all(|stream| expected.contains(stream)), "{what}: {behind:?}");
            // It is not tried again by the next run.
            world.simulator.clear_log();
            world.pass(Duration::from_hours(1));
            let life = world.live(INCREMENTAL, None, world.beginning());
            assert_eq!(life.report.unwrap().unwrap().status, RunStatus::Done, "{what}");
            let (path, parameter) = refused.split_once('?').unwrap();
            let log = world.simulator.log();
            let again =
                log.iter().filter(|one| &*one.path == path && one.query.contains(parameter));
            assert_eq!(again.count(), 0, "{what}");
        }
    }
}

/// Whenever a process dies, the next one goes on with the whole reading.
#[test]
fn a_whole_reading_in_place_of_refused_changes_survives_kills() {
    for (refused, streams) in CHANGES {
        let (mut steps, mut killed) = (1, 0);
        loop {
            let world = refusing(refused, 410);
            let since = world.beginning().now;
            let first = world.live(INCREMENTAL, Some(steps), world.beginning());
            let over = first.report.is_some();
            killed += usize::from(!over);
            let last = match first.report {
                Some(report) => report.unwrap(),
                None => world.run(INCREMENTAL),
            };
            let what = format!("{refused}, killed after {steps} steps");
            assert_eq!(last.status, RunStatus::Done, "{what}: {last:#?}");
            for stream in streams {
                assert_eq!(world.faults(stream), [""; 0], "{what}");
            }
            let wrong = STREAMS.iter().flat_map(|stream| world.falsely_deleted(stream, since));
            assert_eq!(wrong.collect::<Vec<_>>(), [""; 0], "{what}");
            assert_eq!(world.memory.staged(), 0, "{what}");
            if over {
                break;
            }
            steps += 37;
        }
        assert!(killed > 3, "{refused}: {killed}");
    }
}

/// Neither a site whose listings of comments lack replies nor a search that lags costs a row.
#[tokio::test]
async fn what_a_route_may_leave_out_is_asked_for() {
    let text = replication("{}");
    let comments = "page_footer_comments";
    let silent = Options { replies_in_global_lists: false, ..tenant() };
    for (options, stream, route) in [
        (silent, comments, "bulk"),
        (Options { index_lag: Duration::MAX, ..tenant() }, "page_labels", "search"),
    ] {
        let own = rig(tenant(), stream, "default");
        own.run(&text).await;
        let rig = rig(options, stream, route);
        let report = rig.run(&text).await;
        assert_eq!(report.status, RunStatus::Done, "{report:#?}");
        assert_eq!(table(&rig, stream), table(&own, stream), "{stream}");
    }
}
