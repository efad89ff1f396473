//! The program itself, killed again and again while it reads a tenant over a socket, and robbed of its
//! database and its disk: whatever happens, a run in peace leaves the tables equal to the tenant.

mod disk;
mod server;
mod signals;

use std::collections::BTreeMap;

use crate::support::process::{CONCURRENCY, Workplace};

/// Checkpoints by which every answer is saved at once.
const AT_ONCE: &str = "{ mib: 0, seconds: 5 }";
/// Answers that a stream may lose all the same: those that its workers hold, those that wait to be
/// saved, and the one that is being saved.
const UNSAVED: usize = CONCURRENCY + 16 + 1;

/// Fails when more was asked again since the log was cleared than so many deaths may cost.
#[track_caller]
fn check_repeated(work: &Workplace, deaths: usize) {
    for (kind, times) in repeated(work) {
        let streams = if kind.contains("-comments") { 2 } else { 1 };
        let most = deaths * streams * UNSAVED;
        assert!(times <= most, "{kind}: asked {times} times again after {deaths} deaths");
    }
}

/// Requests that were sent although they had been answered, by the kind of their path.
fn repeated(work: &Workplace) -> BTreeMap<String, usize> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for request in work.simulator.log() {
        *times.entry(format!("{}?{}", request.path, request.query)).or_default() += 1;
    }
    let mut again = BTreeMap::new();
    for (url, times) in times {
        let path = url.split('?').next().unwrap_or_default();
        let id = |part: &&str| !part.starts_with(|first: char| first.is_ascii_digit());
        let kind = path.split('/').filter(id).collect::<Vec<_>>().join("/");
        // Comments of pages and those of blog posts come by the same listing, once each.
        let shared = ["footer-comments", "inline-comments"].iter().any(|one| path.ends_with(one));
        *again.entry(kind).or_default() += times.saturating_sub(if shared { 2 } else { 1 });
    }
    again
}
