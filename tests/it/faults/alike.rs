//! What refuses every stream in the same way is one error, whoever met it first.

use serde_json::{Value, json};
use weir::http::exchange::TransportError;
use weir::report::StreamStatus;
use weir::sync::report::RunStatus;

use crate::support::{
    fake::{Asked, Fake, Reply, RunResult},
    user::{Site, TO_FILES, User, ended},
};

const SPEC: &str = "
name: shop
connection: { token: { secret: true, required: true } }
base_url: https://shop.test/v1
auth: { bearer: '{{ token }}' }
test: { get: /ping }
streams:
  orders: { doc: O., get: /orders, key: [id], feeds: { order_ids: id }, columns: { id: int } }
  lines:
    { doc: L., for_each: order_ids, get: '/lines/{{ order_id }}', key: [id], columns: { id: int }, unique_ids: true }
  people: { doc: P., get: /people, key: [id], columns: { id: int } }
  goods: { doc: G., get: /goods, key: [id], columns: { id: int } }
";

async fn run(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> RunResult {
    Fake::new(SPEC, answer).run().await
}

/// The one error of all streams.
#[track_caller]
fn the_error(ran: &RunResult) -> String {
    assert_eq!(ran.report.status, RunStatus::Failed);
    let errors: Vec<_> = ran.report.streams.iter().map(|one| (&one.error, &one.hint)).collect();
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:#?}");
    errors[0].0.clone().unwrap()
}

fn page() -> Reply {
    Reply::raw(200, "<html>log in</html>")
}

#[tokio::test(start_paused = true)]
async fn whatever_refuses_all_streams_is_one_error_that_names_whose_request_it_was() {
    let unknown =
        || TransportError::Certificate("its authority `CN=Acme` is not trusted here".into());
    let proxy =
        || TransportError::Proxy("http://proxy.test refuses to connect to this host".into());
    let nobody = || TransportError::Connect("connection refused".into());
    let elsewhere = || TransportError::LeavesOrigin("https://login.test".into());
    let runs = [
        run(move |_| Reply::none(unknown())).await,
        run(move |_| Reply::none(proxy())).await,
        run(move |_| Reply::none(nobody())).await,
        run(move |_| Reply::none(elsewhere())).await,
        run(|_| page()).await,
        run(|_| Reply::raw(503, "<html>maintenance</html>")).await,
        run(|_| Reply::status(401, &json!({ "message": "no" }))).await,
    ];
    for ran in &runs {
        let error = the_error(ran);
        assert_eq!(error.matches("(requested for `").count(), 1, "{error}");
    }
    assert!(the_error(&runs[4]).contains("all requests fail in the same way"));
    assert!(the_error(&runs[6]).contains("the API does not accept the credentials"));
}

#[tokio::test(start_paused = true)]
async fn what_one_stream_alone_meets_stops_no_other() {
    let table: [fn() -> Reply; 4] = [
        page,
        || Reply::raw(404, "<html>not found</html>"),
        || Reply::none(TransportError::LeavesOrigin("https://login.test".into())),
        || Reply::status(403, &json!({ "message": "no" })),
    ];
    for answer in table {
        let ran = run(move |asked| match asked.path.as_str() {
            "/v1/people" => answer(),
            _ => Reply::json(&json!([{ "id": 1 }])),
        })
        .await;
        assert_eq!(ran.stream("people").status, StreamStatus::Failed);
        for other in ["orders", "lines", "goods"] {
            let report = ran.stream(other);
            assert_eq!(report.status, StreamStatus::Done, "{other}: {:?}", report.error);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_has_answered_is_not_given_up_for_all() {
    let ran = run(|asked| match asked.path.as_str() {
        "/v1/people" => Reply::none(TransportError::Connect("connection reset".into())),
        _ => Reply::json(&json!([{ "id": 1 }])),
    })
    .await;
    assert_eq!(ran.stream("people").status, StreamStatus::Failed);
    assert_eq!(ran.stream("goods").status, StreamStatus::Done);
}

#[test]
fn a_run_prints_such_an_error_once_and_lists_it_at_the_top() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let site = Site::start(&["--email", "ann@acme.test", "--token", "right"]);
    let run = |more: &[&str]| {
        let arguments = [&["sync", "run", "r.yaml"], more].concat();
        user.weir(&arguments).env("WIKI", site.connection("wrong")).output().unwrap()
    };
    let (_, err) = ended(&run(&[]), 1);
    let told = err.matches("the API does not accept the credentials").count();
    // As it happens, and in the summary.
    assert_eq!(told, 2, "{err}");
    assert_eq!(err.lines().filter(|line| line.starts_with("error:")).count(), 1, "{err}");
    assert!(err.contains("(requested for `"), "{err}");
    let (out, _) = ended(&run(&["--json"]), 1);
    let found: Value = serde_json::from_str(&out).unwrap();
    let errors = found["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0]["message"].as_str().unwrap().contains("credentials"), "{errors:#?}");
    assert!(errors[0]["streams"].as_array().unwrap().len() > 10, "{errors:#?}");
}
