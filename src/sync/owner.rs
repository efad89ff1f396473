//! Whose the tables of a run are: what is not its own is refused before the first request.

use std::collections::BTreeMap;

use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::progress::saved::{SavedState, StreamState};
use crate::state::Store;
use crate::write::{Disposition, ExistingTable, Owner, Table, Target};

/// What stands in the target, by stream.
pub(crate) type Standings = BTreeMap<String, ExistingTable>;

/// Looks up what stands where a plan writes.
///
/// # Errors
/// Another session keeps weir from looking at a table.
pub(crate) async fn standings(plan: &Plan, target: &dyn Target) -> Result<Standings> {
    let mut standings = Standings::new();
    for (name, table) in tables(plan) {
        match target.existing(table).await {
            Ok(Some(standing)) => drop(standings.insert(name.to_owned(), standing)),
            Err(error) if error.kind() == Kind::Busy => {
                return Err(error.about(&format!("stream `{name}`")));
            }
            // What cannot be looked at, the stream itself will fail for.
            Ok(None) | Err(_) => {}
        }
    }
    Ok(standings)
}

/// The tables that a plan writes, or makes, by stream.
fn tables(plan: &Plan) -> impl Iterator<Item = (&str, &Table)> {
    let outputs = plan.streams.iter().filter_map(|stream| stream.output.as_ref());
    let tables = outputs.map(|output| &output.table).chain(&plan.definitions);
    tables.map(|table| (table.stream.as_str(), table))
}

/// How the rows of a stream are written, by its fingerprint.
fn writes<'plan>(plan: &'plan Plan, stream: &str) -> Option<&'plan str> {
    let stream = plan.streams.iter().find(|one| one.name == stream)?;
    Some(&stream.writes)
}

/// Refuses tables that have rows and are nobody's, and those of other replications or sources.
///
/// # Errors
/// Tells of the first such table, and names the other streams.
pub(crate) fn check(plan: &Plan, standings: &Standings, saved: &SavedState) -> Result<()> {
    let problems = tables(plan).filter_map(|(name, table)| {
        let table = (table, writes(plan, name));
        let (what, hint) = problem(table, standings.get(name)?, saved)?;
        Some((name, what, hint))
    });
    let problems: Vec<(&str, String, &str)> = problems.collect();
    let [(first, what, hint), others @ ..] = &*problems else { return Ok(()) };
    let others: Vec<String> = others.iter().map(|(name, ..)| format!("`{name}`")).collect();
    let likewise = match &*others {
        [] => String::new(),
        others => format!("; likewise {}", others.join(", ")),
    };
    Err(Error::input(format!("stream `{first}`: {what}{likewise}")).with_hint(*hint))
}

/// Checks whether a run of a plan may write its tables, and can. Reads target and state only.
///
/// # Errors
/// A run of the plan would be refused, or the state cannot be read.
pub async fn check_tables(plan: &Plan, target: &dyn Target, store: &dyn Store) -> Result<()> {
    let (saved, _) = SavedState::read_leniently(store.load().await?);
    check(plan, &standings(plan, target).await?, &saved)?;
    // A run that goes on writes what it has begun.
    if saved.run.is_none() { check_fit(plan, target).await } else { Ok(()) }
}

/// Refuses rows that a table could not take.
pub(crate) async fn check_fit(plan: &Plan, target: &dyn Target) -> Result<()> {
    for (name, table) in tables(plan) {
        let fits = target.check_table(table).await;
        fits.map_err(|error| error.about(&format!("stream `{name}`")))?;
    }
    Ok(())
}

fn problem(
    (table, writes): (&Table, Option<&str>),
    standing: &ExistingTable,
    saved: &SavedState,
) -> Option<(String, &'static str)> {
    let object = &standing.object;
    let Some(owner) = &standing.owner else {
        let ours = standing.rows == Some(0) || knows(saved, (table, writes), standing);
        let what = format!("`{object}` has rows, and no run of weir is known to have written them");
        let hint = "choose another `object`; or take the table over with `weir sync run --adopt`: its \
                    rows are then replaced, or merged with those of the source";
        return (!ours).then_some((what, hint));
    };
    let Owner { replication, source, run_id, .. } = owner;
    if *replication != table.replication {
        let what = format!(
            "`{object}` belongs to the replication `{replication}` ({source}), whose run {run_id} \
             wrote it last; this one is `{}`",
            table.replication
        );
        let hint = "a table has one owner: choose another `object`, or take it over with \
                    `weir sync run --adopt`";
        return Some((what, hint));
    }
    let other = table.source.as_ref().filter(|own| *own != source)?;
    let what = format!("`{object}` holds rows of {source}, and this run reads {other}");
    let hint = "put `{source}` into `object`, so that each source has a table of its own; or take the \
                table over with `weir sync run --adopt`";
    Some((what, hint))
}

/// Whether a run of the replication is known to have written an object, or to have begun to.
fn knows(
    saved: &SavedState,
    (table, writes): (&Table, Option<&str>),
    standing: &ExistingTable,
) -> bool {
    let state = saved.stream(&table.stream);
    let ended = [&state.succeeded, &state.last].into_iter().flatten();
    let mut written = ended.filter_map(|run| run.report.object.as_deref());
    let open = saved.run.as_ref().and_then(|run| run.streams.get(&table.stream));
    let opened = open.and_then(|stream| stream.object.as_ref());
    let shown = |shown: &str| shown == table.object || shown == standing.object;
    let same = writes.is_some_and(|writes| state.writes == writes);
    same || opened == Some(&table.object) || written.any(shown)
}

/// How a table differs from what the replication left there, as a clause; for tables that are merged into.
pub(crate) fn changed(
    table: &Table,
    standing: &ExistingTable,
    (state, saved): (&StreamState, &SavedState),
) -> Option<String> {
    let (object, owner) = (&standing.object, standing.owner.as_ref()?);
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
            "`{object}` was written by run {by}, which the saved state does not know"
        ));
    }
    let (before, now) = (owner.rows?, standing.rows?);
    let one = |rows: u64| if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
    (before != now)
        .then(|| format!("`{object}` has {}, and had {} after the last run", one(now), one(before)))
}
