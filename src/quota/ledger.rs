//! What was spent of a quota in the present window, by all processes that share the ledger.
//!
//! A process takes points in portions, and says at each visit what it has spent and what it holds. What it
//! holds counts as taken, so that one that is killed costs the others what it held until the window ends
//! (in its last ten minutes, until the next one ends, since requests may have been under way), no more.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::error::Result;
use crate::hash;
use crate::quota::account::{Account, Balance, LedgerQuery, LedgerReply, LedgerUpdate};
use async_trait::async_trait;

/// Keeps accounts, by connection.
///
/// # Contract
/// A visit is one step: of several at once, each sees what those before it did.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Takes points, gives points back, tells and learns what is known of the connection.
    async fn visit(&self, connection: &str, visit: &LedgerUpdate) -> Result<LedgerReply>;

    /// The account of a connection, as it is; `None` when there is none. Writes nothing.
    async fn look(&self, connection: &str, at: LedgerQuery) -> Result<Option<Balance>>;

    /// Lifts an account: see [`Account::lift`]. Returns whether there was one.
    async fn lift(&self, connection: &str) -> Result<bool>;

    /// Where the account of a connection is kept, for a person.
    fn place(&self, connection: &str) -> String;
}

/// A ledger of this process alone.
#[derive(Debug, Default)]
pub struct MemoryLedger(Mutex<BTreeMap<String, Account>>);

#[async_trait]
impl Ledger for MemoryLedger {
    async fn visit(&self, connection: &str, visit: &LedgerUpdate) -> Result<LedgerReply> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(accounts.entry(connection.to_owned()).or_default().visit(visit))
    }

    async fn look(&self, connection: &str, at: LedgerQuery) -> Result<Option<Balance>> {
        let accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(accounts.get(connection).map(|account| account.look(at)))
    }

    async fn lift(&self, connection: &str) -> Result<bool> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(accounts.get_mut(connection).map(Account::lift).is_some())
    }

    fn place(&self, _: &str) -> String {
        "memory".to_owned()
    }
}

/// Several ledgers: points are granted only when all of them grant them.
pub struct CombinedLedger(pub Vec<Arc<dyn Ledger>>);

#[async_trait]
impl Ledger for CombinedLedger {
    async fn visit(&self, connection: &str, visit: &LedgerUpdate) -> Result<LedgerReply> {
        let mut visit = visit.clone();
        let kept = visit.kept;
        let mut passed: Vec<(&Arc<dyn Ledger>, u64)> = Vec::new();
        let mut least: Option<LedgerReply> = None;
        for ledger in &self.0 {
            let standing = ledger.visit(connection, &visit).await?;
            passed.push((ledger, standing.granted));
            // The next one is asked for no more than this one grants.
            (visit.want, visit.need) = (standing.granted, visit.need.min(standing.granted));
            least = Some(least.map_or(standing, |least| least.and(&standing)));
        }
        let standing = least.unwrap_or_else(|| Account::default().visit(&visit));
        let corrected = LedgerUpdate { kept: kept + standing.granted, need: 0, want: 0, ..visit };
        for (ledger, granted) in passed {
            if granted > standing.granted {
                ledger.visit(connection, &corrected).await?;
            }
        }
        Ok(standing)
    }

    async fn look(&self, connection: &str, at: LedgerQuery) -> Result<Option<Balance>> {
        let mut all: Option<Balance> = None;
        for ledger in &self.0 {
            let Some(balance) = ledger.look(connection, at).await? else { continue };
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

/// Name of a connection's account: what it leads to and who is authenticated, told apart by a digest
/// (FNV-1a). Nothing of it is secret.
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
