//! The usual environment variables of object stores (`AWS_ACCESS_KEY_ID` …) as settings of a store.

use std::{collections::BTreeMap, str::FromStr};

use indexmap::IndexMap;
use object_store::{aws::AmazonS3ConfigKey, azure::AzureConfigKey, gcp::GoogleConfigKey};

use crate::secret::{Secret, hide};
use crate::write::storage::cloud::{Scheme, scheme};

/// Variables of other programs whose names differ from those of the settings, and their settings.
const ALIASES: [(&str, &str); 4] = [
    ("AZURE_STORAGE_ACCOUNT", "azure_storage_account_name"),
    ("AZURE_STORAGE_KEY", "azure_storage_account_key"),
    ("AZURE_STORAGE_SERVICE_ENDPOINT", "azure_storage_endpoint"),
    ("GOOGLE_STORAGE_EMULATOR_HOST", "google_base_url"),
];

/// Parts of `AZURE_STORAGE_CONNECTION_STRING`, and their settings.
const PARTS: [(&str, &str); 4] = [
    ("AccountName", "azure_storage_account_name"),
    ("AccountKey", "azure_storage_account_key"),
    ("SharedAccessSignature", "azure_storage_sas_token"),
    ("BlobEndpoint", "azure_storage_endpoint"),
];

/// The settings of the store at `root`: the given ones, and those of its usual variables. A given endpoint hides
/// all endpoints of variables, and a given credential all credentials: mixed ones would belong to different
/// stores.
pub fn with_variables(
    root: &str,
    given: IndexMap<String, Secret>,
    variables: &BTreeMap<String, String>,
) -> IndexMap<String, Secret> {
    let named = |name: &str| given.keys().any(|key| key.eq_ignore_ascii_case(name));
    let (endpoint, credentials) =
        (given.keys().any(|key| is_endpoint(key)), given.keys().any(|key| is_credential(key)));
    let mut settings = IndexMap::new();
    for (name, value) in of_store(root, variables) {
        let replaced = named(&name)
            || (endpoint && is_endpoint(&name))
            || (credentials && is_credential(&name));
        if !replaced {
            settings.insert(name, Secret::new(value));
        }
    }
    settings.extend(given);
    let secrets = settings.iter().filter(|(name, _)| is_secret(name));
    secrets.for_each(|(_, value)| hide(value.expose()));
    settings
}

/// The settings in the variables of the store at this root.
fn of_store(root: &str, variables: &BTreeMap<String, String>) -> IndexMap<String, String> {
    let (prefix, known): (&str, fn(&str) -> bool) = match scheme(root) {
        Ok(Scheme::S3 { .. }) => ("AWS_", |name| AmazonS3ConfigKey::from_str(name).is_ok()),
        Ok(Scheme::Gcs { .. }) => ("GOOGLE_", |name| GoogleConfigKey::from_str(name).is_ok()),
        Ok(Scheme::Azure { .. }) => ("AZURE_", |name| AzureConfigKey::from_str(name).is_ok()),
        Ok(Scheme::Local(_)) | Err(_) => return IndexMap::new(),
    };
    let mut settings = IndexMap::new();
    let own =
        variables.iter().filter(|(name, value)| name.starts_with(prefix) && !value.is_empty());
    for (name, value) in own {
        let alias = ALIASES.iter().find(|(alias, _)| alias == name).map(|(_, setting)| *setting);
        let setting = alias.map_or_else(|| name.to_ascii_lowercase(), str::to_owned);
        // The root names the bucket.
        let place = ["bucket", "container_name"].iter().any(|word| setting.contains(word));
        if name == "AZURE_STORAGE_CONNECTION_STRING" {
            let parts = value.split(';').filter_map(|part| part.split_once('='));
            for (part, value) in parts {
                let known = PARTS.iter().find(|(known, _)| *known == part);
                settings
                    .extend(known.map(|(_, setting)| ((*setting).to_owned(), value.to_owned())));
            }
        } else if known(&setting) && !place {
            settings.insert(setting, value.clone());
        }
    }
    settings
}

fn is_endpoint(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !name.contains("sts") && (name.contains("endpoint") || name.contains("base_url"))
}

fn is_credential(name: &str) -> bool {
    const WORDS: [&str; 8] = [
        "key_id",
        "token",
        "credential",
        "service_account",
        "client_id",
        "skip_signature",
        "role_arn",
        "tenant_id",
    ];
    let name = name.to_ascii_lowercase();
    is_secret(&name) || WORDS.iter().any(|word| name.contains(word))
}

fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 8] = [
        "secret",
        "session_token",
        "sas_",
        "account_key",
        "access_key",
        "master_key",
        "bearer_token",
        "customer_key",
    ];
    let name = name.to_ascii_lowercase();
    let words = WORDS.iter().any(|word| name.contains(word)) || name == "token";
    words && !name.ends_with("access_key_id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(root: &str, given: &[(&str, &str)], variables: &[(&str, &str)], wanted: &[&str]) {
        let variables: BTreeMap<String, String> =
            variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let given = given.iter().map(|&(name, value)| (name.to_owned(), Secret::new(value)));
        let settings = with_variables(root, given.collect(), &variables);
        let found: Vec<String> =
            settings.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_usual_variables_of_each_store_are_settings() {
        check(
            "s3://b/p",
            &[],
            &[
                ("AWS_ACCESS_KEY_ID", "k"),
                ("AWS_BUCKET", "other"),
                ("AWS_ENDPOINT_URL", "http://x"),
                ("AWS_PAGER", "less"),
                ("AWS_REGION", ""),
                ("AZURE_CLIENT_ID", "c"),
            ],
            &["aws_access_key_id=k", "aws_endpoint_url=http://x"],
        );
        let azure = [("AZURE_STORAGE_ACCOUNT", "a"), ("AZURE_STORAGE_KEY", "k")];
        let named = ["azure_storage_account_name=a", "azure_storage_account_key=k"];
        check("az://c", &[], &azure, &named);
        let text = "AccountName=a;AccountKey=k==;EndpointSuffix=x";
        let named = ["azure_storage_account_name=a", "azure_storage_account_key=k=="];
        check("az://c", &[], &[("AZURE_STORAGE_CONNECTION_STRING", text)], &named);
        let google = [("GOOGLE_APPLICATION_CREDENTIALS", "/k.json"), ("GOOGLE_CLOUD_PROJECT", "p")];
        check("gs://b", &[], &google, &["google_application_credentials=/k.json"]);
        check("out", &[], &[("AWS_REGION", "r")], &[]);
    }

    #[test]
    fn given_settings_hide_those_of_variables() {
        let variables = [
            ("AWS_ACCESS_KEY_ID", "k"),
            ("AWS_ENDPOINT_URL_S3", "http://x"),
            ("AWS_REGION", "r"),
            ("AWS_SESSION_TOKEN", "t"),
        ];
        let given = [("access_key_id", "own"), ("endpoint", "http://y"), ("AWS_REGION", "s")];
        let wanted = ["access_key_id=own", "endpoint=http://y", "AWS_REGION=s"];
        check("s3://b", &given, &variables, &wanted);
        let wanted =
            ["aws_access_key_id=k", "aws_region=r", "aws_session_token=t", "endpoint=http://y"];
        check("s3://b", &[("endpoint", "http://y")], &variables, &wanted);
    }
}
