//! Environment variables: each that the program reads has a line.

use super::{head, page, source, table};
use crate::support::book::expect_page;

/// Variables by their purpose: name and meaning. A `*` ends a prefix.
const VARIABLES: [(&str, &[(&str, &str)]); 5] = [
    (
        "weir",
        &[
            (
                "WEIR_HOME",
                "Folder of weir's own files: `connections.yaml`, `trusted`, `ledger/`. Default: `~/.weir`.",
            ),
            (
                "HOME",
                "Home folder, for `~` in paths and for `~/.weir`. Ignored if it is a relative path.",
            ),
            (
                "RUST_LOG",
                "Log records on stderr, such as `debug` or `weir=trace`. Default: `warn`; `debug` with `--verbose`. Records of other libraries are never shown.",
            ),
            ("NO_COLOR", "If set, weir prints no colours."),
            ("TERM", "With `dumb`, weir neither redraws lines nor prints colours."),
        ],
    ),
    (
        "Network",
        &[
            (
                "SSL_CERT_FILE",
                "PEM file of the certificates to trust, in place of the system's. See [Networks](../howto/networks.md).",
            ),
            ("SSL_CERT_DIR", "Folder of such files."),
            ("HTTPS_PROXY", "Proxy for `https` requests. Also in lower case."),
            ("HTTP_PROXY", "Proxy for `http` requests. Also in lower case."),
            ("ALL_PROXY", "Proxy for all requests. Also in lower case."),
            (
                "NO_PROXY",
                "Hosts that are reached without the proxy, separated by commas. Also in lower case.",
            ),
        ],
    ),
    (
        "Postgres",
        &[
            (
                "PGHOST",
                "Server; like all variables of this table, used if the connection omits the setting.",
            ),
            ("PGPORT", "Port."),
            ("PGUSER", "User."),
            ("PGPASSWORD", "Password."),
            ("PGPASSFILE", "Password file. Default: `~/.pgpass`."),
            ("PGDATABASE", "Database."),
            ("PGSERVICE", "Service whose settings are used."),
            ("PGSERVICEFILE", "File of the user's services. Default: `~/.pg_service.conf`."),
            (
                "PGSYSCONFDIR",
                "Folder of the system's `pg_service.conf`. Default: `/etc/postgresql-common`.",
            ),
            (
                "PGSSLMODE",
                "TLS: `disable`, `allow`, `prefer`, `require`, `verify-ca`, `verify-full`.",
            ),
            ("PGSSLROOTCERT", "PEM file of the authority to trust."),
            ("PGCHANNELBINDING", "`disable`, `prefer` or `require`."),
            ("PGCONNECT_TIMEOUT", "Longest time to connect, in seconds."),
            ("PGAPPNAME", "Name shown in `pg_stat_activity`."),
            ("PGOPTIONS", "Options for the session, such as `-c search_path=raw`."),
            ("PGTARGETSESSIONATTRS", "Which of several servers to use, such as `read-write`."),
        ],
    ),
    (
        "Object stores",
        &[
            (
                "AWS_*",
                "Settings of S3, such as `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION` and `AWS_ENDPOINT_URL`; used if the connection omits the setting.",
            ),
            (
                "GOOGLE_*",
                "Settings of Google Cloud Storage, such as `GOOGLE_APPLICATION_CREDENTIALS`.",
            ),
            (
                "AZURE_*",
                "Settings of Azure, such as `AZURE_STORAGE_ACCOUNT_NAME` and `AZURE_STORAGE_ACCOUNT_KEY`.",
            ),
            ("AZURE_STORAGE_ACCOUNT", "Another name of `AZURE_STORAGE_ACCOUNT_NAME`."),
            ("AZURE_STORAGE_KEY", "Another name of `AZURE_STORAGE_ACCOUNT_KEY`."),
            ("AZURE_STORAGE_SERVICE_ENDPOINT", "Another name of `AZURE_STORAGE_ENDPOINT`."),
            ("AZURE_STORAGE_CONNECTION_STRING", "Connection string that the Azure portal shows."),
            ("GOOGLE_STORAGE_EMULATOR_HOST", "Address of an emulator of Google Cloud Storage."),
        ],
    ),
    (
        "Connections",
        &[(
            "CONNECTION",
            "A variable with the name of a connection defines it, such as `WAREHOUSE='postgres://…'`. See [Connections](../howto/connections.md).",
        )],
    ),
];

#[test]
fn the_environment_variables() {
    let mut text = head("Environment variables", "tests/it/reference/variables.rs and the specs");
    text += "weir reads these variables of its environment. A `.env` file defines connections and the variables of \
        specs; weir does not read the variables of the first four tables from it.\n";
    for (title, variables) in VARIABLES {
        let rows: Vec<_> = variables
            .iter()
            .map(|(name, means)| vec![format!("`{name}`"), (*means).to_owned()])
            .collect();
        text += &format!("\n## {title}\n\n{}", table(&["variable", "meaning"], &rows));
    }
    text += "\n## Fields of connections\n\nIf a connection omits one of these fields, weir takes the value from the variable. A `.env` may also set these variables.\n\n";
    let mut rows = Vec::new();
    for (name, yaml) in weir::spec::EMBEDDED {
        let spec = weir::spec::Spec::load(name, yaml).unwrap();
        for (field, about) in &spec.connection {
            if let Some(variable) = &about.env {
                rows.push(vec![format!("`{variable}`"), name.to_owned(), format!("`{field}`")]);
            }
        }
    }
    text += &table(&["variable", "spec", "field"], &rows);
    expect_page(&page("environment.md"), &text);
}

#[test]
fn no_environment_variable_is_left_out() {
    let known: Vec<&str> =
        VARIABLES.iter().flat_map(|(_, all)| *all).map(|(name, _)| *name).collect();
    let families = ["PG", "AWS_", "AZURE_", "GOOGLE_", "SSL_", "WEIR_", "RUST_"];
    let others = ["HOME", "TERM", "NO_COLOR", "NO_PROXY", "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"];
    for text in source::literals() {
        let is_name = text.len() > 3
            && text
                .chars()
                .all(|sign| sign.is_ascii_uppercase() || sign.is_ascii_digit() || sign == '_');
        let is_variable = families.iter().any(|family| text.starts_with(family))
            || others.contains(&text.as_str());
        if is_name && is_variable {
            let prefix = format!("{text}*");
            let listed = known.contains(&text.as_str()) || known.contains(&prefix.as_str());
            assert!(listed, "`{text}` is not in the list of environment variables");
        }
    }
}
