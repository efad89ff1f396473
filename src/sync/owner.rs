//! Ownership of the tables of a run. A run refuses tables of other owners before its first request.

use std::collections::BTreeMap;

use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::progress::saved::{SavedState, StreamState};
use crate::state::Store;
use crate::write::{Disposition, ExistingTable, Owner, Table, Target};

/// The existing tables in the target, by stream.
pub(crate) type ExistingTables = BTreeMap<String, ExistingTable>;

/// Reads which tables of a plan exist.
///
/// # Errors
/// Another session locks a table.
pub(crate) async fn existing_tables(plan: &Plan, target: &dyn Target) -> Result<ExistingTables> {
    let mut existing_tables = ExistingTables::new();
    for (name, table) in tables(plan) {
        match target.existing(table).await {
            Ok(Some(existing)) => drop(existing_tables.insert(name.to_owned(), existing)),
            Err(error) if error.kind() == Kind::Busy => {
                return Err(error.about(&format!("stream `{name}`")));
            }
            // If the table cannot be read, the stream will fail with the same error.
            Ok(None) | Err(_) => {}
        }
    }
    Ok(existing_tables)
}

/// The tables that a plan writes or creates, by stream.
fn tables(plan: &Plan) -> impl Iterator<Item = (&str, &Table)> {
    let outputs = plan.streams.iter().filter_map(|stream| stream.output.as_ref());
    let tables = outputs.map(|output| &output.table).chain(&plan.definitions);
    tables.map(|table| (table.stream.as_str(), table))
}

/// Fingerprint of the settings that determine how a stream is written.
fn writes<'plan>(plan: &'plan Plan, stream: &str) -> Option<&'plan str> {
    let stream = plan.streams.iter().find(|one| one.name == stream)?;
    Some(&stream.writes)
}

/// Refuses tables with rows that weir did not write, and tables of other replications or sources.
///
/// # Errors
/// Describes the first such table and names the other streams.
pub(crate) fn check(
    plan: &Plan,
    existing_tables: &ExistingTables,
    saved: &SavedState,
) -> Result<()> {
    let problems = tables(plan).filter_map(|(name, table)| {
        let existing = existing_tables.get(name)?;
        let (what, hint) = problem(table, writes(plan, name), existing, saved)?;
        Some((name, what, hint))
    });
    let problems: Vec<(&str, String, &str)> = problems.collect();
    let [(first, what, hint), others @ ..] = &*problems else { return Ok(()) };
    let others: Vec<String> = others.iter().map(|(name, ..)| format!("`{name}`")).collect();
    let likewise = match &*others {
        [] => String::new(),
        others => format!("; the same applies to {}", others.join(", ")),
    };
    Err(Error::input(format!("stream `{first}`: {what}{likewise}")).with_hint(*hint))
}

/// Checks whether a run of a plan may write its tables and is able to. Only reads the target and the
/// state.
///
/// # Errors
/// A run of the plan would be refused, or the state cannot be read.
pub async fn check_tables(plan: &Plan, target: &dyn Target, store: &dyn Store) -> Result<()> {
    let (saved, _) = SavedState::read_leniently(store.load().await?);
    check(plan, &existing_tables(plan, target).await?, &saved)?;
    // A resumed run keeps its tables.
    if saved.run.is_none() { check_schemas(plan, target).await } else { Ok(()) }
}

/// Refuses tables that cannot store the rows of their streams.
pub(crate) async fn check_schemas(plan: &Plan, target: &dyn Target) -> Result<()> {
    for (name, table) in tables(plan) {
        let fits = target.check_table(table).await;
        fits.map_err(|error| error.about(&format!("stream `{name}`")))?;
    }
    Ok(())
}

fn problem(
    table: &Table,
    writes: Option<&str>,
    existing: &ExistingTable,
    saved: &SavedState,
) -> Option<(String, &'static str)> {
    let object = &existing.object;
    let Some(owner) = &existing.owner else {
        let ours = existing.rows == Some(0) || knows(saved, table, writes, existing);
        let what = format!("`{object}` has rows that no known run of weir has written");
        let hint = "choose another `object`, or take the table over with `weir sync run --adopt`, which \
                    replaces its rows or merges them with those of the source";
        return (!ours).then_some((what, hint));
    };
    let Owner { replication, source, run_id, .. } = owner;
    if *replication != table.replication {
        let what = format!(
            "`{object}` belongs to the replication `{replication}` ({source}), whose run {run_id} \
             wrote it last; this replication is `{}`",
            table.replication
        );
        let hint = "a table has one owner: choose another `object`, or take it over with \
                    `weir sync run --adopt`";
        return Some((what, hint));
    }
    let other = table.source.as_ref().filter(|own| *own != source)?;
    let what = format!("`{object}` contains rows of {source}, but this run reads {other}");
    let hint = "put `{source}` into `object`, so that each source has its own table, or take the table \
                over with `weir sync run --adopt`";
    Some((what, hint))
}

/// Whether the saved state shows that a run of the replication has written an object or started to.
fn knows(
    saved: &SavedState,
    table: &Table,
    writes: Option<&str>,
    existing: &ExistingTable,
) -> bool {
    let state = saved.stream(&table.stream);
    let ended = [&state.succeeded, &state.last].into_iter().flatten();
    let mut written = ended.filter_map(|run| run.report.object.as_deref());
    let open = saved.run.as_ref().and_then(|run| run.streams.get(&table.stream));
    let opened = open.and_then(|stream| stream.object.as_ref());
    let shown = |shown: &str| shown == table.object || shown == existing.object;
    let same = writes.is_some_and(|writes| state.writes == writes);
    same || opened == Some(&table.object) || written.any(shown)
}

/// How a table differs from its state after the last run, as a clause. Only for tables with merges.
pub(crate) fn changed(
    table: &Table,
    existing: &ExistingTable,
    state: &StreamState,
    saved: &SavedState,
) -> Option<String> {
    let (object, owner) = (&existing.object, existing.owner.as_ref()?);
    if table.disposition != Disposition::Merge {
        return None;
    }
    let Owner { replication, source, .. } = owner;
    if *replication != table.replication || table.source.as_ref() != Some(source) {
        return Some(format!("`{object}` was last written by `{replication}`, from {source}"));
    }
    let run = saved.run.as_ref().map(|run| &run.id);
    if let Some(committed) = &state.committed
        && *committed != owner.run_id
        && run != Some(&owner.run_id)
    {
        let by = &owner.run_id;
        return Some(format!(
            "`{object}` was written by run {by}, which is not in the saved state"
        ));
    }
    let (before, now) = (owner.rows?, existing.rows?);
    let one = |rows: u64| if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
    (before != now)
        .then(|| format!("`{object}` has {}, but had {} after the last run", one(now), one(before)))
}
