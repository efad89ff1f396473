//! What the database says of runs: how fresh each stream is, what was spent, who holds what.

use chrono::{TimeDelta, Utc};
use serde_json::json;
use weir::error::Kind;
use weir::plan::PlanOptions;
use weir::quota::account::LedgerUpdate;
use weir::quota::ledger::Ledger;
use weir::quota::terms::{BudgetLimit, Terms};
use weir::report::StreamStatus;
use weir::state::Holder;
use weir::sync::run_options::RunOptions;
use weir::write::Target;
use weir::write::postgres::{Postgres, PostgresLedger, PostgresOptions};

use crate::support::{
    fake::{Fake, How, REPLICATION, Reply},
    postgres::Database,
};

const SPEC: &str = "
name: shop
base_url: https://shop.test/v1/
test: { get: /ping }
streams:
  people: { doc: One., get: /people, key: [id], columns: { id: int, name: text } }
";

async fn view(database: &Database, column: &str) -> String {
    database
        .text(&format!("SELECT {column} FROM public._weir_streams WHERE stream = 'people'"))
        .await
}

/// A run that finds nothing new is told from one that did not take place.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_says_how_fresh_each_stream_is() {
    let database = Database::new().await;
    let fake = Fake::new(SPEC, |_| Reply::json(&json!([{ "id": 1, "name": "Ann" }])));
    let fake = fake.into_postgres(database.options());
    let first = fake.run().await;
    assert_eq!(view(&database, "object").await, "public.people");
    assert_eq!(view(&database, "run_id").await, first.report.run_id);
    assert_eq!(view(&database, "rows || ' ' || refused").await, "1 0");
    let success = view(&database, "last_success").await;
    assert_eq!(view(&database, "complete_reading IS NOT NULL").await, "true");
    fake.answer(|_| Reply::status(400, &json!({})));
    let options = PlanOptions::default();
    let how = How { replication: REPLICATION, options: &options, beginning: RunOptions::now() };
    let failed = fake.try_run(how).await.unwrap();
    assert_eq!(failed.stream("people").status, StreamStatus::Failed);
    assert_eq!(view(&database, "last_success").await, success);
    assert_eq!(view(&database, "run_id").await, first.report.run_id);
    fake.answer(|_| Reply::json(&json!([{ "id": 1, "name": "Ann" }])));
    let last = fake.run().await;
    assert_eq!(view(&database, "run_id").await, last.report.run_id);
    let later = format!("last_success > '{success}'");
    assert_eq!(view(&database, &later).await, "true");
}

/// Where a user's view has taken the place, the run goes on without.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_cannot_be_made_stops_no_run() {
    let database = Database::new().await;
    database.execute("CREATE TABLE public._weir_streams (mine text)").await;
    let fake = Fake::new(SPEC, |_| Reply::json(&json!([{ "id": 1, "name": "Ann" }])));
    let ran = fake.into_postgres(database.options()).run().await;
    assert_eq!(ran.stream("people").status, StreamStatus::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_kept_out_is_told_that_it_is_busy() {
    let database = Database::new().await;
    let target = Postgres::new(database.options());
    let store = target.store("nightly").unwrap();
    let lock = store.lock(&Holder::here("first")).await.unwrap();
    let error = store.lock(&Holder::here("second")).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Busy, "{error:?}");
    drop(lock);
}

const TERMS: Terms = Terms {
    per_window: 1000,
    window: TimeDelta::hours(1),
    budget: BudgetLimit::Share(1.0),
    max_wait: TimeDelta::hours(1),
};

/// Points are counted in one place, whatever schemas the tables are in, and what was counted elsewhere before
/// is taken over.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_has_a_fixed_place() {
    let database = Database::new().await;
    database
        .execute(
            "CREATE TABLE public._weir_ledger (connection text PRIMARY KEY, account text NOT NULL, \
                 changed_at timestamptz NOT NULL); \
             INSERT INTO public._weir_ledger VALUES ('site', '{}', now())",
        )
        .await;
    let now = Utc::now();
    for schema in ["raw", "mart"] {
        let options = PostgresOptions { schema: schema.to_owned(), ..database.options() };
        let visit = LedgerUpdate::new("ann", TERMS, now);
        PostgresLedger::new(options).exchange(schema, &visit).await.unwrap();
    }
    let counted = "SELECT connection FROM _weir._weir_ledger ORDER BY 1";
    assert_eq!(database.texts(counted).await, ["mart", "raw", "site"]);
    let places = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = '_weir_ledger' \
                  ORDER BY 1";
    assert_eq!(database.texts(places).await, ["_weir", "public"]);
}
