//! The program as a process of its own, that reads a simulated tenant over a socket and may be killed.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;
use weir::{
    schema::{Column, ColumnType, TableSchema},
    spec::Spec,
};
use weir_sim::{Options, STREAMS, Simulator, Wanted, serve};

use super::{
    postgres::Database,
    rig::{Row, confluence, key_of},
};

/// Time that a process may take for what it is waited for: far more than it needs.
const PATIENCE: Duration = Duration::from_mins(2);

/// Requests under way at once.
pub(crate) const CONCURRENCY: usize = 4;

/// A tenant behind a socket, and a folder with a replication of all that it has.
pub(crate) struct Workplace {
    pub(crate) simulator: Simulator,
    pub(crate) folder: TempDir,
    pub(crate) spec: Spec,
    source: String,
    target: String,
    stop: CancellationToken,
    /// What stands before the program: `nsenter`, which may change the working folder.
    pub(crate) within: Vec<String>,
}

/// How much a run of an incremental replication reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// What may have changed, by the refresh times of the spec.
    Changes,
    /// Everything, so that its tables are equal to the tenant.
    Everything,
}

impl Workplace {
    /// The target is a database, or else files in the folder `out`.
    pub(crate) async fn new(options: Options, database: Option<&Database>) -> Self {
        let simulator = Simulator::new(options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(serve(simulator.clone(), listener, stop.clone()));
        let source = format!(
            "{{type: api, spec: confluence, domain: acme.atlassian.net, email: ann@acme.test, \
             api_token: any, site_url: '{url}'}}"
        );
        let folder = tempfile::tempdir().unwrap();
        let files = || format!("{{type: files, url: '{}'}}", folder.path().join("out").display());
        let target = database.map_or_else(files, Database::url);
        Self { simulator, folder, spec: confluence(), source, target, stop, within: Vec::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the replication as the next runs find it.
    pub(crate) fn replicate(&self, object: &str, checkpoint: &str, reading: Reading) {
        let refresh = match reading {
            Reading::Changes => "",
            Reading::Everything => "refresh: 0s",
        };
        let replication = format!(
            "
source: WIKI
target: OUT
defaults:
  mode: incremental
  object: '{object}'
  inputs: {{ custom_content_types: ['ac:com.example.diagrams:diagram', 'forge:1b2c3d4e:9f8e7d6c:board'] }}
  {refresh}
checkpoint: {checkpoint}
limits: {{ requests_per_second: 0, concurrency: {CONCURRENCY} }}
streams: {{ '*': }}
"
        );
        fs::write(self.path("replication.yaml"), replication).unwrap();
    }

    /// Lets the connection count points.
    pub(crate) fn counting_points(mut self) -> Self {
        self.source = self.source.replace("{type: api,", "{type: api, quota: points,");
        self
    }

    /// Starts a run.
    pub(crate) fn start(&self) -> Process {
        self.start_with("replication.yaml", &[], "")
    }

    /// Starts a run of a replication with more arguments, by a user whose home is this folder. It may
    /// name the target `FILES` too.
    pub(crate) fn start_with(&self, replication: &str, more: &[&str], home: &str) -> Process {
        let mut command = self.command(&["sync", "run"], replication, home);
        command.args(more);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::<Mutex<Vec<String>>>::default();
        let (lines, err) = (Arc::clone(&said), BufReader::new(child.stderr.take().unwrap()));
        let listening = std::thread::spawn(move || {
            for line in err.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Process { child, said, listening: Some(listening) }
    }

    /// The program with these words and a replication, for a user whose home is this folder.
    pub(crate) fn command(&self, words: &[&str], replication: &str, home: &str) -> Command {
        let mut before: Vec<String> = self.within.clone();
        before.push(env!("CARGO_BIN_EXE_weir").to_owned());
        let mut command = Command::new(&before[0]);
        command.args(&before[1..]).args(words).arg(self.path(replication));
        command.current_dir(self.folder.path()).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("HOME", self.path(home));
        command.env("WIKI", &self.source).env("OUT", &self.target);
        let files = format!("{{type: files, url: '{}'}}", self.path("out").display());
        command.env("FILES", files);
        command
    }

    /// What is wrong with these tables of all streams: nothing, when they have what the tenant has
    /// and no key twice.
    pub(crate) fn faults(&self, tables: Vec<Vec<Row>>) -> Vec<String> {
        let wanted = Wanted { statuses: None, body_format: Some("storage".to_owned()) };
        let mut wrong = Vec::new();
        for (stream, mut rows) in STREAMS.into_iter().zip(tables) {
            let key = &self.spec.streams[stream].key;
            let mut keys = BTreeSet::new();
            let twice = rows.iter().find(|row| !keys.insert(key_of(row, key)));
            wrong.extend(twice.map(|row| format!("{stream}: {} is there twice", key_of(row, key))));
            rows.retain(|row| row["_weir_deleted_at"].is_null());
            let truth = self.simulator.truth_of(stream, &wanted).unwrap();
            wrong.extend(super::truth::differences(&self.spec, stream, &rows, truth));
        }
        wrong
    }

    /// The rows of all tables in a database, where the object is the stream's name.
    pub(crate) async fn in_postgres(&self, database: &Database) -> Vec<Vec<Row>> {
        let mut tables = Vec::new();
        for stream in STREAMS {
            let columns = self.spec.streams[stream].columns.iter();
            let mut columns: Vec<Column> =
                columns.map(|(name, column)| Column::new(name, column.kind)).collect();
            columns.push(Column::new("_weir_deleted_at", ColumnType::Timestamp));
            let schema = TableSchema { columns, key: Vec::new() };
            tables.push(database.rows(stream, &schema).await.unwrap_or_default());
        }
        tables
    }

    /// The rows of all Parquet files in a folder.
    pub(crate) fn in_files(folder: &Path) -> Vec<Vec<Row>> {
        let read = |stream| parquet(&folder.join(format!("{stream}.parquet")));
        STREAMS.into_iter().map(|stream| read(stream).unwrap_or_default()).collect()
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The rows of a file, if it is there.
pub(crate) fn parquet(path: &Path) -> Option<Vec<Row>> {
    let file = File::open(path).ok()?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let broken = |error| panic!("{}: {error}", path.display());
    let batches = reader.map(|batch| batch.unwrap_or_else(broken));
    Some(batches.flat_map(|batch| super::rows::read(&batch)).collect())
}

/// A run that goes on. Dropped, it is killed.
pub(crate) struct Process {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    listening: Option<JoinHandle<()>>,
}

impl Process {
    /// Waits until something holds, or the process ends: its status then.
    pub(crate) async fn until(&mut self, holds: impl Fn(&Self) -> bool) -> Option<ExitStatus> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            if holds(self) {
                return None;
            }
            assert!(Instant::now() < end, "it does not come about: {}", self.said().join("\n"));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits for its end: its exit code, and what it said.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        let status = self.until(|_| false).await.unwrap();
        (status.code(), self.last_words())
    }

    /// Kills it with SIGKILL. Whether it was still alive, and what it said.
    pub(crate) fn kill(mut self) -> (ExitStatus, String) {
        self.child.kill().unwrap();
        (self.child.wait().unwrap(), self.last_words())
    }

    fn last_words(&mut self) -> String {
        self.listening.take().unwrap().join().unwrap();
        self.said().join("\n")
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Streams that have ended in this process, as it says.
    pub(crate) fn ended(&self) -> usize {
        self.said.lock().unwrap().iter().filter(|line| line.contains(": done: ")).count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
