//! How to reach a Postgres server: fields of a connection, or a URL, in libpq's words.

use std::{fmt, path::PathBuf, time::Duration};

use indexmap::IndexMap;
use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};
use crate::secret::Secret;

/// What [`PostgresOptions::set`] knows.
const FIELDS: &str = "host, port, user, password, database, schema, sslmode, sslrootcert, \
                      connect_timeout, application_name, connections";
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
    pub(super) fn is_socket(&self) -> bool {
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
    /// Encryption.
    pub sslmode: SslMode,
    /// PEM file of the certificates to trust; the system's unless set.
    pub sslrootcert: Option<PathBuf>,
    /// How long connecting may take; 10 seconds unless set.
    pub connect_timeout: Duration,
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
            sslmode: SslMode::default(),
            sslrootcert: None,
            connect_timeout: Duration::from_secs(10),
            application_name: "weir".to_owned(),
            connections: 4,
        }
    }
}

impl PostgresOptions {
    /// Options from `postgres://user:password@host:port/database?sslmode=…`. Parameters are the
    /// fields that [`set`](Self::set) takes; a socket is `postgres://user@/database?host=/path`.
    ///
    /// # Errors
    /// The URL is malformed. The error never shows a part of it, since that may be the password.
    pub fn from_url(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or_else(|| malformed("it does not start with `postgres://`"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) =
            login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
        let mut options = Self::default();
        if !hosts.is_empty() {
            options.servers = servers(hosts)?;
        }
        options.user = decoded(user)?;
        options.database = decoded(database)?;
        options.password = password.map(decoded).transpose()?.map(Secret::new);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| malformed("a parameter has no value"))?;
            options.set(name, &decoded(value)?)?;
        }
        Ok(options)
    }

    /// Options from a connection's properties: a `url`, or the fields that [`set`](Self::set) takes,
    /// or both; a field then wins over the URL.
    ///
    /// # Errors
    /// As [`from_url`](Self::from_url) and [`set`](Self::set), or there is no user.
    pub fn from_properties(properties: &IndexMap<String, Secret>) -> Result<Self> {
        let url = properties.get("url").map(|url| Self::from_url(url.expose()));
        let mut options = url.transpose()?.unwrap_or_default();
        for (name, value) in properties.iter().filter(|(name, _)| *name != "url") {
            options.set(name, value.expose())?;
        }
        options.validate()?;
        Ok(options)
    }

    /// Sets one field from its text: `host`, `port`, `user`, `password`, `database` (or `dbname`),
    /// `schema`, `sslmode`, `sslrootcert`, `connect_timeout` (seconds), `application_name`,
    /// `connections`. Several hosts, and their ports, are separated by commas.
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
            "sslmode" => self.sslmode = SslMode::parse(value)?,
            "sslrootcert" => self.sslrootcert = Some(PathBuf::from(value)),
            "connect_timeout" => {
                self.connect_timeout = Duration::from_secs(number(name, value, u64::MAX)?);
            }
            "application_name" => value.clone_into(&mut self.application_name),
            "connections" => {
                let most = u64::try_from(MOST_CONNECTIONS).unwrap_or(u64::MAX);
                self.connections = usize::try_from(number(name, value, most)?).unwrap_or(1);
            }
            _ => {
                return Err(Error::input("a Postgres connection has a field that does not exist")
                    .with_hint(format!("its fields are {FIELDS}")));
            }
        }
        Ok(())
    }

    /// The database to connect to.
    pub(super) fn database(&self) -> &str {
        if self.database.is_empty() { &self.user } else { &self.database }
    }

    /// The servers, for a person.
    pub(super) fn place(&self) -> String {
        let names: Vec<String> = self.servers.iter().map(Server::to_string).collect();
        names.join(", ")
    }

    /// What must hold before anything is tried.
    pub(super) fn validate(&self) -> Result<()> {
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

/// `host`, `host:port`, `[::1]:port`, several with commas between.
fn servers(hosts: &str) -> Result<Vec<Server>> {
    let mut found = Vec::new();
    for one in hosts.split(',') {
        let (host, number) = match one.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, rest)) => (address, rest.strip_prefix(':')),
            None => one.split_once(':').map_or((one, None), |(host, port)| (host, Some(port))),
        };
        let host = decoded(host)?;
        let host = if host.is_empty() { "localhost".to_owned() } else { host };
        found.push(Server { host, port: number.map_or(Ok(5432), port)? });
    }
    Ok(found)
}

fn port(text: &str) -> Result<u16> {
    text.parse().map_err(|_| malformed("the port is not a number up to 65535"))
}

fn number(name: &str, text: &str, most: u64) -> Result<u64> {
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| {
        let most = if most == u64::MAX { String::new() } else { format!(" to {most}") };
        Error::input(format!("`{name}` is not a whole number from 1{most}"))
    })
}

fn decoded(text: &str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(std::borrow::Cow::into_owned).map_err(|_| malformed("it is not UTF-8"))
}

fn malformed(why: &str) -> Error {
    Error::input(format!("the Postgres URL is malformed: {why}")).with_hint(
        "write postgres://user:password@host:5432/database, with `:`, `/`, `@`, `?` and `%` in the \
         user or password percent-encoded (`@` is `%40`)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> PostgresOptions {
        PostgresOptions::from_url(url).unwrap()
    }

    #[test]
    fn a_url_gives_all_fields() {
        let options = options(
            "postgresql://me%40x:p%3Aw@db.example:6543/wiki?sslmode=verify-full&schema=raw&\
             sslrootcert=/etc/ca.pem&connect_timeout=3&application_name=etl&connections=2",
        );
        assert_eq!(options.servers, [Server { host: "db.example".to_owned(), port: 6543 }]);
        assert_eq!((options.user.as_str(), options.database()), ("me@x", "wiki"));
        assert_eq!(options.password.as_ref().unwrap().expose(), "p:w");
        assert_eq!((options.schema.as_str(), options.sslmode), ("raw", SslMode::VerifyFull));
        assert_eq!(options.sslrootcert, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(options.connect_timeout, Duration::from_secs(3));
        assert_eq!((options.application_name.as_str(), options.connections), ("etl", 2));
    }

    #[test]
    fn hosts_are_names_addresses_sockets_or_lists() {
        let place = |url| options(url).place();
        assert_eq!(place("postgres://me@/db"), "localhost:5432");
        assert_eq!(place("postgres://me@[::1]:7000/db"), "::1:7000");
        assert_eq!(place("postgres://me@a,b:7000/db"), "a:5432, b:7000");
        assert_eq!(place("postgres://me@/db?host=/run/pg&port=7"), "/run/pg:7");
        assert_eq!(place("postgres://me@/db?port=7&host=/run/pg"), "/run/pg:7");
        assert_eq!(options("postgres://me@host").database(), "me");
    }

    #[test]
    fn no_error_and_no_debug_shows_the_password() {
        for url in [
            "postgres://me:hunter2/x@host/db",
            "postgres://me:hunter2?x@host/db",
            "postgres://me:hunter2@host:none/db",
            "postgres://me:hunter2%FF@host/db",
            "mysql://me:hunter2@host/db",
            "postgres://me@host/db?hunter2=1",
            "postgres://me@host/db?sslmode=hunter2",
            "postgres://me@host/db?connections=hunter2",
        ] {
            let error = PostgresOptions::from_url(url).unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{url}: {error:?}");
        }
        let options = options("postgres://me:hunter2@host/db");
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn a_property_wins_over_the_url() {
        let secret = |(name, value): (&str, &str)| (name.to_owned(), Secret::new(value));
        let pairs = [("port", "7"), ("url", "postgres://me:p@host/db"), ("host", "other")];
        let options = PostgresOptions::from_properties(&pairs.map(secret).into()).unwrap();
        assert_eq!((options.place().as_str(), options.database()), ("other:7", "db"));
        let error = PostgresOptions::from_properties(&[("pasword", "x")].map(secret).into());
        assert!(error.unwrap_err().hint().unwrap().contains("password"));
    }

    #[test]
    fn a_user_is_needed() {
        let error = options("postgres://host/db").validate().unwrap_err();
        assert_eq!(error.to_string(), "the Postgres connection has no `user`");
    }
}
