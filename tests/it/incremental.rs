//! What incremental runs catch, what they leave to the next complete reading, and when deletes are
//! concluded; all under simulated time.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use weir::{
    plan::Selection,
    replication::Mode,
    report::StreamStatus,
    sim::{Change, Fault, Faults, New, Options, STREAMS, What, When},
    sync::{Beginning, RunReport, RunStatus},
};

use crate::support::{
    rig::Row,
    world::{Life, World},
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
fn with(settings: &str) -> String {
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

/// A current page below another, with nothing below it.
fn leaf(world: &World) -> String {
    let parents: Vec<String> =
        truth(world, "child_pages").iter().map(|row| text(row, "page_id").to_owned()).collect();
    id_where(world, "pages", |row| {
        row["status"] == "current"
            && !row["parentId"].is_null()
            && !parents.iter().any(|parent| *parent == text(row, "id"))
    })
}

fn some(world: &World, stream: &str) -> String {
    id_where(world, stream, |_| true)
}

fn edit(id: String) -> Change {
    Change::Edit { id, retitle: true }
}

fn create(what: New, under: String) -> Change {
    Change::Create { what, under }
}

/// Streams whose table is not what the tenant has.
fn behind(world: &World) -> Vec<&'static str> {
    STREAMS.into_iter().filter(|stream| !world.faults(stream).is_empty()).collect()
}

fn report<'run>(run: &'run RunReport, stream: &str) -> &'run weir::report::StreamReport {
    run.streams.iter().find(|report| report.stream == stream).unwrap()
}

/// All rows of a table, those that are marked as deleted among them, by their id.
fn table(world: &World, stream: &str) -> BTreeMap<String, Row> {
    let batches = world.memory.batches(stream).unwrap();
    let rows = batches.iter().flat_map(crate::support::rows::read);
    rows.map(|row| (text(&row, "id").to_owned(), row)).collect()
}

type Make = fn(&World) -> Change;

/// Changes, and the streams that do not show them until they are read whole.
const CHANGES: [(&str, Make, &[&str]); 22] = [
    ("a page is edited", |world| edit(leaf(world)), &["child_pages"]),
    ("a page is made", |world| create(New::Page, leaf(world)), &["child_pages"]),
    (
        "a page moves",
        |world| {
            let pages = truth(world, "pages");
            let id = leaf(world);
            let from = &pages.iter().find(|row| row["id"] == id.as_str()).unwrap()["spaceId"];
            Change::Move { to: id_where(world, "spaces", |row| row["id"] != *from), id }
        },
        &["pages", "child_pages"],
    ),
    ("a page is archived", |world| Change::Archive { id: leaf(world) }, &["pages", "child_pages"]),
    ("a page goes to the trash", |world| Change::Trash { id: leaf(world) }, &OF_A_PAGE),
    ("a page is gone", |world| Change::Delete { id: leaf(world) }, &OF_A_PAGE),
    ("a blog post is edited", |world| edit(some(world, "blog_posts")), &[]),
    ("a blog post is made", |world| create(New::BlogPost, some(world, "spaces")), &[]),
    ("an attachment is made", |world| create(New::Attachment, leaf(world)), &[]),
    ("an attachment has a new version", |world| edit(some(world, "attachments")), &[]),
    (
        "a label is put on a page",
        |world| Change::AddLabel { id: leaf(world), label: "quite-new".to_owned() },
        &["page_labels"],
    ),
    (
        "a label is taken off a page",
        |world| {
            let row = truth(world, "page_labels").remove(0);
            let (id, label) = (text(&row, "page_id").to_owned(), text(&row, "name").to_owned());
            Change::RemoveLabel { id, label }
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
        |world| Change::Delete { id: some(world, "page_footer_comments") },
        &["page_footer_comments"],
    ),
    ("a task is made", |world| create(New::Task, leaf(world)), &[]),
    (
        "a task is ticked",
        |world| Change::Toggle {
            id: id_where(world, "tasks", |row| row["status"] == "incomplete"),
        },
        &[],
    ),
    ("a task is gone", |world| Change::Delete { id: some(world, "tasks") }, &["tasks"]),
    (
        "a property is edited",
        |world| edit(some(world, "page_content_properties")),
        &["page_content_properties"],
    ),
    ("a permission is gone", |world| Change::Delete { id: some(world, "space_permissions") }, &[]),
    ("a group is gone", |world| Change::Delete { id: some(world, "groups") }, &[]),
];

/// What a page takes with it, as far as the page of the tests has it.
const OF_A_PAGE: [&str; 5] =
    ["pages", "page_labels", "page_versions", "page_content_properties", "child_pages"];

#[test]
fn what_changes_is_caught_at_once_or_by_the_next_complete_reading() {
    let mut wrong = Vec::new();
    for (what, change, late) in CHANGES {
        let world = world();
        assert_eq!(world.run(INCREMENTAL).status, RunStatus::Done);
        assert_eq!(behind(&world), Vec::<&str>::new(), "{what}");
        world.pass(Duration::from_hours(1));
        world.change(&change(&world));
        world.pass(Duration::from_hours(1));
        assert_eq!(world.run(INCREMENTAL).status, RunStatus::Done);
        let found = behind(&world);
        if found != late {
            wrong.push(format!("{what}: late are {found:?}"));
        }
        world.pass(Duration::from_hours(22));
        assert_eq!(world.run(INCREMENTAL).status, RunStatus::Done);
        assert_eq!(behind(&world), Vec::<&str>::new(), "{what}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
