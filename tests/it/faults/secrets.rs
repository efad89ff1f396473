//! Secrets where nobody looks for them: in misspelt URLs, in lines of files that are wrong, in sessions, in what
//! servers repeat.

use std::{fs, os::unix::fs::symlink};

use serde_json::{Value, json};

use crate::support::{
    fake::{Fake, Reply},
    user::{User, ended},
};

const TO_OUT: &str = "
source: S
target: OUT
defaults: { object: '{stream_name}.jsonl' }
streams: { spaces: }
env: { S: '{spec: confluence, simulate: {pages: 3}}', OUT: '{type: files, url: out}' }
";

/// Runs weir, and makes sure that it repeats no password.
#[track_caller]
fn said(user: &User, arguments: &[&str], code: i32) -> String {
    let (out, err) = ended(&user.run(arguments), code);
    let all = format!("{out}{err}");
    assert!(!all.contains("PW") && !all.contains("hunter2"), "{arguments:?}: {all}");
    all
}

#[test]
fn a_url_on_the_command_line_is_repeated_without_its_login() {
    let user = User::new();
    let url = "postgres://u:PW@127.0.0.1:9/d";
    said(&user, &["conns", "test", url], 1);
    said(&user, &["conns", "test", url, "--json"], 1);
    said(&user, &["conns", "discover", url], 2);
    said(&user, &["conns", "unset", url], 2);
    said(&user, &["sync", "run", url], 2);
    said(&user, &["quota", "show", url], 2);
    said(&user, &["conns", "test", "file:///tmp?password=PW"], 0);
    said(&user, &["postgres:/u:PW@h/d"], 2);
    said(&user, &["conns", "test", "X", "postgres:/u:PW@h/d"], 2);
    said(&user, &["trust", "postgres:/u:PW@h/d"], 2);
    said(&user, &["spec", "show", "postgres:/u:PW@h/d"], 2);
    for wrong in ["postgres:/u:PW@h/x", "postgres:/u:PW@h/x?a=b", "postgres:u:PW"] {
        said(&user, &["conns", "set", "PG", wrong], 2);
        said(&user, &["conns", "set", wrong, "type=files"], 2);
    }
}

#[test]
fn a_misspelt_url_in_a_replication_is_explained_without_its_password() {
    let user = User::new();
    let urls =
        ["postgres:/u:PW@h/d", "postgres:u:PW@h", "postgres.//u:PW@h/d", "host=h password=PW"];
    for url in urls {
        user.write("r.yaml", &TO_OUT.replace("target: OUT", &format!("target: '{url}'")));
        for look in [&["sync", "validate", "r.yaml"][..], &["sync", "run", "r.yaml", "--json"]] {
            let told = said(&user, look, 2);
            assert!(told.contains("this looks like a misspelt URL"), "{told}");
            assert!(told.contains("postgres://user:…@host/db"), "{told}");
        }
    }
    user.write(
        "r.yaml",
        &TO_OUT.replace("source: S", "source: '{spec: confluence, api_token: PW}'"),
    );
    assert!(said(&user, &["sync", "validate", "r.yaml"], 2).contains("in quotes under `env`"));
    user.write("r.yaml", &format!("{TO_OUT}state: postgres:/postgres:PW@localhost:9/wh\n"));
    let told = said(&user, &["sync", "run", "r.yaml"], 2);
    assert!(told.contains("`state`") && told.contains("a misspelt URL"), "{told}");
    assert!(!user.path("postgres:").exists());
    user.write("r.yaml", &format!("{TO_OUT}state: ./kept\n"));
    said(&user, &["sync", "run", "r.yaml"], 0);
}

#[test]
fn a_mistake_near_a_secret_does_not_show_its_line() {
    let user = User::new();
    let mapping =
        "{type: api, spec: confluence, domain: a.b, email: a@b.c, api_token: hunter2secret}";
    let quoted = format!("S: {mapping}");
    let env = |text: &str| TO_OUT.split("env:").next().unwrap().to_owned() + text;
    let table = [
        (env(&format!("env:\n  {quoted}\n")), "hint: put it in quotes: S: \"{type: api, …}\""),
        (env(&format!("env: {{ {quoted} }}\n")), "hint: put it in quotes: S: "),
        (env(&format!("env:\n\tS: '{mapping}'\n")), "does not allow tabs"),
        (env("env:\n  S: 'x\n  hunter2: PW\n"), "not valid YAML"),
        (
            TO_OUT.replace("target: OUT", "target: {type: postgres, password: PW}"),
            "write the name of a connection here",
        ),
        (TO_OUT.replace("source: S", "source: [hunter2]"), "is not a text"),
        (TO_OUT.replace("streams:", "password: PW\nstreams:"), "unknown key `password`"),
    ];
    for (text, hint) in table {
        user.write("r.yaml", &text);
        let told = said(&user, &["sync", "validate", "r.yaml"], 2);
        assert!(told.contains(hint), "{text}\n{told}");
    }
    // What holds no secret is shown still.
    user.write("r.yaml", &TO_OUT.replace("defaults: {", "defaults: { mod: x,"));
    assert!(said(&user, &["sync", "validate", "r.yaml"], 2).contains("  4 | defaults: { mod: x,"));
    // Nor is a value told that stands in the wrong field.
    let set = ["conns", "set", "S", "type=api", "spec=confluence", "domain=a.b"];
    for wrong in ["email=hunter2", "quota=hunter2", "site_url=hunter2", "cloud_id=hunter2"] {
        said(&user, &[&set[..], &[wrong]].concat(), 2);
    }
    said(&user, &["conns", "set", "PG", "type=postgres", "host=h", "user=u", "port=hunter2"], 2);
}

const SESSION: &str = "
name: shop
connection: { token: { secret: true, help: a token } }
base_url: https://shop.test/v1/
setup: [{ post: /login, capture: { sess: token } }]
responses: [{ status: 403, in: child, then: skip_slice }]
streams:
  orders: { doc: An order., get: /orders, key: [id], columns: { id: text }, feeds: { order_ids: id } }
  lines:
    doc: A line.
    for_each: order_ids
    get: /orders/{{ order_id }}/lines
    headers: { X-S: '{{ sess }}' }
    key: [order_id, id]
    columns: { order_id: { text: '{{ order_id }}' }, id: int }
";

#[tokio::test(start_paused = true)]
async fn what_a_session_captured_is_neither_printed_nor_stored() {
    let fake = Fake::new(SESSION, |asked| match asked.path.as_str() {
        "/v1/login" => Reply::json(&json!({ "token": "SESS&secret" })),
        "/v1/orders" => Reply::json(&json!([{ "id": "1" }, { "id": "e\r\nerror: fake" }])),
        "/v1/orders/1/lines" => {
            let sent = asked.headers["x-s"].to_str().unwrap();
            let told = format!("you are {sent}, {}", sent.replace('&', "&amp;"));
            Reply::status(403, &json!({ "message": told }))
        }
        "/v1/orders/e%0D%0Aerror%3A%20fake/lines" => {
            Reply::json(&json!({ "errors": ["SESS&secret"], "x": [] }))
        }
        other => panic!("{other}"),
    });
    let ran = fake.run().await;
    let all = [
        serde_json::to_string(&ran.report).unwrap(),
        serde_json::to_string(&ran.events).unwrap(),
        serde_json::to_string(&fake.rows("_weir_errors")).unwrap(),
        everything_below(fake.folder()),
    ];
    for text in all {
        assert!(!text.contains("SESS") && text.contains("***"), "{text}");
    }
}

/// The text of all files in a folder.
fn everything_below(folder: &std::path::Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &everything_below(&path);
        } else {
            all += &String::from_utf8_lossy(&fs::read(path).unwrap());
        }
    }
    all
}

const CUT: &str = "
name: shop
connection: { token: { secret: true, help: a token } }
base_url: https://shop.test/v1/
auth: { bearer: '{{ token }}' }
streams:
  orders:
    doc: An order.
    get: /orders
    records: data
    paginate: { cursor: { at: next, param: after } }
    key: [id]
    columns: { id: int }
";

#[tokio::test(start_paused = true)]
async fn a_secret_at_which_a_text_is_cut_off_is_masked_whole() {
    let at = |cut: usize, before: usize| format!("{}s3cret", "x".repeat(cut - before - 3));
    let errors = at(200, 2);
    let next = at(80, 6);
    for body in [
        json!({ "data": [{ "id": 1 }], "errors": [errors] }),
        json!({ "data": [{ "id": 1 }], "next": { "x": next } }),
    ] {
        let fake = Fake::new(CUT, move |_| Reply::json(&body));
        let ran = fake.run().await;
        let report = serde_json::to_string(&ran.report).unwrap();
        assert!(report.contains("xx***"), "{report}");
        for text in [report, everything_below(fake.folder())] {
            assert!(!text.contains("xxs3"), "{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn values_of_a_server_write_no_line_of_their_own() {
    let fake = Fake::new(SESSION, |asked| match asked.path.as_str() {
        "/v1/login" => Reply::json(&json!({ "token": "any" })),
        "/v1/orders" => {
            Reply::json(&json!([{ "id": "a\u{1b}[31mRED" }, { "id": "e\r\nerror: fake" }]))
        }
        _ => Reply::status(403, &json!({ "message": "no" })),
    });
    let ran = fake.run().await;
    let mut slices: Vec<_> = ran.report.errors.iter().map(|error| error.slice.as_str()).collect();
    slices.sort_unstable();
    assert_eq!(slices, ["order_id=a\\u{1b}[31mRED", "order_id=e\\u{d}\\nerror: fake"]);
}

#[test]
fn weirs_own_folders_are_not_followed_out_of_the_output() {
    for linked in [".weir", ".weir/tables", ".weir/state", ".weir/stage"] {
        let user = User::new();
        user.write("r.yaml", TO_OUT);
        fs::create_dir_all(user.path("out").join(linked).parent().unwrap()).unwrap();
        fs::create_dir(user.path("evil")).unwrap();
        symlink(user.path("evil"), user.path("out").join(linked)).unwrap();
        let output = user.run(&["sync", "run", "r.yaml"]);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{linked}: {err}");
        assert!(err.contains("is a link that leads out of"), "{linked}: {err}");
        assert_eq!(fs::read_dir(user.path("evil")).unwrap().count(), 0, "{linked}");
    }
}

#[test]
fn a_file_of_the_state_that_is_a_link_is_not_written_through() {
    let user = User::new();
    user.write("r.yaml", TO_OUT);
    ended(&user.run(&["sync", "run", "r.yaml"]), 0);
    let state = fs::read_dir(user.path("out/.weir/state")).unwrap().next().unwrap().unwrap().path();
    for name in ["journal.jsonl", "state.new", "lock"] {
        let path = state.join(name);
        let kept = fs::read(&path).ok();
        drop(fs::remove_file(&path));
        user.write("mine", "mine");
        symlink(user.path("mine"), &path).unwrap();
        let output = user.run(&["sync", "run", "r.yaml"]);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(err.contains("is a link that leads out of"), "{name}: {err}");
        assert_eq!(fs::read_to_string(user.path("mine")).unwrap(), "mine", "{name}");
        fs::remove_file(&path).unwrap();
        if let Some(bytes) = kept {
            fs::write(&path, bytes).unwrap();
        }
    }
}

#[test]
fn the_servers_own_schemas_are_refused_before_anything_is_asked() {
    let user = User::new();
    for object in ["pg_catalog.spaces", "information_schema.spaces", "pg_temp.x"] {
        let to_postgres = TO_OUT
            .replace("{type: files, url: out}", "postgres://me@127.0.0.1:9/wh")
            .replace("{stream_name}.jsonl", object);
        user.write("r.yaml", &to_postgres);
        let (_, err) = ended(&user.run(&["sync", "validate", "r.yaml"]), 2);
        assert!(err.contains("is Postgres' own"), "{err}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_computed_columns_of_a_page_make_is_bounded() {
    const SPEC: &str = "
name: shop
connection: { token: { secret: true, help: a token } }
base_url: https://shop.test/v1/
streams:
  orders:
    doc: An order.
    get: /orders
    key: [id]
    columns: { id: int, t: text, x: { text: \"{{ row.t | replace('a', row.t) }}\" } }
";
    let fake = Fake::new(SPEC, |_| {
        let row = |id: i64| json!({ "id": id, "t": "a".repeat(2000) });
        Reply::json(&(0..60).map(row).collect::<Value>())
    });
    let ran = fake.run().await;
    let error = ran.stream("orders").error.clone().unwrap();
    assert!(error.contains("column `x` cannot be computed"), "{error}");
    assert!(error.contains("one page are larger than 64 MiB"), "{error}");
}
