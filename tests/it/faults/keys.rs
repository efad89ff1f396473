//! Keys that stand for more than one record, and records that come more than once.

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weir::plan::PlanOptions;
use weir::report::{NoticeKind, StreamReport, StreamStatus};
use weir::sync::run_options::RunOptions;

use crate::support::{
    fake::{Asked, Fake, How, REPLICATION, Reply},
    postgres::Database,
};

const KIDS: &str = "
name: family
base_url: https://family.test
test: { get: /ping }
defaults: { records: data, paginate: { next_url: { at: next } } }
streams:
  parents:
    { doc: A parent., get: /parents, key: [id], feeds: { parent_ids: id }, columns: { id: int } }
  kids:
    doc: A child.
    for_each: parent_ids
    get: /parents/{{ parent_id }}/kids
    key: [id]
    columns: { id: int, v: text }
";

/// Two parents, each with a child 1 of its own, and a child 9 that both share. The child 1 of one of
/// them is on a second page, so that it comes later.
fn kids(asked: &Asked, late: &str) -> Reply {
    let parent = asked.path.split('/').nth(2);
    let Some(parent) = parent else {
        return json_reply(json!({ "data": [{ "id": 1 }, { "id": 2 }] }));
    };
    let (own, shared) = (json!({ "id": 1, "v": parent }), json!({ "id": 9, "v": "shared" }));
    let next = format!("/parents/{parent}/kids?page=2");
    json_reply(match (parent == late, asked.param("page")) {
        (true, "") => json!({ "data": [shared], "next": next }),
        (true, _) => json!({ "data": [own] }),
        (false, _) => json!({ "data": [own, shared] }),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "it is made where it is given")]
fn json_reply(body: Value) -> Reply {
    Reply::json(&body)
}

fn collided(report: &StreamReport) {
    let [notice] = report.notices.as_slice() else { panic!("{:?}", report.notices) };
    assert_eq!((notice.kind, notice.count), (NoticeKind::KeyCollision, 1));
    let said = notice.to_string();
    assert!(said.contains("1 row replaced another") && said.contains("`id=1`"), "{said}");
    assert!(said.contains("`v`") && said.contains("`key` of `kids`"), "{said}");
}

#[tokio::test]
async fn children_of_two_parents_that_share_a_key_are_counted_and_named() {
    let fake = Fake::new(KIDS, |asked| kids(asked, ""));
    let ran = fake.run().await;
    let report = ran.stream("kids");
    assert_eq!((report.status, report.rows, report.duplicates), (StreamStatus::Done, 2, 0));
    collided(report);
    let strict = REPLICATION.replace("defaults: {", "defaults: { strict: true,");
    for _ in 0..2 {
        let ran = fake.run_with(&strict).await;
        let report = ran.stream("kids");
        assert_eq!(report.status, StreamStatus::Failed);
        assert!(report.error.as_ref().unwrap().contains("`id=1`"), "{report:?}");
        assert_eq!(fake.rows("kids").len(), 2, "the target is as it was");
        assert!(ran.asked.iter().any(|asked| asked.path == "/parents/1/kids"), "it is read anew");
    }
}

#[tokio::test]
async fn every_target_keeps_the_child_of_the_last_parent_whichever_comes_first() {
    for late in ["1", "2"] {
        let fake = Fake::new(KIDS, move |asked| kids(asked, late));
        collided(fake.run().await.stream("kids"));
        let mut rows = fake.column("kids", "v");
        rows.sort_by_key(Value::to_string);
        assert_eq!(rows, ["2", "shared"]);
        let database = Database::new().await;
        let fake =
            Fake::new(KIDS, move |asked| kids(asked, late)).into_postgres(database.options());
        collided(fake.run().await.stream("kids"));
        let client = database.client().await;
        let rows = client.query("SELECT v FROM public.kids ORDER BY v", &[]).await.unwrap();
        let rows: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(rows, ["2", "shared"]);
    }
}

const PROJECTS: &str = "
name: forge
base_url: https://forge.test
test: { get: /ping }
defaults: { records: data }
streams:
  orgs: { doc: An org., get: /orgs, key: [org], feeds: { orgs: org }, columns: { org: text } }
  projects:
    doc: A project.
    for_each: { queue: orgs, as: org }
    get: /orgs/{{ org }}/projects
    key: [org, id]
    feeds: { project_ids: id }
    columns: { org: text, id: int }
  items:
    doc: An item.
    for_each: { queue: project_ids, as: project, carry: { org: org } }
    get: /orgs/{{ org }}/projects/{{ project }}/items
    key: [org, project, id]
    columns: { org: { text: '{{ org }}' }, project: { int: '{{ project }}' }, id: int }
";

#[tokio::test]
async fn values_that_repeat_among_the_parents_of_parents_are_all_asked_for() {
    let fake = Fake::new(PROJECTS, |asked| {
        let parts: Vec<&str> = asked.path.split('/').collect();
        json_reply(match parts.as_slice() {
            [_, "orgs"] => json!({ "data": [{ "org": "a" }, { "org": "b" }] }),
            [_, "orgs", org, "projects"] => {
                json!({ "data": [{ "org": org, "id": 1 }, { "org": org, "id": 2 }] })
            }
            _ => json!({ "data": [{ "id": 1 }, { "id": 2 }] }),
        })
    });
    let ran = fake.run().await;
    assert_eq!(ran.stream("items").rows, 8);
    assert!(ran.report.streams.iter().all(|stream| stream.notices.is_empty()));
}

const LISTING: &str = "
name: log
base_url: https://log.test
test: { get: /ping }
streams:
  events:
    doc: An event.
    get: /events
    key: [id]
    records: data
    paginate: { next_url: { at: next } }
    columns: { id: int, v: text }
";

/// Three pages; the second and the third begin with what the page before ended with.
fn shifting(asked: &Asked) -> Reply {
    let page: i64 = asked.param("page").parse().unwrap_or(0);
    let data: Vec<Value> =
        (page * 4..page * 4 + 5).map(|id| json!({ "id": id, "v": "v" })).collect();
    let next = (page < 2).then(|| format!("/events?page={}", page + 1));
    json_reply(json!({ "data": data, "next": next }))
}

#[tokio::test]
async fn what_the_api_repeats_is_written_once_and_told_in_every_mode() {
    for mode in ["full-refresh", "truncate", "incremental", "snapshot"] {
        let replication = format!(
            "source: A\ntarget: B\ndefaults: {{ mode: {mode}, object: '{{stream_name}}/*.jsonl' }}\n\
             streams: {{ '*': }}\n"
        );
        let fake = Fake::new(LISTING, shifting);
        let ran = fake.run_with(&replication).await;
        let report = ran.stream("events");
        assert_eq!((report.rows, report.duplicates), (13, 2), "{mode}: {report:?}");
        assert!(report.notices.is_empty(), "{mode}: {report:?}");
        let database = Database::new().await;
        let fake = Fake::new(LISTING, shifting).into_postgres(database.options());
        let tables = replication.replace("{stream_name}/*.jsonl", "public.{stream_name}");
        let report = fake.run_with(&tables).await.stream("events").clone();
        assert_eq!((report.rows, report.duplicates), (13, 2), "{mode}: {report:?}");
        let client = database.client().await;
        let count = client.query_one("SELECT count(*) FROM public.events", &[]).await.unwrap();
        assert_eq!(count.get::<_, i64>(0), 13, "{mode}");
    }
}

#[tokio::test]
async fn a_snapshot_that_goes_on_writes_what_shifted_meanwhile_once() {
    let replication = "source: A\ntarget: B\n\
        defaults: { mode: snapshot, object: '{stream_name}/*.jsonl' }\nstreams: { '*': }\n";
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let fake = Fake::new(LISTING, move |asked| {
        if asked.param("page") == "1" {
            stop.cancel();
        }
        shifting(asked)
    });
    let how = How { replication, options: &PlanOptions::default(), beginning: RunOptions::now() };
    let ran = fake.try_run_until(how, cancel).await.unwrap();
    assert_eq!(ran.stream("events").status, StreamStatus::Interrupted);
    let fake = fake.another_process();
    // Two new events came before those that are saved.
    fake.answer(|asked| {
        let page: i64 = asked.param("page").parse().unwrap();
        let ids = page * 4 - 2..(page * 4 + 5).min(13);
        let data: Vec<Value> = ids.map(|id| json!({ "id": id, "v": "v" })).collect();
        json_reply(json!({ "data": data, "next": (page < 2).then_some("/events?page=2") }))
    });
    let ran = fake.run_with(replication).await;
    assert!(ran.report.continued);
    assert_eq!(ran.stream("events").rows, 13);
    let files = std::fs::read_dir(fake.folder().join("events")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let texts = paths.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    let rows: usize =
        texts.map(|path| std::fs::read_to_string(path).unwrap().lines().count()).sum();
    assert_eq!(rows, 13);
}

#[tokio::test]
async fn two_records_of_one_answer_with_the_same_key_are_told() {
    let fake = Fake::new(LISTING, |_| {
        json_reply(
            json!({ "data": [{ "id": 1, "v": "a" }, { "id": 1, "v": "b" }, { "id": 1, "v": "b" }] }),
        )
    });
    let ran = fake.run().await;
    let report = ran.stream("events");
    assert_eq!((report.rows, report.duplicates), (1, 1));
    assert_eq!(report.notices.iter().map(|notice| notice.count).sum::<u64>(), 1);
    assert_eq!(fake.column("events", "v"), ["b"]);
}
