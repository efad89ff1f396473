//! A bucket or container of an object store, and a prefix in it.

use std::sync::Arc;

use futures_util::StreamExt;
use object_store::{ObjectStore, path::Path};

use crate::error::{Error, Kind, Result};

/// The objects below a prefix.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    shown: String,
}

impl Bucket {
    /// `shown` is how messages name the prefix.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, prefix: &str, shown: &str) -> Self {
        let shown = shown.trim_end_matches('/').to_owned();
        Self { store, prefix: Path::from(prefix), shown }
    }

    /// Checks that the prefix can be listed.
    pub(crate) async fn check(&self) -> Result<()> {
        let mut listing = self.store.list(Some(&self.prefix));
        match listing.next().await {
            Some(Err(error)) => Err(failed("list", &self.shown, &error)),
            _ => Ok(()),
        }
    }

    /// A path below the prefix.
    pub(crate) fn below(&self, path: &str) -> Path {
        self.prefix.parts().chain(Path::from(path).parts()).collect()
    }

    /// The client of the object store; its paths are absolute.
    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// How messages name the prefix.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }
}

/// The error of an operation on an object store, with a hint about its cause. `what` is a verb: `read`, `list`.
pub(crate) fn failed(what: &str, shown: &str, error: &object_store::Error) -> Error {
    use object_store::Error as Cause;
    let text = without_queries(&error.to_string());
    let refused = ["401 Unauthorized", "403 Forbidden"].iter().any(|word| text.contains(word));
    let (kind, hint) = match error {
        Cause::PermissionDenied { .. } | Cause::Unauthenticated { .. } => (Kind::Credentials, KEYS),
        _ if refused => (Kind::Credentials, KEYS),
        Cause::NotFound { .. } => (Kind::Target, "check the name of the bucket or container"),
        _ => (
            Kind::Target,
            "check the connection's region and endpoint, and that the endpoint can be reached",
        ),
    };
    Error::new(kind, format!("cannot {what} `{shown}`")).because(text).with_hint(hint)
}

/// Hint for errors of missing rights.
const KEYS: &str = "check the connection's keys, and their permissions for the bucket";

/// A text without the queries of its URLs, in which some stores expect credentials.
fn without_queries(text: &str) -> String {
    let cut = |word: &str| match word.split_once('?') {
        Some((path, _)) if path.contains("://") => path.to_owned(),
        _ => word.to_owned(),
    };
    text.split(' ').map(cut).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_cut_from_urls_only() {
        let text = without_queries("GET https://a.b/c?sig=hunter2&x in 1 ms: why?");
        assert_eq!(text, "GET https://a.b/c in 1 ms: why?");
    }
}
