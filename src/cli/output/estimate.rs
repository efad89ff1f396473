//! `weir sync plan`: the plan of the next run and its estimated cost.

use crate::cli::args::Shared;
use crate::cli::output::printer;
use crate::cli::output::printer::{counted, elapsed, grouped};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::report::Planned;
use crate::spec::Spec;
use crate::sync::duration::{DurationEstimate, Hour, LimitFrom};
use crate::sync::plan_report::{ExpectedStream, PlanReport};
use crate::yaml::suggest;

const HEAD: [&str; 8] =
    ["stream", "route", "reads", "slices", "requests", "points", "of an hour", "why"];

/// Right-aligned columns: numbers.
const RIGHT: std::ops::Range<usize> = 3..7;

/// Text columns that move below the row if the table is too wide.
const READS: usize = 2;
const WHY: usize = 7;

/// Columns to leave out of a table that is too wide, in this order.
const DROPPABLE_COLUMNS: [usize; 4] = [WHY, 3, READS, 6];

/// Refuses a `--route` for a stream that the run does not read, and two for one stream.
pub(crate) fn check_routes(plan: &Plan, spec: &Spec, routes: &[(String, String)]) -> Result<()> {
    for (number, (name, route)) in routes.iter().enumerate() {
        if routes.iter().take(number).any(|(other, earlier)| other == name && earlier != route) {
            let what = format!("`--route` names two routes for `{name}`");
            return Err(Error::input(what).with_hint("a stream is read by one route"));
        }
        if plan.streams.iter().any(|stream| stream.name == *name && !stream.internal) {
            continue;
        }
        let what = format!("`--route {name}={route}`");
        let mut known = spec.selectable().map(|(known, _)| known.as_str());
        return Err(if known.any(|known| known == name) {
            Error::input(format!("{what}: the run does not read the stream `{name}`"))
                .with_hint("select the stream with `--streams`, or remove the route")
        } else {
            let known = spec.selectable().map(|(known, _)| known.as_str());
            Error::input(format!("{what}: the spec has no stream `{name}`"))
                .with_hint(suggest(name, known).unwrap_or_default())
        });
    }
    Ok(())
}

/// Prints a plan to stdout.
pub(crate) fn show(report: &PlanReport, shared: Shared) {
    if shared.json {
        printer::json(report);
        return;
    }
    for note in &report.notes {
        printer::note(shared, note);
    }
    printer::data(&text(report, printer::columns(&std::io::stdout())));
}

/// The table of the streams, followed by the totals.
fn text(report: &PlanReport, width: Option<usize>) -> String {
    if report.streams.is_empty() {
        return "there are no streams to read".to_owned();
    }
    let mut lines = Vec::new();
    if let Some(run) = &report.continues {
        let since = run.started_at.format("%Y-%m-%d %H:%M UTC");
        let text = format!(
            "The run of {since} is not finished: it is still running, or `weir sync run` resumes it. It has \
             sent {}{}. The figures below are for the whole run.",
            counted(run.requests, "request"),
            spent(run.points),
        );
        lines.extend(printer::wrapped(&text, width.unwrap_or(printer::WIDTH)));
    }
    lines.push(table(report, width.unwrap_or(usize::MAX)));
    lines.extend(quota(report));
    lines.extend(report.hour.as_ref().map(hour));
    lines.push(format!("duration: {}", duration(&report.duration)));
    lines.push(format!("baseline: {}", naive(report)));
    if report.total.assumed {
        lines.push(format!(
            "~ marks estimates of the number of records or changes; the total is probably {}",
            ranges(report)
        ));
    }
    lines.join("\n")
}

/// The likely range of the totals: `250 to 900 requests`.
fn ranges(report: &PlanReport) -> String {
    let Planned { requests_range, points_range, .. } = report.total;
    let range = |[least, most]: [u64; 2], what: &str| {
        if least == most {
            counted(most, what)
        } else {
            format!("{} to {} {what}s", grouped(least), grouped(most))
        }
    };
    let requests = range(requests_range, "request");
    match report.duration.points_per_hour {
        Some(_) => format!("{requests}, {}", range(points_range, "point")),
        None => requests,
    }
}

fn spent(points: u64) -> String {
    if points == 0 { String::new() } else { format!(" and spent {}", counted(points, "point")) }
}

/// The table of the streams. The reasons for their routes move below the rows if they do not fit.
fn table(report: &PlanReport, width: usize) -> String {
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows.extend(report.streams.iter().map(row));
    let hours: Option<Vec<f64>> = report.streams.iter().map(|stream| stream.hours).collect();
    let Planned { requests, points, assumed, .. } = report.total;
    let mut total = vec![String::new(); HEAD.len()];
    for (column, cell) in [
        (0, "total".to_owned()),
        (4, about(requests, assumed)),
        (5, about(points, assumed)),
        (6, hours.as_ref().map_or(String::new(), |hours| percent(hours.iter().sum()))),
    ] {
        if let Some(place) = total.get_mut(column) {
            *place = cell;
        }
    }
    rows.push(total);
    let mut kept: Vec<usize> = (0..HEAD.len()).collect();
    kept.retain(|column| match *column {
        5 => report.duration.points_per_hour.is_some(),
        6 => hours.is_some(),
        _ => true,
    });
    let mut droppable = DROPPABLE_COLUMNS.iter();
    let mut facts = chosen(&rows, &kept);
    while printer::width_of(&facts) > width
        && let Some(column) = droppable.next()
    {
        kept.retain(|one| one != column);
        facts = chosen(&rows, &kept);
    }
    let left = [READS, WHY].into_iter().filter(|column| !kept.contains(column));
    let left: Vec<usize> = left.collect();
    let mut lines = Vec::new();
    for (at, (line, row)) in facts.lines().zip(&rows).enumerate() {
        lines.push(line.to_owned());
        let cells = left.iter().filter_map(|column| row.get(*column));
        let texts: Vec<&str> =
            cells.map(String::as_str).filter(|cell| at > 0 && !cell.is_empty()).collect();
        let wrapped = printer::wrapped(&texts.join("; "), width.saturating_sub(4));
        lines.extend(wrapped.into_iter().map(|line| format!("    {line}")));
    }
    lines.join("\n")
}

fn chosen(rows: &[Vec<String>], kept: &[usize]) -> String {
    let row = |row: &Vec<String>| kept.iter().filter_map(|at| row.get(*at).cloned()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
    let right = kept.iter().enumerate().filter(|(_, column)| RIGHT.contains(*column));
    printer::table(&rows, &right.map(|(at, _)| at).collect::<Vec<_>>())
}

fn row(ExpectedStream { expected, hours }: &ExpectedStream) -> Vec<String> {
    let assumed = expected.assumed;
    let why = match (expected.feeder, expected.why.as_str()) {
        (false, why) => why.to_owned(),
        (true, "") => "feeds only".to_owned(),
        (true, why) => format!("feeds only; {why}"),
    };
    vec![
        expected.stream.clone(),
        expected.route.clone(),
        expected.reach.clone(),
        about(expected.slices, assumed),
        about(expected.requests, assumed),
        about(expected.points, assumed),
        hours.map(percent).unwrap_or_default(),
        why,
    ]
}

fn about(number: u64, assumed: bool) -> String {
    format!("{}{}", if assumed { "~" } else { "" }, grouped(number))
}

fn about_counted(number: u64, noun: &str, assumed: bool) -> String {
    format!("{}{}", if assumed { "~" } else { "" }, counted(number, noun))
}

/// A share in percent, with one decimal below 10 %.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        _ if percent <= 0.0 => "0 %".to_owned(),
        _ if percent < 0.1 => "<0.1 %".to_owned(),
        _ if percent < 10.0 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

/// The points of the run beside the hourly quota.
fn quota(report: &PlanReport) -> Option<String> {
    let duration = &report.duration;
    let allowed = duration.points_per_hour?;
    let points = about_counted(report.total.points, "point", report.total.assumed);
    let hours = match duration.hours {
        0 | 1 => "enough for this run".to_owned(),
        hours => format!(
            "the points are spread over {hours} clock hours, until about {}",
            duration.until.format("%Y-%m-%d %H:%M UTC")
        ),
    };
    Some(format!("quota: {points}; {} are available per hour: {hours}", grouped(allowed)))
}

/// The points of the current hour.
fn hour(hour: &Hour) -> String {
    let from = match hour.limit_from {
        LimitFrom::Api => "reported by the API",
        LimitFrom::Spec => "assumed by the spec",
    };
    let hold = hour.hold.map_or(String::new(), |hold| {
        format!("; no requests before {}, as requested by the API", hold.format("%H:%M:%S UTC"))
    });
    format!(
        "hour: {} of {} points are spent; {} are left for this run (limit {from}){hold}",
        grouped(hour.spent),
        grouped(hour.limit),
        grouped(hour.left)
    )
}

/// The duration of the run by the rate and concurrency limits.
fn duration(duration: &DurationEstimate) -> String {
    let DurationEstimate { requests_per_second, concurrency, seconds, answer_seconds, .. } =
        duration;
    let rate = requests_per_second.map_or(String::new(), |rate| {
        let rate = rate.to_string();
        let many = if rate == "1" { "" } else { "s" };
        format!(" at {rate} request{many} a second")
    });
    format!(
        "{}{rate} with up to {concurrency} in flight, if each response takes at most {answer_seconds:.1}s",
        elapsed(*seconds)
    )
}

/// The cost of full reads by the default routes, for comparison.
fn naive(report: &PlanReport) -> String {
    let (naive, total) = (&report.naive, &report.total);
    let points = match report.duration.points_per_hour {
        Some(_) => format!(", {}", about_counted(naive.points, "point", total.assumed)),
        None => String::new(),
    };
    let (theirs, ours) = match report.duration.points_per_hour {
        Some(_) => (naive.points, total.points),
        None => (naive.requests, total.requests),
    };
    let times = match (theirs, ours) {
        _ if ours == 0 || theirs <= ours => String::new(),
        _ => format!("; {} times as much as the plan", times(theirs, ours)),
    };
    format!(
        "{}{points} for full reads by the default routes{times}",
        about_counted(naive.requests, "request", total.assumed)
    )
}

fn times(more: u64, less: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a ratio is read by its first digits")]
    let times = more as f64 / less.max(1) as f64;
    if times < 10.0 { format!("{times:.1}") } else { format!("{times:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::estimate::{Baseline, StreamEstimate};
    use crate::sync::duration::{HourlyPoints, SpeedLimits};
    use crate::sync::plan_report::Continued;

    fn stream(name: &str, route: &str, requests: u64, why: &str) -> StreamEstimate {
        StreamEstimate {
            stream: name.to_owned(),
            feeder: false,
            reach: "everything".to_owned(),
            route: route.to_owned(),
            why: why.to_owned(),
            assumed: false,
            slices: requests / 2,
            requests,
            points: requests * 3,
            requests_range: [requests / 2, requests * 2],
            points_range: [requests, requests * 9],
            naive: Baseline { requests: requests * 7, points: requests * 9 },
        }
    }

    fn report(streams: Vec<StreamEstimate>, points_per_hour: Option<u64>) -> PlanReport {
        let at = "2026-10-01T09:40:00Z".parse().unwrap();
        let sum = |of: fn(&StreamEstimate) -> u64| streams.iter().map(of).sum();
        let total = Planned {
            requests: sum(|one| one.requests),
            points: sum(|one| one.points),
            assumed: streams.iter().any(|one| one.assumed),
            requests_range: [10_000, 40_000],
            points_range: [30_000, 99_000],
        };
        let naive = Baseline {
            requests: sum(|one| one.naive.requests),
            points: sum(|one| one.naive.points),
        };
        let points = points_per_hour.map(|allowed| HourlyPoints { allowed, left: allowed });
        let limits = SpeedLimits { requests_per_second: Some(10.0), concurrency: 5, points };
        let duration = DurationEstimate::new(total.requests, total.points, limits, at);
        let streams = streams.into_iter().map(|expected| {
            let hours = duration.share(&expected);
            ExpectedStream { expected, hours }
        });
        PlanReport {
            replication: "wiki".to_owned(),
            at,
            continues: None,
            streams: streams.collect(),
            total,
            naive,
            hour: None,
            duration,
            notes: Vec::new(),
        }
    }

    fn three() -> Vec<StreamEstimate> {
        let mut pages = stream("pages", "own", 8, "");
        pages.feeder = true;
        let mut labels =
            stream("page_labels", "search", 1_500, "100 pages to a request, 12 times cheaper");
        labels.assumed = true;
        let mut versions = stream("page_versions", "derived", 20_000, "");
        versions.reach = "parents changed since 2026-10-01T08:00:00Z".to_owned();
        vec![pages, labels, versions]
    }

    #[test]
    fn a_plan_shows_each_stream_and_the_totals() {
        insta::assert_snapshot!(text(&report(three(), Some(65_000)), None), @r"
        stream         route    reads                                       slices  requests   points  of an hour  why
        pages          own      everything                                       4         8       24      <0.1 %  feeds only
        page_labels    search   everything                                    ~750    ~1,500   ~4,500       6.9 %  100 pages to a request, 12 times cheaper
        page_versions  derived  parents changed since 2026-10-01T08:00:00Z  10,000    20,000   60,000        92 %
        total                                                                        ~21,508  ~64,524        99 %
        quota: ~64,524 points; 65,000 are available per hour: enough for this run
        duration: 35m50s at 10 requests a second with up to 5 in flight, if each response takes at most 0.5s
        baseline: ~150,556 requests, ~193,572 points for full reads by the default routes; 3.0 times as much as the plan
        ~ marks estimates of the number of records or changes; the total is probably 10,000 to 40,000 requests, 30,000 to 99,000 points
        ");
    }

    #[test]
    fn without_a_quota_the_rate_determines_the_share_of_an_hour() {
        let mut streams = three();
        streams[1].assumed = false;
        let mut report = report(streams, None);
        report.continues = Some(Continued {
            run_id: "1".to_owned(),
            started_at: "2026-10-01T08:05:00Z".parse().unwrap(),
            requests: 12_000,
            points: 0,
        });
        insta::assert_snapshot!(text(&report, None), @r"
        The run of 2026-10-01 08:05 UTC is not finished: it is still running, or `weir sync run` resumes it.
        It has sent 12,000 requests. The figures below are for the whole run.
        stream         route    reads                                       slices  requests  of an hour  why
        pages          own      everything                                       4         8      <0.1 %  feeds only
        page_labels    search   everything                                     750     1,500       4.2 %  100 pages to a request, 12 times cheaper
        page_versions  derived  parents changed since 2026-10-01T08:00:00Z  10,000    20,000        56 %
        total                                                                         21,508        60 %
        duration: 35m50s at 10 requests a second with up to 5 in flight, if each response takes at most 0.5s
        baseline: 150,556 requests for full reads by the default routes; 7.0 times as much as the plan
        ");
    }

    #[test]
    fn a_plan_fits_80_columns() {
        let text = text(&report(three(), Some(20_000)), Some(80));
        let table = text.lines().take_while(|line| !line.starts_with("quota"));
        assert!(table.into_iter().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text, @r"
        stream         route    requests   points  of an hour
        pages          own             8       24       0.1 %
            everything; feeds only
        page_labels    search     ~1,500   ~4,500        22 %
            everything; 100 pages to a request, 12 times cheaper
        page_versions  derived    20,000   60,000       300 %
            parents changed since 2026-10-01T08:00:00Z
        total                    ~21,508  ~64,524       323 %
        quota: ~64,524 points; 20,000 are available per hour: the points are spread over 4 clock hours, until about 2026-10-01 12:02 UTC
        duration: 35m50s at 10 requests a second with up to 5 in flight, if each response takes at most 0.5s
        baseline: ~150,556 requests, ~193,572 points for full reads by the default routes; 3.0 times as much as the plan
        ~ marks estimates of the number of records or changes; the total is probably 10,000 to 40,000 requests, 30,000 to 99,000 points
        ");
    }

    #[test]
    fn the_spent_points_of_this_hour_are_one_line() {
        let hold = Some("2026-10-01T09:52:30Z".parse().unwrap());
        let one = Hour {
            limit: 65_000,
            limit_from: LimitFrom::Spec,
            spent: 12_345,
            left: 26_655,
            hold: None,
        };
        insta::assert_snapshot!(hour(&one), @"hour: 12,345 of 65,000 points are spent; 26,655 are left for this run (limit assumed by the spec)");
        let held = Hour { limit_from: LimitFrom::Api, hold, ..one };
        insta::assert_snapshot!(hour(&held), @"hour: 12,345 of 65,000 points are spent; 26,655 are left for this run (limit reported by the API); no requests before 09:52:30 UTC, as requested by the API");
    }

    #[test]
    fn an_empty_plan_says_so() {
        assert_eq!(text(&report(Vec::new(), None), None), "there are no streams to read");
    }

    #[test]
    fn shares_are_short() {
        let shares = [0.0, 0.0004, 0.004, 0.0999, 0.26, 12.5].map(percent);
        assert_eq!(shares, ["0 %", "<0.1 %", "0.4 %", "10.0 %", "26 %", "1250 %"]);
    }
}
