//! The sources of a connection's options: its URL and fields and, as in libpq, a service file, the environment and a
//! password file.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Once,
};

use indexmap::IndexMap;
use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::write::postgres::options::fields::{PostgresOptions, is_known};

/// Environment variables, and the fields that they set.
const VARIABLES: [(&str, &str); 12] = [
    // A host comes before its port.
    ("PGHOST", "host"),
    ("PGPORT", "port"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGDATABASE", "database"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGAPPNAME", "application_name"),
    ("PGOPTIONS", "options"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
];

/// Looks up the value of an environment variable.
pub(crate) type Variables<'run> = &'run dyn Fn(&str) -> Option<String>;

/// Fields and their values, in the order in which they are set.
type FieldValues = Vec<(String, String)>;

impl PostgresOptions {
    /// Options from `postgres://user:password@host:port/database?sslmode=…` alone. The parameters are the fields that
    /// [`set`](Self::set) takes; a socket is `postgres://user@/database?host=/path`.
    ///
    /// # Errors
    /// The URL is malformed. The error never shows a part of the URL that may be the password.
    pub fn from_url(url: &str) -> Result<Self> {
        let properties = IndexMap::from([("url".to_owned(), Secret::new(url))]);
        Self::new(&properties, &|_| None)
    }

    /// Options from a connection's properties: a `url`, the fields that [`set`](Self::set) takes, or both. A field
    /// wins over the URL. Options that neither sets come from a service (`service`, else PGSERVICE), the other
    /// variables of libpq, and a password file.
    ///
    /// # Errors
    /// As [`from_url`](Self::from_url) and [`set`](Self::set), or the service does not exist.
    pub fn new(properties: &IndexMap<String, Secret>, variables: Variables<'_>) -> Result<Self> {
        let mut settings = FieldValues::new();
        if let Some(url) = properties.get("url") {
            settings = fields_of_url(url.expose())?;
        }
        let fields = properties.iter().filter(|(name, _)| *name != "url");
        settings.extend(fields.map(|(name, value)| (name.clone(), value.expose().to_owned())));
        let given = |name: &str| {
            let found = settings.iter().rev().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone())
        };
        let mut options = Self::default();
        for (variable, field) in VARIABLES {
            if let Some(value) = variables(variable) {
                let named = |error: Error| error.within(format!("`{variable}`"));
                options.set(field, &value).map_err(named)?;
            }
        }
        if let Some(service) = given("service").or_else(|| variables("PGSERVICE")) {
            for (name, value) in service_of(&service, variables)? {
                let named = |error: Error| error.within(format!("service `{service}`"));
                options.set(&name, &value).map_err(named)?;
            }
        }
        for (name, value) in &settings {
            options.set(name, value)?;
        }
        if let Some(schema) = searched_first(&options.options).filter(|_| given("schema").is_none())
        {
            options.schema = schema;
        }
        if options.password.is_none() {
            options.password = password_from_file(&options, given("passfile"), variables);
        }
        Ok(options)
    }
}

/// The fields in a URL.
fn fields_of_url(url: &str) -> Result<FieldValues> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let rest = rest.ok_or_else(|| other_scheme(url))?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) =
        login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
    let mut settings = FieldValues::new();
    let mut set = |name: &str, value: String| settings.push((name.to_owned(), value));
    if !hosts.is_empty() {
        let (hosts, ports) = servers(hosts)?;
        set("host", hosts);
        if let Some(ports) = ports {
            set("port", ports);
        }
    }
    for (name, value) in [("user", user), ("database", database)] {
        if !value.is_empty() {
            set(name, decoded(value)?);
        }
    }
    if let Some(password) = password {
        set("password", decoded(password)?);
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| malformed("a parameter has no value"))?;
        // The text between a `?` and an `@` may be the end of a password.
        if !is_known(name) && query.contains('@') {
            return Err(malformed("it has an unknown parameter"));
        }
        set(name, decoded(value)?);
    }
    Ok(settings)
}

/// The hosts of a URL, and their ports if any is given, each separated by commas. A server is `host`, `host:port` or
/// `[::1]:port`.
fn servers(text: &str) -> Result<(String, Option<String>)> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for one in text.split(',') {
        let (host, port) = match one.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, rest)) => (address, rest.strip_prefix(':')),
            None => one.split_once(':').map_or((one, None), |(host, port)| (host, Some(port))),
        };
        let host = decoded(host)?;
        hosts.push(if host.is_empty() { "localhost".to_owned() } else { host });
        let port = port.unwrap_or_default();
        if !port.is_empty() && port.parse::<u16>().is_err() {
            return Err(malformed("the port is not a number up to 65535"));
        }
        ports.push(port);
    }
    let ports = ports.iter().any(|port| !port.is_empty()).then(|| ports.join(","));
    Ok((hosts.join(","), ports))
}

fn decoded(text: &str) -> Result<String> {
    let mut escapes = text.split('%').skip(1);
    let is_escape = |after: &str| {
        after.get(..2).is_some_and(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    if !escapes.all(is_escape) {
        return Err(malformed("a `%` in it is not followed by two hexadecimal digits"));
    }
    let text = percent_decode_str(text).decode_utf8();
    text.map(std::borrow::Cow::into_owned).map_err(|_| malformed("it is not UTF-8"))
}

fn malformed(why: &str) -> Error {
    Error::input(format!("the Postgres URL is malformed: {why}")).with_hint(
        "write postgres://user:password@host:5432/database, with `:`, `/`, `@`, `?` and `%` in the \
         user or password percent-encoded (`@` is `%40`)",
    )
}

/// The error for a URL that does not begin with `postgres://`.
fn other_scheme(url: &str) -> Error {
    let whose = if url.starts_with("jdbc:") {
        "of JDBC"
    } else if url.starts_with("postgresql+") || url.starts_with("postgres+") {
        "of SQLAlchemy, which names a driver"
    } else {
        return malformed("it does not start with `postgres://`");
    };
    Error::input(format!("this URL has the form {whose}"))
        .with_hint("write postgresql://user:password@host:5432/database")
}

/// The fields of a service, from the file of the user or of the system.
fn service_of(service: &str, variables: Variables<'_>) -> Result<FieldValues> {
    let own = variables("PGSERVICEFILE").or_else(|| in_home(".pg_service.conf", variables));
    let system = variables("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".to_owned());
    let system = format!("{system}/pg_service.conf");
    let files: Vec<String> = own.into_iter().chain([system]).collect();
    for file in &files {
        let Ok(text) = fs::read_to_string(file) else { continue };
        let mut lines = text.lines().map(str::trim);
        if !lines.any(|line| line == format!("[{service}]")) {
            continue;
        }
        let own = lines.take_while(|line| !line.starts_with('['));
        let own = own.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let pair = |line: &str| {
            let (name, value) = line.split_once('=')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        };
        return own
            .map(|line| {
                pair(line).ok_or_else(|| {
                    Error::input(format!("service `{service}` in `{file}` has a line without `=`"))
                })
            })
            .collect();
    }
    Err(Error::input(format!("there is no service `{service}`"))
        .with_hint(format!("weir looks for it in {}", files.join(" and "))))
}

/// The password for a connection in the password file. A file that other users can read is not used.
fn password_from_file(
    options: &PostgresOptions,
    passfile: Option<String>,
    variables: Variables<'_>,
) -> Option<Secret> {
    let file = passfile.or_else(|| variables("PGPASSFILE"));
    let file = PathBuf::from(file.or_else(|| in_home(".pgpass", variables))?);
    let text = fs::read_to_string(&file).ok()?;
    if is_readable_by_others(&file) {
        static WARNED: Once = Once::new();
        let file = file.display();
        WARNED.call_once(|| {
            tracing::warn!(
                "`{file}` is not used because other users can read it: chmod 600 {file}"
            );
        });
        return None;
    }
    let lines: Vec<Vec<String>> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(parts_of)
        .filter(|fields| fields.len() == 5)
        .collect();
    options.servers.iter().find_map(|server| {
        let host = if server.is_socket() { "localhost" } else { &server.host };
        let port = server.port.to_string();
        let wanted = [host, &port, options.database(), &options.user];
        let fits = |fields: &&Vec<String>| {
            wanted.iter().zip(fields.iter()).all(|(wanted, field)| field == "*" || field == wanted)
        };
        lines
            .iter()
            .find(fits)
            .and_then(|fields| fields.last())
            .map(|found| Secret::new(found.as_str()))
    })
}

#[cfg(unix)]
fn is_readable_by_others(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_readable_by_others(_: &Path) -> bool {
    false
}

/// The parts of a line between colons; `\:` and `\\` stand for the characters themselves.
fn parts_of(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ':' => fields.push(String::new()),
            letter => {
                let letter = if letter == '\\' { letters.next() } else { Some(letter) };
                fields.last_mut().into_iter().for_each(|field| field.extend(letter));
            }
        }
    }
    fields
}

fn in_home(name: &str, variables: Variables<'_>) -> Option<String> {
    Some(format!("{}/{name}", variables("HOME")?))
}

/// The first schema in the `search_path` of a session's options, except `$user`.
fn searched_first(options: &str) -> Option<String> {
    let (_, path) = options.rsplit_once("search_path=")?;
    let path = path.split_whitespace().next().unwrap_or_default();
    let names = path.split(',').map(|name| name.trim_matches('"'));
    names.into_iter().find(|name| !name.is_empty() && *name != "$user").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::postgres::options::fields::{ChannelBinding, Server, SslMode};
    use std::{os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

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
        let place = |url| options(url).shown();
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
            "postgres://me:a?hunter2=1@host/db",
            "postgres://me:a@b?hunter2=1@host/db",
            "jdbc:postgresql://host/db?user=me&password=hunter2",
            "postgresql+psycopg2://me:hunter2@host/db",
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
        let nothing = |_: &str| None;
        let options = PostgresOptions::new(&pairs.map(secret).into(), &nothing).unwrap();
        assert_eq!((options.shown().as_str(), options.database()), ("other:7", "db"));
        let error = PostgresOptions::new(&[("pasword", "x")].map(secret).into(), &nothing);
        let error = error.unwrap_err();
        assert_eq!(error.to_string(), "a Postgres connection has no field `pasword`");
        assert_eq!(error.hint(), Some("did you mean `password`?"));
    }

    #[test]
    fn a_user_is_needed() {
        let error = options("postgres://host/db").validate().unwrap_err();
        assert_eq!(error.to_string(), "the Postgres connection has no `user`");
    }

    /// A folder that stands for the user's home, with files.
    fn home(files: &[(&str, &str)]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = home.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        home
    }

    fn read(url: &str, variables: &[(&str, &str)]) -> Result<PostgresOptions> {
        let properties = [("url".to_owned(), Secret::new(url))].into();
        PostgresOptions::new(&properties, &|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_a_connection_leaves_open_comes_from_the_environment() {
        let variables = [
            ("PGHOST", "db.example"),
            ("PGPORT", "6000"),
            ("PGUSER", "me"),
            ("PGPASSWORD", "p"),
            ("PGDATABASE", "wiki"),
            ("PGSSLMODE", "require"),
            ("PGAPPNAME", "etl"),
        ];
        let found = read("postgres://", &variables).unwrap();
        assert_eq!((found.shown().as_str(), found.database()), ("db.example:6000", "wiki"));
        assert_eq!((found.user.as_str(), found.sslmode), ("me", SslMode::Require));
        assert_eq!(found.password.unwrap().expose(), "p");
        assert_eq!(found.application_name, "etl");
        // What is said wins; of several hosts each has its port.
        let found = read("postgres://you:q@a,b:7/x?sslmode=disable", &variables).unwrap();
        assert_eq!((found.shown().as_str(), found.database()), ("a:5432, b:7", "x"));
        assert_eq!((found.user.as_str(), found.sslmode), ("you", SslMode::Disable));
        assert_eq!(found.password.unwrap().expose(), "q");
        assert_eq!(read("postgres://other/x", &variables).unwrap().shown(), "other:6000");
        let error = read("postgres://h/x", &[("PGPORT", "many")]).unwrap_err();
        assert!(error.chain().starts_with("`PGPORT`"), "{error:?}");
    }

    #[test]
    fn a_service_stands_for_settings_that_nobody_else_makes() {
        let service = "# ours\n[other]\nhost=wrong\n[ware]\nhost = s.example\nport=7\nuser=svc\n\
                       dbname=w\npassword=s\nsslmode=require\n\n[last]\nport=1\n";
        let home = home(&[(".pg_service.conf", service)]);
        let folder = home.path().display().to_string();
        let variables = [("PGSERVICE", "ware"), ("PGHOST", "env"), ("HOME", folder.as_str())];
        let found = read("postgres://me@/", &variables).unwrap();
        assert_eq!((found.shown().as_str(), found.database()), ("s.example:7", "w"));
        assert_eq!((found.user.as_str(), found.sslmode), ("me", SslMode::Require));
        let found = read("postgres:///?service=last", &variables).unwrap();
        assert_eq!(found.shown(), "env:1");
        let error = read("postgres:///?service=none", &variables).unwrap_err();
        assert!(error.to_string().contains("no service `none`"), "{error:?}");
    }

    #[test]
    fn a_password_that_is_not_said_is_looked_up() {
        let lines = "# mine\nother:*:*:me:wrong\ndb\\:x:5432:wiki:me:p\\:w\n*:*:*:you:any\n";
        let home = home(&[(".pgpass", lines), ("own", "localhost:5432:*:me:own\n")]);
        let folder = home.path().display().to_string();
        let own = home.path().join("own").display().to_string();
        let password = |url: &str, more: &[(&str, &str)]| {
            let variables = [more, &[("HOME", folder.as_str())]].concat();
            read(url, &variables).unwrap().password.map(|found| found.expose().to_owned())
        };
        assert_eq!(password("postgres://me@db%3Ax/wiki", &[]).as_deref(), Some("p:w"));
        assert_eq!(password("postgres://you@h:1/x", &[]).as_deref(), Some("any"));
        assert_eq!(password("postgres://me@h/x", &[]), None);
        assert_eq!(password("postgres://you:said@h/x", &[]).as_deref(), Some("said"));
        assert_eq!(password("postgres://you@h/x", &[("PGPASSWORD", "e")]).as_deref(), Some("e"));
        let own = [("PGPASSFILE", own.as_str())];
        assert_eq!(password("postgres://me@/x?host=/run/pg", &own).as_deref(), Some("own"));
        // A file that others can read is not used.
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(home.path().join(".pgpass"), open).unwrap();
        assert_eq!(password("postgres://you@h:1/x", &[]), None);
    }

    #[test]
    fn the_usual_parameters_are_known() {
        let found = options(
            "postgres://me@h/db?options=-csearch_path%3Draw,public%20-c%20statement_timeout%3D9&\
             channel_binding=require&target_session_attrs=read-write&keepalives_idle=30&lock_wait=5",
        );
        assert_eq!(found.schema, "raw");
        assert_eq!(found.channel_binding, ChannelBinding::Require);
        assert!(found.must_write && found.options.contains("statement_timeout"));
        assert_eq!(found.lock_wait, Duration::from_secs(5));
        let own = options("postgres://me@h/db?schema=own&options=--search_path%3D%22$user%22,raw");
        assert_eq!(own.schema, "own");
        assert_eq!(
            options("postgres://me@h/db?options=--search_path%3D%22$user%22,raw").schema,
            "raw"
        );
        for (url, what, hint) in [
            ("postgres://me@h/db?ssl_mode=require", "has no field `ssl_mode`", "`sslmode`"),
            ("postgresql+psycopg2://me:p@h/db", "SQLAlchemy", "postgresql://"),
            ("jdbc:postgresql://h/db?user=me", "JDBC", "postgresql://user:password@host"),
            ("postgres://me@h/db?target_session_attrs=standby", "cannot write", "read-write"),
        ] {
            let error = PostgresOptions::from_url(url).unwrap_err();
            assert!(error.to_string().contains(what), "{url}: {error:?}");
            assert!(error.hint().unwrap().contains(hint), "{url}: {error:?}");
        }
    }
}
