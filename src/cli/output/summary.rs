//! The summary of a run as text.

use indexmap::IndexMap;

use crate::cli::output::printer::{
    counted, elapsed, error_text, grouped, label, rate, table, width_of,
};
use crate::report::{ColumnReport, Planned, PointsReport, SliceError, StreamReport, StreamStatus};
use crate::secret::on_a_line;
use crate::sync::report::{RunReport, RunStatus};

/// Maximum number of refused slices that are shown; the rest is counted.
const SHOWN_ERRORS: usize = 10;

/// Maximum number of streams that are named if several failed with the same error.
const NAMED: usize = 3;

const HEAD: [&str; 12] = [
    "stream", "status", "read", "rows", "deleted", "rows/s", "requests", "points", "retries",
    "refused", "time", "where",
];

/// Right-aligned columns: numbers.
const RIGHT: std::ops::Range<usize> = 3..11;

/// Columns to leave out if all streams have this value.
const CONSTANT_COLUMNS: [(&str, &str); 3] =
    [("read", "everything"), ("deleted", "0"), ("points", "0")];

/// Columns to leave out on a narrow terminal, in this order; counts only if all are zero.
const DROPPABLE_COLUMNS: [&str; 5] = ["where", "read", "retries", "refused", "rows/s"];

/// The table of the streams, the failures, the refused slices, and what to do next. The table leaves out
/// columns that do not fit into `width`.
pub(crate) fn summary(report: &RunReport, width: Option<usize>) -> String {
    if report.streams.is_empty() {
        return "no refused slices are recorded; `weir sync run` reads failed streams again"
            .to_owned();
    }
    let mut parts = warnings(report);
    if !failed_as_one(&report.streams) {
        parts.push(fitted(&figures(report), width.unwrap_or(usize::MAX)));
    }
    parts.extend(notes(report));
    parts.extend(report.planned.map(|planned| against(planned, report)));
    parts.extend(report.points.as_ref().map(points));
    parts.push(conclusion(report));
    parts.join("\n")
}

fn figures(report: &RunReport) -> Vec<Vec<String>> {
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows.extend(report.streams.iter().map(row));
    let total = |count: fn(&StreamReport) -> u64| report.streams.iter().map(count).sum::<u64>();
    let written =
        |stream: &StreamReport| if stream.status == StreamStatus::Done { stream.rows } else { 0 };
    rows.push(vec![
        "total".to_owned(),
        String::new(),
        String::new(),
        grouped(total(written)),
        grouped(total(|stream| stream.deleted)),
        rate(total(written), report.seconds),
        grouped(total(|stream| stream.requests)),
        grouped(total(|stream| stream.points)),
        grouped(total(|stream| stream.retries)),
        grouped(total(|stream| stream.skipped)),
        elapsed(report.seconds),
        String::new(),
    ]);
    rows
}

fn fitted(rows: &[Vec<String>], width: usize) -> String {
    let mut kept: Vec<usize> = (0..HEAD.len()).collect();
    for (name, constant) in CONSTANT_COLUMNS {
        let says =
            |row: &Vec<String>, column: usize| row[column] != constant && !row[column].is_empty();
        kept.retain(|column| {
            HEAD[*column] != name || rows.iter().skip(1).any(|row| says(row, *column))
        });
    }
    let mut droppable = DROPPABLE_COLUMNS.iter();
    loop {
        let chosen: Vec<Vec<String>> = rows
            .iter()
            .map(|row| kept.iter().map(|column| row[*column].clone()).collect())
            .collect();
        let right: Vec<usize> = (0..kept.len()).filter(|at| RIGHT.contains(&kept[*at])).collect();
        let text = table(&chosen, &right);
        if width_of(&text) <= width {
            return text;
        }
        let Some(name) = droppable.next() else { return text };
        let tells = |column: usize| {
            matches!(*name, "retries" | "refused")
                && rows.iter().skip(1).any(|row| row[column] != "0")
        };
        kept.retain(|column| HEAD[*column] != *name || tells(*column));
    }
}

fn row(stream: &StreamReport) -> Vec<String> {
    let status = match stream.status {
        StreamStatus::Done if stream.earlier => "earlier",
        StreamStatus::Fresh => "fresh",
        StreamStatus::Done if stream.complete => "done",
        StreamStatus::Done => "partial",
        StreamStatus::Fed => "fed",
        StreamStatus::Failed => "failed",
        StreamStatus::Interrupted => "stopped",
    };
    let now = !stream.earlier && stream.status != StreamStatus::Fresh;
    vec![
        stream.stream.clone(),
        status.to_owned(),
        stream.reach.clone(),
        grouped(stream.rows),
        grouped(stream.deleted),
        if now { rate(stream.rows, stream.seconds) } else { String::new() },
        grouped(stream.requests),
        grouped(stream.points),
        grouped(stream.retries),
        grouped(stream.skipped),
        if now { elapsed(stream.seconds) } else { String::new() },
        stream.object.clone().unwrap_or_default(),
    ]
}

/// The plan estimate beside the actual figures, over all processes of the run.
fn against(planned: Planned, report: &RunReport) -> String {
    let total = |count: fn(&StreamReport) -> u64| report.streams.iter().map(count).sum::<u64>();
    let (sent, spent) = (total(|stream| stream.requests), total(|stream| stream.points));
    let ended = matches!(report.status, RunStatus::Done | RunStatus::DoneWithErrors);
    let off = |planned, actual| match deviation(planned, actual).filter(|_| ended) {
        Some(off) => format!(" ({off})"),
        None if ended => String::new(),
        None => " so far".to_owned(),
    };
    let again = match total(|stream| stream.retries) {
        0 => String::new(),
        retries => format!(", {} of them retries", grouped(retries)),
    };
    let about = if planned.assumed { "~" } else { "" };
    let mut text = format!(
        "planned {about}{}{}, sent {}{again}{}",
        counted(planned.requests, "request"),
        between(planned.assumed, planned.requests_range),
        grouped(sent),
        off(planned.requests, sent)
    );
    if planned.points > 0 || spent > 0 {
        let points = counted(planned.points, "point");
        let off = off(planned.points, spent);
        let between = between(planned.assumed, planned.points_range);
        text = format!("{text}; planned {about}{points}{between}, spent {}{off}", grouped(spent));
    }
    text
}

/// The likely range of an estimate: ` (250 to 900)`.
fn between(assumed: bool, [least, most]: [u64; 2]) -> String {
    if !assumed || most == 0 || least == most {
        return String::new();
    }
    format!(" ({} to {})", grouped(least), grouped(most))
}

/// The difference of a figure from the plan, in percent.
fn deviation(planned: u64, actual: u64) -> Option<String> {
    #[expect(clippy::cast_precision_loss, reason = "a deviation is read by its first digits")]
    let off = (planned > 0).then(|| (actual as f64 / planned as f64 - 1.0) * 100.0)?;
    Some(if planned == actual { "as planned".to_owned() } else { format!("{off:+.1} %") })
}

/// The points that were spent, and the time the run waited for points.
fn points(points: &PointsReport) -> String {
    let PointsReport { spent, max_points, budget, window_spent, waits, waited_seconds, .. } =
        points;
    let max = max_points.map_or(String::new(), |max| format!(" of at most {}", grouped(max)));
    let waited = match waits {
        0 => String::new(),
        _ => format!("; waited {} for points", elapsed(*waited_seconds)),
    };
    format!(
        "points: this run spent {}{max}; {} of this hour's {} are spent{waited}",
        grouped(*spent),
        grouped(*window_spent),
        grouped(*budget)
    )
}

/// Failures, notices and refused slices.
pub(crate) fn notes(report: &RunReport) -> Vec<String> {
    let (note, refused) = (label("note:"), label("refused:"));
    let mut notes = failures(&report.streams);
    for stream in &report.streams {
        let gaps = stream.gaps.iter();
        notes.extend(gaps.map(|gap| format!("{note} {}: incomplete: {gap}", stream.stream)));
        let notices = stream.notices.iter();
        notes.extend(notices.map(|notice| format!("{note} {}: {notice}", stream.stream)));
        for (name, column) in &stream.columns {
            if column.misfits > 0 && !column.is_mostly_misfits() {
                notes.push(format!("{note} {}", mismatches(&stream.stream, name, column)));
            }
            if column.replaced > 0 {
                let count = counted(column.replaced, "value");
                notes.push(format!(
                    "{note} {}: `{name}`: {count} changed, because the target cannot store them unchanged: \
                     NUL characters and lone surrogates become U+FFFD, dates out of range become \
                     `infinity`, and JSON numbers out of range become text",
                    stream.stream
                ));
            }
        }
        if stream.duplicates > 0 {
            let count = counted(stream.duplicates, "row");
            notes.push(format!(
                "{note} {}: the API returned {count} more than once; each was written once",
                stream.stream
            ));
        }
    }
    let notices = report.notices.iter().map(|notice| on_a_line(&notice.to_string()));
    notes.extend(notices.map(|notice| format!("{note} {notice}")));
    for error in report.errors.iter().take(SHOWN_ERRORS) {
        let SliceError { stream, slice, url, status, message } = error;
        let slice = if slice.is_empty() { String::new() } else { format!(": {slice}") };
        let status = status.map(|status| format!("{status} ")).unwrap_or_default();
        let text = on_a_line(&format!("{stream}{slice}: {status}{message} ({url})"));
        notes.push(format!("{refused} {text}"));
    }
    if let Some(more) = report.errors.len().checked_sub(SHOWN_ERRORS).filter(|more| *more > 0) {
        notes.push(format!("{refused} and {more} more; `--json` lists all of them"));
    }
    notes
}

/// Warnings about columns with mostly type mismatches, whose type is probably wrong.
pub(crate) fn warnings(report: &RunReport) -> Vec<String> {
    let columns = report.streams.iter().flat_map(|stream| {
        stream.columns.iter().map(move |(name, column)| (&stream.stream, name, column))
    });
    let wrong = columns.filter(|(_, _, column)| column.is_mostly_misfits());
    let warnings = wrong.map(|(stream, name, column)| {
        let counts = mismatches(stream, name, column);
        let hint = "correct the type, in the spec or under `columns` in the replication";
        format!("{} {counts}; {hint}", label("warning:"))
    });
    warnings.collect()
}

/// The number of type mismatches of a column, and where their values are.
fn mismatches(stream: &str, name: &str, column: &ColumnReport) -> String {
    let ColumnReport { kind, values, misfits, kept, .. } = column;
    let kept = if *kept { "they are kept in `_extra`" } else { "they are dropped" };
    let fit = if *misfits == 1 { "does not fit" } else { "do not fit" };
    let (misfits, values) = (grouped(*misfits), counted(*values, "value"));
    format!("{stream}: `{name}`: {misfits} of {values} {fit} the type `{kind}`: {kept}")
}

/// Whether several streams failed with one error and there is nothing else to report.
fn failed_as_one(streams: &[StreamReport]) -> bool {
    let failed = || streams.iter().filter(|stream| stream.status == StreamStatus::Failed);
    let first = failed().next().and_then(|stream| stream.error.as_ref());
    failed().count() > 1
        && first.is_some()
        && failed().all(|stream| stream.error.as_ref() == first)
        && streams.iter().all(|stream| stream.rows == 0 && !stream.earlier)
}

/// The errors of failed streams, each with its hint and its streams.
pub(crate) fn reasons(streams: &[StreamReport]) -> Vec<(&str, Option<&str>, Vec<&str>)> {
    let mut reasons: IndexMap<(&str, Option<&str>), Vec<&str>> = IndexMap::new();
    for stream in streams {
        if let Some(error) = &stream.error {
            let reason = reasons.entry((error, stream.hint.as_deref())).or_default();
            reason.push(&stream.stream);
        }
    }
    reasons.into_iter().map(|((error, hint), streams)| (error, hint, streams)).collect()
}

/// The errors of failed streams as text, grouped by error.
fn failures(streams: &[StreamReport]) -> Vec<String> {
    let errors = reasons(streams).into_iter().map(|(error, hint, names)| {
        let mut who = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        if names.len() > NAMED {
            who = format!("{who} and {} more", names.len() - NAMED);
        }
        error_text(&format!("{who}: {error}"), &[], hint)
    });
    errors.collect()
}

fn conclusion(report: &RunReport) -> String {
    let again = if report.resumable {
        "the progress is saved: run again to resume"
    } else {
        "run again to start over"
    };
    let paused = report.points.as_ref().filter(|points| points.paused.is_some());
    let why = paused.and_then(|points| points.paused.as_deref()).unwrap_or_default();
    let at = paused.and_then(|points| points.resume_at.as_deref());
    let when = at.map_or(String::new(), |at| format!(" at {at} or later"));
    match report.status {
        RunStatus::Done => "done".to_owned(),
        RunStatus::DoneWithErrors if report.errors.is_empty() => {
            "done, but incomplete: see the notes for missing rows (exit code 3)".to_owned()
        }
        RunStatus::DoneWithErrors => {
            let kept = report.errors_object.as_ref();
            let kept = kept.map_or(String::new(), |object| {
                format!("; they are listed in {object}, and `weir sync retry-failed` requests them again")
            });
            format!("done, except for refused slices (exit code 3){kept}")
        }
        RunStatus::Failed if report.resumable && paused.is_some() => format!(
            "failed: tables of failed streams are unchanged; the other streams are paused: {why}; \
             run again{when} to resume them"
        ),
        RunStatus::Failed if report.resumable => {
            format!("failed: tables of failed streams are unchanged; {again}")
        }
        RunStatus::Failed => "failed: tables of failed streams are unchanged".to_owned(),
        RunStatus::Paused => {
            let again = if report.resumable {
                format!("the progress is saved: run again{when} to resume")
            } else {
                format!("run again{when} to start over")
            };
            format!("paused: {why}; {again} (exit code 75)")
        }
        RunStatus::Interrupted => {
            format!("interrupted: tables of stopped streams are unchanged; {again}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str, status: StreamStatus, rows: u64) -> StreamReport {
        StreamReport {
            status,
            object: Some(format!("\"confluence\".\"{name}\"")),
            rows,
            requests: rows / 100 + 1,
            bytes: rows * 1_000,
            reach: "everything".to_owned(),
            seconds: 12.5,
            ..crate::run::empty_report(name)
        }
    }

    fn report(status: RunStatus, streams: Vec<StreamReport>) -> RunReport {
        let started_at = "2026-01-02T03:04:05Z".to_owned();
        let run_id = "20260102030405".to_owned();
        RunReport {
            run_id,
            started_at,
            continued: false,
            resumable: false,
            seconds: 75.0,
            status,
            streams,
            planned: None,
            points: None,
            notices: Vec::new(),
            errors: Vec::new(),
            errors_object: None,
        }
    }

    fn whole() -> RunReport {
        let streams = vec![
            stream("pages", StreamStatus::Done, 1_234_567),
            stream("attachment_content_properties", StreamStatus::Done, 50_000),
            stream("blog_post_content_properties", StreamStatus::Done, 0),
        ];
        report(RunStatus::Done, streams)
    }

    #[test]
    fn a_summary_shows_everything_where_there_is_room() {
        insta::assert_snapshot!(summary(&whole(), None), @r#"
        stream                         status       rows  rows/s  requests  retries  refused   time  where
        pages                          done    1,234,567   98765    12,346        0        0    12s  "confluence"."pages"
        attachment_content_properties  done       50,000    4000       501        0        0    12s  "confluence"."attachment_content_properties"
        blog_post_content_properties   done            0       0         1        0        0    12s  "confluence"."blog_post_content_properties"
        total                                  1,284,567   17128    12,848        0        0  1m15s
        done
        "#);
    }

    #[test]
    fn what_was_planned_stands_against_what_was_sent() {
        let mut report = whole();
        let told = |report: &mut RunReport, requests, points, assumed| {
            let requests_range = [requests / 2, requests * 3];
            let points_range = [points / 2, points * 3];
            report.planned =
                Some(Planned { requests, points, assumed, requests_range, points_range });
            let text = summary(report, None);
            let line = text.lines().find(|line| line.starts_with("planned")).unwrap();
            line.to_owned()
        };
        let mut lines = vec![told(&mut report, 12_848, 0, false), told(&mut report, 0, 0, true)];
        report.streams[0].points = 20_000;
        lines.push(told(&mut report, 12_758, 19_999, false));
        lines.push(told(&mut report, 15_000, 30_000, true));
        (report.status, report.streams[1].retries) = (RunStatus::Interrupted, 40);
        lines.push(told(&mut report, 15_000, 30_000, true));
        insta::assert_snapshot!(lines.join("\n"), @r"
        planned 12,848 requests, sent 12,848 (as planned)
        planned ~0 requests, sent 12,848
        planned 12,758 requests, sent 12,848 (+0.7 %); planned 19,999 points, spent 20,000 (+0.0 %)
        planned ~15,000 requests (7,500 to 45,000), sent 12,848 (-14.3 %); planned ~30,000 points (15,000 to 90,000), spent 20,000 (-33.3 %)
        planned ~15,000 requests (7,500 to 45,000), sent 12,848, 40 of them retries so far; planned ~30,000 points (15,000 to 90,000), spent 20,000 so far
        ");
    }

    #[test]
    fn a_paused_run_says_why_and_when_to_run_again() {
        let mut report = report(RunStatus::Paused, vec![]);
        let reason = "5,990 of the 6,000 points of this hour are spent".to_owned();
        report.resumable = true;
        report.points = Some(PointsReport {
            spent: 5_000,
            max_points: Some(20_000),
            budget: 6_000,
            window_spent: 5_990,
            waits: 2,
            waited_seconds: 4_000.0,
            paused: Some(reason),
            resume_at: Some("2026-01-02T04:00:00Z".to_owned()),
        });
        let spent = points(report.points.as_ref().unwrap());
        insta::assert_snapshot!(format!("{spent}\n{}", conclusion(&report)), @"
        points: this run spent 5,000 of at most 20,000; 5,990 of this hour's 6,000 are spent; waited 1h06m for points
        paused: 5,990 of the 6,000 points of this hour are spent; the progress is saved: run again at 2026-01-02T04:00:00Z or later to resume (exit code 75)
        ");
    }

    #[test]
    fn a_failed_run_that_paused_besides_says_both() {
        let mut report = report(RunStatus::Failed, vec![]);
        report.resumable = true;
        let paused = Some("5,990 of the 6,000 points of this hour are spent".to_owned());
        let resume_at = Some("2026-01-02T04:00:00Z".to_owned());
        report.points = Some(PointsReport { paused, resume_at, ..PointsReport::default() });
        insta::assert_snapshot!(conclusion(&report), @"failed: tables of failed streams are unchanged; the other streams are paused: 5,990 of the 6,000 points of this hour are spent; run again at 2026-01-02T04:00:00Z or later to resume them");
    }

    #[test]
    fn a_summary_fits_80_columns() {
        let text = summary(&whole(), Some(80));
        assert!(width_of(&text) <= 80, "{text}");
        insta::assert_snapshot!(text, @r"
        stream                         status       rows  rows/s  requests   time
        pages                          done    1,234,567   98765    12,346    12s
        attachment_content_properties  done       50,000    4000       501    12s
        blog_post_content_properties   done            0       0         1    12s
        total                                  1,284,567   17128    12,848  1m15s
        done
        ");
    }

    #[test]
    fn a_narrow_summary_hides_no_retries_that_happened() {
        let mut report = whole();
        report.streams[0].retries = 3;
        let text = summary(&report, Some(80));
        assert!(text.contains("retries") && !text.contains("where"), "{text}");
    }

    #[test]
    fn a_summary_says_what_went_wrong() {
        let mut pages = stream("pages", StreamStatus::Done, 200);
        pages.duplicates = 2_000;
        let column = |misfits, kept, replaced| {
            let kind = "int".to_owned();
            ColumnReport { kind, values: 471, misfits, kept, replaced }
        };
        pages.columns.insert("version".to_owned(), column(1, true, 0));
        pages.columns.insert("body".to_owned(), column(0, true, 3));
        pages.columns.insert("title".to_owned(), column(471, false, 0));
        let mut labels = stream("page_labels", StreamStatus::Done, 1_000);
        (labels.skipped, labels.complete) = (12, false);
        let failed = ["groups", "tasks", "spaces", "comments", "versions"].map(|name| {
            let mut failed = stream(name, StreamStatus::Failed, 0);
            failed.error = Some("the API does not accept the token".to_owned());
            failed.hint = Some("check the token".to_owned());
            failed
        });
        let mut streams = vec![pages, labels];
        streams.extend(failed);
        let mut report = report(RunStatus::Failed, streams);
        report.errors = (1..=12)
            .map(|page| SliceError {
                stream: "page_labels".to_owned(),
                slice: format!("page_id={page}"),
                url: format!("https://acme.test/pages/{page}/labels"),
                status: Some(403),
                message: "Forbidden".to_owned(),
            })
            .collect();
        let first = summary(&report, None).lines().next().unwrap().to_owned();
        insta::assert_snapshot!(first, @"warning: pages: `title`: 471 of 471 values do not fit the type `int`: they are dropped; correct the type, in the spec or under `columns` in the replication");
        insta::assert_snapshot!(notes(&report).join("\n"), @r"
        error: groups, tasks, spaces and 2 more: the API does not accept the token
        hint: check the token
        note: pages: `body`: 3 values changed, because the target cannot store them unchanged: NUL characters and lone surrogates become U+FFFD, dates out of range become `infinity`, and JSON numbers out of range become text
        note: pages: `version`: 1 of 471 values does not fit the type `int`: they are kept in `_extra`
        note: pages: the API returned 2,000 rows more than once; each was written once
        refused: page_labels: page_id=1: 403 Forbidden (https://acme.test/pages/1/labels)
        refused: page_labels: page_id=2: 403 Forbidden (https://acme.test/pages/2/labels)
        refused: page_labels: page_id=3: 403 Forbidden (https://acme.test/pages/3/labels)
        refused: page_labels: page_id=4: 403 Forbidden (https://acme.test/pages/4/labels)
        refused: page_labels: page_id=5: 403 Forbidden (https://acme.test/pages/5/labels)
        refused: page_labels: page_id=6: 403 Forbidden (https://acme.test/pages/6/labels)
        refused: page_labels: page_id=7: 403 Forbidden (https://acme.test/pages/7/labels)
        refused: page_labels: page_id=8: 403 Forbidden (https://acme.test/pages/8/labels)
        refused: page_labels: page_id=9: 403 Forbidden (https://acme.test/pages/9/labels)
        refused: page_labels: page_id=10: 403 Forbidden (https://acme.test/pages/10/labels)
        refused: and 2 more; `--json` lists all of them
        ");
    }
}
