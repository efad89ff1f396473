//! A database that dies while rows go to it.

use std::time::Duration;

use weir_sim::{Churn, Options};

use super::{AT_ONCE, check_repeated};
use crate::support::{
    dice::Dice,
    postgres::OwnServer,
    process::{Reading, Workplace},
};

/// Crashes of the server.
const CRASHES: usize = 3;

/// The server is killed and started again while a run goes on. The run may come through; when it does
/// not, it says what happened, and the next one goes on from what was saved.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_database_crashes_says_so_and_the_next_one_goes_on() {
    let server = OwnServer::start();
    let database = server.database().await;
    let tenant = Options {
        seed: 3,
        pages: 40,
        heavy_parents: 0,
        latency: Duration::from_millis(3),
        log_entries: Some(1_000_000),
        ..Options::default()
    };
    let work = Workplace::new(tenant, Some(&database)).await;
    work.replicate("{stream_name}", AT_ONCE, Reading::Everything);
    let mut dice = Dice(3);
    let mut failed = 0;
    for crash in 0..CRASHES {
        let requests = work.simulator.counters().requests + 1 + dice.below(100);
        let mut process = work.start();
        let ended = process.until(|_| work.simulator.counters().requests >= requests).await;
        if ended.is_some() {
            let (status, said) = process.kill();
            panic!("crash {crash}: {status} before it: {said}");
        }
        server.crash();
        let (code, said) = process.end().await;
        if code == Some(0) {
            continue;
        }
        failed += 1;
        let death = work.simulator.log().len();
        assert_eq!(code, Some(1), "crash {crash}: {said}");
        assert!(said.contains("connection") && said.contains("run again"), "{crash}: {said}");
        let (code, said) = work.start().end().await;
        assert_eq!(code, Some(0), "after crash {crash}: {said}");
        check_repeated(&work, &[death]);
        work.simulator.clear_log();
        // What a run has told to be done outlives the server.
        server.crash();
        let wrong = work.faults(work.in_postgres(&database).await);
        assert!(wrong.is_empty(), "after crash {crash}: {wrong:#?}");
        work.simulator.churn(dice.roll(), &Churn::of(30));
    }
    assert!(failed > 0, "no run noticed that its server crashed");
}

/// The server dies while a run goes on, and stays dead: the run ends with its summary and the way on.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_database_dies_ends_with_its_summary_and_the_way_on() {
    let server = OwnServer::start();
    let database = server.database().await;
    let tenant = Options {
        seed: 5,
        pages: 40,
        heavy_parents: 0,
        latency: Duration::from_millis(3),
        log_entries: Some(1_000_000),
        ..Options::default()
    };
    let work = Workplace::new(tenant, Some(&database)).await;
    work.replicate("{stream_name}", AT_ONCE, Reading::Everything);
    let mut process = work.start();
    let ended = process.until(|_| work.simulator.counters().requests >= 40).await;
    assert_eq!(ended, None, "it ended before the server died");
    server.stop();
    let (code, said) = process.end().await;
    let death = work.simulator.log().len();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the saved state was not reachable at the end of the run"), "{said}");
    assert!(said.lines().any(|line| line.trim_start().starts_with("total")), "{said}");
    assert!(said.contains("the progress is saved: run again to resume"), "{said}");
    server.crash();
    let (code, said) = work.start().end().await;
    assert_eq!(code, Some(0), "{said}");
    check_repeated(&work, &[death]);
    let wrong = work.faults(work.in_postgres(&database).await);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
