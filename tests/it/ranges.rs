//! What plans say and what runs come to, over many simulated sites.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use weir::report::{Planned, StreamReport};
use weir::sync::report::RunReport;
use weir_sim::{ChildCounts, Churn, Happening, Options, STREAMS};

use crate::support::world::World;

/// Streams of which the API tells how many records there are.
const COUNTED: [&str; 4] = ["spaces", "pages", "blog_posts", "attachments"];
/// Hours between runs that read what changed.
const HOURS: [u64; 3] = [1, 6, 21];

/// A site, and what is read of it.
#[derive(Debug)]
struct Case {
    site: &'static str,
    seed: u64,
    quota: &'static str,
    streams: Vec<&'static str>,
}

const SITES: [&str; 5] = ["demonstration", "small", "many spaces", "sparse", "busy"];

/// Sites of several sizes and habits.
fn site(name: &str, seed: u64) -> Options {
    let now = Some("2026-10-01T00:00:00Z".parse().unwrap());
    let base = Options { seed, body_bytes: 64, now, ..Options::default() };
    match name {
        "small" => Options {
            spaces: 2,
            pages: 9,
            blog_posts: 0,
            attachments: 0,
            tasks: 1,
            labels: 4,
            heavy_parents: 0,
            ..base
        },
        "many spaces" => Options { spaces: 50, pages: 150, ..base },
        "sparse" => Options {
            pages: 300,
            heavy_parents: 0,
            replies_in_global_lists: false,
            children: ChildCounts {
                labels: 0.3,
                versions: 1.2,
                footer_comments: 0.2,
                inline_comments: 0.1,
                properties: 0.1,
                space_labels: 0.1,
                space_permissions: 10.0,
                space_properties: 0.5,
            },
            ..base
        },
        "busy" => Options {
            blog_posts: 40,
            attachments: 90,
            children: ChildCounts {
                labels: 6.0,
                versions: 12.0,
                footer_comments: 6.0,
                inline_comments: 4.0,
                properties: 5.0,
                space_labels: 4.0,
                space_permissions: 120.0,
                space_properties: 5.0,
            },
            ..base
        },
        _ => base,
    }
}

/// What happens in so many hours, but for what would take away or bring a large part of a small site at once.
fn churn(case: &Case, hours: u64) -> Churn {
    use Happening as H;
    let spaces = [H::SpaceArchived, H::SpaceRestored];
    let pages = [H::PageTrashed, H::PagePurged, H::PageArchived];
    let others = [H::BlogPostTrashed, H::BlogPostPurged, H::AttachmentTrashed, H::AttachmentPurged];
    let large = [&spaces[..], &pages, &others].concat();
    let kinds = Happening::USUAL.into_iter().filter(|kind| !large.contains(kind)).collect();
    let rare = if case.site == "small" { 6 } else { 2 };
    Churn { changes: usize::try_from(hours.div_ceil(rare)).unwrap(), kinds }
}

fn replication(mode: &str, streams: &[&str]) -> String {
    let names: Vec<String> = streams.iter().map(|name| format!("  {name}:\n")).collect();
    let names = names.concat();
    format!(
        "source: WIKI\ntarget: OUT\ndefaults: {{ mode: {mode} }}\n\
         limits: {{ requests_per_second: 0 }}\nstreams:\n{names}"
    )
}

/// Which figures of a run lie outside their range, or `near`: are more than a quarter off.
fn misses(run: &RunReport, near: bool) -> Vec<String> {
    let Planned { requests, points, assumed, requests_range, points_range } = run.planned.unwrap();
    let sum = |of: fn(&StreamReport) -> u64| run.streams.iter().map(of).sum::<u64>();
    let figures = [
        ("requests", requests, requests_range, sum(|one| one.requests)),
        ("points", points, points_range, sum(|one| one.points)),
    ];
    let off = figures.into_iter().filter(|(_, figure, [least, most], sent)| {
        let off = sent.abs_diff(*figure);
        // A figure of a few is off by a few.
        let is_near = off * 4 <= *figure || off <= 5 && *figure < 20;
        let within = (least..=most).contains(&sent);
        !within && (assumed || !is_near) || near && !is_near
    });
    let told = off.map(|(unit, figure, [least, most], sent)| {
        let streams = run.streams.iter().map(|one| {
            let StreamReport { stream, route, reach, requests, points, rows, .. } = one;
            format!("{stream} by {route}, {reach}: {requests} and {points} for {rows}")
        });
        let streams: Vec<String> = streams.collect();
        format!("{unit}: {figure} ({least} to {most}), sent {sent}: {streams:#?}")
    });
    told.collect()
}

/// What is off in the first plan, in those that read changes, and in that of a second complete reading.
fn lived(case: &Case) -> Vec<String> {
    let world = || {
        let mut world = World::new(site(case.site, case.seed));
        world.fields.open.insert("quota".to_owned(), case.quota.to_owned());
        world
    };
    let wiki = world();
    let incremental = replication("incremental", &case.streams);
    let counted = case.streams.iter().all(|stream| COUNTED.contains(stream));
    let mut all = vec![("first".to_owned(), misses(&wiki.run(&incremental), counted))];
    for hours in HOURS {
        wiki.churn(case.seed + hours, &churn(case, hours));
        wiki.pass(Duration::from_hours(hours));
        all.push((format!("after {hours} h"), misses(&wiki.run(&incremental), false)));
    }
    let wiki = world();
    let full = replication("full-refresh", &case.streams);
    wiki.run(&full);
    wiki.pass(Duration::from_hours(1));
    all.push(("second".to_owned(), misses(&wiki.run(&full), true)));
    let told = all.into_iter().flat_map(|(what, misses)| {
        misses.into_iter().map(move |miss| format!("{what}: {case:?}: {miss}"))
    });
    told.collect()
}

/// Each stream alone, pairs, and all, on sites of several sizes.
fn cases() -> Vec<Case> {
    let pairs = STREAMS
        .into_iter()
        .enumerate()
        .flat_map(|(at, one)| STREAMS.into_iter().skip(at + 1).map(move |other| vec![one, other]));
    let singles = STREAMS.into_iter().flat_map(|stream| [vec![stream], vec![stream]]);
    let all = std::iter::repeat_n(STREAMS.to_vec(), 4);
    let subsets = all.chain(singles).chain(pairs.step_by(17));
    let numbered = subsets.enumerate().map(|(number, streams)| Case {
        site: SITES[number % SITES.len()],
        seed: 1 + u64::try_from(number % 7).unwrap(),
        quota: if number % 4 < 2 { "points" } else { "none" },
        streams,
    });
    numbered.collect()
}

#[test]
fn what_a_run_sends_and_spends_lies_where_its_plan_says() {
    let cases = cases();
    let next = AtomicUsize::new(0);
    let work = || {
        let cases = std::iter::from_fn(|| cases.get(next.fetch_add(1, Ordering::Relaxed)));
        cases.flat_map(lived).collect::<Vec<String>>()
    };
    let off: Vec<String> = thread::scope(|scope| {
        let workers = [0, 1].map(|_| scope.spawn(work));
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(off.is_empty(), "{}", off.join("\n"));
}
