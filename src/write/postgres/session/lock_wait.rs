//! Waits for tables that other sessions have locked: short attempts with pauses, reported, and bounded.
//!
//! A request for a strong lock blocks every session that comes after it, even readers. An attempt therefore ends
//! after [`ATTEMPT`]; in the pause after it, the sessions that queued behind it continue.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::Instant;
use tokio_postgres::{Client, Row, Transaction};

use crate::error::{Error, Kind, Result};
use crate::report::Event;
use crate::write::postgres::failure;
use crate::write::postgres::name::TableName;
use crate::write::target::Watch;

/// Longest wait of one attempt, in the syntax of Postgres.
const ATTEMPT: &str = "2s";
/// First pause after an attempt; later pauses double, up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Time between two queries for the sessions that hold the lock, while a statement waits.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Longest time that such a query may take.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which an unchanged wait is reported again.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);
/// Most sessions that a message names.
const MAX_NAMED: usize = 3;

/// The sessions that block a session: process number, program, state, and since when they are in that state.
const BLOCKING: &str = "SELECT b.pid, nullif(a.application_name, ''), a.state, \
        to_char(coalesce(CASE WHEN a.state = 'active' THEN a.query_start END, a.state_change) \
            AT TIME ZONE 'UTC', \
            CASE WHEN a.state_change > now() - interval '20 hours' THEN 'HH24:MI \"UTC\"' \
                ELSE 'YYYY-MM-DD HH24:MI \"UTC\"' END) \
    FROM unnest(pg_blocking_pids($1)) AS b(pid) LEFT JOIN pg_stat_activity a USING (pid)";

/// The waits of a transaction for tables.
pub(crate) struct LockWaits<'run> {
    longest: Duration,
    watch: Watch,
    stream: &'run str,
    table: &'run TableName,
    /// Process number of the session that waits.
    session: i32,
    /// Another session, which finds out who holds the lock.
    observer: &'run Client,
    /// When blocking sessions were first seen during the current attempt.
    since: Option<Instant>,
    /// How long earlier attempts, and the pauses between them, have waited.
    waited: Option<Duration>,
    pause: Duration,
    /// The holders that were reported last, and when.
    reported: Option<(String, Instant)>,
}

/// A wait that is over.
pub(crate) struct Waited {
    /// Whole seconds.
    pub(crate) seconds: u64,
    /// The sessions that held the lock.
    pub(crate) holders: String,
}

/// Who waits, for what, and how long.
#[derive(Clone)]
pub(crate) struct WaitContext<'run> {
    /// Another session, which finds out who holds the lock.
    pub(crate) observer: &'run Client,
    /// Longest wait in total.
    pub(crate) longest: Duration,
    pub(crate) watch: Watch,
    pub(crate) stream: &'run str,
    pub(crate) table: &'run TableName,
}

impl<'run> LockWaits<'run> {
    /// Prepares a transaction for short attempts.
    pub(crate) async fn begin(
        transaction: &Transaction<'_>,
        waiter: WaitContext<'run>,
    ) -> Result<Self> {
        let WaitContext { observer, longest, watch, stream, table } = waiter;
        let failed = |error| failure::statement(format!("table {table} cannot be written"), &error);
        let settings = format!(
            "SET LOCAL lock_timeout = '{ATTEMPT}'; SET LOCAL idle_in_transaction_session_timeout = 0"
        );
        transaction.batch_execute(&settings).await.map_err(failed)?;
        let session =
            transaction.query_one("SELECT pg_backend_pid()", &[]).await.map_err(failed)?;
        let session = session.get(0);
        Ok(Self {
            longest,
            watch,
            stream,
            table,
            session,
            observer,
            since: None,
            waited: None,
            pause: PAUSE,
            reported: None,
        })
    }

    /// Runs a step of the transaction until it gets the locks that it needs. An attempt that does not is rolled
    /// back before the pause.
    ///
    /// # Errors
    /// The run is stopped while the step waits, or the step has waited longer than the connection's `lock_wait`.
    pub(crate) async fn run<T, F>(
        &mut self,
        transaction: &Transaction<'_>,
        mut step: impl FnMut() -> F + Send,
    ) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        let table = self.table;
        let failed = |error| failure::statement(format!("table {table} cannot be written"), &error);
        loop {
            transaction.batch_execute("SAVEPOINT weir_step").await.map_err(failed)?;
            if let Some(done) = self.watched(step()).await? {
                return Ok(done);
            }
            transaction.batch_execute("ROLLBACK TO weir_step").await.map_err(failed)?;
            self.pause().await?;
        }
    }

    /// Runs one attempt and reports whom it waits for; `None` when it did not get its locks.
    async fn watched<T>(
        &mut self,
        step: impl Future<Output = Result<T>> + Send,
    ) -> Result<Option<T>> {
        let mut step = pin!(step);
        let cancel = self.watch.cancel.clone();
        loop {
            let stopping = cancel.is_cancelled();
            tokio::select! {
                biased;
                done = &mut step => {
                    self.end_wait();
                    return match done {
                        Err(error) if failure::is_locked_out(&error) => Ok(None),
                        done => done.map(Some),
                    };
                }
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                () = cancel.cancelled(), if !stopping => {}
            }
            let blocked = tokio::time::timeout(POLL_TIMEOUT, self.poll()).await.unwrap_or(false);
            if blocked && cancel.is_cancelled() {
                return Err(self.stopped());
            }
        }
    }

    /// Finds out whether other sessions block the session, and reports them.
    async fn poll(&mut self) -> bool {
        let Ok(rows) = self.observer.query(BLOCKING, &[&self.session]).await else { return false };
        if rows.is_empty() {
            return false;
        }
        self.since.get_or_insert_with(Instant::now);
        let mut named: Vec<String> = rows.iter().take(MAX_NAMED).map(holder).collect();
        if rows.len() > MAX_NAMED {
            named.push(format!("{} more", rows.len() - MAX_NAMED));
        }
        self.report(named.join(", "));
        true
    }

    fn report(&mut self, holders: String) {
        let last = self.reported.as_ref();
        if last.is_some_and(|(last, at)| *last == holders && at.elapsed() < REPORT_INTERVAL) {
            return;
        }
        let message = format!(
            "waiting for {holders} to release table {}; this run gives up after {} seconds in total, \
             and keeps what it has read",
            self.table,
            self.longest.as_secs(),
        );
        self.watch
            .reporter
            .report(&Event::Warning { stream: Some(self.stream.to_owned()), message });
        self.reported = Some((holders, Instant::now()));
    }

    /// Pauses, so that other sessions continue.
    async fn pause(&mut self) -> Result<()> {
        let (longest, waited) = (self.longest, self.waited.unwrap_or_default());
        let Some(left) = longest.checked_sub(waited).filter(|left| !left.is_zero()) else {
            let what = format!("another session uses table {}", self.table);
            let by = self.holders();
            return Err(Error::target(what)
                .because(format!("waited {} seconds for {by}", waited.as_secs()))
                .with_hint(
                    "what was read is saved: end that session or wait for it, then run again; \
                     `lock_wait` of the connection sets how many seconds a run waits",
                ));
        };
        let pause = self.pause.min(left);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.watch.cancel.cancelled() => return Err(self.stopped()),
        }
        self.waited = Some(waited + pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }

    fn end_wait(&mut self) {
        if let Some(since) = self.since.take() {
            self.waited = Some(self.waited.unwrap_or_default() + since.elapsed());
        }
    }

    fn holders(&self) -> &str {
        self.reported.as_ref().map_or("an unknown session", |(holders, _)| holders)
    }

    fn stopped(&self) -> Error {
        let what = format!("stopped while table {} was used by {}", self.table, self.holders());
        Error::new(Kind::Interrupted, what).with_hint("what was read is saved: run again")
    }

    /// How long it has waited, and for whom; `None` when it did not wait.
    pub(crate) fn waited(&self) -> Option<Waited> {
        Some(Waited { seconds: self.waited?.as_secs(), holders: self.holders().to_owned() })
    }
}

/// How messages name a session: `pid 4711 (psql, idle in transaction since 14:02 UTC)`.
fn holder(row: &Row) -> String {
    let session: i32 = row.get(0);
    if session == 0 {
        return "a prepared transaction (see pg_prepared_xacts)".to_owned();
    }
    let (program, state): (Option<&str>, Option<&str>) = (row.get(1), row.get(2));
    let since = row.get::<_, Option<&str>>(3).map(|since| format!(" since {since}"));
    let (program, since) = (program.unwrap_or("unnamed"), since.unwrap_or_default());
    format!("pid {session} ({program}, {}{since})", state.unwrap_or("in a state that is not shown"))
}
