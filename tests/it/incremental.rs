//! What incremental runs catch, what they leave to the next complete reading, and when deletes are
//! concluded; all under simulated time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use weir::plan::Selection;
use weir::replication::Mode;
use weir::report::StreamStatus;
use weir::sync::report::{RunReport, RunStatus};
use weir::sync::run_options::RunOptions;
use weir_sim::{FaultRule, Faults, New, Options, STREAMS, TenantChange, What, When};

use crate::support::{
    rig::{Row, own_routes},
    world::World,
};

const INCREMENTAL: &str = "
source: WIKI
target: OUT
defaults: { mode: incremental, metadata: { change: true }, inputs: { custom_content_types: ['ac:com.example.diagrams:diagram', 'forge:1b2c3d4e:9f8e7d6c:board'] } }
limits: { requests_per_second: 0 }
streams: { '*': }
";

fn world() -> World {
    let mut world = World::new(Options {
        pages: 30,
        heavy_parents: 0,
        now: Some("2026-10-01T00:00:00Z".parse().unwrap()),
        ..Options::default()
    });
    // A bounded listing ends with a whole page, whose older rows come along.
    world.spec.defaults.page_size.as_mut().unwrap().max = 2;
    world
}

/// A replication with more settings for all streams.
pub(crate) fn with(settings: &str) -> String {
    INCREMENTAL.replace("mode: incremental", &format!("mode: incremental, {settings}"))
}

fn truth(world: &World, stream: &str) -> Vec<Row> {
    world.simulator.truth(stream).unwrap()
}

fn text<'row>(row: &'row Row, column: &str) -> &'row str {
    row[column].as_str().unwrap()
}

/// Id of the first row that holds.
fn id_where(world: &World, stream: &str, holds: impl Fn(&Row) -> bool) -> String {
    let rows = truth(world, stream);
    text(rows.iter().find(|row| holds(row)).unwrap(), "id").to_owned()
}

/// A current page below another, with nothing below it, but labels, properties and comments on it.
pub(crate) fn leaf(world: &World) -> String {
    let with = |stream| {
        let rows = truth(world, stream);
        rows.iter().map(|row| text(row, "page_id").to_owned()).collect::<BTreeSet<_>>()
    };
    let parents = with("child_pages");
    let laden = with("page_labels");
    let laden = &laden & &with("page_content_properties");
    let laden = &laden & &with("page_footer_comments");
    id_where(world, "pages", |row| {
        let id = text(row, "id");
        row["status"] == "current"
            && !row["parentId"].is_null()
            && !parents.contains(id)
            && laden.contains(id)
    })
}

pub(crate) fn some(world: &World, stream: &str) -> String {
    id_where(world, stream, |_| true)
}

fn edit(id: String) -> TenantChange {
    TenantChange::Edit { id, retitle: true }
}

fn create(what: New, under: String) -> TenantChange {
    TenantChange::Create { what, under }
}

/// Streams whose table is not what the tenant has.
fn behind(world: &World) -> Vec<&'static str> {
    STREAMS.into_iter().filter(|stream| !world.faults(stream).is_empty()).collect()
}

fn report<'run>(run: &'run RunReport, stream: &str) -> &'run weir::report::StreamReport {
    run.streams.iter().find(|report| report.stream == stream).unwrap()
}

/// All rows of a table, those that are marked as deleted among them, by their id.
pub(crate) fn table(world: &World, stream: &str) -> BTreeMap<String, Row> {
    let batches = world.memory.batches(stream).unwrap();
    let rows = batches.iter().flat_map(crate::support::rows::read);
    rows.map(|row| (text(&row, "id").to_owned(), row)).collect()
}

pub(crate) type Make = fn(&World) -> TenantChange;

/// Changes, and the streams that do not show them until they are read whole.
pub(crate) const CHANGES: [(&str, Make, &[&str]); 22] = [
    ("a page is edited", |world| edit(leaf(world)), &["child_pages"]),
    ("a page is made", |world| create(New::Page, leaf(world)), &["child_pages"]),
    (
        "a page moves",
        |world| {
            let pages = truth(world, "pages");
            let id = leaf(world);
            let from = &pages.iter().find(|row| row["id"] == id.as_str()).unwrap()["spaceId"];
            TenantChange::Move { to: id_where(world, "spaces", |row| row["id"] != *from), id }
        },
        &["pages", "page_footer_comments", "page_inline_comments", "child_pages"],
    ),
    (
        "a page is archived",
        |world| TenantChange::Archive { id: leaf(world) },
        &["pages", "child_pages"],
    ),
    ("a page goes to the trash", |world| TenantChange::Trash { id: leaf(world) }, &OF_A_PAGE),
    ("a page is gone", |world| TenantChange::Delete { id: leaf(world) }, &OF_A_PAGE),
    ("a blog post is edited", |world| edit(some(world, "blog_posts")), &[]),
    ("a blog post is made", |world| create(New::BlogPost, some(world, "spaces")), &[]),
    ("an attachment is made", |world| create(New::Attachment, leaf(world)), &[]),
    ("an attachment has a new version", |world| edit(some(world, "attachments")), &[]),
    (
        "a label is put on a page",
        |world| {
            let id = leaf(world);
            let has: Vec<_> = truth(world, "page_labels")
                .into_iter()
                .filter(|row| row["page_id"] == id.as_str())
                .map(|row| row["id"].clone())
                .collect();
            let label = id_where(world, "page_labels", |row| !has.contains(&row["id"]));
            TenantChange::AddLabel { id, label }
        },
        &["page_labels"],
    ),
    (
        "a label is taken off a page",
        |world| {
            let row = truth(world, "page_labels").remove(0);
            let (id, label) = (text(&row, "page_id").to_owned(), text(&row, "id").to_owned());
            TenantChange::RemoveLabel { id, label }
        },
        &["page_labels"],
    ),
    ("a comment is made", |world| create(New::FooterComment, leaf(world)), &[]),
    (
        "a comment is answered",
        |world| create(New::InlineComment, some(world, "page_inline_comments")),
        &[],
    ),
    ("a comment is edited", |world| edit(some(world, "blog_post_footer_comments")), &[]),
    (
        "a comment is gone",
        |world| TenantChange::Delete { id: some(world, "page_footer_comments") },
        &["page_footer_comments"],
    ),
    ("a task is made", |world| create(New::Task, leaf(world)), &[]),
    (
        "a task is ticked",
        |world| TenantChange::Toggle {
            id: id_where(world, "tasks", |row| row["status"] == "incomplete"),
        },
        &[],
    ),
    ("a task is gone", |world| TenantChange::Delete { id: some(world, "tasks") }, &["tasks"]),
    (
        "a property is edited",
        |world| edit(some(world, "page_content_properties")),
        &["page_content_properties"],
    ),
    (
        "a permission is gone",
        |world| TenantChange::Delete { id: some(world, "space_permissions") },
        &["space_permissions"],
    ),
    ("a group is gone", |world| TenantChange::Delete { id: some(world, "groups") }, &[]),
];

/// What a page takes with it, as far as the page of the tests has it.
const OF_A_PAGE: [&str; 7] = [
    "pages",
    "page_footer_comments",
    "page_inline_comments",
    "page_labels",
    "page_versions",
    "page_content_properties",
    "child_pages",
];

#[test]
fn what_changes_is_caught_at_once_or_by_the_next_complete_reading() {
    for (what, change, late) in CHANGES {
        let world = world();
        assert_eq!(world.run(INCREMENTAL).status, RunStatus::Done);
        assert_eq!(behind(&world), Vec::<&str>::new(), "{what}");
        world.pass(Duration::from_hours(1));
        world.change(&change(&world));
        world.pass(Duration::from_hours(1));
        assert_eq!(world.run(INCREMENTAL).status, RunStatus::Done);
        assert_eq!(behind(&world), late, "{what}");
        world.pass(Duration::from_hours(22));
        assert_eq!(world.run(INCREMENTAL).status, RunStatus::Done);
        assert_eq!(behind(&world), Vec::<&str>::new(), "{what}");
    }
}

#[test]
fn with_refresh_0s_every_change_is_there_after_the_next_run() {
    let replication = with("refresh: 0s");
    let space: Make = |world| TenantChange::Delete { id: some(world, "spaces") };
    let changes = CHANGES.into_iter().map(|(what, change, _)| (what, change));
    for (what, change) in changes.chain([("a space is gone", space)]) {
        let world = world();
        assert_eq!(world.run(&replication).status, RunStatus::Done);
        world.change(&change(&world));
        world.pass(Duration::from_mins(1));
        assert_eq!(world.run(&replication).status, RunStatus::Done);
        assert_eq!(behind(&world), Vec::<&str>::new(), "{what}");
    }
}

/// What takes from a run the right to say that a page is gone.
#[derive(Clone, Copy, Debug)]
enum Spoiler {
    Error,
    RepeatedCursor,
    Limit,
    Death,
    OtherFilter,
}

#[test]
fn an_incomplete_listing_is_no_ground_for_a_delete() {
    use Spoiler::{Death, Error, Limit, OtherFilter, RepeatedCursor};
    let replication = with("refresh: 0s");
    let current = replication.replace("inputs: {", "inputs: { statuses: [current],");
    for spoiler in [Error, RepeatedCursor, Limit, Death, OtherFilter] {
        let mut world = world();
        let start = world.beginning().now;
        assert_eq!(world.run(&replication).status, RunStatus::Done);
        let gone = leaf(&world);
        let kept = table(&world, "pages").len();
        let archived = id_where(&world, "pages", |row| row["status"] == "archived");
        world.change(&TenantChange::Delete { id: gone.clone() });
        world.pass(Duration::from_hours(1));
        let fault = |what| Faults {
            rules: vec![FaultRule {
                part: "/v2/pages?".to_owned(),
                when: When::Numbers(vec![3]),
                what,
            }],
            ..Faults::default()
        };
        match spoiler {
            Error => {
                world.simulator.set_faults(fault(What::Status(400)));
                let run = world.run(&replication);
                assert_eq!(report(&run, "pages").status, StreamStatus::Failed);
            }
            RepeatedCursor => {
                world.simulator.set_faults(fault(What::RepeatCursor));
                let run = world.run(&replication);
                assert!(!report(&run, "pages").complete);
            }
            Limit => {
                world.options.limit = Some(5);
                world.run(&replication);
                world.options.limit = None;
            }
            Death => {
                assert!(world.live(&replication, Some(40), world.beginning()).report.is_none());
            }
            OtherFilter => assert_eq!(world.run(&current).status, RunStatus::Done),
        }
        let pages = table(&world, "pages");
        assert_eq!(pages.len(), kept, "{spoiler:?}");
        for stream in STREAMS {
            let wrong = world.falsely_deleted(stream, start);
            assert!(wrong.is_empty(), "{spoiler:?}: {wrong:?}");
        }
        let marked = pages.values().filter(|row| !row["_weir_deleted_at"].is_null()).count();
        assert_eq!(marked, 0, "{spoiler:?}");
        assert!(!table(&world, "pages")[&archived]["title"].is_null());
        world.simulator.set_faults(Faults::default());
        world.pass(Duration::from_mins(5));
        let fresh = matches!(spoiler, OtherFilter);
        let run = world.run_from(&replication, RunOptions { fresh, ..world.beginning() });
        if run.continued {
            world.run(&replication);
        }
        assert_eq!(behind(&world), Vec::<&str>::new(), "{spoiler:?}");
        assert!(!table(&world, "pages")[&gone]["_weir_deleted_at"].is_null(), "{spoiler:?}");
    }
}

#[test]
fn a_refused_parent_keeps_its_rows_and_the_others_lose_theirs() {
    let replication = with("refresh: 0s");
    let mut world = world();
    world.options.routes = own_routes();
    world.run(&replication);
    let labelled = truth(&world, "page_labels");
    let refused = text(&labelled[0], "page_id").to_owned();
    let other = labelled.iter().find(|row| row["page_id"] != refused.as_str()).unwrap();
    for row in [&labelled[0], other] {
        let (id, label) = (text(row, "page_id").to_owned(), text(row, "id").to_owned());
        world.change(&TenantChange::RemoveLabel { id, label });
    }
    world.pass(Duration::from_hours(1));
    let part = format!("/pages/{refused}/labels");
    let rules = vec![FaultRule { part, when: When::Always, what: What::Status(403) }];
    world.simulator.set_faults(Faults { rules, ..Faults::default() });
    let run = world.run(&replication);
    assert_eq!(run.status, RunStatus::DoneWithErrors);
    let faults = world.faults("page_labels");
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("1 rows too many") && faults[0].contains(&refused), "{faults:?}");
    let errors = world.memory.batches("_weir_errors").unwrap();
    let rows: Vec<Row> = errors.iter().flat_map(crate::support::rows::read).collect();
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["stream"], &rows[0]["status"]), (&"page_labels".into(), &403.into()));
    assert_eq!(rows[0]["slice"], format!("page_id={refused}"));

    world.simulator.set_faults(Faults::default());
    world.pass(Duration::from_mins(1));
    let before = world.requests();
    let retry = RunOptions { retry: true, ..world.beginning() };
    let mut again = world;
    again.options.retry = true;
    let run = again.run_from(&replication, retry);
    assert_eq!(run.status, RunStatus::Done, "{:#?}", report(&run, "page_labels"));
    assert_eq!(again.requests() - before, 1, "only the refused slice is asked for");
    assert_eq!(behind(&again), Vec::<&str>::new());
    assert!(
        again.memory.batches("_weir_errors").unwrap().iter().all(|batch| batch.num_rows() == 0)
    );
}

#[test]
fn a_parents_other_inputs_delete_no_rows_of_its_children() {
    let some = INCREMENTAL.replace("mode: incremental", "mode: incremental, refresh: 0s");
    let one = some.replace("'*': }", "'*': , pages: { inputs: { statuses: [archived] } } }");
    let mut world = world();
    let start = world.beginning().now;
    world.run(&some);
    world.pass(Duration::from_hours(1));
    world.options.selection = Selection(vec!["page_labels".to_owned()]);
    world.run(&one);
    assert!(world.falsely_deleted("page_labels", start).is_empty());
    // Alone or with its parent, a stream has the same rows.
    world.pass(Duration::from_hours(1));
    let fresh = |world: &World| RunOptions { fresh: true, ..world.beginning() };
    world.run_from(&one, fresh(&world));
    let alone = world.memory.batches("page_labels").unwrap();
    world.options = weir::plan::PlanOptions::default();
    world.pass(Duration::from_hours(1));
    world.run_from(&one, fresh(&world));
    let rows = |batches: &[arrow_array::RecordBatch]| {
        let rows = batches.iter().flat_map(crate::support::rows::read);
        let there = rows.filter(|row| row["_weir_deleted_at"].is_null());
        there.map(|row| format!("{}/{}", row["page_id"], row["id"])).collect::<BTreeSet<_>>()
    };
    assert_eq!(rows(&alone), rows(&world.memory.batches("page_labels").unwrap()));
}

#[test]
fn a_first_look_changes_nothing_that_was_there_not_even_in_the_midst_of_a_run() {
    let mut world = world();
    world.run(INCREMENTAL);
    world.pass(Duration::from_hours(30));
    assert!(world.live(INCREMENTAL, Some(150), world.beginning()).report.is_none());
    let before = (world.state(), table(&world, "pages"));
    world.options.limit = Some(5);
    let whole =
        INCREMENTAL.replace("mode: incremental, metadata: { change: true }", "mode: full-refresh");
    world.run(&whole);
    assert_eq!((world.state(), table(&world, "pages")), before);
    assert!((1..=5).contains(&table(&world, "pages__sample").len()));
    world.options.limit = None;
    assert!(world.run(INCREMENTAL).continued);
    assert_eq!(behind(&world), Vec::<&str>::new());
}

#[test]
fn a_retry_that_died_is_not_gone_on_with_as_a_run() {
    let replication =
        INCREMENTAL.replace("mode: incremental, metadata: { change: true }", "mode: full-refresh");
    let mut world = world();
    world.options.routes = own_routes();
    let rules = vec![FaultRule {
        part: "/labels".to_owned(),
        when: When::Numbers(vec![2, 4]),
        what: What::Status(403),
    }];
    world.simulator.set_faults(Faults { rules, ..Faults::default() });
    assert_eq!(world.run(&replication).status, RunStatus::DoneWithErrors);
    world.simulator.set_faults(Faults::default());
    for steps in 1..40 {
        world.pass(Duration::from_mins(1));
        world.options.retry = true;
        let retry = RunOptions { retry: true, ..world.beginning() };
        if world.live(&replication, Some(steps), retry).report.is_some() {
            break;
        }
    }
    world.options.retry = false;
    world.pass(Duration::from_mins(1));
    assert!(!world.run(&replication).continued);
    assert_eq!(behind(&world), Vec::<&str>::new());
}

#[test]
fn more_refused_slices_than_allowed_fail_the_stream() {
    let mut world = world();
    world.options.routes = own_routes();
    let rules = vec![FaultRule {
        part: "/labels".to_owned(),
        when: When::Numbers(vec![2, 4, 6, 8]),
        what: What::Status(403),
    }];
    world.simulator.set_faults(Faults { rules, ..Faults::default() });
    let run = world.run(&with("max_errors: 1"));
    assert_eq!(run.status, RunStatus::Failed);
    let labels = report(&run, "page_labels");
    assert_eq!(labels.status, StreamStatus::Failed);
    assert!(labels.error.as_ref().unwrap().contains("refused"), "{labels:?}");
    assert!(world.memory.batches("page_labels").is_none());
    let errors = world.memory.batches("_weir_errors").unwrap();
    let rows: Vec<Row> = errors.iter().flat_map(crate::support::rows::read).collect();
    assert!(rows.iter().any(|row| row["stream"] == "page_labels"), "{rows:?}");
    world.simulator.set_faults(Faults::default());
    world.pass(Duration::from_mins(1));
    assert_eq!(world.run(&with("max_errors: 1")).status, RunStatus::Done);
    assert_eq!(behind(&world), Vec::<&str>::new());
    assert!(
        world.memory.batches("_weir_errors").unwrap().iter().all(|batch| batch.num_rows() == 0)
    );
    assert_eq!(report(&run, "pages").status, StreamStatus::Done);
}

#[test]
fn deletes_are_marked_removed_or_ignored_as_asked() {
    for (deletes, rows, marked) in [("mark", 1, true), ("remove", 0, false), ("ignore", 1, false)] {
        let replication = with(&format!("refresh: 0s, deletes: {deletes}"));
        let world = world();
        world.run(&replication);
        let (page, comment) = (leaf(&world), some(&world, "blog_post_footer_comments"));
        world.change(&TenantChange::Trash { id: page.clone() });
        world.change(&TenantChange::Delete { id: comment.clone() });
        world.pass(Duration::from_mins(1));
        let run = world.run(&replication);
        let expected = u64::from(deletes != "ignore");
        assert_eq!(report(&run, "pages").deleted, expected, "{deletes}");
        for (stream, id) in [("pages", &page), ("blog_post_footer_comments", &comment)] {
            let table = table(&world, stream);
            let row = table.get(id);
            assert_eq!(usize::from(row.is_some()), rows, "{deletes}: {stream}");
            let at = row.and_then(|row| row.get("_weir_deleted_at"));
            assert_eq!(at.is_some_and(|at| !at.is_null()), marked, "{deletes}: {stream}");
        }
    }
}

#[test]
fn rows_say_what_became_of_them_and_come_back_from_the_dead() {
    let replication = with("refresh: 0s");
    let world = world();
    world.run(&replication);
    let (trashed, moved) = (leaf(&world), some(&world, "child_pages"));
    let edited = id_where(&world, "pages", |row| row["id"] != *trashed && row["id"] != *moved);
    let from = truth(&world, "pages").into_iter().find(|row| row["id"] == *moved).unwrap();
    let to = id_where(&world, "spaces", |row| row["id"] != from["spaceId"]);
    let change = |id: &str| table(&world, "pages")[id]["_weir_change"].clone();
    assert_eq!(change(&edited), "new");
    world.change(&edit(edited.clone()));
    world.change(&TenantChange::Move { id: moved.clone(), to });
    let made = world.change(&create(New::Page, edited.clone()));
    world.change(&TenantChange::Trash { id: trashed.clone() });
    world.pass(Duration::from_mins(1));
    world.run(&replication);
    let changes = [&edited, &moved, &made, &trashed].map(|id| change(id));
    assert_eq!(changes, ["updated", "moved", "new", "deleted"]);
    world.change(&TenantChange::Restore { id: trashed.clone() });
    world.pass(Duration::from_mins(1));
    world.run(&replication);
    assert_eq!(behind(&world), Vec::<&str>::new());
    assert!(table(&world, "pages")[&trashed]["_weir_deleted_at"].is_null());
}

#[test]
fn a_backfill_reads_its_range_and_leaves_cursor_and_rows_alone() {
    let mut world = world();
    world.run(INCREMENTAL);
    let before = table(&world, "pages");
    let stamp = |row: &Row| text(row, "version_created_at").to_owned();
    let mut pages: Vec<&Row> = before.values().filter(|row| !row["parent_id"].is_null()).collect();
    pages.retain(|row| row["status"] == "current");
    pages.sort_by_key(|row| stamp(row));
    let (older, within) = (text(pages[3], "id"), text(pages[12], "id"));
    let range = Some((stamp(pages[10]), stamp(pages[15])));
    // What no version tells: only a reading of the row itself sees it.
    for id in [older, within] {
        world.change(&TenantChange::Archive { id: id.to_owned() });
    }
    world.pass(Duration::from_hours(1));
    world.options.mode = Some(Mode::Backfill);
    world.options.selection = Selection(vec!["pages".to_owned()]);
    world.options.range = range;
    let run = world.run(INCREMENTAL);
    assert_eq!(run.status, RunStatus::Done);
    let after = table(&world, "pages");
    assert!(before.keys().eq(after.keys()));
    assert_eq!(
        (&after[older]["status"], &after[within]["status"]),
        (&"current".into(), &"archived".into())
    );
    // The next run goes on from the cursor as it was.
    world.options = weir::plan::PlanOptions::default();
    world.change(&edit(leaf(&world)));
    world.pass(Duration::from_hours(1));
    let run = world.run(INCREMENTAL);
    assert!(
        report(&run, "pages").reach.starts_with("changes since"),
        "{:?}",
        report(&run, "pages")
    );
    let faults = world.faults("pages");
    assert!(faults.len() == 1 && faults[0].contains(older), "{faults:?}");
}

#[test]
fn definition_only_makes_empty_tables_and_asks_nobody() {
    let mut world = world();
    world.options.mode = Some(Mode::DefinitionOnly);
    assert_eq!(world.run(INCREMENTAL).status, RunStatus::Done);
    assert_eq!(world.requests(), 0);
    for stream in STREAMS {
        let batches = world.memory.batches(stream).unwrap();
        assert_eq!(batches.iter().map(arrow_array::RecordBatch::num_rows).sum::<usize>(), 0);
    }
    world.options.mode = None;
    world.run(INCREMENTAL);
    assert_eq!(behind(&world), Vec::<&str>::new());
}

#[test]
fn a_stream_that_is_only_defined_still_feeds_its_children() {
    let world = world();
    world.run(INCREMENTAL);
    let before = table(&world, "pages");
    let defined = INCREMENTAL.replace("'*': }", "'page_*': , pages: { mode: definition-only } }");
    world.change(&edit(leaf(&world)));
    world.pass(Duration::from_hours(30));
    let run = world.run(&defined);
    assert_eq!(run.status, RunStatus::Done);
    assert_eq!(table(&world, "pages"), before);
    assert_eq!(world.faults("page_versions"), Vec::<String>::new());
}

#[test]
fn the_first_run_can_start_at_a_date_and_never_takes_older_rows_for_deleted() {
    let world = world();
    let mut stamps: Vec<String> = truth(&world, "pages")
        .iter()
        .map(|row| row["version"]["createdAt"].as_str().unwrap().to_owned())
        .collect();
    stamps.sort();
    let date = stamps[15].split('T').next().unwrap();
    let replication = INCREMENTAL
        .replace("inputs: {", &format!("refresh: 0s, inputs: {{ anchor_date: '{date}',"));
    for _ in 0..2 {
        assert_eq!(world.run(&replication).status, RunStatus::Done);
        let pages = table(&world, "pages");
        let young = truth(&world, "pages")
            .iter()
            .filter(|row| row["version"]["createdAt"].as_str().unwrap() >= date)
            .all(|row| pages.contains_key(text(row, "id")));
        assert!(young);
        assert!(pages.len() < stamps.len());
        assert!(pages.values().all(|row| row["_weir_deleted_at"].is_null()));
        world.pass(Duration::from_hours(30));
        world.change(&edit(leaf(&world)));
    }
}

/// Requests for a listing from the newest on: the size of the page, and whether it is the first one.
fn newest_first(world: &World, path: &str) -> Vec<(String, bool)> {
    let log = world.simulator.log();
    let listed =
        log.iter().filter(|one| &*one.path == path && one.query.contains("-modified-date"));
    let size = |query: &str| {
        let size = query.split('&').find_map(|pair| pair.strip_prefix("limit="));
        size.unwrap().to_owned()
    };
    listed.map(|one| (size(&one.query), !one.query.contains("cursor="))).collect()
}

/// A tenant with more pages than a page of a listing has, of which everything was read.
fn read_by(quota: &str) -> World {
    let mut world = World::new(Options {
        pages: 400,
        now: Some("2026-10-01T00:00:00Z".parse().unwrap()),
        ..Options::default()
    });
    world.fields.open.insert("quota".to_owned(), quota.to_owned());
    world.options.selection = Selection(
        ["pages", "blog_posts", "page_footer_comments", "blog_post_footer_comments"]
            .map(str::to_owned)
            .to_vec(),
    );
    assert_eq!(world.run(INCREMENTAL).status, RunStatus::Done);
    world
}

fn edit_pages(world: &World, count: usize) {
    let current = |row: &&Row| row["status"] == "current";
    for row in truth(world, "pages").iter().filter(current).take(count) {
        world.change(&edit(text(row, "id").to_owned()));
    }
}

#[test]
fn what_costs_points_is_listed_in_small_pages_first_and_in_full_ones_then() {
    let (pages, comments) = ("/wiki/api/v2/pages", "/wiki/api/v2/footer-comments");
    let world = read_by("points");
    let sizes = |sizes: &[(&str, bool)]| -> Vec<(String, bool)> {
        sizes.iter().map(|(size, first)| ((*size).to_owned(), *first)).collect()
    };
    let run = |edited: usize, steps: Option<i64>| {
        world.pass(Duration::from_hours(1));
        edit_pages(&world, edited);
        world.pass(Duration::from_hours(1));
        world.simulator.clear_log();
        let life = world.live(INCREMENTAL, steps, world.beginning());
        if life.report.is_none() {
            assert!(world.is_open());
            assert_eq!(world.run(INCREMENTAL).status, RunStatus::Done);
        }
        assert!(world.faults("pages").is_empty(), "{:#?}", world.faults("pages"));
    };
    // Nothing is known of changes; one listing of comments serves two streams.
    run(3, None);
    assert_eq!(newest_first(&world, pages), sizes(&[("25", true)]));
    assert_eq!(newest_first(&world, comments), sizes(&[("25", true)]));
    // There are more than was expected.
    run(60, None);
    assert_eq!(newest_first(&world, pages), sizes(&[("25", true), ("250", false)]));
    // As many as the last time; whoever goes on asks for the same page.
    run(60, Some(12));
    let listed = newest_first(&world, pages);
    let first = &listed[0];
    let size: u32 = first.0.parse().unwrap();
    assert!((61..=110).contains(&size) && listed.iter().all(|one| one == first), "{listed:?}");
    let world = read_by("none");
    edit_pages(&world, 3);
    world.pass(Duration::from_hours(1));
    world.simulator.clear_log();
    world.run(INCREMENTAL);
    assert_eq!(newest_first(&world, pages), sizes(&[("250", true)]));
    assert_eq!(newest_first(&world, comments), sizes(&[("250", true)]));
}

#[test]
fn a_listing_of_changes_that_is_refused_is_made_up_for_by_reading_everything() {
    let world = world();
    world.run(INCREMENTAL);
    world.change(&create(New::InlineComment, leaf(&world)));
    world.pass(Duration::from_hours(1));
    let part = "/wiki/api/v2/inline-comments?".to_owned();
    let rules = vec![FaultRule { part, when: When::Always, what: What::Status(410) }];
    world.simulator.set_faults(Faults { rules, ..Faults::default() });
    for _ in 0..2 {
        let run = world.run(INCREMENTAL);
        assert_eq!(run.status, RunStatus::Done, "{run:#?}");
        assert_eq!(report(&run, "page_inline_comments").reach, "everything");
        world.pass(Duration::from_hours(1));
    }
    assert!(world.faults("page_inline_comments").is_empty());
}
