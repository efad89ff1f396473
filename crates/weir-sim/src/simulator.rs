//! The simulator: one tenant with its faults and its log, behind one request-response interface.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep};

use crate::api::answer::{IncomingRequest, Reply};
use crate::churn_options::{Churn, Churning};
use crate::error::{Broken, Result};
use crate::fault_rules::{Faults, What};
use crate::options::Options;
use crate::server::faults;
use crate::server::faults::Judge;
use crate::server::log::{Counters, LoggedRequest, RequestLog};
use crate::server::meter::Meter;
use crate::tenant::Tenant;
use crate::tenant::change::TenantChange;
use crate::tenant::clock::Clock;
use crate::tenant::text::mix;
use crate::truth::Wanted;

/// Default maximum number of log entries in process.
const LOG_ENTRIES: usize = 1_000_000;

/// A simulated tenant. Clones share the tenant, the fault counters and the log.
#[derive(Clone, Debug)]
pub struct Simulator {
    world: Arc<World>,
}

#[derive(Debug)]
struct World {
    options: Options,
    tenant: RwLock<Tenant>,
    clock: Clock,
    judge: RwLock<Arc<Judge>>,
    churning: Mutex<Option<Churning>>,
    meter: Option<Meter>,
    log: RequestLog,
}

impl World {
    fn read(&self) -> RwLockReadGuard<'_, Tenant> {
        self.tenant.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tenant> {
        self.tenant.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self) -> Arc<Judge> {
        Arc::clone(&self.judge.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn churning(&self) -> MutexGuard<'_, Option<Churning>> {
        self.churning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn churn(&self, seed: u64, churn: &Churn) -> Vec<(TenantChange, String)> {
        let mut tenant = self.write();
        let dice = |number: usize| mix(mix(seed) ^ number as u64);
        let change = |number| tenant.stir(dice(number), &churn.kinds, self.clock.tick());
        (0..churn.changes).filter_map(change).collect()
    }

    /// Makes the random changes that are due before the request with this number.
    fn churn_before(&self, request: u64) {
        let churning = self.churning();
        let Some(churning) = churning.as_ref() else { return };
        if churning.every_requests > 0 && request.is_multiple_of(churning.every_requests) {
            self.churn(mix(churning.seed ^ request), &churning.churn);
        }
    }
}

/// How a request arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    Process,
    Socket,
}

/// The outcome of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Whole(Reply),
    /// The second half of the body is delayed by this time. In process, the delay is already over.
    Halting(Reply, Duration),
    /// Half of the body is sent, then the connection ends.
    Truncated(Reply),
    /// The connection is reset.
    Reset,
}

impl Simulator {
    /// Creates a tenant from these options.
    pub fn new(options: Options) -> Self {
        let judge = Judge::new(options.faults.clone(), options.seed);
        let (clock, churning) = (Clock::new(&options), options.churn.clone());
        let meter = options.quota.map(Meter::new);
        let tenant = Tenant::new(options);
        let world = World {
            options: tenant.options.clone(),
            tenant: RwLock::new(tenant),
            clock,
            judge: RwLock::new(Arc::new(judge)),
            churning: Mutex::new(churning),
            meter,
            log: RequestLog::default(),
        };
        world.churn(world.options.seed, &Churn::of(world.options.changes));
        Self { world: Arc::new(world) }
    }

    /// The options of the tenant. Counts are lowered if the tenant has no spaces, or no pages and blog
    /// posts, to hold the objects.
    pub fn options(&self) -> &Options {
        &self.world.options
    }

    /// The tenant's current time; not before its latest change.
    pub fn now(&self) -> DateTime<Utc> {
        let now = i64::try_from(self.world.clock.now()).unwrap_or(i64::MAX);
        DateTime::from_timestamp_millis(now).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Makes a change and returns the ID of the created or changed object. Each change has a later time
    /// than the previous one.
    ///
    /// # Errors
    /// The change is not possible, for example because the object does not exist.
    pub fn change(&self, change: &TenantChange) -> Result<String> {
        self.world.write().apply(change, self.world.clock.tick())
    }

    /// Makes random changes. Equal seeds make the same changes to equal tenants. Returns the changes, each
    /// with the ID of the created or changed object. There may be fewer changes than requested if the
    /// tenant has few objects.
    pub fn churn(&self, seed: u64, churn: &Churn) -> Vec<(TenantChange, String)> {
        self.world.churn(seed, churn)
    }

    /// Sets the random changes that are made as requests arrive.
    pub fn set_churning(&self, churning: Option<Churning>) {
        *self.world.churning() = churning;
    }

    /// Sets the faults. Rules count requests from now on.
    pub fn set_faults(&self, faults: Faults) {
        let judge = Arc::new(Judge::new(faults, self.world.options.seed));
        *self.world.judge.write().unwrap_or_else(PoisonError::into_inner) = judge;
    }

    /// The logged requests, in order of arrival.
    pub fn log(&self) -> Vec<LoggedRequest> {
        self.world.log.entries()
    }

    /// Empties the log. Counters are kept.
    pub fn clear_log(&self) {
        self.world.log.clear();
    }

    /// Totals of all requests so far.
    pub fn counters(&self) -> Counters {
        self.world.log.counters()
    }

    /// The maximum number of requests that were in flight at once.
    pub fn max_in_flight(&self) -> usize {
        self.world.log.max_in_flight()
    }

    /// The rows that the stream of this name must contain now, with its default filters and without bodies.
    /// Each row is the object as the API prints it, with the ID of its parent (`page_id`, `space_id` …) if
    /// the object itself does not contain it. `None` if there is no such stream.
    pub fn truth(&self, stream: &str) -> Option<Vec<serde_json::Map<String, serde_json::Value>>> {
        self.truth_of(stream, &Wanted::default())
    }

    /// Like [`Simulator::truth`], for other statuses or with bodies.
    pub fn truth_of(
        &self,
        stream: &str,
        wanted: &Wanted,
    ) -> Option<Vec<serde_json::Map<String, serde_json::Value>>> {
        self.world.read().truth(stream, wanted)
    }

    /// Responds to a request in this process.
    ///
    /// # Errors
    /// The simulated connection broke before the response was complete.
    pub async fn answer(&self, call: &IncomingRequest<'_>) -> std::result::Result<Reply, Broken> {
        match self.exchange(call, Face::Process).await {
            Outcome::Whole(reply) | Outcome::Halting(reply, _) => Ok(reply),
            Outcome::Truncated(_) => Err(Broken("the body ended before its length")),
            Outcome::Reset => Err(Broken("connection reset by peer")),
        }
    }

    pub(crate) async fn exchange(&self, call: &IncomingRequest<'_>, face: Face) -> Outcome {
        let world = self.world.as_ref();
        let (options, judge) = (&world.options, world.judge());
        let now = Instant::now();
        let flight = world.log.arrive(now);
        world.churn_before(flight.sequence());
        let verdict = judge.decide(call, now);
        let (halt, in_process) = (verdict.halt, face == Face::Process);
        let delay =
            options.latency + verdict.delay + if in_process { halt } else { Duration::ZERO };
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let capacity = match (options.log_entries, face) {
            (Some(entries), _) => entries,
            (None, Face::Process) => LOG_ENTRIES,
            (None, Face::Socket) => 0,
        };
        if verdict.what == Some(What::Reset) {
            flight.land(call, None, capacity);
            return Outcome::Reset;
        }
        if let (Some(What::Deleted), Some(id)) = (&verdict.what, faults::named(call.path)) {
            // Deleting an object again is an error without effect.
            let deletion = TenantChange::Delete { id: id.to_owned() };
            world.write().apply(&deletion, world.clock.tick()).ok();
        }
        let faulty = verdict.what.as_ref().and_then(|what| faults::reply_for(what, call.path));
        let reply = match faulty {
            Some(reply) => reply,
            None if verdict.burst => judge.burst_reply(),
            None => {
                let repeat = verdict.what == Some(What::RepeatCursor);
                let now = world.clock.now();
                world.read().answer(call, verdict.revoked, repeat, now)
            }
        };
        let reply = faults::unrendered(verdict.what.as_ref(), reply);
        let reply = match &world.meter {
            Some(meter) => meter.charge(reply, world.clock.now()),
            None => reply,
        };
        flight.land(call, Some(&reply), capacity);
        if verdict.what == Some(What::Truncate) {
            return Outcome::Truncated(reply);
        }
        if halt.is_zero() { Outcome::Whole(reply) } else { Outcome::Halting(reply, halt) }
    }
}
