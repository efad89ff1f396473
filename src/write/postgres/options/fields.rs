//! How to reach a Postgres server: fields of a connection, or a URL, in libpq's words.

use std::{fmt, path::PathBuf, time::Duration};

use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::yaml::suggest;

/// What [`PostgresOptions::set`] knows.
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
/// Parameters of other programs' URLs that change nothing here.
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
/// Port of a server for which none is named.
const PORT: u16 = 5432;
/// Most connections for loading that one target may be given.
const MOST_CONNECTIONS: usize = 64;

/// How the connection is encrypted, and how far the server must prove who it is; libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Without TLS, with it where the server does not admit that.
    Allow,
    /// TLS where the server has it; the certificate is not looked at.
    #[default]
    Prefer,
    /// TLS; the certificate is looked at only when `sslrootcert` names a file.
    Require,
    /// TLS, and the certificate leads to a trusted one.
    VerifyCa,
    /// TLS, and the certificate leads to a trusted one and names the host.
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
                return Err(Error::input("`sslmode` has a value that does not exist")
                    .with_hint("use disable, allow, prefer, require, verify-ca or verify-full"));
            }
        })
    }
}

/// Whether the proof of a password is bound to the TLS connection; libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server can.
    #[default]
    Prefer,
    /// Always: a server that cannot is refused.
    Require,
}

impl ChannelBinding {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            _ => {
                return Err(Error::input("`channel_binding` has a value that does not exist")
                    .with_hint("use disable, prefer or require"));
            }
        })
    }
}

/// One server to try: a host's name or address, or the folder of a Unix socket, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Name, IP address, or absolute path of the socket's folder.
    pub host: String,
    /// Port; for a socket, the number in its file's name.
    pub port: u16,
}

impl Server {
    /// Whether it is reached through a Unix socket.
    pub(crate) fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// How to reach a server and which database and schema to write.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Servers, tried in order; `localhost:5432` unless set.
    pub servers: Vec<Server>,
    /// Role to log in as.
    pub user: String,
    /// Its password, where the server asks for one.
    pub password: Option<Secret>,
    /// Database; named like the user unless set.
    pub database: String,
    /// Schema of tables whose name has none; `public` unless set.
    pub schema: String,
    /// Table in whose schema the state is kept, as `schema.table`; that of `schema` unless set.
    pub state_beside: Option<String>,
    /// Settings of the session that the server takes when connecting, as `-c name=value`; none unless set.
    pub options: String,
    /// Whether the password's proof is bound to the TLS connection.
    pub channel_binding: ChannelBinding,
    /// Whether only a server that takes writes will do, of several hosts.
    pub must_write: bool,
    /// Encryption.
    pub sslmode: SslMode,
    /// PEM file of the certificates to trust; the system's unless set.
    pub sslrootcert: Option<PathBuf>,
    /// How long connecting may take; 10 seconds unless set.
    pub connect_timeout: Duration,
    /// Longest wait for a table that other sessions use; 10 minutes unless set.
    pub lock_wait: Duration,
    /// Name under which the server lists the connections; `weir` unless set.
    pub application_name: String,
    /// Connections for loading, shared by all tables; one more holds the locks. 4 unless set.
    pub connections: usize,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            servers: vec![Server { host: "localhost".to_owned(), port: 5432 }],
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
    /// Sets one field from its text; the names are libpq's, and `schema`, `connections` and `lock_wait`
    /// (seconds). Several hosts, and their ports, are separated by commas.
    ///
    /// # Errors
    /// No such field, or a value that does not fit it. The error does not show the value.
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
                let most = u64::try_from(MOST_CONNECTIONS).unwrap_or(u64::MAX);
                self.connections = usize::try_from(number(name, value, most)?).unwrap_or(1);
            }
            // Where settings come from is looked at before.
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

    /// The servers, for a person.
    pub(crate) fn place(&self) -> String {
        let names: Vec<String> = self.servers.iter().map(Server::to_string).collect();
        names.join(", ")
    }

    /// What must hold before anything is tried.
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

    /// New hosts; the ports stay where the same number of them was given.
    fn set_hosts(&mut self, value: &str) {
        let old = std::mem::take(&mut self.servers);
        let port = |at: usize| old.get(at).or(old.first()).map_or(5432, |server| server.port);
        let named = |(at, host): (usize, &str)| Server { host: host.to_owned(), port: port(at) };
        self.servers = value.split(',').enumerate().map(named).collect();
    }

    fn set_ports(&mut self, value: &str) -> Result<()> {
        let ports: Vec<u16> = value.split(',').map(port).collect::<Result<_>>()?;
        for (at, server) in self.servers.iter_mut().enumerate() {
            server.port = *ports.get(at).or(ports.first()).unwrap_or(&5432);
        }
        Ok(())
    }
}

/// Whether a field or parameter of this name is known.
pub(crate) fn is_known(name: &str) -> bool {
    FIELDS.contains(&name) || WITHOUT_EFFECT.contains(&name)
}

fn unknown(name: &str) -> Error {
    let what = format!("`{name}` is no field of a Postgres connection");
    Error::input(what).with_hint(suggest(name, FIELDS).unwrap_or_default())
}

fn must_write(value: &str) -> Result<bool> {
    match value {
        "any" => Ok(false),
        "read-write" | "primary" => Ok(true),
        _ => {
            Err(Error::input("`target_session_attrs` asks for a server that weir cannot write to")
                .with_hint("use any, read-write or primary"))
        }
    }
}

fn port(text: &str) -> Result<u16> {
    match text {
        "" => Ok(PORT),
        text => text.parse().map_err(|_| Error::input("the port is not a number up to 65535")),
    }
}

fn number(name: &str, text: &str, most: u64) -> Result<u64> {
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| {
        let most = if most == u64::MAX { String::new() } else { format!(" to {most}") };
        Error::input(format!("`{name}` is not a whole number from 1{most}"))
    })
}
