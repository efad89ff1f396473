//! Stores rotated refresh tokens in the connections file.

use std::{path::PathBuf, sync::Arc};

use crate::cli::output::printer;
use crate::connection::{Connection, FileLock, Origin, lock};
use crate::error::Result;
use crate::http::access::AccessHooks;
use crate::http::auth::{RefreshTokenStore, TokenLease};
use crate::secret::Secret;

/// The OAuth 2.0 callbacks for a connection.
pub(crate) fn hooks(connection: &Connection) -> AccessHooks {
    let file = connection.file.clone().filter(|_| connection.origin == Origin::File);
    let refresh_tokens = TokenFile { file, name: connection.name.clone() };
    AccessHooks {
        keeper: Some(Arc::new(refresh_tokens)),
        on_device_code: Arc::new(|url, code| {
            printer::info(&format!("to grant access, open {url} and enter {code}"));
        }),
    }
}

/// The storage location of a connection's tokens.
struct TokenFile {
    /// The connections file; `None` if the connection is defined elsewhere.
    file: Option<PathBuf>,
    name: String,
}

/// The connections file while it is locked.
struct LockedFile {
    lock: FileLock,
    name: String,
    field: String,
    token: Option<Secret>,
}

/// A token that is defined outside the connections file, so that weir cannot replace it.
struct ReadOnly;

impl RefreshTokenStore for TokenFile {
    fn lease(&self, field: &str) -> Result<Option<Box<dyn TokenLease>>> {
        let Some(file) = &self.file else { return Ok(Some(Box::new(ReadOnly))) };
        let Some(lock) = lock(file)? else { return Ok(None) };
        let token = lock.property(&self.name, field)?.map(Secret::new);
        let (name, field) = (self.name.clone(), field.to_owned());
        Ok(Some(Box::new(LockedFile { lock, name, field, token })))
    }
}

impl TokenLease for LockedFile {
    fn token(&self) -> Option<Secret> {
        self.token.clone()
    }

    fn keep(&self, token: &Secret) -> Result<()> {
        self.lock.replace(&self.name, &self.field, token.expose())
    }
}

impl TokenLease for ReadOnly {
    fn token(&self) -> Option<Secret> {
        None
    }

    fn keep(&self, _: &Secret) -> Result<()> {
        Ok(())
    }
}
