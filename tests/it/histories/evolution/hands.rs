//! Tables and files that somebody altered between two runs.

use std::fs;

use serde_json::{Value, json};

use super::site::{FULL, INCREMENTAL, KINDS, Kind, Site};

/// Two rows of `name`, loaded; then somebody's change of the table, and one row changed at the source.
async fn altered(mode: &str, change: &str) -> Site {
    altered_with(mode, change, "").await
}

/// Likewise, with more said of the stream.
async fn altered_with(mode: &str, change: &str, stream: &str) -> Site {
    let site = Site::new(Kind::Postgres).await.say(stream);
    site.serve(json!([
        { "id": 1, "at": 1, "name": "a" },
        { "id": 2, "at": 2, "name": "b" },
    ]));
    site.run(mode, "name: text").await;
    site.database().execute(change).await;
    site.serve(json!([
        { "id": 1, "at": 1, "name": "a" },
        { "id": 2, "at": 3, "name": "B" },
        { "id": 3, "at": 3, "name": "c" },
    ]));
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_somebody_else_stays() {
    for (mode, expected) in [(INCREMENTAL, ["mine", "mine", "null"]), (FULL, ["null"; 3])] {
        let site = altered(
            mode,
            "ALTER TABLE items ADD note text; COMMENT ON COLUMN items.note IS 'mine'; \
             UPDATE items SET note = 'mine'",
        )
        .await;
        site.run(mode, "name: text").await;
        assert_eq!(site.values("name").await, ["a", "B", "c"], "{mode}");
        assert_eq!(site.values("note").await, expected, "{mode}");
        let comment = "SELECT description FROM pg_description WHERE objoid = 'items'::regclass";
        assert_eq!(site.database().text(comment).await, "mine", "{mode}");
        site.run(mode, "name: text").await;
        assert_eq!(site.values("note").await, expected, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_was_dropped_or_renamed_is_made_and_filled_again() {
    for mode in [INCREMENTAL, FULL] {
        for (change, title) in [
            ("ALTER TABLE items DROP COLUMN name", ["no column"; 3]),
            ("ALTER TABLE items RENAME name TO title", ["a", "b", "null"]),
        ] {
            let site = altered(mode, change).await;
            site.run(mode, "name: text").await;
            assert_eq!(site.asked(), [None], "{mode}: everything is read again");
            assert_eq!(site.values("name").await, ["a", "B", "c"], "{mode}: {change}");
            let kept = if mode == FULL && title[0] == "a" { ["null"; 3] } else { title };
            assert_eq!(site.values("title").await, kept, "{mode}: {change}");
            let told = site.warnings().iter().any(|text| text.contains("column `name` of table"));
            assert_eq!(told, mode == INCREMENTAL, "{:?}", site.warnings());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_dropped_is_made_whole_again() {
    for kind in KINDS {
        for mode in [INCREMENTAL, FULL] {
            let site = Site::new(kind).await;
            site.serve(json!([{ "id": 1, "at": 1, "name": "a" }, { "id": 2, "at": 2 }]));
            site.run(mode, "name: text").await;
            match kind {
                Kind::Postgres => site.database().execute("DROP TABLE items").await,
                _ => fs::remove_file(site.file()).unwrap(),
            }
            site.run(mode, "name: text").await;
            assert_eq!(site.values("name").await, ["a", "null"], "{kind:?} {mode}");
            site.run(mode, "name: text").await;
            let then = if mode == FULL { None } else { Some(2) };
            assert_eq!(site.asked(), [then], "{kind:?} {mode}: once");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_goes_on_reads_everything_of_a_table_that_is_gone() {
    let paged = "paginate: { page: { param: page, pages: pages } }";
    for dropped in [false, true] {
        let site = altered_with(INCREMENTAL, "", paged).await;
        site.interrupted(INCREMENTAL, "name: text").await;
        assert_eq!(site.asked(), [Some(2)]);
        if dropped {
            site.database().execute("DROP TABLE items").await;
        }
        site.run(INCREMENTAL, "name: text").await;
        // Page 2 of the changes, or all three pages of everything.
        let expected = if dropped { vec![None; 3] } else { vec![Some(2)] };
        assert_eq!(site.asked(), expected);
        assert_eq!(site.values("name").await, ["a", "B", "c"]);
        let again = site.warnings().iter().any(|text| text.contains("has to be read in full"));
        assert_eq!(again, dropped, "{:?}", site.warnings());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_does_not_hide_that_the_table_was_gone() {
    for kind in KINDS {
        let mut site = Site::new(kind).await;
        site.serve(json!([{ "id": 1, "at": 1 }, { "id": 2, "at": 2 }]));
        site.run(INCREMENTAL, "name: text").await;
        match kind {
            Kind::Postgres => site.database().execute("DROP TABLE items").await,
            _ => fs::remove_file(site.file()).unwrap(),
        }
        site.range = Some(("2".to_owned(), "2".to_owned()));
        site.run("backfill", "name: text").await;
        assert_eq!(site.values("id").await, ["2"], "{kind:?}");
        site.range = None;
        site.run(INCREMENTAL, "name: text").await;
        assert_eq!(site.values("id").await, ["1", "2"], "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_gone_are_made_again_and_an_empty_object_is_none_that_is_gone() {
    for format in ["parquet", "jsonl"] {
        let settings = format!("object: 'items/*.{format}'");
        let site = Site::new(Kind::Jsonl).await.set(&settings);
        site.serve(json!([]));
        site.run(INCREMENTAL, "name: text").await;
        site.serve(json!([{ "id": 1, "at": 1 }]));
        site.run(INCREMENTAL, "name: text").await;
        site.run(INCREMENTAL, "name: text").await;
        assert_eq!(site.asked(), [Some(1)], "{format}");
        assert!(site.warnings().is_empty(), "{format}: {:?}", site.warnings());
        fs::remove_dir_all(site.folder.path().join("items")).unwrap();
        let report = site.run(INCREMENTAL, "name: text").await;
        assert_eq!((report.rows, site.asked()), (1, vec![None]), "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_was_altered_is_refused_where_old_rows_stay() {
    for (change, kind) in [
        ("ALTER TABLE items ALTER name TYPE varchar(9)", "character varying(9)"),
        ("ALTER TABLE items ALTER name TYPE bytea USING NULL", ""),
        ("ALTER TABLE items ALTER at TYPE text", "text"),
        ("ALTER TABLE items ALTER at TYPE int", ""),
    ] {
        let site = altered(INCREMENTAL, change).await;
        if kind.is_empty() {
            site.run(INCREMENTAL, "name: text").await;
        } else {
            let error = site.refused(INCREMENTAL, "name: text").await;
            assert!(error.contains(&format!("`{kind}`")), "{change}: {error}");
            assert!(error.contains("alter the column's type"), "{change}: {error}");
        }
        let site = altered(FULL, change).await;
        site.run(FULL, "name: text").await;
        assert_eq!(site.values("at").await, ["1", "3", "3"], "{change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_dropped_comes_back() {
    for mode in [INCREMENTAL, FULL] {
        let site = altered(mode, "ALTER TABLE items DROP CONSTRAINT items_pkey").await;
        site.run(mode, "name: text").await;
        assert_eq!(site.values("name").await, ["a", "B", "c"], "{mode}");
        let unique = "SELECT count(*) FROM pg_index WHERE indrelid = 'items'::regclass \
                      AND indisunique";
        assert_eq!(site.database().text(unique).await, "1", "{mode}");
    }
    let twin = "ALTER TABLE items DROP CONSTRAINT items_pkey; \
                INSERT INTO items (id, name) VALUES (2, 'twin')";
    let error = altered(INCREMENTAL, twin).await.refused(INCREMENTAL, "name: text").await;
    assert!(error.contains("several rows with the same \"id\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_stays_and_sees_what_it_saw_and_holds_the_type() {
    let view = "CREATE VIEW seen AS SELECT id, at, name FROM items";
    for mode in [INCREMENTAL, FULL] {
        let site = altered(mode, view).await;
        site.run(mode, "name: text, color: text").await;
        let seen = site.database().texts("SELECT name FROM seen ORDER BY id").await;
        assert_eq!(seen, ["a", "B", "c"], "{mode}");
        assert_eq!(site.values("color").await, ["null"; 3], "{mode}");
        let error = site.refused(mode, "name: json, color: text").await;
        assert!(error.contains("column `name` of table \"public\".\"items\""), "{mode}: {error}");
        assert!(error.contains("`text`") && error.contains("`jsonb`"), "{mode}: {error}");
        assert!(error.contains("drop the view"), "{mode}: {error}");
        site.database().execute("DROP VIEW seen").await;
        site.run(mode, "name: json, color: text").await;
        assert_eq!(site.values("name").await, ["a", "B", "c"], "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn not_null_is_kept_and_a_null_is_refused() {
    for mode in [INCREMENTAL, FULL] {
        let site = altered(mode, "ALTER TABLE items ALTER name SET NOT NULL").await;
        site.run(mode, "name: text").await;
        assert_eq!(site.values("name").await, ["a", "B", "c"], "{mode}");
        let items: Value = json!([{ "id": 1, "at": 4, "name": null }]);
        site.serve(items);
        let error = site.refused(mode, "name: text").await;
        assert!(error.contains("\"name\"") && error.contains("NOT NULL"), "{mode}: {error}");
        site.database().execute("ALTER TABLE items ALTER name DROP NOT NULL").await;
        site.run(mode, "name: text").await;
        assert_eq!(site.values("name").await[0], "null", "{mode}");
    }
    for mode in [INCREMENTAL, FULL] {
        let own = "ALTER TABLE items ADD mine int NOT NULL DEFAULT 1; \
                   ALTER TABLE items ALTER mine DROP DEFAULT";
        let error = altered(mode, own).await.refused(mode, "name: text").await;
        assert!(error.contains("`mine`") && error.contains("NOT NULL"), "{mode}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_column_is_filled_again() {
    for kind in [Kind::Parquet, Kind::Jsonl] {
        let (site, other) = (Site::new(kind).await, Site::new(kind).await);
        for site in [&site, &other] {
            site.serve(json!([{ "id": 1, "at": 1, "name": "a" }, { "id": 2, "at": 2 }]));
        }
        site.run(INCREMENTAL, "name: text").await;
        other.run(INCREMENTAL, "note: text").await;
        fs::copy(other.file(), site.file()).unwrap();
        site.run(INCREMENTAL, "name: text").await;
        assert_eq!(site.values("name").await, ["a", "null"], "{kind:?}");
        assert_eq!(site.values("note").await, ["null"; 2], "{kind:?}");
        let told = site.warnings();
        assert!(told.iter().any(|text| text.contains("column `name` of `items.")), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_somebody_rewrote_are_merged_by_what_they_hold() {
    let site = Site::new(Kind::Jsonl).await.say("unknown: ignore");
    site.serve(json!([{ "id": 1, "at": 1, "name": "a" }, { "id": 2, "at": 2, "name": "b" }]));
    site.run(INCREMENTAL, "name: text").await;
    let edit = |of: &dyn Fn(&mut Value)| {
        let text = fs::read_to_string(site.file()).unwrap();
        let lines = text.lines().map(|line| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            of(&mut row);
            format!("{row}\n")
        });
        fs::write(site.file(), lines.collect::<String>()).unwrap();
    };
    edit(&|row| row["note"] = json!({ "of": row["id"] }));
    site.serve(json!([{ "id": 1, "at": 1, "name": "a" }, { "id": 2, "at": 3, "name": "B" }]));
    site.run(INCREMENTAL, "name: text").await;
    assert_eq!(site.values("note").await, [r#"{"of":1}"#, "null"]);
    edit(&|row| drop(row.as_object_mut().unwrap().remove("name")));
    site.run(INCREMENTAL, "name: text").await;
    assert_eq!(site.values("name").await, ["a", "B"]);
    edit(&|row| {
        if row["id"] == 2 {
            row["odd"] = json!(1);
        }
    });
    site.serve(json!([{ "id": 1, "at": 4, "name": "A" }]));
    let error = site.refused(INCREMENTAL, "name: text").await;
    assert!(error.contains("column `odd` is in some of the rows only"), "{error}");
}
