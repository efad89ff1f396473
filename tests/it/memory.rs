//! The in-memory target keeps the contract that it stands in for.

use weir::write::{Table, memory::Memory};

use crate::support::{
    rows::rows_of,
    target_contract::{Subject, check},
};

#[tokio::test]
async fn the_in_memory_target_keeps_the_contract() {
    let memory = Memory::new();
    check(Subject {
        target: &memory,
        merges: true,
        object: |name: &str| name.to_owned(),
        read: async |table: &Table| Some(rows_of(&table.schema, &memory.batches(&table.object)?)),
    })
    .await;
    assert!(memory.objects().contains(&"merged".to_owned()));
}
