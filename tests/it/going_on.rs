//! Runs that go on with earlier ones, as a user sees them: interrupted, locked, refused, reset.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::support::user::{Site, TO_FILES, User, ended, visible};

const STREAMS: [&str; 2] = ["--streams", "pages,page_labels"];

fn run(user: &User, site: &str, words: &[&str]) -> Command {
    let mut command = user.weir(&[&["sync", "run", "r.yaml"], &STREAMS[..], words].concat());
    command.env("WIKI", site);
    command
}

fn report(user: &User, site: &str, words: &[&str], code: i32) -> Value {
    let words = [words, &["--json"]].concat();
    let (out, _) = ended(&run(user, site, &words).output().unwrap(), code);
    serde_json::from_str(&out).unwrap()
}

fn report_of(user: &User, site: &str) -> Value {
    report(user, site, &[], 0)
}

fn stream<'report>(report: &'report Value, name: &str) -> &'report Value {
    let streams = report["streams"].as_array().unwrap();
    streams.iter().find(|stream| stream["stream"] == name).unwrap()
}

/// A run that has listed all pages and is at their labels, and what else it says.
fn under_way(user: &User, site: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    started(user, site, "pages: done")
}

/// A run that has said this, and what else it says.
fn started(user: &User, site: &str, said: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = run(user, site, &[]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    // A time stands before it.
    lines.find(|line| line.contains(said)).unwrap();
    (child, lines)
}

fn interrupt(mut child: Child, lines: impl Iterator<Item = String>) -> Vec<String> {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    let said = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    said
}

/// A run that was interrupted while it read labels: its site, and what it said at the end.
fn interrupted(user: &User) -> (Site, Vec<String>) {
    let site = Site::start(&["--pages", "400", "--latency-ms", "20"]);
    let (child, lines) = under_way(user, &site.connection("any"));
    (site, interrupt(child, lines))
}

fn status(user: &User, words: &[&str]) -> String {
    let command = [&["sync", "status", "r.yaml"], words].concat();
    let output =
        user.weir(&command).env("WIKI", "{type: api, spec: confluence, simulate: {}}").output();
    ended(&output.unwrap(), 0).0
}

#[test]
fn an_interrupted_run_is_gone_on_with() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    assert_eq!(status(&user, &[]), "no saved state for `r`\n");
    let (site, said) = interrupted(&user);
    let site = site.connection("any");
    let end = said.last().unwrap();
    assert!(end.ends_with("the progress is saved: run again to resume"), "{said:?}");
    let status: Value = serde_json::from_str(&status(&user, &["--json"])).unwrap();
    let run = status["open_run"]["run_id"].as_str().unwrap().to_owned();
    let labels = status["streams"].as_array().unwrap().iter();
    let labels = labels.clone().find(|stream| stream["stream"] == "page_labels").unwrap();
    assert_eq!((&labels["state"], &labels["rows"]), (&"open".into(), &Value::Null));
    let before = labels["open"]["requests"].as_u64().unwrap();
    assert!(before > 0);

    let report = report_of(&user, &site);
    assert_eq!((&report["continued"], &report["run_id"]), (&true.into(), &run.into()));
    assert_eq!(stream(&report, "pages")["earlier"], true);
    let labels = stream(&report, "page_labels");
    let clean = User::new();
    clean.write("r.yaml", TO_FILES);
    let whole = report_of(&clean, &site);
    let requests = |labels: &Value| labels["requests"].as_u64().unwrap();
    let (asked, least) = (requests(labels), requests(stream(&whole, "page_labels")));
    // Those under way at the end were in vain.
    assert!((least..=least + 8).contains(&asked), "{asked} requests, {least} are enough");
    let rows = fs::read_to_string(user.path("out/page_labels.jsonl")).unwrap().lines().count();
    assert_eq!(labels["rows"].as_u64().unwrap(), rows as u64);
    let said: Value = serde_json::from_str(&self::status(&user, &["--json"])).unwrap();
    let streams = said["streams"].as_array().unwrap();
    let labels = streams.iter().find(|stream| stream["stream"] == "page_labels").unwrap();
    assert_eq!((&labels["rows"], &labels["open"]), (&(rows as u64).into(), &Value::Null));
}

#[test]
fn a_site_that_goes_away_costs_nothing_that_was_read() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let options = ["--pages", "400", "--latency-ms", "20"];
    let site = Site::start(&options);
    let (address, wiki) = (site.url.replace("http://", ""), site.connection("any"));
    let (mut child, lines) = under_way(&user, &wiki);
    drop(site);
    let said: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(said.iter().any(|line| line.contains("page_labels: failed: ")), "{said:?}");
    assert!(said.last().unwrap().ends_with("run again to resume"), "{said:?}");
    let _site = Site::at(&address, &options);
    let report = report_of(&user, &wiki);
    assert_eq!(report["continued"], true);
    assert_eq!(stream(&report, "pages")["earlier"], true);
    assert_eq!(stream(&report, "page_labels")["complete"], true);
}

#[test]
fn a_staging_that_somebody_removed_is_read_anew() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let (site, _) = interrupted(&user);
    let site = site.connection("any");
    let hidden: Vec<_> =
        fs::read_dir(user.path("out/.weir/stage")).unwrap().map(|entry| entry.unwrap()).collect();
    let area = hidden.iter().find(|entry| {
        let name = entry.file_name().into_string().unwrap();
        name.contains("labels")
    });
    fs::remove_dir_all(area.unwrap().path()).unwrap();
    let report = report_of(&user, &site);
    assert_eq!(report["continued"], true);
    assert_eq!(stream(&report, "pages")["earlier"], true);
    let labels = stream(&report, "page_labels");
    assert_eq!(labels["complete"], true);
    assert_eq!(labels["notices"][0]["kind"], "read_again", "{labels}");
}

#[test]
fn fresh_starts_over() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let (site, _) = interrupted(&user);
    let site = site.connection("any");
    let report = report(&user, &site, &["--fresh"], 0);
    assert_eq!(report["continued"], false);
    assert_eq!(stream(&report, "pages")["earlier"], false);
}

#[test]
fn two_runs_of_a_replication_do_not_go_on_at_once() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let site = Site::start(&["--pages", "2000", "--latency-ms", "50"]);
    let site = site.connection("any");
    let (mut child, _lines) = under_way(&user, &site);
    let (_, err) = ended(&run(&user, &site, &[]).output().unwrap(), 4);
    let holder = format!("(process {} on ", child.id());
    for part in ["another run of `r` is in progress: run ", &holder, ", since 20"] {
        assert!(err.contains(part), "{err}");
    }
    // Who died holds nothing.
    child.kill().unwrap();
    child.wait().unwrap();
    let (child, lines) = started(&user, &site, "page_labels: started");
    interrupt(child, lines);
}

#[test]
fn refused_slices_are_asked_for_again_and_nothing_else() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let whole = "{type: api, spec: confluence, simulate: {pages: 40}}";
    let faulty = whole.replace("40", "40, faults: ['403=0.3@/labels']");
    let first = report(&user, &faulty, &["--route", "page_labels=own"], 3);
    let refused = first["errors"].as_array().unwrap().len();
    assert!(refused > 0);
    let errors = || fs::read_to_string(user.path("out/_weir_errors.jsonl")).unwrap();
    let rows: Vec<Value> = errors().lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(rows.len(), refused);
    assert_eq!((&rows[0]["stream"], &rows[0]["status"]), (&"page_labels".into(), &403.into()));
    let told = status(&user, &[]);
    let row = told.lines().find(|line| line.starts_with("page_labels")).unwrap();
    assert!(
        row.contains(&format!(" {refused}")) && told.contains("`weir sync retry-failed`"),
        "{told}"
    );

    let retry = || {
        let mut command = user.weir(&["sync", "retry-failed", "r.yaml", "--json"]);
        let (out, _) = ended(&command.env("WIKI", whole).output().unwrap(), 0);
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let again = retry();
    assert_eq!(again["streams"].as_array().unwrap().len(), 1);
    assert_eq!(stream(&again, "page_labels")["requests"], refused as u64);
    assert_eq!(errors(), "");
    assert_eq!(retry()["streams"].as_array().unwrap().len(), 0);

    let clean = User::new();
    clean.write("r.yaml", TO_FILES);
    report(&clean, whole, &[], 0);
    let keys = |user: &User| {
        let text = fs::read_to_string(user.path("out/page_labels.jsonl")).unwrap();
        let mut keys: Vec<String> = text
            .lines()
            .map(|row| serde_json::from_str::<Value>(row).unwrap())
            .map(|row| format!("{}/{}", row["page_id"], row["id"]))
            .collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&user), keys(&clean));
}

#[test]
fn a_reset_asks_first_and_leaves_the_tables() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let site = "{type: api, spec: confluence, simulate: {pages: 20}}";
    report(&user, site, &[], 0);
    let reset = |words: &[&str], code| {
        let command = [&["sync", "reset", "r.yaml"], words].concat();
        ended(&user.weir(&command).env("WIKI", site).output().unwrap(), code)
    };
    let (_, err) = reset(&[], 2);
    assert!(err.contains("hint: add `--yes` if there is no terminal"), "{err}");
    let (out, _) = reset(&["--streams", "page_l*", "--yes"], 0);
    assert_eq!(out, "deleted the saved state of 1 stream; the next run reads it from the start\n");
    let told = status(&user, &[]);
    assert!(told.contains("\npages ") && !told.contains("page_labels"), "{told}");
    reset(&["--yes"], 0);
    assert_eq!(status(&user, &[]), "no saved state for `r`\n");
    assert_eq!(visible(&user.path("out")), ["page_labels.jsonl", "pages.jsonl"]);
}

#[test]
fn state_is_kept_where_the_replication_says() {
    let user = User::new();
    let incremental = TO_FILES
        .replace("defaults: {", "name: wiki\nstate: ./memory\ndefaults: { mode: incremental,");
    user.write("r.yaml", &incremental);
    let site = "{type: api, spec: confluence, simulate: {pages: 20}}";
    let first = report(&user, site, &[], 0);
    assert_eq!(stream(&first, "pages")["reach"], "everything");
    assert!(!user.path("out/.weir/state").exists());
    assert!(user.path("memory/.weir/state").exists());
    let second = report(&user, site, &[], 0);
    assert!(stream(&second, "pages")["reach"].as_str().unwrap().starts_with("changes since 20"));
    let lines = |name: &str| fs::read_to_string(user.path(name)).unwrap().lines().count() as u64;
    assert_eq!(stream(&first, "pages")["rows"], lines("out/pages.jsonl"));
    fs::remove_dir_all(user.path("memory")).unwrap();
    let third = report(&user, site, &[], 0);
    assert_eq!(stream(&third, "pages")["reach"], "everything");
    assert_eq!(stream(&first, "pages")["rows"], lines("out/pages.jsonl"));
}
