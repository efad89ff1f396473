//! Connections and replications that were written for Sling, unchanged.

use std::fs;

use crate::support::{
    postgres::Database,
    user::{Site, User, ended, repository},
};

/// A user with the files of somebody who used Sling.
fn user() -> User {
    let user = User::new();
    for name in ["env.yaml", "env.sling", "all.yaml", "some.yaml"] {
        let path = repository(&format!("tests/it/fixtures/sling/{name}"));
        fs::copy(path, user.path(name)).unwrap();
    }
    user
}

/// The secrets as `conns set` takes them.
const SECRETS: &str = "secrets={ email: user@company.com, api_token: ATATT3xFfGF0..., domain: your-company.atlassian.net }";

#[test]
fn every_way_to_set_a_connection_up_is_understood() {
    let user = user();
    let variable = fs::read_to_string(user.path("env.sling")).unwrap();
    let variable =
        variable.split_once("='").unwrap().1.trim_end().trim_end_matches('\'').to_owned();
    ended(&user.run(&["conns", "set", "KEPT", "type=api", "spec=confluence", SECRETS]), 0);
    let kept = fs::read_to_string(user.path(".weir/connections.yaml")).unwrap();
    assert!(kept.contains("api_token: \"ATATT3xFfGF0...\""), "{kept}");
    for (name, file, value) in [
        ("CONFLUENCE", Some("env.yaml"), None),
        ("CONFLUENCE", Some("env.sling"), None),
        ("CONFLUENCE", None, Some(variable.as_str())),
        ("KEPT", None, None),
    ] {
        let mut list = user.weir(&["conns", "list"]);
        let text = fs::read_to_string(user.path("all.yaml")).unwrap();
        user.write("r.yaml", &text.replace("CONFLUENCE", name));
        let mut dry = user.weir(&["sync", "run", "r.yaml", "--dry-run", "--json"]);
        for command in [&mut list, &mut dry] {
            command.env("MY_POSTGRES", "postgres://me@db.test/wh");
            command.args(file.iter().flat_map(|file| ["--env-file", file]));
            command.envs(value.map(|value| ("CONFLUENCE", value)));
        }
        let (out, _) = ended(&list.output().unwrap(), 0);
        let place = "confluence at your-company.atlassian.net";
        assert!(out.lines().any(|line| line.starts_with(name) && line.ends_with(place)), "{out}");
        assert!(!out.contains("ATATT"), "{out}");
        let (out, _) = ended(&dry.output().unwrap(), 0);
        assert!(out.contains("\"confluence.pages\""), "{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_replications_run() {
    let user = user();
    let database = Database::new().await;
    let site = Site::start(&["--pages", "6", "--blog-posts", "2", "--attachments", "2"]);
    // All that is not Sling's: the site is a simulated one.
    let text = fs::read_to_string(user.path("env.yaml")).unwrap();
    let there = format!("    secrets:\n      site_url: {}\n", site.url);
    user.write("env.yaml", &text.replace("    secrets:\n", &there));
    for (name, tables) in [("all.yaml", 24), ("some.yaml", 5)] {
        database.execute("DROP SCHEMA IF EXISTS confluence CASCADE").await;
        let mut run = user.weir(&["sync", "run", name, "--env-file", "env.yaml"]);
        run.env("MY_POSTGRES", database.url());
        let output = tokio::task::spawn_blocking(move || run.output().unwrap()).await.unwrap();
        ended(&output, 0);
        let count = database
            .text(
                "SELECT count(*)::text FROM information_schema.tables \
                 WHERE table_schema = 'confluence' AND table_name NOT LIKE '\\_weir%'",
            )
            .await;
        assert_eq!(count, tables.to_string(), "{name}");
    }
}

#[test]
fn keys_that_are_not_needed_are_named() {
    let user = user();
    let text = fs::read_to_string(user.path("all.yaml")).unwrap();
    let keys =
        "  primary_key: [id]\n  update_key: updated_at\n  source_options: { flatten: true }\n";
    user.write("r.yaml", &text.replace("defaults:\n", &format!("defaults:\n{keys}")));
    let mut command = user.weir(&["sync", "validate", "r.yaml", "--env-file", "env.yaml"]);
    let output = command.env("MY_POSTGRES", "postgres://me@db.test/wh").output().unwrap();
    let (_, err) = ended(&output, 2);
    assert_eq!(err.matches("hint: the spec declares this: delete the line").count(), 3, "{err}");
}

#[test]
fn commands_of_another_program_lead_to_those_of_weir() {
    let user = user();
    for (arguments, hint) in [
        (&["run", "-r", "a.yaml"][..], "hint: weir sync run a.yaml"),
        (&["run", "--mode", "incremental", "-r", "a.yaml"], "hint: weir sync run a.yaml"),
        (&["sync", "run", "-r", "a.yaml"], "hint: weir sync run a.yaml"),
        (&["plan", "a.yaml"], "hint: weir sync plan a.yaml"),
        (&["list"], "hint: weir conns list"),
    ] {
        let (_, err) = ended(&user.run(arguments), 2);
        assert!(err.contains(hint), "{err}");
    }
}
