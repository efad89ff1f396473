//! The program as a user runs it: output, errors, exit codes.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::user::{Site, TO_FILES, User, ended, repository, visible};

#[test]
fn the_demonstration_writes_all_24_streams() {
    let user = User::new();
    fs::copy(repository("replications/demo.yaml"), user.path("demo.yaml")).unwrap();
    let (out, err) = ended(&user.run(&["sync", "run", "demo.yaml", "--json"]), 0);
    let report: Value = serde_json::from_str(&out).unwrap();
    let streams = report["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 24);
    for stream in streams {
        let name = stream["stream"].as_str().unwrap();
        assert!(stream["rows"].as_u64().unwrap() > 0, "{name}");
        assert!(user.path("out").join(format!("{name}.parquet")).exists(), "{name}");
    }
    assert!(err.contains("pages: done"), "{err}");
    assert_eq!(visible(&user.path("out")).len(), 24);
}

#[test]
fn a_dry_run_asks_nobody_and_writes_nothing() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let connection =
        "{type: api, spec: confluence, domain: nowhere.invalid, email: a@b.c, api_token: x}";
    let mut command =
        user.weir(&["sync", "run", "r.yaml", "--dry-run", "--streams", "page_labels,spaces"]);
    let (out, _) = ended(&command.env("WIKI", connection).output().unwrap(), 0);
    insta::assert_snapshot!(out.trim_end(), @r"
    stream       after     mode          columns  object
    spaces                 full-refresh       16  spaces.jsonl
    pages                  feeds only
    labels                 feeds only
    page_labels  page_ids  full-refresh        6  page_labels.jsonl
    ");
    assert!(!user.path("out").exists());
}

#[test]
fn mistakes_in_a_replication_are_told_with_their_place() {
    let user = User::new();
    let text = TO_FILES
        .replace("{ '*': }", "{ page: , pages: { select: [titel], inputs: { space_key: [A] } } }");
    user.write("r.yaml", &text);
    let connection = "{type: api, spec: confluence, domain: acme.test, email: a@b.c, api_token: x}";
    let output =
        user.weir(&["sync", "validate", "r.yaml"]).env("WIKI", connection).output().unwrap();
    let (out, err) = ended(&output, 2);
    assert_eq!(out, "");
    for part in [
        "r.yaml:6:",
        "`page`",
        "did you mean `pages`",
        "`titel`",
        "did you mean `title`",
        "did you mean `space_keys`",
    ] {
        assert!(err.contains(part), "{part}: {err}");
    }
}

#[test]
fn two_streams_into_one_object_are_refused_before_the_run() {
    let user = User::new();
    let connection = "{type: api, spec: confluence, simulate: {}}";
    let text = TO_FILES.replace("{stream_name}", "same");
    user.write("r.yaml", &text.replace("{ '*': }", "{ spaces: , groups: }"));
    for arguments in [&["sync", "validate", "r.yaml"][..], &["sync", "run", "r.yaml"]] {
        let output = user.weir(arguments).env("WIKI", connection).output().unwrap();
        let (_, err) = ended(&output, 2);
        assert!(err.contains("have the same object"), "{err}");
    }
}

#[test]
fn everything_a_connection_lacks_is_told_at_once() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let output = user
        .weir(&["sync", "run", "r.yaml"])
        .env("WIKI", "{spec: confluence, emial: x}")
        .output()
        .unwrap();
    let (_, err) = ended(&output, 2);
    for part in [
        "`domain` is missing",
        "`email` is missing",
        "`api_token` is missing",
        "did you mean `email`",
        "ATLASSIAN_API_TOKEN",
    ] {
        assert!(err.contains(part), "{part}: {err}");
    }
    let (_, err) = ended(&user.run(&["sync", "run", "r.yaml"]), 2);
    assert!(err.contains("there is no connection `WIKI`"), "{err}");
    let (_, err) = ended(&user.run(&["sync", "run", "missing.yaml"]), 2);
    assert!(err.contains("missing.yaml"), "{err}");
}

#[test]
fn connections_are_kept_and_shown_without_their_secrets() {
    let user = User::new();
    let mut set = user
        .weir(&[
            "conns",
            "set",
            "WIKI",
            "type=api",
            "spec=confluence",
            "domain=acme.test",
            "email=a@b.c",
            "api_token=-",
        ])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    set.stdin.take().unwrap().write_all(b"s3cret-token\n").unwrap();
    assert!(set.wait().unwrap().success());
    ended(
        &user.run(&[
            "conns",
            "set",
            "PG",
            "postgres://ann:s3cret-password@db.test/wh?sslmode=require",
        ]),
        0,
    );
    let (out, _) = ended(&user.run(&["conns", "list"]), 0);
    insta::assert_snapshot!(out.trim_end(), @r"
    connection  type      defined in                leads to
    LOCAL       files     built in                  .
    PG          postgres  ~/.weir/connections.yaml  wh on db.test:5432
    WIKI        api       ~/.weir/connections.yaml  confluence at acme.test
    ");
    let (json, _) = ended(&user.run(&["conns", "list", "--json"]), 0);
    assert!(!json.contains("s3cret"), "{json}");
    let kept = fs::read_to_string(user.path(".weir/connections.yaml")).unwrap();
    assert!(kept.contains("s3cret-token") && kept.contains("s3cret-password"));
    ended(&user.run(&["conns", "unset", "PG"]), 0);
    let (_, err) = ended(&user.run(&["conns", "unset", "PG"]), 2);
    assert!(err.contains("no connection `PG`"), "{err}");
    ended(&user.run(&["conns", "set", "X", "type=nothing"]), 2);
    let misspelt = ["conns", "set", "X", "type=api", "spec=confluence", "domian=acme.test"];
    let (_, err) = ended(&user.run(&misspelt), 2);
    assert!(err.contains("did you mean `domain`"), "{err}");
}

#[test]
fn a_test_tells_the_ways_apart_in_which_a_connection_fails() {
    let user = User::new();
    let site = Site::start(&["--email", "ann@acme.test", "--token", "right"]);
    let test = |connection: &str| {
        user.weir(&["conns", "test", "WIKI"]).env("WIKI", connection).output().unwrap()
    };
    ended(&test(&site.connection("right")), 0);
    let (_, err) = ended(&test(&site.connection("wrong")), 1);
    assert!(err.contains("does not accept the credentials") && err.contains("404"), "{err}");
    let nobody = site.connection("right").replace(&site.url, "http://127.0.0.1:1");
    let (_, err) = ended(&test(&nobody), 1);
    assert!(err.contains("it is not the host of the API"), "{err}");
    let proxied = "{type: api, spec: confluence, domain: acme.test, email: a@b.c, api_token: t, site_url: 'http://acme.test'}";
    let output = user
        .weir(&["conns", "test", "WIKI"])
        .env("WIKI", proxied)
        .env("http_proxy", &site.url)
        .output()
        .unwrap();
    let (_, err) = ended(&output, 1);
    assert!(err.starts_with("error: WIKI: "), "{err}");
}

#[test]
fn no_secret_is_printed_whatever_is_asked_for() {
    let user = User::new();
    let site = Site::start(&["--email", "ann@acme.test", "--token", "t0p-s3cret", "--pages", "20"]);
    user.write("r.yaml", TO_FILES);
    for token in ["t0p-s3cret", "wr0ng-s3cret"] {
        for format in ["text", "json"] {
            let mut command = user.weir(&["sync", "run", "r.yaml", "--log-format", format]);
            command.env("WIKI", site.connection(token)).env("RUST_LOG", "trace");
            let output = command.output().unwrap();
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(text.contains("request"), "the log is on: {text}");
            let encoded = base64::Engine::encode(
                &base64::engine::general_purpose::STANDARD,
                format!("ann@acme.test:{token}"),
            );
            assert!(!text.contains("s3cret") && !text.contains(&encoded), "{text}");
        }
    }
}

#[test]
fn a_wrong_token_fails_and_says_what_to_do() {
    let user = User::new();
    let site = Site::start(&["--email", "ann@acme.test", "--token", "right"]);
    user.write("r.yaml", TO_FILES);
    let output = user
        .weir(&["sync", "run", "r.yaml", "--streams", "pages,groups"])
        .env("WIKI", site.connection("wrong"))
        .output()
        .unwrap();
    let (_, err) = ended(&output, 1);
    assert!(err.contains("the API does not accept this email and token"), "{err}");
    assert_eq!(visible(&user.path("out")), [""; 0]);
}

#[test]
fn an_interrupted_run_leaves_the_target_as_it_was() {
    let user = User::new();
    let quick = Site::start(&["--pages", "20"]);
    user.write("r.yaml", TO_FILES);
    let run = |site: &Site| {
        let run = ["sync", "run", "r.yaml", "--adopt", "--streams", "pages,page_labels"];
        let mut command = user.weir(&run);
        command.env("WIKI", site.connection("any"));
        command
    };
    ended(&run(&quick).output().unwrap(), 0);
    let before = fs::read(user.path("out/page_labels.jsonl")).unwrap();
    let slow = Site::start(&["--pages", "2000", "--latency-ms", "50"]);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = run(&slow).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        lines
            .find(|line| line.as_ref().unwrap().contains("page_labels: started"))
            .unwrap()
            .unwrap();
        let sent =
            Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{rest:?}");
        assert!(rest.iter().any(|line| line.starts_with("interrupted")), "{rest:?}");
    }
    assert_eq!(fs::read(user.path("out/page_labels.jsonl")).unwrap(), before);
    assert_eq!(visible(&user.path("out")), ["page_labels.jsonl", "pages.jsonl"]);
}

#[test]
fn discover_reads_the_spec_alone() {
    let user = User::new();
    let (out, _) = ended(
        &user.run(&["conns", "discover", "confluence", "--pattern", "space_l*", "--columns"]),
        0,
    );
    insta::assert_snapshot!(out.trim_end(), @r"
    space_labels
      A label on a space itself (not on its content), of the prefixes `my` and `team`.
      key: space_id, id
      parent: spaces
      cost: 1 point per request and 1 per record (core), if the API counts points
      routes:
        default
          GET /wiki/api/v2/spaces/{{ space_id }}/labels, for each of space_ids
        fused
          GET /wiki/api/v2/spaces/{{ space_id }}?include-labels=true, for each of space_ids
      columns:
        space_id  text
        id        text  id of the label, the same for all objects with it
        name      text
        prefix    text  global, my, team or system
    ");
    let (out, _) = ended(&user.run(&["conns", "discover", "confluence", "--json"]), 0);
    let streams: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(streams.len(), 24);
    assert_eq!(streams[9]["parents"], serde_json::json!(["pages"]));
}

#[test]
fn specs_and_schemas_can_be_looked_at() {
    let user = User::new();
    let (out, _) = ended(&user.run(&["spec", "list"]), 0);
    assert!(out.contains("confluence") && out.contains("jira"), "{out}");
    let (out, _) = ended(&user.run(&["spec", "show", "jira"]), 0);
    user.write("own.yaml", &out);
    let (out, _) = ended(&user.run(&["spec", "validate", "own.yaml"]), 0);
    assert_eq!(out, "own.yaml: valid, 9 streams\n");
    ended(&user.run(&["spec", "show", "nothing"]), 2);
    // The same that other tests compare with the reader.
    for (kind, schema) in [
        ("spec", weir::spec::json_schema()),
        ("replication", weir::replication::json_schema()),
        ("connections", weir::connection::json_schema()),
    ] {
        let (out, _) = ended(&user.run(&["schema", kind]), 0);
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), schema, "{kind}");
    }
    let (out, _) = ended(&user.run(&["completions", "bash"]), 0);
    assert!(out.contains("weir"));
    ended(&user.run(&["sync", "walk"]), 2);
    let (_, err) = ended(&user.run(&["conns", "discover", "confluence", "--pattern", "pagess"]), 2);
    assert!(err.contains("did you mean `pages`"), "{err}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let user = User::new();
    let mut child =
        user.weir(&["spec", "show", "confluence"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_help_shows_the_way() {
    let user = User::new();
    // The help text is on a reference page, which another test compares with the help of every command.
    let page = fs::read_to_string(repository("docs/src/reference/command-line.md")).unwrap();
    let (out, _) = ended(&user.run(&["--help"]), 0);
    assert!(page.contains(out.trim_end()), "{out}");
    for command in [
        "sync run",
        "sync validate",
        "conns list",
        "conns set",
        "conns unset",
        "conns test",
        "conns discover",
        "spec list",
        "spec show",
        "spec validate",
        "schema",
        "sim confluence",
        "completions",
    ] {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let (out, _) = ended(&user.run(&arguments), 0);
        let example = out.split_once("\nExample").map(|(_, example)| example);
        assert!(example.is_some_and(|text| text.contains(&format!("weir {command}"))), "{out}");
        let widest = out.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{command}: {widest} columns");
    }
    let (out, err) = ended(&user.run(&["sync", "run", "r.yaml", "--stream", "pages"]), 2);
    assert_eq!(out, "");
    assert!(err.contains("'--streams'"), "{err}");
    ended(&user.run(&["sync", "run", "r.yaml", "--limit", "0"]), 2);
    ended(&user.run(&["sync", "run", "r.yaml", "-q", "-v"]), 2);
    let (out, _) = ended(&user.run(&["--version"]), 0);
    assert_eq!(out, format!("weir {}\n", env!("CARGO_PKG_VERSION")));
}

const FAULTY: &str =
    "{type: api, spec: confluence, simulate: {pages: 20, faults: ['403=0.5@/labels']}}";

#[test]
fn slices_that_are_refused_are_told_and_set_the_exit_code() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let run = |more: &[&str]| {
        let route = ["--route", "page_labels=default"];
        let run = ["sync", "run", "r.yaml", "--streams", "page_labels"];
        let arguments = [&run[..], &route, more].concat();
        let output = user.weir(&arguments).env("WIKI", FAULTY).output().unwrap();
        ended(&output, 3)
    };
    let (_, err) = run(&[]);
    assert!(err.contains("page_labels  partial"), "{err}");
    assert!(err.contains("refused: page_labels: page_id="), "{err}");
    let end = "done, except for refused slices (exit code 3); they are listed in \
               out/_weir_errors.jsonl, and `weir sync retry-failed` requests them again\n";
    assert!(err.ends_with(end), "{err}");
    let (out, err) = run(&["--quiet"]);
    assert_eq!(out, "");
    assert!(err.lines().all(|line| line.starts_with("refused: ")) && !err.is_empty(), "{err}");
    let (out, _) = run(&["--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["status"], "done_with_errors");
    assert_eq!(report["errors"][0]["status"], 403);
}

#[test]
fn talk_as_json_is_one_object_a_line_whatever_is_said() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let said = |arguments: &[&str], wiki: &str, code| {
        let mut command = user.weir(arguments);
        command.args(["--log-format", "json"]).env("WIKI", wiki).env("RUST_LOG", "debug");
        let (_, err) = ended(&command.output().unwrap(), code);
        let lines: Vec<Value> =
            err.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert!(lines.iter().all(|line| line["timestamp"].is_string()), "{err}");
        lines
    };
    let run = ["sync", "run", "r.yaml", "--limit", "100000", "--streams", "pages,page_labels"];
    let lines = said(&run, FAULTY, 3);
    for event in ["warning", "stream_started", "slice_skipped", "stream_finished"] {
        assert!(lines.iter().any(|line| line["event"] == event), "{event}: {lines:?}");
    }
    assert!(lines.iter().any(|line| line["level"] == "DEBUG"), "{lines:?}");
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["event"], &last["status"]),
        (&"run_finished".into(), &"done_with_errors".into())
    );
    let lines = said(&["sync", "run", "missing.yaml"], FAULTY, 2);
    assert_eq!(lines[0]["event"], "error");
    let wrong = "{spec: confluence, domain: a.test, email: a@b.c, api_token: x, site_url: 'http://127.0.0.1:1'}";
    let lines = said(&["conns", "test", "WIKI"], wrong, 1);
    let error = lines.iter().find(|line| line["event"] == "error").unwrap();
    assert!(error["hint"].as_str().unwrap().contains("127.0.0.1"), "{error}");
}

#[test]
fn a_login_within_an_address_is_refused_and_not_shown() {
    let user = User::new();
    let fields = "spec: confluence, domain: a.test, email: a@b.c, api_token: x";
    let wiki = format!("{{{fields}, site_url: 'https://ann:s3cret@a.test'}}");
    for command in [["conns", "test", "WIKI"], ["conns", "list", "--json"]] {
        let output = user.weir(&command).env("WIKI", &wiki).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!text.contains("s3cret"), "{text}");
        let refused = text.contains("`site_url` is not a URL with `https://`, without user");
        assert_eq!(
            (output.status.code(), refused),
            if command[1] == "test" { (Some(2), true) } else { (Some(0), false) }
        );
    }
}

#[test]
fn a_log_in_a_file_has_no_colours() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let output = user
        .weir(&["sync", "run", "r.yaml", "--streams", "spaces", "--verbose"])
        .env("WIKI", FAULTY)
        .output()
        .unwrap();
    let (_, err) = ended(&output, 0);
    assert!(err.contains("DEBUG") && err.contains("/wiki/api/v2/spaces"), "{err}");
    assert!(!err.contains('\u{1b}'), "{err:?}");
}

#[test]
fn a_result_as_json_is_there_even_when_it_is_bad() {
    let user = User::new();
    let bad = |wiki: &str, code| {
        let output =
            user.weir(&["conns", "test", "WIKI", "--json"]).env("WIKI", wiki).output().unwrap();
        let (out, _) = ended(&output, code);
        let found: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(found["ok"], false);
        found
    };
    let found = bad("{spec: confluence}", 2);
    assert!(found["message"].as_str().unwrap().contains("`api_token` is missing"), "{found}");
    let wrong = "{spec: confluence, domain: a.test, email: a@b.c, api_token: x, site_url: 'http://127.0.0.1:1'}";
    assert_eq!(bad(wrong, 1)["finding"], "wrong_host");
    user.write("own.yaml", "name: own\nbase_url: x\n");
    let (out, _) = ended(&user.run(&["spec", "validate", "own.yaml", "--json"]), 2);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert!(!found["problems"].as_array().unwrap().is_empty(), "{found}");
}

#[test]
fn a_secret_can_come_from_a_file() {
    let user = User::new();
    let site = Site::start(&["--email", "ann@acme.test", "--token", "right"]);
    user.write("token", "right\n");
    let address = format!("site_url={}", site.url);
    let set = ["conns", "set", "WIKI", "type=api", "spec=confluence", "domain=acme.test"];
    let more = ["email=ann@acme.test", "api_token=@token", &address];
    ended(&user.run(&[&set[..], &more].concat()), 0);
    let (out, _) = ended(&user.run(&["conns", "test", "WIKI"]), 0);
    assert!(out.starts_with("WIKI: works (http://127.0.0.1:"), "{out}");
    let (_, err) = ended(&user.run(&[&set[..], &["api_token=@nothing"]].concat()), 2);
    assert!(err.contains("nothing` cannot be read"), "{err}");
}

#[test]
fn discover_fits_100_columns_and_says_what_it_cannot_find() {
    let user = User::new();
    for api in ["confluence", "jira"] {
        for columns in [&[][..], &["--columns"]] {
            let (out, _) = ended(&user.run(&[&["conns", "discover", api], columns].concat()), 0);
            let widest = out.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= 100, "{api} {columns:?}: {widest} columns");
        }
    }
    let (out, _) = ended(&user.run(&["conns", "discover", "confluence", "--pattern", "blog*s"]), 0);
    insta::assert_snapshot!(out.trim_end(), @r"
    stream                        columns  key                   parent      points
    blog_posts                         17  id                    spaces      1 core
        A blog post in its latest version, with its body in the format of `body_format`
        routes: list_then_fetch, list_then_fetch_by_space
    blog_post_footer_comments          15  id                    blog_posts  1 core
        A footer comment of a blog post, including replies
        routes: bulk
    blog_post_inline_comments          19  id                    blog_posts  1 core
        An inline comment on a passage of a blog post, including replies
        routes: bulk
    blog_post_labels                    4  blog_post_id, id      blog_posts  1 core
        A label on a blog post
        routes: fused, search, inverted
    blog_post_versions                  8  blog_post_id, number  blog_posts  1 core
        A version of a blog post, without its body
        routes: derived, fused
    blog_post_content_properties        9  blog_post_id, id      blog_posts  1 core
        A property that an app or the editor stores on a blog post
        routes: fused
    ");
    let (_, err) = ended(&user.run(&["conns", "discover", "confluence", "--pattern", "x"]), 2);
    assert!(err.contains("no stream matches `x`"), "{err}");
    let (_, err) = ended(&user.run(&["conns", "discover", "LOCAL"]), 2);
    assert!(err.contains("works for connections to APIs"), "{err}");
    let (_, err) = ended(&user.run(&["conns", "discover", "NOBODY"]), 2);
    assert!(err.contains("there is no connection `NOBODY`"), "{err}");
}

#[test]
fn a_wrong_fault_of_a_simulated_site_is_refused() {
    let user = User::new();
    let (_, err) = ended(&user.run(&["sim", "confluence", "--fault", "teapot=0.1"]), 2);
    assert!(err.contains("`teapot=0.1` has an unknown kind"), "{err}");
    let (_, err) = ended(&user.run(&["sim", "confluence", "--listen", "nowhere"]), 1);
    assert!(err.contains("cannot listen on `nowhere`"), "{err}");
}
