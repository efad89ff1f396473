//! The fields of a Postgres connection, named as in libpq.

use std::{fmt, path::PathBuf, time::Duration};

use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::yaml::suggest;

/// Fields that [`PostgresOptions::set`] takes.
const FIELDS: [&str; 18] = [
    "host",
    "port",
    "user",
    "password",
    "database",
    "dbname",
    "schema",
    "sslmode",
    "sslrootcert",
    "connect_timeout",
    "application_name",
    "options",
    "channel_binding",
    "target_session_attrs",
    "service",
    "passfile",
    "connections",
    "lock_wait",
];
/// Parameters in URLs of other programs that have no effect here.
const WITHOUT_EFFECT: [&str; 9] = [
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "sslcompression",
    "tcp_user_timeout",
];
/// Default port.
const DEFAULT_PORT: u16 = 5432;
/// Upper limit of `connections`.
const MAX_CONNECTIONS: u64 = 64;

/// How the connection is encrypted, and how strictly the server is verified; libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// No TLS, unless the server does not allow connections without it.
    Allow,
    /// TLS if the server supports it; the certificate is not verified.
    #[default]
    Prefer,
    /// TLS; the certificate is verified only when `sslrootcert` names a file.
    Require,
    /// TLS, with a certificate that a trusted one has signed.
    VerifyCa,
    /// TLS, with a certificate that a trusted one has signed and that names the host.
    VerifyFull,
}

impl SslMode {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(Error::input("`sslmode` has an unknown value")
                    .with_hint("use disable, allow, prefer, require, verify-ca or verify-full"));
            }
        })
    }
}

/// Whether password authentication is bound to the TLS connection; libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// If the server supports it.
    #[default]
    Prefer,
    /// Always; a server that does not support it is refused.
    Require,
}

impl ChannelBinding {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            _ => {
                return Err(Error::input("`channel_binding` has an unknown value")
                    .with_hint("use disable, prefer or require"));
            }
        })
    }
}

/// A server: a host name or address, or the folder of a Unix socket, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Name, IP address, or absolute path of the socket's folder.
    pub host: String,
    /// Port; for a socket, the number in the name of its file.
    pub port: u16,
}

impl Server {
    /// Whether connections go through a Unix socket.
    pub(crate) fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// How to reach a server, and which database and schema to write.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Servers, tried in order. Default: `localhost:5432`.
    pub servers: Vec<Server>,
    /// Role to log in as.
    pub user: String,
    /// Password of the role, if the server asks for one.
    pub password: Option<Secret>,
    /// Database. Default: the one with the name of the user.
    pub database: String,
    /// Schema of tables whose name has none. Default: `public`.
    pub schema: String,
    /// Table, as `schema.table`, in whose schema the state is kept. Default: the state is kept in `schema`.
    pub state_beside: Option<String>,
    /// Settings of each session, as `-c name=value`. Default: none.
    pub options: String,
    /// Whether password authentication is bound to the TLS connection.
    pub channel_binding: ChannelBinding,
    /// Whether to connect only to a server that accepts writes.
    pub must_write: bool,
    /// Encryption.
    pub sslmode: SslMode,
    /// PEM file with the certificates to trust. Default: those of the system.
    pub sslrootcert: Option<PathBuf>,
    /// Timeout of a connection attempt. Default: 10 seconds.
    pub connect_timeout: Duration,
    /// Longest wait for a table that other sessions use. Default: 10 minutes.
    pub lock_wait: Duration,
    /// Name under which the server lists the connections. Default: `weir`.
    pub application_name: String,
    /// Number of connections for loading, shared by all tables; one more holds the locks. Default: 4.
    pub connections: usize,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            servers: vec![Server { host: "localhost".to_owned(), port: DEFAULT_PORT }],
            user: String::new(),
            password: None,
            database: String::new(),
            schema: "public".to_owned(),
            state_beside: None,
            options: String::new(),
            channel_binding: ChannelBinding::default(),
            must_write: false,
            sslmode: SslMode::default(),
            sslrootcert: None,
            connect_timeout: Duration::from_secs(10),
            lock_wait: Duration::from_mins(10),
            application_name: "weir".to_owned(),
            connections: 4,
        }
    }
}

impl PostgresOptions {
    /// Sets one field from its text. The names are those of libpq, and `schema`, `connections` and `lock_wait` (in
    /// seconds). Commas separate several hosts, and their ports.
    ///
    /// # Errors
    /// The field is unknown, or the value does not fit it. The error does not show the value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "host" => self.set_hosts(value),
            "port" => self.set_ports(value)?,
            "user" => value.clone_into(&mut self.user),
            "password" => self.password = Some(Secret::new(value)),
            "database" | "dbname" => value.clone_into(&mut self.database),
            "schema" => value.clone_into(&mut self.schema),
            "options" => value.clone_into(&mut self.options),
            "channel_binding" => self.channel_binding = ChannelBinding::parse(value)?,
            "target_session_attrs" => self.must_write = must_write(value)?,
            "sslmode" => self.sslmode = SslMode::parse(value)?,
            "sslrootcert" => self.sslrootcert = Some(PathBuf::from(value)),
            "connect_timeout" => {
                self.connect_timeout = Duration::from_secs(number(name, value, u64::MAX)?);
            }
            "lock_wait" => {
                self.lock_wait = Duration::from_secs(number(name, value, u64::MAX)?);
            }
            "application_name" => value.clone_into(&mut self.application_name),
            "connections" => {
                let number = number(name, value, MAX_CONNECTIONS)?;
                self.connections = usize::try_from(number).expect("the number is at most 64");
            }
            // These name sources of fields, which were read before.
            "service" | "passfile" => {}
            known if WITHOUT_EFFECT.contains(&known) => {}
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    /// The database to connect to.
    pub(crate) fn database(&self) -> &str {
        if self.database.is_empty() { &self.user } else { &self.database }
    }

    /// How messages name the servers.
    pub(crate) fn shown(&self) -> String {
        let names: Vec<String> = self.servers.iter().map(Server::to_string).collect();
        names.join(", ")
    }

    /// Checks that the required fields are set.
    pub(crate) fn validate(&self) -> Result<()> {
        let missing = if self.user.is_empty() {
            "user"
        } else if self.servers.is_empty() {
            "host"
        } else if self.schema.is_empty() {
            "schema"
        } else if self.connections == 0 {
            "connections"
        } else {
            return Ok(());
        };
        Err(Error::input(format!("the Postgres connection has no `{missing}`"))
            .with_hint("set it in the connection or its URL: postgres://user@host:5432/database"))
    }

    /// Replaces the hosts. Each new host keeps the port of the host that it replaces, or of the first one.
    fn set_hosts(&mut self, value: &str) {
        let previous = std::mem::take(&mut self.servers);
        let previous_port = |at: usize| previous.get(at).or(previous.first());
        let port = |at: usize| previous_port(at).map_or(DEFAULT_PORT, |server| server.port);
        let named = |(at, host): (usize, &str)| Server { host: host.to_owned(), port: port(at) };
        self.servers = value.split(',').enumerate().map(named).collect();
    }

    fn set_ports(&mut self, value: &str) -> Result<()> {
        let ports: Vec<u16> = value.split(',').map(port).collect::<Result<_>>()?;
        for (at, server) in self.servers.iter_mut().enumerate() {
            server.port = *ports.get(at).or(ports.first()).unwrap_or(&DEFAULT_PORT);
        }
        Ok(())
    }
}

/// Whether a field or parameter of this name is known.
pub(crate) fn is_known(name: &str) -> bool {
    FIELDS.contains(&name) || WITHOUT_EFFECT.contains(&name)
}

fn unknown(name: &str) -> Error {
    let what = format!("a Postgres connection has no field `{name}`");
    Error::input(what).with_hint(suggest(name, FIELDS).unwrap_or_default())
}

fn must_write(value: &str) -> Result<bool> {
    match value {
        "any" => Ok(false),
        "read-write" | "primary" => Ok(true),
        _ => Err(Error::input(
            "`target_session_attrs` names a kind of server that weir cannot write to",
        )
        .with_hint("use any, read-write or primary")),
    }
}

fn port(text: &str) -> Result<u16> {
    match text {
        "" => Ok(DEFAULT_PORT),
        text => text.parse().map_err(|_| Error::input("the port is not a number up to 65535")),
    }
}

fn number(name: &str, text: &str, max: u64) -> Result<u64> {
    let number = text.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| {
        let max = if max == u64::MAX { String::new() } else { format!(" to {max}") };
        Error::input(format!("`{name}` is not a whole number from 1{max}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_set_from_text() {
        let mut options = PostgresOptions::default();
        for (name, value) in [
            ("host", "a,/run/pg"),
            ("port", "7,"),
            ("user", "me"),
            ("schema", "raw"),
            ("sslmode", "verify-ca"),
            ("channel_binding", "require"),
            ("target_session_attrs", "read-write"),
            ("connect_timeout", "3"),
            ("lock_wait", "60"),
            ("connections", "64"),
            ("keepalives", "1"),
        ] {
            options.set(name, value).unwrap();
        }
        assert_eq!(options.shown(), "a:7, /run/pg:5432");
        assert_eq!(
            options.servers.iter().map(Server::is_socket).collect::<Vec<_>>(),
            [false, true]
        );
        assert_eq!((options.schema.as_str(), options.database()), ("raw", "me"));
        assert_eq!(options.sslmode, SslMode::VerifyCa);
        assert_eq!(options.channel_binding, ChannelBinding::Require);
        assert!(options.must_write);
        assert_eq!(options.connect_timeout, Duration::from_secs(3));
        assert_eq!(options.lock_wait, Duration::from_mins(1));
        assert_eq!(options.connections, 64);
        options.validate().unwrap();
    }

    #[test]
    fn values_that_do_not_fit_are_refused_and_not_shown() {
        for (name, value, part) in [
            ("port", "hunter2", "number up to 65535"),
            ("sslmode", "hunter2", "`sslmode`"),
            ("channel_binding", "hunter2", "`channel_binding`"),
            ("target_session_attrs", "standby", "cannot write to"),
            ("connections", "0", "from 1 to 64"),
            ("connections", "65", "from 1 to 64"),
            ("lock_wait", "-1", "from 1"),
            ("hots", "hunter2", "no field `hots`"),
        ] {
            let error = PostgresOptions::default().set(name, value).unwrap_err();
            assert!(error.to_string().contains(part), "{name}: {error:?}");
            assert!(!format!("{error:?}").contains("hunter2"), "{name}: {error:?}");
        }
    }
}
