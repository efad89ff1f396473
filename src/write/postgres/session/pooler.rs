//! Whether a pooler stands between weir and the server that gives each transaction another session.
//!
//! `PgBouncer` in transaction mode does. Locks and settings of a session are then somebody else's, and stay
//! behind. Only statements that leave nothing behind are sent to find out.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::error::Error;

/// Whether sessions are shared between connections. While the second one is in a transaction it keeps its
/// session: the first one then has another one than before, or had the same.
pub(crate) async fn shares_sessions(
    first: &Client,
    second: &Client,
) -> Result<bool, tokio_postgres::Error> {
    let before = session(first).await?;
    match second.batch_execute("BEGIN").await {
        // A pooler that shares them by statement refuses transactions.
        Err(error) if error.as_db_error().is_some() => return Ok(true),
        begun => begun?,
    }
    let other = session(second).await?;
    // Where there is but one session, asking again would wait for it.
    let shared = before == other || session(first).await? != before;
    second.batch_execute("ROLLBACK").await?;
    Ok(shared)
}

/// Number of the server's process behind a connection.
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
        .because("weir locks what it writes, and such locks are lost or left behind there")
        .with_hint(
            "connect to the server itself or to the pooler's port for sessions; in PgBouncer, set \
             `pool_mode=session` for this database or user",
        )
}
