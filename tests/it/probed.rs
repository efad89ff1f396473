//! Rows by ids: a listing without bodies shows what there is, and only what looks otherwise than before is
//! asked for.

use std::time::Duration;

use weir::report::{Event, StreamStatus};
use weir::spec::{Fetch, QueryValue};
use weir::sync::report::{RunReport, RunStatus};
use weir::sync::run_options::RunOptions;
use weir_sim::{Options, STREAMS, TenantChange};

use super::incremental::{CHANGES, leaf, some, table, with};
use crate::support::world::{Life, World};

const PROBED: [&str; 2] = ["pages", "blog_posts"];

/// A world that reads pages and blog posts by ids.
pub(crate) fn world() -> World {
    let mut world = World::new(Options {
        pages: 30,
        heavy_parents: 0,
        now: Some("2026-10-01T00:00:00Z".parse().unwrap()),
        ..Options::default()
    });
    world.spec.defaults.page_size.as_mut().unwrap().max = 7;
    read_by(&mut world, "list_then_fetch");
    world
}

/// Makes pages and blog posts be read by a route.
pub(crate) fn read_by(world: &mut World, route: &str) {
    world.options.routes = PROBED.map(|stream| (stream.to_owned(), route.to_owned())).to_vec();
}

/// A run, and the ids of pages and blog posts that it asked for, sorted.
fn asked(world: &World, replication: &str) -> (RunReport, Vec<String>) {
    world.pass(Duration::from_mins(1));
    let lived = world.live(replication, None, world.beginning());
    let ids = asked_in(&lived);
    (lived.report.unwrap().unwrap(), ids)
}

fn asked_in(lived: &Life) -> Vec<String> {
    let urls = lived.answers.iter().filter_map(|answer| answer.url.split_once('?'));
    let fetches = urls.filter(|(path, _)| path.ends_with("/pages") || path.ends_with("/blogposts"));
    let ids = fetches.filter_map(|(_, query)| {
        let ids = query.split('&').find_map(|pair| pair.strip_prefix("id="))?;
        assert!(query.contains("body-format="), "{query}");
        Some(ids.split("%2C").map(str::to_owned).collect::<Vec<_>>())
    });
    let mut ids: Vec<String> = ids.flatten().collect();
    ids.sort();
    // A request whose answer has several pages names them with each.
    ids.dedup();
    ids
}

fn behind(world: &World) -> Vec<&'static str> {
    STREAMS.into_iter().filter(|stream| !world.faults(stream).is_empty()).collect()
}

pub(crate) fn report<'run>(run: &'run RunReport, stream: &str) -> &'run weir::report::StreamReport {
    run.streams.iter().find(|report| report.stream == stream).unwrap()
}

fn fetch(world: &mut World) -> &mut Fetch {
    world.spec.streams["pages"].routes["list_then_fetch"].0[0].fetch.as_mut().unwrap()
}

#[test]
fn every_change_is_there_whichever_way_the_run_before_went() {
    let replication = with("refresh: 0s");
    for own_before in [true, false] {
        for (what, change, _) in CHANGES {
            let mut world = world();
            if own_before {
                read_by(&mut world, "default");
            }
            assert_eq!(world.run(&replication).status, RunStatus::Done);
            read_by(&mut world, "list_then_fetch");
            world.change(&change(&world));
            world.pass(Duration::from_mins(1));
            let (run, ids) = asked(&world, &replication);
            assert_eq!(run.status, RunStatus::Done, "{what}: {run:#?}");
            assert_eq!(behind(&world), Vec::<&str>::new(), "{what}");
            assert!(ids.len() <= 3, "{what}: {ids:?}");
        }
    }
}

#[test]
fn what_has_not_changed_is_neither_asked_for_nor_written() {
    let replication = with("refresh: 0s");
    let world = world();
    let (first, ids) = asked(&world, &replication);
    assert_eq!(first.status, RunStatus::Done);
    let all = table(&world, "pages").len() + table(&world, "blog_posts").len();
    assert_eq!(ids.len(), all, "nothing was known: {ids:?}");
    let before = table(&world, "pages");
    world.pass(Duration::from_hours(1));
    let (run, ids) = asked(&world, &replication);
    assert_eq!((run.status, ids), (RunStatus::Done, Vec::new()));
    assert_eq!(report(&run, "pages").rows, 0);
    assert_eq!(table(&world, "pages"), before);
    let edited = leaf(&world);
    world.change(&TenantChange::Edit { id: edited.clone(), retitle: false });
    let gone = world.change(&TenantChange::Delete { id: some(&world, "blog_posts") });
    world.pass(Duration::from_hours(1));
    let (run, ids) = asked(&world, &replication);
    assert_eq!((run.status, ids.as_slice()), (RunStatus::Done, std::slice::from_ref(&edited)));
    assert_eq!((report(&run, "pages").rows, report(&run, "blog_posts").deleted), (1, 1));
    let after = table(&world, "pages");
    let differ: Vec<&String> = after.keys().filter(|id| after[*id] != before[*id]).collect();
    assert_eq!(differ, [&edited]);
    assert_eq!(behind(&world), Vec::<&str>::new(), "{gone}");
}

#[test]
fn other_inputs_or_columns_or_a_fresh_start_bring_every_row_anew() {
    let replication = with("refresh: 0s");
    let all = |world: &World| table(world, "pages").len() + table(world, "blog_posts").len();
    let world = world();
    world.run(&replication);
    for other in [
        replication.replace("inputs: {", "inputs: { body_format: atlas_doc_format,"),
        replication.replace(
            "{ '*': }",
            "{ '*': , pages: { select: [-title] }, blog_posts: { select: [-title] } }",
        ),
    ] {
        let (run, ids) = asked(&world, &other);
        assert_eq!((run.status, ids.len()), (RunStatus::Done, all(&world)), "{other}");
        let (_, ids) = asked(&world, &other);
        assert!(ids.is_empty(), "{other}: {ids:?}");
    }
    world.pass(Duration::from_mins(1));
    let lived = world.live(&replication, None, RunOptions { fresh: true, ..world.beginning() });
    assert_eq!(asked_in(&lived).len(), all(&world));
}

#[test]
fn an_edit_is_seen_where_no_selected_column_shows_it() {
    let replication = with("refresh: 0s").replace("{ '*': }", "{ pages: { select: [body] } }");
    let world = world();
    world.run(&replication);
    let edited = leaf(&world);
    let before = table(&world, "pages");
    world.change(&TenantChange::Edit { id: edited.clone(), retitle: false });
    world.pass(Duration::from_mins(1));
    let (run, ids) = asked(&world, &replication);
    assert_eq!((run.status, ids), (RunStatus::Done, vec![edited.clone()]));
    assert_ne!(table(&world, "pages")[&edited]["body"], before[&edited]["body"]);
}

/// Records that a listing shows and that do not come make the reading incomplete; nothing is taken for gone,
/// and own requests bring them the next time.
#[test]
fn what_does_not_come_is_told_and_never_taken_for_gone() {
    let replication = with("refresh: 0s");
    let mut world = world();
    fetch(&mut world).query["status"] = QueryValue(vec!["current".to_owned()]);
    read_by(&mut world, "default");
    world.run(&replication);
    let before = table(&world, "pages");
    let archived = leaf(&world);
    world.change(&TenantChange::Archive { id: archived.clone() });
    read_by(&mut world, "list_then_fetch");
    let (run, ids) = asked(&world, &replication);
    let pages = report(&run, "pages");
    assert_eq!(ids, [archived]);
    assert!(!pages.complete && pages.status == StreamStatus::Done, "{pages:?}");
    assert!(pages.gaps[0].contains("no response contained 1 of the records in a listing"));
    let after = table(&world, "pages");
    assert!(after.values().all(|row| row["_weir_deleted_at"].is_null()));
    assert_eq!(after, before);
    world.options.routes.clear();
    let (run, ids) = asked(&world, &replication);
    assert_eq!((run.status, ids), (RunStatus::Done, Vec::new()));
    assert_eq!(report(&run, "pages").route, "default");
    assert_eq!(behind(&world), Vec::<&str>::new());
}

#[test]
fn an_api_that_does_not_go_by_ids_or_refuses_them_is_read_by_own_requests() {
    let replication = with("refresh: 0s");
    for refuses in [false, true] {
        let mut world = world();
        if refuses {
            let refuses = vec![("/wiki/api/v2/pages?id".to_owned(), 400)];
            world = World::new(Options { refuses, ..world.simulator.options().clone() });
            world.options.routes = vec![("pages".to_owned(), "list_then_fetch".to_owned())];
        } else {
            fetch(&mut world).query.shift_remove("id");
            fetch(&mut world).chunk = 3;
        }
        let lived = world.live(&replication, None, world.beginning());
        let warned = lived.events.iter().filter(|event| {
            matches!(event, Event::Warning { message, .. } if message.contains("`list_then_fetch` cannot be used"))
        });
        assert_eq!(warned.count(), 1, "{:#?}", lived.events);
        let run = lived.report.unwrap().unwrap();
        assert_eq!(run.status, RunStatus::Done, "{run:#?}");
        assert!(report(&run, "pages").route_refused);
        // Nor is it tried again at once.
        world.options.routes.clear();
        let (_, ids) = asked(&world, &replication);
        assert!(ids.is_empty(), "{ids:?}");
        assert_eq!(behind(&world), Vec::<&str>::new());
    }
}

/// Once its rows are known, a stream whose pages must be small is read by ids.
#[test]
fn the_planner_takes_it_where_bodies_make_pages_small() {
    let replication = with("refresh: 0s");
    let mut world = world();
    world.options.routes.clear();
    world.spec.defaults.page_size.as_mut().unwrap().max = 8;
    world.run(&replication);
    let (run, _) = asked(&world, &replication);
    assert_eq!(report(&run, "pages").route, "default");
    // With bodies, the site answers pages of two records at most.
    world.simulator.set_faults(weir_sim::Faults {
        rules: vec![weir_sim::FaultRule {
            part: "body-format=storage".to_owned(),
            when: weir_sim::When::LimitAbove(2),
            what: weir_sim::What::Status(503),
        }],
        ..Default::default()
    });
    world.pass(Duration::from_hours(1));
    let run = world.run(&replication);
    assert_eq!(report(&run, "pages").route, "default", "{run:#?}");
    world.pass(Duration::from_hours(1));
    let (run, ids) = asked(&world, &replication);
    assert_eq!(
        (report(&run, "pages").route.as_str(), ids.len()),
        ("list_then_fetch", 0),
        "{run:#?}"
    );
    assert_eq!(report(&run, "pages").requests, 4);
    assert_eq!(behind(&world), Vec::<&str>::new());
}
