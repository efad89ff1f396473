//! Connecting: TLS, sockets, and what is said when it cannot be.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use weir::{
    error::{Error, Kind},
    write::{
        Disposition, Target,
        postgres::{Postgres, PostgresOptions},
    },
};

use crate::support::{
    postgres::{Database, server},
    target_contract::{load, table},
    user::{User, ended},
};

/// Options for the server that this process started, which has TLS.
fn local(user: &str, host: &str, more: &str) -> PostgresOptions {
    let (port, folder) = (server().port, &server().folder);
    let more = more.replace("FOLDER", folder);
    let url = format!("postgres://{user}:weir@{host}:{port}/postgres?{more}");
    PostgresOptions::from_url(&url).unwrap()
}

async fn refusal(options: PostgresOptions) -> Error {
    let error = Postgres::new(options).check().await.expect_err("it connects");
    let all = format!("{error:?}");
    assert!(!all.contains("hunter2"), "{all}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn sslmode_means_what_libpq_means() {
    let own = "sslrootcert=FOLDER/ca.crt";
    let other = "sslrootcert=FOLDER/other.crt";
    for (host, options, admitted) in [
        ("127.0.0.1", "sslmode=disable".to_owned(), true),
        ("127.0.0.1", "sslmode=allow".to_owned(), true),
        ("127.0.0.1", "sslmode=prefer".to_owned(), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("127.0.0.1", format!("sslmode=prefer&{other}"), true),
        // With a root certificate, `require` is `verify-ca`.
        ("127.0.0.1", format!("sslmode=require&{own}"), true),
        ("127.0.0.1", format!("sslmode=require&{other}"), false),
        ("127.0.0.1", format!("sslmode=verify-ca&{own}"), true),
        ("127.0.0.1", format!("sslmode=verify-ca&{other}"), false),
        ("localhost", format!("sslmode=verify-full&{own}"), true),
        ("127.0.0.1", format!("sslmode=verify-full&{own}"), false),
        ("localhost", format!("sslmode=verify-full&{other}"), false),
        // The server's own certificate is trusted as it is.
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=FOLDER/server.crt".to_owned(), true),
        ("localhost", "sslmode=verify-full&sslrootcert=FOLDER/server.crt".to_owned(), true),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=FOLDER/server.crt".to_owned(), false),
        // The system does not know the tests' authority.
        ("localhost", "sslmode=verify-full".to_owned(), false),
        ("localhost", "sslmode=verify-ca".to_owned(), false),
    ] {
        let outcome = Postgres::new(local("weir", host, &options)).check().await;
        assert_eq!(outcome.is_ok(), admitted, "{host} {options}: {outcome:?}");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), Kind::Unreachable);
            assert!(error.hint().unwrap().contains("sslrootcert"), "{error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_encrypted_when_they_should_be() {
    let database = Database::local().await;
    let encrypted = "SELECT bool_or(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'weir' AND datname = current_database()";
    for (mode, expected) in [("disable", "false"), ("allow", "false"), ("prefer", "true")] {
        let mut options = local("weir", "127.0.0.1", &format!("sslmode={mode}"));
        options.database.clone_from(&database.name);
        let target = Postgres::new(options);
        target.check().await.unwrap();
        assert_eq!(database.text(encrypted).await, expected, "{mode}");
        drop(target);
        super::interruptions::eventually(async || database.text(encrypted).await == "null").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prefer_and_allow_have_a_second_way() {
    let database = Database::local().await;
    database
        .execute(
            "DO $$ BEGIN CREATE ROLE tls_only LOGIN PASSWORD 'weir'; \
             CREATE ROLE plain_only LOGIN PASSWORD 'weir'; END $$",
        )
        .await;
    let grant = format!("GRANT CREATE ON DATABASE {} TO tls_only, plain_only", database.name);
    database.execute(&grant).await;
    for (user, mode, admitted) in [
        ("tls_only", "allow", true),
        ("tls_only", "prefer", true),
        ("tls_only", "disable", false),
        ("plain_only", "allow", true),
        ("plain_only", "prefer", true),
        ("plain_only", "require", false),
    ] {
        let mut options = local(user, "127.0.0.1", &format!("sslmode={mode}"));
        options.database.clone_from(&database.name);
        let outcome = Postgres::new(options).check().await;
        assert_eq!(outcome.is_ok(), admitted, "{user} {mode}: {outcome:?}");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), Kind::Credentials, "{error:?}");
            assert!(error.hint().unwrap().contains("pg_hba.conf"), "{error:?}");
        }
    }
    database.execute("DROP OWNED BY tls_only, plain_only; DROP ROLE tls_only, plain_only").await;
}

/// A server that answers every request for TLS with no.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_not_talked_to_in_the_clear() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(b"N").await.unwrap();
        let mut more = Vec::new();
        stream.read_to_end(&mut more).await.unwrap();
        more
    });
    let url = format!("postgres://me:hunter2@127.0.0.1:{port}/db?sslmode=require");
    let error = refusal(PostgresOptions::from_url(&url).unwrap()).await;
    assert!(error.chain().contains("does not support TLS"), "{error:?}");
    assert!(error.hint().unwrap().contains("set `sslmode` to `prefer`"), "{error:?}");
    assert!(heard.await.unwrap().is_empty(), "something was said without TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_a_way_too() {
    let (port, folder) = (server().port, &server().folder);
    for mode in ["disable", "prefer", "require", "verify-full"] {
        let url =
            format!("postgres://weir:weir@/postgres?host={folder}&port={port}&sslmode={mode}");
        let target = Postgres::new(PostgresOptions::from_url(&url).unwrap());
        target.check().await.unwrap_or_else(|error| panic!("{mode}: {error:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_host_is_tried_when_the_first_does_not_answer() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let port = server().port;
    let url = format!("postgres://weir:weir@127.0.0.1:{free},127.0.0.1:{port}/postgres");
    Postgres::new(PostgresOptions::from_url(&url).unwrap()).check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_of_not_connecting_is_told_apart() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let port = server().port;
    for (url, kind, what) in [
        (
            format!("postgres://weir:hunter2@127.0.0.1:{port}/postgres"),
            Kind::Credentials,
            "the server does not accept the password of user `weir`".to_owned(),
        ),
        (
            format!("postgres://nobody:hunter2@127.0.0.1:{port}/postgres"),
            Kind::Credentials,
            "the server does not accept the password of user `nobody`".to_owned(),
        ),
        (
            format!("postgres://weir@127.0.0.1:{port}/postgres"),
            Kind::Credentials,
            "the server asks for a password, and the connection has none".to_owned(),
        ),
        (
            format!("postgres://weir:weir@127.0.0.1:{port}/nowhere"),
            Kind::Input,
            format!("there is no database `nowhere` at `127.0.0.1:{port}`"),
        ),
        (
            format!("postgres://weir:hunter2@127.0.0.1:{free}/postgres"),
            Kind::Unreachable,
            format!("no server listens at `127.0.0.1:{free}`"),
        ),
        (
            "postgres://weir:hunter2@no.such.host.invalid/postgres".to_owned(),
            Kind::Unreachable,
            "the host of `no.such.host.invalid:5432` is unknown".to_owned(),
        ),
        (
            "postgres://weir:hunter2@/postgres?host=/no/such/folder".to_owned(),
            Kind::Unreachable,
            "no server listens at `/no/such/folder:5432`".to_owned(),
        ),
    ] {
        let error = refusal(PostgresOptions::from_url(&url).unwrap()).await;
        assert_eq!((error.kind(), error.to_string()), (kind, what), "{error:?}");
        assert!(error.hint().is_some(), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("postgres://me:hunter2@127.0.0.1:{port}/db?connect_timeout=1");
    let error = refusal(PostgresOptions::from_url(&url).unwrap()).await;
    assert_eq!(error.to_string(), format!("no response from `127.0.0.1:{port}` within 1 seconds"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_certificates_that_is_none_is_named() {
    for file in ["/no/such.pem", "/etc/passwd"] {
        let more = format!("sslmode=verify-ca&sslrootcert={file}");
        let error = refusal(local("weir", "127.0.0.1", &more)).await;
        assert_eq!(error.kind(), Kind::Input, "{error:?}");
        assert!(error.to_string().contains(file), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lacks_a_right_is_told_which() {
    let database = Database::new().await;
    let role = format!("{}_guest", database.name);
    database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'weir'; CREATE SCHEMA theirs; \
             REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
             CREATE TABLE public.owned (id bigint PRIMARY KEY, name text); \
             GRANT SELECT ON public.owned TO {role}"
        ))
        .await;
    let mut options = database.options();
    options.user.clone_from(&role);
    let target = Postgres::new(options);
    let error = target.check().await.unwrap_err();
    assert!(error.to_string().contains("may not create tables"), "{error:?}");
    assert!(error.hint().unwrap().contains("GRANT USAGE, CREATE ON SCHEMA"), "{error:?}");
    for (object, part) in [
        ("new.people", r#"schema "new" cannot be created"#),
        ("theirs.people", r#"table "theirs"."people" cannot be created"#),
    ] {
        let error = target.open(&table(object, Disposition::Replace), None).await.err().unwrap();
        assert!(error.to_string().contains(part), "{error:?}");
        assert!(error.chain().contains("permission denied"), "{error:?}");
        assert!(error.hint().unwrap().contains("CREATE"), "{error:?}");
    }
    // A schema that is there is enough, without the right to create schemas.
    database.execute(&format!("GRANT USAGE, CREATE ON SCHEMA theirs, public TO {role}")).await;
    target.check().await.unwrap();
    assert_eq!(load(&target, &table("theirs.people", Disposition::Merge), &[(1, "Ann")]).await, 1);
    // Nor does a merge by parents need the right to create temporary tables.
    database.execute(&format!("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC", database.name)).await;
    let mut merge = table("theirs.people", Disposition::Merge);
    merge.replaces = Some("name".to_owned());
    assert_eq!(load(&target, &merge, &[(2, "Bo")]).await, 1);
    let tables = "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
                  WHERE nspname = 'theirs' AND relkind = 'r'";
    assert_eq!(database.texts(tables).await, ["_weir_tables", "people"]);
    let append = table("owned", Disposition::Append);
    let mut writer = target.open(&append, None).await.unwrap().unwrap();
    writer.write(crate::support::target_contract::people(&append, &[(1, "Ann")])).await.unwrap();
    let error = writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap_err();
    assert!(error.chain().contains("permission denied for table owned"), "{error:?}");
    drop(target);
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// A connection that says nothing leads where `psql` would go.
#[tokio::test(flavor = "multi_thread")]
async fn the_environment_says_what_a_connection_leaves_open() {
    let database = Database::local().await;
    let user = User::new();
    user.write(".pgpass", "127.0.0.1:*:*:weir:weir\n");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(user.path(".pgpass"), private).unwrap();
    let port = server().port.to_string();
    for url in ["postgres://", "{type: postgres}"] {
        let mut command = user.weir(&["conns", "test", "PG"]);
        command.env("PG", url).env("PGHOST", "127.0.0.1").env("PGPORT", &port);
        command.env("PGUSER", "weir").env("PGDATABASE", &database.name).env("PGSSLMODE", "disable");
        ended(&command.output().unwrap(), 0);
        // The environment's own password is taken before that of the file.
        let (_, err) = ended(&command.env("PGPASSWORD", "wrong").output().unwrap(), 1);
        assert!(err.contains("does not accept the password of user `weir`"), "{err}");
    }
}

#[test]
fn a_password_is_read_from_stdin_and_a_wrong_field_is_named() {
    let user = User::new();
    let mut command = user.weir(&["conns", "set", "PG", "postgres://me@h/db", "password=-"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"hunter2\n").unwrap();
    assert!(child.wait().unwrap().success());
    let kept = std::fs::read_to_string(user.path(".weir/connections.yaml")).unwrap();
    assert!(
        kept.contains("password: \"hunter2\"") && kept.contains("postgres://me@h/db"),
        "{kept}"
    );
    for (definition, said) in [
        ("{type: postgres, usr: me}", ["has no field `usr`", "did you mean `user`?"]),
        ("postgres://me:hunter2@h/db?sslmod=require", ["has no field `sslmod`", "`sslmode`"]),
        ("jdbc:postgresql://h/db?user=me&password=hunter2", ["JDBC", "write postgresql://"]),
        ("postgresql+psycopg2://me:hunter2@h/db", ["SQLAlchemy", "write postgresql://"]),
    ] {
        let output = user.weir(&["conns", "test", "X"]).env("X", definition).output().unwrap();
        let (_, err) = ended(&output, 2);
        assert!(said.iter().all(|part| err.contains(part)), "{definition}: {err}");
        assert!(!err.contains("hunter2"), "{err}");
    }
}
