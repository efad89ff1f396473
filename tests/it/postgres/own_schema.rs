//! The schema of weir's own: what stands there, and when it goes.

use chrono::Utc;
use weir::{
    state::Holder,
    sync,
    write::{Disposition, Leftovers, Table, Target, postgres::Postgres},
};

use super::interruptions::STAGES;
use crate::support::{
    postgres::Database,
    target_contract::{SOME, load, people, table},
};

/// A table as a run of a replication writes it.
fn of(table: &Table, replication: &str, run_id: &str) -> Table {
    let (replication, run_id) = (replication.to_owned(), run_id.to_owned());
    Table { replication, run_id, ..table.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_staged_beside_the_schemas_of_the_user() {
    let database = Database::new().await;
    database
        .execute(
            "CREATE SCHEMA raw; \
             ALTER DEFAULT PRIVILEGES IN SCHEMA raw GRANT SELECT ON TABLES TO PUBLIC",
        )
        .await;
    let target = Postgres::new(database.options());
    for disposition in [Disposition::Replace, Disposition::Merge, Disposition::Truncate] {
        let table = table("raw.people", disposition);
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        writer.write(people(&table, &[(1, "Ann")])).await.unwrap();
        assert!(database.text(STAGES).await.starts_with("_weir."));
        writer.commit(&SOME, &[]).await.unwrap();
        assert!(database.texts(STAGES).await.is_empty());
        let all = "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class \
                   WHERE relnamespace IN ('raw'::regnamespace, '_weir'::regnamespace) ORDER BY 1";
        let all = database.texts(all).await;
        assert_eq!(all, ["_weir.tables", "_weir.tables_pkey", "raw.people", "raw.people_pkey"]);
        // As if the table had been made where it stands.
        let grants = "SELECT privilege_type FROM pg_class, aclexplode(relacl) \
                      WHERE relname = 'people' AND grantee = 0";
        assert_eq!(database.texts(grants).await, ["SELECT"], "{disposition:?}");
    }
}

/// What no run goes on with goes; what another replication's run has staged, and what is being written,
/// stays.
#[tokio::test(flavor = "multi_thread")]
async fn left_over_staging_is_removed() {
    let database = Database::new().await;
    let target = Postgres::new(database.options());
    let run = "20990101000000000";
    let mut stages = Vec::new();
    for (object, replication, run_id) in [
        ("gone", "nightly", format!("{run}aa")),
        ("going", "nightly", format!("{run}bb")),
        ("other", "weekly", format!("{run}cc")),
        ("old", "weekly", "20250101000000000dd".to_owned()),
    ] {
        let table = of(&table(object, Disposition::Replace), replication, &run_id);
        let before = database.texts(STAGES).await;
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        writer.write(people(&table, &[(1, "Ann")])).await.unwrap();
        writer.checkpoint(&[]).await.unwrap();
        drop(writer);
        let new = database.texts(STAGES).await;
        let stage = new.into_iter().find(|name| !before.contains(name)).unwrap();
        if object == "old" {
            // Nobody has gone on with it for long.
            let comment =
                format!("staging of weir''s replication weekly, run {run_id} (2025-01-01)");
            database.execute(&format!("COMMENT ON TABLE {stage} IS '{comment}'")).await;
        }
        stages.push(stage);
    }
    let busy = of(&table("busy", Disposition::Replace), "nightly", &format!("{run}aa"));
    let busy = target.open(&busy, None).await.unwrap().unwrap();
    let next = Postgres::new(database.options());
    super::interruptions::eventually(async || {
        next.tidy(&Leftovers::of("nightly", Some(&format!("{run}bb")), Utc::now())).await.unwrap();
        database.texts(STAGES).await.len() == 3
    })
    .await;
    let left = database.texts(STAGES).await;
    assert!(left.contains(&stages[1]) && left.contains(&stages[2]), "{left:?} of {stages:?}");
    busy.commit(&SOME, &[]).await.unwrap();
    // A reset forgets the run that would have gone on.
    let store = next.store("nightly").unwrap();
    let lock = store.lock(&Holder::here("r")).await.unwrap();
    drop(lock);
    sync::reset(&next, store.as_ref(), "nightly", &|_| true).await.unwrap();
    assert_eq!(database.texts(STAGES).await, [stages[2].clone()]);
}

/// Who may create nothing but tables in one schema stages there, and is told the better way.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_a_schema_rows_are_staged_beside_their_table() {
    let database = Database::new().await;
    let role = format!("{}_guest", database.name);
    database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'weir'; CREATE SCHEMA theirs; \
             GRANT USAGE, CREATE ON SCHEMA theirs TO {role}"
        ))
        .await;
    let mut options = database.options();
    options.user.clone_from(&role);
    let target = Postgres::new(options);
    let told = std::sync::Arc::new(weir::report::Recorded::default());
    let watch = weir::write::Watch {
        reporter: std::sync::Arc::<weir::report::Recorded>::clone(&told),
        ..weir::write::Watch::default()
    };
    target.set_watch(watch);
    let table = table("theirs.people", Disposition::Replace);
    let writer = target.open(&table, None).await.unwrap().unwrap();
    assert!(database.text(STAGES).await.starts_with("theirs."));
    writer.commit(&SOME, &[]).await.unwrap();
    load(&target, &table, &[(1, "Ann")]).await;
    let events = format!("{:?}", told.events());
    assert_eq!(events.matches("GRANT USAGE, CREATE ON SCHEMA _weir").count(), 1, "{events}");
    // Where it was made for it, it is used.
    database.execute(&format!("CREATE SCHEMA _weir AUTHORIZATION {role}")).await;
    let writer = target.open(&table, None).await.unwrap().unwrap();
    assert!(database.text(STAGES).await.starts_with("_weir."));
    writer.commit(&SOME, &[]).await.unwrap();
    drop(target);
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
