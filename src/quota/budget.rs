//! The points budget of a run. A request reserves points before each attempt and settles them after it. When
//! the budget is spent, the run waits for the next window or pauses.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::error::{Error, Kind, Result};
use crate::quota::cost::QuotaPlan;
use crate::quota::headers::ReportedQuota;
use crate::quota::ledger::Ledger;
use crate::quota::request_cost::RequestCost;
use crate::quota::reservations::{Decision, Reservations, Reserved};
use crate::quota::terms::OnBudget;
use crate::report::{Event, PointsReport, Reporter};
use crate::state::Holder;
use reqwest::header::HeaderMap;

/// A requested wait above this is taken to be a mistake of the server.
const LIKELY: Duration = Duration::from_hours(24);

/// Maximum difference between clocks; added to the end of a window.
const MARGIN: TimeDelta = TimeDelta::seconds(1);
/// Interval at which a process that waits for points checks whether others have released some.
const RETRY: Duration = Duration::from_secs(10);
/// Number of checks at the shorter interval `SOON`, while other processes have reserved points that they may
/// release.
const QUICK_RETRIES: u32 = 20;
const SOON: Duration = Duration::from_millis(250);
/// Shorter waits are not reported.
const SHORT: TimeDelta = TimeDelta::seconds(10);

/// The points that a run may spend.
pub(crate) struct PointsBudget {
    quota: QuotaPlan,
    ledger: Arc<dyn Ledger>,
    reporter: Arc<dyn Reporter>,
    /// The wall-clock time at an instant. Tests simulate both.
    clock: (DateTime<Utc>, Instant),
    reservations: Mutex<Reservations>,
    /// Held during a ledger update, so that this process sends one at a time.
    updating: Arc<tokio::sync::Mutex<()>>,
    /// Points spent on record counts, before the first stream was read.
    counted: u64,
    /// Notified when a request is settled.
    settled: Notify,
    notices: Mutex<Notices>,
}

/// What the run reports about its waits.
#[derive(Debug, Default)]
struct Notices {
    /// End of the wait that was reported last.
    reported: Option<DateTime<Utc>>,
    waits: u64,
    since: Option<Instant>,
    waited: Duration,
    paused: Option<Pause>,
    /// End of the wait that the server requested, if it is longer than `max_wait`.
    refused: Option<DateTime<Utc>>,
}

/// The result of a ledger update.
enum Updated {
    /// The ledger granted the needed points.
    Granted,
    /// It did not. `busy`: requests of this process are in flight and may turn out cheaper than reserved.
    /// `hopeful`: other processes have reserved enough points that they may release.
    Refused { busy: bool, hopeful: bool },
}

/// Why the run ends before its work is done, and when it can be resumed.
#[derive(Clone, Debug)]
struct Pause {
    reason: String,
    until: Option<DateTime<Utc>>,
}

impl PointsBudget {
    /// A budget for a run that begins at `now` and has spent `spent` points already.
    pub(crate) fn new(
        quota: QuotaPlan,
        ledger: Arc<dyn Ledger>,
        reporter: Arc<dyn Reporter>,
        now: DateTime<Utc>,
        spent: u64,
    ) -> Arc<Self> {
        let most = quota.max_points.map(|most| most.saturating_sub(quota.spent));
        let mut reservations = Reservations::new(process(), quota.terms(), most);
        reservations.spent = spent;
        Arc::new(Self {
            quota,
            ledger,
            reporter,
            clock: (now, Instant::now()),
            reservations: Mutex::new(reservations),
            updating: Arc::default(),
            counted: spent,
            settled: Notify::new(),
            notices: Mutex::default(),
        })
    }

    fn now(&self) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.clock.1.elapsed()).unwrap_or(TimeDelta::zero());
        self.clock.0 + passed
    }

    /// Whether the run ends before its work is done.
    pub(crate) fn is_paused(&self) -> bool {
        self.notices().paused.is_some()
    }

    /// Waits until a request may be sent, and reserves its points.
    ///
    /// # Errors
    /// The run pauses, the API requests a wait longer than `max_wait`, or the ledger is unreachable.
    pub(crate) async fn reserve(self: &Arc<Self>, cost: RequestCost<'_>) -> Result<Reserved> {
        let mut quick_retries = QUICK_RETRIES;
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let mut decision = self.decide(cost)?;
            // Whether requests in flight, or other processes, may release points.
            let (mut busy, mut hopeful) = (false, false);
            if let Decision::Update(_) = decision {
                let alone = Arc::clone(&self.updating).lock_owned().await;
                decision = self.decide(cost)?;
                if let Decision::Update(points) = decision {
                    match self.update_alone(points, alone).await? {
                        Updated::Granted => continue,
                        Updated::Refused { busy: one, hopeful: other } => {
                            (busy, hopeful) = (one, other);
                        }
                    }
                }
            }
            match decision {
                Decision::Send { reserved, refresh } => {
                    if refresh {
                        self.refresh(false);
                    }
                    self.end_wait();
                    return Ok(reserved);
                }
                Decision::WaitUntil(until) => self.wait_until(until).await?,
                Decision::OverMaximum { settling: true, .. } => settled.await,
                Decision::OverMaximum { worst_case, settling: false } => {
                    return Err(self.pause(self.max_is_spent(worst_case), None));
                }
                Decision::Update(_) if busy => {
                    tokio::select! { () = settled => {}, () = sleep(RETRY) => {} }
                }
                Decision::Update(_) if hopeful && quick_retries > 0 => {
                    quick_retries -= 1;
                    tokio::select! { () = settled => {}, () = sleep(SOON) => {} }
                }
                Decision::Update(points) => {
                    let end = self.reservations().end;
                    if self.quota.on_budget == OnBudget::Pause {
                        return Err(self.pause(self.window_is_spent(points), Some(end)));
                    }
                    self.report_wait(end, self.window_is_spent(points));
                    let rest = (end + MARGIN - self.now()).to_std().unwrap_or_default();
                    tokio::select! { () = settled => {}, () = sleep(rest.min(RETRY)) => {} }
                }
            }
        }
    }

    /// Updates the ledger in a task of its own, so that granted points arrive even if the caller is
    /// cancelled.
    async fn update_alone(
        self: &Arc<Self>,
        points: u64,
        alone: tokio::sync::OwnedMutexGuard<()>,
    ) -> Result<Updated> {
        let budget = Arc::clone(self);
        let update = tokio::spawn(async move {
            let _alone = alone;
            budget.update(points).await
        });
        update
            .await
            .map_err(|error| Error::target("the task of the ledger panicked").because(error))?
    }

    fn decide(&self, cost: RequestCost<'_>) -> Result<Decision> {
        if let Some(pause) = self.notices().paused.clone() {
            return Err(self.paused(&pause));
        }
        Ok(self.reservations().decide(cost, self.now(), Instant::now()))
    }

    /// Replaces a reservation with the cost of the attempt, if it is known, and records the quota headers of
    /// the response.
    pub(crate) fn settle(
        self: &Arc<Self>,
        reserved: Reserved,
        cost: Option<u64>,
        headers: Option<&HeaderMap>,
    ) {
        let now = self.now();
        let mut reservations = self.reservations();
        let before = reservations.not_before;
        reservations.settle(reserved, cost, now);
        if let Some(quota) = headers.and_then(|headers| ReportedQuota::read(headers, now)) {
            reservations.observe_headers(&quota, now);
        }
        // Other processes need the points of a run that has ended, and must respect a new wait.
        let urgent = reservations.done || reservations.not_before > before;
        drop(reservations);
        self.settled.notify_waiters();
        if urgent {
            self.refresh(true);
        }
    }

    /// Delays all requests, because the server requested it. Returns the pause of the run if the wait lasts
    /// until the end of the window and the replication pauses instead of waiting.
    pub(crate) fn rest(self: &Arc<Self>, time: Duration) -> Option<Error> {
        self.wait(time);
        let until = self.reservations().not_before;
        let end = self.reservations().end;
        let long = until.filter(|until| *until - self.now() > SHORT && *until + MARGIN >= end);
        let pauses = self.quota.on_budget == OnBudget::Pause;
        let until = long.filter(|_| pauses)?;
        Some(self.pause("the API accepts no more requests".to_owned(), Some(until)))
    }

    /// Delays all requests of the connection, in this process and in others.
    fn wait(self: &Arc<Self>, time: Duration) {
        let time = TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX);
        let until = self.now().checked_add_signed(time).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let now = self.now();
        self.reservations().wait(until, now);
        self.refresh(true);
    }

    /// Handles a requested wait that is longer than `max_wait`. Returns the pause of the run; `None` if the
    /// wait is not too long, or if the request fails instead.
    pub(crate) fn too_long(self: &Arc<Self>, time: Duration) -> Option<Error> {
        if time <= self.quota.max_wait {
            return None;
        }
        self.wait(time);
        // The ledger stores at most `max_wait`: a wrong header must not stop later runs.
        let requested =
            TimeDelta::from_std(time).ok().and_then(|time| self.now().checked_add_signed(time));
        // A wait of more than a day is a mistake; the next run tries after the stored wait.
        let stored = self.reservations().not_before;
        let until = requested.filter(|_| time <= LIKELY).or(stored);
        self.notices().refused = until;
        let pauses = self.quota.on_budget == OnBudget::Pause;
        pauses.then(|| self.pause("the API requests a wait".to_owned(), until))
    }

    /// Updates the ledger in the background. If an update is in progress, an `urgent` one follows it, and
    /// another one is skipped.
    fn refresh(self: &Arc<Self>, urgent: bool) {
        let budget = Arc::clone(self);
        tokio::spawn(async move {
            let _alone = match budget.updating.try_lock() {
                Ok(alone) => alone,
                Err(_) if urgent => budget.updating.lock().await,
                Err(_) => return,
            };
            if let Err(error) = budget.update(0).await {
                tracing::warn!(error = error.chain(), "the points ledger cannot be reached");
            }
        });
    }

    /// Updates the ledger. The caller holds `updating`.
    async fn update(&self, need: u64) -> Result<Updated> {
        let update = self.reservations().update(need, self.now());
        let replied = self.ledger.exchange(&self.quota.connection, &update).await;
        let reply = replied.map_err(|error| error.within("the points ledger cannot be updated"))?;
        if self.reservations().apply(&update, &reply, Instant::now()) {
            return Ok(Updated::Granted);
        }
        let left = reply.budget.saturating_sub(reply.spent - reply.held);
        Ok(Updated::Refused { busy: update.in_flight > 0, hopeful: left >= update.need })
    }

    /// Releases the points that are left, and reports what was spent.
    pub(crate) async fn close(&self) -> PointsReport {
        let _alone = self.updating.lock().await;
        let update = self.reservations().release_all(self.now());
        let released = self.ledger.exchange(&self.quota.connection, &update).await;
        let mut reservations = self.reservations();
        match released {
            Ok(reply) => {
                reservations.apply(&update, &reply, Instant::now());
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "reserved points could not be released");
            }
        }
        let notices = self.notices();
        let paused = notices.paused.as_ref();
        let until = paused.and_then(|pause| pause.until);
        PointsReport {
            spent: reservations.spent,
            max_points: self.quota.max_points,
            budget: reservations.budget,
            window_spent: reservations.window_spent,
            waits: notices.waits,
            waited_seconds: notices.waited.as_secs_f64(),
            paused: paused.map(|pause| pause.reason.clone()),
            resume_at: until.map(|until| until.format("%Y-%m-%dT%H:%M:%SZ").to_string()),
        }
    }

    /// Waits until requests may be sent again, unless the wait is too long.
    async fn wait_until(self: &Arc<Self>, until: DateTime<Utc>) -> Result<()> {
        let until = self.notices().refused.map_or(until, |refused| until.max(refused));
        let wait = until - self.now();
        let longest = TimeDelta::from_std(self.quota.max_wait).unwrap_or(TimeDelta::MAX);
        // A wait includes up to one second of jitter.
        let too_long = wait > longest.checked_add(&MARGIN).unwrap_or(longest);
        let rest_of_window = until + MARGIN >= self.reservations().end && wait > SHORT;
        if self.quota.on_budget == OnBudget::Pause && (too_long || rest_of_window) {
            return Err(self.pause("the API accepts no more requests".to_owned(), Some(until)));
        }
        if too_long {
            let seconds = wait.num_seconds();
            let what = format!("the API requests a wait of {seconds} s");
            return Err(Error::new(Kind::Unreachable, what).with_hint(format!(
                "that is longer than `limits.max_wait` allows; run again at {} UTC, or set \
                 `on_budget: pause`; {}",
                until.format("%H:%M:%S"),
                self.lifted()
            )));
        }
        if wait > SHORT {
            self.report_wait(until, "the API accepts no more requests".to_owned());
        }
        sleep(wait.to_std().unwrap_or_default()).await;
        Ok(())
    }

    /// Reports a wait, once.
    fn report_wait(&self, until: DateTime<Utc>, reason: String) {
        let mut notices = self.notices();
        notices.since.get_or_insert_with(Instant::now);
        if notices.reported.is_some_and(|reported| reported >= until) {
            return;
        }
        notices.reported = Some(until);
        notices.waits += 1;
        drop(notices);
        let until = until.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.reporter.report(&Event::Waiting { reason, until });
    }

    /// Adds the wait that has ended to the total.
    fn end_wait(&self) {
        let mut notices = self.notices();
        if let Some(since) = notices.since.take() {
            notices.waited += since.elapsed();
        }
    }

    /// Pauses the run. Returns the error of its requests.
    fn pause(self: &Arc<Self>, reason: String, until: Option<DateTime<Utc>>) -> Error {
        let mut notices = self.notices();
        let pause = notices.paused.get_or_insert(Pause { reason, until }).clone();
        drop(notices);
        // Other processes may use the points that are left.
        self.reservations().done = true;
        self.refresh(true);
        // Requests that wait for a settlement fail now.
        self.settled.notify_waiters();
        self.paused(&pause)
    }

    fn paused(&self, pause: &Pause) -> Error {
        let again = pause.until.map_or("run again to continue".to_owned(), |until| {
            format!("run again at {} to continue", until.format("%Y-%m-%d %H:%M UTC"))
        });
        let held = self.reservations().not_before.is_some_and(|time| time > self.now());
        let kept = if held { format!("; {}", self.lifted()) } else { String::new() };
        Error::new(Kind::Paused, pause.reason.clone()).with_hint(format!("{again}{kept}"))
    }

    /// Hint: where the wait is stored, and how to end it.
    fn lifted(&self) -> String {
        let place = self.ledger.place(&self.quota.connection);
        format!("the wait is stored in {place}: `weir quota reset CONNECTION` lifts it")
    }

    /// Why this run cannot send a request that may cost `most` points.
    fn max_is_spent(&self, most: u64) -> String {
        let (spent, max) = (
            self.quota.spent + self.reservations().spent,
            self.quota.max_points.unwrap_or_default(),
        );
        if spent <= self.counted {
            let least = most + spent;
            return format!(
                "the next request may cost {most} points, but `--max-points` is {max}: set it to {least} or more"
            );
        }
        format!(
            "{spent} of the {max} points that the run may spend are spent, and the next request may \
             cost {most}"
        )
    }

    /// Why a request that needs `need` points cannot be sent in this window.
    fn window_is_spent(&self, need: u64) -> String {
        let reservations = self.reservations();
        let held = match reservations.window_held {
            0 => String::new(),
            held => format!(", {held} are reserved by other runs"),
        };
        format!(
            "{} of the {} points of this hour are spent{held}, and the next request may cost {need}",
            reservations.window_spent, reservations.budget
        )
    }

    fn reservations(&self) -> MutexGuard<'_, Reservations> {
        self.reservations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notices(&self) -> MutexGuard<'_, Notices> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A unique name for this run of this process.
fn process() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let Holder { host, process, .. } = Holder::here("");
    let (began, run) = (Utc::now().timestamp_millis(), RUNS.fetch_add(1, Ordering::Relaxed));
    format!("{host}:{process}:{began}:{run}")
}
