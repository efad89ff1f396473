//! The replication language: the YAML that declares which streams are read from which source, and
//! how they are written to which target.

use std::{borrow::Cow, time::Duration};

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use crate::quota::terms::BudgetLimit;
use crate::quota::terms::OnBudget;
use crate::schema::ColumnType;
use crate::spec::{Refresh, Span};
use crate::write::Deletes;
use crate::yaml::{
    Document, Finding, Guard, Node, NodeValue, Place, Problems, Renamed, lenient, suggest,
};

/// Placeholders of `object`, written in single braces.
pub const PLACEHOLDERS: [&str; 5] =
    ["stream_name", "source", "run_id", "run_date", "run_timestamp"];

/// Keys of other tools' replications, each with a hint.
const NEEDLESS: [(&str, &str); 10] = [
    ("primary_key", "the spec declares this: delete the line"),
    ("update_key", "the spec declares this: delete the line"),
    ("source_options", "the spec declares this: delete the line"),
    ("target_options", "the target determines this: delete the line"),
    ("sql", "the spec declares the requests: delete the line; `select` chooses columns"),
    ("where", "use `inputs`: `weir spec show NAME` lists the inputs of an API"),
    ("single", "delete the line: an `object` without `*` is a single file"),
    ("hooks", "weir runs no commands before or after a stream: run them around `weir sync run`"),
    ("tags", "weir does not use this: delete the line; `--streams` chooses streams by name"),
    ("description", "weir does not use this: delete the line, or make it a comment"),
];

/// Keys of streams, which are also allowed under `defaults`.
const OF_STREAMS: [&str; 12] = [
    "mode",
    "object",
    "select",
    "columns",
    "disabled",
    "inputs",
    "metadata",
    "strict",
    "files",
    "refresh",
    "deletes",
    "max_errors",
];

/// Modes, as written in YAML.
const MODES: [&str; 6] =
    ["full-refresh", "truncate", "snapshot", "incremental", "backfill", "definition-only"];

/// A replication: source, target, streams, and how they are read and written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replication {
    /// Name under which its state is saved. Default: the name of the file without its extension.
    pub name: Option<String>,
    /// Name of a connection to an API.
    pub source: String,
    /// Name of a connection to a database or a store of files, or a URL such as `s3://bucket/prefix`.
    pub target: String,
    /// Defaults of all streams.
    #[serde(default)]
    pub defaults: StreamOptions,
    /// Where the state is saved: the name of a connection to a database or a store of files, or a
    /// folder. Default: in the target.
    pub state: Option<String>,
    /// When streams save what they have read, so that an interrupted run can be resumed.
    #[serde(default)]
    pub checkpoint: Checkpoints,
    /// The streams: a name or a pattern such as `*` or `page_*`, each with its settings; null means
    /// the defaults. A later entry takes precedence over an earlier one, and a name over a pattern.
    pub streams: IndexMap<String, Option<StreamOptions>>,
    /// Points that all runs of the connection together may spend per hour: a share of the quota,
    /// `60%`, or a number of points, `20000`. Default: the whole quota.
    pub budget: Option<BudgetLimit>,
    /// What happens when the budget is spent. Default: `wait`.
    pub on_budget: Option<OnBudget>,
    /// Limits that override the spec's, for all requests to the source.
    #[serde(default)]
    pub limits: LimitOverrides,
    /// Variables for `${NAME}` in values, and definitions of connections. All other sources of variables
    /// and connections take precedence.
    #[serde(default)]
    pub env: IndexMap<String, String>,
}

/// When a stream saves what it has read: at the time or at the size, whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoints {
    /// Time since the stream's last checkpoint: `10s`, `2m`. Default: 10 seconds.
    pub every: Span,
    /// Size of the stream's unsaved rows in memory: `64MiB`. Default: 64 MiB.
    pub size: ByteSize,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self { every: Span(Duration::from_secs(10)), size: ByteSize(64 << 20) }
    }
}

/// A number of bytes, written with a unit: `512KiB`, `64MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Reads `512KiB`, `64MiB` or `1GiB`; `None` when the text is not a size.
    fn parse(text: &str) -> Option<Self> {
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
        let (number, shift) =
            units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))?;
        let number: u32 = number.trim_end().parse().ok()?;
        Some(Self(u64::from(number) << shift))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!("`{text}` is not a size; write `512KiB`, `64MiB` or `1GiB`"))
        })
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+ *(KiB|MiB|GiB)$" })
    }
}

/// Former names of keys, which replications may still use.
const RENAMED: [Renamed; 2] = [
    Renamed { path: &["checkpoint"], former: "seconds", name: "every", unit: "s" },
    Renamed { path: &["checkpoint"], former: "mib", name: "size", unit: "MiB" },
];

/// Limits that override the spec's. Raise them only if the API's owner allows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitOverrides {
    /// Requests per second over all streams; 0 disables pacing.
    pub requests_per_second: Option<f64>,
    /// Maximum number of requests in flight over all streams.
    pub concurrency: Option<u32>,
}

/// The keys of a replication with and without secrets.
const GUARD: Guard = Guard {
    secret: &["env", "source", "target", "state"],
    open: &[
        "name",
        "defaults",
        "checkpoint",
        "streams",
        "budget",
        "on_budget",
        "limits",
        "source",
        "target",
        "state",
    ],
};

impl Replication {
    /// Parses the text of a replication. Problems do not show lines that may contain secrets.
    ///
    /// # Errors
    /// The text is not YAML.
    pub fn parse(file: &str, text: &str) -> Result<Document, Problems> {
        Document::parse_guarded(file, text, &GUARD)
    }

    /// The `env` of a replication's document, before substitution of its variables.
    pub fn env_of(document: &Document) -> IndexMap<String, String> {
        let entries = match document.root().get("env").map(|node| &node.value) {
            Some(NodeValue::Map(entries)) => entries.as_slice(),
            _ => &[],
        };
        let texts = entries.iter().filter_map(|(name, _, node)| match &node.value {
            NodeValue::Text(text) => Some((name.clone(), text.clone())),
            _ => None,
        });
        texts.collect()
    }

    /// Reads and checks a replication after substitution of its variables.
    ///
    /// # Errors
    /// Everything that is wrong with its form, and with its meaning as far as it does not depend on
    /// the spec.
    pub fn load(document: &Document) -> Result<Self, Problems> {
        let document = &document.clone().renamed(&RENAMED);
        document.read_checked(Self::check).map_err(|mut problems| {
            for problem in &mut problems.0 {
                let key = problem.message.strip_prefix("unknown key `");
                let key = key.and_then(|key| key.strip_suffix('`')).unwrap_or_default();
                let known = NEEDLESS.iter().find(|(needless, _)| *needless == key);
                let text = problem.message.strip_suffix("` is not a mapping");
                let mode = text.and_then(|text| text.strip_prefix('`')).unwrap_or_default();
                if let Some((_, what)) = known {
                    problem.hint = Some((*what).to_owned());
                } else if problem.place.column == 1 && OF_STREAMS.contains(&key) {
                    problem.hint =
                        Some(format!("`{key}` belongs under `defaults`, or to a stream"));
                } else if MODES.contains(&mode) {
                    problem.hint = Some(format!("write {{ mode: {mode} }}"));
                }
                let hint = mappings(document).find(|(place, _)| *place == problem.place);
                problem.hint = hint.map(|(_, hint)| hint).or(problem.hint.take());
            }
            problems
        })
    }

    /// Object of one of weir's own tables, such as `_weir_errors`: beside the streams' objects if
    /// `defaults.object` is the same in every run, otherwise `default`.
    pub fn own_object(&self, name: &str, default: &str) -> String {
        let lasting = |object: &&str| {
            object.contains("{stream_name}")
                && placeholders(object).iter().all(|one| ["stream_name", "source"].contains(one))
        };
        let object = self.defaults.object.as_deref().filter(lasting).unwrap_or(default);
        object.replace("{stream_name}", name).replace("{source}", &self.source.to_lowercase())
    }

    fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.streams.is_empty() {
            let finding = Finding::new(&["streams"], "`streams` is empty");
            findings.push(finding.with_hint("`'*':` selects all streams"));
        }
        let named =
            self.streams.iter().filter_map(|(name, own)| Some((name.as_str(), own.as_ref()?)));
        let all = named.map(|(name, options)| (vec!["streams", name], options));
        for (path, options) in all.chain([(vec!["defaults"], &self.defaults)]) {
            options.check(&path, &mut findings);
        }
        findings
    }
}

/// Finds mappings in place of a text, each with a hint: the definition of a connection must be
/// quoted, under `env`.
fn mappings(document: &Document) -> impl Iterator<Item = (Place, String)> {
    let is_mapping = |node: &Node| matches!(node.value, NodeValue::Map(_));
    let named = ["source", "target", "state"].into_iter().filter_map(move |key| {
        let node = document.root().get(key).filter(|node| is_mapping(node))?;
        let hint = "write the name of a connection here, and define the connection under `env`: env: { NAME: \"{type: …}\" }";
        Some((node.place, hint.to_owned()))
    });
    let entries = match document.root().get("env").map(|node| &node.value) {
        Some(NodeValue::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    let defined =
        entries.iter().filter(move |(_, _, node)| is_mapping(node)).map(|(name, _, node)| {
            (node.place, format!("put it in quotes: {name}: \"{{type: api, …}}\""))
        });
    named.chain(defined)
}

/// JSON Schema of a replication's file, for completion and checks in editors.
pub fn json_schema() -> serde_json::Value {
    lenient(schemars::schema_for!(Replication).to_value())
}

impl StreamOptions {
    fn check(&self, path: &[&str], findings: &mut Vec<Finding>) {
        for placeholder in self.object.iter().flat_map(|object| placeholders(object)) {
            if !PLACEHOLDERS.contains(&placeholder) {
                let message = format!("`{{{placeholder}}}` is not a placeholder");
                let mut finding = Finding::new(&[path, &["object"]].concat(), message);
                finding.hint = suggest(placeholder, PLACEHOLDERS);
                findings.push(finding);
            }
        }
        if self
            .files
            .and_then(|files| files.zstd_level)
            .is_some_and(|level| !(1..=19).contains(&level))
        {
            let path = [path, &["files", "zstd_level"]].concat();
            findings.push(Finding::new(&path, "`zstd_level` must be from 1 (fast) to 19 (small)"));
        }
    }
}

/// The texts between single braces.
fn placeholders(object: &str) -> Vec<&str> {
    let parts = object.split('{').skip(1);
    parts.map(|part| part.split_once('}').map_or(part, |(name, _)| name)).collect()
}

/// Settings of a stream, or of all streams.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StreamOptions {
    /// What is read, and how it is written. Default: `full-refresh`.
    pub mode: Option<Mode>,
    /// Where the rows are written: a text with the placeholders `stream_name`, `source`, `run_id`,
    /// `run_date` and `run_timestamp` in single braces, such as `wiki.{stream_name}` or
    /// `wiki/{run_date}/{stream_name}.parquet`.
    pub object: Option<String>,
    /// Columns to write, by name or pattern; `-name` excludes a column. Default: all.
    pub select: Vec<String>,
    /// Types that override the spec's, by column.
    pub columns: IndexMap<String, ColumnType>,
    /// Whether the stream is excluded.
    pub disabled: Option<bool>,
    /// Values of the spec's inputs.
    pub inputs: IndexMap<String, serde_json::Value>,
    /// Columns that weir adds.
    pub metadata: Option<Metadata>,
    /// Whether a value that does not match its column's type fails the stream, and so do the notices
    /// `key_collision`, `missing_pages` and `answer_errors`. Default: false; the value goes to `_extra`.
    pub strict: Option<bool>,
    /// How files are written.
    pub files: Option<FileOptions>,
    /// Maximum age of the last full read; overrides the spec. For `incremental`.
    pub refresh: Option<Refresh>,
    /// What happens to rows that the source no longer has; for `incremental`. Default: `mark`.
    pub deletes: Option<Deletes>,
    /// Maximum number of refused slices; with more the stream fails. Default: 1,000.
    pub max_errors: Option<u32>,
}

/// What is read, and how it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Reads everything and replaces the target's rows atomically.
    #[default]
    FullRefresh,
    /// Like `full-refresh`, but keeps the table itself with its grants and indexes.
    Truncate,
    /// Reads everything and appends it, with the time in `_weir_synced_at`.
    Snapshot,
    /// Reads what changed and merges it by key.
    Incremental,
    /// Reads a range of the cursor again and merges it by key. The saved cursor and other rows
    /// stay.
    Backfill,
    /// Reads nothing; creates the tables with all their columns.
    DefinitionOnly,
}

/// The columns that weir adds to every row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metadata {
    /// `_weir_synced_at`: the start time of the run.
    pub synced_at: bool,
    /// `_weir_run_id`: the id of the run.
    pub run_id: bool,
    /// `_weir_change`: whether the last run that wrote the row found it new, updated, moved or
    /// deleted; for `incremental`.
    pub change: bool,
}

impl Default for Metadata {
    fn default() -> Self {
        Self { synced_at: true, run_id: false, change: false }
    }
}

/// How files are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FileOptions {
    /// Size at which weir closes a file and begins the next one, in mebibytes of the written file.
    /// Needs an `object` with a `*` in its file name: `pages/*.parquet`. Default: unlimited.
    pub max_file_mib: Option<u32>,
    /// Number of rows after which a Parquet row group is closed. Default: 1,048,576. It is closed
    /// earlier when its encoded size reaches `row_group_mib`.
    pub row_group_rows: Option<u32>,
    /// Encoded size at which a Parquet row group is closed, in mebibytes. Default: 16.
    pub row_group_mib: Option<u32>,
    /// Compression level of zstd, 1 to 19. Default: 1.
    pub zstd_level: Option<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(text: &str) -> Result<Checkpoints, String> {
        let text = format!("source: A\ntarget: B\ncheckpoint: {text}\nstreams: {{ '*': }}\n");
        let document = Replication::parse("r.yaml", &text).map_err(|error| error.to_string())?;
        let replication = Replication::load(&document).map_err(|error| error.to_string())?;
        Ok(replication.checkpoint)
    }

    #[test]
    fn checkpoints_have_units_and_their_former_keys_keep_working() {
        let read = |text: &str| checkpoint(text).map(|one| (one.every.0.as_secs(), one.size.0));
        let table = [
            ("{}", Ok((10, 64 << 20))),
            ("{ every: 2m, size: 1GiB }", Ok((120, 1 << 30))),
            ("{ every: 0s, size: 512 KiB }", Ok((0, 512 << 10))),
            ("{ seconds: 10, mib: 64 }", Ok((10, 64 << 20))),
            ("{ seconds: 0, mib: 0 }", Ok((0, 0))),
            ("{ mib: 1 }", Ok((10, 1 << 20))),
            ("{ every: 10s, seconds: 10 }", Err("3:27: `seconds` is the former name of `every`")),
            ("{ size: 1MiB, mib: 1 }", Err("3:27: `mib` is the former name of `size`")),
            ("{ size: 64 }", Err("3:21: `64` is not a size; write `512KiB`, `64MiB` or `1GiB`")),
            ("{ every: soon }", Err("3:22: `soon` is not a duration")),
        ];
        for (text, expected) in table {
            let expected = expected.map_err(|message| format!("r.yaml:{message}"));
            match (read(text), expected) {
                (Err(found), Err(message)) => {
                    assert!(found.starts_with(&message), "{text}: {found}");
                }
                (found, expected) => assert_eq!(found, expected, "{text}"),
            }
        }
    }
}
