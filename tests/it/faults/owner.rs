//! Tables that are not this replication's, and tables that somebody changed between two runs.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use weir::error::{Error, Kind};
use weir::plan::PlanOptions;
use weir::report::{NoticeKind, StreamStatus};
use weir::spec::Spec;
use weir::sync::run_options::RunOptions;

use crate::support::{
    fake::{Fake, How, Reply, RunResult},
    postgres::Database,
    user::{TO_FILES, User, ended},
};

const SPEC: &str = "
name: shop
base_url: https://shop.test/v1
streams:
  items:
    get: /items
    records: 'items[]'
    key: [id]
    cursor: { field: at, query: { since: '{{ cursor }}' } }
    refresh: 24h
    columns: { id: int, at: int, name: text }
";

const FULL: &str =
    "source: A\ntarget: B\ndefaults: { metadata: { synced_at: false } }\nstreams: { items: }\n";
const CHANGES: &str = "source: A\ntarget: B\ndefaults: { mode: incremental, metadata: { synced_at: false } }\n\
    streams: { items: }\n";

fn items() -> Vec<Value> {
    (1..=4).map(|id| json!({ "id": id, "at": id, "name": format!("item {id}") })).collect()
}

fn shop() -> Fake {
    Fake::new(SPEC, |asked| {
        let since: i64 = asked.param("since").parse().unwrap_or(0);
        let mut items = items();
        items.retain(|item| item["at"].as_i64() >= Some(since));
        Reply::json(&json!({ "items": items }))
    })
}

async fn run(fake: &Fake, replication: &str, adopt: bool) -> Result<RunResult, Error> {
    let beginning = RunOptions { adopt, ..RunOptions::now() };
    fake.try_run(How { replication, options: &PlanOptions::default(), beginning }).await
}

/// Runs, and is refused before anything is asked for.
#[track_caller]
fn refused(ran: Result<RunResult, Error>, part: &str) {
    let error = ran.err().unwrap_or_else(|| panic!("`{part}` is not refused"));
    assert_eq!(error.kind(), Kind::Input, "{error:?}");
    assert!(error.chain().contains(part), "{part}: {error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("--adopt")), "{error:?}");
}

/// A target in which the tests look and change things.
struct Place {
    fake: Fake,
    /// Its database; `None` for files.
    database: Option<Database>,
}

impl Place {
    async fn all() -> [Self; 2] {
        let database = Database::new().await;
        let fake = shop().into_postgres(database.options());
        [Self { fake: shop(), database: None }, Self { fake, database: Some(database) }]
    }

    /// The ids in the table, with commas between.
    async fn ids(&self) -> String {
        match &self.database {
            None => {
                let ids = self.fake.column("items", "id");
                ids.iter().map(Value::to_string).collect::<Vec<_>>().join(",")
            }
            Some(database) => {
                database.text("SELECT string_agg(id::text, ',' ORDER BY id) FROM items").await
            }
        }
    }

    /// Somebody makes a table with one row.
    async fn make(&self) {
        match &self.database {
            None => {
                let row = "{\"id\":99,\"at\":1,\"name\":\"mine\"}\n";
                fs::write(self.fake.folder().join("items.jsonl"), row).unwrap();
            }
            Some(database) => {
                let table = "CREATE TABLE items (id bigint PRIMARY KEY, at bigint, name text); \
                             INSERT INTO items VALUES (99, 1, 'mine')";
                database.execute(table).await;
            }
        }
    }

    /// Somebody removes all rows but the first.
    async fn cut(&self) {
        match &self.database {
            None => {
                let path = self.fake.folder().join("items.jsonl");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(&path, format!("{}\n", text.lines().next().unwrap())).unwrap();
            }
            Some(database) => {
                database.execute("DELETE FROM items WHERE id > 1").await;
            }
        }
    }

    /// Forgets all records, as if an earlier version had written the tables.
    async fn forget_records(&self) {
        match &self.database {
            None => {
                // One that is damaged is none.
                for record in fs::read_dir(self.fake.folder().join(".weir/tables")).unwrap() {
                    let path = record.unwrap().path();
                    let mut bytes = fs::read(&path).unwrap();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    fs::write(path, bytes).unwrap();
                }
            }
            Some(database) => database.execute("DROP TABLE _weir.tables").await,
        }
    }
}

#[tokio::test]
async fn a_table_that_weir_did_not_write_is_refused_until_it_is_adopted() {
    for replication in [FULL, CHANGES] {
        for place in Place::all().await {
            place.make().await;
            let fake = &place.fake;
            refused(run(fake, replication, false).await, "that no known run of weir has written");
            assert_eq!(place.ids().await, "99");
            run(fake, replication, true).await.unwrap();
            let ran = run(fake, replication, false).await.unwrap();
            assert_eq!(ran.stream("items").status, StreamStatus::Done, "it is remembered");
        }
    }
}

#[tokio::test]
async fn neither_a_definition_nor_a_sample_touches_a_table_of_somebody_else() {
    let definition = FULL.replace("metadata", "mode: definition-only, metadata");
    let rows = PlanOptions { limit: Some(2), ..PlanOptions::default() };
    for place in Place::all().await {
        place.make().await;
        let fake = &place.fake;
        refused(run(fake, &definition, false).await, "that no known run of weir has written");
        let sample = async |adopt| {
            let beginning = RunOptions { adopt, ..RunOptions::now() };
            fake.try_run(How { replication: FULL, options: &rows, beginning }).await
        };
        // Its own table is not in the way of a sample, but one of the sample's name is.
        sample(false).await.unwrap();
        sample(false).await.unwrap();
        assert_eq!(place.ids().await, "99");
        place.forget_records().await;
        refused(sample(false).await, "items__sample");
        sample(true).await.unwrap();
    }
}

#[tokio::test]
async fn a_table_without_rows_may_be_made_beforehand() {
    for place in Place::all().await {
        place.make().await;
        match &place.database {
            None => fs::write(place.fake.folder().join("items.jsonl"), "").unwrap(),
            Some(database) => database.execute("DELETE FROM items").await,
        }
        run(&place.fake, CHANGES, false).await.unwrap();
        assert_eq!(place.ids().await, "1,2,3,4");
    }
}

#[tokio::test]
async fn a_table_of_another_replication_is_refused() {
    let other = format!("name: other\n{CHANGES}");
    for place in Place::all().await {
        let fake = &place.fake;
        run(fake, CHANGES, false).await.unwrap();
        refused(run(fake, &other, false).await, "belongs to the replication `fake`");
        run(fake, &other, true).await.unwrap();
        refused(run(fake, CHANGES, false).await, "belongs to the replication `other`");
        // Whose it was takes it back, and trusts nothing of what it knew.
        let ran = run(fake, CHANGES, true).await.unwrap();
        assert_eq!(ran.asked[0].param("since"), "", "{:?}", ran.report);
        assert_eq!(ran.stream("items").notices[0].kind, NoticeKind::TargetChanged);
    }
}

#[tokio::test]
async fn a_table_of_another_site_is_refused() {
    for place in Place::all().await {
        run(&place.fake, CHANGES, false).await.unwrap();
        let elsewhere = SPEC.replace("shop.test", "other.test");
        let spec = Spec::load("spec.yaml", &elsewhere).unwrap();
        let fake = place.fake.of_spec(spec);
        let part = "contains rows of shop at https://shop.test/v1, but this run reads shop at \
                    https://other.test/v1";
        refused(run(&fake, CHANGES, false).await, part);
        run(&fake, CHANGES, true).await.unwrap();
    }
}

#[tokio::test]
async fn a_table_that_an_earlier_version_wrote_is_taken_over_in_silence() {
    for replication in [FULL, CHANGES] {
        for place in Place::all().await {
            run(&place.fake, replication, false).await.unwrap();
            place.forget_records().await;
            let ran = run(&place.fake, replication, false).await.unwrap();
            assert!(ran.stream("items").notices.is_empty(), "{:?}", ran.report);
            let asked: Vec<&str> = ran.asked.iter().map(|asked| asked.param("since")).collect();
            assert_eq!(asked, if replication == CHANGES { ["4"] } else { [""] });
        }
    }
}

#[tokio::test]
async fn a_table_that_lost_rows_between_two_runs_is_read_whole_and_told() {
    for place in Place::all().await {
        let fake = &place.fake;
        run(fake, CHANGES, false).await.unwrap();
        place.cut().await;
        let ran = run(fake, CHANGES, false).await.unwrap();
        assert_eq!(place.ids().await, "1,2,3,4");
        let [notice] = &*ran.stream("items").notices else { panic!("{:?}", ran.report) };
        assert_eq!(notice.kind, NoticeKind::TargetChanged);
        assert!(notice.detail.contains("has 1 row, but had 4 rows"), "{notice}");
        let ran = run(fake, CHANGES, false).await.unwrap();
        assert_eq!(ran.asked[0].param("since"), "4", "once");
        assert!(ran.stream("items").notices.is_empty(), "{:?}", ran.report);
    }
}

#[tokio::test]
async fn a_run_that_the_state_does_not_know_leads_to_a_complete_reading() {
    for place in Place::all().await {
        let fake = &place.fake;
        run(fake, CHANGES, false).await.unwrap();
        match &place.database {
            None => {
                // The state is that of an earlier run: somebody has put an old copy back.
                let state = fake.folder().join(".weir/state");
                let copy = tempfile::tempdir().unwrap();
                let cp = |from: &Path, to: &Path| {
                    let copied = Command::new("cp").arg("-r").args([from, to]).status().unwrap();
                    assert!(copied.success());
                };
                cp(&state, copy.path());
                run(fake, CHANGES, false).await.unwrap();
                fs::remove_dir_all(&state).unwrap();
                cp(&copy.path().join("state"), &state);
            }
            Some(database) => {
                let change = "UPDATE _weir.tables SET run_id = '20260101000000000cafe'";
                database.execute(change).await;
            }
        }
        let ran = run(fake, CHANGES, false).await.unwrap();
        let [notice] = &*ran.stream("items").notices else { panic!("{:?}", ran.report) };
        assert!(notice.detail.contains("which is not in the saved state"), "{notice}");
        assert_eq!(ran.asked[0].param("since"), "");
    }
}

/// That a replication wrote a file of a longer name says nothing of this one.
#[tokio::test]
async fn a_file_whose_name_ends_like_that_of_an_earlier_object_is_not_known() {
    let fake = shop();
    let into =
        |object: &str| FULL.replace("{ items: }", &format!("{{ items: {{ object: {object} }} }}"));
    run(&fake, &into("all_items.jsonl"), false).await.unwrap();
    run(&fake, &into("raw/items.jsonl"), false).await.unwrap();
    fs::write(fake.folder().join("items.jsonl"), "{\"id\":99}\n").unwrap();
    refused(run(&fake, &into("items.jsonl"), false).await, "that no known run of weir has written");
}

/// Two files of the same name share a state unless they are given names.
#[tokio::test]
async fn two_replications_with_one_name_read_everything_and_say_so() {
    for place in Place::all().await {
        let fake = &place.fake;
        let extension = if place.database.is_some() { "" } else { ".jsonl" };
        let into = |object: &str| {
            CHANGES
                .replace("{ items: }", &format!("{{ items: {{ object: {object}{extension} }} }}"))
        };
        let other = into("others");
        assert!(run(fake, CHANGES, false).await.unwrap().stream("items").notices.is_empty());
        for replication in [other.as_str(), CHANGES] {
            let ran = run(fake, replication, false).await.unwrap();
            assert_eq!(ran.asked[0].param("since"), "");
            let [notice] = &*ran.stream("items").notices else { panic!("{:?}", ran.report) };
            assert_eq!(notice.kind, NoticeKind::ReadWhole);
            assert!(notice.detail.contains("also called `fake`"), "{notice}");
        }
        assert_eq!(place.ids().await, "1,2,3,4");
        let named = format!("name: other\n{}", into("thirds"));
        run(fake, &named, false).await.unwrap();
        let ran = run(fake, CHANGES, false).await.unwrap();
        assert!(ran.stream("items").notices.is_empty(), "{:?}", ran.report);
        assert_eq!(ran.asked[0].param("since"), "4");
    }
}

#[test]
fn validate_tells_beforehand_whose_a_table_is() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let site = "{type: api, spec: confluence, simulate: {pages: 3, spaces: 2}}";
    let weir = |arguments: &[&str], code| {
        ended(&user.weir(arguments).env("WIKI", site).output().unwrap(), code).1
    };
    weir(&["sync", "validate", "r.yaml", "--target"], 0);
    assert!(!user.path("out").exists(), "looking makes nothing");
    fs::create_dir_all(user.path("out")).unwrap();
    fs::write(user.path("out/spaces.jsonl"), "{\"id\":1}\n").unwrap();
    weir(&["sync", "validate", "r.yaml"], 0);
    for arguments in [
        &["sync", "validate", "r.yaml", "--target"][..],
        &["sync", "run", "r.yaml", "--streams", "spaces"],
    ] {
        let err = weir(arguments, 2);
        assert!(err.contains("`spaces.jsonl` has rows") && err.contains("--adopt"), "{err}");
    }
    let output = user.weir(&["sync", "plan", "r.yaml"]).env("WIKI", site).output().unwrap();
    let (out, err) = ended(&output, 0);
    assert!(
        [out, err].concat().contains("a run would be refused: stream `spaces`"),
        "it is a note"
    );
    weir(&["sync", "run", "r.yaml", "--streams", "spaces", "--adopt"], 0);
    weir(&["sync", "validate", "r.yaml", "--target"], 0);
    user.write(
        "s.yaml",
        &format!("name: r\n{}", TO_FILES.replace("object:", "mode: snapshot, object:")),
    );
    let err = weir(&["sync", "validate", "s.yaml", "--target"], 2);
    assert!(err.contains("stream `spaces`: ") && err.contains("spaces.jsonl"), "{err}");
}
