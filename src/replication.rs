//! The YAML of a run: which streams of which source go where, and how.

use std::{borrow::Cow, time::Duration};

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use crate::ledger::Budget;
use crate::schema::ColumnType;
use crate::spec::{Refresh, Span};
use crate::write::Deletes;
use crate::yaml::{
    Document, Finding, Guard, Node, NodeValue, Place, Problems, Renamed, lenient, suggest,
};

/// Placeholders that an `object` may hold, in single braces.
pub const PLACEHOLDERS: [&str; 5] =
    ["stream_name", "source", "run_id", "run_date", "run_timestamp"];

/// Keys that replications of other tools have, and what to do about them here.
const NEEDLESS: [(&str, &str); 10] = [
    ("primary_key", "the spec knows this: delete the line"),
    ("update_key", "the spec knows this: delete the line"),
    ("source_options", "the spec knows this: delete the line"),
    ("target_options", "the target knows this: delete the line"),
    ("sql", "the spec says what is asked for: delete the line; `select` names columns"),
    ("where", "`inputs` choose what is read: `weir spec show NAME` lists those of an API"),
    ("single", "an `object` that names one file makes one file: delete the line"),
    ("hooks", "weir runs nothing before or after a stream: do so around `weir sync run`"),
    ("tags", "weir has no use for it: delete the line; `--streams` chooses streams by name"),
    ("description", "weir has no use for it: delete the line, or make it a comment"),
];

/// Keys of streams, which may stand under `defaults` too.
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

/// Modes, as they are written.
const MODES: [&str; 6] =
    ["full-refresh", "truncate", "snapshot", "incremental", "backfill", "definition-only"];

/// A run: source, target, streams.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replication {
    /// Name under which its state is kept; the file's name without its ending unless set.
    pub name: Option<String>,
    /// Connection to an API.
    pub source: String,
    /// Connection to a database or a store of files.
    pub target: String,
    /// What streams have unless they say otherwise.
    #[serde(default)]
    pub defaults: StreamOptions,
    /// Where the state is kept: a connection to a database or a store of files, or a folder. With the
    /// target unless set.
    pub state: Option<String>,
    /// When what was read so far is saved, so that a run that dies can go on from there.
    #[serde(default)]
    pub checkpoint: Checkpoints,
    /// The streams: a name, or a pattern such as `*` or `page_*`, to what is particular to it; null
    /// means the defaults. A later entry wins over an earlier one, a name over a pattern.
    pub streams: IndexMap<String, Option<StreamOptions>>,
    /// What may be spent of the connection's points in an hour, by all runs together: a share of the
    /// quota, `60%`, or so many points, `20000`. Everything unless set.
    pub budget: Option<Budget>,
    /// What happens when they are spent; `wait` unless set.
    pub on_budget: Option<OnBudget>,
    /// Limits in place of the spec's, for all requests to the source.
    #[serde(default)]
    pub limits: LimitOverrides,
    /// Variables for `${NAME}` in values and for connections of that name; the process's own
    /// environment wins.
    #[serde(default)]
    pub env: IndexMap<String, String>,
}

/// What happens when the points that may be spent are spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnBudget {
    /// The run waits for the next hour.
    #[default]
    Wait,
    /// The run saves what it has read and ends; the next one goes on.
    Pause,
}

/// When a stream saves what it has read: at the time or at the size, whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoints {
    /// Time since the stream's last checkpoint: `10s`, `2m`. 10 seconds unless set.
    pub every: Span,
    /// Size of the stream's unsaved rows in memory: `64MiB`. 64 MiB unless set.
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

/// Limits in place of the spec's. Raise them only where the API's owner allows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitOverrides {
    /// Requests a second, over all streams; 0 for no pacing.
    pub requests_per_second: Option<f64>,
    /// Requests under way at once, over all streams.
    pub concurrency: Option<u32>,
}

/// Where a replication may hold secrets, and where not.
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
    /// Parses the text of a replication. Problems show no line of it that may hold secrets.
    ///
    /// # Errors
    /// The text is not YAML.
    pub fn parse(file: &str, text: &str) -> Result<Document, Problems> {
        Document::parse_guarded(file, text, &GUARD)
    }

    /// The `env` of a replication's document, before its values are filled in.
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

    /// Reads and checks a replication whose values are filled in.
    ///
    /// # Errors
    /// All that is wrong with its form, and with its meaning as far as it can be known without the
    /// spec.
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

    /// Object of a table that is weir's own, such as `_weir_errors`: beside those of the streams, where
    /// `defaults.object` puts all of them at the same place in every run, else by `default`.
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
            let finding = Finding::new(&["streams"], "no stream is named");
            findings.push(finding.with_hint("`'*':` stands for all streams"));
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

/// Mappings where a text belongs, and what to do about each: a connection stands in quotes, under `env`.
fn mappings(document: &Document) -> impl Iterator<Item = (Place, String)> {
    let is_mapping = |node: &Node| matches!(node.value, NodeValue::Map(_));
    let named = ["source", "target", "state"].into_iter().filter_map(move |key| {
        let node = document.root().get(key).filter(|node| is_mapping(node))?;
        let hint = "name the connection here, and define it below: env: { NAME: \"{type: …}\" }";
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

/// JSON Schema of a replication's file, by which editors complete and check it.
pub fn json_schema() -> serde_json::Value {
    lenient(schemars::schema_for!(Replication).to_value())
}

impl StreamOptions {
    fn check(&self, path: &[&str], findings: &mut Vec<Finding>) {
        for placeholder in self.object.iter().flat_map(|object| placeholders(object)) {
            if !PLACEHOLDERS.contains(&placeholder) {
                let message = format!("`{{{placeholder}}}` is no placeholder");
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
            findings.push(Finding::new(&path, "levels of zstd go from 1 (fast) to 19 (small)"));
        }
    }
}

/// What stands between single braces.
fn placeholders(object: &str) -> Vec<&str> {
    let parts = object.split('{').skip(1);
    parts.map(|part| part.split_once('}').map_or(part, |(name, _)| name)).collect()
}

/// What a replication says of a stream, or of all.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StreamOptions {
    /// What is read, and what becomes of the rows the target has; `full-refresh` unless set.
    pub mode: Option<Mode>,
    /// Where the rows go, a template over `stream_name`, `source`, `run_id`, `run_date` and
    /// `run_timestamp` in single braces: `wiki.{stream_name}`, `wiki/{run_date}/{stream_name}.parquet`.
    pub object: Option<String>,
    /// Columns to write, by name or pattern; `-name` leaves one out. All unless set.
    pub select: Vec<String>,
    /// Other types than the spec's, by column.
    pub columns: IndexMap<String, ColumnType>,
    /// Leaves the stream out.
    pub disabled: Option<bool>,
    /// Values of the spec's inputs.
    pub inputs: IndexMap<String, serde_json::Value>,
    /// Columns that weir adds.
    pub metadata: Option<Metadata>,
    /// Whether a value that does not fit its column fails the stream; otherwise it goes to `_extra`.
    pub strict: Option<bool>,
    /// How files are written.
    pub files: Option<FileOptions>,
    /// How old a complete reading may be in place of what the spec says; for `incremental`.
    pub refresh: Option<Refresh>,
    /// What becomes of rows that the source no longer has; for `incremental`. `mark` unless set.
    pub deletes: Option<Deletes>,
    /// Refused slices above which the stream fails; 1,000 unless set.
    pub max_errors: Option<u32>,
}

/// What is read, and what becomes of the rows that the target has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Everything is read and takes the place of what was there, at once.
    #[default]
    FullRefresh,
    /// Like `full-refresh`, but the table itself stays, with its grants and indexes.
    Truncate,
    /// Everything is read and added, stamped with `_weir_synced_at`.
    Snapshot,
    /// What changed is read and merged by key.
    Incremental,
    /// A range of the cursor is read again and merged by key; cursor and other rows stay.
    Backfill,
    /// Nothing is read: the tables are there, with all their columns.
    DefinitionOnly,
}

/// The columns that weir adds to every row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metadata {
    /// `_weir_synced_at`: the time at which the run started.
    pub synced_at: bool,
    /// `_weir_run_id`: the id of the run.
    pub run_id: bool,
    /// `_weir_change`: whether the last run that touched the row found it new, updated, moved or
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
    /// Size at which a file is closed and the next one begun, in mebibytes of what is written. Needs
    /// an `object` with a `*` in its file name: `pages/*.parquet`. Unlimited unless set.
    pub max_file_mib: Option<u32>,
    /// Rows after which a Parquet row group is closed; 1,048,576 unless set. It is closed earlier
    /// when its encoded size reaches `row_group_mib`.
    pub row_group_rows: Option<u32>,
    /// Encoded size at which a Parquet row group is closed, in mebibytes; 16 unless set.
    pub row_group_mib: Option<u32>,
    /// Level of zstd, 1 to 19; 1 unless set.
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
                    assert!(found.starts_with(&message), "{text}: {found}")
                }
                (found, expected) => assert_eq!(found, expected, "{text}"),
            }
        }
    }
}
