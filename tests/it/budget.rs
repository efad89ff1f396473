//! Points and budgets as processes share them: the program itself, run several times at once against a
//! tenant that counts points.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde_json::Value;
use weir_sim::{
    FaultRule, Faults, LoggedRequest, Options, PointsQuota, QuotaHeaders, RetryAfter, What, When,
};

use crate::support::{
    postgres::Database,
    process::{Process, Workplace},
    rig::own_routes,
};

/// Points of an hour.
const PER_HOUR: u64 = 10_000;
/// Exit code of a run that pauses.
const PAUSED: Option<i32> = Some(75);

fn tenant(per_hour: u64) -> Options {
    let headers = QuotaHeaders::Standard;
    Options {
        pages: 1_500,
        quota: Some(PointsQuota { per_hour, headers, others: 0 }),
        log_entries: Some(1_000_000),
        ..Options::default()
    }
}

/// A replication of everything.
fn replication(work: &Workplace, name: &str, target: &str, more: &str) -> String {
    let object = if target == "FILES" { "{stream_name}.parquet" } else { "{stream_name}" };
    let file = format!("{name}.yaml");
    let text = format!(
        "
name: {name}
source: WIKI
target: {target}
defaults:
  mode: incremental
  object: '{object}'
  inputs: {{ custom_content_types: ['ac:com.example.diagrams:diagram', 'forge:1b2c3d4e:9f8e7d6c:board'] }}
limits: {{ requests_per_second: 0, concurrency: 4 }}
{more}
streams: {{ '*': }}
"
    );
    fs::write(work.path(&file), text).unwrap();
    file
}

/// The start of the hour. A test of an hour's points that does not end in the hour in which it began
/// says nothing, and is begun anew.
fn hour() -> DateTime<Utc> {
    Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap()
}

fn spent(work: &Workplace) -> u64 {
    work.simulator.counters().points
}

fn refused(work: &Workplace) -> usize {
    work.simulator.log().iter().filter(|request| request.status == 429).count()
}

/// What a run said of its points at its end.
fn points(said: &str) -> Value {
    let mut events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let last = events.find(|event| event["event"] == "run_finished");
    last.unwrap_or_else(|| panic!("{said}"))["points"].clone()
}

const JSON: [&str; 2] = ["--log-format", "json"];

/// Runs two processes at once; their exit codes, what they spent, and all that was counted meanwhile.
/// `None`: the hour has turned.
async fn two(
    work: &Workplace,
    starts: [&(dyn Fn() -> Process + Sync); 2],
) -> Option<([Option<i32>; 2], [u64; 2], u64)> {
    let begun = hour();
    let (before, processes) = (spent(work), starts.map(|start| start()));
    let [first, second] = processes;
    let (first, second) = tokio::join!(first.end(), second.end());
    let own = [&first, &second].map(|(_, said)| points(said)["spent"].as_u64().unwrap());
    (hour() == begun).then_some(([first.0, second.0], own, spent(work) - before))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_together_spend_what_they_may_and_no_more() {
    loop {
        let database = Database::new().await;
        let work = Workplace::new(tenant(PER_HOUR), Some(&database)).await.counting_points();
        // One target is a database, the other is not: they share the machine's ledger.
        let (one, two_) = ("into_postgres", "into_files");
        let one = replication(&work, one, "OUT", "on_budget: pause");
        let other = replication(&work, two_, "FILES", "on_budget: pause");
        let (start, start_other) =
            (|| work.start_with(&one, &JSON, ""), || work.start_with(&other, &JSON, ""));
        let Some((exits, own, all)) = two(&work, [&start, &start_other]).await else { continue };
        assert_eq!(exits, [PAUSED; 2]);
        assert_eq!(refused(&work), 0);
        assert_eq!(own.iter().sum::<u64>(), all);
        assert!((PER_HOUR * 97 / 100..=PER_HOUR).contains(&all), "{all}: {own:?}");
        // Who comes later finds next to nothing.
        let (exit, said) = start().end().await;
        if hour() == points_hour(&said) {
            assert_eq!((exit, refused(&work)), (PAUSED, 0));
            assert!(spent(&work) <= PER_HOUR);
            break;
        }
    }
}

/// The hour at whose end a run that has paused can go on.
fn points_hour(said: &str) -> DateTime<Utc> {
    let at = points(said)["resume_at"].as_str().unwrap_or_default().parse::<DateTime<Utc>>();
    at.unwrap() - TimeDelta::hours(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_machines_share_the_ledger_of_their_database() {
    loop {
        let database = Database::new().await;
        let work = Workplace::new(tenant(1_000_000), Some(&database)).await.counting_points();
        let budget = "budget: 1%\non_budget: pause";
        let one = replication(&work, "one", "OUT", budget);
        let other = replication(&work, "other", "OUT", &format!("{budget}\nenv: {{}}"));
        let text = fs::read_to_string(work.path(&other)).unwrap();
        fs::write(work.path(&other), text.replace("'{stream_name}'", "'other.{stream_name}'"))
            .unwrap();
        let (start, start_other) =
            (|| work.start_with(&one, &JSON, "a"), || work.start_with(&other, &JSON, "b"));
        // Both take the spec's number for the quota at first, which is below the site's.
        let Some((exits, own, all)) = two(&work, [&start, &start_other]).await else { continue };
        assert_eq!(exits, [PAUSED; 2]);
        assert!((9_700..=10_000).contains(&all), "{all}: {own:?}");
        assert!(own.iter().all(|own| *own > 1_000), "{own:?}");
        let tables = "SELECT count(*) FROM pg_class WHERE relname = '_weir_ledger'";
        assert_eq!(database.text(tables).await, "1");
        break;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_costs_what_it_held_and_no_more() {
    loop {
        let work = Workplace::new(tenant(PER_HOUR), None).await.counting_points();
        let one = replication(&work, "one", "FILES", "on_budget: pause");
        let begun = hour();
        let mut process = work.start_with(&one, &JSON, "");
        let ended = process.until(|_| spent(&work) > PER_HOUR / 4).await;
        assert_eq!(ended, None, "it ended before it could be killed");
        process.kill();
        let ledger = fs::read_dir(work.path(".weir/ledger")).unwrap().flatten();
        let ledger = ledger.map(|entry| entry.path()).find(|path| path.extension().is_some());
        let account: Value = serde_json::from_slice(&fs::read(ledger.unwrap()).unwrap()).unwrap();
        let killed = account["processes"].as_object().unwrap().values().next().unwrap().clone();
        let (seen, held) = (killed["spent"].as_u64().unwrap(), killed["holds"].as_u64().unwrap());
        // Four requests under way, of 501 points at most, and a 200th of the budget.
        assert!(held <= 4 * 501 + PER_HOUR / 200, "{held}");
        let (exit, said) = work.start_with(&one, &JSON, "").end().await;
        if hour() != begun {
            continue;
        }
        assert_eq!(exit, PAUSED, "{said}");
        let all = spent(&work);
        assert!(all <= PER_HOUR && all + held >= PER_HOUR * 97 / 100, "{all}, {seen} and {held}");
        assert_eq!(refused(&work), 0);
        break;
    }
}

/// Pauses again and again, until everything is there.
async fn pause_and_go_on(work: &Workplace, target: &str) {
    const MOST: u64 = 9_500;
    let one = replication(work, "one", target, "checkpoint: { size: 64MiB, every: 60s }");
    let most = MOST.to_string();
    let mut paused = 0;
    loop {
        let before = spent(work);
        let args = ["--log-format", "json", "--max-points", &most];
        let (exit, said) = work.start_with(&one, &args, "").end().await;
        let (now, told) = (spent(work) - before, points(&said));
        assert_eq!(told["spent"], now);
        assert!(now <= MOST, "{now}");
        if exit == Some(0) {
            break;
        }
        assert_eq!(exit, PAUSED, "{said}");
        let spent = format!("{now} of the 9500 points");
        assert!(told["paused"].as_str().unwrap().contains(&spent), "{told}");
        assert!(now * 100 >= MOST * 97, "{now}");
        paused += 1;
    }
    assert!(paused >= 2, "{paused}");
    // Nothing was asked twice.
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for LoggedRequest { path, query, .. } in work.simulator.log() {
        *asked.entry(format!("{path}?{query}")).or_default() += 1;
    }
    let twice: BTreeSet<_> = asked
        .iter()
        .filter(|(url, count)| **count > if url.contains("-comments?") { 2 } else { 1 })
        .collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// Whatever a run may spend, it spends no more where pages have a size, as those of all own requests have; and
/// says what would do when that is too little for anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_never_spends_more_than_it_may() {
    /// What a page of a listing may cost, with objects of one point and of two.
    const PAGES: [u64; 2] = [251, 501];
    let work = Workplace::new(tenant(1_000_000), None).await.counting_points();
    let one = replication(&work, "one", "FILES", "");
    let run = async |most: u64| {
        let before = spent(&work);
        let most = most.to_string();
        let routes =
            own_routes().into_iter().map(|(stream, own)| format!("--route={stream}={own}"));
        let routes: Vec<String> = routes.collect();
        let mut args = vec!["--log-format", "json", "--max-points", &most];
        args.extend(routes.iter().map(String::as_str));
        let (exit, said) = work.start_with(&one, &args, "").end().await;
        assert_eq!(exit, PAUSED, "{said}");
        let (now, told) = (spent(&work) - before, points(&said));
        assert_eq!(told["spent"], now, "{told}");
        (now, told["paused"].as_str().unwrap().to_owned())
    };
    // The first run has asked how much there is: five answers with one object each.
    let (now, why) = run(PAGES[0] - 1).await;
    assert_eq!(now, 10);
    // Which stream asks first, and so what the request may cost, is a matter of time.
    let numbers: Vec<u64> =
        why.split(|one: char| !one.is_ascii_digit()).flat_map(str::parse).collect();
    let [cost, max, least] = *numbers else { panic!("{why}") };
    assert!(cost >= PAGES[0] && max == PAGES[0] - 1 && least == cost + now, "{why}");
    for most in [PAGES[1], 777, 2_500] {
        let (now, why) = run(most).await;
        assert!((1..=most).contains(&now), "{now} of {most}: {why}");
        assert!(why.contains(&format!("{now} of the {most} points")), "{why}");
        assert!(now + PAGES[1] > most, "{now} of {most}: {why}");
    }
}

/// What has failed for good is told at once, though the rest of the run is but paused.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_pauses_does_not_hide_that_a_stream_has_failed() {
    let refused = FaultRule {
        part: "/wiki/api/v2/spaces?".to_owned(),
        when: When::Always,
        what: What::Status(400),
    };
    let faults = Faults { rules: vec![refused], ..Faults::default() };
    let work = Workplace::new(Options { faults, ..tenant(1_000_000) }, None).await;
    let work = work.counting_points();
    let one = replication(&work, "one", "FILES", "");
    let args = ["--log-format", "json", "--max-points", "2000"];
    for _ in 0..2 {
        let (exit, said) = work.start_with(&one, &args, "").end().await;
        assert_eq!(exit, Some(1), "{said}");
        assert!(points(&said)["paused"].is_string(), "{said}");
    }
    // What it costs to go on is not asked again.
    let log = work.simulator.log();
    assert_eq!(log.iter().filter(|one| one.status == 400).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pauses_is_continued_in_postgres() {
    let database = Database::new().await;
    let work = Workplace::new(tenant(1_000_000), Some(&database)).await.counting_points();
    pause_and_go_on(&work, "OUT").await;
    let wrong = work.faults(work.in_postgres(&database).await);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pauses_is_continued_in_files() {
    let work = Workplace::new(tenant(1_000_000), None).await.counting_points();
    pause_and_go_on(&work, "FILES").await;
    let wrong = work.faults(Workplace::in_files(&work.path("out")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_stops_the_other_process_too() {
    /// Seconds that the tenant asks for, and within which the other process has to know.
    const WAIT: u64 = 8;
    const KNOWN: Duration = Duration::from_secs(3);
    let late = FaultRule {
        part: "/spaces".to_owned(),
        when: When::Numbers(vec![3]),
        what: What::TooMany(RetryAfter::Seconds(WAIT)),
    };
    let faults = Faults { rules: vec![late], ..Faults::default() };
    let latency = Duration::from_millis(5);
    let work = Workplace::new(Options { faults, latency, ..tenant(1_000_000) }, None).await;
    let work = work.counting_points();
    let pages = replication(&work, "pages", "FILES", "");
    let spaces = replication(&work, "spaces", "FILES", "");
    let text = fs::read_to_string(work.path(&spaces)).unwrap();
    fs::write(work.path(&spaces), text.replace("{stream_name}.parquet", "s/{stream_name}.parquet"))
        .unwrap();
    let mut busy = work.start_with(&pages, &["--streams", "page_labels,page_versions"], "");
    busy.until(|_| work.simulator.counters().requests > 100).await;
    let mut other =
        work.start_with(&spaces, &["--streams", "spaces,space_labels,space_permissions"], "");
    let held = |work: &Workplace| work.simulator.log().into_iter().find(|one| one.status == 429);
    let ended = other.until(|_| held(&work).is_some()).await;
    assert_eq!(ended, None, "it was never refused");
    let (exit, said) = other.end().await;
    assert_eq!(exit, Some(0), "{said}");
    let (exit, said) = busy.end().await;
    assert_eq!(exit, Some(0), "{said}");
    let told = held(&work).unwrap().finished;
    let (from, until) = (told + KNOWN, told + Duration::from_secs(WAIT));
    let log = work.simulator.log();
    let within = log.iter().filter(|one| one.started > from && one.started < until).count();
    let after = log.iter().filter(|one| one.started >= until).count();
    assert_eq!(within, 0);
    assert!(after > 100, "there was nothing left to ask: {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_a_connection_that_counts_no_points_is_said_to_be_none() {
    let work = Workplace::new(Options::default(), None).await;
    let one = replication(&work, "one", "FILES", "budget: 60%");
    let (exit, said) = work.start_with(&one, &["--streams", "spaces"], "").end().await;
    assert_eq!(exit, Some(0), "{said}");
    assert!(
        said.contains("`budget` has no effect: connection `WIKI` has no quota of points"),
        "{said}"
    );
    assert!(!work.path(".weir").exists());
    let (exit, said) = work.start_with(&one, &["--max-points", "9"], "").end().await;
    assert_eq!(exit, Some(2), "{said}");
    assert!(
        said.contains("has no quota of points") && said.contains("quota == 'points'"),
        "{said}"
    );
}
