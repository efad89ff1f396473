//! What a run says of itself, and where nobody can hear it.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use weir::report::{Event, Figures, StreamStatus};

use crate::support::{
    fake::{Fake, Reply},
    postgres::Database,
    user::{Site, TO_FILES, User, ended},
};

const SIMULATED: &str = "{type: api, spec: confluence, simulate: {}}";

const SPEC: &str = "
name: shop
base_url: https://shop.test/v1/
test: { get: /ping }
streams:
  orders:
    { doc: An order., get: /orders, key: [id], columns: { id: int, title: int, note: { text: more.note } } }
";

/// A user with a replication of a simulated site into files.
fn user() -> User {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    user
}

#[test]
fn a_log_has_a_head_and_a_time_in_every_line() {
    let user = user();
    let run = ["sync", "run", "r.yaml", "--streams", "spaces,pages"];
    let output = user.weir(&run).env("WIKI", SIMULATED).output().unwrap();
    let (_, err) = ended(&output, 0);
    let summary = err.find("stream ").unwrap();
    let lines: Vec<&str> = err.get(..summary).unwrap().lines().collect();
    let stamped = |line: &&str| {
        let time = line.split(' ').next().unwrap();
        time.len() == 20 && time.ends_with('Z') && time.contains('T')
    };
    assert!(lines.len() > 4 && lines.iter().all(stamped), "{err}");
    let head = lines[0];
    for part in ["weir 0.", "replication `r`", "run 2", "WIKI (confluence, simulated)", "OUT (out)"]
    {
        assert!(head.contains(part), "{part}: {head}");
    }
}

#[test]
fn every_json_line_has_a_level_and_names_the_replication_and_its_run() {
    let user = user();
    let run = ["sync", "run", "r.yaml", "--streams", "spaces,pages", "--log-format", "json"];
    let output = user.weir(&run).env("WIKI", SIMULATED).output().unwrap();
    let (_, err) = ended(&output, 0);
    let lines: Vec<Value> = err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        assert!(["INFO", "WARN", "ERROR"].map(Value::from).contains(&line["level"]), "{line}");
        assert_eq!(line["replication"], "r", "{line}");
        assert_ne!(line["event"], "progress", "{line}");
    }
    let begun = lines.iter().position(|line| line["event"] == "run_started").unwrap();
    let started = &lines[begun];
    assert!(started["version"].is_string() && started["target"].is_string(), "{started}");
    assert!(started["planned"]["requests"].is_u64(), "{started}");
    let id = &started["run_id"];
    assert!(
        id.is_string() && lines[begun..].iter().all(|line| line["run_id"] == *id),
        "{lines:#?}"
    );
    assert_eq!(lines.last().unwrap()["event"], "run_finished");
}

#[test]
fn a_run_that_hears_nothing_says_for_whom_it_waits() {
    let user = user();
    let site = Site::start(&["--latency-ms", "11000"]);
    let run = ["sync", "run", "r.yaml", "--streams", "groups"];
    let output = user.weir(&run).env("WIKI", site.connection("any")).output().unwrap();
    let (_, err) = ended(&output, 0);
    let line =
        err.lines().find(|line| line.contains("running: ")).unwrap_or_else(|| panic!("{err}"));
    assert!(line.contains("waiting for responses from the API (groups)"), "{line}");
    assert!(line.contains(" of ~") && !line.contains("page"), "{line}");
}

#[tokio::test]
async fn live_figures_end_as_those_of_the_report() {
    let fake = Fake::new(SPEC, |_| Reply::json(&json!([{ "id": 1 }, { "id": 2 }])));
    let ran = fake.run().await;
    let last = ran.events.iter().rev().find_map(|event| match event {
        Event::Progress { stream, figures } if stream == "orders" => Some(*figures),
        _ => None,
    });
    let report = ran.stream("orders");
    assert_eq!(last.unwrap(), Figures::of(report));
    assert_eq!((report.rows, report.requests), (2, 1));
    let planned = ran.events.iter().find_map(|event| match event {
        Event::RunStarted { planned, .. } => *planned,
        _ => None,
    });
    assert_eq!(planned, ran.report.planned);
}

#[test]
fn a_full_disk_is_a_failure_whatever_is_printed() {
    let user = user();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for arguments in [
        &["spec", "show", "confluence"][..],
        &["schema", "spec"],
        &["completions", "bash"],
        &["conns", "list", "--json"],
        &["sync", "run", "r.yaml", "--streams", "spaces", "--json"],
    ] {
        let output = user.weir(arguments).env("WIKI", SIMULATED).stdout(full()).output().unwrap();
        let (_, err) = ended(&output, 1);
        assert!(err.contains("error: the output could not be written: "), "{arguments:?}: {err}");
    }
}

#[test]
fn a_reader_that_has_gone_is_told_nothing() {
    let user = user();
    for arguments in [&["spec", "show", "confluence"][..], &["conns", "list", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = user.weir(arguments).env("WIKI", SIMULATED).stdout(writer).output().unwrap();
        let (_, err) = ended(&output, 0);
        assert_eq!(err, "", "{arguments:?}");
    }
}

#[test]
fn a_command_that_fails_still_prints_an_object() {
    let user = user();
    let nowhere = SIMULATED.replace("simulate: {}", "domain: a.test, email: a@b.c");
    for (arguments, code, part) in [
        (&["sync", "run", "missing.yaml", "--json"][..], 2, "missing.yaml"),
        (&["sync", "run", "r.yaml", "--json"], 2, "api_token"),
        (&["sync", "plan", "r.yaml", "--json"], 2, "api_token"),
        (&["sync", "status", "r.yaml", "--json"], 2, "api_token"),
        (&["conns", "discover", "NOBODY", "--json"], 2, "NOBODY"),
    ] {
        let output = user.weir(arguments).env("WIKI", &nowhere).output().unwrap();
        let (out, _) = ended(&output, code);
        let found: Value =
            serde_json::from_str(&out).unwrap_or_else(|_| panic!("{arguments:?}: {out}"));
        assert_eq!((&found["status"], &found["exit_code"]), (&"failed".into(), &code.into()));
        assert!(found["errors"][0].to_string().contains(part), "{found}");
    }
}

/// A run of a slow site that has begun to read.
fn under_way(command: &mut Command) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("started") {
        line.clear();
        assert!(err.read_line(&mut line).unwrap() > 0, "it ended early");
    }
    (child, err)
}

fn hang_up(child: &Child) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
}

#[test]
fn a_terminal_that_goes_away_ends_a_run_as_sigterm_does() {
    let user = user();
    let site = Site::start(&["--latency-ms", "400"]);
    let run = ["sync", "run", "r.yaml", "--streams", "pages,page_versions"];
    let mut command = user.weir(&run);
    let (mut child, err) = under_way(command.env("WIKI", site.connection("any")));
    hang_up(&child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let said = err.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n");
    assert!(said.contains("interrupted: "), "{said}");
}

#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    let user = user();
    let site = Site::start(&["--latency-ms", "200"]);
    let mut command = Command::new("nohup");
    command.args([env!("CARGO_BIN_EXE_weir"), "sync", "run", "r.yaml", "--streams", "spaces"]);
    command.current_dir(user.folder.path()).env_clear().env("PATH", "/usr/bin:/bin");
    command.env("HOME", user.folder.path()).env("WIKI", site.connection("any"));
    let (mut child, err) = under_way(&mut command);
    hang_up(&child);
    let said = err.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert!(fs::exists(user.path("out/spaces.jsonl")).unwrap());
}

#[tokio::test]
async fn misfits_are_told_per_column_and_a_column_of_misfits_is_a_warning() {
    let fake = Fake::new(SPEC, |_| {
        let title = |id: i64| if id == 3 { json!(7) } else { json!("seven") };
        let more = |id: i64| if id == 1 { json!({ "note": [1] }) } else { json!({ "note": "n" }) };
        let row = |id| json!({ "id": id, "title": title(id), "more": more(id) });
        Reply::json(&(1..=3).map(row).collect())
    });
    let ran = fake.run().await;
    let report = ran.stream("orders");
    assert_eq!((report.status, report.misfits), (StreamStatus::Done, 3));
    let columns = &report.columns;
    assert_eq!(
        columns.keys().collect::<Vec<_>>(),
        ["note", "title"],
        "others have nothing to tell"
    );
    let (title, note) = (&columns["title"], &columns["note"]);
    assert_eq!((title.kind.as_str(), title.values, title.misfits, title.kept), ("int", 3, 2, true));
    assert_eq!((note.values, note.misfits), (3, 1));
    assert!(title.is_mostly_misfits() && !note.is_mostly_misfits());
    assert_eq!(fake.column("orders", "title"), [Value::Null, Value::Null, json!(7)]);
    let kept = fake.column("orders", "_extra");
    assert_eq!(kept[1], json!({ "title": "seven" }));
}

#[test]
fn a_type_that_fits_nothing_is_the_first_thing_that_a_summary_says() {
    let user = User::new();
    user.write("r.yaml", &TO_FILES.replace("{ '*': }", "{ pages: { columns: { title: int } } }"));
    let output = user.weir(&["sync", "run", "r.yaml"]).env("WIKI", SIMULATED).output().unwrap();
    let (_, err) = ended(&output, 0);
    let warning = err.find("warning: pages: `title`: ").unwrap_or_else(|| panic!("{err}"));
    assert!(warning < err.find("stream ").unwrap(), "{err}");
    assert!(err.contains(" do not fit the type `int`: they are kept in `_extra`"), "{err}");
    let output = user.weir(&["sync", "run", "r.yaml", "-q"]).env("WIKI", SIMULATED).output();
    assert!(ended(&output.unwrap(), 0).1.starts_with("warning: pages: `title`"), "also when quiet");
}

#[tokio::test]
async fn what_postgres_cannot_hold_is_told_per_column() {
    let database = Database::new().await;
    let fake = Fake::new(SPEC, |_| {
        Reply::raw(
            200,
            r#"[{ "id": 1, "more": { "note": "a\u0000b" } }, { "id": 2, "more": { "note": "\u0000" } },
                { "id": 3, "more": { "note": "whole" }, "odd": "\ud800" }]"#,
        )
    });
    let ran = fake.into_postgres(database.options()).run().await;
    let columns = &ran.stream("orders").columns;
    let replaced: Vec<_> =
        columns.iter().map(|(name, one)| (name.as_str(), one.replaced)).collect();
    assert_eq!(replaced, [("_extra", 1), ("note", 2)]);
    let notes = database.texts("SELECT note FROM public.orders ORDER BY id").await;
    assert_eq!(notes, ["a\u{fffd}b", "\u{fffd}", "whole"]);
}

#[test]
fn status_shows_the_rows_of_the_tables_in_a_shape_that_is_documented() {
    let user = User::new();
    let incremental = TO_FILES.replace("object:", "mode: incremental, object:");
    user.write(
        "r.yaml",
        &incremental.replace("streams: { '*': }", "streams: { pages: , spaces: }"),
    );
    let site = Site::start(&["--churn-every", "1", "--pages", "600"]);
    let run = |words: &[&str]| {
        let output = user.weir(words).env("WIKI", site.connection("any")).output().unwrap();
        ended(&output, 0).0
    };
    run(&["sync", "run", "r.yaml"]);
    let again: Value = serde_json::from_str(&run(&["sync", "run", "r.yaml", "--json"])).unwrap();
    let status: Value =
        serde_json::from_str(&run(&["sync", "status", "r.yaml", "--json"])).unwrap();
    let text = fs::read_to_string(user.path("out/pages.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let live = rows.iter().filter(|row| row["_weir_deleted_at"].is_null()).count();
    let pages = status["streams"].as_array().unwrap().iter().find(|one| one["stream"] == "pages");
    let pages = pages.unwrap();
    assert_eq!(pages["rows"], live, "{pages}");
    let read = again["streams"].as_array().unwrap().iter().find(|one| one["stream"] == "pages");
    assert_ne!(read.unwrap()["rows"], pages["rows"], "the last run read what had changed");
    let schema: Value = serde_json::from_str(&run(&["schema", "status"])).unwrap();
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    let problems: Vec<String> =
        schema.iter_errors(&status).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(!schema.is_valid(&json!({ "streams": {} })));
    assert!(run(&["sync", "status", "r.yaml"]).contains(&format!("  {live}  ")));
}
