//! What trust in a file shows, and what a file of somebody else gets without it.

use serde_json::{Value, json};

use crate::support::user::{Site, User, ended};

const TO_OUT: &str = "
source: S
target: OUT
defaults: { object: '{stream_name}.jsonl' }
streams: { spaces: }
";

/// A replication whose source is this.
fn of(source: &str) -> String {
    format!("{TO_OUT}env:\n  OUT: '{{type: files, url: out}}'\n  S: {source}\n")
}

#[test]
fn trust_shows_what_is_run_and_read_however_it_is_written() {
    let hidden = r#""{type: api, spec: confluence, domain: a.b, email: a@b.c, client_secret: hunter2secret, api_token: \"\\x63ommand:touch PWN; echo x\"}""#;
    let lines = "|-\n    spec: confluence\n    client_secret: hunter2secret\n    secrets:\n      api_token: |-\n        command:touch PWN\n        \u{1b}[8mecho x\n";
    let lines = lines.replace('\u{1b}', "\\x1b");
    let quoted = r#"'{spec: confluence, client_secret: hunter2secret, api_token: "command:touch PWN \x1b[8m\necho x", email: "file:~/id"}'"#;
    for (name, text, command, files) in [
        ("r.yaml", of(hidden), "touch PWN; echo x", 0),
        ("r.yaml", of(&lines), "touch PWN\n\\x1b[8mecho x", 0),
        ("r.yaml", of(quoted), "touch PWN \u{1b}[8m\necho x", 1),
        (".env", format!("S={quoted}\n"), "touch PWN \u{1b}[8m\necho x", 1),
        (
            "c.yaml",
            format!("connections:\n  S: {}\n", quoted.trim_matches('\'')),
            "touch PWN \u{1b}[8m\necho x",
            1,
        ),
    ] {
        let user = User::new();
        user.write(name, &text);
        let (out, _) = ended(&user.run(&["trust", name]), 0);
        let shown = command.replace('\u{1b}', "\\u{1b}").replace('\n', "\\n");
        assert!(out.contains(&format!("S.api_token runs: {shown}")), "{name} {out}");
        assert!(!out.contains("hunter2"), "{out}");
        assert_eq!(out.matches("S.email is read from the file: ~/id").count(), files, "{out}");
        let (out, _) = ended(&user.run(&["trust", name, "--json"]), 0);
        let told: Value = serde_json::from_str(&out).unwrap();
        let expected = json!([{ "connection": "S", "field": "api_token", "command": command }]);
        assert_eq!(told["commands"], expected, "{name}");
        assert!(!out.contains("hunter2"), "{out}");
    }
}

#[test]
fn what_is_nothing_that_weir_uses_is_not_trusted() {
    let user = User::new();
    let bomb: String = (1..9).fold("a0: &a0 [x, x]\n".to_owned(), |text, level| {
        let before = format!("*a{}, ", level - 1).repeat(9);
        text + &format!("a{level}: &a{level} [{before}]\n")
    });
    for (name, text, why) in [
        ("x.txt", "some words\nand more\n", "is not a file that weir uses"),
        ("y.yaml", "a: 1\n", "is not a file that weir uses"),
        (
            "spec.yaml",
            "name: shop\nbase_url: https://a.test\nstreams: { a: { gett: /x } }\n",
            "unknown key `gett`",
        ),
        (
            "deep.yaml",
            &format!("{}{}", "[".repeat(100), "]".repeat(100)),
            "nested deeper than 64 levels",
        ),
        ("bomb.yaml", &bomb, "nodes once aliases are followed"),
    ] {
        user.write(name, text);
        let (out, err) = ended(&user.run(&["trust", name]), 2);
        assert!(err.contains(why) && out.is_empty(), "{name}: {out}{err}");
        assert!(!err.contains("budget breached"), "{err}");
    }
    assert!(!user.path(".weir/trusted").exists());
}

#[test]
fn a_file_is_read_for_a_foreign_replication_only_if_that_is_trusted() {
    let user = User::new();
    let site = Site::start(&["--pages", "3"]);
    user.write("id_rsa", "any");
    user.write("r.yaml", &of(&format!("\"{}\"", site.connection("'file:~/id_rsa'"))));
    let (_, err) = ended(&user.run(&["sync", "run", "r.yaml"]), 2);
    assert!(
        err.contains("has a `file:` value, which weir reads only from files that you trust"),
        "{err}"
    );
    assert!(err.contains("weir trust r.yaml"), "{err}");
    ended(&user.run(&["trust", "r.yaml"]), 0);
    ended(&user.run(&["sync", "run", "r.yaml"]), 0);
    // What comes out of a variable is a text, not a file.
    let by_variable = format!("\"{}\"", site.connection("${WHERE}"));
    user.write("v.yaml", &of(&by_variable));
    user.weir(&["sync", "run", "v.yaml"]).env("WHERE", "file:~/id_rsa").output().unwrap();
    // The user's own file and environment need no trust.
    let own = site.connection("file:~/id_rsa");
    let output = user.weir(&["conns", "test", "OWN"]).env("OWN", &own).output().unwrap();
    ended(&output, 0);
    std::fs::create_dir_all(user.path(".weir")).unwrap();
    user.write(".weir/connections.yaml", &format!("connections:\n  OWN: {own}\n"));
    ended(&user.run(&["conns", "test", "OWN"]), 0);
    // A `.env` that hides the user's own connection is no more than a foreign file.
    user.write(
        ".env",
        &format!("OWN=\"{}\"\n", site.connection("'file:~/.weir/connections.yaml'")),
    );
    let (_, err) = ended(&user.run(&["conns", "test", "OWN"]), 2);
    assert!(err.contains("weir trust .env"), "{err}");
}

#[test]
fn a_file_that_hides_or_completes_an_own_connection_is_told() {
    let user = User::new();
    let site = Site::start(&["--pages", "3"]);
    let own = site.connection("any");
    std::fs::create_dir_all(user.path(".weir")).unwrap();
    let domain = "domain: acme.atlassian.net, ";
    user.write(
        ".weir/connections.yaml",
        &format!("connections:\n  OWN: {}\n", own.replace(domain, "")),
    );
    user.write(".env", "CONFLUENCE_DOMAIN=acme.atlassian.net\n");
    user.write("r.yaml", &of("x").replace("source: S", "source: OWN").replace("  S: x\n", ""));
    let told =
        "note: the variable CONFLUENCE_DOMAIN in .env sets `domain` of your connection `OWN`";
    for run in [&["conns", "test", "OWN"][..], &["sync", "run", "r.yaml"]] {
        let (_, err) = ended(&user.run(run), 0);
        assert!(err.contains(told), "{err}");
    }
    user.write(".env", &format!("OWN=\"{own}\"\n"));
    for run in [&["conns", "test", "OWN"][..], &["sync", "run", "r.yaml"]] {
        let (_, err) = ended(&user.run(run), 0);
        let told = "note: connection `OWN` is the definition in .env, not the one in your connections file";
        assert!(err.contains(told), "{err}");
    }
}

#[test]
fn trust_shows_default_origins_and_a_variable_that_is_not_given_is_told() {
    let user = User::new();
    user.write(
        "shop.yaml",
        "
name: shop
connection:
  site: { default: 'https://collector.example.invalid', help: a site }
  note: { env: AWS_SECRET_ACCESS_KEY, help: a note }
base_url: '{{ site }}'
test: { get: /ping }
streams:
  orders: { doc: An order., get: /orders, key: [id], columns: { id: int } }
",
    );
    let test = || {
        let mut weir = user.weir(&["conns", "test", "SHOP"]);
        weir.env("SHOP", "{spec: shop.yaml}").env("AWS_SECRET_ACCESS_KEY", "hunter2");
        weir.output().unwrap()
    };
    let (_, err) = ended(&test(), 2);
    assert!(err.contains("cannot read the variable AWS_SECRET_ACCESS_KEY for `note`"), "{err}");
    let (out, _) = ended(&user.run(&["trust", "shop.yaml"]), 0);
    assert!(out.contains("it sends requests to https://collector.example.invalid"), "{out}");
    assert!(out.contains("it cannot read the variable AWS_SECRET_ACCESS_KEY"), "{out}");
    let (_, err) = ended(&test(), 1);
    assert!(err.contains("cannot read the variable") && !err.contains("hunter2"), "{err}");
}
