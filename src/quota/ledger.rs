//! Ledgers: the points spent in the current window by all processes that share a connection's quota.
//!
//! A process reserves points in portions. At each update it reports what it has spent and reserved. Reserved
//! points count as taken. The points of a killed process therefore stay reserved until the window ends, or
//! until the next window ends if the process was killed in the last ten minutes, because its requests may
//! still be in flight.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::error::Result;
use crate::hash;
use crate::quota::account::{Account, Balance, LedgerQuery, LedgerReply, LedgerUpdate};
use async_trait::async_trait;

/// Stores the accounts of connections.
///
/// # Contract
/// An exchange is atomic: each of several concurrent ones sees the results of those before it.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Applies an update of a process: reserves and releases points, and shares what the server reported.
    async fn exchange(&self, connection: &str, update: &LedgerUpdate) -> Result<LedgerReply>;

    /// The balance of a connection; `None` if it has no account. Changes nothing.
    async fn peek(&self, connection: &str, at: LedgerQuery) -> Result<Option<Balance>>;

    /// Lifts an account (see [`Account::lift`]). Returns whether there was one.
    async fn lift(&self, connection: &str) -> Result<bool>;

    /// Where the account of a connection is stored, for messages.
    fn place(&self, connection: &str) -> String;
}

/// A ledger in memory, for this process only.
#[derive(Debug, Default)]
pub struct MemoryLedger(Mutex<BTreeMap<String, Account>>);

#[async_trait]
impl Ledger for MemoryLedger {
    async fn exchange(&self, connection: &str, update: &LedgerUpdate) -> Result<LedgerReply> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(accounts.entry(connection.to_owned()).or_default().exchange(update))
    }

    async fn peek(&self, connection: &str, at: LedgerQuery) -> Result<Option<Balance>> {
        let accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(accounts.get(connection).map(|account| account.peek(at)))
    }

    async fn lift(&self, connection: &str) -> Result<bool> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(accounts.get_mut(connection).map(Account::lift).is_some())
    }

    fn place(&self, _: &str) -> String {
        "memory".to_owned()
    }
}

/// Several ledgers. Points are granted only if all of them grant them.
pub struct CombinedLedger(pub Vec<Arc<dyn Ledger>>);

#[async_trait]
impl Ledger for CombinedLedger {
    async fn exchange(&self, connection: &str, update: &LedgerUpdate) -> Result<LedgerReply> {
        let mut update = update.clone();
        let available = update.available;
        let mut passed: Vec<(&Arc<dyn Ledger>, u64)> = Vec::new();
        let mut least: Option<LedgerReply> = None;
        for ledger in &self.0 {
            let reply = ledger.exchange(connection, &update).await?;
            passed.push((ledger, reply.granted));
            // Requests no more from the next ledger than this one granted.
            (update.want, update.need) = (reply.granted, update.need.min(reply.granted));
            least = Some(least.map_or(reply, |least| least.and(&reply)));
        }
        let reply = least.unwrap_or_else(|| Account::default().exchange(&update));
        let available = available + reply.granted;
        let corrected = LedgerUpdate { available, need: 0, want: 0, ..update };
        for (ledger, granted) in passed {
            if granted > reply.granted {
                ledger.exchange(connection, &corrected).await?;
            }
        }
        Ok(reply)
    }

    async fn peek(&self, connection: &str, at: LedgerQuery) -> Result<Option<Balance>> {
        let mut all: Option<Balance> = None;
        for ledger in &self.0 {
            let Some(balance) = ledger.peek(connection, at).await? else { continue };
            all = Some(all.map_or(balance, |all| all.and(&balance)));
        }
        Ok(all)
    }

    async fn lift(&self, connection: &str) -> Result<bool> {
        let mut lifted = false;
        for ledger in &self.0 {
            lifted |= ledger.lift(connection).await?;
        }
        Ok(lifted)
    }

    fn place(&self, connection: &str) -> String {
        let places: Vec<String> = self.0.iter().map(|ledger| ledger.place(connection)).collect();
        places.join(" and ")
    }
}

/// Name of a connection's account: spec, host, and an FNV-1a digest of spec, base URL and account. Contains no
/// secrets.
pub fn connection(spec: &str, base_url: &str, account: &str) -> String {
    let whole = format!("{spec}\n{base_url}\n{account}");
    let hash = hash::fnv(whole.bytes());
    let host = base_url.split("://").nth(1).unwrap_or(base_url).split(['/', ':']).next();
    let clean = |text: &str| {
        let kept = text.chars().take(60);
        kept.map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect()
    };
    let (spec, host): (String, String) = (clean(spec), clean(host.unwrap_or_default()));
    format!("{spec}-{host}-{hash:016x}")
}
