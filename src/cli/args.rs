//! The arguments of the command line.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

use crate::quota::terms::OnBudget;
use crate::replication::Mode;
use crate::spec::Span;

const WORKFLOW: &str = "\
A spec declares the streams of an API. A replication chooses streams and names their target:

  weir conns set WIKI type=api spec=confluence domain=acme.atlassian.net \\
      email=you@acme.com api_token=-
  weir conns test WIKI
  weir conns discover WIKI
  weir sync plan replication.yaml
  weir sync run replication.yaml

Exit codes: 0 done, 1 failed, 2 wrong input, 3 done but some slices were refused,
4 busy because another run holds the lock, 75 paused because the points budget is spent,
130 interrupted by Ctrl-C, 143 by SIGTERM or SIGHUP.

Environment: WEIR_HOME (folder of connections.yaml, by default ~/.weir), SSL_CERT_FILE and
SSL_CERT_DIR (certificates to trust instead of the system's), HTTPS_PROXY, HTTP_PROXY and NO_PROXY.";

const RUN_EXAMPLES: &str = "\
Examples:
  weir sync run replication.yaml
  weir sync run replication.yaml --streams 'page*,-page_versions' --limit 100
  weir sync run replication.yaml --max-points 20000 --on-budget pause
  weir sync run replication.yaml --dry-run --json

Exit codes: 0 done, 1 failed, 2 wrong input, 3 done but some slices were refused,
4 busy because another run holds the lock: run it again when the other run has ended,
75 paused because the points budget is spent: run it again later to resume
(1 if a stream has failed as well), 130 interrupted by Ctrl-C, 143 by SIGTERM or SIGHUP.
If a stream does not finish, its table stays unchanged.";

const PLAN_EXAMPLES: &str = "\
Examples:
  weir sync plan replication.yaml
  weir sync plan replication.yaml --mode full-refresh --json
  weir sync plan replication.yaml --streams 'page*' --route page_labels=search";

const SET_EXAMPLES: &str = "\
Examples:
  weir conns set WIKI type=api spec=confluence domain=acme.atlassian.net \\
      email=you@acme.com api_token=-
  weir conns set APP type=api spec=confluence domain=acme.atlassian.net \\
      auth=oauth client_id=1a2b client_secret=-
  weir conns set PG postgres://user@host/database
  weir conns set OUT type=files url=s3://bucket/prefix";

const DISCOVER_EXAMPLES: &str = "\
Examples:
  weir conns discover WIKI
  weir conns discover WIKI page_labels
  weir conns discover WIKI --pattern 'page*' --columns";

const SIM_EXAMPLES: &str = "\
Examples:
  weir sim confluence --pages 1000 --latency-ms 20
  weir sim confluence --pages 1000 --changes 50    the same site, 50 changes later
  weir sim confluence --fault 429=0.05 --fault reset=0.01 --fault missing=0.1@/labels";

/// Heading of the options that every command accepts.
const SHARED: &str = "Options of every command";

/// Extracts records from REST APIs into databases and files.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100, after_help = WORKFLOW)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// Read variables and connections from this file first: NAME=value lines, or YAML with a
    /// `connections` mapping; may be repeated
    #[arg(long = "env-file", global = true, help_heading = SHARED, value_name = "FILE")]
    pub(crate) env_files: Vec<PathBuf>,
}

/// Options of every command.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Shared {
    /// Print the result as JSON on stdout
    #[arg(long, global = true, help_heading = SHARED)]
    pub(crate) json: bool,
    /// Print only errors, refused slices, and the output of `--json`
    #[arg(long, short, global = true, help_heading = SHARED)]
    pub(crate) quiet: bool,
    /// Log every request to stderr; `RUST_LOG` sets the log level in more detail
    #[arg(long, short, global = true, help_heading = SHARED, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Format of log output on stderr: plain text, or one JSON object per line
    #[arg(
        long,
        global = true,
        help_heading = SHARED,
        value_enum,
        value_name = "FORMAT",
        default_value_t = LogFormat::Text
    )]
    pub(crate) log_format: LogFormat,
}

/// Format of the lines on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run and check replications
    #[command(subcommand)]
    Sync(Sync),
    /// Define, test and explore connections
    #[command(subcommand)]
    Conns(Conns),
    /// Show how much of an API's points quota is spent, or end a wait for it
    #[command(subcommand)]
    Quota(Quota),
    /// List, print and check API specs
    #[command(subcommand)]
    Spec(SpecCommand),
    /// Trust the current content of a spec, or of a file with `command:` values
    ///
    /// weir sends requests for a spec that does not come with weir only if you trust the spec. It runs
    /// a `command:` and reads a `file:` only if your own connections file contains it, or a
    /// replication or `.env` file that you trust. This command shows what the file would send, run and
    /// read. Trust ends when the file changes.
    #[command(after_help = "Example: weir trust shop.yaml")]
    Trust {
        /// File
        file: PathBuf,
    },
    /// Print the JSON Schema of a file format, for editors
    #[command(after_help = "Example: weir schema replication > replication.schema.json")]
    Schema {
        /// File format
        #[arg(value_enum)]
        kind: SchemaKind,
    },
    /// Serve a simulated API, for trying weir and for tests
    #[command(subcommand)]
    Sim(Sim),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example: weir completions bash > ~/.local/share/bash-completion/completions/weir"
    )]
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sync {
    /// Extract the streams of a replication and load them into the target
    #[command(after_help = RUN_EXAMPLES)]
    Run(SyncRun),
    /// Show the plan of the next run and its estimated cost: routes, requests, points, time
    ///
    /// Reads the saved state without taking the lock, and changes neither state nor target. Requests no
    /// records from the API. It asks the API only for row counts that no run has measured yet, and for a
    /// cloud ID that is not set.
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(Chosen),
    /// Show the state of each stream: last read, missing rows, refused slices
    ///
    /// Reads the saved state and counts the rows of the tables. Sends no requests to the API.
    #[command(after_help = "Example: weir sync status replication.yaml")]
    Status {
        /// Replication file
        replication: PathBuf,
    },
    /// Delete the saved state of streams, not their tables; the next run reads them from the start
    #[command(after_help = "Example: weir sync reset replication.yaml --streams 'page_*' --yes")]
    Reset {
        /// Replication file
        replication: PathBuf,
        /// Streams to reset: names or patterns, separated by commas; `-name` excludes a stream
        #[arg(long, value_name = "PATTERNS", value_delimiter = ',', allow_hyphen_values = true)]
        streams: Vec<String>,
        /// Do not ask for confirmation
        #[arg(long, short)]
        yes: bool,
    },
    /// Request only the slices that the API refused in earlier runs
    #[command(after_help = "Example: weir sync retry-failed replication.yaml")]
    RetryFailed {
        /// Replication file
        replication: PathBuf,
        /// Streams: names or patterns, separated by commas; `-name` excludes a stream
        #[arg(long, value_name = "PATTERNS", value_delimiter = ',', allow_hyphen_values = true)]
        streams: Vec<String>,
    },
    /// Check a replication, its connections and its spec; with `--target`, also its tables
    #[command(after_help = "Example: weir sync validate replication.yaml")]
    Validate {
        /// Replication file
        replication: PathBuf,
        /// Also check that the target is reachable, and that a run may write its tables
        #[arg(long)]
        target: bool,
    },
}

impl Sync {
    /// The replication file.
    pub(crate) fn replication(&self) -> &Path {
        match self {
            Self::Run(SyncRun { chosen, .. }) | Self::Plan(chosen) => &chosen.replication,
            Self::Status { replication }
            | Self::Reset { replication, .. }
            | Self::RetryFailed { replication, .. }
            | Self::Validate { replication, .. } => replication,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SyncRun {
    #[command(flatten)]
    pub(crate) chosen: Chosen,
    /// Read at most this many rows per stream, as a sample. The rows go into separate tables or files,
    /// `NAME__sample`. The run saves no state.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Start over: discard the interrupted run and all saved state of the streams, cursors included
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Take over tables that weir did not write, or that belong to another replication or source.
    /// Without this option, a run refuses to write them.
    #[arg(long)]
    pub(crate) adopt: bool,
    /// Pause after this run has spent this many points, even if `budget` allows more. For
    /// connections with a points quota.
    #[arg(long, value_name = "POINTS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_points: Option<u64>,
    /// What to do when the hour's points budget is spent; overrides the replication
    #[arg(long, value_enum, value_name = "ACTION")]
    pub(crate) on_budget: Option<OnBudget>,
    /// How long to wait if another run holds the lock of the replication, such as 90s or 10m. Without
    /// this option, the run exits at once with exit code 4.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) wait: Option<Duration>,
    /// Show the streams, modes and tables; send no requests and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The streams of a replication to run or plan, and how.
#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// Replication file
    pub(crate) replication: PathBuf,
    /// Streams: names or patterns, separated by commas; `-name` excludes a stream
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',', allow_hyphen_values = true)]
    pub(crate) streams: Vec<String>,
    /// Mode of all streams; overrides the replication
    #[arg(long, value_enum)]
    pub(crate) mode: Option<Mode>,
    /// Cursor range to read with `--mode backfill`: two dates or times, both inclusive
    #[arg(long, value_name = "FROM,TO", value_parser = range)]
    pub(crate) range: Option<(String, String)>,
    /// Route for a stream, instead of the cheapest one; may be repeated. `weir conns discover` lists the
    /// routes.
    #[arg(long = "route", value_name = "STREAM=NAME", value_parser = route)]
    pub(crate) routes: Vec<(String, String)>,
}

fn span(text: &str) -> Result<Duration, String> {
    Span::parse(text)
        .map(|span| span.0)
        .ok_or("expected a duration such as `90s`, `10m` or `1h`".to_owned())
}

fn range(text: &str) -> Result<(String, String), String> {
    let (from, to) =
        text.split_once(',').ok_or("expected two dates or times, separated by a comma")?;
    Ok((from.trim().to_owned(), to.trim().to_owned()))
}

fn route(text: &str) -> Result<(String, String), String> {
    let named = text.split_once('=').map(|(stream, name)| (stream.trim(), name.trim()));
    let (stream, name) = named
        .filter(|(stream, name)| !stream.is_empty() && !name.is_empty())
        .ok_or("expected a stream and one of its routes: `page_labels=search`")?;
    Ok((stream.to_owned(), name.to_owned()))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Conns {
    /// List the connections and where each is defined
    #[command(after_help = "Example: weir conns list")]
    List,
    /// Define a connection in ~/.weir/connections.yaml
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// Name: letters, digits and `_`
        name: String,
        /// A URL, or key=value properties; `key=-` reads the value from stdin, `key=@FILE` from a file
        #[arg(required = true)]
        properties: Vec<String>,
    },
    /// Remove a connection from ~/.weir/connections.yaml
    #[command(after_help = "Example: weir conns unset WIKI")]
    Unset {
        /// Name
        name: String,
    },
    /// Test a connection and report the cause of a failure
    ///
    /// Distinguishes a wrong host, rejected credentials, a missing permission, and a network that
    /// blocks the request.
    #[command(after_help = "Example: weir conns test WIKI")]
    Test {
        /// Name
        name: String,
    },
    /// List the streams of an API: keys, parents, costs, routes, columns; works offline
    #[command(after_help = DISCOVER_EXAMPLES)]
    Discover {
        /// Name of a connection or of a spec
        name: String,
        /// Stream to show in detail: a name or pattern
        stream: Option<String>,
        /// Streams to list: a name or pattern
        #[arg(long, conflicts_with = "stream")]
        pattern: Option<String>,
        /// Also list the columns, and the requests of each route
        #[arg(long)]
        columns: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Quota {
    /// Show the points spent in the current hour, any wait, and the ledger's location
    #[command(after_help = "Example: weir quota show WIKI --target PG")]
    Show {
        /// Connection to an API with a points quota
        connection: String,
        /// Connection to a Postgres target, to include the ledger in that database
        #[arg(long, value_name = "CONNECTION")]
        target: Option<String>,
    },
    /// End the wait and discard the quota that the API reported; points spent by runs stay counted
    #[command(after_help = "Example: weir quota reset WIKI --target PG")]
    Reset {
        /// Connection to an API with a points quota
        connection: String,
        /// Connection to a Postgres target, to include the ledger in that database
        #[arg(long, value_name = "CONNECTION")]
        target: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SpecCommand {
    /// List the specs that come with weir
    #[command(after_help = "Example: weir spec list")]
    List,
    /// Print a spec
    #[command(after_help = "Example: weir spec show confluence > my.yaml")]
    Show {
        /// Name of a spec, or path of a file
        spec: String,
    },
    /// Check a spec and print each problem with line and column
    #[command(after_help = "Example: weir spec validate my.yaml")]
    Validate {
        /// File
        file: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SchemaKind {
    /// Specs
    Spec,
    /// Replications
    Replication,
    /// The connections file
    Connections,
    /// The output of `weir sync status --json`
    Status,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Serve a simulated Confluence Cloud site, and print a connection to it
    #[command(after_help = SIM_EXAMPLES)]
    Confluence(SimConfluence),
}

#[derive(Debug, Args)]
pub(crate) struct SimConfluence {
    /// Address to listen on; port 0 selects a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8089")]
    pub(crate) listen: String,
    #[command(flatten)]
    pub(crate) site: Site,
    /// Email of the only account that the site accepts
    #[arg(long, requires = "token")]
    pub(crate) email: Option<String>,
    /// API token of that account
    #[arg(long, requires = "email")]
    pub(crate) token: Option<String>,
}

/// Options of a simulated site, and the `simulate` property of a connection.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Site {
    /// Seed of the random content [default: 1]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// Number of spaces [default: 4]
    #[arg(long, value_name = "COUNT")]
    pub(crate) spaces: Option<usize>,
    /// Number of pages [default: 60]
    #[arg(long, value_name = "COUNT")]
    pub(crate) pages: Option<usize>,
    /// Number of blog posts [default: 12]
    #[arg(long, value_name = "COUNT")]
    pub(crate) blog_posts: Option<usize>,
    /// Number of attachments [default: 20]
    #[arg(long, value_name = "COUNT")]
    pub(crate) attachments: Option<usize>,
    /// Average size of a body, in bytes [default: 2048]
    #[arg(long, value_name = "BYTES")]
    pub(crate) body_bytes: Option<usize>,
    /// Latency of each response, in milliseconds [default: 0]
    #[arg(long, value_name = "MILLISECONDS")]
    pub(crate) latency_ms: Option<u64>,
    /// Number of random changes (edits, moves, deletions …) made before the start; the same for the same seed
    #[arg(long, value_name = "COUNT")]
    pub(crate) changes: Option<usize>,
    /// Make one change each time this many requests have arrived
    #[arg(long, value_name = "REQUESTS")]
    pub(crate) churn_every: Option<u64>,
    /// Respond with 429 to requests in excess of this many per second
    #[arg(long, value_name = "REQUESTS")]
    pub(crate) burst: Option<u32>,
    /// Count points, and reject requests after this many are spent in a clock hour; set `quota: points` in
    /// the connection
    #[arg(long, value_name = "POINTS")]
    pub(crate) points_per_hour: Option<u64>,
    /// Fault for a share of the requests, from 0 to 1, optionally only for paths that contain PART; may
    /// be repeated. Kinds: 429, 403, 500, 502, 503, 504, missing (404), deleted, slow (2 s), halt (2 s
    /// in the body), reset, truncate, malformed, repeat (the same cursor), expired (cursor)
    #[arg(long = "fault", value_name = "KIND=SHARE[@PART]")]
    pub(crate) faults: Vec<String>,
    /// API path that is always rejected with status 400, 403, 404 or 410; written with `{id}`
    /// placeholders, optionally with `?` and a parameter; may be repeated
    #[arg(long = "refuse", value_name = "PATH=STATUS")]
    pub(crate) refuses: Vec<String>,
}
