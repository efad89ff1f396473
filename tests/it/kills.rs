//! The program itself, killed again and again while it reads a tenant over a socket, and robbed of its
//! database and its disk: whatever happens, a run in peace leaves the tables equal to the tenant.

mod disk;
mod server;
mod signals;

use std::collections::BTreeMap;

use crate::support::process::{CONCURRENCY, Workplace};

/// Checkpoints by which every answer is saved at once.
const AT_ONCE: &str = "{ mib: 0, seconds: 5 }";
/// Answers that a stream may lose all the same: those that were on their way when the process died
/// before and this time, those that wait to be saved, and the one that is being saved.
const UNSAVED: usize = 2 * CONCURRENCY + 16 + 1;

/// Fails when more was asked again since the log was cleared than these deaths may cost: each is told
/// by the length of the log at that time.
#[track_caller]
fn check_repeated(work: &Workplace, deaths: &[usize]) {
    let log = work.simulator.log();
    let urls = log.iter().map(|request| format!("{}?{}", request.path, request.query));
    let urls: Vec<String> = urls.collect();
    let mut begin = 0;
    for death in deaths {
        let (life, later) = (times(&urls[begin..*death]), times(&urls[*death..]));
        let mut lost: BTreeMap<String, usize> = BTreeMap::new();
        for (url, answered) in life {
            let path = url.split('?').next().unwrap_or_default();
            // Comments of pages and those of blog posts come by the same listing, once each.
            let shared = path.ends_with("/footer-comments") || path.ends_with("/inline-comments");
            let asked = answered + later.get(url).copied().unwrap_or_default();
            let again = asked.saturating_sub(if shared { 2 } else { 1 });
            let is_id =
                |part: &str| part != "v2" && part.ends_with(|last: char| last.is_ascii_digit());
            let kind = path.split('/').filter(|part| !is_id(part)).collect::<Vec<_>>().join("/");
            *lost.entry(kind).or_default() += answered.min(again);
        }
        for (kind, times) in lost {
            let streams = if kind.contains("-comments") { 2 } else { 1 };
            assert!(
                times <= streams * UNSAVED,
                "{kind}: {times} answers were lost with the process, of {}",
                death - begin
            );
        }
        begin = *death;
    }
}

/// How often each is there.
fn times(urls: &[String]) -> BTreeMap<&str, usize> {
    let mut times = BTreeMap::new();
    for url in urls {
        *times.entry(url.as_str()).or_default() += 1;
    }
    times
}
