//! Columns of which the spec changes the type.

use serde_json::{Value, json};

use super::site::{FULL, INCREMENTAL, KINDS, Kind, Site};

/// Types before and after, a value, and what it becomes.
fn widenings() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    let time = || json!("2026-01-12T09:30:11.204Z");
    vec![
        ("int", "float", json!(5), "5"),
        ("int", "text", json!(-5), "-5"),
        ("int", "json", json!(5), "5"),
        ("float", "text", json!(1.5), "1.5"),
        ("float", "json", json!(1.5), "1.5"),
        ("decimal", "text", json!("1.25"), "1.25"),
        ("bool", "text", json!(true), "true"),
        ("bool", "json", json!(true), "true"),
        ("date", "timestamp", json!("2026-01-12"), "2026-01-12T00:00:00Z"),
        ("date", "text", json!("2026-01-12"), "2026-01-12"),
        ("timestamp", "text", time(), "2026-01-12T09:30:11.204Z"),
        ("timestamp", "json", time(), "2026-01-12T09:30:11.204Z"),
        ("text", "json", json!("a \"b\""), "a \"b\""),
        ("json", "text", json!("word"), "word"),
        ("bytes", "text", json!("AP8="), "AP8="),
        ("bytes", "json", json!("AP8="), "AP8="),
    ]
}

fn columns<'kind>(kinds: impl Iterator<Item = &'kind str>) -> String {
    let columns = kinds.enumerate().map(|(number, kind)| format!("c{number}: {kind}"));
    columns.collect::<Vec<_>>().join(", ")
}

/// The second row is gone from the source, so that its old values are converted, and not read again.
#[tokio::test(flavor = "multi_thread")]
async fn a_wider_type_takes_the_old_values_with_it() {
    let cases = widenings();
    let before = columns(cases.iter().map(|case| case.0));
    let after = columns(cases.iter().map(|case| case.1));
    for kind in KINDS {
        for mode in [FULL, INCREMENTAL] {
            let site = Site::new(kind).await;
            let item = |id: i64| {
                let mut item = json!({ "id": id, "at": id });
                for (number, (.., value, _)) in cases.iter().enumerate() {
                    item[format!("c{number}")] = value.clone();
                }
                item
            };
            site.serve(json!([item(1), item(2), { "id": 3, "at": 3 }]));
            site.run(mode, &before).await;
            site.serve(json!([item(1), { "id": 3, "at": 3 }]));
            site.run(mode, &after).await;
            for (number, (from, to, _, expected)) in cases.iter().enumerate() {
                let found = site.values(&format!("c{number}")).await;
                let mut wanted = vec![*expected, *expected, "null"];
                if mode == FULL {
                    wanted.remove(0);
                }
                assert_eq!(found, wanted, "{kind:?} {mode}: {from} to {to}");
            }
            if kind == Kind::Postgres {
                let types = "SELECT string_agg(format_type(atttypid, atttypmod), ' ' ORDER BY attnum) \
                             FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname ~ '^c[0-9]'";
                let found = site.database().text(types).await;
                assert!(found.starts_with("double precision text jsonb text jsonb"), "{found}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_numbers_become_decimals_and_keys_become_text() {
    for kind in KINDS {
        let site = Site::new(kind).await.say("unknown: ignore");
        site.serve(json!([{ "id": 1, "at": 1, "n": 9_007_199_254_740_993_i64, "k": 7 }]));
        site.run(INCREMENTAL, "n: int, k: int").await;
        site.serve(json!([]));
        site.run(INCREMENTAL, "n: decimal, k: text").await;
        let row = site.rows().await.unwrap().remove(0);
        let digits = row["n"].to_string();
        let digits = digits.trim_matches('"').trim_end_matches(".000000000").to_owned();
        assert_eq!((digits.as_str(), &row["k"]), ("9007199254740993", &json!("7")), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_cannot_take_the_old_values_is_refused_and_nothing_is_lost() {
    for (from, to, old, new) in [
        ("text", "int", json!("five"), json!(5)),
        ("float", "int", json!(1.5), json!(1)),
        ("timestamp", "date", json!("2026-01-12T09:30:11.204Z"), json!("2026-01-12")),
        ("json", "int", json!({ "a": 1 }), json!(1)),
        ("text", "timestamp", json!("soon"), json!("2026-01-12T09:30:11Z")),
        ("int", "bool", json!(1), json!(true)),
    ] {
        for kind in KINDS {
            let what = format!("{kind:?}: {from} to {to}");
            let site = Site::new(kind).await;
            site.serve(json!([{ "id": 1, "at": 1, "n": old }, { "id": 2, "at": 2 }]));
            site.run(INCREMENTAL, &format!("n: {from}")).await;
            site.serve(json!([{ "id": 1, "at": 3, "n": new }, { "id": 2, "at": 2 }]));
            let error = site.refused(INCREMENTAL, &format!("n: {to}")).await;
            assert!(error.contains("column `n`"), "{what}: {error}");
            assert!(error.contains("items"), "{what}: {error}");
            assert!(error.contains("columns: { n: … }"), "{what}: {error}");
            let types = match kind {
                Kind::Postgres => [sql(from), sql(to)],
                Kind::Parquet => [from, to],
                // Lines have no types: the value tells.
                Kind::Jsonl => ["in a row", to],
            };
            for part in types {
                assert!(error.contains(part), "{what}: {error}");
            }
            // The hint is true: under the old type the run goes through.
            site.serve(json!([{ "id": 1, "at": 4, "n": old }, { "id": 2, "at": 2 }]));
            site.run(INCREMENTAL, &format!("n: {from}")).await;
            assert_eq!(site.values("at").await, ["4", "2"], "{what}");
            // And so it does when all rows are replaced.
            site.serve(json!([{ "id": 1, "at": 5, "n": new }]));
            site.run(FULL, &format!("n: {to}")).await;
            assert_eq!(site.values("at").await, ["5"], "{what}");
            assert_ne!(site.values("n").await, ["null"], "{what}");
        }
    }
}

fn sql(kind: &str) -> &str {
    match kind {
        "int" => "bigint",
        "float" => "double precision",
        "timestamp" => "timestamp with time zone",
        "json" => "jsonb",
        "bool" => "boolean",
        other => other,
    }
}
