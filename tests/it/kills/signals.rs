//! SIGKILL at any moment.

use std::time::Duration;

use weir_sim::{Churn, Options};

use super::{AT_ONCE, check_repeated};
use crate::support::{
    dice::Dice,
    postgres::Database,
    process::{Reading, Workplace},
    rig::Row,
};

/// Deaths of a test, and how many of them the first reading of everything dies.
const KILLS: u32 = 50;
const FIRST_KILLS: u32 = 25;
/// Requests that a life takes at most, while everything is read for the first time and later.
const FIRST_SPAN: u64 = 45;
const LATER_SPAN: u64 = 300;
/// Changes between two runs.
const CHANGES: usize = 30;

fn tenant(seed: u64) -> Options {
    Options {
        seed,
        heavy_parents: 0,
        latency: Duration::from_millis(2),
        log_entries: Some(1_000_000),
        ..Options::default()
    }
}

/// When a process dies.
#[derive(Debug)]
enum Moment {
    /// When so many more requests are answered, and some time later.
    Requests(u64, Duration),
    /// When so many streams have ended: others are about to.
    Ended(usize),
}

impl Moment {
    fn choose(dice: &mut Dice, span: u64) -> Self {
        let requests = 1 + dice.below(span);
        match dice.below(10) {
            0..5 => Self::Requests(requests, Duration::ZERO),
            5..8 => Self::Requests(requests, Duration::from_micros(dice.below(40_000))),
            _ => Self::Ended(1 + usize::try_from(dice.below(6)).unwrap()),
        }
    }
}

/// Kills runs until that has happened often enough; tells what is wrong in the end.
async fn survive(
    work: &Workplace,
    seed: u64,
    object: &str,
    tables: impl AsyncFn() -> Vec<Vec<Row>>,
) {
    let mut dice = Dice(seed);
    let mut reading = Reading::Everything;
    let (mut kills, mut runs) = (0, 0);
    let mut deaths: Vec<usize> = Vec::new();
    work.replicate(object, AT_ONCE, reading);
    loop {
        let first = runs == 0;
        let in_peace = kills == KILLS || (first && kills == FIRST_KILLS);
        let moment = Moment::choose(&mut dice, if first { FIRST_SPAN } else { LATER_SPAN });
        let before = work.simulator.counters().requests;
        let mut process = work.start();
        let ended = process
            .until(|process| match moment {
                _ if in_peace => false,
                Moment::Requests(requests, _) => {
                    work.simulator.counters().requests >= before + requests
                }
                Moment::Ended(streams) => process.ended() >= streams,
            })
            .await;
        if let (None, Moment::Requests(_, later)) = (ended, &moment) {
            tokio::time::sleep(*later).await;
        }
        let (status, said) = process.kill();
        if status.code().is_none() {
            kills += 1;
            deaths.push(work.simulator.log().len());
            continue;
        }
        assert!(status.success(), "after {kills} kills, {runs} runs: {said}");
        check_repeated(work, &deaths);
        work.simulator.clear_log();
        if reading == Reading::Everything {
            let wrong = work.faults(tables().await);
            assert!(wrong.is_empty(), "after {kills} kills, {runs} runs: {wrong:#?}\n{said}");
        }
        if kills == KILLS && deaths.is_empty() && reading == Reading::Everything {
            break;
        }
        runs += 1;
        deaths.clear();
        reading = if kills == KILLS || dice.below(2) == 0 {
            Reading::Everything
        } else {
            Reading::Changes
        };
        work.replicate(object, AT_ONCE, reading);
        work.simulator.churn(dice.roll(), &Churn::of(CHANGES));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_into_postgres_outlive_50_kills() {
    let database = Database::new().await;
    let work = Workplace::new(tenant(1), Some(&database)).await;
    survive(&work, 1, "{stream_name}", async || work.in_postgres(&database).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_into_files_outlive_50_kills() {
    let work = Workplace::new(tenant(2), None).await;
    let tables = async || Workplace::in_files(&work.path("out"));
    survive(&work, 2, "{stream_name}.parquet", tables).await;
}
