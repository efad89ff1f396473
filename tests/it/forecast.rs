//! `weir sync plan` as a user sees it, and what a run says of what was planned.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use weir_sim::{Options, PointsQuota, QuotaHeaders, TenantChange};

use crate::support::postgres::Database;
use crate::support::process::{Reading, Workplace};
use crate::support::user::{Site, TO_FILES, User, ended, visible};
use crate::support::world::World;

/// A site that nobody can reach: whoever asks it anything fails.
const NOWHERE: &str =
    "{type: api, spec: confluence, domain: nowhere.invalid, email: a@b.c, api_token: x}";

fn user() -> User {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    user
}

#[test]
fn a_plan_reads_no_records_and_writes_nothing() {
    let user = user();
    let plan = |more: &[&str]| {
        let arguments = [&["sync", "plan", "r.yaml"], more].concat();
        let output = user.weir(&arguments).env("WIKI", NOWHERE).output().unwrap();
        ended(&output, 0)
    };
    // What nobody answers is assumed, and said once.
    let (out, err) = plan(&[]);
    assert!(out.contains("\n~ marks estimates of the number of records"), "{out}");
    let notes: Vec<&str> = err.lines().collect();
    assert_eq!(notes.len(), 1, "{err}");
    assert!(
        err.starts_with("note: the number of records could not be requested and is assumed: "),
        "{err}"
    );
    assert!(err.contains("nowhere.invalid"), "{err}");
    plan(&["--mode", "backfill", "--range", "2026-01-01,2026-02-01", "--streams", "pages"]);
    let found: Value = serde_json::from_str(&plan(&["--json", "--streams", "pages"]).0).unwrap();
    assert_eq!(found["replication"], "r");
    assert_eq!(found["continues"], Value::Null);
    let pages = &found["streams"][0];
    assert_eq!(
        (&pages["stream"], &pages["route"]),
        (&"pages".into(), &"default".into()),
        "{found}"
    );
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
    // How much there is, then how much has changed, is not known before.
    for _ in 0..3 {
        let streams = ["--streams", "spaces,pages,page_labels", "--json"];
        let plan = json(&[&["sync", "plan"], &streams[..]].concat());
        let report = json(&[&["sync", "run"], &streams[..]].concat());
        assert_eq!(plan["total"], report["planned"]);
        assert_eq!(plan["total"]["assumed"], true, "{plan}");
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
    stream  route    reads       slices  requests  why
    spaces  default  everything       1         1  the only route
    total                                       1
    duration: 0.2s with up to 8 in flight, if each response takes at most 0.2s
    baseline: 1 request for full reads by the default routes
    ");
    let (_, err) = weir(&["sync", "run", "--streams", "spaces", "--limit", "2"]);
    assert!(!err.contains("planned"), "{err}");
}

/// A tenant in this process, whose requests are logged.
async fn workplace(counts_points: bool, more: Options) -> Workplace {
    let headers = QuotaHeaders::Standard;
    let quota = Some(PointsQuota { per_hour: 70_000, headers, others: 0 });
    let quota = quota.filter(|_| counts_points);
    let options = Options { pages: 300, quota, log_entries: Some(100_000), ..more };
    let work = Workplace::new(options, None).await;
    work.replicate("{stream_name}.jsonl", "{}", Reading::Changes);
    if counts_points { work.counting_points() } else { work }
}

/// What `sync plan --json` says to a user with this home.
fn planned(work: &Workplace, home: &str) -> Value {
    let output = work.command(&["sync", "plan"], "replication.yaml", home).arg("--json").output();
    serde_json::from_str(&ended(&output.unwrap(), 0).0).unwrap()
}

/// The searches that count something.
fn counts(work: &Workplace) -> Vec<String> {
    let log = work.simulator.log();
    let urls = log.iter().map(|request| request.path.to_string());
    urls.filter(|url| url.ends_with("/rest/api/search")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_plan_and_a_first_run_ask_how_much_there_is_once_each() {
    let work = workplace(false, Options::default()).await;
    let plan = planned(&work, "");
    let asked = counts(&work);
    assert_eq!(asked.len(), 5, "{asked:#?}");
    assert_eq!(work.simulator.counters().requests, 5, "a plan asks nothing else");
    let one = |name: &str| {
        let streams = plan["streams"].as_array().unwrap();
        streams.iter().find(|one| one["stream"] == name).unwrap().clone()
    };
    let (requests, assumed) = (&one("pages")["requests"], &one("pages")["assumed"]);
    assert!(requests.as_u64().unwrap() <= 2 && assumed == true, "1,000 would be 4: {plan}");
    assert_eq!(one("page_footer_comments")["assumed"], true, "all comments are counted together");
    assert_eq!(one("tasks")["assumed"], true, "nobody can count them");
    let (exit, said) = work.start_with("replication.yaml", &JSON, "").end().await;
    assert_eq!(exit, Some(0), "{said}");
    assert_eq!(counts(&work).len(), 10);
    let finished = finished(&said);
    assert_eq!(finished["planned"], plan["total"]);
    let streams = finished["streams"].as_array().unwrap();
    let sent: u64 = streams.iter().map(|one| one["requests"].as_u64().unwrap()).sum();
    let told = plan["total"]["requests"].as_u64().unwrap();
    assert!((sent / 2..=sent * 2).contains(&told), "planned {told}, sent {sent}");
    // What is learnt is not asked again; what has changed since nobody knows yet.
    let again = planned(&work, "");
    assert_eq!(counts(&work).len(), 10);
    let streams = again["streams"].as_array().unwrap();
    for stream in streams {
        let since = stream["reach"].as_str().unwrap().contains("changed since ");
        let since = since || stream["reach"].as_str().unwrap().starts_with("changes since ");
        assert_eq!(stream["assumed"], since, "{stream}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_counted_for_a_few_rows_and_a_refusal_is_passed_over() {
    let refuses = vec![("/wiki/rest/api/search".to_owned(), 403)];
    let work = workplace(false, Options { refuses, ..Options::default() }).await;
    let plan = planned(&work, "");
    let notes = plan["notes"].as_array().unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].as_str().unwrap().contains("403"), "{notes:?}");
    assert_eq!(plan["total"]["assumed"], true);
    let (before, few) = (counts(&work).len(), ["--limit", "1", "--streams", "pages"]);
    let (exit, said) = work.start_with("replication.yaml", &few, "").end().await;
    assert_eq!((exit, counts(&work).len()), (Some(0), before), "{said}");
    let pages = ["--streams", "pages"];
    let (exit, said) = work.start_with("replication.yaml", &pages, "").end().await;
    assert_eq!((exit, counts(&work).len()), (Some(0), before + 1), "{said}");
    assert!(!said.contains("403"), "a run says nothing of it: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_what_is_spent_of_the_hour_and_goes_on_from_there() {
    loop {
        let work = workplace(true, Options::default()).await;
        let begun = hour();
        let first = planned(&work, "");
        // The counts are paid like any other request, and told of by the API's headers.
        let told = &first["hour"];
        assert_eq!(told["spent"], work.simulator.counters().points, "{told}");
        let (exit, said) = work.start_with("replication.yaml", &[], "").end().await;
        assert_eq!(exit, Some(0), "{said}");
        let (spent, plan) = (work.simulator.counters().points, planned(&work, ""));
        if hour() != begun {
            continue;
        }
        let told = &plan["hour"];
        let figures = (&told["spent"], &told["limit"], &told["limit_from"], &told["left"]);
        let left = 70_000 - spent;
        assert_eq!(figures, (&spent.into(), &70_000.into(), &"api".into(), &left.into()));
        assert_eq!(plan["pace"]["points_per_hour"], 70_000);
        assert_eq!(work.simulator.counters().points, spent, "nothing is asked, nothing is spent");
        // Less is left than the next run needs, so that it ends after this hour.
        let text = fs::read_to_string(work.path("replication.yaml")).unwrap();
        let text = text.replace("mode: incremental", "mode: full-refresh");
        fs::write(work.path("replication.yaml"), format!("{text}budget: {}\n", spent + 5)).unwrap();
        let plan = planned(&work, "");
        let until: DateTime<Utc> = plan["pace"]["until"].as_str().unwrap().parse().unwrap();
        if hour() != begun {
            continue;
        }
        assert_eq!(plan["hour"]["left"], 5, "{plan}");
        assert!(until >= begun + TimeDelta::hours(1), "{until}");
        assert!(plan["pace"]["hours"].as_u64().unwrap() >= 2, "{plan}");
        // Another user of the machine has another ledger, and finds none.
        assert_eq!(planned(&work, "elsewhere")["hour"], Value::Null);
        assert!(!work.path("elsewhere").exists(), "a plan makes no folder");
        // A ledger that is not understood is no reason to fail.
        let ledger =
            fs::read_dir(work.path(".weir/ledger")).unwrap().map(|one| one.unwrap().path());
        for file in ledger.filter(|path| path.extension().is_some_and(|end| end == "json")) {
            fs::write(file, "{").unwrap();
        }
        let plan = planned(&work, "");
        let note = plan["notes"][0].as_str().unwrap().to_owned();
        assert!(note.starts_with("the points spent in this hour are unknown: "), "{note}");
        assert_eq!(plan["hour"], Value::Null);
        return;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_knows_what_another_machine_has_spent_into_the_same_database() {
    let database = Database::new().await;
    loop {
        let quota = PointsQuota { per_hour: 70_000, headers: QuotaHeaders::Silent, others: 0 };
        let options = Options { pages: 30, quota: Some(quota), ..Options::default() };
        let work = Workplace::new(options, Some(&database)).await.counting_points();
        work.replicate("wiki.{stream_name}", "{}", Reading::Changes);
        let begun = hour();
        let (exit, said) = work.start_with("replication.yaml", &[], "one").end().await;
        assert_eq!(exit, Some(0), "{said}");
        let (spent, plan) = (work.simulator.counters().points, planned(&work, "other"));
        if hour() != begun {
            continue;
        }
        let told = &plan["hour"];
        assert_eq!(
            (&told["spent"], &told["limit_from"]),
            (&spent.into(), &"spec".into()),
            "{plan}"
        );
        assert!(!work.path("other").exists());
        return;
    }
}

/// The start of the hour. A test of an hour's points that does not end in it is begun anew.
fn hour() -> DateTime<Utc> {
    Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap()
}

const JSON: [&str; 2] = ["--log-format", "json"];

/// What a run said at its end.
fn finished(said: &str) -> Value {
    let mut events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.find(|event| event["event"] == "run_finished").unwrap_or_else(|| panic!("{said}"))
}

#[test]
fn once_changes_were_read_a_plan_knows_about_how_many_there_will_be() {
    for quota in ["none", "points"] {
        let mut world = World::new(Options {
            pages: 1_000,
            heavy_parents: 0,
            now: Some("2026-10-01T00:00:00Z".parse().unwrap()),
            ..Options::default()
        });
        world.fields.open.insert("quota".to_owned(), quota.to_owned());
        let replication = "
source: WIKI
target: OUT
defaults: { mode: incremental }
limits: { requests_per_second: 0 }
streams: { '*': }
";
        world.run(replication);
        // Hourly runs, then those of two nights, which read most things whole.
        for (hours, exactly) in [(1, false), (1, true), (1, true), (21, true), (24, true)] {
            let pages = world.simulator.truth("pages").unwrap();
            let current = pages.iter().filter(|page| page["status"] == "current");
            // So many in an hour.
            let ids: Vec<String> =
                current.map(|page| page["id"].as_str().unwrap().to_owned()).collect();
            for id in ids.into_iter().step_by(100 / hours) {
                world.change(&TenantChange::Edit { id, retitle: false });
            }
            world.pass(Duration::from_hours(u64::try_from(hours).unwrap()));
            let run = world.run(replication);
            let planned = run.planned.unwrap();
            let sums = run.streams.iter().map(|one| (one.requests, one.points));
            let (requests, points) = sums.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            let near = |planned: u64, sent: u64| planned.abs_diff(sent) * 5 <= sent;
            let what = format!("{quota}, after {hours} h: {planned:?}, sent {requests}, {points}");
            assert!(!exactly || near(planned.requests, requests), "{what}");
            assert!(!exactly || near(planned.points, points), "{what}");
        }
    }
}

#[test]
fn a_route_that_is_not_there_is_refused_with_those_that_are() {
    let user = user();
    for command in ["run", "plan"] {
        for (route, parts) in [
            (
                "page_labels=sarch",
                &["this route is not known", "default, fused, search, inverted"][..],
            ),
            ("page_label=search", &["has no stream `page_label`", "did you mean `page_labels`"]),
            (
                "page_versions=derived",
                &["the run does not read the stream `page_versions`", "--streams"],
            ),
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
    for route in ["default", "search", "fused"] {
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
    assert!(out.contains("\n~ marks estimates of the number of records"), "{out}{err}");
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
    let run = ["sync", "run", "--route", "page_labels=default", "--json"];
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
    // Where a run would be refused, so is its plan; where its streams would begin anew, the plan says so.
    let (_, err) = plan(&["--streams", "spaces"], 2);
    assert!(
        err.contains("is not finished") && err.contains("--streams page_labels,pages"),
        "{err}"
    );
    let other = [&json[..], &["--mode", "truncate"]].concat();
    let other: Value = serde_json::from_str(&plan(&other, 0).0).unwrap();
    assert_eq!(other["continues"]["run_id"], during["continues"]["run_id"], "{other}");
    assert_eq!(other["continues"]["requests"], 0, "nothing that was read counts: {other}");
    // The run that goes on stands against what was planned when it began.
    let output = weir(&run).args(streams).output().unwrap();
    let whole: Value = serde_json::from_str(&ended(&output, 0).0).unwrap();
    assert_eq!((&whole["continued"], &whole["planned"]), (&true.into(), &begun["planned"]));
    assert!(begun["planned"]["assumed"] == true, "{begun}");
}
