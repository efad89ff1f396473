//! `weir sync status` and `weir sync reset`: what is remembered of a replication's streams.

use std::io::{BufRead, IsTerminal};

use chrono::{DateTime, Utc};
use serde_json::json;

use super::{Exit, args::Shared, printer, sync::Prepared};
use crate::engine::{Recall, StreamState};
use crate::error::{Error, Result};
use crate::plan::Selection;
use crate::sync;

pub(super) fn status(prepared: &Prepared, shared: Shared) -> Result<Exit> {
    let store = prepared.store()?;
    let recall = super::runtime()?.block_on(async { Recall::read(store.load().await?) })?;
    if shared.json {
        printer::json(&json!({
            "replication": prepared.name(),
            "open_run": recall.run,
            "streams": recall.streams,
        }));
        return Ok(Exit::Done);
    }
    let now = Utc::now();
    if let Some(run) = &recall.run {
        let since = run.started_at.format("%Y-%m-%d %H:%M:%S UTC");
        printer::data(&format!(
            "The run {} of {since} has not ended: `weir sync run` continues it, or it is under way.",
            run.id
        ));
    }
    if recall.streams.is_empty() {
        printer::data(&format!("nothing is saved for `{}`", prepared.name()));
        return Ok(Exit::Done);
    }
    let head = ["stream", "state", "read", "complete", "rows", "cursor", "refused", "last error"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut streams: Vec<(&String, &StreamState)> = recall.streams.iter().collect();
    streams.sort_by_key(|(name, _)| prepared.position(name));
    rows.extend(streams.iter().map(|(name, state)| row(prepared, name, state, now)));
    printer::data(&printer::table(&rows, &[4, 6]));
    for (name, state) in streams {
        let gaps = state.last.iter().flat_map(|last| &last.report.gaps);
        for gap in gaps.chain(&state.no_deletes) {
            printer::data(&format!("{name}: {gap}"));
        }
    }
    if recall.streams.values().any(|state| state.failed.iter().any(|failed| !failed.recurs)) {
        printer::data("`weir sync retry-failed` asks for the refused slices again");
    }
    Ok(Exit::Done)
}

fn row(prepared: &Prepared, name: &str, state: &StreamState, now: DateTime<Utc>) -> Vec<String> {
    let last = state.last.as_ref();
    let (word, rows) = match (&state.open, last) {
        (Some(open), _) => ("open".to_owned(), open.counts.rows),
        (None, Some(last)) => (word(last.report.status), last.report.rows),
        (None, None) => ("never".to_owned(), 0),
    };
    let ago = |time: Option<DateTime<Utc>>| time.map_or("never".to_owned(), |time| age(now - time));
    let read = last.filter(|last| last.is_done()).map(|last| last.at);
    let time = |cursor| DateTime::from_timestamp_micros(cursor).unwrap_or_default();
    let cursor = state.cursor.map(|cursor| {
        if prepared.has_number_for_cursor(name) {
            cursor.to_string()
        } else {
            time(cursor).format("%FT%TZ").to_string()
        }
    });
    vec![
        name.to_owned(),
        word,
        ago(read),
        ago(state.complete_at),
        printer::grouped(rows),
        cursor.unwrap_or_default(),
        state.failed.len().to_string(),
        last.and_then(|last| last.report.error.clone()).unwrap_or_default(),
    ]
}

fn word(status: crate::report::StreamStatus) -> String {
    let name = serde_json::to_value(status).ok();
    name.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A time span in its largest unit.
fn age(span: chrono::TimeDelta) -> String {
    let seconds = span.num_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

pub(super) fn reset(
    prepared: &Prepared,
    wanted: &Selection,
    yes: bool,
    shared: Shared,
) -> Result<Exit> {
    let store = prepared.store()?;
    let runtime = super::runtime()?;
    let recall = runtime.block_on(async { Recall::read(store.load().await?) })?;
    let names: Vec<&str> =
        recall.streams.keys().map(String::as_str).filter(|name| wanted.contains(name)).collect();
    if let Some(strange) = prepared.strange(wanted) {
        let what = format!("no stream matches `{strange}`");
        return Err(Error::input(what).with_hint("`weir sync status` shows the streams"));
    }
    if names.is_empty() && recall.run.is_none() {
        printer::talk("nothing is saved of these streams");
        return Ok(Exit::Done);
    }
    if !yes && !confirmed(&names)? {
        printer::talk("nothing was changed");
        return Ok(Exit::Done);
    }
    let kept = (store.as_ref(), prepared.name());
    let chosen = |name: &str| wanted.contains(name);
    let forgotten = runtime.block_on(sync::reset(prepared.target(), kept, &chosen))?;
    if shared.json {
        printer::json(&json!({ "forgotten": forgotten }));
    } else {
        let count = printer::counted(forgotten.len() as u64, "stream");
        printer::data(&format!("forgotten: {count}; the next run reads them anew"));
    }
    Ok(Exit::Done)
}

fn confirmed(names: &[&str]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::input("nobody can be asked here").with_hint("say `--yes`"));
    }
    printer::talk(&format!(
        "This forgets the cursors and the progress of {}, and a run that has not ended.\n\
         Tables stay as they are. Go on? [y/N]",
        names.join(", ")
    ));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).ok();
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
