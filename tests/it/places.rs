//! Where files are: what relative paths and `~` mean, and from which file a connection comes.

use std::fs;

use serde_json::Value;

use crate::support::user::{User, ended, visible};

/// A site without real requests.
const SITE: &str = "{type: api, spec: confluence, simulate: {pages: 3}}";

fn replication(target: &str, more: &str) -> String {
    format!(
        "source: WIKI\ntarget: {target}\ndefaults: {{ object: '{{stream_name}}.jsonl' }}\n\
         limits: {{ requests_per_second: 0 }}\nstreams: {{ spaces: }}\n{more}"
    )
}

#[test]
fn relative_paths_go_by_the_replication_wherever_it_is_started() {
    let user = User::new();
    for folder in ["etc", "elsewhere"] {
        fs::create_dir(user.path(folder)).unwrap();
    }
    let own =
        format!("state: ./state\nenv: {{ OUT: '{{type: files, url: out}}', WIKI: '{SITE}' }}\n");
    user.write("etc/own.yaml", &replication("OUT", &own));
    user.write("etc/local.yaml", &replication("LOCAL", &format!("env: {{ WIKI: '{SITE}' }}\n")));
    let elsewhere = user.path("elsewhere");
    for from in [user.folder.path(), elsewhere.as_path()] {
        for name in ["own", "local"] {
            let file = user.path(&format!("etc/{name}.yaml")).display().to_string();
            let mut command = user.weir(&["sync", "run", &file]);
            ended(&command.current_dir(from).output().unwrap(), 0);
        }
    }
    assert_eq!(
        visible(&user.path("etc")),
        ["local.yaml", "out", "own.yaml", "spaces.jsonl", "state"]
    );
    assert_eq!(visible(&user.path("etc/out")), ["spaces.jsonl"]);
    assert_eq!(visible(&elsewhere), [""; 0]);
    assert_eq!(visible(user.folder.path()), ["elsewhere", "etc"]);
}

#[test]
fn a_tilde_is_the_home_folder() {
    let user = User::new();
    fs::create_dir(user.path("work")).unwrap();
    let connections = "state: ~/state/\nenv: { OUT: '{type: files, url: ~/out}' }\n";
    user.write("work/r.yaml", &replication("OUT", connections));
    let run = |home: bool| {
        let mut command = user.weir(&["sync", "run", "r.yaml"]);
        command.current_dir(user.path("work")).env("WIKI", SITE);
        if !home {
            command.env_remove("HOME");
        }
        command.output().unwrap()
    };
    ended(&run(true), 0);
    assert_eq!(visible(user.folder.path()), ["out", "state", "work"]);
    let (_, err) = ended(&run(false), 2);
    assert!(err.contains("HOME is not set"), "{err}");
    assert_eq!(visible(&user.path("work")), ["r.yaml"]);
}

#[test]
fn variables_beside_the_replication_come_before_those_of_the_current_folder() {
    let user = User::new();
    fs::create_dir(user.path("etc")).unwrap();
    user.write("etc/r.yaml", &replication("OUT", ""));
    user.write("etc/.env", "OUT='{type: files, url: near}'\nthis is no variable\n");
    user.write(".env", &format!("OUT=file:///nowhere\nWIKI={SITE}\n"));
    let (_, err) = ended(&user.run(&["sync", "run", "etc/r.yaml", "-v"]), 0);
    for part in [
        "note: etc/.env:2: this is not `NAME=value`",
        "connection OUT is defined in etc/.env",
        "connection WIKI is defined in .env",
    ] {
        assert!(err.contains(part), "{part}: {err}");
    }
    assert_eq!(visible(&user.path("etc")), ["near", "r.yaml"]);
    let (out, _) = ended(&user.run(&["conns", "list", "--json"]), 0);
    let listed: Value = serde_json::from_str(&out).unwrap();
    let wiki = listed.as_array().unwrap().iter().find(|one| one["name"] == "WIKI").unwrap();
    assert_eq!((&wiki["origin"], &wiki["file"]), (&"dot_env".into(), &".env".into()));
}

#[test]
fn a_file_of_variables_or_connections_that_is_named_comes_first() {
    let user = User::new();
    user.write("r.yaml", &replication("OUT", ""));
    user.write(".env", &format!("WIKI={SITE}\nOUT=file:///nowhere\n"));
    user.write(".env.other", "export OUT='{\n  type: files,\n  url: other\n}'\n");
    let env = "variables: { PLACE: yaml }\nconnections:\n  OUT: { type: files, url: '${PLACE}' }\n";
    user.write("env.yaml", env);
    for (file, folder) in [(".env.other", "other"), ("~/env.yaml", "yaml")] {
        // The entry of the file that is named wins over `.env`, whatever its kind.
        let mut command = user.weir(&["sync", "run", "r.yaml"]);
        command.arg(format!("--env-file={file}"));
        ended(&command.output().unwrap(), 0);
        assert_eq!(visible(&user.path(folder)), ["spaces.jsonl"], "{file}");
    }
    let (_, err) = ended(&user.run(&["conns", "list", "--env-file", "none.env"]), 2);
    assert!(err.contains("`none.env` does not exist"), "{err}");
}

#[test]
fn without_a_home_nothing_is_written_into_the_current_folder() {
    let user = User::new();
    user.write("r.yaml", &replication("OUT", "env: { OUT: '{type: files, url: out}' }\n"));
    let homeless = |arguments: &[&str]| {
        let mut command = user.weir(arguments);
        command.env_remove("HOME").env("WIKI", SITE).output().unwrap()
    };
    let (_, err) = ended(&homeless(&["conns", "set", "PG", "postgres://db.test/wh"]), 2);
    assert!(err.contains("export WEIR_HOME="), "{err}");
    ended(&homeless(&["conns", "unset", "PG"]), 2);
    ended(&homeless(&["conns", "list"]), 0);
    ended(&homeless(&["sync", "run", "r.yaml"]), 0);
    let mut all: Vec<String> = fs::read_dir(user.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    assert_eq!(all, ["out", "r.yaml"]);
}

#[test]
fn no_folder_is_named_like_a_home_folder_or_a_variable() {
    let user = User::new();
    let targets = [
        ("LOCAL", "~/tilde/{stream_name}.jsonl", "`url` of a connection"),
        ("LOCAL", "$HOME/{stream_name}.jsonl", "in braces"),
        ("~/t4", "{stream_name}.jsonl", "weir conns set OUT type=files url=~/t4"),
        ("OUT", "{stream_name}.jsonl", "in braces"),
    ];
    for (target, object, hint) in targets {
        let text = format!(
            "source: WIKI\ntarget: {target}\ndefaults: {{ object: '{object}' }}\nstreams: {{ spaces: }}\n"
        );
        user.write("r.yaml", &text);
        let mut command = user.weir(&["sync", "run", "r.yaml"]);
        command.env("WIKI", SITE).env("OUT", "{type: files, url: $HOME/y}");
        let (_, err) = ended(&command.output().unwrap(), 2);
        assert!(err.contains(hint), "{target}, {object}: {err}");
    }
    let mut command = user.weir(&["conns", "set", "PG", "postgres://db.test/wh"]);
    let (_, err) = ended(&command.env("HOME", "relative").output().unwrap(), 2);
    assert!(err.contains("an absolute HOME"), "{err}");
    assert_eq!(visible(user.folder.path()), ["r.yaml"]);
}

#[test]
fn nothing_is_saved_that_cannot_work() {
    let user = User::new();
    user.write("shop.yaml", "name: shop\nbase_url: https://x.test\nstreams: {}\nnonsense: 1\n");
    let wiki = ["type=api", "spec=confluence", "email=a@b.c", "api_token=t"];
    user.write("empty.txt", "\n");
    user.write("cut.pem", "no certificate\n");
    let pg = ["type=postgres", "host=db", "sslmode=verify-full"];
    let table: [(&[&str], &str); 22] = [
        (&["postgres://db.test:port/wh"], ""),
        (&["ftp://db.test/wh"], ""),
        (&["type=files", "url=ftp://db.test/wh"], ""),
        (&["type=postgres", "host=db", "pasword=x"], ""),
        (&["type=files", "url=s3://bucket", "colour=red"], "colour"),
        (&["type=api", "spec=none.yaml"], "none.yaml"),
        (&["type=api", "spec=shop.yaml"], "nonsense"),
        (&[wiki[0], wiki[1], wiki[2], wiki[3], "domain=https://acme.test/wiki"], "`domain`"),
        (&[wiki[0], wiki[1], wiki[2], wiki[3], "inputs={anchor: 2025-01-01}"], "anchor_date"),
        (&[wiki[0], wiki[1], "api_token=@none.txt"], "none.txt"),
        (&[wiki[0], wiki[1], "api_token=file:none.txt"], "none.txt"),
        (&["postgres://me@db.test/wh?sslrootcert=/nonexist.pem"], "/nonexist.pem"),
        (&[pg[0], pg[1], pg[2], "sslrootcert=ca.pem"], "ca.pem"),
        (&[pg[0], pg[1], pg[2], "sslrootcert=cut.pem"], "contains no certificate"),
        (&["postgres://me:pw%zz@db.test/wh"], "hexadecimal"),
        (&[pg[0], pg[1], "password=-"], "`password` is empty"),
        (&[pg[0], pg[1], "password=@empty.txt"], "`password` is empty"),
        (&[wiki[0], wiki[1], "api_token=command:"], "needs a value after the colon"),
        (&[wiki[0], wiki[1], "api_token=file:"], "needs a value after the colon"),
        (&[wiki[0], wiki[1], "secrets={email: a@b.c}", wiki[2]], "`email` is set twice"),
        (&["type=files", "url=$HOME/y"], "in braces"),
        (&["type=files", "url=~ann/y"], "./~ann/y"),
    ];
    for (properties, part) in table {
        let arguments = [&["conns", "set", "X"], properties].concat();
        let (_, err) = ended(&user.run(&arguments), 2);
        assert!(err.contains(part), "{properties:?}: {err}");
        assert!(!user.path(".weir/connections.yaml").exists(), "{properties:?}");
    }
    user.write("loop", "");
    for (place, part) in [("/proc/nope", "make a folder in `/proc`"), ("loop/out", "loop")] {
        let connection = format!("{{type: files, url: '{place}'}}");
        let tested = user.weir(&["conns", "test", "OUT"]).env("OUT", connection).output().unwrap();
        let (_, err) = ended(&tested, 1);
        assert!(err.contains(part), "{place}: {err}");
    }
    let (_, err) = ended(&user.run(&["conns", "set", "X", wiki[0], wiki[1], wiki[2]]), 0);
    assert!(err.contains("X is not complete: `domain` is missing"), "{err}");
}

#[test]
fn what_is_saved_is_found_from_any_folder() {
    let user = User::new();
    user.write("token.txt", "t0ken");
    let shop = "name: shop\nconnection: { token: { secret: true } }\nbase_url: https://x.test\n\
                test: { get: /me }\nstreams: { a: { get: /a, columns: { id: text } } }\n";
    user.write("shop.yaml", shop);
    ended(&user.run(&["conns", "set", "OUT", "type=files", "url=out"]), 0);
    ended(
        &user.run(&["conns", "set", "SHOP", "type=api", "spec=shop.yaml", "token=file:token.txt"]),
        0,
    );
    let kept = fs::read_to_string(user.path(".weir/connections.yaml")).unwrap();
    for name in ["out", "shop.yaml", "token.txt"] {
        let whole = user.folder.path().canonicalize().unwrap().join(name);
        assert!(kept.contains(&whole.display().to_string()), "{kept}");
    }
    let mut elsewhere = user.weir(&["conns", "discover", "SHOP"]);
    ended(&elsewhere.current_dir("/").output().unwrap(), 0);
    let (out, _) = ended(&user.run(&["conns", "list"]), 0);
    assert!(out.contains("~/.weir/connections.yaml"), "{out}");
}
