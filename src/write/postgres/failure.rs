//! Errors of the server and the driver as errors of weir, with hints.

use std::{error::Error as _, fmt, io};

use tokio_postgres::error::{DbError, SqlState};

use crate::error::{Error, Kind};
use crate::write::postgres::name::{self, WEIR_SCHEMA};
use crate::write::postgres::options::fields::PostgresOptions;

/// Number of characters of a server's message that weir shows.
const MAX_MESSAGE: usize = 300;

/// An error of the server: its message, and its code for callers that decide by it.
#[derive(Debug)]
struct ServerError {
    code: SqlState,
    message: String,
}

impl fmt::Display for ServerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for ServerError {}

/// Whether a statement failed because other sessions hold its locks, so that it may succeed later.
pub(crate) fn is_locked_out(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(ServerError { code, .. }) = inner.downcast_ref() {
            return [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].contains(code);
        }
        cause = inner.source();
    }
    false
}

/// The error of a statement that may define something. When a function of the database refused it, such as an
/// event trigger, the error names the statement.
pub(crate) fn definition(
    what: impl Into<String>,
    statement: &str,
    error: &tokio_postgres::Error,
) -> Error {
    let refusal = error.as_db_error();
    let by_function = refusal.and_then(DbError::where_).is_some_and(|at| at.contains("function "));
    let defines = ["CREATE", "ALTER", "DROP", "COMMENT", "GRANT"];
    let Some(refusal) = refusal.filter(|_| by_function) else {
        return self::statement(what, error);
    };
    if !defines.iter().any(|word| statement.starts_with(word)) {
        return self::statement(what, error);
    }
    let first: String = statement.split(';').next().unwrap_or_default().chars().take(100).collect();
    let (code, message) = (refusal.code().clone(), message(refusal));
    let message = format!("`{}` was refused: {message}", without_stage(first));
    Error::target(what).because(ServerError { code, message }).with_hint(format!(
        "an event trigger of the database forbids it: let the trigger allow this role everything in \
         schema `{WEIR_SCHEMA}`, where weir creates its staging tables; the modes `truncate` and \
         `incremental` need nothing else for existing tables with all columns and a primary key"
    ))
}

/// The error of a statement. `what` is a clause that names the table.
pub(crate) fn statement(what: impl Into<String>, error: &tokio_postgres::Error) -> Error {
    let failed = Error::target(what);
    match error.as_db_error() {
        Some(refusal) => {
            let code = refusal.code().clone();
            let failed = failed.because(ServerError { code, message: message(refusal) });
            match remedy(refusal.code()) {
                Some(hint) => failed.with_hint(hint),
                None => failed,
            }
        }
        None => failed
            .because(format!("the connection to the server broke: {}", chain(error)))
            .with_hint("the server's log shows why it ended the session; then run again"),
    }
}

/// The error of an attempt to connect.
pub(crate) fn connecting(options: &PostgresOptions, error: &tokio_postgres::Error) -> Error {
    let place = options.shown();
    if let Some(refusal) = error.as_db_error() {
        return refused(options, refusal);
    }
    if let Some(cause) = io_cause(error) {
        return match cause.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => unreachable(format!(
                "no server listens at `{place}`"
            ))
            .with_hint("check host and port, and that the server is running and listens there"),
            io::ErrorKind::TimedOut => no_answer(options),
            _ if cause.to_string().contains("lookup") => {
                unreachable(format!("the host of `{place}` is unknown"))
                    .because(cause.to_string())
                    .with_hint(
                        "check the spelling of the host, and the name resolution of this machine",
                    )
            }
            _ => unreachable(format!("cannot connect to Postgres at `{place}`"))
                .because(cause.to_string()),
        };
    }
    let text = chain(error);
    if text.contains("timeout") || text.contains("timed out") {
        return no_answer(options);
    }
    if text.contains("password missing") {
        let what = "the server asks for a password, and the connection has none";
        return Error::new(Kind::Credentials, what).with_hint("set the connection's `password`");
    }
    if text.contains("does not support TLS") {
        return unreachable(format!(
            "the server at `{place}` has no TLS, but `sslmode` requires it"
        ))
        .because(text)
        .with_hint("enable TLS on the server, or set `sslmode` to `prefer` or `disable`");
    }
    let failed = unreachable(format!("cannot connect to Postgres at `{place}`")).because(text);
    if is_tls(error) {
        return failed.with_hint(
            "`sslmode` sets how strictly the server's certificate is checked; `sslrootcert` names the \
             PEM file with the certificates to trust",
        );
    }
    failed
}

/// Whether an attempt to connect may succeed in a moment.
pub(crate) fn is_transient(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => {
            *code == SqlState::CANNOT_CONNECT_NOW || *code == SqlState::TOO_MANY_CONNECTIONS
        }
        None => io_cause(error).is_some_and(|cause| {
            matches!(
                cause.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::BrokenPipe
            )
        }),
    }
}

/// Whether TLS itself failed, and not the login.
pub(crate) fn is_tls(error: &tokio_postgres::Error) -> bool {
    error.to_string().contains("TLS")
}

/// Whether the server returned this code.
pub(crate) fn is(error: &tokio_postgres::Error, code: &SqlState) -> bool {
    error.code() == Some(code)
}

fn refused(options: &PostgresOptions, refusal: &DbError) -> Error {
    let (user, database) = (&options.user, options.database());
    let code = refusal.code();
    if *code == SqlState::INVALID_PASSWORD {
        let what = format!("the server does not accept the password of user `{user}`");
        return Error::new(Kind::Credentials, what)
            .with_hint("correct `user` or `password` of the connection");
    }
    if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        let what = format!("the server does not admit user `{user}` to database `{database}`");
        return Error::new(Kind::Credentials, what).because(message(refusal)).with_hint(
            "the role may not exist, or `pg_hba.conf` does not allow it from this machine",
        );
    }
    if *code == SqlState::INVALID_CATALOG_NAME {
        return Error::input(format!("there is no database `{database}` at `{}`", options.shown()))
            .with_hint("create it (`createdb`), or correct `database` of the connection");
    }
    let failed =
        Error::target(format!("the server at `{}` refused the connection", options.shown()));
    let failed = failed.because(message(refusal));
    match remedy(code) {
        Some(hint) => failed.with_hint(hint),
        None => failed,
    }
}

fn remedy(code: &SqlState) -> Option<&'static str> {
    const REMEDIES: &[(SqlState, &str)] = &[
        (
            SqlState::INSUFFICIENT_PRIVILEGE,
            "grant the role what it lacks: USAGE and CREATE on the schema, and for an existing \
             table membership in the role that owns it",
        ),
        (SqlState::DISK_FULL, "the server's disk is full: free space on it and run again"),
        (SqlState::OUT_OF_MEMORY, "the server is out of memory"),
        (
            SqlState::TOO_MANY_CONNECTIONS,
            "lower `connections` of the connection, or raise the server's `max_connections`",
        ),
        (SqlState::ADMIN_SHUTDOWN, "an administrator ended the session: run again"),
        (SqlState::CRASH_SHUTDOWN, "the server restarted: run again"),
        (SqlState::CANNOT_CONNECT_NOW, "the server is starting or stopping: try again in a minute"),
        (
            SqlState::READ_ONLY_SQL_TRANSACTION,
            "this server is read-only, it may be a standby: connect to the primary",
        ),
        (SqlState::NOT_NULL_VIOLATION, "key columns and NOT NULL columns need a value"),
        (
            SqlState::FOREIGN_KEY_VIOLATION,
            "another table references rows that were deleted: drop or relax its foreign key",
        ),
        (
            SqlState::LOCK_NOT_AVAILABLE,
            "another session uses the table: see pg_stat_activity, then run again",
        ),
        (
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the table is published: give it a primary key, or ALTER TABLE … REPLICA IDENTITY FULL",
        ),
        (SqlState::QUERY_CANCELED, "a user or `statement_timeout` cancelled the statement"),
        (SqlState::UNDEFINED_TABLE, "a table that this run needs was dropped: run again"),
    ];
    REMEDIES.iter().find(|(known, _)| known == code).map(|(_, hint)| *hint)
}

/// The server's message and, for a COPY, the position of the error. Leaves out details, which quote rows.
fn message(refusal: &DbError) -> String {
    let place = refusal.where_().and_then(|place| place.lines().next());
    let text = match place.filter(|place| place.starts_with("COPY ")) {
        Some(place) => format!("{} ({place})", refusal.message()),
        None => refusal.message().to_owned(),
    };
    without_stage(text).chars().take(MAX_MESSAGE).collect()
}

/// Replaces names of staging tables, which mean nothing to a reader, by `staging`.
fn without_stage(mut text: String) -> String {
    while let Some(at) = text.find(name::STAGE) {
        let end = at + name::STAGE_LENGTH;
        if text.get(at..end).is_none() {
            break;
        }
        text.replace_range(at..end, "staging");
    }
    text
}

fn unreachable(what: String) -> Error {
    Error::new(Kind::Unreachable, what)
}

/// The error of a server that did not respond in time.
pub(crate) fn no_answer(options: &PostgresOptions) -> Error {
    let seconds = options.connect_timeout.as_secs();
    unreachable(format!("no response from `{}` within {seconds} seconds", options.shown()))
        .with_hint("check the host and the firewalls on the way, or raise `connect_timeout`")
}

fn io_cause(error: &tokio_postgres::Error) -> Option<&io::Error> {
    error.source()?.downcast_ref::<io::Error>().filter(|_| !is_tls(error))
}

fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text.chars().take(MAX_MESSAGE).collect()
}
