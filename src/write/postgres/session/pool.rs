//! Connections: opened when needed, shared by all writers of a target, replaced when broken.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_postgres::{Client, Config, NoTls, config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::Result;
use crate::secret::hide;
use crate::write::postgres::failure;
use crate::write::postgres::options::fields::{ChannelBinding, PostgresOptions, Server, SslMode};
use crate::write::postgres::session::pooler;
use crate::write::postgres::session::tls;

/// Waits between attempts to connect, after transient errors.
const RETRY_WAITS: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1600)];

/// Time after which an idle connection is replaced.
const IDLE: Duration = Duration::from_mins(1);

/// Longest time for which a session that holds locks sends nothing: less than the time after which firewalls
/// drop a connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// Settings of loading sessions. Staged rows need not survive a crash before their checkpoint, so their commits do
/// not wait for the disk. lz4, where the server has it, takes a third of the time of Postgres' own compression.
const LOADING: &str = "SET synchronous_commit = off; \
    SELECT set_config('default_toast_compression', 'lz4', false) FROM pg_settings \
    WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)";

/// A bounded set of connections.
pub(crate) struct ConnectionPool {
    options: PostgresOptions,
    permits: Arc<Semaphore>,
    /// Idle connections, and since when they are idle.
    idle: Mutex<Vec<(Client, Instant)>>,
    /// Set once a check has shown that no pooler shares sessions between transactions.
    checked: OnceCell<()>,
}

impl ConnectionPool {
    pub(crate) fn new(options: PostgresOptions) -> Self {
        let permits = Arc::new(Semaphore::new(options.connections.max(1)));
        Self { options, permits, idle: Mutex::default(), checked: OnceCell::new() }
    }

    /// Waits until fewer than the allowed number of connections are in use, and returns a working one.
    pub(crate) async fn get(self: &Arc<Self>) -> Result<PooledClient> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let client = if let Some(client) = self.take_idle() {
            client
        } else {
            let client = self.connect().await?;
            let prepared = client.batch_execute(LOADING).await;
            prepared.map_err(|error| failure::connecting(&self.options, &error))?;
            client
        };
        Ok(PooledClient { client, pool: Arc::clone(self), _permit: permit })
    }

    /// Longest wait for a table that other sessions use; the connection's `lock_wait`.
    pub(crate) fn lock_wait(&self) -> Duration {
        self.options.lock_wait
    }

    /// A connection that does not count among those of the pool.
    ///
    /// # Errors
    /// No server is reached, or a pooler that shares sessions between transactions is.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let client = self.connect_unchecked().await?;
        self.checked.get_or_try_init(|| self.check_sessions(&client)).await?;
        Ok(client)
    }

    /// Refuses a pooler that shares sessions, before a lock or setting is left behind in a session.
    async fn check_sessions(&self, first: &Client) -> Result<()> {
        // When no second connection can be opened, the first use that needs one reports why.
        let Ok(second) = self.connect_unchecked().await else { return Ok(()) };
        match pooler::shares_sessions(first, &second).await {
            Ok(true) => Err(pooler::refusal(&self.options.shown())),
            Ok(false) => Ok(()),
            Err(error) => Err(failure::statement("the connection cannot be checked", &error)),
        }
    }

    async fn connect_unchecked(&self) -> Result<Client> {
        self.options.validate()?;
        let connector = tls::connector(&self.options)?;
        let mut waits = RETRY_WAITS.iter();
        loop {
            let attempt = connect_once(&self.options, &connector);
            // The driver's own timeout applies to each address, and does not cover the login.
            let Ok(attempt) = tokio::time::timeout(self.options.connect_timeout, attempt).await
            else {
                return Err(failure::no_answer(&self.options));
            };
            let error = match attempt {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            let wait = waits.next().filter(|_| failure::is_transient(&error));
            let wait = wait.ok_or_else(|| failure::connecting(&self.options, &error))?;
            tokio::time::sleep(*wait).await;
        }
    }

    /// A connection for locks of its session. As long as it is held, it sends a query now and then, so that neither
    /// `idle_session_timeout` nor a firewall ends it.
    pub(crate) async fn connect_to_lock(&self) -> Result<Arc<Client>> {
        let client = Arc::new(self.connect().await?);
        let limit = client
            .query_opt(
                "SELECT setting FROM pg_settings WHERE name = 'idle_session_timeout' \
                 AND setting <> '0'",
                &[],
            )
            .await
            .map_err(|error| failure::connecting(&self.options, &error))?;
        let limit = limit.and_then(|row| row.get::<_, &str>(0).parse().ok());
        let pause = limit.map_or(KEEPALIVE_INTERVAL, |limit| {
            KEEPALIVE_INTERVAL.min(Duration::from_millis(limit) / 3)
        });
        let held = Arc::downgrade(&client);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(client) = held.upgrade() else { return };
                if client.simple_query("SELECT 1").await.is_err() && client.is_closed() {
                    return;
                }
            }
        });
        Ok(client)
    }

    fn take_idle(&self) -> Option<Client> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // A firewall may have dropped connections that were silent for long.
        idle.retain(|(client, since)| !client.is_closed() && since.elapsed() < IDLE);
        idle.pop().map(|(client, _)| client)
    }
}

/// A connection of the pool. When it is dropped, it is closed, and its open transaction is rolled back.
pub(crate) struct PooledClient {
    client: Client,
    pool: Arc<ConnectionPool>,
    _permit: OwnedSemaphorePermit,
}

impl PooledClient {
    /// Gives the connection back to the pool. It must have no open transaction or statement.
    pub(crate) fn give_back(self) {
        let Self { client, pool, _permit } = self;
        pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push((client, Instant::now()));
    }
}

impl Deref for PooledClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for PooledClient {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// Connects as `sslmode` requires; `allow` and `prefer` have a fallback.
async fn connect_once(
    options: &PostgresOptions,
    tls: &MakeRustlsConnect,
) -> Result<Client, tokio_postgres::Error> {
    if options.servers.iter().all(Server::is_socket) {
        return plain(options).await;
    }
    match options.sslmode {
        SslMode::Disable => plain(options).await,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => encrypted(options, tls).await,
        SslMode::Allow => match plain(options).await {
            Err(first) if is_refusal(&first) => encrypted(options, tls).await.map_err(|_| first),
            other => other,
        },
        SslMode::Prefer => match encrypted(options, tls).await {
            Err(first) if failure::is_tls(&first) => plain(options).await,
            Err(first) if is_refusal(&first) => plain(options).await.map_err(|_| first),
            other => other,
        },
    }
}

/// `pg_hba.conf` may admit the same login with TLS only, or without it only.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    failure::is(error, &tokio_postgres::error::SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

async fn plain(options: &PostgresOptions) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config(options, config::SslMode::Disable).connect(NoTls).await?;
    tokio::spawn(async move {
        // The statement that waits for a response gets the error.
        connection.await.ok();
    });
    Ok(client)
}

async fn encrypted(
    options: &PostgresOptions,
    tls: &MakeRustlsConnect,
) -> Result<Client, tokio_postgres::Error> {
    let config = config(options, config::SslMode::Require);
    let (client, connection) = config.connect(tls.clone()).await?;
    tokio::spawn(async move {
        connection.await.ok();
    });
    Ok(client)
}

fn config(options: &PostgresOptions, mode: config::SslMode) -> Config {
    let mut config = Config::new();
    for server in &options.servers {
        config.host(&server.host).port(server.port);
    }
    config
        .user(&options.user)
        .dbname(options.database())
        .application_name(&options.application_name)
        .connect_timeout(options.connect_timeout)
        .keepalives_idle(Duration::from_mins(1))
        .ssl_mode(mode);
    if let Some(password) = &options.password {
        hide(password.expose());
        config.password(password.expose());
    }
    if !options.options.is_empty() {
        config.options(&options.options);
    }
    if options.must_write {
        config.target_session_attrs(config::TargetSessionAttrs::ReadWrite);
    }
    config.channel_binding(match options.channel_binding {
        ChannelBinding::Disable => config::ChannelBinding::Disable,
        ChannelBinding::Prefer => config::ChannelBinding::Prefer,
        ChannelBinding::Require => config::ChannelBinding::Require,
    });
    config
}
