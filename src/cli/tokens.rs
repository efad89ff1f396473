//! Refresh tokens that servers replace: kept in the connections file.

use std::{path::PathBuf, sync::Arc};

use crate::cli::output::printer;
use crate::connection::{Connection, FileLock, Origin, lock};
use crate::error::Result;
use crate::http::access::AccessHooks;
use crate::http::auth::{RefreshTokenStore, TokenLease};
use crate::secret::Secret;

/// What OAuth 2.0 needs of the program for this connection.
pub(crate) fn hooks(connection: &Connection) -> AccessHooks {
    let file = connection.file.clone().filter(|_| connection.origin == Origin::File);
    let keeper = Kept { file, name: connection.name.clone() };
    AccessHooks {
        keeper: Some(Arc::new(keeper)),
        on_device_code: Arc::new(|url, code| {
            printer::talk(&format!("open {url} and enter {code} to grant access"));
        }),
    }
}

/// The place of a connection's tokens.
struct Kept {
    /// The connections file; `None` for a connection that is defined elsewhere.
    file: Option<PathBuf>,
    name: String,
}

/// The place, held.
struct Held {
    lock: FileLock,
    name: String,
    field: String,
    token: Option<Secret>,
}

/// What is defined elsewhere cannot be replaced.
struct Elsewhere;

impl RefreshTokenStore for Kept {
    fn lease(&self, field: &str) -> Result<Option<Box<dyn TokenLease>>> {
        let Some(file) = &self.file else { return Ok(Some(Box::new(Elsewhere))) };
        let Some(lock) = lock(file)? else { return Ok(None) };
        let token = lock.property(&self.name, field)?.map(Secret::new);
        let (name, field) = (self.name.clone(), field.to_owned());
        Ok(Some(Box::new(Held { lock, name, field, token })))
    }
}

impl TokenLease for Held {
    fn token(&self) -> Option<Secret> {
        self.token.clone()
    }

    fn keep(&self, token: &Secret) -> Result<()> {
        self.lock.replace(&self.name, &self.field, token.expose())
    }
}

impl TokenLease for Elsewhere {
    fn token(&self) -> Option<Secret> {
        None
    }

    fn keep(&self, _: &Secret) -> Result<()> {
        Ok(())
    }
}
