//! What runs ask for: a tenant of 10,000 pages under simulated time. First a naive run (each stream by
//! its own requests), the planned run and a second one of everything, each with what was planned and with
//! the points that its rows alone cost; then, with 1 % of the pages edited and 0.5 % deleted, the runs that
//! read what changed. For connections that pay points, and for those that do not.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![expect(clippy::print_stdout, reason = "what a benchmark measures goes to stdout")]

mod site;

use std::time::Duration;

use site::Site;
use weir::spec::Spec;
use weir::sync::report::RunReport;
use weir_sim::ChildCounts;

/// The reference tenant: on average so many of everything, with long tails.
fn children() -> ChildCounts {
    ChildCounts {
        labels: 2.0,
        versions: 6.0,
        footer_comments: 1.5,
        inline_comments: 0.5,
        properties: 1.0,
        ..ChildCounts::default()
    }
}

fn main() {
    let complete = "{ mode: full-refresh }";
    let pages_only = "{ mode: full-refresh, inputs: { child_types: page } }";
    let incremental = "{ mode: incremental }";
    for quota in ["points", "none"] {
        println!("## quota: {quota}");
        let (naive, floor) = {
            let site = Site::new(quota, children());
            let run = site.run("{ '*': }", complete, &site::own_routes());
            let floor = floor(&site::spec(), &run);
            tell("naive", &run, floor);
            (sums(&run), floor)
        };
        for defaults in [complete, pages_only] {
            let site = Site::new(quota, children());
            for name in ["first", "second"] {
                let run = site.run("{ '*': }", defaults, &[]);
                tell(&format!("{name}, {defaults}"), &run, floor);
                compare(&run, naive);
            }
        }
        for hours in [1, 24] {
            let site = Site::new(quota, children());
            let first = site.run("{ '*': }", incremental, &[]);
            site.change();
            site.pass(Duration::from_hours(hours));
            let second = site.run("{ '*': }", incremental, &[]);
            tell(&format!("{hours} h after 1 % was edited"), &second, floor);
            compare(&second, naive);
            compare(&second, sums(&first));
        }
    }
}

/// Requests and points of a run.
fn sums(run: &RunReport) -> (u64, u64) {
    let streams = run.streams.iter();
    streams.fold((0, 0), |sum, one| (sum.0 + one.requests, sum.1 + one.points))
}

/// Points that the rows of a run cost, were there no requests.
fn floor(spec: &Spec, run: &RunReport) -> u64 {
    let cost = |stream: &str| match spec.streams[stream].cost.as_deref() {
        Some("identity") => 2,
        _ => 1,
    };
    run.streams.iter().map(|one| one.rows * cost(&one.stream)).sum()
}

fn tell(name: &str, run: &RunReport, floor: u64) {
    let (requests, points) = sums(run);
    let rows: u64 = run.streams.iter().map(|one| one.rows).sum();
    let planned = run.planned.as_ref().map_or((0, 0), |one| (one.requests, one.points));
    println!(
        "{name}: {rows} rows, {requests} requests, {points} points; planned {} and {}; {floor} for \
         all rows alone",
        planned.0, planned.1
    );
    for one in &run.streams {
        println!(
            "  {:30} {:9} {:>7} rows {:>7} requests {:>7} points {:>6} deleted, {}",
            one.stream, one.route, one.rows, one.requests, one.points, one.deleted, one.reach
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts")]
fn compare(run: &RunReport, other: (u64, u64)) {
    let (requests, points) = sums(run);
    let times = |own: u64, other: u64| other as f64 / own.max(1) as f64;
    println!(
        "  against {} requests, {} points: {:.1} and {:.1} times less",
        other.0,
        other.1,
        times(requests, other.0),
        times(points, other.1)
    );
}
