//! Whole histories under simulated time: what faults, changes and deaths do to a replication, and that
//! the target equals the source in the end.
//!
//! One seed makes one history. `HISTORY=17 cargo test --test it one_history -- --ignored --nocapture`
//! lets it happen again and tells it.

use std::{
    collections::BTreeMap,
    env,
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use weir::report::Event;
use weir::sync::report::RunStatus;
use weir::write::memory::Memory;
use weir_sim::What::{ExpiredCursor, Malformed, Missing, Reset, Slow, Status, TooMany, Truncate};
use weir_sim::{
    Churn, Churning, FaultRule, Faults, Options, PointsQuota, QuotaHeaders, RetryAfter, STREAMS,
    What, When,
};

use crate::support::{
    dice::Dice,
    world::{Life, World},
};

/// Histories in every run of the tests, and in a long one.
const HISTORIES: u64 = 300;
const MANY_HISTORIES: u64 = 10_000;
/// Points that a site with a quota gives in an hour.
const PER_HOUR: u64 = 10_000;
/// Seconds between two checkpoints.
const INTERVAL: u64 = 1;
/// Requests under way at once.
const CONCURRENCY: usize = 4;

fn small(seed: u64) -> Options {
    Options {
        seed,
        spaces: 3,
        pages: 14,
        blog_posts: 4,
        attachments: 6,
        groups: 3,
        tasks: 8,
        custom_content: 4,
        labels: 40,
        body_bytes: 64,
        heavy_parents: 0,
        now: Some("2026-10-01T00:00:00Z".parse().unwrap()),
        ..Options::default()
    }
}

fn replication(defaults: &str) -> String {
    format!(
        "
source: WIKI
target: OUT
defaults:
  inputs: {{ custom_content_types: ['ac:com.example.diagrams:diagram', 'forge:1b2c3d4e:9f8e7d6c:board'] }}
  {defaults}
checkpoint: {{ every: {INTERVAL}s, size: 1MiB }}
limits: {{ requests_per_second: 20, concurrency: {CONCURRENCY} }}
streams: {{ '*': }}
"
    )
}

impl Dice {
    /// Whether something of this chance, in hundredths, happens.
    fn hits(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()].clone()
    }

    /// Something to go wrong with a share of the requests, in thousandths.
    fn share(&mut self, percent: u64, most: u32, what: What) -> Option<FaultRule> {
        let share = f64::from(u32::try_from(self.below(u64::from(most))).unwrap()) / 1000.0;
        let fault = FaultRule { part: String::new(), when: When::Share(share), what };
        self.hits(percent).then_some(fault)
    }

    fn faults(&mut self) -> Faults {
        let seconds = self.below(6);
        let slow = Duration::from_millis(self.below(3000));
        let storm = When::First(self.below(9));
        let storm =
            FaultRule { part: String::new(), when: storm, what: TooMany(RetryAfter::Silent) };
        let status = self.one(&[500, 502, 503, 504]);
        let part = self.one(&["/labels", "/versions", "/properties", "permissions", "-comments"]);
        let refused = FaultRule { part: part.to_owned(), ..storm.clone() };
        let number = When::Numbers(vec![1 + self.below(8), 1 + self.below(20)]);
        let refusal = self.one(&[Status(403), Missing]);
        let rules = [
            self.hits(20).then_some(storm),
            self.share(40, 60, TooMany(RetryAfter::Seconds(seconds))),
            self.share(20, 40, TooMany(RetryAfter::Silent)),
            self.share(40, 60, Status(status)),
            self.share(30, 50, Reset),
            self.share(30, 50, Truncate),
            self.share(20, 40, Malformed),
            self.share(40, 100, Slow(slow)),
            self.share(30, 200, ExpiredCursor),
            self.hits(25).then_some(FaultRule { when: number, what: refusal, ..refused }),
        ];
        let revoke_after = self.hits(15).then(|| self.below(200));
        let restore_after = revoke_after.map(|after| after + 1 + self.below(10));
        let requests_per_second = self.hits(15).then_some(15);
        Faults {
            rules: rules.into_iter().flatten().collect(),
            requests_per_second,
            revoke_after,
            restore_after,
        }
    }
}

/// Requests that a site may refuse, for each of which another one does.
const REFUSED: [&str; 10] = [
    "/wiki/api/v2/footer-comments",
    "/wiki/api/v2/inline-comments",
    "/wiki/api/v2/pages/{id}?include-labels",
    "/wiki/api/v2/attachments/{id}",
    "/wiki/rest/api/content/search",
    "/wiki/api/v2/labels/{id}/pages",
    "/wiki/api/v2/inline-comments?sort",
    "/wiki/api/v2/tasks?created-at-from",
    "/wiki/api/v2/pages?sort",
    "/wiki/api/v2/pages?id",
];

impl Dice {
    /// A site with manners of its own.
    fn site(&mut self, seed: u64) -> Options {
        let short_pages = if self.hits(50) { 0.5 } else { 0.0 };
        let refused = (self.one(&REFUSED).to_owned(), self.one(&[400, 404, 410]));
        let refuses = self.hits(20).then_some(refused).into_iter().collect();
        let headers =
            self.one(&[QuotaHeaders::Standard, QuotaHeaders::Older, QuotaHeaders::Silent]);
        // Of what others spend a site without headers tells nothing, nor for how long it refuses.
        let silent = headers == QuotaHeaders::Silent;
        let others = if silent { 0 } else { self.one(&[0, 5_000, 7_500]) };
        let quota = self.hits(25).then_some(PointsQuota { per_hour: PER_HOUR, headers, others });
        Options {
            short_pages,
            refuses,
            quota,
            heavy_parents: usize::from(self.hits(10)),
            replies_in_global_lists: !self.hits(15),
            index_lag: Duration::from_secs(self.one(&[0, 0, 0, 90, 86_400])),
            ..small(seed)
        }
    }

    /// Routes that somebody wants of some streams.
    fn routes(&mut self, world: &World) -> Vec<(String, String)> {
        let mut routes = Vec::new();
        for (name, stream) in world.spec.selectable() {
            let open = stream.routes.iter().filter(|(_, requests)| {
                requests.0.iter().all(|one| one.when.as_deref().is_none_or(by_default))
            });
            let names =
                open.map(|(route, _)| route.as_str()).chain(["default"]).collect::<Vec<_>>();
            if self.hits(30) {
                routes.push((name.clone(), self.one(&names).to_owned()));
            }
        }
        routes
    }
}

impl Dice {
    /// Routes of the last run: what was known of rows must not hide that they are not there.
    fn last_routes(&mut self) -> Vec<(String, String)> {
        let probed =
            ["pages", "blog_posts"].map(|name| (name.to_owned(), "list_then_fetch".to_owned()));
        if self.hits(50) { probed.to_vec() } else { Vec::new() }
    }
}

/// Whether a condition of a route holds with the inputs as they are.
fn by_default(when: &str) -> bool {
    !when.contains("child_types == 'page'") && !when.starts_with("space_keys")
}

/// Whether a stream is read anew, since its route was refused.
fn leaves_its_route(event: &Event) -> bool {
    match event {
        Event::Warning { message, .. } => {
            message.contains("reads the stream by its default route")
                || message.contains("reads the stream in full")
        }
        Event::StreamFinished { report } => report.route_refused,
        _ => false,
    }
}

/// What a site has given beyond its quota in an hour.
fn overspent(world: &World) -> Option<String> {
    let mut hours = BTreeMap::<u64, u64>::new();
    let log = world.simulator.log();
    let born = log.first()?.started;
    for request in &log {
        let at = request.started.duration_since(born).as_secs();
        *hours.entry(at / 3600).or_default() += request.points;
    }
    let most = hours.values().max().copied().unwrap_or_default();
    (most > PER_HOUR + 251).then(|| format!("{most} points of {PER_HOUR} were spent in an hour"))
}

/// A site, and a spec that it may refuse to list changed pages to.
fn world_of(site: &Options) -> World {
    let mut world = World::new(site.clone());
    if site.quota.is_some() {
        world.fields.open.insert("quota".to_owned(), "points".to_owned());
        world.spec.limits.points.as_mut().unwrap().per_hour = PER_HOUR;
    }
    world.list_changes_apart("pages");
    world
}

/// A history: runs with faults, changes and deaths, then one in peace. Returns what is wrong in the
/// end, after the story of it.
fn history(seed: u64) -> (String, Vec<String>) {
    let mut dice = Dice(seed);
    let site = dice.site(seed);
    let mut world = world_of(&site);
    if dice.hits(20) {
        world.elsewhere = Some(Memory::new());
    }
    let mode = dice.one(&["full-refresh", "incremental", "incremental", "incremental"]);
    let refresh = dice.one(&["", ", refresh: 0s", ", refresh: 2h"]);
    let deletes = dice.one(&["mark", "mark", "remove"]);
    let settings = format!("mode: {mode}{refresh}, deletes: {deletes}");
    let replication = replication(&settings.replace(
        ", ", "
  ",
    ));
    let Options { short_pages, refuses, quota, .. } = &site;
    let mut story = vec![settings, format!("{short_pages} {refuses:?} {quota:?}")];
    let mut wrong = Vec::new();
    for run in 1..=1 + dice.below(3) {
        world.churn(dice.roll(), &Churn::of(usize::try_from(dice.below(25)).unwrap()));
        let faults = if dice.hits(70) { dice.faults() } else { Faults::default() };
        let churning = dice.hits(40).then(|| Churning::every(3 + dice.below(40), dice.roll()));
        let quiet = churning.is_none();
        let every = churning.as_ref().map(|one| one.every_requests);
        story.push(format!("run {run}: {faults:?}, a change every {every:?} requests"));
        world.options.routes = if dice.hits(50) { dice.routes(&world) } else { Vec::new() };
        story.push(format!("  by {:?}", world.options.routes));
        let expiring = faults.rules.iter().any(|rule| rule.what == ExpiredCursor);
        world.simulator.set_faults(faults);
        world.simulator.set_churning(churning);
        let mut saved: BTreeMap<String, u32> = BTreeMap::new();
        let mut left = false;
        let since = world.beginning().now;
        for life in 1.. {
            let steps = (life < 8 && dice.hits(65)).then(|| 1 + dice.below(500).cast_signed());
            let lived = world.live(&replication, steps, world.beginning());
            let ended = match &lived.report {
                None => format!("killed after {steps:?} steps"),
                Some(Ok(report)) => format!("{:?}", report.status),
                Some(Err(error)) => error.chain(),
            };
            story.push(format!("  life {life}: {} answers, {ended}", lived.answers.len()));
            story.extend(lived.events.iter().filter_map(told));
            // Parents are listed again for a stream whose route was refused.
            left |= lived.events.iter().any(leaves_its_route);
            if quiet && !expiring && !left {
                wrong.extend(repeated(&saved, &lived).map(|url| format!("{run}.{life}: {url}")));
            }
            if quiet {
                let streams = STREAMS.iter();
                wrong.extend(streams.flat_map(|stream| world.falsely_deleted(stream, since)));
            }
            if lived.report.is_none() && world.is_open() {
                save(&mut saved, &lived);
            } else {
                saved.clear();
            }
            let over =
                matches!(&lived.report, Some(Ok(report)) if report.status != RunStatus::Failed);
            if over || life > 12 {
                break;
            }
            world.pass(Duration::from_secs(dice.below(600)));
        }
        world.simulator.set_churning(None);
        world.pass(Duration::from_mins(1 + dice.below(60 * 20)));
    }
    world.options.routes = dice.last_routes();
    world.simulator.set_faults(Faults::default());
    world.pass(Duration::from_hours(25));
    world.churn(dice.roll(), &Churn::of(3));
    in_peace(&world, &replication, &mut story, &mut wrong);
    wrong.extend(STREAMS.iter().flat_map(|stream| world.faults(stream)));
    if world.memory.staged() > 0 {
        wrong.push(format!("{} rows are still staged", world.memory.staged()));
    }
    wrong.extend(overspent(&world).filter(|_| site.quota.is_some()));
    (story.join("\n"), wrong)
}

/// Runs to the end, with nothing going wrong.
fn in_peace(world: &World, replication: &str, story: &mut Vec<String>, wrong: &mut Vec<String>) {
    // The first one may have to end what an earlier one began.
    for _ in 0..2 {
        let last = world.run(replication);
        let incomplete: Vec<_> =
            last.streams.iter().filter(|stream| !stream.complete).map(|one| &one.stream).collect();
        story.push(format!("last: {:?}, continued {}", last.status, last.continued));
        if !last.continued {
            if last.status != RunStatus::Done || !incomplete.is_empty() {
                wrong.push(format!("the last run: {:?}, {incomplete:?}", last.status));
            }
            break;
        }
        world.pass(Duration::from_hours(25));
    }
}

/// What a process told of things that went wrong for good.
fn told(event: &Event) -> Option<String> {
    match event {
        Event::Warning { message, .. } => Some(format!("    {message}")),
        Event::StreamFinished { report } => {
            let error = report.error.as_ref()?;
            Some(format!("    {}: {error}", report.stream))
        }
        _ => None,
    }
}

/// Adds what was answered before the last interval of a life: by then it was saved.
fn save(saved: &mut BTreeMap<String, u32>, life: &Life) {
    let interval = Duration::from_millis(INTERVAL * 1000 + 100);
    for answer in life.answers.iter().filter(|answer| answer.at + interval < life.end) {
        *saved.entry(answer.url.clone()).or_default() += 1;
    }
}

/// What a life asked for although it was saved.
fn repeated(saved: &BTreeMap<String, u32>, life: &Life) -> impl Iterator<Item = String> {
    let mut asked = saved.clone();
    life.answers.iter().filter_map(move |answer| {
        let times = asked.entry(answer.url.clone()).or_default();
        *times += 1;
        // Comments of pages and those of blog posts come by the same listing, once each.
        let shared = answer.url.contains("/v2/footer-comments")
            || answer.url.contains("/v2/inline-comments");
        // By this one a run makes sure of its credentials, whenever they were refused.
        let tests = answer.url.ends_with("/v2/spaces?limit=1");
        (!tests && *times > if shared { 2 } else { 1 })
            .then(|| format!("asked again for {}", answer.url))
    })
}

fn tell(seed: u64) -> Result<(), String> {
    let (story, wrong) = history(seed);
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "history {seed}: {}\n{}\nlet it happen again with \
         `HISTORY={seed} cargo test --test it one_history -- --ignored --nocapture`",
        wrong.join("\n  "),
        story,
    ))
}

/// Lets histories happen on all processors; tells the first that go wrong.
fn all(seeds: Range<u64>) {
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || failures.lock().unwrap().len() >= 3 {
                break;
            }
            if let Err(failure) = tell(seed) {
                failures.lock().unwrap().push(failure);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn histories_end_with_the_target_equal_to_the_source() {
    all(0..HISTORIES);
}

#[test]
#[ignore = "takes minutes; in a release build"]
fn many_histories_end_with_the_target_equal_to_the_source() {
    all(HISTORIES..HISTORIES + MANY_HISTORIES);
}

#[test]
#[ignore = "tells the history of the seed in HISTORY"]
#[expect(clippy::disallowed_methods, reason = "the seed is the tester's")]
fn one_history() {
    let seed = env::var("HISTORY").expect("set HISTORY to the seed of a history").parse().unwrap();
    let (story, wrong) = history(seed);
    println!("history {seed}: {story}\nwrong: {wrong:#?}");
    assert!(wrong.is_empty());
}

/// Time goes on only when nothing is left to do.
#[test]
fn checkpoints_of_zero_seconds_come_when_there_is_something_to_save() {
    let world = World::new(small(5));
    let always = format!("every: {INTERVAL}s, size: 1MiB");
    let replication = replication("mode: incremental").replace(&always, "every: 0s");
    assert!(replication.contains("{ every: 0s }"), "{replication}");
    assert_eq!(world.run(&replication).status, RunStatus::Done);
    let wrong: Vec<_> = STREAMS.iter().flat_map(|stream| world.faults(stream)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_history_happens_again_alike() {
    for seed in [3, 4] {
        assert_eq!(history(seed), history(seed));
    }
}
