//! The Postgres target, against a real server.

mod connecting;
mod dispositions;
mod freshness;
mod interruptions;
mod own_schema;
mod speed;
mod surroundings;
mod values;
mod waiting;

use weir::write::{Table, postgres::Postgres};

use crate::support::{
    postgres::Database,
    target_contract::{Subject, check},
};

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_the_contract() {
    let database = Database::new().await;
    let target = Postgres::new(database.options());
    check(Subject {
        target: &target,
        object: |name: &str| format!("contract.{name}"),
        read: async |table: &Table| database.rows(&table.object, &table.schema).await,
    })
    .await;
}
