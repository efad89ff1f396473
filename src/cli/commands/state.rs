//! `weir sync status` and `weir sync reset`: the saved state of a replication's streams.

use std::{
    collections::BTreeMap,
    io::{BufRead, IsTerminal},
};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::cli::args::Shared;
use crate::cli::commands::loaded::LoadedReplication;
use crate::cli::exit::Exit;
use crate::cli::output::printer;
use crate::error::{Error, Result};
use crate::plan::Selection;
use crate::progress::saved::{SavedState, StreamState};
use crate::sync;

/// The saved state of a replication and the row counts of its tables, as printed by `weir sync status --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Status {
    /// Name of the replication.
    replication: String,
    /// The unfinished run: it is still running, or `weir sync run` resumes it.
    open_run: Option<OpenRunStatus>,
    /// The streams, in the order of the spec.
    streams: Vec<SavedStream>,
    /// The damaged part of the saved state, which is ignored.
    damage: Option<String>,
}

/// An unfinished run.
#[derive(Debug, Serialize, JsonSchema)]
struct OpenRunStatus {
    /// Its id.
    run_id: String,
    /// When it began, in RFC 3339.
    started_at: String,
}

/// The saved progress of a stream in an unfinished run.
#[derive(Debug, Serialize, JsonSchema)]
struct OpenStreamStatus {
    /// Rows.
    rows: u64,
    /// Requests sent, retries included.
    requests: u64,
}

/// The saved state of a stream, and the row count of its table.
#[derive(Debug, Serialize, JsonSchema)]
struct SavedStream {
    /// Stream.
    stream: String,
    /// `never` if it was not read yet, `open` in an unfinished run, or how it last ended: `done`, `fed`,
    /// `fresh`, `failed` or `interrupted`.
    state: String,
    /// Its table or file; null if the stream only feeds others, or is no longer part of the replication.
    object: Option<String>,
    /// Number of rows of the table, without rows that are marked as deleted; null if there is no table, or
    /// if counting the rows would require downloading its files.
    rows: Option<u64>,
    /// Its progress in the unfinished run.
    open: Option<OpenStreamStatus>,
    /// When it was last read successfully, in RFC 3339.
    read_at: Option<String>,
    /// Start of the last full read, in RFC 3339.
    complete_at: Option<String>,
    /// The table contains all changes up to this value of the cursor.
    cursor: Option<String>,
    /// Number of refused slices that have not been read since.
    refused: usize,
    /// Why it last failed.
    error: Option<String>,
    /// Reasons why rows may be missing or deletes may not be detected.
    notes: Vec<String>,
}

pub(crate) fn status(loaded: &LoadedReplication, shared: Shared) -> Result<Exit> {
    let store = loaded.store()?;
    let tables = loaded.tables()?;
    let (saved, counts) = crate::cli::exit::runtime()?.block_on(async {
        let saved = SavedState::read(store.load().await?)?;
        let mut counts: BTreeMap<String, Result<Option<u64>>> = BTreeMap::new();
        for (name, table) in tables.iter().filter(|(name, _)| saved.streams.contains_key(*name)) {
            counts.insert(name.clone(), loaded.target().count(table).await);
        }
        Ok::<_, Error>((saved, counts))
    })?;
    let mut streams: Vec<(&String, &StreamState)> = saved.streams.iter().collect();
    streams.sort_by_key(|(name, _)| loaded.position(name));
    let streams = streams.into_iter().map(|(name, state)| {
        let mut status = stream_status(loaded, name, state);
        status.object = tables.get(name).map(|table| table.object.clone());
        match counts.get(name) {
            Some(Ok(rows)) => status.rows = *rows,
            Some(Err(error)) => {
                status.notes.push(format!("the rows could not be counted: {}", error.chain()));
            }
            None => {}
        }
        status
    });
    let status = Status {
        replication: loaded.name().to_owned(),
        open_run: saved.run.as_ref().map(|run| OpenRunStatus {
            run_id: run.id.clone(),
            started_at: rfc3339(run.started_at),
        }),
        streams: streams.collect(),
        damage: store.damage(),
    };
    if let Some(damage) = &status.damage {
        printer::info(&format!("note: {damage}; the status shows only the undamaged part"));
    }
    if shared.json {
        printer::json(&status);
        return Ok(Exit::Done);
    }
    let now = Utc::now();
    if let Some(run) = &saved.run {
        let since = run.started_at.format("%Y-%m-%d %H:%M:%S UTC");
        printer::data(&format!(
            "Run {} of {since} is not finished: it is still running, or `weir sync run` resumes it.",
            run.id
        ));
    }
    if status.streams.is_empty() {
        printer::data(&format!("no saved state for `{}`", loaded.name()));
        return Ok(Exit::Done);
    }
    let head = ["stream", "state", "read", "complete", "rows", "cursor", "refused", "last error"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(status.streams.iter().map(|stream| row(stream, now)));
    printer::data(&printer::table(&rows, &[4, 6]));
    for stream in &status.streams {
        for note in &stream.notes {
            printer::data(&format!("{}: {note}", stream.stream));
        }
    }
    if saved.streams.values().any(|state| state.refused_slices.iter().any(|failed| !failed.recurs))
    {
        printer::data("`weir sync retry-failed` requests the refused slices again");
    }
    Ok(Exit::Done)
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.format("%FT%TZ").to_string()
}

/// The status of a stream, without its table.
fn stream_status(loaded: &LoadedReplication, name: &str, state: &StreamState) -> SavedStream {
    let last = state.last.as_ref();
    let word = match (&state.open, last) {
        (Some(_), _) => "open".to_owned(),
        (None, Some(last)) => word(last.report.status),
        (None, None) => "never".to_owned(),
    };
    let cursor = state.cursor.map(|cursor| {
        if loaded.has_numeric_cursor(name) {
            cursor.to_string()
        } else {
            rfc3339(DateTime::from_timestamp_micros(cursor).unwrap_or_default())
        }
    });
    let gaps = last.into_iter().flat_map(|last| &last.report.gaps);
    SavedStream {
        stream: name.to_owned(),
        state: word,
        object: None,
        rows: None,
        open: state.open.as_ref().map(|open| OpenStreamStatus {
            rows: open.counts.rows,
            requests: open.counts.requests,
        }),
        read_at: last.filter(|last| last.is_done()).map(|last| rfc3339(last.at)),
        complete_at: state.complete_at.map(rfc3339),
        cursor,
        refused: state.refused_slices.len(),
        error: last.and_then(|last| last.report.error.clone()),
        notes: gaps.chain(&state.deletes_disabled).cloned().collect(),
    }
}

fn row(stream: &SavedStream, now: DateTime<Utc>) -> Vec<String> {
    let ago = |time: &Option<String>| {
        let time = time.as_deref().and_then(|time| DateTime::parse_from_rfc3339(time).ok());
        time.map_or("never".to_owned(), |time| age(now - time.to_utc()))
    };
    vec![
        stream.stream.clone(),
        stream.state.clone(),
        ago(&stream.read_at),
        ago(&stream.complete_at),
        stream.rows.map(printer::grouped).unwrap_or_default(),
        stream.cursor.clone().unwrap_or_default(),
        stream.refused.to_string(),
        stream.error.clone().unwrap_or_default(),
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

pub(crate) fn reset(
    loaded: &LoadedReplication,
    wanted: &Selection,
    yes: bool,
    shared: Shared,
) -> Result<Exit> {
    let store = loaded.store()?;
    let runtime = crate::cli::exit::runtime()?;
    let entries = runtime.block_on(store.load())?;
    let (saved, unreadable) = SavedState::read_leniently(entries);
    let names: Vec<&str> =
        saved.streams.keys().map(String::as_str).filter(|name| wanted.contains(name)).collect();
    if let Some(pattern) = loaded.unmatched(wanted) {
        let what = format!("no stream matches `{pattern}`");
        return Err(Error::input(what).with_hint("`weir sync status` lists the streams"));
    }
    let is_empty = names.is_empty() && saved.run.is_none() && unreadable.is_empty();
    if !is_empty && !yes && !confirmed(&names)? {
        printer::info("nothing was changed");
        return Ok(Exit::Done);
    }
    let chosen = |name: &str| wanted.contains(name);
    let reset = sync::reset(loaded.target(), store.as_ref(), loaded.name(), &chosen);
    let forgotten = runtime.block_on(reset)?;
    if shared.json {
        printer::json(&json!({ "forgotten": forgotten }));
    } else if is_empty {
        printer::info("these streams have no saved state");
    } else {
        let count = printer::counted(forgotten.len() as u64, "stream");
        let them = if forgotten.len() == 1 { "it" } else { "them" };
        printer::data(&format!(
            "deleted the saved state of {count}; the next run reads {them} from the start"
        ));
    }
    Ok(Exit::Done)
}

fn confirmed(names: &[&str]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::input("`weir sync reset` asks for confirmation")
            .with_hint("add `--yes` if there is no terminal"));
    }
    printer::info(&format!(
        "This deletes the cursors and the progress of {}, and discards an unfinished run.\n\
         Tables stay unchanged. Continue? [y/N]",
        names.join(", ")
    ));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).ok();
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
