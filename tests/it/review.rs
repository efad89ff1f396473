//! Sequences of events after which rows by ids might be lost, stale or wrongly deleted.

use std::time::Duration;

use weir::{
    sim::{Change, Fault, Faults, Options, What, When},
    spec::{ForEach, OneOrMany, QueueItems, Then},
    sync::RunStatus,
    write::memory::Memory,
};

use super::incremental::{leaf, some, table, with};
use crate::support::world::World;

fn world() -> World {
    let mut world = World::new(Options {
        pages: 30,
        heavy_parents: 0,
        now: Some("2026-10-01T00:00:00Z".parse().unwrap()),
        ..Options::default()
    });
    world.spec.defaults.page_size.as_mut().unwrap().max = 7;
    route(&mut world, "probed");
    world
}

fn route(world: &mut World, route: &str) {
    world.options.routes =
        ["pages", "blog_posts"].map(|stream| (stream.to_owned(), route.to_owned())).to_vec();
}

fn only(settings: &str, streams: &str) -> String {
    with(settings).replace("{ '*': }", streams)
}

fn fault(world: &World, part: &str, when: When, what: What) {
    let rules = vec![Fault { part: part.to_owned(), when, what }];
    world.simulator.set_faults(Faults { rules, ..Faults::default() });
}

/// Archived and back again, without a version, with a run for changes in between.
#[test]
fn a_run_for_changes_that_saw_another_look_in_between() {
    let world = world();
    let page = leaf(&world);
    world.change(&Change::Edit { id: page.clone(), retitle: false });
    let complete = only("refresh: 0s", "{ pages: }");
    let changes = only("refresh: 30d", "{ pages: }");
    assert_eq!(world.run(&complete).status, RunStatus::Done);
    let before = table(&world, "pages")[&page]["status"].clone();
    world.pass(Duration::from_mins(1));
    world.change(&Change::Archive { id: page.clone() });
    let run = world.run(&changes);
    assert!(run.streams.iter().any(|one| one.reach.starts_with("changes since")), "{run:#?}");
    assert_ne!(table(&world, "pages")[&page]["status"], before, "the run for changes saw it");
    world.pass(Duration::from_mins(1));
    world.change(&Change::Restore { id: page.clone() });
    world.pass(Duration::from_mins(60));
    assert_eq!(world.run(&complete).status, RunStatus::Done);
    assert_eq!(table(&world, "pages")[&page]["status"], before);
    assert_eq!(world.faults("pages"), Vec::<String>::new());
}

/// The same after the inputs were once changed, since deletes are no longer concluded then.
#[test]
fn a_look_of_old_comes_back_where_no_deletes_are_concluded() {
    let world = world();
    let page = leaf(&world);
    let complete = only("refresh: 0s", "{ pages: }");
    let other = complete.replace("inputs: {", "inputs: { body_format: atlas_doc_format,");
    for replication in [&complete, &other, &complete] {
        assert_eq!(world.run(replication).status, RunStatus::Done);
        world.pass(Duration::from_mins(1));
    }
    world.change(&Change::Archive { id: page.clone() });
    world.run(&complete);
    assert_eq!(world.faults("pages"), Vec::<String>::new());
    world.pass(Duration::from_mins(1));
    world.change(&Change::Restore { id: page.clone() });
    assert_eq!(world.run(&complete).status, RunStatus::Done);
    assert_eq!(world.faults("pages"), Vec::<String>::new());
}

/// An answer that a rule takes for «none».
#[test]
fn an_empty_answer_to_a_fetch_is_no_delete() {
    let mut world = world();
    let complete = only("refresh: 0s", "{ pages: }");
    world.run(&complete);
    let mut rule = world.spec.responses.iter().rev().nth(1).unwrap().clone();
    rule.then = Then::Empty;
    rule.status = Some(OneOrMany(vec![weir::spec::StatusPattern::Exact(403)]));
    rule.applies = weir::spec::Where::Anywhere;
    rule.body = None;
    world.spec.responses.insert(0, rule);
    for id in table(&world, "pages").keys().take(10) {
        world.change(&Change::Edit { id: id.clone(), retitle: false });
    }
    fault(&world, "&id=", When::Always, What::Status(403));
    world.pass(Duration::from_mins(1));
    let run = world.run(&complete);
    let rows = table(&world, "pages");
    let gone = rows.values().filter(|row| !row["_weir_deleted_at"].is_null()).count();
    assert_eq!(gone, 0, "{run:#?}");
}

#[test]
fn a_limit_brings_rows() {
    for name in ["own", "probed"] {
        let mut world = world();
        route(&mut world, name);
        world.options.limit = Some(5);
        let run = world.run(&only("refresh: 0s", "{ pages: }"));
        assert_eq!(table(&world, "pages").len(), 5, "{name}: {run:#?}");
    }
}

fn by_space(world: &mut World, spaces: &[String]) -> String {
    world.spec.limits.concurrency = 1;
    let pages = world.spec.streams.get_mut("pages").unwrap();
    let own = pages.requests.iter_mut();
    let routes = pages.routes.values_mut().flat_map(|route| route.0.iter_mut());
    for request in own.chain(routes) {
        if let Some(ForEach::Queue(QueueItems { chunk, .. })) = &mut request.for_each {
            *chunk = Some(1);
        }
    }
    let keys = spaces.join(", ");
    only("refresh: 0s", "{ pages: }")
        .replace("inputs: {", &format!("inputs: {{ space_keys: [{keys}],"))
}

fn spaces(world: &World) -> (Vec<String>, Vec<String>) {
    let rows = world.simulator.truth("spaces").unwrap();
    let of = |name: &str| rows.iter().map(|row| row[name].as_str().unwrap().to_owned()).collect();
    (of("key"), of("id"))
}

/// With other inputs, of which a slice is refused: what was known counts for nothing from then on.
#[test]
fn other_inputs_and_a_refused_slice() {
    let mut world = world();
    let (keys, ids) = spaces(&world);
    assert!(keys.len() > 1);
    let storage = by_space(&mut world, &keys);
    route(&mut world, "probed_by_space");
    world.options.routes.truncate(1);
    let run = world.run(&storage);
    assert_eq!(run.status, RunStatus::Done, "{run:#?}");
    let atlas = storage.replace("inputs: {", "inputs: { body_format: atlas_doc_format,");
    fault(&world, &format!("space-id={}", ids[1]), When::Always, What::Missing);
    world.pass(Duration::from_mins(1));
    let run = world.run(&atlas);
    let pages = run.streams.iter().find(|one| one.stream == "pages").unwrap();
    assert_eq!(pages.skipped, 1, "{run:#?}");
    world.simulator.set_faults(Faults::default());
    world.pass(Duration::from_mins(1));
    let run = world.run(&atlas);
    assert_eq!(run.status, RunStatus::Done, "{run:#?}");
    let rows = table(&world, "pages");
    let old = rows.values().filter(|row| row["body_format"] != "atlas_doc_format").count();
    assert_eq!(old, 0, "of {} rows", rows.len());
}

#[test]
fn other_modes() {
    for mode in ["full-refresh", "truncate", "snapshot"] {
        let world = world();
        let text = only("refresh: 0s", "{ pages: }")
            .replace("mode: incremental", &format!("mode: {mode}"))
            .replace("metadata: { change: true },", "");
        for _ in 0..2 {
            let run = world.run(&text);
            assert_eq!(run.status, RunStatus::Done, "{mode}: {run:#?}");
            world.pass(Duration::from_mins(1));
        }
        if mode != "snapshot" {
            assert_eq!(world.faults("pages"), Vec::<String>::new(), "{mode}");
        }
    }
}

#[test]
fn a_key_of_another_type() {
    for name in ["own", "probed"] {
        let mut world = world();
        route(&mut world, name);
        for kind in ["decimal", "json"] {
            let text =
                only("refresh: 0s", &format!("{{ pages: {{ columns: {{ id: {kind} }} }} }}"));
            let run = world.run(&text);
            assert_eq!(run.status, RunStatus::Done, "{name} {kind}: {run:#?}");
            world.pass(Duration::from_mins(1));
        }
    }
}

/// Rows of a slice that was refused half-way, in a run that died between its rows and its state.
#[test]
fn rows_visible_but_not_said_of_a_refused_slice() {
    let mut published = 0;
    for steps in 1.. {
        let mut world = world();
        world.elsewhere = Some(Memory::new());
        let (keys, ids) = spaces(&world);
        let text = by_space(&mut world, &keys) + "checkpoint: { seconds: 1 }\n";
        // The second page of some space is not to be had.
        world.spec.defaults.page_size.as_mut().unwrap().max = 3;
        let missing = Fault {
            part: format!("space-id={}&limit", ids[3]),
            when: When::Numbers(vec![2]),
            what: What::Missing,
        };
        let slow = Fault {
            part: String::new(),
            when: When::Always,
            what: What::Slow(Duration::from_secs(3)),
        };
        let rules = vec![slow, missing];
        world.simulator.set_faults(Faults { rules, ..Faults::default() });
        world.options.routes = vec![("pages".to_owned(), "own".to_owned())];
        let lived = world.live(&text, Some(steps), world.beginning());
        let ended = lived.report.is_some();
        let there = world.memory.batches("pages").is_some_and(|rows| !rows.is_empty());
        if ended || there && world.is_open() {
            published += usize::from(!ended);
            world.simulator.set_faults(Faults::default());
            world.pass(Duration::from_mins(1));
            let first = world.run(&text);
            world.options.routes = vec![("pages".to_owned(), "probed_by_space".to_owned())];
            world.pass(Duration::from_mins(1));
            let run = world.run(&text);
            assert_eq!(world.faults("pages"), Vec::<String>::new(), "{steps}: {first:#?} {run:#?}");
        }
        if ended {
            break;
        }
    }
    assert!(published > 0);
}

/// What a run that died after its rows were visible has marked as deleted comes back, and the run is given up.
#[test]
fn a_run_given_up_whose_rows_were_visible() {
    let mut published = 0;
    for steps in 1.. {
        let mut world = world();
        world.elsewhere = Some(Memory::new());
        let text = only("refresh: 0s", "{ blog_posts: , spaces: }");
        world.options.routes = vec![("blog_posts".to_owned(), "probed".to_owned())];
        assert_eq!(world.run(&text).status, RunStatus::Done);
        world.pass(Duration::from_mins(1));
        let post = some(&world, "blog_posts");
        world.change(&Change::Trash { id: post.clone() });
        let lived = world.live(&text, Some(steps), world.beginning());
        let ended = lived.report.is_some();
        let deleted = !table(&world, "blog_posts")[&post]["_weir_deleted_at"].is_null();
        if !ended && deleted {
            published += 1;
            world.change(&Change::Restore { id: post.clone() });
            world.pass(Duration::from_mins(1));
            let other = only("refresh: 0s", "{ blog_posts: , spaces: { select: [-name] } }");
            let run = world.run(&other);
            assert_eq!(world.faults("blog_posts"), Vec::<String>::new(), "{steps}: {run:#?}");
        }
        if ended {
            break;
        }
    }
    assert!(published > 0);
}

/// A route of one request in the place of two: when it is refused, both are asked.
#[test]
fn a_refused_route_in_the_place_of_two_own_requests() {
    let mut world = world();
    let archived = leaf(&world);
    world.change(&Change::Archive { id: archived });
    let pages = world.spec.streams.get_mut("pages").unwrap();
    let mut second = pages.requests[0].clone();
    for (request, status) in [(&mut pages.requests[0], "current"), (&mut second, "archived")] {
        request.query.insert("status".to_owned(), weir::spec::QueryValue(vec![status.to_owned()]));
    }
    pages.requests.insert(1, second);
    let complete = only("refresh: 0s", "{ pages: }");
    world.options.routes.truncate(1);
    for refused in [false, true] {
        if refused {
            world.change(&Change::Edit { id: some(&world, "pages"), retitle: false });
            fault(&world, "?id=", When::Always, What::Status(403));
        }
        let run = world.run(&complete);
        assert_eq!(world.faults("pages"), Vec::<String>::new(), "{refused} {run:#?}");
        world.pass(Duration::from_mins(1));
    }
}

/// A version that no record has shows no change.
#[test]
fn a_version_that_is_not_there() {
    let mut world = world();
    let pages = world.spec.streams.get_mut("pages").unwrap();
    pages.routes["probed"].0[0].fetch.as_mut().unwrap().version = "version.no".to_owned();
    let complete = only("refresh: 0s", "{ pages: { select: [body] } }");
    world.run(&complete);
    let page = leaf(&world);
    let before = table(&world, "pages");
    world.change(&Change::Edit { id: page.clone(), retitle: false });
    world.pass(Duration::from_mins(1));
    let run = world.run(&complete);
    assert_ne!(table(&world, "pages")[&page]["body"], before[&page]["body"], "{run:#?}");
}

/// A column that tells of which slice a row is.
#[test]
fn a_column_of_the_slice_tells_too() {
    let mut world = world();
    let (name, text) = weir::spec::EMBEDDED.iter().find(|(name, _)| *name == "confluence").unwrap();
    let at = "      tinyui: { text: _links.tinyui, doc: \"short path of the page\" }\n";
    let new = format!("{at}      in_space: {{ text: \"{{{{ space_ids | join(',') }}}}\" }}\n");
    let text = text.replacen(at, &new, 1);
    let text = text.replacen("      - { when: not space_keys, get: /wiki/api/v2/pages }\n", "", 1);
    let from = text.find("      probed:\n").unwrap();
    let to = text.find("      probed_by_space:\n").unwrap();
    let (head, fetch) = (&text[..from], &text[from..to]);
    let anchor = fetch.find("fetch: &pages_by_id\n").unwrap();
    let fetch = fetch[anchor..].to_owned();
    let text = format!("{head}{}", text[to..].replacen("fetch: *pages_by_id\n", &fetch, 1));
    let text = text.replacen(
        "query: { <<: *unread, space-id",
        "query: { status: \"{{ statuses | join(',') }}\", space-id",
        1,
    );
    world.spec =
        weir::spec::Spec::load(name, &text).unwrap_or_else(|problems| panic!("{problems}"));
    let (keys, ids) = spaces(&world);
    let complete = by_space(&mut world, &keys)
        .replace("{ pages: }", "{ pages: { select: [body, in_space] } }");
    world.options.routes = vec![("pages".to_owned(), "probed_by_space".to_owned())];
    let run = world.run(&complete);
    assert_eq!(run.status, RunStatus::Done, "{run:#?}");
    let page = leaf(&world);
    let before = table(&world, "pages")[&page]["in_space"].clone();
    let to = ids.iter().find(|id| before != id.as_str()).unwrap().clone();
    world.change(&Change::Move { id: page.clone(), to: to.clone() });
    world.pass(Duration::from_mins(1));
    let run = world.run(&complete);
    assert_eq!(table(&world, "pages")[&page]["in_space"], to.as_str(), "{run:#?}");
}

/// Rows that stay, change and go, on targets for real.
#[tokio::test]
async fn real_targets_do_alike() {
    use crate::support::{postgres::Database, rig::Rig};
    use std::sync::Arc;
    use weir::{
        engine::Services,
        plan::{AccessHooks, Documents, Plan, Run},
        replication::Replication,
        report::Recorded,
        sync::{self, Beginning},
        write::{
            Target,
            files::{Files, Settings},
            postgres::Postgres,
        },
        yaml::Document,
    };
    let database = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    let targets: [(Arc<dyn Target>, &str); 3] = [
        (Arc::new(Postgres::new(database.options())), "public.pages"),
        (Arc::new(Files::in_folder(folder.path(), Settings::default())), "pages.jsonl"),
        (Arc::new(Files::in_folder(folder.path(), Settings::default())), "pages/*.parquet"),
    ];
    for (target, object) in targets {
        for deletes in ["mark", "remove", "ignore"] {
            let object = object.replace("pages", &format!("pages_{deletes}"));
            let mut rig = Rig::new(Options { pages: 30, heavy_parents: 0, ..Options::default() });
            rig.options.routes = vec![("pages".to_owned(), "probed".to_owned())];
            let text = format!(
                "source: WIKI\ntarget: OUT\nname: {deletes}{}\ndefaults: {{ mode: incremental, refresh: 0s, deletes: {deletes}, object: '{object}' }}\nlimits: {{ requests_per_second: 0 }}\nstreams: {{ pages: }}\n",
                object.len()
            );
            let spec = weir::spec::Spec::load(
                weir::spec::EMBEDDED[0].0,
                weir::spec::EMBEDDED.iter().find(|(name, _)| *name == "confluence").unwrap().1,
            )
            .unwrap_or_else(|_| panic!());
            let mut told = Vec::new();
            let pages = rig.simulator.truth("pages").unwrap();
            for round in 0..4 {
                let id = |at: usize| pages[at]["id"].as_str().unwrap().to_owned();
                if round == 1 {
                    rig.simulator.change(&Change::Edit { id: id(5), retitle: false }).unwrap();
                    rig.simulator.change(&Change::Delete { id: id(pages.len() - 1) }).unwrap();
                }
                let replication =
                    Replication::load(&Document::parse("r.yaml", &text).unwrap()).unwrap();
                let prepare = |run: Run| {
                    let documents = Documents {
                        spec: &spec,
                        replication: &replication,
                        fields: &rig.fields,
                        default_object: "{stream_name}",
                        default_name: "life",
                    };
                    Plan::new(documents, &rig.options, run, &AccessHooks::default())
                };
                let services = Services {
                    transport: Arc::new(rig.simulator.clone()),
                    target: Arc::clone(&target),
                    state: None,
                    ledger: None,
                    reporter: Arc::<Recorded>::clone(&rig.events),
                    cancel: rig.cancel.clone(),
                };
                let run = sync::run(&prepare, services, Beginning::now()).await.unwrap();
                assert_eq!(run.status, RunStatus::Done, "{object} {deletes} {run:#?}");
                told.push((run.streams[0].rows, run.streams[0].deleted));
            }
            let gone = u64::from(deletes != "ignore");
            assert_eq!(told[1..], [(1, gone), (0, 0), (0, 0)], "{object} {deletes}: {told:?}");
        }
    }
}

/// A transport that asks for the end after so many requests.
struct Impatient {
    inner: weir::sim::Simulator,
    left: std::sync::atomic::AtomicI64,
    cancel: tokio_util::sync::CancellationToken,
}

#[async_trait::async_trait]
impl weir::fetch::Transport for Impatient {
    async fn send(
        &self,
        request: &weir::fetch::Request,
    ) -> Result<weir::fetch::Response, weir::fetch::TransportError> {
        if self.left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) <= 0 {
            self.cancel.cancel();
        }
        self.inner.send(request).await
    }
}

/// A table that somebody drops while a run that takes its rows for known has not ended.
#[tokio::test]
async fn a_table_dropped_under_a_run_that_has_not_ended() {
    use crate::support::{
        postgres::Database,
        rig::{Rig, confluence},
    };
    use std::sync::Arc;
    use weir::{
        engine::Services,
        plan::{AccessHooks, Documents, Plan, Run},
        replication::Replication,
        report::Recorded,
        sync::{self, Beginning},
        write::postgres::Postgres,
        yaml::Document,
    };
    for route in ["own", "probed"] {
        let database = Database::new().await;
        let mut rig = Rig::new(Options { pages: 30, heavy_parents: 0, ..Options::default() });
        rig.options.routes = vec![("pages".to_owned(), route.to_owned())];
        let text = "source: WIKI\ntarget: OUT\ndefaults: { mode: incremental, refresh: 0s, object: 'public.pages' }\nlimits: { requests_per_second: 0 }\nstreams: { pages: }\n";
        let mut spec = confluence();
        spec.defaults.page_size.as_mut().unwrap().max = 7;
        let all = rig.simulator.truth("pages").unwrap().len();
        for (round, left) in [i64::MAX, 3, i64::MAX, i64::MAX].into_iter().enumerate() {
            let replication = Replication::load(&Document::parse("r.yaml", text).unwrap()).unwrap();
            let prepare = |run: Run| {
                let documents = Documents {
                    spec: &spec,
                    replication: &replication,
                    fields: &rig.fields,
                    default_object: "{stream_name}",
                    default_name: "life",
                };
                Plan::new(documents, &rig.options, run, &AccessHooks::default())
            };
            let cancel = tokio_util::sync::CancellationToken::new();
            let services = Services {
                transport: Arc::new(Impatient {
                    inner: rig.simulator.clone(),
                    left: left.into(),
                    cancel: cancel.clone(),
                }),
                target: Arc::new(Postgres::new(database.options())),
                state: None,
                ledger: None,
                reporter: Arc::<Recorded>::clone(&rig.events),
                cancel,
            };
            let run = sync::run(&prepare, services, Beginning::now()).await.unwrap();
            if round == 1 {
                assert_eq!(run.status, RunStatus::Interrupted, "{run:#?}");
                database.execute("DROP TABLE public.pages").await;
            } else {
                assert_eq!(run.status, RunStatus::Done, "{run:#?}");
                let count = database.text("SELECT count(*)::text FROM public.pages").await;
                assert_eq!(count, all.to_string(), "{route} {round} {run:#?}");
            }
        }
    }
}

/// Credentials that are revoked for a while are no word about a route.
#[test]
fn revoked_for_a_while() {
    let world = world();
    let complete = only("refresh: 0s", "{ pages: }");
    let rules = Vec::new();
    // Five pages of the listing, one of what is fetched.
    world.simulator.set_faults(Faults { rules, revoke_after: Some(5), ..Faults::default() });
    let run = world.run(&complete);
    assert_eq!(run.status, RunStatus::Failed, "{run:#?}");
    assert!(!run.streams[0].route_refused, "{run:#?}");
}

/// A transport before whose first request for ids something changes.
struct Meddling {
    inner: weir::sim::Simulator,
    change: std::sync::Mutex<Option<Change>>,
}

#[async_trait::async_trait]
impl weir::fetch::Transport for Meddling {
    async fn send(
        &self,
        request: &weir::fetch::Request,
    ) -> Result<weir::fetch::Response, weir::fetch::TransportError> {
        if request.url.query().is_some_and(|query| query.contains("id="))
            && let Some(change) = self.change.lock().unwrap().take()
        {
            self.inner.change(&change).unwrap();
        }
        self.inner.send(request).await
    }
}

/// What comes is not what the listing had shown: how it looked is not how the row looks.
#[tokio::test]
async fn what_comes_looks_otherwise_than_what_was_shown() {
    use crate::support::rig::{Rig, confluence};
    use std::sync::Arc;
    use weir::{
        engine::Services,
        plan::{AccessHooks, Documents, Plan, Run},
        replication::Replication,
        report::Recorded,
        sync::{self, Beginning},
        yaml::Document,
    };
    let memory = Memory::new();
    let mut rig = Rig::new(Options { pages: 30, heavy_parents: 0, ..Options::default() });
    rig.options.routes = vec![("pages".to_owned(), "probed".to_owned())];
    let text = "source: WIKI\ntarget: OUT\ndefaults: { mode: incremental, refresh: 0s, object: pages }\nlimits: { requests_per_second: 0 }\nstreams: { pages: }\n";
    let spec = confluence();
    let pages = rig.simulator.truth("pages").unwrap();
    let page = pages.iter().rev().find(|row| row["status"] == "current").unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let status = |rows: Vec<crate::support::rig::Row>| {
        rows.iter().find(|row| row["id"] == page.as_str()).unwrap()["status"].clone()
    };
    let archive = || Change::Archive { id: page.clone() };
    for (before, meanwhile) in [
        (None, None),
        (Some(archive()), Some(Change::Restore { id: page.clone() })),
        (Some(archive()), None),
    ] {
        if let Some(change) = before {
            rig.simulator.change(&change).unwrap();
        }
        let replication = Replication::load(&Document::parse("r.yaml", text).unwrap()).unwrap();
        let prepare = |run: Run| {
            let documents = Documents {
                spec: &spec,
                replication: &replication,
                fields: &rig.fields,
                default_object: "{stream_name}",
                default_name: "life",
            };
            Plan::new(documents, &rig.options, run, &AccessHooks::default())
        };
        let services = Services {
            transport: Arc::new(Meddling {
                inner: rig.simulator.clone(),
                change: std::sync::Mutex::new(meanwhile),
            }),
            target: Arc::new(memory.clone()),
            state: None,
            ledger: None,
            reporter: Arc::<Recorded>::clone(&rig.events),
            cancel: rig.cancel.clone(),
        };
        let run = sync::run(&prepare, services, Beginning::now()).await.unwrap();
        assert_eq!(run.status, RunStatus::Done, "{run:#?}");
    }
    let rows = memory.batches("pages").unwrap();
    let rows = rows.iter().flat_map(crate::support::rows::read).collect();
    assert_eq!(status(rows), status(rig.simulator.truth("pages").unwrap()));
}

/// A stream with parents, read whole into Postgres by ids.
#[tokio::test]
async fn rows_by_ids_of_a_stream_with_parents() {
    use crate::support::{
        postgres::Database,
        rig::{Rig, confluence},
    };
    use std::sync::Arc;
    use weir::{
        engine::Services,
        plan::{AccessHooks, Documents, Plan, Run},
        replication::Replication,
        report::Recorded,
        sync::{self, Beginning},
        write::postgres::Postgres,
        yaml::Document,
    };
    let database = Database::new().await;
    let mut rig = Rig::new(Options { pages: 30, heavy_parents: 0, ..Options::default() });
    rig.options.routes = vec![("pages".to_owned(), "probed".to_owned())];
    let mut spec = confluence();
    spec.streams.get_mut("pages").unwrap().replaces = Some("space_id".to_owned());
    for mode in ["incremental", "full-refresh"] {
        let text = format!(
            "source: WIKI\ntarget: OUT\ndefaults: {{ mode: {mode}, refresh: 0s, object: 'public.pages' }}\nlimits: {{ requests_per_second: 0 }}\nstreams: {{ pages: }}\n"
        );
        let replication = Replication::load(&Document::parse("r.yaml", &text).unwrap()).unwrap();
        let prepare = |run: Run| {
            let documents = Documents {
                spec: &spec,
                replication: &replication,
                fields: &rig.fields,
                default_object: "{stream_name}",
                default_name: "life",
            };
            Plan::new(documents, &rig.options, run, &AccessHooks::default())
        };
        let services = Services {
            transport: Arc::new(rig.simulator.clone()),
            target: Arc::new(Postgres::new(database.options())),
            state: None,
            ledger: None,
            reporter: Arc::<Recorded>::clone(&rig.events),
            cancel: rig.cancel.clone(),
        };
        let run = sync::run(&prepare, services, Beginning::now()).await.unwrap();
        assert_eq!(run.status, RunStatus::Done, "{mode} {run:#?}");
    }
}
