//! The points of a run: reserved before each try of a request, settled after it. When they are spent,
//! the run waits for the next window, or pauses.

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

/// Longest wait that a server means when it asks for one.
const LIKELY: Duration = Duration::from_hours(24);

/// Time after a window's end that clocks may differ by.
const MARGIN: TimeDelta = TimeDelta::seconds(1);
/// Time after which a process that waits for points looks whether others gave some back.
const AGAIN: Duration = Duration::from_secs(10);
/// Times that it looks again soon, and after which time, while other processes hold points that they
/// may give back.
const PATIENCE: u32 = 20;
const SOON: Duration = Duration::from_millis(250);
/// Time up to which nobody is told that the API wants to be left alone.
const SHORT: TimeDelta = TimeDelta::seconds(10);

/// The points that a run may spend.
pub(crate) struct PointsBudget {
    quota: QuotaPlan,
    ledger: Arc<dyn Ledger>,
    reporter: Arc<dyn Reporter>,
    /// The time at an instant: simulated time passes as well.
    clock: (DateTime<Utc>, Instant),
    hand: Mutex<Reservations>,
    /// One visit to the ledger at a time.
    visiting: Arc<tokio::sync::Mutex<()>>,
    /// What was spent before the first stream was read.
    counted: u64,
    /// ServerLimits when a request is settled.
    settled: Notify,
    story: Mutex<Story>,
}

/// What the reader is told.
#[derive(Debug, Default)]
struct Story {
    /// Until when was last said to be waited.
    told: Option<DateTime<Utc>>,
    waits: u64,
    since: Option<Instant>,
    waited: Duration,
    paused: Option<Pause>,
    /// Until when the server asked to wait, where that is longer than is waited for.
    refused: Option<DateTime<Utc>>,
}

/// What came of a visit to the ledger.
enum Visited {
    /// What is needed is in hand.
    Granted,
    /// It is not; whether requests were under way, which may leave some of theirs over, and
    /// whether other processes hold enough.
    Refused { busy: bool, hopeful: bool },
}

/// Why the run ends before its work is done, and when it can go on.
#[derive(Clone, Debug)]
struct Pause {
    reason: String,
    until: Option<DateTime<Utc>>,
}

impl PointsBudget {
    /// The points of a run that begins at this time and has spent so many already.
    pub(crate) fn new(
        quota: QuotaPlan,
        ledger: Arc<dyn Ledger>,
        reporter: Arc<dyn Reporter>,
        (now, spent): (DateTime<Utc>, u64),
    ) -> Arc<Self> {
        let most = quota.max_points.map(|most| most.saturating_sub(quota.spent));
        let mut hand = Reservations::new(process(), quota.terms(), most);
        hand.spent = spent;
        let (hand, counted) = (Mutex::new(hand), spent);
        Arc::new(Self {
            quota,
            ledger,
            reporter,
            clock: (now, Instant::now()),
            hand,
            visiting: Arc::default(),
            counted,
            settled: Notify::new(),
            story: Mutex::default(),
        })
    }

    fn now(&self) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.clock.1.elapsed()).unwrap_or(TimeDelta::zero());
        self.clock.0 + passed
    }

    /// Whether the run ends before its work is done.
    pub(crate) fn is_paused(&self) -> bool {
        self.story().paused.is_some()
    }

    /// Reserves what a request may cost, once it may be sent; returns what is reserved.
    ///
    /// # Errors
    /// The run pauses, the API wants to be left alone for longer than is waited for, or the ledger
    /// cannot be kept.
    pub(crate) async fn reserve(self: &Arc<Self>, price: RequestCost<'_>) -> Result<Reserved> {
        let mut patience = PATIENCE;
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let mut step = self.step(price)?;
            // Whether requests under way may leave points over.
            let mut waits = false;
            // Whether other processes may.
            let mut hopes = false;
            if let Decision::LedgerUpdate(_) = step {
                let alone = Arc::clone(&self.visiting).lock_owned().await;
                step = self.step(price)?;
                if let Decision::LedgerUpdate(points) = step {
                    // A task of its own: what is granted must arrive, whoever gives up waiting for it.
                    let purse = Arc::clone(self);
                    let visit = tokio::spawn(async move {
                        let _alone = alone;
                        purse.visit(points).await
                    });
                    let broken = |error| Error::target("the ledger broke").because(error);
                    match visit.await.map_err(broken)?? {
                        Visited::Granted => continue,
                        Visited::Refused { busy, hopeful } => (waits, hopes) = (busy, hopeful),
                    }
                }
            }
            match step {
                Decision::Go(reserved, refresh) => {
                    if refresh {
                        self.refresh(false);
                    }
                    self.goes_on();
                    return Ok(reserved);
                }
                Decision::Hold(until) => self.hold_out(until).await?,
                Decision::Max(_, true) => settled.await,
                Decision::LedgerUpdate(_) if waits => {
                    tokio::select! { () = settled => {}, () = sleep(AGAIN) => {} }
                }
                Decision::LedgerUpdate(_) if hopes && patience > 0 => {
                    patience -= 1;
                    tokio::select! { () = settled => {}, () = sleep(SOON) => {} }
                }
                Decision::Max(most, false) => {
                    return Err(self.pause(self.max_is_spent(most), None));
                }
                Decision::LedgerUpdate(points) => {
                    let end = self.hand().end;
                    if self.quota.on_budget == OnBudget::Pause {
                        return Err(self.pause(self.window_is_spent(points), Some(end)));
                    }
                    self.tell(end, self.window_is_spent(points));
                    let rest = (end + MARGIN - self.now()).to_std().unwrap_or_default();
                    tokio::select! { () = settled => {}, () = sleep(rest.min(AGAIN)) => {} }
                }
            }
        }
    }

    fn step(&self, price: RequestCost<'_>) -> Result<Decision> {
        if let Some(pause) = self.story().paused.clone() {
            return Err(self.paused(&pause));
        }
        Ok(self.hand().step(price, self.now(), Instant::now()))
    }

    /// Puts what a try has cost, where somebody knows, in place of what was reserved, and takes note of what
    /// the server says.
    pub(crate) fn settle(
        self: &Arc<Self>,
        reserved: Reserved,
        cost: Option<u64>,
        headers: Option<&HeaderMap>,
    ) {
        let now = self.now();
        let mut hand = self.hand();
        let hold = hand.hold;
        hand.settle(reserved, cost, now);
        if let Some(quota) = headers.and_then(|headers| ReportedQuota::read(headers, now)) {
            hand.hear(&quota, now);
        }
        // What nobody needs any more must be given back.
        let news = hand.done || hand.hold > hold;
        drop(hand);
        self.settled.notify_waiters();
        if news {
            self.refresh(true);
        }
    }

    /// Takes note that the server asks for a rest. What is to become of the run when that takes the rest of
    /// the window; `None`: it waits.
    pub(crate) fn rest(self: &Arc<Self>, time: Duration) -> Option<Error> {
        self.wait(time);
        let until = self.hand().hold;
        let end = self.hand().end;
        let long = until.filter(|until| *until - self.now() > SHORT && *until + MARGIN >= end);
        let pauses = self.quota.on_budget == OnBudget::Pause;
        let until = long.filter(|_| pauses)?;
        Some(self.pause("the API takes no more requests".to_owned(), Some(until)))
    }

    /// Lets no request of the connection be sent for this time, in this process and in others.
    fn wait(self: &Arc<Self>, time: Duration) {
        let time = TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX);
        let until = self.now().checked_add_signed(time).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let now = self.now();
        self.hand().wait(until, now);
        self.refresh(true);
    }

    /// What is to become of the run when the server asks for a wait that is not waited for; `None`:
    /// the request fails.
    pub(crate) fn too_long(self: &Arc<Self>, time: Duration) -> Option<Error> {
        if time <= self.quota.max_wait {
            return None;
        }
        self.wait(time);
        // Less is stored: a wrong header must not keep later runs from asking.
        let asked =
            TimeDelta::from_std(time).ok().and_then(|time| self.now().checked_add_signed(time));
        // Nobody means to wait for years: after what is stored, the next run asks again.
        let stored = self.hand().hold;
        let until = asked.filter(|_| time <= LIKELY).or(stored);
        self.story().refused = until;
        let pauses = self.quota.on_budget == OnBudget::Pause;
        pauses.then(|| self.pause("the API asks to wait".to_owned(), until))
    }

    /// Looks into the ledger beside the requests; after a visit that is under way, if there is something
    /// that others have to know.
    fn refresh(self: &Arc<Self>, news: bool) {
        let purse = Arc::clone(self);
        tokio::spawn(async move {
            let _alone = match purse.visiting.try_lock() {
                Ok(alone) => alone,
                Err(_) if news => purse.visiting.lock().await,
                Err(_) => return,
            };
            if let Err(error) = purse.visit(0).await {
                tracing::warn!(error = error.chain(), "the ledger of points was not reached");
            }
        });
    }

    /// Visits the ledger. The caller is alone in doing so.
    async fn visit(&self, need: u64) -> Result<Visited> {
        let visit = self.hand().visit(need, self.now());
        let visited = self.ledger.visit(&self.quota.connection, &visit).await;
        match visited {
            Ok(standing) if self.hand().take(&visit, &standing, Instant::now()) => {
                Ok(Visited::Granted)
            }
            Ok(standing) => {
                let left = standing.budget.saturating_sub(standing.spent - standing.held);
                Ok(Visited::Refused { busy: visit.under_way > 0, hopeful: left >= visit.need })
            }
            Err(error) => Err(error.within("the ledger of points cannot be kept")),
        }
    }

    /// Gives back what is left, and says what was spent.
    pub(crate) async fn close(&self) -> PointsReport {
        let _alone = self.visiting.lock().await;
        let visit = self.hand().farewell(self.now());
        let given_back = self.ledger.visit(&self.quota.connection, &visit).await;
        let mut hand = self.hand();
        match given_back {
            Ok(standing) => {
                hand.take(&visit, &standing, Instant::now());
            }
            Err(error) => tracing::warn!(error = error.chain(), "points were not given back"),
        }
        let story = self.story();
        let paused = story.paused.as_ref();
        let until = paused.and_then(|pause| pause.until);
        PointsReport {
            spent: hand.spent,
            max_points: self.quota.max_points,
            budget: hand.budget,
            window_spent: hand.window_spent,
            waits: story.waits,
            waited_seconds: story.waited.as_secs_f64(),
            paused: paused.map(|pause| pause.reason.clone()),
            resume_at: until.map(|until| until.format("%Y-%m-%dT%H:%M:%SZ").to_string()),
        }
    }

    /// Waits until requests may be sent again, as far as such waits are waited for.
    async fn hold_out(self: &Arc<Self>, until: DateTime<Utc>) -> Result<()> {
        let until = self.story().refused.map_or(until, |refused| until.max(refused));
        let wait = until - self.now();
        let longest = TimeDelta::from_std(self.quota.max_wait).unwrap_or(TimeDelta::MAX);
        // Waits are spread out by up to a second.
        let too_long = wait > longest.checked_add(&MARGIN).unwrap_or(longest);
        let rest_of_window = until + MARGIN >= self.hand().end && wait > SHORT;
        if self.quota.on_budget == OnBudget::Pause && (too_long || rest_of_window) {
            return Err(self.pause("the API takes no more requests".to_owned(), Some(until)));
        }
        if too_long {
            let seconds = wait.num_seconds();
            let what = format!("the API asks to be left alone for {seconds} s");
            return Err(Error::new(Kind::Unreachable, what).with_hint(format!(
                "that is longer than `limits.max_wait` allows; run again at {} UTC, or set \
                 `on_budget: pause`; {}",
                until.format("%H:%M:%S"),
                self.lifted()
            )));
        }
        if wait > SHORT {
            self.tell(until, "the API takes no more requests".to_owned());
        }
        sleep(wait.to_std().unwrap_or_default()).await;
        Ok(())
    }

    /// Says once that the run waits until then.
    fn tell(&self, until: DateTime<Utc>, reason: String) {
        let mut story = self.story();
        story.since.get_or_insert_with(Instant::now);
        if story.told.is_some_and(|told| told >= until) {
            return;
        }
        story.told = Some(until);
        story.waits += 1;
        drop(story);
        let until = until.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.reporter.report(&Event::Waiting { reason, until });
    }

    fn goes_on(&self) {
        let mut story = self.story();
        if let Some(since) = story.since.take() {
            story.waited += since.elapsed();
        }
    }

    fn pause(self: &Arc<Self>, reason: String, until: Option<DateTime<Utc>>) -> Error {
        let mut story = self.story();
        let pause = story.paused.get_or_insert(Pause { reason, until }).clone();
        drop(story);
        // What is left is for other processes.
        self.hand().done = true;
        self.refresh(true);
        // Those that wait for others' requests to be settled learn of it.
        self.settled.notify_waiters();
        self.paused(&pause)
    }

    fn paused(&self, pause: &Pause) -> Error {
        let again = pause.until.map_or("run again to continue".to_owned(), |until| {
            format!("run again at {} to continue", until.format("%Y-%m-%d %H:%M UTC"))
        });
        let held = self.hand().hold.is_some_and(|hold| hold > self.now());
        let kept = if held { format!("; {}", self.lifted()) } else { String::new() };
        Error::new(Kind::Paused, pause.reason.clone()).with_hint(format!("{again}{kept}"))
    }

    /// Where the wait is stored, and how to end it.
    fn lifted(&self) -> String {
        let place = self.ledger.place(&self.quota.connection);
        format!("the wait is stored in {place}: `weir quota reset CONNECTION` lifts it")
    }

    /// Why a request that may cost so much is not sent by this run any more.
    fn max_is_spent(&self, most: u64) -> String {
        let (spent, max) =
            (self.quota.spent + self.hand().spent, self.quota.max_points.unwrap_or_default());
        if spent <= self.counted {
            let least = most + spent;
            return format!(
                "a request may cost {most} points, more than the {max} that the run may spend leave: \
                 `--max-points` {least} or more would do for it"
            );
        }
        format!(
            "{spent} of the {max} points that the run may spend are spent, and the next request may \
             cost {most}"
        )
    }

    /// Why a request that needs so much is not sent in this window any more.
    fn window_is_spent(&self, need: u64) -> String {
        let hand = self.hand();
        let held = match hand.window_held {
            0 => String::new(),
            held => format!(", {held} are held by other runs"),
        };
        format!(
            "{} of the {} points of this hour are spent{held}, and the next request may cost {need}",
            hand.window_spent, hand.budget
        )
    }

    fn hand(&self) -> MutexGuard<'_, Reservations> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name for this run of this process that no other has.
fn process() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let Holder { host, process, .. } = Holder::here("");
    let (began, run) = (Utc::now().timestamp_millis(), RUNS.fetch_add(1, Ordering::Relaxed));
    format!("{host}:{process}:{began}:{run}")
}
