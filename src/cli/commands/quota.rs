//! `weir quota`.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::json;

use crate::cli::args::{Quota as Command, Shared};
use crate::cli::context::CliContext;
use crate::cli::exit::Exit;
use crate::cli::output::printer;
use crate::cli::{open, tokens, trust};
use crate::connection::api_fields;
use crate::error::{Error, Result};
use crate::plan::quota_of;
use crate::quota::account::LedgerQuery;
use crate::quota::cost::QuotaPlan;
use crate::quota::ledger::{CombinedLedger, Ledger};
use crate::sync::connection_test::look_up;
use crate::sync::duration::{Hour, LimitFrom};
use crate::write::files::LocalLedger;

/// The points account of a connection in its ledgers.
struct ConnectionAccount {
    quota: QuotaPlan,
    ledgers: Vec<Arc<dyn Ledger>>,
}

pub(crate) fn run(command: &Command, shared: Shared, context: &CliContext) -> Result<Exit> {
    let runtime = crate::cli::exit::runtime()?;
    match command {
        Command::Show { connection, target } => {
            let account = account(connection, target.as_deref(), shared, context)?;
            runtime.block_on(show(connection, account, shared))
        }
        Command::Reset { connection, target } => {
            let account = account(connection, target.as_deref(), shared, context)?;
            runtime.block_on(reset(connection, &account, shared))
        }
    }
}

fn account(
    name: &str,
    target: Option<&str>,
    shared: Shared,
    context: &CliContext,
) -> Result<ConnectionAccount> {
    let connection = trust::fetched(context.connections.find(name)?, context)?;
    let (spec, foreign) = open::foreign_or_shipped(&connection)?;
    trust::tell_borrowed(&connection, Some(&spec), &context.connections, shared, context);
    let mut fields = api_fields(&connection, &spec, &context.connections.variables())?;
    if let Some(foreign) = foreign.filter(|_| connection.simulate.is_none()) {
        trust::confirm(&spec, &foreign, &fields, shared, context)?;
    }
    let transport = open::transport(&connection, &spec)?;
    // Looked-up fields are part of the base URL, which identifies the account.
    crate::cli::exit::runtime()?.block_on(look_up(&spec, &mut fields, transport.as_ref()))?;
    let quota = quota_of(&spec, &fields, &tokens::hooks(&connection))?.ok_or_else(|| {
        let what = format!("connection `{}` has no points quota", connection.name);
        Error::input(what).with_hint("only APIs whose spec has `limits.points` have a points quota")
    })?;
    let mut ledgers: Vec<Arc<dyn Ledger>> = Vec::new();
    if let Some(target) = target {
        let place = trust::fetched(context.connections.find(target)?, context)?;
        ledgers.push(open::ledger(&place, None)?.ok_or_else(|| {
            let what =
                format!("`--target`: connection `{}` is not a Postgres database", place.name);
            Error::input(what)
        })?);
    }
    ledgers.push(Arc::new(LocalLedger::new(context.home()?.join("ledger"))));
    Ok(ConnectionAccount { quota, ledgers })
}

async fn show(
    name: &str,
    ConnectionAccount { quota, ledgers }: ConnectionAccount,
    shared: Shared,
) -> Result<Exit> {
    let terms = quota.terms();
    let at = LedgerQuery { window: terms.window, now: Utc::now() };
    let all = CombinedLedger(ledgers);
    let place = all.place(&quota.connection);
    let balance = all.peek(&quota.connection, at).await?;
    let hour = balance.map(|balance| (Hour::new(&balance, &terms), balance.end));
    if shared.json {
        printer::json(&json!({
            "connection": name,
            "kept_in": place,
            "spent": hour.map_or(0, |(hour, _)| hour.spent),
            "limit": hour.map_or(quota.per_hour, |(hour, _)| hour.limit),
            "window_ends": hour.map(|(_, end)| stamp(end)),
            "waits_until": hour.and_then(|(hour, _)| hour.hold).map(stamp),
        }));
        return Ok(Exit::Done);
    }
    let Some((hour, end)) = hour else {
        printer::data(&format!("{name}: no points are spent in this hour\nstored in {place}"));
        return Ok(Exit::Done);
    };
    let from = match hour.limit_from {
        LimitFrom::Api => "reported by the API",
        LimitFrom::Spec => "assumed by the spec",
    };
    let wait = match hour.hold {
        Some(hold) => format!("no requests before {}", stamp(hold)),
        None => "requests can be sent now".to_owned(),
    };
    printer::data(&format!(
        "{name}: {} of {} points are spent in the hour that ends at {} (limit {from})\n{wait}\n\
         stored in {place}",
        printer::grouped(hour.spent),
        printer::grouped(hour.limit),
        stamp(end),
    ));
    Ok(Exit::Done)
}

async fn reset(name: &str, account: &ConnectionAccount, shared: Shared) -> Result<Exit> {
    let mut lifted = Vec::new();
    for ledger in &account.ledgers {
        if ledger.lift(&account.quota.connection).await? {
            lifted.push(ledger.place(&account.quota.connection));
        }
    }
    if shared.json {
        printer::json(&json!({ "connection": name, "lifted_in": lifted }));
    } else if lifted.is_empty() {
        printer::data(&format!("{name}: there is no wait to end"));
    } else {
        printer::data(&format!("{name}: ended the wait in {}", lifted.join(" and ")));
    }
    Ok(Exit::Done)
}

fn stamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
