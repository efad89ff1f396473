//! A listing of pages over a loopback socket into JSONL, against the plain drain of the same URLs in the
//! same minute. Prints rows a second and the ratio; asserts on neither.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![expect(clippy::print_stdout, reason = "what a benchmark measures goes to stdout")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

const PAGES: usize = 10_000;
const ROUNDS: usize = 3;

/// A simulated site in a process of its own.
struct Site {
    child: Child,
    url: String,
}

impl Site {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["sim", "confluence", "--listen", "127.0.0.1:0", "--json"])
            .args(["--pages", &PAGES.to_string(), "--body-bytes", "4096"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut text = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            text.push_str(&line.unwrap());
            if text.ends_with('}') {
                break;
            }
        }
        let said: Value = serde_json::from_str(&text).unwrap();
        Self { child, url: said["url"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn main() {
    let site = Site::start();
    let folder = tempfile::tempdir().unwrap();
    let replication = write_replication(folder.path(), &site.url);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The client that drains needs a provider for TLS although it speaks none.
    drop(rustls::crypto::ring::default_provider().install_default());
    for _ in 0..ROUNDS {
        let (drained, bytes) = runtime.block_on(drain(&site.url));
        let started = Instant::now();
        let status = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["sync", "run", "--quiet"])
            .arg(&replication)
            .current_dir(folder.path())
            .status()
            .unwrap();
        assert!(status.success());
        let ran = started.elapsed();
        let rows =
            fs::read_to_string(folder.path().join("out/pages.jsonl")).unwrap().lines().count();
        println!(
            "{rows} rows, {} MB: drain {:.2} s, into JSONL {:.2} s ({:.0} rows/s), ratio {:.2}",
            bytes / 1_000_000,
            drained.as_secs_f64(),
            ran.as_secs_f64(),
            f64::from(u32::try_from(rows).unwrap()) / ran.as_secs_f64(),
            ran.as_secs_f64() / drained.as_secs_f64(),
        );
    }
}

fn write_replication(folder: &Path, url: &str) -> std::path::PathBuf {
    let path = folder.join("replication.yaml");
    let connection = format!(
        "{{type: api, spec: confluence, domain: acme.atlassian.net, email: a@b.c, api_token: t, site_url: '{url}'}}"
    );
    let text = format!(
        "source: WIKI\ntarget: OUT\ndefaults: {{ object: '{{stream_name}}.jsonl' }}\nstreams: {{ pages: }}\n\
         limits: {{ requests_per_second: 0, concurrency: 8 }}\n\
         env:\n  WIKI: \"{connection}\"\n  OUT: '{{type: files, url: out}}'\n"
    );
    fs::write(&path, text).unwrap();
    path
}

/// Reads all pages and does nothing with them but find the next.
async fn drain(url: &str) -> (Duration, usize) {
    let client = reqwest::Client::new();
    let started = Instant::now();
    let mut bytes = 0;
    let mut next = Some(format!(
        "{url}/wiki/api/v2/pages?limit=250&body-format=storage&status=current,archived"
    ));
    while let Some(page) = next {
        let body = client.get(page).send().await.unwrap().bytes().await.unwrap();
        bytes += body.len();
        let tail = &body[body.len().saturating_sub(2000)..];
        let tail = String::from_utf8_lossy(tail);
        let link = tail.split_once("\"next\":\"").and_then(|(_, rest)| rest.split_once('"'));
        next = link.map(|(path, _)| format!("{url}{path}"));
    }
    (started.elapsed(), bytes)
}
