//! Waiting for tables that other sessions have locked: in short tries with pauses, told, and bounded.
//!
//! A request for a strong lock holds up every session that comes after it, readers too. A try is therefore
//! given up after [`TRY`]; in the pause that follows, those who waited behind it pass.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::Instant;
use tokio_postgres::{Client, Row, Transaction};

use crate::error::{Error, Kind, Result};
use crate::report::Event;
use crate::write::postgres::failure;
use crate::write::postgres::name::TableName;
use crate::write::target::Watch;

/// Longest wait of one try, as Postgres reads it.
pub(crate) const TRY: &str = "2s";
/// First pause after a try; the pauses double up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Time between two looks at who holds the lock, while a statement goes on.
const LOOK: Duration = Duration::from_millis(500);
/// Longest time that a look may take.
const LOOKING: Duration = Duration::from_secs(5);
/// Time after which a wait is told again.
const AGAIN: Duration = Duration::from_mins(1);
/// Sessions that are named.
const NAMED: usize = 3;

/// The sessions for which a session waits: number, program, state, and since when it is in that state.
const BLOCKING: &str = "SELECT b.pid, nullif(a.application_name, ''), a.state, \
        to_char(coalesce(CASE WHEN a.state = 'active' THEN a.query_start END, a.state_change) \
            AT TIME ZONE 'UTC', \
            CASE WHEN a.state_change > now() - interval '20 hours' THEN 'HH24:MI \"UTC\"' \
                ELSE 'YYYY-MM-DD HH24:MI \"UTC\"' END) \
    FROM unnest(pg_blocking_pids($1)) AS b(pid) LEFT JOIN pg_stat_activity a USING (pid)";

/// What a writer waits with.
pub(crate) struct Waits<'run> {
    longest: Duration,
    watch: Watch,
    stream: &'run str,
    table: &'run TableName,
    /// Number of the session that waits.
    session: i32,
    /// Another session, which looks who holds the lock.
    observer: &'run Client,
    /// When others were first seen in the way of the present step.
    since: Option<Instant>,
    /// How long earlier steps, and the pauses between them, have waited.
    waited: Option<Duration>,
    pause: Duration,
    /// Who was named last, and when.
    told: Option<(String, Instant)>,
}

/// Who waits for what.
#[derive(Clone)]
pub(crate) struct Waiter<'run> {
    /// Another session, which looks for whom it waits.
    pub(crate) observer: &'run Client,
    /// Longest wait in all.
    pub(crate) longest: Duration,
    pub(crate) watch: Watch,
    pub(crate) stream: &'run str,
    pub(crate) table: &'run TableName,
}

impl<'run> Waits<'run> {
    /// Prepares a transaction to wait in short tries.
    pub(crate) async fn begin(transaction: &Transaction<'_>, waiter: Waiter<'run>) -> Result<Self> {
        let Waiter { observer, longest, watch, stream, table } = waiter;
        let failed = |error| failure::statement(format!("table {table} cannot be written"), &error);
        let settings = format!(
            "SET LOCAL lock_timeout = '{TRY}'; SET LOCAL idle_in_transaction_session_timeout = 0"
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
            told: None,
        })
    }

    /// Takes a step in the transaction, again and again until it gets the locks that it needs. A step that
    /// does not is undone before the pause.
    ///
    /// # Errors
    /// The run is stopped while the step waits; or it has waited as long as the connection's `lock_wait`
    /// allows.
    pub(crate) async fn take<T, F>(
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
            self.rest().await?;
        }
    }

    /// Runs one try, and tells whom it waits for; `None` when it did not get its locks.
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
                () = tokio::time::sleep(LOOK) => {}
                () = cancel.cancelled(), if !stopping => {}
            }
            let blocked = tokio::time::timeout(LOOKING, self.look()).await.unwrap_or(false);
            if blocked && cancel.is_cancelled() {
                return Err(self.stopped());
            }
        }
    }

    /// Looks whether others hold what the session waits for, and says so.
    async fn look(&mut self) -> bool {
        let Ok(rows) = self.observer.query(BLOCKING, &[&self.session]).await else { return false };
        if rows.is_empty() {
            return false;
        }
        self.since.get_or_insert_with(Instant::now);
        let mut named: Vec<String> = rows.iter().take(NAMED).map(holder).collect();
        if rows.len() > NAMED {
            named.push(format!("{} more", rows.len() - NAMED));
        }
        self.tell(named.join(", "));
        true
    }

    fn tell(&mut self, holders: String) {
        let known = self.told.as_ref();
        if known.is_some_and(|(known, at)| *known == holders && at.elapsed() < AGAIN) {
            return;
        }
        let message = format!(
            "waiting for {holders} to let go of table {}; after {} seconds in all this run gives up, \
             what was read stays saved",
            self.table,
            self.longest.as_secs(),
        );
        self.watch
            .reporter
            .report(&Event::Warning { stream: Some(self.stream.to_owned()), message });
        self.told = Some((holders, Instant::now()));
    }

    /// Pauses, so that readers pass.
    async fn rest(&mut self) -> Result<()> {
        let (longest, waited) = (self.longest, self.waited.unwrap_or_default());
        let Some(left) = longest.checked_sub(waited).filter(|left| !left.is_zero()) else {
            let what = format!("table {} is used by another session", self.table);
            let by = self.holders();
            return Err(Error::target(what)
                .because(format!("waited {} seconds for {by}", waited.as_secs()))
                .with_hint(
                    "what was read is saved: end that session or wait for it, then run again; \
                     `lock_wait` of the connection says how many seconds a run waits",
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
        self.told.as_ref().map_or("a session that has not been seen", |(holders, _)| holders)
    }

    fn stopped(&self) -> Error {
        let what = format!("stopped while table {} was used by {}", self.table, self.holders());
        Error::new(Kind::Interrupted, what).with_hint("what was read is saved: run again")
    }

    /// Whole seconds that it has waited, and for whom; `None` when it did not.
    pub(crate) fn waited(&self) -> Option<(u64, String)> {
        Some((self.waited?.as_secs(), self.holders().to_owned()))
    }
}

/// A session for a person: `pid 4711 (psql, idle in transaction since 14:02 UTC)`.
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
