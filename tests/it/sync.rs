//! Runs from end to end against the simulator, under simulated time.

use std::{fs, time::Duration};

use serde_json::Value;
use weir::cli::simulated::SimulatedApi;
use weir::report::{StreamReport, StreamStatus};
use weir::sync::report::{RunReport, RunStatus};
use weir_sim::{Credentials, FaultRule, Faults, Options, RetryAfter, STREAMS, Wanted, What, When};

use crate::support::{
    rig::{ALL, Rig, Row, confluence},
    truth::differences,
};

fn tenant() -> Options {
    Options { pages: 40, blog_posts: 8, attachments: 12, heavy_parents: 0, ..Options::default() }
}

fn faulty(rules: Vec<FaultRule>) -> Options {
    Options { faults: Faults { rules, ..Faults::default() }, ..tenant() }
}

fn fault(part: &str, when: When, what: What) -> FaultRule {
    FaultRule { part: part.to_owned(), when, what }
}

fn report<'report>(run: &'report RunReport, stream: &str) -> &'report StreamReport {
    run.streams.iter().find(|report| report.stream == stream).unwrap()
}

fn inputs(text: &str) -> String {
    ALL.replace("defaults: {", &format!("defaults: {{ inputs: {text},"))
}

/// What the tenant has, as the spec's default inputs ask for it.
fn truth(rig: &Rig, stream: &str) -> Vec<Row> {
    let statuses = Some(vec!["current".to_owned(), "archived".to_owned()]);
    let wanted = Wanted { statuses, body_format: Some("storage".to_owned()) };
    rig.simulator.truth_of(stream, &wanted).unwrap()
}

/// Compares every declared column of every row with the tenant's objects.
#[track_caller]
fn compare(rig: &Rig, stream: &str) {
    let rows = rig.rows(stream).unwrap_or_else(|| panic!("{stream} was not written"));
    let wrong = differences(&confluence(), stream, &rows, truth(rig, stream));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(start_paused = true)]
async fn every_stream_arrives_as_the_tenant_has_it() {
    let rig = Rig::new(Options { heavy_parents: 1, ..tenant() });
    let types: Vec<String> =
        weir_sim::CUSTOM_CONTENT_TYPES.iter().map(|name| format!("'{name}'")).collect();
    let run =
        rig.run(&inputs(&format!("{{ custom_content_types: [{}] }}", types.join(", ")))).await;
    assert_eq!(run.status, RunStatus::Done, "{run:#?}");
    for stream in STREAMS {
        compare(&rig, stream);
        let report = report(&run, stream);
        assert!(report.complete && report.misfits == 0 && report.duplicates == 0, "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_on_the_way_costs_no_row() {
    // Rare enough that no request fails as often as it is tried.
    let share = |part: &str, what: What| fault(part, When::Share(0.01), what);
    let rig = Rig::new(faulty(vec![
        share("", What::TooMany(RetryAfter::Seconds(3))),
        share("", What::TooMany(RetryAfter::Silent)),
        share("", What::Status(502)),
        share("", What::Reset),
        share("", What::Truncate),
        share("", What::Malformed),
        fault("", When::Share(0.02), What::Slow(Duration::from_secs(20))),
    ]));
    let rig = rig.by_own_requests();
    let run = rig.run(ALL).await;
    assert_eq!(run.status, RunStatus::Done, "{run:#?}");
    assert!(rig.retries() > 15, "{}", rig.retries());
    for stream in STREAMS.iter().filter(|stream| **stream != "custom_content") {
        compare(&rig, stream);
    }
}

#[tokio::test(start_paused = true)]
async fn a_paging_loop_fails_its_stream_and_keeps_the_old_rows() {
    let rig = Rig::new(Options { pages: 300, ..tenant() }).only(&["pages", "tasks"]);
    assert_eq!(rig.run(ALL).await.status, RunStatus::Done);
    let before = rig.keys("pages");
    let looping = fault("/pages?", When::Always, What::RepeatCursor);
    let broken = Rig {
        simulator: weir_sim::Simulator::new(Options { pages: 300, ..faulty(vec![looping]) }),
        ..rig
    };
    let run = broken.run(ALL).await;
    assert_eq!(run.status, RunStatus::Failed);
    let pages = report(&run, "pages");
    assert!(pages.error.as_ref().unwrap().contains("pagination loop"), "{pages:?}");
    assert_eq!(report(&run, "tasks").status, StreamStatus::Done);
    assert_eq!(broken.keys("pages"), before);
}

#[tokio::test(start_paused = true)]
async fn a_refused_slice_is_recorded_and_the_rest_arrives() {
    let rig = Rig::new(tenant()).only(&["page_labels"]).by_own_requests();
    let pages: Vec<Row> = truth(&rig, "pages");
    let refused = pages[3]["id"].as_str().unwrap().to_owned();
    let part = format!("/pages/{refused}/labels");
    let rig = Rig {
        simulator: weir_sim::Simulator::new(faulty(vec![fault(
            &part,
            When::Always,
            What::Status(403),
        )])),
        ..rig
    };
    let run = rig.run(ALL).await;
    assert_eq!(run.status, RunStatus::DoneWithErrors);
    assert_eq!(run.errors.len(), 1);
    assert_eq!(run.errors[0].slice, format!("page_id={refused}"));
    assert_eq!(run.errors[0].status, Some(403));
    let labels = report(&run, "page_labels");
    assert!(!labels.complete && labels.skipped == 1, "{labels:?}");
    let expected =
        truth(&rig, "page_labels").iter().filter(|row| row["page_id"] != refused.as_str()).count();
    assert_eq!(rig.keys("page_labels").len(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_which_every_slice_is_refused_fails() {
    let rig = Rig::new(faulty(vec![fault("/labels", When::Always, What::Missing)]))
        .only(&["page_labels"])
        .by_own_requests();
    let run = rig.run(ALL).await;
    assert_eq!(report(&run, "page_labels").status, StreamStatus::Failed);
    assert!(rig.rows("page_labels").is_none());
}

#[tokio::test(start_paused = true)]
async fn revoked_credentials_empty_nothing() {
    let credentials = Credentials {
        email: "ann@acme.test".to_owned(),
        token: "t0ken".into(),
        scoped: false,
        lacks: Vec::new(),
    };
    let options = Options { credentials: Some(credentials), ..tenant() };
    let rig = Rig::new(options.clone()).only(&["pages", "page_labels"]);
    assert_eq!(rig.run(ALL).await.status, RunStatus::Done);
    let before = rig.keys("page_labels");
    let faults = Faults { revoke_after: Some(10), ..Faults::default() };
    let rig = Rig { simulator: weir_sim::Simulator::new(Options { faults, ..options }), ..rig };
    let run = rig.run(ALL).await;
    assert_eq!(run.status, RunStatus::Failed);
    let labels = report(&run, "page_labels");
    assert_eq!(labels.status, StreamStatus::Failed, "{labels:?}");
    assert!(labels.hint.as_ref().unwrap().contains("token"), "{labels:?}");
    assert_eq!(rig.keys("page_labels"), before);
}

#[tokio::test(start_paused = true)]
async fn a_child_without_its_parent_makes_the_parent_feed_and_write_nothing() {
    let rig = Rig::new(tenant()).only(&["page_labels"]);
    let run = rig.run(ALL).await;
    assert_eq!(report(&run, "pages").status, StreamStatus::Fed);
    compare(&rig, "page_labels");
    let names = fs::read_dir(rig.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let files = names.filter(|name| !name.to_string_lossy().starts_with('.')).count();
    assert_eq!(files, 1);
    let listing =
        rig.simulator.log().into_iter().find(|request| request.path.ends_with("/pages")).unwrap();
    assert!(
        !listing.query.contains("body-format"),
        "a feeder asks for no bodies: {}",
        listing.query
    );
}

#[tokio::test(start_paused = true)]
async fn the_order_in_the_replication_does_not_matter() {
    let rig = Rig::new(tenant());
    let streams = "streams: { page_versions: , space_labels: , pages: , spaces: }";
    let run = rig.run(&ALL.replace("streams: { '*': }", streams)).await;
    let order: Vec<&str> = run.streams.iter().map(|report| report.stream.as_str()).collect();
    assert_eq!(order, ["spaces", "pages", "page_versions", "space_labels"]);
    compare(&rig, "page_versions");
}

#[tokio::test(start_paused = true)]
async fn the_throttle_holds_for_queue_children_too() {
    // Five under way for 1.5 s each start 3.33 times a second; for 0.1 s each, the rate is the limit.
    for (latency, expected) in [(1500, 3.33), (100, 5.0)] {
        let options = Options { latency: Duration::from_millis(latency), pages: 220, ..tenant() };
        let streams = ["page_labels", "page_content_properties"];
        let rig = Rig::new(options).only(&streams).by_own_requests();
        let limits = "limits: { requests_per_second: 5, concurrency: 5 }";
        rig.run(&ALL.replace("limits: { requests_per_second: 0, concurrency: 8 }", limits)).await;
        let log = rig.simulator.log();
        assert!(log.len() > 400, "{} requests", log.len());
        assert!(rig.simulator.max_in_flight() <= 5);
        for window in log.windows(6) {
            let span = window[5].started.duration_since(window[0].started);
            assert!(span >= Duration::from_millis(999), "6 requests started within {span:?}");
        }
        let whole = log[log.len() - 1].started.duration_since(log[0].started).as_secs_f64();
        let rate = f64::from(u32::try_from(log.len()).unwrap()) / whole;
        println!(
            "{} requests, {rate:.3} a second, at most {} under way",
            log.len(),
            rig.simulator.max_in_flight()
        );
        assert!((expected * 0.97..expected * 1.03).contains(&rate), "{rate}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_too_large_for_the_server_is_halved() {
    let large = fault("/pages?", When::LimitAbove(100), What::Status(503));
    let rig = Rig::new(Options { pages: 300, ..faulty(vec![large]) }).only(&["pages"]);
    assert_eq!(rig.run(ALL).await.status, RunStatus::Done);
    compare(&rig, "pages");
    let log = rig.simulator.log();
    let sizes: Vec<bool> = log.iter().map(|request| request.query.contains("limit=62")).collect();
    let first = sizes.iter().position(|small| *small).unwrap();
    assert!(sizes[first..].iter().all(|small| *small), "the smaller size is kept");
}

#[tokio::test(start_paused = true)]
async fn spaces_can_be_chosen_by_key() {
    let rig =
        Rig::new(tenant()).only(&["spaces", "pages", "blog_posts", "attachments", "page_labels"]);
    let spaces = truth(&rig, "spaces");
    let (key, id) = (spaces[1]["key"].as_str().unwrap(), spaces[1]["id"].clone());
    let run = rig.run(&inputs(&format!("{{ space_keys: ['{key}'] }}"))).await;
    assert_eq!(run.status, RunStatus::Done, "{run:#?}");
    assert_eq!(rig.keys("spaces"), [id.as_str().unwrap()]);
    let ids = |stream: &str| -> Vec<Value> {
        truth(&rig, stream)
            .into_iter()
            .filter(|row| row["spaceId"] == id)
            .map(|row| row["id"].clone())
            .collect()
    };
    let pages = ids("pages");
    assert_eq!(rig.keys("pages").len(), pages.len());
    let homes: Vec<Value> = pages.iter().cloned().chain(ids("blog_posts")).collect();
    let inside = |row: &&Row| {
        ["pageId", "blogPostId"]
            .iter()
            .any(|home| row.get(*home).is_some_and(|id| homes.contains(id)))
    };
    let attachments = truth(&rig, "attachments").iter().filter(inside).count();
    assert!(attachments > 0);
    assert_eq!(rig.keys("attachments").len(), attachments);
}

#[tokio::test(start_paused = true)]
async fn a_limit_ends_streams_early_and_says_so() {
    let mut rig = Rig::new(tenant());
    rig.options.limit = Some(5);
    let run = rig.run(ALL).await;
    for stream in ["pages", "page_versions"] {
        assert_eq!(rig.rows(&format!("{stream}__sample")).unwrap().len(), 5);
        assert_eq!(rig.rows(stream), None);
    }
    assert!(report(&run, "pages").object.as_ref().unwrap().ends_with("pages__sample.jsonl"));
    assert!(!report(&run, "pages").complete);
    assert!(!report(&run, "page_versions").complete);
    assert!(rig.simulator.counters().requests < 300);
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_empties_the_target() {
    let rig = Rig::new(tenant()).only(&["blog_posts", "blog_post_labels"]);
    rig.run(ALL).await;
    assert!(!rig.keys("blog_posts").is_empty());
    let empty = Options { blog_posts: 0, ..tenant() };
    let rig = Rig { simulator: weir_sim::Simulator::new(empty), ..rig };
    assert_eq!(rig.run(ALL).await.status, RunStatus::Done);
    assert_eq!(rig.rows("blog_posts"), Some(Vec::new()));
    assert_eq!(rig.rows("blog_post_labels"), Some(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_scoped_token_goes_through_the_gateway() {
    let credentials = Credentials {
        email: "ann@acme.test".to_owned(),
        token: "t0ken".into(),
        scoped: true,
        lacks: vec!["read:task:confluence".to_owned()],
    };
    let mut rig = Rig::new(Options { credentials: Some(credentials), ..tenant() })
        .only(&["pages", "tasks", "groups"]);
    rig.fields.open.insert("token".to_owned(), "scoped".to_owned());
    weir::sync::connection_test::look_up(
        &confluence(),
        &mut rig.fields,
        &SimulatedApi(rig.simulator.clone()),
    )
    .await
    .unwrap();
    let run = rig.run(ALL).await;
    compare(&rig, "pages");
    compare(&rig, "groups");
    let tasks = report(&run, "tasks");
    assert!(tasks.hint.as_ref().unwrap().contains("scope"), "{tasks:?}");
    assert!(
        rig.simulator
            .log()
            .iter()
            .skip(1)
            .all(|request| request.path.starts_with("/ex/confluence/"))
    );
}

#[tokio::test(start_paused = true)]
async fn columns_can_be_left_out_and_cost_nothing() {
    let rig = Rig::new(tenant()).only(&["pages"]);
    rig.run(&ALL.replace("defaults: {", "defaults: { select: [id, title, -_extra],")).await;
    let row = rig.rows("pages").unwrap().remove(0);
    assert_eq!(row.keys().collect::<Vec<_>>(), ["id", "title"]);
    assert!(!rig.simulator.log()[0].query.contains("body-format"));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_told_to_stop_leaves_the_target_as_it_was() {
    let rig = Rig::new(Options { latency: Duration::from_secs(1), ..tenant() })
        .only(&["pages", "page_labels"]);
    let stop = rig.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        stop.cancel();
    });
    let run = rig.run(ALL).await;
    assert_eq!(run.status, RunStatus::Interrupted);
    assert_eq!(report(&run, "page_labels").status, StreamStatus::Interrupted);
    assert!(rig.rows("page_labels").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_broken_target_fails_the_stream_with_its_own_words() {
    let rig = Rig::new(tenant()).only(&["pages"]);
    fs::create_dir(rig.folder.path().join("pages.jsonl")).unwrap();
    let run = rig.run(ALL).await;
    assert_eq!(report(&run, "pages").status, StreamStatus::Failed);
    assert!(report(&run, "pages").error.as_ref().unwrap().contains("pages.jsonl"));
}

#[tokio::test(start_paused = true)]
async fn a_misspelt_space_key_empties_nothing() {
    let rig = Rig::new(tenant()).only(&["spaces", "pages"]);
    rig.run(ALL).await;
    let before = (rig.keys("spaces"), rig.keys("pages"));
    let run = rig.run(&inputs("{ space_keys: [NOSUCH] }")).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert!(
        report(&run, "spaces")
            .error
            .as_ref()
            .unwrap()
            .contains("`space_keys`: not found, or not visible to this account: `NOSUCH`"),
        "{run:#?}"
    );
    assert_eq!(report(&run, "pages").status, StreamStatus::Failed);
    assert_eq!((rig.keys("spaces"), rig.keys("pages")), before);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_does_not_fit_its_type_fails_the_stream() {
    let rig = Rig::new(tenant()).only(&["pages"]);
    let run = rig.run(&ALL.replace("defaults: {", "defaults: { columns: { id: int },")).await;
    let pages = report(&run, "pages");
    assert_eq!(pages.status, StreamStatus::Failed);
    assert!(pages.error.as_ref().unwrap().contains("no value in `id`"), "{pages:?}");
}
