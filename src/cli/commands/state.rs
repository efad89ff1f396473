//! `weir sync status` and `weir sync reset`: what is remembered of a replication's streams.

use std::{
    collections::BTreeMap,
    io::{BufRead, IsTerminal},
};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::cli::args::Shared;
use crate::cli::commands::prepared::Prepared;
use crate::cli::exit::Exit;
use crate::cli::output::printer;
use crate::error::{Error, Result};
use crate::plan::Selection;
use crate::progress::saved::{SavedState, StreamState};
use crate::sync;

/// What is remembered of a replication and what its tables hold: what `weir sync status --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Status {
    /// Name of the replication.
    replication: String,
    /// The run that has not ended: it is under way, or `weir sync run` continues it.
    open_run: Option<OpenRunStatus>,
    /// The streams, in the order of the spec.
    streams: Vec<StreamStatus>,
    /// What of the saved state was damaged, and so left out.
    damage: Option<String>,
}

/// A run that has not ended.
#[derive(Debug, Serialize, JsonSchema)]
struct OpenRunStatus {
    /// Its id.
    run_id: String,
    /// When it began, in RFC 3339.
    started_at: String,
}

/// What a run that has not ended has read of a stream, and saved.
#[derive(Debug, Serialize, JsonSchema)]
struct OpenStreamStatus {
    /// Rows.
    rows: u64,
    /// Requests sent, retries included.
    requests: u64,
}

/// What is remembered of a stream, and what its table holds.
#[derive(Debug, Serialize, JsonSchema)]
struct StreamStatus {
    /// Stream.
    stream: String,
    /// `never` read, `open` in a run that has not ended, or how it last ended: `done`, `fed`, `fresh`, `failed` or
    /// `interrupted`.
    state: String,
    /// Its table or file; null where the stream only feeds others, or is not part of the replication now.
    object: Option<String>,
    /// Rows of the table, without those that are marked as deleted; null where there is no table, or where
    /// its files would have to be fetched to count them.
    rows: Option<u64>,
    /// What the run that has not ended has read of it.
    open: Option<OpenStreamStatus>,
    /// When it was last read without failing, in RFC 3339.
    read_at: Option<String>,
    /// Start of the last run that read everything, in RFC 3339.
    complete_at: Option<String>,
    /// All that changed up to this value of its cursor is in the table.
    cursor: Option<String>,
    /// Slices that the API refused and that are still to be read.
    refused: usize,
    /// Why it last failed.
    error: Option<String>,
    /// What says that rows may be missing, or that deletes are not noticed.
    notes: Vec<String>,
}

pub(crate) fn status(prepared: &Prepared, shared: Shared) -> Result<Exit> {
    let store = prepared.store()?;
    let tables = prepared.tables()?;
    let (saved, counts) = crate::cli::exit::runtime()?.block_on(async {
        let saved = SavedState::read(store.load().await?)?;
        let mut counts: BTreeMap<String, Result<Option<u64>>> = BTreeMap::new();
        for (name, table) in tables.iter().filter(|(name, _)| saved.streams.contains_key(*name)) {
            counts.insert(name.clone(), prepared.target().count(table).await);
        }
        Ok::<_, Error>((saved, counts))
    })?;
    let mut streams: Vec<(&String, &StreamState)> = saved.streams.iter().collect();
    streams.sort_by_key(|(name, _)| prepared.position(name));
    let streams = streams.into_iter().map(|(name, state)| {
        let mut status = stream_status(prepared, name, state);
        status.object = tables.get(name).map(|table| table.object.clone());
        match counts.get(name) {
            Some(Ok(rows)) => status.rows = *rows,
            Some(Err(error)) => {
                status.notes.push(format!("its rows cannot be counted: {}", error.chain()));
            }
            None => {}
        }
        status
    });
    let status = Status {
        replication: prepared.name().to_owned(),
        open_run: saved.run.as_ref().map(|run| OpenRunStatus {
            run_id: run.id.clone(),
            started_at: rfc3339(run.started_at),
        }),
        streams: streams.collect(),
        damage: store.damage(),
    };
    if let Some(damage) = &status.damage {
        printer::talk(&format!("note: {damage}; this is what is whole"));
    }
    if shared.json {
        printer::json(&status);
        return Ok(Exit::Done);
    }
    let now = Utc::now();
    if let Some(run) = &saved.run {
        let since = run.started_at.format("%Y-%m-%d %H:%M:%S UTC");
        printer::data(&format!(
            "The run {} of {since} has not ended: `weir sync run` continues it, or it is under way.",
            run.id
        ));
    }
    if status.streams.is_empty() {
        printer::data(&format!("nothing is saved for `{}`", prepared.name()));
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
        printer::data("`weir sync retry-failed` asks for the refused slices again");
    }
    Ok(Exit::Done)
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.format("%FT%TZ").to_string()
}

/// What is remembered of a stream.
fn stream_status(prepared: &Prepared, name: &str, state: &StreamState) -> StreamStatus {
    let last = state.last.as_ref();
    let word = match (&state.open, last) {
        (Some(_), _) => "open".to_owned(),
        (None, Some(last)) => word(last.report.status),
        (None, None) => "never".to_owned(),
    };
    let cursor = state.cursor.map(|cursor| {
        if prepared.has_number_for_cursor(name) {
            cursor.to_string()
        } else {
            rfc3339(DateTime::from_timestamp_micros(cursor).unwrap_or_default())
        }
    });
    let gaps = last.into_iter().flat_map(|last| &last.report.gaps);
    StreamStatus {
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

fn row(stream: &StreamStatus, now: DateTime<Utc>) -> Vec<String> {
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
    prepared: &Prepared,
    wanted: &Selection,
    yes: bool,
    shared: Shared,
) -> Result<Exit> {
    let store = prepared.store()?;
    let runtime = crate::cli::exit::runtime()?;
    let entries = runtime.block_on(store.load())?;
    let (saved, strange) = SavedState::read_leniently(entries);
    let names: Vec<&str> =
        saved.streams.keys().map(String::as_str).filter(|name| wanted.contains(name)).collect();
    if let Some(strange) = prepared.strange(wanted) {
        let what = format!("no stream matches `{strange}`");
        return Err(Error::input(what).with_hint("`weir sync status` shows the streams"));
    }
    let is_empty = names.is_empty() && saved.run.is_none() && strange.is_empty();
    if !is_empty && !yes && !confirmed(&names)? {
        printer::talk("nothing was changed");
        return Ok(Exit::Done);
    }
    let kept = (store.as_ref(), prepared.name());
    let chosen = |name: &str| wanted.contains(name);
    let forgotten = runtime.block_on(sync::reset(prepared.target(), kept, &chosen))?;
    if shared.json {
        printer::json(&json!({ "forgotten": forgotten }));
    } else if is_empty {
        printer::talk("nothing is saved of these streams");
    } else {
        let count = printer::counted(forgotten.len() as u64, "stream");
        printer::data(&format!("forgotten: {count}; the next run reads them anew"));
    }
    Ok(Exit::Done)
}

fn confirmed(names: &[&str]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::input("this needs your confirmation")
            .with_hint("without a terminal, add `--yes`"));
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
