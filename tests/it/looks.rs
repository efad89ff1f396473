//! Rows by ids: what is remembered of how records looked, and when it holds no more.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use weir::cli::simulated::SimulatedApi;
use weir::http::exchange::{Request, Response, Transport, TransportError};
use weir::schema::ColumnType;
use weir::spec::{
    ColumnSpec, ForEach, OneOrMany, QueryValue, QueueItems, ResponseRule, StatusPattern, Then,
};
use weir::sync::report::RunStatus;
use weir::write::Target;
use weir::write::files::{Files, Settings};
use weir::write::memory::Memory;
use weir::write::postgres::Postgres;
use weir_sim::{FaultRule, Faults, Options, Simulator, TenantChange, What, When};

use super::incremental::{leaf, some, table, with};
use super::probed::{read_by, report, world};
use crate::support::{
    postgres::Database,
    rig::{Rig, confluence},
    rows,
    world::World,
};

/// A replication of some streams that are read whole every time.
fn whole(streams: &str) -> String {
    with("refresh: 0s").replace("{ '*': }", streams)
}

fn fault(world: &World, part: &str, what: What) {
    let rules = vec![FaultRule { part: part.to_owned(), when: When::Always, what }];
    world.simulator.set_faults(Faults { rules, ..Faults::default() });
}

/// What is said of a replication that cannot be planned.
fn refused(world: &World, replication: &str) -> String {
    let lived = world.live(replication, None, world.beginning());
    lived.report.unwrap().unwrap_err().to_string()
}

fn status(world: &World, page: &str) -> Value {
    table(world, "pages")[page]["status"].clone()
}

/// A page is archived and comes back, without a new version, with a run for changes in between.
#[test]
fn a_look_that_a_run_for_changes_has_overwritten_does_not_hold() {
    let world = world();
    let page = leaf(&world);
    world.change(&TenantChange::Edit { id: page.clone(), retitle: false });
    let complete = whole("{ pages: }");
    assert_eq!(world.run(&complete).status, RunStatus::Done);
    let before = status(&world, &page);
    world.pass(Duration::from_mins(1));
    world.change(&TenantChange::Archive { id: page.clone() });
    let run = world.run(&complete.replace("refresh: 0s", "refresh: 30d"));
    assert!(report(&run, "pages").reach.starts_with("changes since"), "{run:#?}");
    assert_ne!(status(&world, &page), before);
    world.pass(Duration::from_mins(1));
    world.change(&TenantChange::Restore { id: page.clone() });
    world.pass(Duration::from_hours(1));
    assert_eq!(world.run(&complete).status, RunStatus::Done);
    assert_eq!(status(&world, &page), before);
    assert_eq!(world.faults("pages"), Vec::<String>::new());
}

/// The same after the inputs have changed once, since deletes are no longer concluded then.
#[test]
fn a_look_of_old_does_not_hold_where_no_deletes_are_concluded() {
    let world = world();
    let page = leaf(&world);
    let complete = whole("{ pages: }");
    let other = complete.replace("inputs: {", "inputs: { body_format: atlas_doc_format,");
    for replication in [&complete, &other, &complete] {
        assert_eq!(world.run(replication).status, RunStatus::Done);
        world.pass(Duration::from_mins(1));
    }
    for change in [TenantChange::Archive { id: page.clone() }, TenantChange::Restore { id: page }] {
        world.change(&change);
        assert_eq!(world.run(&complete).status, RunStatus::Done);
        assert_eq!(world.faults("pages"), Vec::<String>::new(), "{change:?}");
        world.pass(Duration::from_mins(1));
    }
}

/// A rule takes a refusal for an answer without records; the first answer about ids is refused, or its
/// second page.
#[test]
fn an_empty_answer_about_ids_deletes_nothing() {
    let complete = whole("{ pages: }");
    for (part, ends) in [("?id=", RunStatus::Done), ("&id=", RunStatus::Failed)] {
        let mut world = world();
        let status = Some(OneOrMany(vec![StatusPattern::Exact(403)]));
        let rule = ResponseRule { status, then: Then::Empty, ..ResponseRule::default() };
        world.spec.responses.insert(0, rule);
        assert_eq!(world.run(&complete).status, RunStatus::Done);
        for id in table(&world, "pages").keys().take(10) {
            world.change(&TenantChange::Edit { id: id.clone(), retitle: false });
        }
        fault(&world, part, What::Status(403));
        world.pass(Duration::from_mins(1));
        let run = world.run(&complete);
        assert_eq!(run.status, ends, "{part}: {run:#?}");
        let rows = table(&world, "pages");
        assert!(rows.values().all(|row| row["_weir_deleted_at"].is_null()), "{part}: {run:#?}");
        // Own requests bring what cannot be had by ids at all.
        assert_eq!(world.faults("pages").is_empty(), ends == RunStatus::Done, "{part}");
    }
}

#[test]
fn a_limit_brings_as_many_rows_by_each_route() {
    for route in ["default", "list_then_fetch"] {
        let mut world = world();
        read_by(&mut world, route);
        world.options.limit = Some(5);
        let run = world.run(&whole("{ pages: }"));
        assert_eq!(table(&world, "pages__sample").len(), 5, "{route}: {run:#?}");
    }
}

/// Keys and ids of the spaces.
fn spaces(world: &World) -> (Vec<String>, Vec<String>) {
    let rows = world.simulator.truth("spaces").unwrap();
    let of = |name: &str| rows.iter().map(|row| row[name].as_str().unwrap().to_owned()).collect();
    (of("key"), of("id"))
}

/// A replication that reads pages space by space, one after the other; makes a world do so.
fn by_space(world: &mut World) -> String {
    world.spec.limits.concurrency = 1;
    let pages = &mut world.spec.streams["pages"];
    let routes = pages.routes.values_mut().flat_map(|route| route.0.iter_mut());
    for request in pages.requests.iter_mut().chain(routes) {
        if let Some(ForEach::Queue(QueueItems { chunk, .. })) = &mut request.for_each {
            *chunk = Some(1);
        }
    }
    read_by(world, "list_then_fetch_by_space");
    let keys = spaces(world).0.join(", ");
    whole("{ pages: }").replace("inputs: {", &format!("inputs: {{ space_keys: [{keys}],"))
}

/// What was known before the inputs changed counts for nothing from then on, though a slice was refused.
#[test]
fn looks_do_not_hold_for_other_inputs_of_which_a_slice_was_refused() {
    let mut world = world();
    let storage = by_space(&mut world);
    let (_, ids) = spaces(&world);
    assert_eq!(world.run(&storage).status, RunStatus::Done);
    let atlas = storage.replace("inputs: {", "inputs: { body_format: atlas_doc_format,");
    fault(&world, &format!("space-id={}", ids[1]), What::Status(403));
    world.pass(Duration::from_mins(1));
    let run = world.run(&atlas);
    assert_eq!(report(&run, "pages").skipped, 1, "{run:#?}");
    world.simulator.set_faults(Faults::default());
    world.pass(Duration::from_mins(1));
    let run = world.run(&atlas);
    assert_eq!(run.status, RunStatus::Done, "{run:#?}");
    let rows = table(&world, "pages");
    let old = rows.values().filter(|row| row["body_format"] != "atlas_doc_format").count();
    assert_eq!(old, 0, "of {} rows", rows.len());
}

/// A run that does not merge needs all rows, whatever is known of them.
#[test]
fn modes_that_do_not_merge_bring_all_rows_every_time() {
    for (mode, times) in [("full-refresh", 1), ("truncate", 1), ("snapshot", 2)] {
        let world = world();
        let replication = whole("{ pages: }")
            .replace("mode: incremental", &format!("mode: {mode}"))
            .replace("metadata: { change: true },", "");
        for _ in 0..2 {
            let run = world.run(&replication);
            assert_eq!(run.status, RunStatus::Done, "{mode}: {run:#?}");
            world.pass(Duration::from_mins(1));
        }
        let batches = world.memory.batches("pages").unwrap();
        let rows: usize = batches.iter().map(arrow_array::RecordBatch::num_rows).sum();
        let all = world.simulator.truth("pages").unwrap().len();
        assert_eq!(rows, times * all, "{mode}");
    }
}

/// A key that is neither text nor int cannot be matched with the ids that are asked for.
#[test]
fn a_route_by_ids_is_not_open_for_a_key_of_another_type() {
    for kind in ["decimal", "json"] {
        let replication = whole(&format!("{{ pages: {{ columns: {{ id: {kind} }} }} }}"));
        let mut world = world();
        let said = refused(&world, &replication);
        assert!(
            said.contains("`--route pages=list_then_fetch`: this route is not available"),
            "{kind}: {said}"
        );
        read_by(&mut world, "default");
        let run = world.run(&replication);
        assert_eq!(run.status, RunStatus::Done, "{kind}: {run:#?}");
        let all = world.simulator.truth("pages").unwrap().len();
        assert_eq!(report(&run, "pages").rows, all as u64, "{kind}");
    }
}

/// Where a request by ids is refused, one own request is sent instead, and not two.
#[test]
fn a_route_by_ids_is_not_open_in_the_place_of_two_own_requests() {
    let mut world = world();
    world.change(&TenantChange::Archive { id: leaf(&world) });
    let pages = &mut world.spec.streams["pages"];
    let mut second = pages.requests[0].clone();
    for (request, status) in [(&mut pages.requests[0], "current"), (&mut second, "archived")] {
        request.query.insert("status".to_owned(), QueryValue(vec![status.to_owned()]));
    }
    pages.requests.insert(1, second);
    let complete = whole("{ pages: }");
    let said = refused(&world, &complete);
    assert!(
        said.contains("`--route pages=list_then_fetch`: this route is not available"),
        "{said}"
    );
    read_by(&mut world, "default");
    let run = world.run(&complete);
    assert_eq!(run.status, RunStatus::Done, "{run:#?}");
    assert_eq!(world.faults("pages"), Vec::<String>::new());
}

/// A slice is refused half-way in a run that dies between its rows and its state.
#[test]
fn rows_that_are_visible_of_a_refused_slice_are_not_known() {
    let mut published = 0;
    for steps in 1.. {
        let mut world = world();
        world.elsewhere = Some(Memory::new());
        let replication = by_space(&mut world) + "checkpoint: { every: 1s }\n";
        read_by(&mut world, "default");
        world.spec.defaults.page_size.as_mut().unwrap().max = 3;
        let slow = What::Slow(Duration::from_secs(3));
        let slow = FaultRule { part: String::new(), when: When::Always, what: slow };
        // The second page of some space is not to be had.
        let missing = FaultRule {
            part: format!("space-id={}&limit", spaces(&world).1[3]),
            when: When::Numbers(vec![2]),
            what: What::Status(403),
        };
        let rules = vec![slow, missing];
        world.simulator.set_faults(Faults { rules, ..Faults::default() });
        let lived = world.live(&replication, Some(steps), world.beginning());
        if lived.report.is_some() {
            break;
        }
        let there = world.memory.batches("pages").is_some_and(|rows| !rows.is_empty());
        if !there || !world.is_open() {
            continue;
        }
        published += 1;
        world.simulator.set_faults(Faults::default());
        world.pass(Duration::from_mins(1));
        // This one goes on, and says of the slice that it was refused.
        world.run(&replication);
        read_by(&mut world, "list_then_fetch_by_space");
        world.pass(Duration::from_mins(1));
        assert_eq!(world.run(&replication).status, RunStatus::Done, "{steps}");
        assert_eq!(world.faults("pages"), Vec::<String>::new(), "{steps}");
    }
    assert!(published > 0);
}

/// A run marks a row as deleted, dies before it has said so, and is given up: the row may be back.
#[test]
fn what_a_run_given_up_has_made_visible_is_not_known() {
    let mut published = 0;
    for steps in 1.. {
        let mut world = world();
        world.elsewhere = Some(Memory::new());
        let replication = whole("{ blog_posts: , spaces: }");
        assert_eq!(world.run(&replication).status, RunStatus::Done);
        world.pass(Duration::from_mins(1));
        let post = some(&world, "blog_posts");
        world.change(&TenantChange::Trash { id: post.clone() });
        let lived = world.live(&replication, Some(steps), world.beginning());
        if lived.report.is_some() {
            break;
        }
        if table(&world, "blog_posts")[&post]["_weir_deleted_at"].is_null() {
            continue;
        }
        published += 1;
        world.change(&TenantChange::Restore { id: post });
        world.pass(Duration::from_mins(1));
        let run = world.run(&whole("{ blog_posts: , spaces: , space_labels: }"));
        assert_eq!(world.faults("blog_posts"), Vec::<String>::new(), "{steps}: {run:#?}");
    }
    assert!(published > 0);
}

/// A record without the version that the spec names does not show whether it has changed.
#[test]
fn records_without_a_version_are_read_every_time() {
    let mut world = world();
    let probed = &mut world.spec.streams["pages"].routes["list_then_fetch"].0[0];
    probed.fetch.as_mut().unwrap().version = "version.no".to_owned();
    let complete = whole("{ pages: { select: [body] } }");
    world.run(&complete);
    let page = leaf(&world);
    let before = table(&world, "pages");
    world.change(&TenantChange::Edit { id: page.clone(), retitle: false });
    world.pass(Duration::from_mins(1));
    let run = world.run(&complete);
    assert_ne!(table(&world, "pages")[&page]["body"], before[&page]["body"], "{run:#?}");
}

/// A page moves, without a new version: a column that tells of which slice its row is shows it.
#[test]
fn a_column_of_the_slice_tells_too() {
    let mut world = world();
    let complete =
        by_space(&mut world).replace("{ pages: }", "{ pages: { select: [body, in_space] } }");
    let pages = &mut world.spec.streams["pages"];
    let from = Some(OneOrMany(vec!["{{ space_ids | join(',') }}".to_owned()]));
    let column = ColumnSpec { kind: ColumnType::Text, from, default: None, doc: None };
    pages.columns.insert("in_space".to_owned(), column);
    // Requests that go over no spaces have no value for it.
    pages.requests.retain(|request| request.for_each.is_some());
    pages.routes.shift_remove("list_then_fetch");
    let run = world.run(&complete);
    assert_eq!(run.status, RunStatus::Done, "{run:#?}");
    let page = leaf(&world);
    let before = table(&world, "pages")[&page]["in_space"].clone();
    let to = spaces(&world).1.into_iter().find(|id| before != id.as_str()).unwrap();
    world.change(&TenantChange::Move { id: page.clone(), to: to.clone() });
    world.pass(Duration::from_mins(1));
    let run = world.run(&complete);
    assert_eq!(table(&world, "pages")[&page]["in_space"], to.as_str(), "{run:#?}");
}

/// Credentials that are revoked once the listing was served are no word about a route.
#[test]
fn credentials_that_are_revoked_do_not_refuse_a_route() {
    let mut by_ids = 0;
    for requests in 2.. {
        let world = world();
        world.simulator.set_faults(Faults { revoke_after: Some(requests), ..Faults::default() });
        let replication = whole("{ pages: }");
        let lived = world.live(&replication, None, world.beginning());
        let run = lived.report.unwrap().unwrap();
        if run.status == RunStatus::Done {
            break;
        }
        assert_eq!(run.status, RunStatus::Failed, "{requests}: {run:#?}");
        assert!(!report(&run, "pages").route_refused, "{requests}: {run:#?}");
        by_ids += usize::from(lived.answers.iter().any(|answer| answer.url.contains("id=")));
    }
    assert!(by_ids > 0);
}

/// A tenant whose pages are read by a route.
fn rig(route: &str) -> Rig {
    let mut rig = Rig::new(Options { pages: 30, heavy_parents: 0, ..Options::default() });
    rig.options.routes = vec![("pages".to_owned(), route.to_owned())];
    rig
}

/// A replication of pages alone into an object, with more settings.
fn into(object: &str, settings: &str) -> String {
    let defaults = format!("mode: incremental, refresh: 0s, object: '{object}', {settings}");
    format!(
        "source: WIKI\ntarget: OUT\nname: '{object}'\ndefaults: {{ {defaults} }}\nlimits: {{ requests_per_second: 0 }}\nstreams: {{ pages: }}\n"
    )
}

/// Rows that stay, change and go are counted alike by targets that know nothing of looks.
#[tokio::test]
async fn every_target_keeps_the_rows_that_stay() {
    let database = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    let files = || Files::in_folder(folder.path(), Settings::default());
    let targets: [(Arc<dyn Target>, &str); 3] = [
        (Arc::new(Postgres::new(database.options())), "public.pages"),
        (Arc::new(files()), "pages.jsonl"),
        (Arc::new(files()), "pages/*.parquet"),
    ];
    for (target, object) in targets {
        for (deletes, gone) in [("mark", 1), ("remove", 1), ("ignore", 0)] {
            let object = object.replace("pages", &format!("pages_{deletes}"));
            let replication = into(&object, &format!("deletes: {deletes}"));
            let rig = rig("list_then_fetch");
            let pages = rig.simulator.truth("pages").unwrap();
            let id = |at: usize| pages[at]["id"].as_str().unwrap().to_owned();
            let mut told = Vec::new();
            for round in 0..4 {
                if round == 1 {
                    rig.simulator
                        .change(&TenantChange::Edit { id: id(5), retitle: false })
                        .unwrap();
                    rig.simulator
                        .change(&TenantChange::Delete { id: id(pages.len() - 1) })
                        .unwrap();
                }
                let transport = Arc::new(SimulatedApi(rig.simulator.clone()));
                let target = Arc::clone(&target);
                let run = rig.run_over(transport, target, &confluence(), &replication).await;
                assert_eq!(run.status, RunStatus::Done, "{object}: {run:#?}");
                let pages = report(&run, "pages");
                told.push((pages.rows, pages.deleted));
            }
            let all = pages.len() as u64;
            assert_eq!(told, [(all, 0), (1, gone), (0, 0), (0, 0)], "{object}");
        }
    }
}

/// A transport that asks for the end after so many requests.
struct Impatient {
    inner: Simulator,
    left: AtomicU64,
    cancel: CancellationToken,
}

#[async_trait]
impl Transport for Impatient {
    async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.cancel.cancel();
        }
        SimulatedApi(self.inner.clone()).send(request).await
    }
}

/// A table that somebody drops while a run that takes its rows for known has not ended.
#[tokio::test]
async fn no_row_of_a_dropped_table_is_known() {
    for route in ["default", "list_then_fetch"] {
        let database = Database::new().await;
        let mut rig = rig(route);
        let mut spec = confluence();
        spec.defaults.page_size.as_mut().unwrap().max = 7;
        let all = rig.simulator.truth("pages").unwrap().len().to_string();
        for (round, left) in [u64::MAX, 3, u64::MAX, u64::MAX].into_iter().enumerate() {
            rig.cancel = CancellationToken::new();
            let (inner, cancel) = (rig.simulator.clone(), rig.cancel.clone());
            let transport = Arc::new(Impatient { inner, left: left.into(), cancel });
            let target = Arc::new(Postgres::new(database.options()));
            let run = rig.run_over(transport, target, &spec, &into("public.pages", "")).await;
            if round == 1 {
                assert_eq!(run.status, RunStatus::Interrupted, "{run:#?}");
                database.execute("DROP TABLE public.pages").await;
            } else {
                assert_eq!(run.status, RunStatus::Done, "{run:#?}");
                let count = database.text("SELECT count(*)::text FROM public.pages").await;
                assert_eq!(count, all, "{route} {round}: {run:#?}");
            }
        }
    }
}

/// A transport that changes something before the first request for ids.
struct Meddling {
    inner: Simulator,
    change: Mutex<Option<TenantChange>>,
}

#[async_trait]
impl Transport for Meddling {
    async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        if request.url.query_pairs().any(|(name, _)| name == "id")
            && let Some(change) = self.change.lock().unwrap().take()
        {
            self.inner.change(&change).unwrap();
        }
        SimulatedApi(self.inner.clone()).send(request).await
    }
}

/// A page comes back between the listing that shows it archived and the request that brings its row, and is
/// archived again: it looks as it was shown, and its row does not.
#[tokio::test]
async fn a_look_holds_only_when_the_row_that_came_has_it() {
    let rig = rig("list_then_fetch");
    let memory = Memory::new();
    let pages = rig.simulator.truth("pages").unwrap();
    let page = pages.iter().rev().find(|row| row["status"] == "current").unwrap();
    let page = page["id"].as_str().unwrap().to_owned();
    let archive = || Some(TenantChange::Archive { id: page.clone() });
    let restore = Some(TenantChange::Restore { id: page.clone() });
    for (before, meanwhile) in [(None, None), (archive(), restore), (archive(), None)] {
        if let Some(change) = before {
            rig.simulator.change(&change).unwrap();
        }
        let inner = rig.simulator.clone();
        let transport = Arc::new(Meddling { inner, change: Mutex::new(meanwhile) });
        let (over, target) = (Arc::<Meddling>::clone(&transport), Arc::new(memory.clone()));
        let run = rig.run_over(over, target, &confluence(), &into("pages", "")).await;
        assert_eq!(run.status, RunStatus::Done, "{run:#?}");
        assert_eq!(*transport.change.lock().unwrap(), None, "something was asked for");
    }
    let rows = memory.batches("pages").unwrap();
    let rows: Vec<_> = rows.iter().flat_map(rows::read).collect();
    assert_eq!(rows.iter().find(|row| row["id"] == page.as_str()).unwrap()["status"], "archived");
}
