//! Roots such as `s3://bucket/prefix`, and the clients of their object stores.

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use indexmap::IndexMap;
use object_store::{
    Certificate, ClientOptions, ObjectStore, RetryConfig, aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder,
};
use url::Url;

use crate::certificates;
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::write::storage::bucket::Bucket;

/// Time after which a request that keeps failing is not retried any more.
const RETRY_TIMEOUT: Duration = Duration::from_mins(1);
/// Most retries of a request.
const RETRIES: usize = 5;

/// The kind of storage that a root names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Local(PathBuf),
    S3 { bucket: String, prefix: String },
    Gcs { bucket: String, prefix: String },
    Azure { container: String, prefix: String },
}

/// Parses a root.
pub(crate) fn scheme(root: &str) -> Result<Scheme> {
    if !root.contains("://") {
        if root.is_empty() {
            return Err(unknown(root));
        }
        return Ok(Scheme::Local(PathBuf::from(root)));
    }
    let url = Url::parse(root).map_err(|error| unknown(root).because(error))?;
    if url.scheme() == "file" {
        return url.to_file_path().map(Scheme::Local).map_err(|()| unknown(root));
    }
    let bucket = url.host_str().unwrap_or_default().to_owned();
    let prefix = percent_encoding::percent_decode_str(url.path()).decode_utf8_lossy();
    let prefix = prefix.trim_matches('/').to_owned();
    if bucket.is_empty() || !url.username().is_empty() || url.port().is_some() {
        return Err(unknown(root));
    }
    match url.scheme() {
        "s3" => Ok(Scheme::S3 { bucket, prefix }),
        "gs" => Ok(Scheme::Gcs { bucket, prefix }),
        "az" => Ok(Scheme::Azure { container: bucket, prefix }),
        _ => Err(unknown(root)),
    }
}

/// Builds the client of an object store; sends no request.
pub(crate) fn connect(
    scheme: &Scheme,
    root: &str,
    settings: &IndexMap<String, Secret>,
) -> Result<Bucket> {
    // The store's HTTP client brings no cryptography. A provider that is installed already stays.
    rustls::crypto::ring::default_provider().install_default().ok();
    let settings = with_plain_http(settings);
    let client = client()?;
    let retry =
        RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT, ..Default::default() };
    let (store, prefix): (Arc<dyn ObjectStore>, &str) = match scheme {
        Scheme::Local(_) => return Err(unknown(root)),
        Scheme::S3 { bucket, prefix } => {
            let builder = AmazonS3Builder::new()
                .with_bucket_name(bucket)
                .with_retry(retry)
                .with_client_options(client);
            let set = |builder: AmazonS3Builder, key, value| builder.with_config(key, value);
            (Arc::new(built(configured(builder, &settings, set)?.build())?), prefix)
        }
        Scheme::Gcs { bucket, prefix } => {
            let builder = GoogleCloudStorageBuilder::new().with_bucket_name(bucket);
            let builder = builder.with_retry(retry).with_client_options(client);
            let set =
                |builder: GoogleCloudStorageBuilder, key, value| builder.with_config(key, value);
            (Arc::new(built(configured(builder, &settings, set)?.build())?), prefix)
        }
        Scheme::Azure { container, prefix } => {
            let builder = MicrosoftAzureBuilder::new().with_container_name(container);
            let builder = builder.with_retry(retry).with_client_options(client);
            let set = |builder: MicrosoftAzureBuilder, key, value| builder.with_config(key, value);
            (Arc::new(built(configured(builder, &settings, set)?.build())?), prefix)
        }
    };
    Ok(Bucket::new(store, prefix, root))
}

/// Options of the HTTP client: on a machine without certificates it trusts Mozilla's.
fn client() -> Result<ClientOptions> {
    let mut client = ClientOptions::new();
    for root in certificates::fallback()? {
        if let Ok(root) = Certificate::from_der(&root) {
            client = client.with_root_certificate(root);
        }
    }
    Ok(client)
}

/// Allows plain HTTP when an endpoint begins with `http://`.
fn with_plain_http(settings: &IndexMap<String, Secret>) -> IndexMap<String, Secret> {
    let mut settings = settings.clone();
    let plain = |(key, value): (&String, &Secret)| {
        let key = key.to_ascii_lowercase();
        (key.contains("endpoint") || key.contains("base_url"))
            && value.expose().starts_with("http://")
    };
    if settings.iter().any(plain) {
        settings.entry("allow_http".to_owned()).or_insert_with(|| Secret::new("true"));
    }
    settings
}

fn configured<B, K: FromStr>(
    mut builder: B,
    settings: &IndexMap<String, Secret>,
    set: impl Fn(B, K, String) -> B,
) -> Result<B> {
    for (name, value) in settings {
        let key = K::from_str(&name.to_ascii_lowercase()).map_err(|_| {
            Error::input(format!("the object store has no setting `{name}`")).with_hint(
                "settings are named like `aws_region`, `google_service_account`, \
                 `azure_storage_account_name`, `endpoint`",
            )
        })?;
        builder = set(builder, key, value.expose().to_owned());
    }
    Ok(builder)
}

/// Leaves out a cause that could quote a credential: parse errors show the text that they parsed.
fn built<S>(store: object_store::Result<S>) -> Result<S> {
    store.map_err(|error| {
        let text = error.to_string();
        let known = ["Missing", "must be"].iter().any(|word| text.contains(word));
        let error = Error::input("the object store's settings do not work together")
            .with_hint("check the connection's settings: region, endpoint, keys, account");
        if known { error.because(text) } else { error }
    })
}

fn unknown(root: &str) -> Error {
    // A malformed root may hold a password, which must not be shown.
    let shown = if root.contains('@') { "…" } else { root };
    Error::input(format!("`{shown}` is not a root for files")).with_hint(
        "write a folder, `file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix` or \
         `az://container/prefix`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_folders_or_buckets_with_a_prefix() {
        let s3 = |prefix: &str| Scheme::S3 { bucket: "b".to_owned(), prefix: prefix.to_owned() };
        assert_eq!(scheme("out/x").unwrap(), Scheme::Local("out/x".into()));
        assert_eq!(scheme("file:///data/o%20ut").unwrap(), Scheme::Local("/data/o ut".into()));
        assert_eq!(scheme("s3://b").unwrap(), s3(""));
        assert_eq!(scheme("s3://b/a%20b/c/").unwrap(), s3("a b/c"));
        for wrong in ["", "ftp://b/x", "s3:///x", "s3://user:pw@b/x", "s3://b:1/x"] {
            let error = scheme(wrong).unwrap_err();
            assert!(!format!("{error:?}").contains("pw"), "{error:?}");
        }
    }

    #[test]
    fn clients_of_all_stores_can_be_built_and_unknown_settings_are_named() {
        let pairs = |list: &[(&str, &str)]| {
            let pair = |&(key, value): &(&str, &str)| (key.to_owned(), Secret::new(value));
            list.iter().map(pair).collect::<IndexMap<_, _>>()
        };
        let cases = [
            ("s3://b/p", pairs(&[("aws_access_key_id", "k"), ("aws_secret_access_key", "s")])),
            ("gs://b/p", pairs(&[("google_skip_signature", "true")])),
            ("az://c/p", pairs(&[("azure_storage_account_name", "a"), ("access_key", "c2VjcmV0")])),
        ];
        for (root, settings) in cases {
            connect(&scheme(root).unwrap(), root, &settings).unwrap();
            let wrong = pairs(&[("aws_regoin", "hidden")]);
            let error = connect(&scheme(root).unwrap(), root, &wrong).unwrap_err();
            assert!(error.chain().contains("`aws_regoin`"), "{error:?}");
            assert!(!format!("{error:?}").contains("hidden"));
        }
    }
}
