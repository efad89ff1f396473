//! The progress of a running run, collected from its events, and its status lines.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::output::printer::{counted, elapsed, grouped, rate};
use crate::report::{Event, Figures, Planned};

/// Time window for measuring the request rate.
const WINDOW: Duration = Duration::from_secs(30);
/// Minimum time for measuring the request rate.
const LEAST: Duration = Duration::from_secs(3);
/// Maximum number of streams that a line names.
const NAMED: usize = 3;
/// Time without events after which a line shows what the run waits for.
const SILENCE: Duration = Duration::from_secs(5);

/// The progress of a run according to its events.
#[derive(Debug)]
pub(crate) struct RunProgress {
    begun: Instant,
    /// Time of the last event.
    last_event: Instant,
    /// What the run as a whole does now, outside its streams.
    doing: Option<String>,
    planned: Option<Planned>,
    /// The running streams, in the order of their start.
    streams: Vec<WatchedStream>,
    /// Figures of the ended streams.
    ended: Figures,
    /// The part of `ended` from earlier processes of the run.
    before: Figures,
    /// Why the run waits, and until when.
    waiting: Option<(String, String)>,
    /// Number of requests sent by this process until a time, oldest first.
    samples: VecDeque<(Instant, u64)>,
}

#[derive(Debug)]
struct WatchedStream {
    name: String,
    /// Whether its rows are not written.
    feeder: bool,
    begun: Instant,
    /// Figures of earlier processes of the run; `None` until the first progress event.
    before: Option<Figures>,
    now: Figures,
    /// Its parent streams.
    after: Vec<String>,
    doing: Option<String>,
    /// The reason and the time of the next retry.
    retry: Option<(String, Instant)>,
}

impl RunProgress {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            begun: now,
            last_event: now,
            doing: Some("starting".to_owned()),
            planned: None,
            streams: Vec::new(),
            ended: Figures::default(),
            before: Figures::default(),
            waiting: None,
            samples: VecDeque::new(),
        }
    }

    /// Records an event.
    pub(crate) fn take(&mut self, event: &Event, now: Instant) {
        self.last_event = now;
        match event {
            Event::RunStarted { planned, .. } => {
                (self.planned, self.doing) = (*planned, None);
            }
            Event::Doing { stream: None, what } => self.doing = Some(what.clone()),
            Event::Doing { stream: Some(name), what } => {
                if let Some(stream) = self.stream(name) {
                    stream.doing = Some(what.clone());
                }
            }
            Event::StreamStarted { stream, feeder, after } => {
                self.doing = None;
                self.streams.push(WatchedStream {
                    name: stream.clone(),
                    feeder: *feeder,
                    begun: now,
                    before: None,
                    now: Figures::default(),
                    after: after.clone(),
                    doing: None,
                    retry: None,
                });
            }
            Event::Progress { stream, figures } => {
                let sent = self.stream(stream).is_some_and(|one| one.take(*figures));
                if sent {
                    self.waiting = None;
                }
            }
            Event::Retry { stream, reason, wait, .. } => {
                if let Some(stream) = self.stream(stream) {
                    stream.retry = Some((reason.clone(), now + *wait));
                }
            }
            Event::Waiting { reason, until } => {
                self.waiting = Some((reason.clone(), until.clone()));
            }
            Event::StreamFinished { report } => {
                let place = self.streams.iter().position(|one| one.name == report.stream);
                let figures = Figures::of(report);
                let before = match place.map(|place| self.streams.remove(place)) {
                    Some(stream) => stream.before.unwrap_or_default(),
                    None if report.earlier => figures,
                    None => Figures::default(),
                };
                self.ended.add(figures);
                self.before.add(before);
            }
            Event::SliceSkipped { .. } | Event::Warning { .. } => {}
        }
    }

    fn stream(&mut self, name: &str) -> Option<&mut WatchedStream> {
        self.streams.iter_mut().find(|stream| stream.name == name)
    }

    /// Records the number of requests until now, for the rate.
    pub(crate) fn sample(&mut self, now: Instant) {
        let old = |at: &Instant| now.duration_since(*at) > WINDOW;
        while self.samples.len() > 1 && self.samples.get(1).is_some_and(|(at, _)| old(at)) {
            self.samples.pop_front();
        }
        let sent = self.all().requests.saturating_sub(self.earlier().requests);
        self.samples.push_back((now, sent));
    }

    /// Figures of all processes of the run.
    fn all(&self) -> Figures {
        let mut all = self.ended;
        for stream in &self.streams {
            let rows = if stream.feeder { 0 } else { stream.now.rows };
            all.add(Figures { rows, ..stream.now });
        }
        all
    }

    /// Figures of earlier processes of the run.
    fn earlier(&self) -> Figures {
        let mut all = self.before;
        self.streams.iter().for_each(|stream| all.add(stream.before.unwrap_or_default()));
        all
    }

    /// The last measured rate, in requests per second.
    #[expect(clippy::cast_precision_loss, reason = "a rate is read by its first digits")]
    fn pace(&self) -> Option<f64> {
        let ((first, from), (last, to)) = (self.samples.front()?, self.samples.back()?);
        let time = last.duration_since(*first);
        (time >= LEAST).then(|| to.saturating_sub(*from) as f64 / time.as_secs_f64())
    }

    /// Seconds until all planned requests are sent.
    #[expect(clippy::cast_precision_loss, reason = "it is shown as `about`")]
    fn left(&self) -> Option<f64> {
        let all = self.all();
        let planned = self.planned?.requests;
        let left = planned.checked_sub(all.requests.saturating_sub(all.retries))?;
        let pace = self.pace().filter(|pace| *pace > 0.0)?;
        (left > 0).then(|| left as f64 / pace)
    }

    /// The overall progress: `12,345 rows, 556 of ~2,659 requests, 9.8/s, about 3m30s left`.
    pub(crate) fn total(&self) -> String {
        let all = self.all();
        let planned = self.planned.filter(|planned| planned.requests >= all.requests);
        let requests = match planned {
            Some(Planned { requests, assumed, .. }) => {
                let about = if assumed { "~" } else { "" };
                let planned = counted(requests, "request");
                format!("{} of {about}{planned}", grouped(all.requests))
            }
            None => counted(all.requests, "request"),
        };
        let mut words = vec![counted(all.rows, "row"), requests];
        words.extend(self.pace().map(|pace| format!("{pace:.1}/s")));
        words.extend(self.left().map(|left| format!("about {} left", elapsed(left))));
        words.join(", ")
    }

    /// The progress line: what the run does or waits for.
    pub(crate) fn line(&self, now: Instant, today: DateTime<Utc>) -> String {
        if let Some((reason, until)) = &self.waiting {
            let left = left_until(until, today);
            return format!("waiting until {until}{left}: {reason}; {}", self.total());
        }
        if let Some(doing) = &self.doing {
            let since = elapsed(now.duration_since(self.last_event).as_secs_f64());
            let total = if self.all() == Figures::default() {
                String::new()
            } else {
                format!("; {}", self.total())
            };
            return format!("{doing} (for {since}){total}");
        }
        let total = self.total();
        let silent = now.duration_since(self.last_event);
        if silent < SILENCE {
            return format!("running: {total}");
        }
        let since = elapsed(silent.as_secs_f64());
        format!("running: {total}; no progress for {since}: {}", self.waits_for(now))
    }

    /// What the streams wait for, except for each other.
    fn waits_for(&self, now: Instant) -> String {
        let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for stream in &self.streams {
            if let Some(why) = stream.waits_for(now, &self.others(stream)) {
                reasons.entry(why).or_default().push(&stream.name);
            }
        }
        if reasons.is_empty() {
            return "waiting for the end of the run".to_owned();
        }
        let texts = reasons.iter().map(|(why, names)| format!("{why} ({})", listed(names)));
        texts.collect::<Vec<_>>().join("; ")
    }

    /// The progress line as JSON.
    pub(crate) fn json(&self, now: Instant, today: DateTime<Utc>) -> Value {
        let Figures { rows, requests, retries, refused, bytes } = self.all();
        let pace = self.pace().map(|pace| (pace * 10.0).round() / 10.0);
        json!({
            "event": "running",
            "message": self.line(now, today),
            "rows": rows,
            "requests": requests,
            "retries": retries,
            "refused": refused,
            "bytes": bytes,
            "planned": self.planned,
            "requests_per_second": pace,
            "seconds_left": self.left().map(f64::round),
            "seconds": now.duration_since(self.begun).as_secs_f64(),
            "streams": self.streams.iter().map(|stream| &stream.name).collect::<Vec<_>>(),
            "waiting_until": self.waiting.as_ref().map(|(_, until)| until),
        })
    }

    /// The status lines for a terminal with `rows` rows: one per running stream, and one for the run.
    pub(crate) fn lines(&self, now: Instant, today: DateTime<Utc>, rows: usize) -> Vec<String> {
        let most = rows.saturating_sub(4).max(1);
        let shared = self.shared_retry(now);
        let name = self.streams.iter().take(most).map(|one| one.name.len()).max().unwrap_or(0);
        let mut lines: Vec<String> = Vec::new();
        for stream in self.streams.iter().take(most) {
            let time = elapsed(now.duration_since(stream.begun).as_secs_f64());
            let words = stream.words(now, &self.others(stream), shared.is_some());
            lines.push(format!("{:name$}  {time:>5}  {words}", stream.name));
        }
        if let Some(more) = self.streams.len().checked_sub(most).filter(|more| *more > 0) {
            lines.push(format!("and {}", counted(more as u64, "more stream")));
        }
        lines.extend(shared);
        lines.push(self.line(now, today));
        lines
    }

    /// The running parent streams that a stream still waits for.
    fn others<'watch>(&self, stream: &'watch WatchedStream) -> Vec<&'watch str> {
        let idle = stream.is_idle();
        let going = |name: &&String| self.streams.iter().any(|one| one.name == **name);
        stream.after.iter().filter(|name| idle && going(name)).map(String::as_str).collect()
    }

    /// The line for several streams that retry for the same reason.
    fn shared_retry(&self, now: Instant) -> Option<String> {
        let mut retries = self.streams.iter().filter_map(|stream| stream.next_retry(now));
        let (reason, mut last) = retries.next()?;
        let mut count = 1;
        for (other, at) in retries {
            if other != reason {
                return None;
            }
            (count, last) = (count + 1, last.max(at));
        }
        let wait = elapsed(last.duration_since(now).as_secs_f64());
        (count > 1).then(|| format!("{count} streams: {reason}; retry in {wait}"))
    }
}

impl WatchedStream {
    /// Records its figures. Returns whether a request was sent.
    fn take(&mut self, figures: Figures) -> bool {
        let first = self.before.is_none();
        let sent = !first && figures.requests > self.now.requests;
        self.before.get_or_insert(figures);
        self.doing = None;
        if sent || figures.rows > self.now.rows {
            self.retry = None;
        }
        self.now = figures;
        sent
    }

    fn next_retry(&self, now: Instant) -> Option<(&str, Instant)> {
        let (reason, at) = self.retry.as_ref().filter(|(_, at)| *at > now)?;
        Some((reason, *at))
    }

    /// Whether this process has sent no requests for it.
    fn is_idle(&self) -> bool {
        let before = self.before.unwrap_or_default();
        self.now.requests == before.requests && self.now.rows == before.rows
    }

    /// What it waits for, unless it waits for another stream.
    fn waits_for(&self, now: Instant, others: &[&str]) -> Option<String> {
        if let Some(doing) = &self.doing {
            return Some(doing.clone());
        }
        if let Some((reason, at)) = self.next_retry(now) {
            let wait = elapsed(at.duration_since(now).as_secs_f64());
            return Some(format!("{reason}; retry in {wait}"));
        }
        others.is_empty().then(|| "waiting for responses from the API".to_owned())
    }

    fn words(&self, now: Instant, others: &[&str], shared: bool) -> String {
        if let Some(doing) = &self.doing {
            return doing.clone();
        }
        if let Some((reason, at)) = self.next_retry(now).filter(|_| !shared) {
            return format!("{reason}; retry in {}", elapsed(at.duration_since(now).as_secs_f64()));
        }
        if !others.is_empty() {
            return format!("waits for {}", listed(others));
        }
        let Figures { rows, requests, retries, refused, .. } = self.now;
        let fresh = rows.saturating_sub(self.before.unwrap_or_default().rows);
        let rate = rate(fresh, now.duration_since(self.begun).as_secs_f64());
        let retries = match retries {
            0 => String::new(),
            1 => ", 1 retry".to_owned(),
            more => format!(", {} retries", grouped(more)),
        };
        let refused =
            if refused > 0 { format!(", {} refused", grouped(refused)) } else { String::new() };
        let requests = counted(requests, "request");
        format!("{}, {rate}/s, {requests}{retries}{refused}", counted(rows, "row"))
    }
}

/// The first names of streams, and the number of the others.
fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMED).filter(|more| *more > 0) {
        Some(more) => format!("{shown} and {more} more"),
        None => shown,
    }
}

fn left_until(until: &str, today: DateTime<Utc>) -> String {
    let left = DateTime::parse_from_rfc3339(until).ok().map(|until| until.to_utc() - today);
    let left = left.and_then(|left| left.to_std().ok());
    left.map_or(String::new(), |left| format!(", in {}", elapsed(left.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::StreamStatus;

    fn figures(rows: u64, requests: u64) -> Figures {
        Figures { rows, requests, ..Figures::default() }
    }

    fn started(stream: &str, after: &[&str]) -> Event {
        let after = after.iter().map(|name| (*name).to_owned()).collect();
        Event::StreamStarted { stream: stream.to_owned(), feeder: false, after }
    }

    fn progress(stream: &str, figures: Figures) -> Event {
        Event::Progress { stream: stream.to_owned(), figures }
    }

    fn run(planned: u64) -> Event {
        let planned = Planned { requests: planned, assumed: true, ..Planned::default() };
        let run_id = "1".to_owned();
        Event::RunStarted { run_id, continued: false, streams: 2, planned: Some(planned) }
    }

    fn today() -> DateTime<Utc> {
        "2026-10-01T09:40:00Z".parse().unwrap()
    }

    #[test]
    fn the_total_shows_requests_rate_and_remaining_time() {
        let begun = Instant::now();
        let mut watch = RunProgress::new(begun);
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        for event in [run(2_659), started("pages", &[]), progress("pages", figures(0, 0))] {
            watch.take(&event, begun);
        }
        for second in 0..=60 {
            watch.take(&progress("pages", figures(second * 250, second * 9)), at(second));
            watch.sample(at(second));
        }
        let total = watch.total();
        assert_eq!(total, "15,000 rows, 540 of ~2,659 requests, 9.0/s, about 3m55s left");
        assert!(format!("running: {total}").len() < 80);
    }

    #[test]
    fn more_requests_than_planned_are_counted_without_the_plan() {
        let begun = Instant::now();
        let mut watch = RunProgress::new(begun);
        for event in [run(10), started("pages", &[]), progress("pages", figures(0, 0))] {
            watch.take(&event, begun);
        }
        watch.take(&progress("pages", figures(100, 11)), begun);
        assert_eq!(watch.total(), "100 rows, 11 requests");
    }

    #[test]
    fn earlier_processes_count_but_not_for_the_rate() {
        let begun = Instant::now();
        let mut watch = RunProgress::new(begun);
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut earlier = crate::run::empty_report("spaces");
        (earlier.earlier, earlier.rows, earlier.requests) = (true, 4, 1);
        watch.take(&run(1_000), begun);
        watch.take(&Event::StreamFinished { report: earlier }, begun);
        watch.take(&started("pages", &[]), begun);
        watch.take(&progress("pages", figures(500, 499)), begun);
        watch.sample(begun);
        watch.take(&progress("pages", figures(600, 549)), at(10));
        watch.sample(at(10));
        assert_eq!(watch.total(), "604 rows, 550 of ~1,000 requests, 5.0/s, about 1m30s left");
        let mut report = crate::run::empty_report("pages");
        (report.rows, report.requests) = (600, 549);
        watch.take(&Event::StreamFinished { report }, at(10));
        assert!(watch.total().starts_with("604 rows, 550 of ~1,000 requests, 5.0/s"));
    }

    #[test]
    fn the_screen_shows_what_each_stream_does_or_waits_for() {
        let begun = Instant::now();
        let mut watch = RunProgress::new(begun);
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        watch.take(&Event::Doing { stream: None, what: "planning".to_owned() }, begun);
        assert_eq!(watch.lines(at(3), today(), 24), ["planning (for 3.0s)"]);
        watch.take(&run(100), at(3));
        for (name, after) in [("pages", &[][..]), ("page_labels", &["pages"]), ("tasks", &[])] {
            watch.take(&started(name, after), at(3));
            watch.take(&progress(name, figures(0, 0)), at(3));
        }
        watch.take(&progress("pages", figures(471, 2)), at(4));
        let what = "publishing 30 rows".to_owned();
        watch.take(&Event::Doing { stream: Some("tasks".to_owned()), what }, at(4));
        insta::assert_snapshot!(watch.lines(at(5), today(), 24).join("\n"), @r"
        pages         2.0s  471 rows, 236/s, 2 requests
        page_labels   2.0s  waits for pages
        tasks         2.0s  publishing 30 rows
        running: 471 rows, 2 of ~100 requests
        ");
        insta::assert_snapshot!(watch.lines(at(5), today(), 6).join("\n"), @r"
        pages         2.0s  471 rows, 236/s, 2 requests
        page_labels   2.0s  waits for pages
        and 1 more stream
        running: 471 rows, 2 of ~100 requests
        ");
    }

    #[test]
    fn a_retry_of_several_streams_is_one_line() {
        let begun = Instant::now();
        let mut watch = RunProgress::new(begun);
        for name in ["pages", "tasks"] {
            watch.take(&started(name, &[]), begun);
            let (stream, reason) = (name.to_owned(), "429 Too Many Requests".to_owned());
            let wait = Duration::from_secs(90);
            watch.take(&Event::Retry { stream, reason, wait, attempt: 1 }, begun);
        }
        insta::assert_snapshot!(watch.lines(begun, today(), 24).join("\n"), @r"
        pages   0.0s  0 rows, 0/s, 0 requests
        tasks   0.0s  0 rows, 0/s, 0 requests
        2 streams: 429 Too Many Requests; retry in 1m30s
        running: 0 rows, 0 requests
        ");
    }

    #[test]
    fn a_run_without_progress_shows_what_it_waits_for_and_until_when() {
        let begun = Instant::now();
        let mut watch = RunProgress::new(begun);
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        watch.take(&started("pages", &[]), begun);
        watch.take(&started("page_labels", &["pages"]), begun);
        let line = watch.line(at(20), today());
        assert_eq!(
            line,
            "running: 0 rows, 0 requests; no progress for 20s: waiting for responses from the API (pages)"
        );
        let (reason, until) =
            ("the points are spent".to_owned(), "2026-10-01T10:00:00Z".to_owned());
        watch.take(&Event::Waiting { reason, until }, begun);
        let line = watch.line(at(20), today());
        assert_eq!(
            line,
            "waiting until 2026-10-01T10:00:00Z, in 20m00s: the points are spent; 0 rows, 0 requests"
        );
        let told = watch.json(at(20), today());
        assert_eq!(told["waiting_until"], "2026-10-01T10:00:00Z");
        watch.take(&progress("pages", figures(0, 0)), begun);
        watch.take(&progress("pages", figures(0, 1)), begun);
        assert!(watch.line(at(1), today()).starts_with("running: "), "a request goes out again");
    }

    #[test]
    fn a_stream_that_failed_wrote_no_rows() {
        let begun = Instant::now();
        let mut watch = RunProgress::new(begun);
        watch.take(&started("pages", &[]), begun);
        watch.take(&progress("pages", figures(471, 2)), begun);
        let mut report = crate::run::empty_report("pages");
        (report.status, report.requests) = (StreamStatus::Failed, 2);
        watch.take(&Event::StreamFinished { report }, begun);
        assert_eq!(watch.total(), "0 rows, 2 requests", "as in the summary");
    }
}
