//! A real Postgres server for the tests: one per test process, a fresh database per test.
//!
//! The installed server is started on a port of its own; `TEST_POSTGRES_URL`, of a role that may
//! create databases, names another to use.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio_postgres::{Client, NoTls};
use weir::{
    schema::{ColumnType, TableSchema},
    write::postgres::{PostgresOptions, SslMode},
};

use super::rows::Row;

/// Runs the server's script as the user `postgres` when the tests run as root: initdb refuses root.
const AS_USER: &str = r#"if [ "$(id -u)" = 0 ]; then
  exec setpriv --reuid=postgres --regid=postgres --init-groups sh -c "$1" weir "$2"
fi
exec sh -c "$1" weir "$2""#;

/// A server that this process started.
pub(crate) struct Server {
    pub(crate) port: u16,
    /// Folder with its socket and its certificates.
    pub(crate) folder: String,
    /// Holds the pipe whose end stops the server.
    _watched: Child,
}

/// The server of this process; started when first asked for.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let mut failure = String::new();
        // A port that was free a moment ago may be taken by now.
        for _ in 0..3 {
            match start() {
                Ok(server) => return server,
                Err(why) => failure = why,
            }
        }
        panic!("there is no Postgres server for the tests: {failure}");
    })
}

fn start() -> Result<Server, String> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = Command::new("sh")
        .args(["-c", AS_USER, "weir", include_str!("postgres.sh"), &port.to_string()])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    match line.trim().strip_prefix("ready ") {
        Some(folder) => Ok(Server { port, folder: folder.to_owned(), _watched: child }),
        None => Err(line.trim().to_owned()),
    }
}

/// A database of one test; dropped with it.
pub(crate) struct Database {
    pub(crate) name: String,
    admin: PostgresOptions,
    options: PostgresOptions,
}

impl Database {
    /// On the server that the tests are told to use, or the one they start.
    pub(crate) async fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one setting of the tests")]
        match std::env::var("TEST_POSTGRES_URL") {
            Ok(url) => Self::on(PostgresOptions::from_url(&url).unwrap()).await,
            Err(_) => Self::local().await,
        }
    }

    /// On the server that this process starts, which has TLS and two roles that are particular.
    pub(crate) async fn local() -> Self {
        let url = format!("postgres://weir:weir@127.0.0.1:{}/postgres", server().port);
        let options = PostgresOptions::from_url(&url).unwrap();
        Self::on(PostgresOptions { sslmode: SslMode::Disable, ..options }).await
    }

    async fn on(admin: PostgresOptions) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir_test_{}_{number}", std::process::id());
        let client = connect(&admin).await;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.unwrap();
        client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).await.unwrap();
        let options = PostgresOptions { database: name.clone(), ..admin.clone() };
        Self { name, admin, options }
    }

    /// How to reach it.
    pub(crate) fn options(&self) -> PostgresOptions {
        self.options.clone()
    }

    /// How to reach it, as a user would write it.
    pub(crate) fn url(&self) -> String {
        let options = &self.options;
        let server = &options.servers[0];
        let password = options.password.as_ref().map(|secret| format!(":{}", secret.expose()));
        let (user, password) = (&options.user, password.unwrap_or_default());
        format!("postgres://{user}{password}@{}:{}/{}", server.host, server.port, self.name)
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.options).await
    }

    /// Runs statements.
    pub(crate) async fn execute(&self, statements: &str) {
        let client = self.client().await;
        client.batch_execute(statements).await.unwrap_or_else(|error| panic!("{error:?}"));
    }

    /// The first column of a query, as text.
    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        let query = format!("SELECT q::text FROM ({query}) AS t(q)");
        let rows = self.client().await.query(&query, &[]).await;
        let rows = rows.unwrap_or_else(|error| panic!("{error:?}"));
        rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or("null".into())).collect()
    }

    /// The one value of a query, as text.
    pub(crate) async fn text(&self, query: &str) -> String {
        let texts = self.texts(query).await;
        assert_eq!(texts.len(), 1, "{query}: {texts:?}");
        texts.into_iter().next().unwrap()
    }

    /// Rows of a table, whose quoted name this is; `None` when there is none.
    pub(crate) async fn rows(&self, table: &str, schema: &TableSchema) -> Option<Vec<Row>> {
        let client = self.client().await;
        let found = client.query_one("SELECT to_regclass($1)::oid", &[&table]).await.unwrap();
        found.get::<_, Option<u32>>(0)?;
        let cells = schema.columns.iter().map(|column| {
            let name = column.name.replace('"', "\"\"");
            match column.kind {
                ColumnType::Decimal => format!("\"{name}\"::text AS \"{name}\""),
                ColumnType::Bytes => format!("encode(\"{name}\", 'base64') AS \"{name}\""),
                _ => format!("\"{name}\""),
            }
        });
        let cells = cells.collect::<Vec<_>>().join(", ");
        let query = format!("SELECT row_to_json(t)::text FROM (SELECT {cells} FROM {table}) t");
        let rows = client.query(&query, &[]).await.unwrap_or_else(|error| panic!("{error:?}"));
        Some(rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let admin = self.admin.clone();
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                connect(&admin).await.batch_execute(&statement).await.ok();
            });
        });
        dropping.join().ok();
    }
}

async fn connect(options: &PostgresOptions) -> Client {
    let mut config = tokio_postgres::Config::new();
    for server in &options.servers {
        config.host(&server.host).port(server.port);
    }
    config
        .user(&options.user)
        .dbname(&options.database)
        .application_name("weir tests")
        .options("-c timezone=UTC");
    if let Some(password) = &options.password {
        config.password(password.expose());
    }
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A server of one test, which may be crashed. It stops with the process.
pub(crate) struct OwnServer(Server);

impl OwnServer {
    pub(crate) fn start() -> Self {
        let mut failure = String::new();
        for _ in 0..3 {
            match start() {
                Ok(server) => return Self(server),
                Err(why) => failure = why,
            }
        }
        panic!("there is no Postgres server for the test: {failure}");
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://weir:weir@127.0.0.1:{}/postgres?sslmode=disable", self.0.port)
    }

    /// A database of its own.
    pub(crate) async fn database(&self) -> Database {
        Database::on(PostgresOptions::from_url(&self.url()).unwrap()).await
    }

    /// Restarts it as after a power cut.
    pub(crate) fn crash(&self) {
        let done = self.control("restart -m immediate -w -l \"$1/crash.log\"");
        assert!(done, "pg_ctl cannot restart the server in {}", self.0.folder);
    }

    /// Stops it as a power cut does; [`crash`](Self::crash) starts it again.
    pub(crate) fn stop(&self) {
        assert!(self.control("stop -m immediate -w"), "the server does not stop");
    }

    fn control(&self, command: &str) -> bool {
        let script = format!(
            "bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)\n\
             cd \"$1\" && PATH=\"$bin:$PATH\" pg_ctl -D data {command} >/dev/null 2>&1"
        );
        let done = Command::new("sh")
            .args(["-c", AS_USER, "weir", &script, &self.0.folder])
            .current_dir("/")
            .status();
        done.is_ok_and(|status| status.success())
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // A server that was restarted is not the one that its script knows.
        self.control("stop -m immediate");
    }
}
