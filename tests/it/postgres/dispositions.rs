//! What becomes of the table that is there, and of what hangs on it.

use std::fs;

use serde_json::json;
use weir::{
    error::Kind,
    schema::{Column, ColumnType, DELETED_AT},
    write::{CommitInfo, Deletable, Deletes, Disposition, Table, Target, postgres::Postgres},
};

use crate::support::{
    postgres::{Database, server},
    rows::{batch, rows, staged},
    target_contract::{SOME, load, names, people, table},
};

/// A database with a target and a table of people: 1 Ann, 2 Bo.
async fn loaded(disposition: Disposition) -> (Database, Postgres, Table) {
    let database = Database::new().await;
    let target = Postgres::new(database.options());
    let mut table = table("people", Disposition::Replace);
    load(&target, &table, &[(1, "Ann"), (2, "Bo")]).await;
    table.disposition = disposition;
    (database, target, table)
}

async fn found(database: &Database, table: &Table) -> Vec<String> {
    names(&database.rows(&table.object, &table.schema).await.unwrap())
}

const OID: &str = "SELECT 'people'::regclass::oid";

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_table_is_made_anew_with_its_key_grants_and_comments() {
    let (database, target, mut table) = loaded(Disposition::Replace).await;
    let role = format!("{}_reader", database.name);
    database
        .execute(&format!(
            "CREATE ROLE {role}; GRANT SELECT ON people TO {role} WITH GRANT OPTION; \
             GRANT INSERT ON people TO PUBLIC; COMMENT ON TABLE people IS 'it''s \\ here'; \
             COMMENT ON COLUMN people.id IS 'mine'; COMMENT ON COLUMN people.name IS 'old'"
        ))
        .await;
    let before = database.text(OID).await;
    table.schema.columns[1].doc = Some("a 'name' \\".to_owned());
    load(&target, &table, &[(3, "Cy")]).await;
    assert_ne!(database.text(OID).await, before, "it was not made anew");
    assert_eq!(found(&database, &table).await, ["3 Cy"]);
    let key = "SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint \
               WHERE conrelid = 'people'::regclass AND contype = 'p'";
    assert_eq!(database.text(key).await, "people_pkey PRIMARY KEY (id)");
    let columns = "SELECT attname FROM pg_attribute WHERE attrelid = 'people'::regclass \
                   AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
    assert_eq!(database.texts(columns).await, ["id", "name"]);
    let grants = "SELECT CASE grantee WHEN 0 THEN 'public' ELSE right(grantee::regrole::text, 6) \
                  END || ' ' || privilege_type || ' ' || is_grantable \
                  FROM pg_class, aclexplode(relacl) WHERE oid = 'people'::regclass \
                  AND grantee <> relowner ORDER BY 1";
    assert_eq!(database.texts(grants).await, ["public INSERT false", "reader SELECT true"]);
    let comments = "SELECT objsubid || description FROM pg_description \
                    WHERE objoid = 'people'::regclass ORDER BY objsubid";
    assert_eq!(database.texts(comments).await, ["0it's \\ here", "1mine", "2a 'name' \\"]);
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// Whatever hangs on the table is there afterwards, and so is the table.
#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_on_a_replaced_table_survives() {
    for (hanging, proof) in [
        ("CREATE VIEW hung AS SELECT * FROM people", "SELECT count(*) FROM hung"),
        ("CREATE MATERIALIZED VIEW hung AS SELECT * FROM people", "SELECT count(*) - 1 FROM hung"),
        (
            "CREATE INDEX hung ON people (name)",
            "SELECT count(*) FROM pg_index WHERE indexrelid = 'hung'::regclass",
        ),
        (
            "ALTER TABLE people ADD CONSTRAINT hung CHECK (id > 0)",
            "SELECT count(*) FROM pg_constraint WHERE conname = 'hung'",
        ),
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
             CREATE TRIGGER hung BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION f()",
            "SELECT count(*) FROM pg_trigger WHERE tgname = 'hung'",
        ),
        (
            "CREATE POLICY hung ON people USING (true)",
            "SELECT count(*) FROM pg_policy WHERE polname = 'hung'",
        ),
        (
            "CREATE RULE hung AS ON DELETE TO people DO ALSO NOTHING",
            "SELECT count(*) FROM pg_rewrite WHERE rulename = 'hung'",
        ),
        (
            "CREATE FUNCTION hung() RETURNS SETOF people LANGUAGE sql AS 'SELECT * FROM people'",
            "SELECT count(*) FROM hung()",
        ),
        (
            "CREATE STATISTICS hung ON id, name FROM people",
            "SELECT count(*) FROM pg_statistic_ext WHERE stxname = 'hung'",
        ),
        ("CREATE TABLE hung (one people)", "SELECT count(*) FROM pg_class WHERE relname = 'hung'"),
        ("CREATE TABLE hung () INHERITS (people)", "SELECT count(*) FROM people"),
        ("CREATE PUBLICATION hung FOR TABLE people", "SELECT count(*) FROM pg_publication_rel"),
        (
            "CREATE TABLE hung (id bigint REFERENCES people); INSERT INTO hung VALUES (1)",
            "SELECT count(*) FROM hung JOIN people USING (id)",
        ),
        (
            "ALTER TABLE people ADD COLUMN hung text DEFAULT 'x'",
            "SELECT count(*) FROM people WHERE hung = 'x'",
        ),
    ] {
        let (database, target, table) = loaded(Disposition::Replace).await;
        database.execute(hanging).await;
        let before = database.text(OID).await;
        load(&target, &table, &[(1, "Anna")]).await;
        assert_eq!(database.text(OID).await, before, "{hanging}");
        assert_eq!(database.text(proof).await, "1", "{hanging}");
        assert_eq!(found(&database, &table).await, ["1 Anna"], "{hanging}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_others_refer_to_cannot_vanish() {
    let (database, target, table) = loaded(Disposition::Replace).await;
    database
        .execute("CREATE TABLE pets (of bigint REFERENCES people); INSERT INTO pets VALUES (2)")
        .await;
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    writer.write(people(&table, &[(1, "Anna")])).await.unwrap();
    let error = writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap_err();
    assert!(error.hint().unwrap().contains("foreign key"), "{error:?}");
    assert_eq!(found(&database, &table).await, ["1 Ann", "2 Bo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_table_stays_and_keeps_columns_of_its_own() {
    let (database, target, mut table) = loaded(Disposition::Truncate).await;
    database.execute("ALTER TABLE people ADD COLUMN mine int").await;
    let before = database.text(OID).await;
    table.schema.columns.push(Column::new("born", ColumnType::Date));
    load(&target, &table, &[(3, "Cy")]).await;
    assert_eq!(database.text(OID).await, before);
    let columns = "SELECT attname FROM pg_attribute WHERE attrelid = 'people'::regclass \
                   AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
    assert_eq!(database.texts(columns).await, ["id", "name", "mine", "born"]);
    assert_eq!(found(&database, &table).await, ["3 Cy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_several_rows_with_one_key_stays() {
    for disposition in [Disposition::Replace, Disposition::Truncate, Disposition::Merge] {
        let (database, target, table) = loaded(disposition).await;
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        writer.write(people(&table, &[(1, "a"), (3, "c"), (1, "b")])).await.unwrap();
        writer.write(people(&table, &[(3, "d"), (4, "e"), (1, "f")])).await.unwrap();
        assert_eq!(
            writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap().rows,
            3,
            "{disposition:?}"
        );
        let mut expected = vec!["1 f", "3 d", "4 e"];
        if disposition == Disposition::Merge {
            expected.insert(1, "2 Bo");
        }
        assert_eq!(found(&database, &table).await, expected, "{disposition:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_leaves_unchanged_rows_alone() {
    let (database, target, mut table) = loaded(Disposition::Merge).await;
    let stamp = Column::new("_weir_synced_at", ColumnType::Timestamp);
    table.schema.columns.push(stamp);
    let stamped = |time: &str, name: &str| {
        let time = format!("2024-01-0{time}T00:00:00Z");
        rows(json!([
            { "id": 1, "name": "Ann", "_weir_synced_at": time },
            { "id": 2, "name": name, "_weir_synced_at": time },
        ]))
    };
    for (time, name) in [("1", "Bob"), ("2", "Bill")] {
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        writer.write(batch(&table.schema, &stamped(time, name))).await.unwrap();
        assert_eq!(
            writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap().rows,
            2
        );
    }
    let rows = database.texts(
        "SELECT id || ' ' || name || ' ' || coalesce(to_char(_weir_synced_at AT TIME ZONE 'UTC', \
         'DD'), 'never') FROM people ORDER BY id",
    );
    assert_eq!(rows.await, ["1 Ann never", "2 Bill 02"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_all_key_can_be_merged() {
    let (database, target, mut table) = loaded(Disposition::Merge).await;
    table.schema.key = vec!["id".to_owned(), "name".to_owned()];
    table.object = "pairs".to_owned();
    load(&target, &table, &[(1, "a"), (1, "b")]).await;
    load(&target, &table, &[(1, "b"), (2, "b")]).await;
    assert_eq!(found(&database, &table).await, ["1 a", "1 b", "2 b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_makes_the_unique_index_it_needs() {
    let (database, target, mut table) = loaded(Disposition::Merge).await;
    database.execute("CREATE TABLE bare (id bigint, name text); INSERT INTO bare VALUES (1)").await;
    table.object = "bare".to_owned();
    load(&target, &table, &[(1, "Ann"), (2, "Bo")]).await;
    assert_eq!(found(&database, &table).await, ["1 Ann", "2 Bo"]);
    load(&target, &table, &[(2, "Bob")]).await;
    let indexes = "SELECT count(*) FROM pg_index WHERE indrelid = 'bare'::regclass";
    assert_eq!(database.text(indexes).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_into_duplicates_is_refused_before_rows_move() {
    let (database, target, mut table) = loaded(Disposition::Merge).await;
    database
        .execute("CREATE TABLE twins (id bigint, name text); INSERT INTO twins VALUES (1), (1)")
        .await;
    table.object = "twins".to_owned();
    let error = target.open(&table, None).await.err().unwrap();
    let expected = r#"table "public"."twins" already has several rows with the same "id""#;
    assert_eq!(error.to_string(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_do_not_fit_are_refused_before_rows_move() {
    let misfits = [
        ("ALTER TABLE people ALTER name TYPE uuid USING NULL", Disposition::Append, "`uuid`"),
        ("ALTER TABLE people ALTER name TYPE int USING 1", Disposition::Append, ""),
        ("ALTER TABLE people ALTER name TYPE varchar(9)", Disposition::Truncate, "varying(9)"),
        ("ALTER TABLE people ADD mine int NOT NULL DEFAULT 1", Disposition::Merge, ""),
        (
            "ALTER TABLE people ADD mine int NOT NULL DEFAULT 1; \
             ALTER TABLE people ALTER mine DROP DEFAULT",
            Disposition::Merge,
            "NOT NULL",
        ),
        (
            "CREATE VIEW v AS SELECT id FROM people; ALTER TABLE people ALTER name TYPE xml USING \
             NULL",
            Disposition::Replace,
            "`xml`",
        ),
        ("ALTER TABLE people ALTER name TYPE varchar", Disposition::Append, ""),
        ("ALTER TABLE people ALTER name TYPE int USING 1", Disposition::Replace, ""),
    ];
    for (change, disposition, refusal) in misfits {
        let (database, target, table) = loaded(disposition).await;
        database.execute(change).await;
        match target.open(&table, None).await {
            Ok(writer) if refusal.is_empty() => {
                writer.unwrap().commit(&crate::support::target_contract::SOME, &[]).await.unwrap();
            }
            Ok(_) => panic!("{change}: not refused"),
            Err(error) => {
                assert!(!refusal.is_empty() && error.to_string().contains(refusal), "{error:?}");
                assert!(error.to_string().contains("column `"), "{error:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_table_is_not_written() {
    let (database, target, mut table) = loaded(Disposition::Replace).await;
    database.execute("CREATE VIEW seen AS SELECT * FROM people").await;
    table.object = "seen".to_owned();
    let error = target.open(&table, None).await.err().unwrap();
    assert_eq!(error.to_string(), r#""public"."seen" is a view, not a table"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_columns_are_added_and_lost_ones_stay() {
    for disposition in [Disposition::Append, Disposition::Merge] {
        let (database, target, mut table) = loaded(disposition).await;
        table.schema.columns[1] = Column::new("Nick \"name\"", ColumnType::Text);
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        let row = rows(json!([{ "id": 3, "Nick \"name\"": "C" }]));
        writer.write(batch(&table.schema, &row)).await.unwrap();
        writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap();
        let query = r#"SELECT id || coalesce(name, '-') || coalesce("Nick ""name""", '-')
                       FROM people ORDER BY id"#;
        assert_eq!(database.texts(query).await, ["1Ann-", "2Bo-", "3-C"], "{disposition:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_kind_are_kept_as_they_are() {
    let database = Database::new().await;
    let target = Postgres::new(database.options());
    let long = "é".repeat(31);
    let objects = [
        ("Mixed Case.select", r#""Mixed Case"."select""#),
        (r#""a.b"."c""d""#, r#""a.b"."c""d""#),
        ("x'; DROP SCHEMA public; --", r#""public"."x'; DROP SCHEMA public; --""#),
        (r"back\slash.\'", r#""back\slash"."\'""#),
        (long.as_str(), &format!("\"public\".\"{long}\"")),
        (&format!("{long}x"), &format!("\"public\".\"{long}x\"")),
    ];
    for (object, quoted) in objects {
        for disposition in [Disposition::Merge, Disposition::Replace, Disposition::Truncate] {
            let mut table = table(object, disposition);
            table.schema.columns[1].name = r#"a "b".C';--"#.to_owned();
            table.schema.columns[0].name = "ID; é".to_owned();
            table.schema.columns[0].doc = Some("it's \\ 'this'".to_owned());
            table.schema.key = vec!["ID; é".to_owned()];
            let row = rows(json!([{ "ID; é": 1, r#"a "b".C';--"#: "x" }]));
            let mut writer = target.open(&table, None).await.unwrap().unwrap();
            writer.write(batch(&table.schema, &row)).await.unwrap();
            assert_eq!(
                writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap().object,
                quoted
            );
            assert_eq!(database.rows(quoted, &table.schema).await.unwrap(), row);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_postgres_would_cut_off_are_refused() {
    let target = Postgres::new(Database::new().await.options());
    let long = "x".repeat(64);
    let mut wide = table("wide", Disposition::Replace);
    wide.schema.columns[1].name.clone_from(&long);
    let mut twice = table("twice", Disposition::Replace);
    twice.schema.columns.push(Column::new("id", ColumnType::Int));
    for (table, part) in [
        (table(&long, Disposition::Replace), "64 bytes"),
        (table(format!("{long}.x"), Disposition::Replace), "64 bytes"),
        (table("a.b.c", Disposition::Replace), "two parts"),
        (wide, "64 bytes"),
        (twice, "twice"),
    ] {
        let error = target.open(&table, None).await.err().unwrap();
        assert!(error.to_string().contains(part), "{error:?}");
        assert_eq!(error.kind(), Kind::Input);
        assert!(error.hint().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_need_one_new_schema_do_not_collide() {
    let database = Database::new().await;
    let opened = (0..8).map(|number| {
        let target = Postgres::new(database.options());
        let table = table(format!("fresh.t{number}"), Disposition::Replace);
        async move { load(&target, &table, &[(1, "Ann")]).await }
    });
    assert_eq!(futures_util::future::join_all(opened).await, [1; 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_finds_its_table_dropped_says_so() {
    let (database, target, table) = loaded(Disposition::Append).await;
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    writer.write(people(&table, &[(3, "Cy")])).await.unwrap();
    database.execute("DROP TABLE people").await;
    let error = writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap_err();
    assert!(error.to_string().contains("was dropped"), "{error:?}");
}

/// However many rows are staged, those that are gone are found by joins: the server's log tells its plans.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_gone_are_found_by_joins() {
    const ROWS: i64 = 3000;
    let database = Database::local().await;
    let settings = "session_preload_libraries = auto_explain; auto_explain.log_min_duration = 0; \
                    work_mem = '64kB'";
    for setting in settings.split(';') {
        database.execute(&format!("ALTER DATABASE {} SET {setting}", database.name)).await;
    }
    let target = Postgres::new(database.options());
    for (deletable, deletes) in [
        (Deletable::ReadParents, Deletes::Remove),
        (Deletable::Everything, Deletes::Remove),
        (Deletable::ReadParents, Deletes::Mark),
        (Deletable::Everything, Deletes::Mark),
    ] {
        let name = format!("{}_{deletable:?}_{deletes:?}", database.name).to_lowercase();
        let mut table = Table { deletes, ..table(name.as_str(), Disposition::Merge) };
        table.schema.columns.push(Column::new("parent", ColumnType::Int));
        table.schema.columns.push(Column::new(DELETED_AT, ColumnType::Timestamp));
        table.replaces = Some("parent".to_owned());
        let children = |ids: std::ops::Range<i64>| {
            let children = ids.map(|id| json!({ "id": id, "parent": id % 10 }));
            batch(&table.schema, &rows(children.collect()))
        };
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        writer.write(children(0..ROWS)).await.unwrap();
        writer.commit(&SOME, &[]).await.unwrap();
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        writer.write(children(ROWS / 2..ROWS)).await.unwrap();
        // The parent 9 was refused, and 8 is gone.
        for (parent, anew) in (0..8).map(|parent| (parent, true)).chain([(9, false)]) {
            let marker = rows(json!([{ "parent": parent }]));
            writer.write(staged(&table.schema, &marker, 1, Some(anew))).await.unwrap();
        }
        let ending = CommitInfo { deletable, ..SOME };
        let deleted = writer.commit(&ending, &[]).await.unwrap().deleted;
        let parents = if deletable == Deletable::Everything { 9 } else { 8 };
        assert_eq!(deleted, ROWS.cast_unsigned() / 20 * parents);
        let log = fs::read_to_string(format!("{}/log", server().folder)).unwrap();
        let plans = log.split("Query Text: ").skip(1);
        let gone =
            [format!("DELETE FROM \"public\".\"{name}\""), format!("UPDATE \"public\".\"{name}\"")];
        let plans: Vec<&str> = plans
            .filter(|plan| gone.iter().any(|gone| plan.starts_with(gone)))
            .map(|plan| plan.split("LOG: ").next().unwrap())
            .collect();
        assert_eq!(plans.len(), 1, "{name}");
        assert!(plans[0].contains("Anti Join") && !plans[0].contains("SubPlan"), "{}", plans[0]);
        // Of a table that was never analysed, Postgres may take the rows for few.
        assert!(!plans[0].contains("Join Filter: (old.id = new.id)"), "{}", plans[0]);
    }
}
