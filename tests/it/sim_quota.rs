//! The simulated quota of points, as weir reads it from the headers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use weir::http::exchange::header;
use weir::quota::headers::ReportedQuota;
use weir::report::Event;
use weir::sync::report::RunStatus;
use weir_sim::{
    FaultRule, Faults, Options, PointsQuota, QuotaHeaders, RetryAfter, Simulator, What, When,
};

use super::sim::get;

const LISTING: &str = "/wiki/api/v2/pages?limit=50";

fn start() -> DateTime<Utc> {
    "2026-10-01T09:40:00Z".parse().unwrap()
}

fn simulator(per_hour: u64, headers: QuotaHeaders) -> Simulator {
    Simulator::new(Options {
        quota: Some(PointsQuota { per_hour, headers, others: 0 }),
        now: Some(start()),
        ..Options::default()
    })
}

#[tokio::test(start_paused = true)]
async fn an_hours_points_are_gone_until_the_top_of_the_hour() {
    let simulator = simulator(120, QuotaHeaders::Standard);
    // 1 for the request and 1 for each page; the answer that goes beyond is given yet.
    for status in [200, 200, 200, 429] {
        assert_eq!(get(&simulator, LISTING).await.status, status);
    }
    tokio::time::sleep(Duration::from_mins(5)).await;
    let refused = get(&simulator, LISTING).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.headers[header::RETRY_AFTER], "900");
    tokio::time::sleep(Duration::from_mins(15)).await;
    assert_eq!(get(&simulator, LISTING).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn identities_cost_twice_as_much() {
    let simulator = simulator(10_000, QuotaHeaders::Older);
    let left = async |path: &str| {
        let response = get(&simulator, path).await;
        ReportedQuota::read(&response.headers, simulator.now()).unwrap().remaining.unwrap()
    };
    let before = left("/wiki/api/v2/spaces?limit=1").await;
    let groups = simulator.truth("groups").unwrap().len() as u64;
    assert_eq!(before - left("/wiki/rest/api/group?limit=200").await, 1 + 2 * groups);
}

#[tokio::test(start_paused = true)]
async fn every_spelling_says_the_same() {
    let end = "2026-10-01T10:00:00Z".parse().unwrap();
    for (headers, binding) in [
        (QuotaHeaders::Standard, true),
        (QuotaHeaders::Beta, false),
        (QuotaHeaders::Older, true),
        (QuotaHeaders::OlderShort, true),
    ] {
        let simulator = simulator(60, headers);
        let response = get(&simulator, LISTING).await;
        let quota = ReportedQuota::read(&response.headers, simulator.now()).unwrap();
        assert_eq!((quota.limit, quota.remaining), (Some(60), Some(9)), "{headers:?}");
        assert_eq!((quota.reset, quota.binding), (Some(end), binding), "{headers:?}");
    }
    let silent = simulator(60, QuotaHeaders::Silent);
    get(&silent, LISTING).await;
    get(&silent, LISTING).await;
    let refused = get(&silent, LISTING).await;
    assert_eq!(refused.status, 429);
    assert!(!refused.headers.contains_key(header::RETRY_AFTER));
    let said = ReportedQuota::read(&refused.headers, silent.now());
    assert_eq!(said.and_then(|quota| quota.remaining), None);
}

#[test]
fn a_run_tells_the_points_that_the_site_has_counted() {
    use crate::support::world::World;
    let mut world = World::new(Options {
        now: Some(start()),
        quota: Some(PointsQuota {
            per_hour: 1_000_000,
            headers: QuotaHeaders::Standard,
            others: 0,
        }),
        ..Options::default()
    });
    let replication = "source: WIKI\ntarget: OUT\nstreams: { '*': }\n\
                       limits: { requests_per_second: 0 }\n";
    let points = |world: &World| {
        let run = world.run(replication);
        run.streams.iter().map(|stream| stream.points).sum::<u64>()
    };
    // An API token pays nothing.
    assert_eq!(points(&world), 0);
    world.fields.open.insert("quota".to_owned(), "points".to_owned());
    let before = world.simulator.counters().points;
    let spent = points(&world);
    assert_eq!(spent, world.simulator.counters().points - before);
}

#[test]
fn a_run_spends_an_hours_points_and_waits_for_the_next_without_a_refusal() {
    use crate::support::world::World;
    const PER_HOUR: u64 = 10_000;
    for headers in [QuotaHeaders::Standard, QuotaHeaders::OlderShort, QuotaHeaders::Silent] {
        let mut world = World::new(Options {
            now: Some(start()),
            pages: 2_500,
            quota: Some(PointsQuota { per_hour: PER_HOUR, headers, others: 0 }),
            ..Options::default()
        });
        world.fields.open.insert("quota".to_owned(), "points".to_owned());
        world.spec.limits.points.as_mut().unwrap().per_hour = PER_HOUR;
        let replication = "source: WIKI\ntarget: OUT\nstreams: { '*': }\n\
                           limits: { requests_per_second: 20 }\n";
        let life = world.live(replication, None, world.beginning());
        let run = life.report.unwrap().unwrap();
        assert_eq!(run.status, RunStatus::Done);
        let log = world.simulator.log();
        let refused = log.iter().filter(|request| request.status == 429).count();
        assert_eq!(refused, 0, "{headers:?}");
        let mut hours = std::collections::BTreeMap::<u64, u64>::new();
        let born = log.first().unwrap().started;
        for request in &log {
            // The site's clock starts twenty minutes before the hour.
            let minutes = (request.started - born).as_secs() / 60 + 40;
            *hours.entry(minutes / 60).or_default() += request.points;
        }
        assert!(hours.len() >= 4, "{hours:?}");
        let last = *hours.keys().last().unwrap();
        // It is told once in an hour that it waits for the next one.
        let waits = life.events.iter().filter(|event| matches!(event, Event::Waiting { .. }));
        assert_eq!(waits.count(), hours.len() - 1);
        let points = run.points.unwrap();
        assert_eq!((points.spent, points.waits), (hours.values().sum(), hours.len() as u64 - 1));
        assert!(points.budget == PER_HOUR && points.waited_seconds > 60.0, "{points:?}");
        for (hour, points) in hours {
            assert!(points <= PER_HOUR, "{headers:?}: {hour}: {points}");
            assert!(hour == last || points * 100 >= PER_HOUR * 97, "{headers:?}: {hour}: {points}");
        }
    }
}

/// A world that counts points, in which the first request for a part is refused.
fn refusing(part: &str, wait: RetryAfter) -> crate::support::world::World {
    let rule = FaultRule { part: part.to_owned(), when: When::First(1), what: What::TooMany(wait) };
    let mut world = crate::support::world::World::new(Options {
        now: Some(start()),
        latency: Duration::from_millis(20),
        faults: Faults { rules: vec![rule], ..Faults::default() },
        quota: Some(PointsQuota { per_hour: 65_000, headers: QuotaHeaders::Standard, others: 0 }),
        ..Options::default()
    });
    world.fields.open.insert("quota".to_owned(), "points".to_owned());
    world
}

const ALL: &str = "source: WIKI\ntarget: OUT\nstreams: { '*': }\n\
                   limits: { requests_per_second: 20 }\n";

#[test]
fn a_wait_that_is_too_long_fails_the_run_or_pauses_it() {
    let world = refusing("/tasks", RetryAfter::Seconds(7_200));
    let failed = world.run(ALL);
    assert_eq!(failed.status, RunStatus::Failed);
    let hints = failed.streams.iter().filter_map(|stream| stream.hint.as_deref());
    let too_long = hints.filter(|hint| hint.contains("limits.max_wait"));
    assert!(too_long.count() > 1, "nobody asks any more: {failed:#?}");

    // The rest of the hour is not waited for either, where a run is to pause.
    let world = refusing("/tasks", RetryAfter::Seconds(1_200));
    let paused = world.run(&format!("{ALL}on_budget: pause\n"));
    assert_eq!(paused.status, RunStatus::Paused, "{paused:#?}");

    let world = refusing("/tasks", RetryAfter::Seconds(7_200));
    let paused = world.run(&format!("{ALL}on_budget: pause\n"));
    assert_eq!(paused.status, RunStatus::Paused, "{paused:#?}");
    assert!(paused.resumable);
    let at = paused.points.unwrap().resume_at.unwrap();
    assert!(at.starts_with("2026-10-01T11:40:"), "{at}");
    // The next run, when it is time, goes on and finishes.
    world.pass(Duration::from_hours(2));
    let done = world.run(ALL);
    assert_eq!((done.status, done.continued), (RunStatus::Done, true));
}

#[test]
fn a_refusal_lets_the_whole_connection_rest() {
    for (wait, least) in [(RetryAfter::Seconds(1_800), 1_800.0), (RetryAfter::Silent, 3.5)] {
        let world = refusing("/tasks", wait);
        let run = world.run(ALL);
        assert_eq!(run.status, RunStatus::Done);
        let log = world.simulator.log();
        let refused = log.iter().find(|request| request.status == 429).unwrap().finished;
        let later = log.iter().filter(|request| request.started > refused);
        let next = later.map(|request| request.started).min().unwrap();
        assert!((next - refused).as_secs_f64() >= least, "{:?}", next - refused);
    }
}

#[test]
fn what_a_run_may_spend_in_all_is_used_up_and_not_more() {
    // Of so few points, one request that was never answered may reserve a twelfth.
    let mut world = refusing("/nothing", RetryAfter::Silent);
    let mut spent = Vec::new();
    loop {
        world.options.max_points = Some(3_000);
        let run = world.run(ALL);
        spent.push(run.points.unwrap().spent);
        if run.status == RunStatus::Done {
            break;
        }
        assert_eq!(run.status, RunStatus::Paused);
    }
    spent.pop();
    assert!(
        !spent.is_empty() && spent.iter().all(|spent| (2_850..=3_000).contains(spent)),
        "{spent:?}"
    );
}
