//! Detects a connection pooler that gives each transaction another session of the server.
//!
//! `PgBouncer` does so in transaction mode. Locks and settings of a session then affect other clients. The check
//! itself only sends statements that leave nothing behind in a session.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::error::Error;

/// Whether connections share sessions. The second connection keeps its session while it is in a transaction. If
/// sessions are shared, the first connection had that session before, or has another one now.
pub(crate) async fn shares_sessions(
    first: &Client,
    second: &Client,
) -> Result<bool, tokio_postgres::Error> {
    let before = session(first).await?;
    match second.batch_execute("BEGIN").await {
        // A pooler that shares sessions by statement refuses transactions.
        Err(error) if error.as_db_error().is_some() => return Ok(true),
        begun => begun?,
    }
    let other = session(second).await?;
    // If the pooler has only one session, a second query would wait for it.
    let shared = before == other || session(first).await? != before;
    second.batch_execute("ROLLBACK").await?;
    Ok(shared)
}

/// Process number of a connection's session.
async fn session(client: &Client) -> Result<Option<String>, tokio_postgres::Error> {
    let answers = client.simple_query("SELECT pg_backend_pid()").await?;
    Ok(answers.into_iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// The error for a connection through such a pooler.
pub(crate) fn refusal(place: &str) -> Error {
    Error::input(format!("a connection pooler at `{place}` shares sessions between transactions"))
        .because("weir locks the tables it writes, and behind such a pooler, these locks may be lost or never released")
        .with_hint(
            "connect to the server itself or to the pooler's port for session pooling; in PgBouncer, set \
             `pool_mode=session` for this database or user",
        )
}
