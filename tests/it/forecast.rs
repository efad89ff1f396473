//! `weir sync plan` as a user sees it, and what a run says of what was planned.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::postgres::Database;
use crate::support::user::{Site, TO_FILES, User, ended, visible};

/// A site that nobody can reach: whoever asks it anything fails.
const NOWHERE: &str =
    "{type: api, spec: confluence, domain: nowhere.invalid, email: a@b.c, api_token: x}";

fn user() -> User {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    user
}

#[test]
fn a_plan_asks_nobody_and_writes_nothing() {
    let user = user();
    let plan = |more: &[&str]| {
        let arguments = [&["sync", "plan", "r.yaml"], more].concat();
        let output = user.weir(&arguments).env("WIKI", NOWHERE).output().unwrap();
        ended(&output, 0).0
    };
    plan(&[]);
    plan(&["--mode", "backfill", "--range", "2026-01-01,2026-02-01", "--streams", "pages"]);
    let found: Value = serde_json::from_str(&plan(&["--json", "--streams", "pages"])).unwrap();
    assert_eq!(found["replication"], "r");
    assert_eq!(found["continues"], Value::Null);
    let pages = &found["streams"][0];
    assert_eq!((&pages["stream"], &pages["route"]), (&"pages".into(), &"own".into()), "{found}");
    assert!(pages["requests"].as_u64().unwrap() > 0 && pages["assumed"] == true, "{found}");
    assert!(found["naive"]["points"].is_u64() && found["pace"]["until"].is_string(), "{found}");
    assert_eq!(visible(user.folder.path()), ["r.yaml"]);
}

#[test]
fn a_run_tells_what_the_plan_had_told_and_what_it_came_to() {
    let user = User::new();
    let incremental = TO_FILES.replace("object:", "mode: incremental, object:");
    user.write("r.yaml", &incremental);
    let site = Site::start(&["--pages", "20"]);
    let weir = |arguments: &[&str]| {
        let mut command = user.weir(arguments);
        let output = command.arg("r.yaml").env("WIKI", site.connection("any")).output().unwrap();
        ended(&output, 0)
    };
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&weir(arguments).0).unwrap() };
    for assumed in [true, false] {
        let streams = ["--streams", "spaces,pages,page_labels", "--json"];
        let plan = json(&[&["sync", "plan"], &streams[..]].concat());
        let report = json(&[&["sync", "run"], &streams[..]].concat());
        assert_eq!(plan["total"], report["planned"]);
        assert_eq!(plan["total"]["assumed"], assumed, "{plan}");
        let names = |of: &Value| -> Vec<(Value, Value)> {
            let streams = of["streams"].as_array().unwrap().iter();
            let read = streams.filter(|one| one["status"] != "fresh");
            read.map(|one| (one["stream"].clone(), one["route"].clone())).collect()
        };
        assert_eq!(names(&plan), names(&report));
    }
    let (_, err) = weir(&["sync", "run", "--streams", "spaces"]);
    assert!(err.contains("\nplanned 1 request, sent 1 (as planned)\ndone\n"), "{err}");
    let (out, _) = weir(&["sync", "plan", "--streams", "spaces", "--mode", "full-refresh"]);
    insta::assert_snapshot!(out.trim_end(), @r"
    stream  route  reads       slices  requests  why
    spaces  own    everything       1         1  the only route
    total                                     1
    pace: 0.2s with 8 under way, if answers come within 0.2s
    naive: 1 request for everything by each stream's own requests
    ");
    let (_, err) = weir(&["sync", "run", "--streams", "spaces", "--limit", "2"]);
    assert!(!err.contains("planned"), "{err}");
}

#[test]
fn a_route_that_is_not_there_is_refused_with_those_that_are() {
    let user = user();
    for command in ["run", "plan"] {
        for (route, parts) in [
            ("page_labels=sarch", &["this route is not known", "own, fused, search, inverted"][..]),
            ("page_label=search", &["has no stream `page_label`", "did you mean `page_labels`"]),
            ("page_versions=derived", &["the run does not read `page_versions`", "--streams"]),
            ("page_labels", &["a stream and one of its routes"]),
        ] {
            let arguments = ["sync", command, "r.yaml", "--streams", "page_labels", "--route"];
            let output = user.weir(&arguments).arg(route).env("WIKI", NOWHERE).output().unwrap();
            let (_, err) = ended(&output, 2);
            for part in parts {
                assert!(err.contains(part), "{route}: {part}: {err}");
            }
        }
    }
    assert_eq!(visible(user.folder.path()), ["r.yaml"]);
}

#[test]
fn a_route_can_be_chosen() {
    let user = user();
    let wiki = "{type: api, spec: confluence, simulate: {pages: 20}}";
    for route in ["own", "search", "fused"] {
        let chosen = format!("page_labels={route}");
        let arguments =
            ["sync", "run", "r.yaml", "--streams", "page_labels", "--json", "--route", &chosen];
        let output = user.weir(&arguments).env("WIKI", wiki).output().unwrap();
        let report: Value = serde_json::from_str(&ended(&output, 0).0).unwrap();
        let streams = report["streams"].as_array().unwrap();
        let labels = streams.iter().find(|one| one["stream"] == "page_labels").unwrap();
        assert_eq!(labels["route"], *route);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_for_an_empty_database_leaves_it_empty() {
    let database = Database::new().await;
    let user = User::new();
    let text = TO_FILES.replace("{stream_name}.jsonl", "wiki.{stream_name}");
    user.write("r.yaml", &text.replace("{type: files, url: out}", &database.url()));
    let output = user.weir(&["sync", "plan", "r.yaml"]).env("WIKI", NOWHERE).output().unwrap();
    let (out, err) = ended(&output, 0);
    assert!(out.contains("\n~: assumed, since no run has shown yet") && err.is_empty(), "{err}");
    let made = "SELECT count(*)::text FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace \
                WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'";
    assert_eq!(database.text(made).await, "0");
}

#[test]
fn a_target_that_cannot_be_reached_is_an_error() {
    let user = User::new();
    user.write(
        "r.yaml",
        &TO_FILES.replace("{type: files, url: out}", "postgres://me@127.0.0.1:1/x"),
    );
    let output = user.weir(&["sync", "plan", "r.yaml"]).env("WIKI", NOWHERE).output().unwrap();
    let (out, err) = ended(&output, 1);
    assert_eq!(out, "");
    assert!(err.starts_with("error: ") && err.contains("127.0.0.1:1"), "{err}");
    assert!(err.contains("\nhint: "), "{err}");
}

#[test]
fn a_run_that_has_not_ended_is_part_of_the_plan() {
    let user = user();
    let site = Site::start(&["--pages", "1000", "--latency-ms", "40"]);
    let streams = ["--streams", "pages,page_labels"];
    let weir = |arguments: &[&str]| {
        let mut command = user.weir(arguments);
        command.args(["r.yaml"]).env("WIKI", site.connection("any"));
        command
    };
    let plan = |more: &[&str], code| {
        let output = weir(&["sync", "plan"]).args(more).output().unwrap();
        ended(&output, code)
    };
    let run = ["sync", "run", "--route", "page_labels=own", "--json"];
    let mut child =
        weir(&run).args(streams).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("pages: done")));
    // The run has the lock; a plan needs none.
    let json = [&streams[..], &["--json"]].concat();
    let during: Value = serde_json::from_str(&plan(&json, 0).0).unwrap();
    assert!(during["continues"]["run_id"].is_string(), "{during}");
    let sent = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
    let rest: Vec<String> = lines.collect();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{rest:?}");
    let begun: Value = serde_json::from_slice(&output.stdout).unwrap();
    let after: Value = serde_json::from_str(&plan(&json, 0).0).unwrap();
    assert_eq!(after["continues"]["run_id"], during["continues"]["run_id"]);
    assert!(after["continues"]["requests"].as_u64().unwrap() > 8, "{after}");
    // Where a run would be refused, so is its plan; where it would begin anew, the plan says so.
    let (_, err) = plan(&["--streams", "spaces"], 2);
    assert!(err.contains("has not ended") && err.contains("--streams page_labels,pages"), "{err}");
    let other = [&json[..], &["--mode", "truncate"]].concat();
    let other: Value = serde_json::from_str(&plan(&other, 0).0).unwrap();
    assert_eq!(other["continues"], Value::Null);
    assert!(other["notes"][0].as_str().unwrap().contains("given up"), "{other}");
    // The run that goes on stands against what was planned when it began.
    let output = weir(&run).args(streams).output().unwrap();
    let whole: Value = serde_json::from_str(&ended(&output, 0).0).unwrap();
    assert_eq!((&whole["continued"], &whole["planned"]), (&true.into(), &begun["planned"]));
    assert!(begun["planned"]["assumed"] == true, "{begun}");
}
