//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const WORKFLOW: &str = "A spec declares an API's streams, a replication says what goes where:

  weir conns set WIKI type=api spec=confluence domain=acme.atlassian.net email=you@acme.com api_token=-
  weir conns test WIKI
  weir conns discover WIKI
  weir sync run replication.yaml --dry-run
  weir sync run replication.yaml";

const SET_EXAMPLES: &str = "Examples:
  weir conns set WIKI type=api spec=confluence domain=acme.atlassian.net email=you@acme.com api_token=-
  weir conns set PG postgres://user@host/database
  weir conns set OUT type=files url=s3://bucket/prefix";

/// Extracts the records of REST APIs into databases and files.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100, after_help = WORKFLOW)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    #[command(flatten)]
    pub(super) shared: Shared,
}

/// Options of every command.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Shared {
    /// Print the result as JSON on stdout
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Say nothing but errors and the result
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
    /// Form of progress and log lines on stderr
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
}

/// Form of the lines on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// Words
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run and check replications
    #[command(subcommand)]
    Sync(Sync),
    /// Define, test and explore connections
    #[command(subcommand)]
    Conns(Conns),
    /// Look at the specs of APIs, and check your own
    #[command(subcommand)]
    Spec(Spec),
    /// Print the JSON Schema of a kind of file, for editors
    Schema {
        /// Kind of file
        #[arg(value_enum)]
        kind: SchemaKind,
    },
    /// Serve a simulated API, to try weir or to test against
    #[command(subcommand)]
    Sim(Sim),
    /// Print the completions of a shell
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Sync {
    /// Extract, type and load the streams of a replication
    ///
    /// Exit codes: 0 done, 1 failed, 2 wrong input, 3 done but some slices were refused,
    /// 130/143 interrupted.
    Run(SyncRun),
    /// Check a replication, its connections and its spec, without any request
    Validate {
        /// Replication file
        replication: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct SyncRun {
    /// Replication file
    pub(super) replication: PathBuf,
    /// Streams to run: names or patterns, separated by commas; `-name` leaves one out
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    pub(super) streams: Vec<String>,
    /// Rows of each stream after which it ends; the target then holds these rows only
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
    /// Show what would run, without any request
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Conns {
    /// List the connections and where they are defined
    List,
    /// Define a connection in ~/.weir/connections.yaml
    ///
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// Name
        name: String,
        /// A URL, or properties as key=value; `key=-` reads the value from stdin, `key=@FILE` from a file
        #[arg(required = true)]
        properties: Vec<String>,
    },
    /// Remove a connection from ~/.weir/connections.yaml
    Unset {
        /// Name
        name: String,
    },
    /// Test a connection, and say what is wrong with it
    Test {
        /// Name
        name: String,
    },
    /// List the streams of an API with their columns, keys and parents; asks nobody
    Discover {
        /// Connection, or the name of a spec
        name: String,
        /// Streams to list: a name or pattern
        #[arg(long)]
        pattern: Option<String>,
        /// List the columns too
        #[arg(long)]
        columns: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Spec {
    /// List the specs that come with weir
    List,
    /// Print a spec
    Show {
        /// Name, or path of a file
        spec: String,
    },
    /// Check a spec; prints every problem with its place
    Validate {
        /// File
        file: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum SchemaKind {
    /// Specs
    Spec,
    /// Replications
    Replication,
    /// The connections file
    Connections,
}

#[derive(Debug, Subcommand)]
pub(super) enum Sim {
    /// Serve a simulated Confluence Cloud site on a socket
    Confluence(SimConfluence),
}

#[derive(Debug, Args)]
pub(super) struct SimConfluence {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8089")]
    pub(super) listen: String,
    /// Where all that looks random comes from
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Spaces
    #[arg(long, default_value_t = 4)]
    pub(super) spaces: usize,
    /// Pages
    #[arg(long, default_value_t = 60)]
    pub(super) pages: usize,
    /// Blog posts
    #[arg(long, default_value_t = 12)]
    pub(super) blog_posts: usize,
    /// Attachments
    #[arg(long, default_value_t = 20)]
    pub(super) attachments: usize,
    /// Mean size of a body, in bytes
    #[arg(long, default_value_t = 2048)]
    pub(super) body_bytes: usize,
    /// Time that every response takes, in milliseconds
    #[arg(long, default_value_t = 0)]
    pub(super) latency_ms: u64,
    /// Only let this account in: its email
    #[arg(long, requires = "token")]
    pub(super) email: Option<String>,
    /// Only let this account in: its token
    #[arg(long, requires = "email")]
    pub(super) token: Option<String>,
}
