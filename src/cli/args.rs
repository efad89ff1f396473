//! What can be typed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

use crate::spec::Span;

const WORKFLOW: &str = "\
A spec declares the streams of an API, a replication says which of them go where:

  weir conns set WIKI type=api spec=confluence domain=acme.atlassian.net \\
      email=you@acme.com api_token=-
  weir conns test WIKI
  weir conns discover WIKI
  weir sync plan replication.yaml
  weir sync run replication.yaml

Exit codes: 0 done, 1 failed, 2 wrong input, 3 done but some slices were refused,
4 busy because another run holds the lock, 75 paused because the points that may be spent are spent,
130 interrupted by Ctrl-C, 143 by SIGTERM or SIGHUP.

Environment: WEIR_HOME (folder of connections.yaml, else ~/.weir), SSL_CERT_FILE and SSL_CERT_DIR
(certificates to trust in place of the system's), HTTPS_PROXY, HTTP_PROXY and NO_PROXY.";

const RUN_EXAMPLES: &str = "\
Examples:
  weir sync run replication.yaml
  weir sync run replication.yaml --streams 'page*,-page_versions' --limit 100
  weir sync run replication.yaml --max-points 20000 --on-budget pause
  weir sync run replication.yaml --dry-run --json

Exit codes: 0 done, 1 failed, 2 wrong input, 3 done but some slices were refused,
4 busy because another run holds the lock: nothing was done, run it again when that has ended,
75 paused because the points that may be spent are spent: run it again later to continue
(1 if a stream has failed besides), 130 interrupted by Ctrl-C, 143 by SIGTERM or SIGHUP. A stream that did
not end leaves its table as it was.";

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
  weir sim confluence --pages 1000 --changes 50    the same site, some changes later
  weir sim confluence --fault 429=0.05 --fault reset=0.01 --fault missing=0.1@/labels";

/// Heading of the options that every command has.
const SHARED: &str = "Options of every command";

/// Extracts the records of REST APIs into databases and files.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100, after_help = WORKFLOW)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// Read variables and connections from this file first: lines of NAME=value, or YAML with
    /// `connections`; may be given more than once
    #[arg(long = "env-file", global = true, help_heading = SHARED, value_name = "FILE")]
    pub(crate) env_files: Vec<PathBuf>,
}

/// Options of every command.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Shared {
    /// Print the result as JSON on stdout
    #[arg(long, global = true, help_heading = SHARED)]
    pub(crate) json: bool,
    /// Say nothing but errors, refused slices, and what `--json` prints
    #[arg(long, short, global = true, help_heading = SHARED)]
    pub(crate) quiet: bool,
    /// Log every request to stderr; `RUST_LOG` says it in more detail
    #[arg(long, short, global = true, help_heading = SHARED, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Talk on stderr in words, or as one JSON object a line
    #[arg(
        long,
        global = true,
        help_heading = SHARED,
        value_enum,
        value_name = "FORM",
        default_value_t = LogFormat::Text
    )]
    pub(crate) log_format: LogFormat,
}

/// Form of the lines on stderr.
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
    /// Look at what is counted of an API's quota, and until when it waits; end such a wait
    #[command(subcommand)]
    Quota(Quota),
    /// Look at the specs of APIs, and check your own
    #[command(subcommand)]
    Spec(Spec),
    /// Trust a file of somebody else as it is now: a spec, or one with `command:` values
    ///
    /// A spec that does not come with weir sends requests only if it is trusted. A `command:` is run, and a `file:`
    /// is read, from the user's own connections file, and from a replication or `.env` that is trusted. What is run
    /// and read is shown. Trust ends when the file changes.
    #[command(after_help = "Example: weir trust shop.yaml")]
    Trust {
        /// File
        file: PathBuf,
    },
    /// Print the JSON Schema of a kind of file, for editors
    #[command(after_help = "Example: weir schema replication > replication.schema.json")]
    Schema {
        /// Kind of file
        #[arg(value_enum)]
        kind: SchemaKind,
    },
    /// Serve a simulated API, to try weir or to test against
    #[command(subcommand)]
    Sim(Sim),
    /// Print the completions of a shell
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
    /// Extract, type and load the streams of a replication
    #[command(after_help = RUN_EXAMPLES)]
    Run(SyncRun),
    /// Say what a run would do now, and what it would cost: routes, requests, points, time
    ///
    /// Reads the saved state without taking the lock; asks the API for no records (only how many
    /// there are, where no run has shown it; a cloud id that is not set is looked up) and changes
    /// neither state nor target.
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(Chosen),
    /// Show where each stream stands: freshness, what is missing, what was refused
    ///
    /// Reads the saved state; asks the API nothing.
    #[command(after_help = "Example: weir sync status replication.yaml")]
    Status {
        /// Replication file
        replication: PathBuf,
    },
    /// Forget what was saved of streams, so that the next run begins anew; tables stay as they are
    #[command(after_help = "Example: weir sync reset replication.yaml --streams 'page_*' --yes")]
    Reset {
        /// Replication file
        replication: PathBuf,
        /// Streams to forget: names or patterns, separated by commas; `-name` leaves one out
        #[arg(long, value_name = "PATTERNS", value_delimiter = ',', allow_hyphen_values = true)]
        streams: Vec<String>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Ask again for the slices that the API refused, and for nothing else
    #[command(after_help = "Example: weir sync retry-failed replication.yaml")]
    RetryFailed {
        /// Replication file
        replication: PathBuf,
        /// Streams: names or patterns, separated by commas; `-name` leaves one out
        #[arg(long, value_name = "PATTERNS", value_delimiter = ',', allow_hyphen_values = true)]
        streams: Vec<String>,
    },
    /// Check a replication, its connections and its spec; with `--target` its tables too
    #[command(after_help = "Example: weir sync validate replication.yaml")]
    Validate {
        /// Replication file
        replication: PathBuf,
        /// Check also that the target can be reached, and that a run may write its tables
        #[arg(long)]
        target: bool,
    },
}

impl Sync {
    /// The replication's file.
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
    /// End each stream after this many rows, for a first look: they go into tables or files of their own,
    /// `NAME__sample`, beside the real ones; nothing is remembered of the run
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Start over: forget the interrupted run, the cursors and all else that was saved of the streams
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Take over tables that weir did not write, or that belong to another replication or source; without
    /// it they are refused
    #[arg(long)]
    pub(crate) adopt: bool,
    /// Pause once this run has spent so many points, whatever `budget` allows; for connections that
    /// count points
    #[arg(long, value_name = "POINTS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_points: Option<u64>,
    /// What to do when the points that may be spent in this hour are spent, in place of what the
    /// replication says
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) on_budget: Option<OnBudgetName>,
    /// If another run holds the lock of the replication, wait so long for it, such as 90s or 10m; without
    /// this, the run ends with exit code 4
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) wait: Option<Duration>,
    /// Show what would run; sends no request and writes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What of a replication is run or planned.
#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// Replication file
    pub(crate) replication: PathBuf,
    /// Streams: names or patterns, separated by commas; `-name` leaves one out
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',', allow_hyphen_values = true)]
    pub(crate) streams: Vec<String>,
    /// Mode of all streams, in place of what the replication says
    #[arg(long, value_enum)]
    pub(crate) mode: Option<ModeName>,
    /// Range of the cursor to read again, with `--mode backfill`: two dates or times, both included
    #[arg(long, value_name = "FROM,TO", value_parser = range)]
    pub(crate) range: Option<(String, String)>,
    /// Route by which a stream is read, in place of the cheapest; may be given more than once.
    /// `weir conns discover` shows the routes
    #[arg(long = "route", value_name = "STREAM=NAME", value_parser = route)]
    pub(crate) routes: Vec<(String, String)>,
}

/// What is read, and what becomes of the rows that the target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeName {
    /// Everything, in place of what was there
    FullRefresh,
    /// The same, but the tables themselves stay
    Truncate,
    /// Everything, added
    Snapshot,
    /// What changed, merged by key
    Incremental,
    /// A range of the cursor, merged by key
    Backfill,
    /// Nothing: the tables are made
    DefinitionOnly,
}

/// What to do when points are spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnBudgetName {
    /// Wait for the next hour, and go on
    Wait,
    /// Save what was read, and end with exit code 75; the next run goes on
    Pause,
}

fn span(text: &str) -> Result<Duration, String> {
    Span::parse(text)
        .map(|span| span.0)
        .ok_or("write a time such as `90s`, `10m` or `1h`".to_owned())
}

fn range(text: &str) -> Result<(String, String), String> {
    let (from, to) =
        text.split_once(',').ok_or("write two dates or times, with a comma between")?;
    Ok((from.trim().to_owned(), to.trim().to_owned()))
}

fn route(text: &str) -> Result<(String, String), String> {
    let named = text.split_once('=').map(|(stream, name)| (stream.trim(), name.trim()));
    let (stream, name) = named
        .filter(|(stream, name)| !stream.is_empty() && !name.is_empty())
        .ok_or("write a stream and one of its routes: `page_labels=search`")?;
    Ok((stream.to_owned(), name.to_owned()))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Conns {
    /// List the connections and where they are defined
    #[command(after_help = "Example: weir conns list")]
    List,
    /// Define a connection in ~/.weir/connections.yaml
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// Name: letters, digits and `_`
        name: String,
        /// A URL, or properties as key=value; `key=-` reads the value from stdin, `key=@FILE` from a file
        #[arg(required = true)]
        properties: Vec<String>,
    },
    /// Remove a connection from ~/.weir/connections.yaml
    #[command(after_help = "Example: weir conns unset WIKI")]
    Unset {
        /// Name
        name: String,
    },
    /// Test a connection, and say what is wrong with it
    ///
    /// Tells apart a wrong host, credentials that are not accepted, a missing permission, and a
    /// network that blocks the way.
    #[command(after_help = "Example: weir conns test WIKI")]
    Test {
        /// Name
        name: String,
    },
    /// List the streams of an API with their keys, parents, costs, routes and columns; asks nobody
    #[command(after_help = DISCOVER_EXAMPLES)]
    Discover {
        /// Connection, or the name of a spec
        name: String,
        /// Stream to show with all that is known of it; a name or pattern
        stream: Option<String>,
        /// Streams to list: a name or pattern
        #[arg(long, conflicts_with = "stream")]
        pattern: Option<String>,
        /// List the columns too, and the requests of each route
        #[arg(long)]
        columns: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Quota {
    /// Show what is spent of the present hour, until when requests wait, and where that is stored
    #[command(after_help = "Example: weir quota show WIKI --target PG")]
    Show {
        /// Connection to an API that counts points
        connection: String,
        /// Connection to the Postgres database whose ledger is meant too
        #[arg(long, value_name = "CONNECTION")]
        target: Option<String>,
    },
    /// End the wait, and forget what the API has said of its quota; what runs have spent stays counted
    #[command(after_help = "Example: weir quota reset WIKI --target PG")]
    Reset {
        /// Connection to an API that counts points
        connection: String,
        /// Connection to the Postgres database whose ledger is meant too
        #[arg(long, value_name = "CONNECTION")]
        target: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Spec {
    /// List the specs that come with weir
    #[command(after_help = "Example: weir spec list")]
    List,
    /// Print a spec
    #[command(after_help = "Example: weir spec show confluence > my.yaml")]
    Show {
        /// Name, or path of a file
        spec: String,
    },
    /// Check a spec; prints every problem with its place
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
    /// What `weir sync status --json` prints
    Status,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Serve a simulated Confluence Cloud site on a socket, and print a connection to it
    #[command(after_help = SIM_EXAMPLES)]
    Confluence(SimConfluence),
}

#[derive(Debug, Args)]
pub(crate) struct SimConfluence {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8089")]
    pub(crate) listen: String,
    #[command(flatten)]
    pub(crate) site: Site,
    /// Only let this account in: its email
    #[arg(long, requires = "token")]
    pub(crate) email: Option<String>,
    /// Only let this account in: its token
    #[arg(long, requires = "email")]
    pub(crate) token: Option<String>,
}

/// What a simulated site is like; also what a connection may say under `simulate`.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Site {
    /// Where all that looks random comes from [default: 1]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// Spaces [default: 4]
    #[arg(long, value_name = "COUNT")]
    pub(crate) spaces: Option<usize>,
    /// Pages [default: 60]
    #[arg(long, value_name = "COUNT")]
    pub(crate) pages: Option<usize>,
    /// Blog posts [default: 12]
    #[arg(long, value_name = "COUNT")]
    pub(crate) blog_posts: Option<usize>,
    /// Attachments [default: 20]
    #[arg(long, value_name = "COUNT")]
    pub(crate) attachments: Option<usize>,
    /// Mean size of a body, in bytes [default: 2048]
    #[arg(long, value_name = "BYTES")]
    pub(crate) body_bytes: Option<usize>,
    /// Time that every response takes, in milliseconds
    #[arg(long, value_name = "MILLISECONDS")]
    pub(crate) latency_ms: Option<u64>,
    /// Start with this many random changes made, the same for the same seed: edits, moves, deletions …
    #[arg(long, value_name = "COUNT")]
    pub(crate) changes: Option<usize>,
    /// Make one more change before every so-manieth request
    #[arg(long, value_name = "REQUESTS")]
    pub(crate) churn_every: Option<u64>,
    /// Answer what exceeds this many requests in a second with 429
    #[arg(long, value_name = "REQUESTS")]
    pub(crate) burst: Option<u32>,
    /// Count points, and refuse requests once so many are spent in a clock hour; a connection to it has
    /// `quota: points`
    #[arg(long, value_name = "POINTS")]
    pub(crate) points_per_hour: Option<u64>,
    /// A share of requests, 0 to 1, that goes wrong, perhaps only for paths that contain PART: 429,
    /// 403, 500, 502, 503, 504, missing (a 404), slow (2 s), halt (2 s in
    /// the body), reset, truncate, malformed, repeat (a
    /// cursor), expired (a cursor)
    #[arg(long = "fault", value_name = "KIND=SHARE[@PART]")]
    pub(crate) faults: Vec<String>,
    /// A path of the API, `{id}` and all, perhaps with `?` and a parameter, that is always refused
    /// with 400, 403, 404 or 410
    #[arg(long = "refuse", value_name = "PATH=STATUS")]
    pub(crate) refuses: Vec<String>,
}
