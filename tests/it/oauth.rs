//! OAuth 2.0 from end to end: the program, a token server and a simulated site, each a process or a
//! thread of its own.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use weir_sim::Options;

use super::support::user::{Site, User, ended};

const ACCESS: &str = "the-access-token";
const SECRET: &str = "the-client-secret";

/// A token server that knows one client, and replaces its refresh token whenever that is used.
struct Tokens {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// Number of the only refresh token that is good.
    generation: usize,
    granted: usize,
    refused: usize,
    grants: Vec<String>,
}

impl Tokens {
    /// `lifetime`: seconds until an access token expires.
    fn start(lifetime: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::default()));
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&stream.unwrap(), &shared, lifetime));
            }
        });
        Self { address, seen }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The refresh token that is good now.
    fn refresh_token(&self) -> String {
        token_of(self.seen.lock().unwrap().generation)
    }

    fn counts(&self) -> (usize, usize) {
        let seen = self.seen.lock().unwrap();
        (seen.granted, seen.refused)
    }
}

fn token_of(generation: usize) -> String {
    format!("refresh-{generation}")
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream, seen: &Mutex<Seen>, lifetime: u64) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        assert!(line.starts_with("POST /oauth/token "), "{line}");
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let (status, answer) = answer(&body, &mut seen.lock().unwrap(), lifetime);
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n");
        let text = format!("{head}content-length: {}\r\n\r\n{answer}", answer.len());
        if (&*stream).write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(body: &[u8], seen: &mut Seen, lifetime: u64) -> (&'static str, String) {
    let form: Vec<(String, String)> = url::form_urlencoded::parse(body).into_owned().collect();
    let value = |name: &str| {
        let found = form.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    seen.grants.push(value("grant_type").to_owned());
    let known = value("client_id") == "app" && value("client_secret") == SECRET;
    let good = match value("grant_type") {
        "client_credentials" => true,
        "refresh_token" => value("refresh_token") == token_of(seen.generation),
        _ => false,
    };
    if !known || !good {
        seen.refused += 1;
        let error = if known { "invalid_grant" } else { "invalid_client" };
        return ("400 Bad Request", format!("{{\"error\":\"{error}\"}}"));
    }
    seen.granted += 1;
    let mut answer = format!("{{\"access_token\":\"{ACCESS}\",\"expires_in\":{lifetime}");
    if value("grant_type") == "refresh_token" {
        seen.generation += 1;
        answer += ",\"refresh_token\":\"";
        answer += &token_of(seen.generation);
        answer += "\"";
    }
    ("200 OK", answer + "}")
}

fn site() -> Site {
    Site::start(&["--email", "nobody@example.net", "--token", ACCESS, "--pages", "12"])
}

/// The properties of a connection to the site by way of the gateway.
fn properties(site: &Site, tokens: &Tokens) -> Vec<String> {
    let gateway = format!("{}/ex/confluence/{}", site.url, Options::default().cloud_id);
    [
        "type=api",
        "spec=confluence",
        "auth=oauth",
        "domain=acme.atlassian.net",
        "client_id=app",
        &format!("client_secret={SECRET}"),
        &format!("site_url={gateway}"),
        &format!("auth_url={}", tokens.url()),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn set(user: &User, properties: &[String]) {
    let mut arguments = vec!["conns", "set", "WIKI"];
    arguments.extend(properties.iter().map(String::as_str));
    ended(&user.run(&arguments), 0);
}

fn in_background(user: &User, arguments: &[&str]) -> Child {
    user.weir(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn file(user: &User) -> String {
    fs::read_to_string(user.path(".weir/connections.yaml")).unwrap()
}

fn replication(user: &User, name: &str) {
    let text = format!(
        "source: WIKI\ntarget: LOCAL\ndefaults: {{ object: '{name}/{{stream_name}}.jsonl' }}\nstreams: {{ spaces: , pages: , page_labels: }}\n"
    );
    user.write(&format!("{name}.yaml"), &text);
}

#[test]
fn a_service_account_gets_tokens_by_its_own_credentials() {
    let (user, site, tokens) = (User::new(), site(), Tokens::start(3600));
    set(&user, &properties(&site, &tokens));
    let (out, _) = ended(&user.run(&["conns", "test", "WIKI"]), 0);
    assert!(out.contains("works"), "{out}");
    replication(&user, "one");
    let (_, err) = ended(&user.run(&["sync", "run", "one.yaml"]), 0);
    assert!(err.contains("points"), "an app has a quota: {err}");
    assert_eq!(tokens.seen.lock().unwrap().grants, ["client_credentials"; 2]);

    let mut wrong = properties(&site, &tokens);
    wrong[5] = "client_secret=wrong-secret".to_owned();
    set(&user, &wrong);
    let failed = user.run(&["conns", "test", "WIKI"]);
    let err = String::from_utf8(failed.stderr).unwrap();
    assert!(!failed.status.success() && err.contains("invalid_client"), "{err}");
    assert!(!err.contains("wrong-secret"), "{err}");
}

#[test]
fn what_is_missing_depends_on_the_way_in() {
    let user = User::new();
    let missing = |connection: &str| {
        let mut command = user.weir(&["conns", "test", "WIKI"]);
        let failed = command.env("WIKI", connection).output().unwrap();
        assert!(!failed.status.success());
        String::from_utf8(failed.stderr).unwrap()
    };
    let names = ["`email`", "`api_token`", "`client_id`", "`client_secret`"];
    let named = |text: &str| names.map(|name| text.contains(&format!("{name} is missing")));
    let text = missing("{spec: confluence, domain: acme.atlassian.net}");
    assert_eq!(named(&text), [true, true, false, false], "{text}");
    let text = missing("{spec: confluence, domain: acme.atlassian.net, auth: oauth}");
    assert_eq!(named(&text), [false, false, true, true], "{text}");
    assert!(text.contains("client_id=… client_secret=…"), "{text}");
    let text = missing("{spec: confluence, domain: acme.atlassian.net, auth: magic}");
    assert!(text.contains("`auth` is not one of api_token, oauth"), "{text}");
}

#[test]
fn a_simulated_site_lets_an_app_in() {
    let user = User::new();
    replication(&user, "one");
    for (auth, counted) in [("oauth", true), ("api_token", false)] {
        let connection = format!("{{spec: confluence, auth: {auth}, simulate: {{pages: 12}}}}");
        let mut command = user.weir(&["sync", "run", "one.yaml", "--adopt"]);
        let (_, err) = ended(&command.env("WIKI", connection).output().unwrap(), 0);
        assert_eq!(err.contains("points"), counted, "{auth}: {err}");
    }
}

#[test]
fn a_refresh_token_is_replaced_in_the_file_and_nothing_else_is() {
    let (user, site, tokens) = (User::new(), site(), Tokens::start(3600));
    let mut given = properties(&site, &tokens);
    given.push(format!("refresh_token={}", tokens.refresh_token()));
    set(&user, &given);
    let before = format!("# mine\n{}", file(&user));
    fs::write(user.path(".weir/connections.yaml"), &before).unwrap();
    for generation in 1..=3 {
        ended(&user.run(&["conns", "test", "WIKI"]), 0);
        assert_eq!(tokens.refresh_token(), token_of(generation));
        assert_eq!(file(&user), before.replace(&token_of(0), &token_of(generation)));
    }
    assert_eq!(tokens.counts(), (3, 0));
}

#[test]
fn many_processes_never_use_a_refresh_token_twice() {
    // Access tokens that expire at once: every request of every process asks for a new one.
    let (user, site, tokens) = (User::new(), site(), Tokens::start(0));
    let mut given = properties(&site, &tokens);
    given.push(format!("refresh_token={}", tokens.refresh_token()));
    set(&user, &given);
    let mut running = Vec::new();
    for name in ["one", "two", "three"] {
        replication(&user, name);
        running.push(in_background(&user, &["sync", "run", &format!("{name}.yaml")]));
        running.push(in_background(&user, &["conns", "test", "WIKI"]));
    }
    for process in running {
        ended(&process.wait_with_output().unwrap(), 0);
    }
    let (granted, refused) = tokens.counts();
    assert_eq!(refused, 0);
    assert!(granted > 20, "{granted}");
    assert!(file(&user).contains(&format!("\"{}\"", tokens.refresh_token())));
}

#[test]
fn nothing_is_asked_before_the_new_refresh_token_is_kept() {
    let (user, site, tokens) = (User::new(), site(), Tokens::start(3600));
    let mut given = properties(&site, &tokens);
    given.push(format!("refresh_token={}", tokens.refresh_token()));
    // Nobody listens there: to ask would be another error.
    given[6] = "site_url=http://127.0.0.1:1".to_owned();
    set(&user, &given);
    // Where the file is drafted a folder stands.
    fs::create_dir(user.path(".weir/connections.yaml.new")).unwrap();
    let failed = user.run(&["conns", "test", "WIKI"]);
    let err = String::from_utf8(failed.stderr).unwrap();
    assert!(!failed.status.success() && err.contains("cannot be written"), "{err}");
    assert_eq!(tokens.counts(), (1, 0));
    assert!(!err.contains("refresh-"), "{err}");
}

#[test]
fn a_refresh_token_that_could_not_be_kept_is_not_used() {
    let (user, site, tokens) = (User::new(), site(), Tokens::start(3600));
    let refresh = tokens.refresh_token();
    let fields: Vec<String> =
        properties(&site, &tokens).iter().map(|one| one.replacen('=', ": '", 1) + "'").collect();
    let elsewhere = format!("{{{}, refresh_token: '{refresh}'}}", fields.join(", "));
    let mut command = user.weir(&["conns", "test", "WIKI"]);
    let failed = command.env("WIKI", elsewhere).output().unwrap();
    let err = String::from_utf8(failed.stderr).unwrap();
    assert!(!failed.status.success() && err.contains("connections file"), "{err}");

    let mut given = properties(&site, &tokens);
    given.push("refresh_token=${REFRESH}".to_owned());
    let mut command = user.weir(&["conns", "set", "WIKI"]);
    ended(&command.args(&given).env("REFRESH", &refresh).output().unwrap(), 0);
    let mut command = user.weir(&["conns", "test", "WIKI"]);
    let failed = command.env("REFRESH", &refresh).output().unwrap();
    assert!(!failed.status.success());
    assert_eq!(tokens.counts(), (0, 0));
}
