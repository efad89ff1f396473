//! What stands between weir and an API: certificates, ports without TLS, proxies.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::support::user::{Site, User, ended};

/// An authority of a company's own, and a certificate for localhost that it issued.
const CERTIFICATES: &str = "
elliptic='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
openssl req -x509 $elliptic -keyout ca.key -out ca.pem -subj '/CN=Acme Root CA' -days 2 &&
openssl req $elliptic -keyout server.key -out server.csr -subj /CN=localhost &&
echo subjectAltName=DNS:localhost > names &&
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \\
  -extfile names -out server.pem
";

/// Answers each request over TLS as an empty listing; tells the port.
fn serve_tls(folder: &Path) -> u16 {
    let made = Command::new("sh").args(["-c", CERTIFICATES]).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let chain = vec![CertificateDer::from_pem_file(folder.join("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    serve(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        answer(StreamOwned::new(connection, stream), "200 OK", "{\"results\": []}");
    })
}

/// Calls a function with each connection; tells the port.
fn serve(handle: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().for_each(|stream| handle(stream.unwrap())));
    port
}

/// Reads a request's head and answers it; who hangs up before is gone.
fn answer(stream: impl Read + Write, status: &str, body: &str) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
    }
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    let stream = reader.get_mut();
    drop(stream.write_all(format!("{head}{body}").as_bytes()).and_then(|()| stream.flush()));
}

fn connection(url: &str) -> String {
    format!(
        "{{type: api, spec: confluence, domain: acme.test, email: a@b.c, api_token: t, site_url: '{url}'}}"
    )
}

#[test]
fn a_certificate_of_an_unknown_authority_is_named_with_what_to_do() {
    let user = User::new();
    let port = serve_tls(user.folder.path());
    let url = format!("https://localhost:{port}");
    let test = |name: &str, value: &str| {
        let mut command = user.weir(&["conns", "test", "WIKI"]);
        command.env("WIKI", connection(&url)).env(name, value).output().unwrap()
    };
    let (_, err) = ended(&test("LANG", "C"), 1);
    for part in ["Acme Root CA", "SSL_CERT_FILE="] {
        assert!(err.contains(part), "{err}");
    }
    assert!(!err.contains("host of your site"), "{err}");
    let file = user.path("ca.pem").display().to_string();
    ended(&test("SSL_CERT_FILE", &file), 0);
    let (_, err) = ended(&test("SSL_CERT_FILE", "/none.pem"), 2);
    assert!(err.contains("SSL_CERT_FILE is `/none.pem`"), "{err}");
    fs::create_dir(user.path("empty")).unwrap();
    let (_, err) = ended(&test("SSL_CERT_DIR", &user.path("empty").display().to_string()), 2);
    assert!(err.contains("SSL_CERT_DIR is"), "{err}");
}

#[test]
fn a_run_asks_a_host_that_is_not_trusted_once() {
    let user = User::new();
    let port = serve_tls(user.folder.path());
    user.write("r.yaml", crate::support::user::TO_FILES);
    let mut command = user.weir(&["sync", "run", "r.yaml", "--streams", "spaces", "-v"]);
    command.env("WIKI", connection(&format!("https://localhost:{port}")));
    let (_, err) = ended(&command.output().unwrap(), 1);
    assert!(err.contains("Acme Root CA") && err.contains("SSL_CERT_FILE="), "{err}");
    assert!(!err.contains("retry in"), "{err}");
}

#[test]
fn a_machine_without_certificates_goes_by_those_that_weir_carries() {
    let user = User::new();
    let site = Site::start(&[]);
    let tls = serve_tls(user.folder.path());
    // A container as slim as can be: nothing in /etc/ssl.
    let bare = |url: &str| {
        let program = env!("CARGO_BIN_EXE_weir");
        let script = format!("mount -t tmpfs none /etc/ssl && exec {program} conns test WIKI");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", user.folder.path());
        command.env("WIKI", connection(url)).stdin(Stdio::null()).output().unwrap()
    };
    ended(&bare(&site.url), 0);
    let (_, err) = ended(&bare(&format!("https://localhost:{tls}")), 1);
    assert!(err.contains("Acme Root CA") && err.contains("SSL_CERT_FILE="), "{err}");
}

#[test]
fn a_port_without_tls_is_told_from_a_wrong_host() {
    let user = User::new();
    // One server answers what it takes for a bad request, the other hangs up.
    let port = serve(|mut stream| drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    let site = Site::start(&[]);
    let silent = site.url.replace("http://", "https://");
    for url in [format!("https://127.0.0.1:{port}"), silent] {
        let mut command = user.weir(&["conns", "test", "WIKI"]);
        let (_, err) = ended(&command.env("WIKI", connection(&url)).output().unwrap(), 1);
        assert!(err.contains("TLS") && err.contains("use http://"), "{err}");
        assert!(!err.contains("host of your site"), "{err}");
    }
}

#[test]
fn a_proxy_that_refuses_is_named_without_its_password() {
    let user = User::new();
    let table = [
        ("403 Forbidden", "refuses to connect"),
        ("407 Proxy Authentication Required", "requires a user and password"),
    ];
    for (status, told) in table {
        let port = serve(move |stream| answer(stream, status, ""));
        for (variable, url) in
            [("HTTPS_PROXY", "https://acme.test"), ("http_proxy", "http://acme.test")]
        {
            // A proxy may answer a request that is not encrypted as if it were the host.
            if variable == "http_proxy" && status.starts_with("403") {
                continue;
            }
            let mut command = user.weir(&["conns", "test", "WIKI"]);
            command.env("WIKI", connection(url));
            command.env(variable, format!("http://ann:s3cret@127.0.0.1:{port}"));
            let (_, err) = ended(&command.output().unwrap(), 1);
            assert!(err.contains(&format!("the proxy http://127.0.0.1:{port} {told}")), "{err}");
            assert!(err.contains("NO_PROXY") && !err.contains("s3cret"), "{err}");
        }
    }
}

#[test]
fn a_body_that_does_not_fit_its_encoding_is_no_broken_connection() {
    let user = User::new();
    let port = serve(|stream| {
        answer(stream, "200 OK\r\ncontent-encoding: gzip", "{\"results\": []}");
    });
    user.write("r.yaml", crate::support::user::TO_FILES);
    let mut command = user.weir(&["sync", "run", "r.yaml", "--streams", "spaces"]);
    command.env("WIKI", connection(&format!("http://127.0.0.1:{port}")));
    let (_, err) = ended(&command.output().unwrap(), 1);
    assert!(err.contains("does not match its `content-encoding`"), "{err}");
    assert!(!err.contains("try 2") && !err.contains("connection was lost"), "{err}");
}

#[test]
fn an_authority_that_is_not_trusted_is_one_error_for_all_streams() {
    let user = User::new();
    let port = serve_tls(user.folder.path());
    user.write("r.yaml", crate::support::user::TO_FILES);
    let mut command = user.weir(&["sync", "run", "r.yaml"]);
    command.env("WIKI", connection(&format!("https://localhost:{port}")));
    let (_, err) = ended(&command.output().unwrap(), 1);
    assert_eq!(err.lines().filter(|line| line.starts_with("error:")).count(), 1, "{err}");
    assert_eq!(err.lines().filter(|line| line.contains(": failed: ")).count(), 1, "{err}");
}
