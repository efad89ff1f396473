//! Columns that come and go in the spec, and fields that come and go in the data.

use std::time::Duration;

use serde_json::json;
use weir::sync::report::RunStatus;
use weir_sim::Options;

use crate::support::world::World;

use super::site::{FULL, INCREMENTAL, KINDS, Kind, Site};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_is_filled_in_all_rows_by_the_next_run() {
    for kind in KINDS {
        for mode in [FULL, INCREMENTAL] {
            let site = Site::new(kind).await;
            site.serve(json!([
                { "id": 1, "at": 1, "name": "a", "color": "red" },
                { "id": 2, "at": 2, "name": "b", "color": "blue" },
            ]));
            site.run(mode, "name: text").await;
            assert_eq!(site.values("color").await, ["no column"; 2]);
            assert_eq!(site.values("_extra").await[0], r#"{"color":"red"}"#, "{kind:?}");
            site.run(mode, "name: text, color: text").await;
            assert_eq!(site.asked(), [None], "{kind:?} {mode}: everything is read again");
            assert_eq!(site.values("color").await, ["red", "blue"], "{kind:?} {mode}");
            assert_eq!(site.values("_extra").await, ["null"; 2], "{kind:?} {mode}");
            site.run(mode, "name: text, color: text").await;
            let then = if mode == FULL { None } else { Some(2) };
            assert_eq!(site.asked(), [then], "{kind:?} {mode}: and only once");
            assert_eq!(site.values("color").await, ["red", "blue"], "{kind:?} {mode}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_source_no_longer_has_is_null_in_a_new_column() {
    for kind in KINDS {
        let site = Site::new(kind).await;
        site.serve(json!([{ "id": 1, "at": 1, "color": "red" }, { "id": 2, "at": 2 }]));
        site.run(INCREMENTAL, "name: text").await;
        site.serve(json!([{ "id": 1, "at": 1, "color": "red" }]));
        let report = site.run(INCREMENTAL, "name: text, color: text").await;
        assert_eq!((report.rows, report.deleted), (1, 1), "{kind:?}");
        assert_eq!(site.values("color").await, ["red", "null"], "{kind:?}");
        assert_eq!(site.values("_weir_deleted_at").await[0], "null", "{kind:?}");
        assert_ne!(site.values("_weir_deleted_at").await[1], "null", "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_comes_from_elsewhere_is_filled_anew() {
    for kind in KINDS {
        let site = Site::new(kind).await;
        site.serve(json!([{ "id": 1, "at": 1, "old": "o", "new": "n" }]));
        site.run(INCREMENTAL, "name: { text: old }").await;
        site.run(INCREMENTAL, "name: { text: new }").await;
        assert_eq!((site.asked(), site.values("name").await), (vec![None], vec!["n".to_owned()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_goes_elsewhere_goes_there_whole() {
    let site = Site::new(Kind::Postgres).await;
    site.serve(json!([{ "id": 1, "at": 1 }, { "id": 2, "at": 2 }]));
    site.run(INCREMENTAL, "name: text").await;
    let site = site.set("object: elsewhere");
    site.run(INCREMENTAL, "name: text").await;
    assert_eq!(site.database().text("SELECT count(*) FROM elsewhere").await, "2");
    assert_eq!(site.database().text("SELECT count(*) FROM items").await, "2");
}

/// What happens to `color` once the spec has dropped it, while one row stays, one changes, one comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_column_stays_in_tables_and_merged_files() {
    for unknown in ["keep", "ignore"] {
        for (kind, mode, expected) in [
            (Kind::Postgres, INCREMENTAL, ["red", "blue", "null"]),
            (Kind::Postgres, "truncate", ["null", "null", "null"]),
            (Kind::Postgres, FULL, ["null", "null", "null"]),
            (Kind::Parquet, INCREMENTAL, ["red", "null", "null"]),
            (Kind::Jsonl, INCREMENTAL, ["red", "null", "null"]),
            (Kind::Parquet, FULL, ["no column"; 3]),
            (Kind::Jsonl, FULL, ["no column"; 3]),
        ] {
            let what = format!("{kind:?} {mode} {unknown}");
            let site = Site::new(kind).await.say(&format!("unknown: {unknown}"));
            site.serve(json!([
                { "id": 1, "at": 1, "name": "a", "color": "red" },
                { "id": 2, "at": 2, "name": "b", "color": "blue" },
            ]));
            site.run(mode, "name: text, color: text").await;
            site.serve(json!([
                { "id": 1, "at": 1, "name": "a", "color": "red" },
                { "id": 2, "at": 3, "name": "B", "color": "green" },
                { "id": 3, "at": 3, "name": "c", "color": "black" },
            ]));
            site.run(mode, "name: text").await;
            assert_eq!(site.values("name").await, ["a", "B", "c"], "{what}");
            let mut expected = expected;
            if unknown == "keep" {
                // Nothing is lost: undeclared fields are in `_extra`, and so every row is another.
                let extra = site.values("_extra").await;
                assert_eq!(extra[2], r#"{"color":"black"}"#, "{what}");
                if kind != Kind::Postgres && mode == INCREMENTAL {
                    expected[0] = "null";
                }
            }
            assert_eq!(site.values("color").await, expected, "{what}");
            site.run(mode, "name: text, color: text").await;
            assert_eq!(site.values("color").await, ["red", "green", "black"], "{what}: it is back");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_appears_late_is_kept_and_can_become_a_column() {
    for kind in KINDS {
        for mode in [FULL, INCREMENTAL] {
            let site = Site::new(kind).await;
            site.serve(json!([{ "id": 1, "at": 1 }, { "id": 2, "at": 2, "late": null }]));
            site.run(mode, "name: text").await;
            assert_eq!(site.values("_extra").await, ["null", r#"{"late":null}"#], "{kind:?}");
            site.serve(json!([
                { "id": 1, "at": 1 },
                { "id": 2, "at": 2, "late": null },
                { "id": 3, "at": 3, "late": { "er": 1 } },
            ]));
            site.run(mode, "name: text").await;
            let extra = site.values("_extra").await;
            assert_eq!(extra, ["null", r#"{"late":null}"#, r#"{"late":{"er":1}}"#], "{kind:?}");
            site.run(mode, "name: text, er: { int: late.er }").await;
            assert_eq!(site.values("er").await, ["null", "null", "1"], "{kind:?} {mode}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_field_is_null_or_its_default_and_a_misfit_is_kept_aside() {
    for kind in KINDS {
        for mode in [FULL, INCREMENTAL] {
            let site = Site::new(kind).await;
            let columns = "n: int, m: { int: m, default: 7 }";
            site.serve(json!([{ "id": 1, "at": 1, "n": 5, "m": 6 }]));
            site.run(mode, columns).await;
            site.serve(json!([
                { "id": 1, "at": 2 },
                { "id": 2, "at": 2, "n": "five", "m": 6 },
                { "id": 3, "at": 2, "n": 5.5 },
                { "id": 4, "at": 2, "n": null, "m": [1] },
            ]));
            let report = site.run(mode, columns).await;
            assert_eq!(report.misfits, 3, "{kind:?} {mode}");
            assert_eq!(site.values("n").await, ["null"; 4], "{kind:?} {mode}");
            assert_eq!(site.values("m").await, ["7", "6", "7", "7"], "{kind:?} {mode}");
            let extra = site.values("_extra").await;
            let expected = ["null", r#"{"n":"five"}"#, r#"{"n":5.5}"#, r#"{"m":[1]}"#];
            assert_eq!(extra, expected, "{kind:?} {mode}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misfit_fails_a_strict_stream_and_a_missing_key_every_stream() {
    for kind in KINDS {
        for mode in [FULL, INCREMENTAL] {
            let site = Site::new(kind).await.set("strict: true");
            site.serve(json!([{ "id": 1, "at": 1, "n": 5 }]));
            site.run(mode, "n: int").await;
            site.serve(json!([{ "id": 2, "at": 2, "n": "five" }]));
            let error = site.refused(mode, "n: int").await;
            assert!(error.contains("`n`"), "{kind:?} {mode}: {error}");
            let site = site.set("");
            site.serve(json!([{ "at": 2, "n": 1 }, { "id": null, "at": 2, "n": 2 }]));
            let error = site.try_run(mode, "n: int").await.error.unwrap_or_default();
            assert!(error.contains("id"), "{kind:?} {mode}: {error}");
            assert_eq!(site.values("n").await, ["5"], "{kind:?} {mode}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_leaves_older_rows_without_a_new_column() {
    let site = Site::new(Kind::Postgres).await;
    site.serve(json!([{ "id": 1, "at": 1, "color": "red" }]));
    site.run("snapshot", "name: text").await;
    site.serve(json!([{ "id": 2, "at": 1, "color": "red" }]));
    site.run("snapshot", "name: json, color: text").await;
    assert_eq!(site.values("color").await, ["null", "red"]);
    let error = site.refused("snapshot", "name: int").await;
    assert!(error.contains("column `name`") && error.contains("`bigint`"), "{error}");
    let site = Site::new(Kind::Parquet).await.set("object: 'items/*.parquet'");
    site.serve(json!([{ "id": 1, "at": 1, "n": 1 }]));
    for columns in ["name: text", "n: text", "n: int, name: json"] {
        site.run("snapshot", columns).await;
    }
    let parts = std::fs::read_dir(site.folder.path().join("items")).unwrap().count();
    assert_eq!(parts, 4, "three parts and their list");
}

/// A stream whose requests follow its parents' changes is read for all parents.
#[test]
fn a_new_column_of_children_is_filled_though_no_parent_changed() {
    let world = World::new(Options { pages: 30, heavy_parents: 0, ..Options::default() });
    let replication = |select: &str| {
        format!(
            "source: WIKI
target: OUT
defaults: {{ mode: incremental }}
limits: {{ requests_per_second: 0 }}
streams: {{ pages: , page_labels: {{ {select} }} }}
"
        )
    };
    assert_eq!(world.run(&replication("select: [-prefix]")).status, RunStatus::Done);
    assert_ne!(world.faults("page_labels"), Vec::<String>::new());
    world.pass(Duration::from_hours(1));
    assert_eq!(world.run(&replication("")).status, RunStatus::Done);
    assert_eq!(world.faults("page_labels"), Vec::<String>::new());
}
