//! Routes: whichever is taken, the table is the same.

use serde_json::Value;
use weir::{sim::Options, sync::RunStatus};

use super::support::rig::{Rig, confluence};

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
            let own = rig(tenant(), name, "own");
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
