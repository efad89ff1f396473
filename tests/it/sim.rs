//! The simulator from outside: both faces, every listing to its end, every fact against the
//! extract of Atlassian's `OpenAPI` documents in `fixtures/openapi`.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use weir::cli::simulated::SimulatedApi;
use weir::http::exchange::{
    HeaderValue, Method, Request, Response, Transport, TransportError, Url, header,
};
use weir_sim::{
    CUSTOM_CONTENT_TYPES, Credentials, FaultRule, Faults, Options, ParameterForm, ROUTES,
    RetryAfter, Route, STREAMS, Simulator, Wanted, What, When, serve,
};

pub(crate) type Row = Map<String, Value>;

pub(crate) const V2: &str = "/wiki/api/v2";

fn simulator(change: impl FnOnce(&mut Options)) -> Simulator {
    let mut options = Options::default();
    change(&mut options);
    Simulator::new(options)
}

fn with_fault(part: &str, when: When, what: What) -> Simulator {
    simulator(|options| {
        options.faults.rules = vec![FaultRule { part: part.to_owned(), when, what }];
    })
}

pub(crate) fn request(path: &str) -> Request {
    Request::get(Url::parse(&format!("https://acme.atlassian.net{path}")).unwrap())
}

pub(crate) async fn get(simulator: &Simulator, path: &str) -> Response {
    SimulatedApi(simulator.clone()).send(&request(path)).await.unwrap()
}

pub(crate) async fn json(simulator: &Simulator, path: &str) -> Value {
    let response = get(simulator, path).await;
    let text = String::from_utf8_lossy(&response.body).into_owned();
    assert_eq!(response.status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("{path}: {why}: {text}"))
}

pub(crate) async fn status(simulator: &Simulator, path: &str) -> u16 {
    get(simulator, path).await.status.as_u16()
}

/// Follows `next` to the end, however many rows a page has.
pub(crate) async fn walk(simulator: &Simulator, path: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut next = Some(path.to_owned());
    let mut seen = HashSet::new();
    while let Some(path) = next {
        assert!(seen.insert(path.clone()), "the walk goes round in circles at {path}");
        let page = json(simulator, &path).await;
        let results = page["results"].as_array().unwrap();
        rows.extend(results.iter().map(|row| row.as_object().unwrap().clone()));
        next = page["_links"]["next"].as_str().map(|link| {
            let old = link.starts_with("/rest/");
            if old { format!("/wiki{link}") } else { link.to_owned() }
        });
    }
    rows
}

pub(crate) fn id(row: &Row) -> &str {
    row["id"].as_str().unwrap()
}

pub(crate) fn sorted(rows: Vec<Row>) -> Vec<String> {
    let mut lines: Vec<String> =
        rows.into_iter().map(|row| canonical(&Value::Object(row))).collect();
    lines.sort();
    lines
}

/// JSON with sorted keys.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut parts: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", canonical(value))).collect();
            parts.sort();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(list) => list.iter().map(canonical).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The rows of a stream as an extractor would come by them, parent ids added.
pub(crate) async fn extracted(simulator: &Simulator, stream: &str, limit: u32) -> Vec<Row> {
    let root = |path: &str| {
        format!("{V2}{path}{}limit={limit}", if path.contains('?') { '&' } else { '?' })
    };
    match stream {
        "spaces" | "pages" | "attachments" | "tasks" => {
            return walk(simulator, &root(&format!("/{stream}"))).await;
        }
        "blog_posts" => return walk(simulator, &root("/blogposts")).await,
        "groups" => return walk(simulator, &format!("/wiki/rest/api/group?limit={limit}")).await,
        "custom_content" => {
            let mut rows = Vec::new();
            for kind in CUSTOM_CONTENT_TYPES {
                rows.extend(walk(simulator, &root(&format!("/custom-content?type={kind}"))).await);
            }
            return rows;
        }
        _ => {}
    }
    let (parents, segment, parent_id, part) = child_of(stream);
    let mut rows = Vec::new();
    for parent in walk(simulator, &root(parents)).await {
        let mut found = Vec::new();
        let first = root(&format!("{segment}/{}/{part}", id(&parent)));
        found.extend(walk(simulator, &first).await);
        if part.ends_with("-comments") {
            found = with_replies(simulator, part, found, limit).await;
        }
        for mut row in found {
            row.insert(parent_id.to_owned(), parent["id"].clone());
            rows.push(row);
        }
    }
    rows
}

fn child_of(stream: &str) -> (&'static str, &'static str, &'static str, &'static str) {
    let parts = [
        ("footer_comments", "footer-comments"),
        ("inline_comments", "inline-comments"),
        ("labels", "labels"),
        ("versions", "versions"),
        ("properties", "properties"),
        ("permissions", "permissions"),
        ("child_pages", "direct-children"),
    ];
    let part = parts.into_iter().find(|(end, _)| stream.ends_with(end)).unwrap().1;
    match stream.split('_').next().unwrap() {
        "page" | "child" => ("/pages", "/pages", "page_id", part),
        "blog" => ("/blogposts", "/blogposts", "blog_post_id", part),
        "attachment" => ("/attachments", "/attachments", "attachment_id", part),
        _ => ("/spaces", "/spaces", "space_id", part),
    }
}

async fn with_replies(simulator: &Simulator, part: &str, roots: Vec<Row>, limit: u32) -> Vec<Row> {
    let mut all = Vec::new();
    let mut open = roots;
    while let Some(comment) = open.pop() {
        let path = format!("{V2}/{part}/{}/children?limit={limit}", id(&comment));
        open.extend(walk(simulator, &path).await);
        all.push(comment);
    }
    all
}

#[tokio::test]
async fn every_stream_walked_to_its_end_is_the_truth() {
    let simulator = simulator(|options| options.groups = 450);
    for stream in STREAMS {
        for limit in [250, 7] {
            let truth = simulator.truth(stream).unwrap();
            assert!(!truth.is_empty(), "{stream} has no rows");
            let found = extracted(&simulator, stream, limit).await;
            assert_eq!(sorted(found), sorted(truth), "{stream} by {limit}");
        }
    }
    assert!(simulator.truth("nonsense").is_none());
}

#[tokio::test]
async fn a_tenant_may_be_empty_or_lack_almost_everything() {
    for (spaces, pages, labels) in [(0, 0, 0), (0, 9, 9), (3, 0, 9), (3, 2, 0), (2, 5, 8)] {
        let simulator = simulator(|options| {
            (options.spaces, options.pages, options.labels) = (spaces, pages, labels);
            (options.blog_posts, options.attachments) = (pages / 2, pages);
            options.groups = 0;
        });
        for stream in STREAMS {
            let found = extracted(&simulator, stream, 250).await;
            assert_eq!(sorted(found), sorted(simulator.truth(stream).unwrap()), "{stream}");
        }
    }
}

#[tokio::test]
async fn short_pages_lose_nothing() {
    let simulator = simulator(|options| options.short_pages = 0.7);
    for stream in ["pages", "page_labels", "page_versions", "tasks"] {
        let found = extracted(&simulator, stream, 20).await;
        assert_eq!(sorted(found), sorted(simulator.truth(stream).unwrap()), "{stream}");
    }
    let short = simulator.log().into_iter().filter(|entry| entry.path.ends_with("/pages"));
    assert!(short.filter(|entry| entry.rows < 20).count() > 2, "no page was short");
}

#[tokio::test]
async fn global_comment_lists_hold_all_comments_or_roots_only() {
    for (replies, part) in
        [(true, "footer"), (true, "inline"), (false, "footer"), (false, "inline")]
    {
        let simulator = simulator(|options| options.replies_in_global_lists = replies);
        let found = walk(&simulator, &format!("{V2}/{part}-comments?limit=250")).await;
        let mut truth = simulator.truth(&format!("page_{part}_comments")).unwrap();
        truth.extend(simulator.truth(&format!("blog_post_{part}_comments")).unwrap());
        let answers = truth.iter().filter(|row| row.contains_key("parentCommentId")).count();
        assert!(answers > 0);
        let expected = if replies { truth.len() } else { truth.len() - answers };
        assert_eq!(found.len(), expected, "{part} with replies: {replies}");
        assert!(
            found.iter().all(|row| row.contains_key("pageId") || row.contains_key("blogPostId"))
        );
    }
}

#[tokio::test]
async fn threads_are_up_to_three_deep() {
    let simulator = simulator(|_| {});
    let rows = simulator.truth("page_footer_comments").unwrap();
    let parents: HashMap<&str, Option<&str>> = rows
        .iter()
        .map(|row| (id(row), row.get("parentCommentId").and_then(Value::as_str)))
        .collect();
    let mut deepest = 0;
    for mut at in parents.keys().copied() {
        let mut depth = 1;
        while let Some(parent) = parents[at] {
            (at, depth) = (parent, depth + 1);
        }
        deepest = deepest.max(depth);
    }
    assert_eq!(deepest, 3);
}

#[tokio::test]
async fn some_parents_have_more_children_than_a_page_holds() {
    let simulator = simulator(|_| {});
    for stream in
        ["page_labels", "page_versions", "page_content_properties", "page_footer_comments"]
    {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for row in simulator.truth(stream).unwrap() {
            *counts.entry(row["page_id"].to_string()).or_default() += 1;
        }
        assert!(counts.values().any(|count| *count > 250), "{stream}");
    }
}

#[tokio::test]
async fn the_tenant_has_what_trips_extractors_up() {
    let simulator = simulator(|options| options.pages = 300);
    let every = Wanted {
        statuses: Some(["current", "archived", "trashed"].map(str::to_owned).to_vec()),
        body_format: None,
    };
    let pages = simulator.truth_of("pages", &every).unwrap();
    let of_status = |status: &str| pages.iter().filter(|page| page["status"] == status).count();
    assert!(of_status("archived") > 0 && of_status("trashed") > 0);
    assert_eq!(simulator.truth("pages").unwrap().len(), 300 - of_status("trashed"));
    let trashed = pages.iter().filter(|page| page["status"] == "trashed");
    assert!(trashed.into_iter().all(|page| page["parentId"].is_null()));
    assert!(pages.iter().any(|page| page["parentType"] == "folder"));
    assert!(pages.iter().any(|page| !page["lastOwnerId"].is_null()));
    assert!(pages.iter().any(|page| !page["createdAt"].as_str().unwrap().contains('.')));
    assert!(pages.iter().any(|page| page["createdAt"].as_str().unwrap().contains('.')));
    let spaces = simulator.truth("spaces").unwrap();
    assert!(spaces.iter().any(|space| space["key"].as_str().unwrap().starts_with('~')));
    assert!(spaces.iter().all(|space| space["icon"].is_null() && space["description"].is_null()));
    let files = simulator.truth("attachments").unwrap();
    assert!(files.iter().all(|file| id(file).starts_with("att")));
    let values: HashSet<&str> = simulator
        .truth("page_content_properties")
        .unwrap()
        .iter()
        .map(|row| match row["value"] {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        })
        .collect();
    assert_eq!(values.len(), 6);
}

#[tokio::test]
async fn equal_options_give_equal_bytes_and_another_seed_gives_others() {
    let one = simulator(|_| {});
    let same = simulator(|_| {});
    let other = simulator(|options| options.seed = 2);
    for (path, _) in sample_paths(&one) {
        let first = get(&one, &path).await;
        assert_eq!(first.body, get(&same, &path).await.body, "{path}");
        assert_eq!(first.headers, get(&same, &path).await.headers, "{path}");
    }
    let path = format!("{V2}/pages");
    assert_ne!(get(&one, &path).await.body, get(&other, &path).await.body);
}

#[tokio::test]
async fn links_are_relative_echo_the_query_and_keep_the_cursor_raw_and_not_last() {
    let simulator = simulator(|_| {});
    let gateway = format!("/ex/confluence/{}", simulator.options().cloud_id);
    for prefix in ["", gateway.as_str()] {
        for query in ["limit=1", "limit=1&body-format=storage&title=", ""] {
            let path = format!("{prefix}{V2}/labels?{query}");
            let response = get(&simulator, &path).await;
            let page: Value = serde_json::from_slice(&response.body).unwrap();
            let next = page["_links"]["next"].as_str().unwrap();
            assert!(next.starts_with("/wiki/api/v2/labels?cursor="), "{next}");
            let (cursor, rest) = next.split_once("cursor=").unwrap().1.split_once('&').unwrap();
            assert!(!cursor.contains('%'), "{cursor}");
            assert_eq!(rest, if query.is_empty() { "limit=25" } else { query });
            assert_eq!(page["_links"]["base"], "https://acme.atlassian.net/wiki");
            let link = response.headers[header::LINK].to_str().unwrap();
            let expected =
                format!("<{next}>; rel=\"next\", <https://acme.atlassian.net/wiki>; rel=\"base\"");
            assert_eq!(link, expected);
        }
    }
    let cursors = walk_cursors(&simulator).await;
    assert!(cursors.iter().any(|cursor| cursor.ends_with('=')), "padding never shows");
    let last = get(&simulator, &format!("{V2}/spaces")).await;
    assert_eq!(last.headers[header::LINK], "<https://acme.atlassian.net/wiki>; rel=\"base\"");
}

async fn walk_cursors(simulator: &Simulator) -> Vec<String> {
    let page = |order: &str| format!("{V2}/pages?limit=1&sort={order}");
    let mut cursors = Vec::new();
    for order in ["id", "created-date", "modified-date", "title"] {
        let page = json(simulator, &page(order)).await;
        let next = page["_links"]["next"].as_str().unwrap().to_owned();
        let rest = next.split_once("cursor=").unwrap().1;
        cursors.push(rest.split('&').next().unwrap().to_owned());
    }
    cursors
}

#[tokio::test]
async fn groups_page_by_offset_relative_to_the_context_without_a_total() {
    let simulator = simulator(|options| options.groups = 450);
    let page = json(&simulator, "/wiki/rest/api/group?limit=1000").await;
    assert_eq!(page["size"], 200, "the server gives 200 at most");
    assert_eq!(page["limit"], 200);
    assert_eq!(page["_links"]["next"], "/rest/api/group?limit=200&start=200");
    assert_eq!(page["_links"]["context"], "/wiki");
    assert!(page.get("totalSize").is_none());
    let last = json(&simulator, "/wiki/rest/api/group?limit=200&start=400").await;
    assert_eq!(last["size"], 50);
    assert!(last["_links"].get("next").is_none());
    assert_eq!(status(&simulator, "/wiki/rest/api/group?start=x").await, 400);
}

#[tokio::test]
async fn lists_sort_both_ways() {
    let simulator = simulator(|_| {});
    for (order, field) in [
        ("id", "/id"),
        ("created-date", "/createdAt"),
        ("modified-date", "/version/createdAt"),
        ("title", "/title"),
    ] {
        let up = walk(&simulator, &format!("{V2}/pages?limit=9&sort={order}")).await;
        let mut down = walk(&simulator, &format!("{V2}/pages?limit=9&sort=-{order}")).await;
        down.reverse();
        assert_eq!(up, down, "{order}");
        let key = |row: &Row| {
            let value = Value::Object(row.clone());
            let text = value.pointer(field).unwrap().as_str().unwrap().to_owned();
            // With and without milliseconds, times compare once the zone is off.
            (if order == "id" { text.len() } else { 0 }, text.trim_end_matches('Z').to_owned())
        };
        assert!(up.is_sorted_by_key(key), "{order}");
    }
}

#[tokio::test]
async fn filters_hold_repeated_or_separated_by_commas() {
    let simulator = simulator(|_| {});
    let pages = walk(&simulator, &format!("{V2}/pages?limit=250")).await;
    let (one, two) = (id(&pages[0]).to_owned(), id(&pages[9]).to_owned());
    let count = async |path: String| walk(&simulator, &format!("{V2}{path}")).await.len();
    assert_eq!(count(format!("/pages?id={one},{two}")).await, 2);
    assert_eq!(count(format!("/pages?id={one}&id={two}&id=99999999")).await, 2);
    assert_eq!(count("/pages?space-id=1".to_owned()).await, 0);
    let space = pages[9]["spaceId"].as_str().unwrap();
    let of_space = pages.iter().filter(|page| page["spaceId"] == space).count();
    assert_eq!(count(format!("/pages?space-id={space}")).await, of_space);
    assert_eq!(count(format!("/spaces/{space}/pages")).await, of_space);
    let title = pages[9]["title"].as_str().unwrap().to_uppercase();
    let encoded: String = url_encode(&title);
    assert_eq!(count(format!("/pages?title={encoded}")).await, 1);
    assert_eq!(count("/spaces?keys=eng,S2".to_owned()).await, 2);
    assert_eq!(count("/spaces?keys=nope".to_owned()).await, 0);
    let current = count("/pages?status=current".to_owned()).await;
    let archived = count("/pages?status=archived".to_owned()).await;
    assert_eq!(current + archived, pages.len());
    assert_eq!(count("/pages?status=archived&status=current".to_owned()).await, pages.len());
    assert!(count("/blogposts?status=trashed".to_owned()).await > 0);
    let tasks = count("/tasks".to_owned()).await;
    let done = count("/tasks?status=complete".to_owned()).await;
    assert!(0 < done && done < tasks);
    let from = count("/tasks?created-at-from=1735689600000".to_owned()).await;
    let to = count("/tasks?created-at-to=1735689599999".to_owned()).await;
    assert!(from > 0 && to > 0);
    assert_eq!(from + to, tasks);
    let undeclared = count(format!("/footer-comments?pageId={one}")).await;
    assert_eq!(undeclared, count("/footer-comments".to_owned()).await);
}

fn url_encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[tokio::test]
async fn bodies_come_in_the_format_asked_for_and_in_no_other_case() {
    let simulator = simulator(|options| options.body_bytes = 4096);
    let bare = walk(&simulator, &format!("{V2}/pages")).await;
    assert!(bare.iter().all(|page| page["body"] == Value::Object(Map::new())));
    let stored = walk(&simulator, &format!("{V2}/pages?limit=250&body-format=storage")).await;
    let lengths: Vec<usize> = stored
        .iter()
        .map(|page| page["body"]["storage"]["value"].as_str().unwrap().len())
        .collect();
    let mean = lengths.iter().sum::<usize>() / lengths.len();
    assert!((3200..5200).contains(&mean), "{mean}");
    let bodies: HashSet<String> = stored.iter().map(|page| page["body"].to_string()).collect();
    assert_eq!(bodies.len(), stored.len(), "two pages share a body");
    let documents = walk(&simulator, &format!("{V2}/blogposts?body-format=atlas_doc_format")).await;
    for post in documents {
        let text = post["body"]["atlas_doc_format"]["value"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap()["type"], "doc");
    }
}

#[tokio::test]
async fn versions_with_bodies_come_fifty_at_a_time() {
    let simulator = simulator(|_| {});
    let heavy = most_children(&simulator, "page_versions", "page_id");
    let path = format!("{V2}/pages/{}/versions?limit=250", heavy.0);
    let page = json(&simulator, &path).await;
    assert_eq!(page["results"].as_array().unwrap().len(), 250);
    assert_eq!(page["results"][0]["number"], heavy.1, "newest first");
    let page = json(&simulator, &format!("{path}&body-format=storage")).await;
    assert_eq!(page["results"].as_array().unwrap().len(), 50);
    assert!(page["results"][0]["page"]["body"]["storage"]["value"].is_string());
    assert_eq!(walk(&simulator, &format!("{path}&body-format=storage")).await.len(), heavy.1);
}

pub(crate) fn most_children(simulator: &Simulator, stream: &str, parent: &str) -> (String, usize) {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for row in simulator.truth(stream).unwrap() {
        *counts.entry(row[parent].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).unwrap()
}

#[tokio::test]
async fn includes_carry_fifty_items_and_a_cursor_for_the_rest() {
    let simulator = simulator(|_| {});
    let (heavy, count) = most_children(&simulator, "page_labels", "page_id");
    let path = format!(
        "{V2}/pages/{heavy}?include-labels=true&include-versions=true&include-properties=true"
    );
    let page = json(&simulator, &path).await;
    assert_eq!(page["labels"]["results"].as_array().unwrap().len(), 50);
    assert_eq!(page["labels"]["_links"]["self"], format!("/api/v2/pages/{heavy}/labels"));
    assert_eq!(page["labels"]["meta"]["hasMore"], true);
    let cursor = page["labels"]["meta"]["cursor"].as_str().unwrap();
    let rest = walk(&simulator, &format!("{V2}/pages/{heavy}/labels?cursor={cursor}")).await;
    assert_eq!(rest.len(), count - 50);
    let cursor = page["versions"]["meta"]["cursor"].as_str().unwrap();
    let total = json(&simulator, &format!("{V2}/pages/{heavy}")).await["version"]["number"].clone();
    let rest = walk(&simulator, &format!("{V2}/pages/{heavy}/versions?cursor={cursor}")).await;
    assert_eq!(rest.len() as u64, total.as_u64().unwrap() - 50);
    let plain = json(&simulator, &format!("{V2}/pages/{heavy}?include-version=false")).await;
    assert!(plain.get("labels").is_none() && plain.get("version").is_none());
    assert_eq!(plain["_links"]["base"], "https://acme.atlassian.net/wiki");
}

#[tokio::test]
async fn refusals_are_worded_as_the_api_words_them() {
    let simulator = simulator(|_| {});
    let body = get(&simulator, &format!("{V2}/pages?limit=300")).await;
    assert_eq!(body.status, 400);
    assert_eq!(
        String::from_utf8_lossy(&body.body),
        "{\"errors\":[{\"status\":400,\"code\":\"INVALID_REQUEST_PARAMETER\",\"title\":\"Provided size \
         {300} for 'limit' is greater than the max allowed: 250\",\"detail\":null}]}"
    );
    let page = |query: &str| format!("{V2}/pages{query}");
    for (path, expected) in [
        (page("?limit=0"), 400),
        (page("?limit=251"), 400),
        (page("?cursor=nonsense"), 400),
        (page(&format!("?cursor={}", STANDARD.encode("{\"id\":\"1\"}"))), 400),
        (page("?status=draft"), 400),
        (page("?sort=size"), 400),
        (page("?unknown=1"), 200),
        (page("/1"), 404),
        (page("/x"), 400),
        (page("/1/labels"), 404),
        (format!("{V2}/nonsense"), 404),
        (format!("{V2}/custom-content"), 400),
        (format!("{V2}/custom-content?type=unknown"), 404),
        (format!("{V2}/custom-content?type={}", CUSTOM_CONTENT_TYPES[2]), 200),
        ("/ex/confluence/wrong/wiki/api/v2/pages".to_owned(), 404),
        ("/_edge/tenant_info".to_owned(), 200),
    ] {
        assert_eq!(status(&simulator, &path).await, expected, "{path}");
    }
    let missing = get(&simulator, &page("/1")).await;
    assert!(String::from_utf8_lossy(&missing.body).contains("Cannot find a page with id [1]"));
    let mut post = request(&page(""));
    post.method = Method::POST;
    assert_eq!(SimulatedApi(simulator.clone()).send(&post).await.unwrap().status, 405);
}

pub(crate) fn credentials(scoped: bool) -> Credentials {
    Credentials {
        email: "me@example.com".to_owned(),
        token: "letmein".into(),
        scoped,
        lacks: vec!["read:space:confluence".to_owned()],
    }
}

#[tokio::test]
async fn strangers_and_narrow_tokens_are_turned_away_in_the_api_s_own_ways() {
    let classic = simulator(|options| options.credentials = Some(credentials(false)));
    let scoped = simulator(|options| options.credentials = Some(credentials(true)));
    let gateway = format!("/ex/confluence/{}", classic.options().cloud_id);
    let good = format!("Basic {}", STANDARD.encode("me@example.com:letmein"));
    let wrong = format!("Basic {}", STANDARD.encode("me@example.com:guess"));
    let bearer = "Bearer letmein".to_owned();
    let pages = format!("{V2}/pages");
    let far_pages = format!("{gateway}{V2}/pages");
    let far_spaces = format!("{gateway}{V2}/spaces");
    let bare = "\"title\":\"Not Found\"";
    for (simulator, path, header, expected, part) in [
        (&classic, &pages, None, 404, bare),
        (&classic, &pages, Some(&wrong), 404, bare),
        (&classic, &pages, Some(&good), 200, "results"),
        (&classic, &far_pages, Some(&good), 200, "results"),
        (&classic, &"/wiki/rest/api/user/current".to_owned(), Some(&wrong), 403, "caller cannot"),
        (&classic, &"/wiki/rest/api/group".to_owned(), None, 403, "not permitted"),
        (&classic, &"/_edge/tenant_info".to_owned(), None, 200, "cloudId"),
        (&scoped, &pages, Some(&good), 401, "<html>"),
        (&scoped, &far_pages, Some(&good), 200, "results"),
        (&scoped, &far_pages, Some(&bearer), 200, "results"),
        (&scoped, &far_spaces, Some(&good), 401, "scope does not match"),
        (&scoped, &far_pages, Some(&wrong), 404, bare),
    ] {
        let mut request = request(path);
        if let Some(header) = header {
            let value = HeaderValue::from_str(header).unwrap();
            request.headers.insert(header::AUTHORIZATION, value);
        }
        let response = SimulatedApi(simulator.clone()).send(&request).await.unwrap();
        let body = String::from_utf8_lossy(&response.body);
        assert_eq!(response.status, expected, "{path} {header:?}: {body}");
        assert!(body.contains(part), "{path}: {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn faults_strike_where_and_when_they_were_asked_for() {
    let pages = format!("{V2}/pages");
    let second = When::Numbers(vec![2]);
    for (what, expected, header) in [
        (What::TooMany(RetryAfter::Seconds(7)), 429, Some("7")),
        (What::TooMany(RetryAfter::Silent), 429, None),
        (What::Status(503), 503, None),
        (What::Status(403), 403, None),
        (What::Missing, 404, None),
        (What::Malformed, 200, None),
    ] {
        let simulator = with_fault("/pages", second.clone(), what.clone());
        assert_eq!(status(&simulator, &format!("{V2}/spaces")).await, 200);
        assert_eq!(status(&simulator, &pages).await, 200, "{what:?}");
        let struck = get(&simulator, &pages).await;
        assert_eq!(struck.status, expected, "{what:?}");
        let after = struck.headers.get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
        assert_eq!(after, header, "{what:?}");
        let is_json = serde_json::from_slice::<Value>(&struck.body).is_ok();
        assert_eq!(is_json, what != What::Malformed);
        assert_eq!(status(&simulator, &pages).await, 200, "{what:?} again");
    }
    let dated = with_fault("", When::Always, What::TooMany(RetryAfter::Date(60)));
    let answer = get(&dated, &pages).await;
    let date = answer.headers[header::RETRY_AFTER].to_str().unwrap();
    assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
    let missing = with_fault("/pages/12345/", When::Always, What::Missing);
    let answer = get(&missing, &format!("{V2}/pages/12345/labels")).await;
    assert!(String::from_utf8_lossy(&answer.body).contains("id: [12345] not found"));
}

#[tokio::test(start_paused = true)]
async fn broken_connections_delays_loops_and_limits_in_process() {
    let pages = format!("{V2}/pages");
    for what in [What::Reset, What::Truncate] {
        let simulator = with_fault("/pages", When::First(1), what);
        let broken = SimulatedApi(simulator.clone()).send(&request(&pages)).await;
        assert!(matches!(broken, Err(TransportError::Broken(_))));
        assert_eq!(status(&simulator, &pages).await, 200);
    }
    let slow = simulator(|options| {
        options.latency = Duration::from_millis(100);
        let what = What::Slow(Duration::from_secs(30));
        options.faults.rules =
            vec![FaultRule { part: "/pages".to_owned(), when: When::Always, what }];
    });
    let start = Instant::now();
    assert_eq!(status(&slow, &pages).await, 200);
    assert_eq!(start.elapsed().as_millis(), 30_100);
    let loops = with_fault("/labels", When::Always, What::RepeatCursor);
    let first = json(&loops, &format!("{V2}/labels?limit=5")).await;
    let next = first["_links"]["next"].as_str().unwrap();
    let second = json(&loops, next).await;
    assert_eq!(second["_links"]["next"], next);
    let large = with_fault("", When::LimitAbove(100), What::Status(504));
    assert_eq!(status(&large, &format!("{pages}?limit=250")).await, 504);
    assert_eq!(status(&large, &format!("{pages}?limit=100")).await, 200);
    let revoked = simulator(|options| options.faults.revoke_after = Some(2));
    for expected in [200, 200, 404] {
        assert_eq!(status(&revoked, &pages).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_refused_and_the_next_second_is_not() {
    let simulator = simulator(|options| {
        options.faults = Faults { requests_per_second: Some(3), ..Faults::default() };
    });
    let spaces = format!("{V2}/spaces");
    for expected in [200, 200, 200, 429, 429] {
        assert_eq!(status(&simulator, &spaces).await, expected);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(status(&simulator, &spaces).await, 200);
}

#[tokio::test(start_paused = true)]
async fn shares_of_faults_are_a_matter_of_the_seed() {
    let statuses = async |seed: u64| {
        let rule =
            FaultRule { part: String::new(), when: When::Share(0.3), what: What::Status(500) };
        let simulator = simulator(|options| {
            options.seed = seed;
            options.faults.rules = vec![rule];
        });
        let mut all = Vec::new();
        for _ in 0..200 {
            all.push(status(&simulator, &format!("{V2}/spaces")).await);
        }
        all
    };
    let first = statuses(5).await;
    assert_eq!(first, statuses(5).await);
    assert_ne!(first, statuses(6).await);
    let struck = first.iter().filter(|status| **status == 500).count();
    assert!((35..85).contains(&struck), "{struck}");
}

#[tokio::test(start_paused = true)]
async fn the_log_says_what_was_asked_and_stays_within_its_bound() {
    let simulator = simulator(|options| {
        options.latency = Duration::from_millis(10);
        options.log_entries = Some(3);
    });
    let paths: Vec<String> = (1..=5).map(|limit| format!("{V2}/labels?limit={limit}")).collect();
    futures_util::future::join_all(paths.iter().map(|path| status(&simulator, path))).await;
    let log = simulator.log();
    assert_eq!(log.len(), 3);
    let last = log.last().unwrap();
    assert_eq!((last.sequence, last.rows, last.status, last.points), (5, 5, 200, 6));
    assert_eq!((&*last.path, &*last.query), ("/wiki/api/v2/labels", "limit=5"));
    assert_eq!((last.finished - last.started).as_millis(), 10);
    assert_eq!((last.in_flight, simulator.max_in_flight()), (5, 5));
    let sums = simulator.counters();
    assert_eq!((sums.requests, sums.rows, sums.points, sums.refused), (5, 15, 20, 0));
    let asked = request(&paths[0]);
    let api = SimulatedApi(simulator.clone());
    let given_up = api.send(&asked);
    assert!(tokio::time::timeout(Duration::from_millis(1), given_up).await.is_err());
    assert_eq!(status(&simulator, &paths[0]).await, 200);
    assert_eq!(simulator.log().last().unwrap().in_flight, 1, "who gives up is in flight no more");
}

/// A simulator on a loopback socket.
struct Served {
    simulator: Simulator,
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<weir_sim::Result<()>>,
}

async fn served(simulator: Simulator) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve(simulator.clone(), listener, stop.clone()));
    Served { simulator, address, stop, task }
}

/// Sends one request and reads until the server closes.
async fn raw(stream: &mut TcpStream, path: &str) -> (Vec<u8>, std::io::Result<usize>) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer).await;
    (answer, ended)
}

fn body_of(answer: &[u8]) -> (String, &[u8]) {
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (String::from_utf8_lossy(&answer[..at]).into_owned(), &answer[at + 4..])
}

#[tokio::test]
async fn both_faces_give_identical_bytes() {
    let server = served(simulator(|_| {})).await;
    let twin = simulator(|_| {});
    for (path, _) in sample_paths(&twin) {
        let inside = get(&twin, &path).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let (answer, ended) = raw(&mut stream, &path).await;
        assert!(ended.is_ok(), "{path}");
        let (head, body) = body_of(&answer);
        assert_eq!(body, &inside.body[..], "{path}");
        assert!(head.starts_with(&format!("HTTP/1.1 {}", inside.status.as_u16())), "{head}");
        for (name, value) in &inside.headers {
            let line = format!("{name}: {}", value.to_str().unwrap());
            assert!(head.contains(&line), "{path}: {line} is not in {head}");
        }
    }
    assert!(server.simulator.log().is_empty(), "over a socket the log is off");
    assert!(server.simulator.counters().requests > 40);
    server.stop.cancel();
    assert!(server.task.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_connection_is_kept_alive() {
    let server = served(simulator(|_| {})).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /_edge/tenant_info HTTP/1.1\r\nhost: sim\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\"}") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the server hung up");
        }
    }
    server.stop.cancel();
    assert!(server.task.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_socket_is_reset_or_ends_in_the_middle_of_a_body() {
    let path = format!("{V2}/pages?limit=250&body-format=storage");
    let server = served(with_fault("/pages", When::Always, What::Reset)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let (answer, ended) = raw(&mut stream, &path).await;
    assert!(answer.is_empty());
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    for path in [path, format!("{V2}/pages/1")] {
        let server = served(with_fault("/pages", When::Always, What::Truncate)).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let (answer, ended) = raw(&mut stream, &path).await;
        assert!(ended.is_ok(), "{ended:?}");
        let (head, body) = body_of(&answer);
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let length: usize = length.parse().unwrap();
        assert!(!body.is_empty() && body.len() < length, "{} of {length}", body.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_halts_halfway_comes_whole_in_the_end() {
    let hour = Duration::from_hours(1);
    let path = format!("{V2}/pages");
    let whole = get(&simulator(|_| {}), &path).await.body;
    let halting = with_fault("/pages", When::Always, What::Halt(hour));
    let began = Instant::now();
    assert_eq!(get(&halting, &path).await.body, whole);
    assert_eq!(began.elapsed(), hour, "in process all of it is late");

    let server = served(halting).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let began = Instant::now();
    let (answer, ended) = raw(&mut stream, &path).await;
    assert!(ended.is_ok() && began.elapsed() >= hour, "{ended:?}");
    let (head, body) = body_of(&answer);
    assert_eq!(body, &whole[..]);
    assert!(head.contains(&format!("content-length: {}", whole.len())), "{head}");
    let entry = server.simulator.log();
    assert_eq!(entry[0].finished - entry[0].started, hour, "the first was in process");
}

// --- Against the OpenAPI extract -------------------------------------------------------------

/// Routes that no document describes.
const UNDOCUMENTED_ROUTES: &[&str] = &["/_edge/tenant_info"];

/// Fields seen on live sites that the documents lack: how their path in the answer ends.
const OBSERVED_FIELDS: &[&str] = &[
    "_links.edituiv2",
    "ncsStepVersion",
    "resolutionStatus",
    "pageId",
    "properties.inline-marker-ref",
    "properties.inline-original-selection",
    "authorId",
    "resolutionLastModifierId",
    "resolutionLastModifiedAt",
    // The documents declare the parameter and leave the field out; clients read it so.
    "directChildren",
];

/// Declared parameters that the simulator leaves alone.
const IGNORED_PARAMETERS: &[&str] = &[
    "labels",
    "favorited-by",
    "not-favorited-by",
    "include-blank-tasks",
    "get-draft",
    "status",
    "version",
    "expand",
    "cqlcontext",
    "next",
    "prev",
    "includeArchivedSpaces",
    "excludeCurrentSpaces",
    "excerpt",
    "sitePermissionTypeFilter",
    "include-role-assignments",
    "include-favorited-by-current-user-status",
    "include-webresources",
    "include-collaborators",
];

fn documents() -> Map<String, Value> {
    let mut paths = Map::new();
    for text in [
        include_str!("fixtures/openapi/confluence-v2.json"),
        include_str!("fixtures/openapi/confluence-v1.json"),
    ] {
        paths.extend(serde_json::from_str::<Map<String, Value>>(text).unwrap());
    }
    paths
}

#[test]
fn every_route_and_parameter_is_as_the_documents_declare_it() {
    let documents = documents();
    for route in ROUTES.iter().filter(|route| !UNDOCUMENTED_ROUTES.contains(&route.path)) {
        let path = route.path;
        let document = documents.get(path).unwrap_or_else(|| panic!("{path} is not documented"));
        if path.starts_with(V2) {
            let scopes = document["scopes"].as_array().unwrap();
            assert!(scopes.iter().any(|scope| scope == route.scope), "{path}: {scopes:?}");
        }
        let declared = document["parameters"].as_object().unwrap();
        for parameter in route.parameters {
            let name = parameter.name;
            let facts = declared.get(name).unwrap_or_else(|| panic!("{path} declares no {name}"));
            check_parameter(&format!("{path} {name}"), parameter.form, facts);
        }
        for name in declared.keys().filter(|name| !IGNORED_PARAMETERS.contains(&name.as_str())) {
            let honoured = route.parameters.iter().any(|parameter| parameter.name == name);
            assert!(honoured, "{path}: {name} is declared but not honoured");
        }
    }
}

#[track_caller]
fn check_parameter(what: &str, form: ParameterForm, facts: &Value) {
    let kind = facts["type"].as_str().unwrap();
    let items = facts["items"].as_str().unwrap_or_default();
    let number = |name: &str| facts[name].as_u64();
    let values: Option<BTreeSet<&str>> =
        facts["enum"].as_array().map(|all| all.iter().map(|one| one.as_str().unwrap()).collect());
    let set = |allowed: &[&'static str]| allowed.iter().copied().collect::<BTreeSet<&str>>();
    let most = |count: usize| (count < usize::MAX).then_some(count as u64);
    let good = match form {
        ParameterForm::Cursor | ParameterForm::Text => kind == "string" && values.is_none(),
        ParameterForm::Required => facts["required"] == true,
        ParameterForm::Limit(least, largest, default) => {
            kind == "integer"
                && number("min") == Some(least)
                && number("max") == (largest < u64::MAX).then_some(largest)
                && number("default") == Some(default)
        }
        ParameterForm::Flag(default) => kind == "boolean" && facts["default"] == default,
        ParameterForm::Integer => kind == "integer",
        ParameterForm::Integers(count) => {
            (kind, items) == ("array", "integer") && number("max_items") == most(count)
        }
        ParameterForm::Texts(count) => {
            (kind, items) == ("array", "string") && number("max_items") == most(count)
        }
        ParameterForm::One(allowed) => kind == "string" && values == Some(set(allowed)),
        ParameterForm::Many(allowed) => kind == "array" && values == Some(set(allowed)),
    };
    assert!(good, "{what}: {form:?} is not {facts}");
}

#[tokio::test]
async fn declared_limits_and_enums_are_enforced() {
    let simulator = simulator(|_| {});
    for (path, route) in sample_paths(&simulator) {
        let path = path.split('?').next().unwrap();
        let fixed = if route.path.ends_with("/custom-content") {
            format!("type={}&", CUSTOM_CONTENT_TYPES[0])
        } else if route.path.ends_with("/search") {
            "cql=type=page&".to_owned()
        } else {
            String::new()
        };
        for parameter in route.parameters {
            let name = parameter.name;
            let bad = match parameter.form {
                ParameterForm::Limit(least, most, _) => vec![
                    (most < u64::MAX).then(|| (most + 1).to_string()),
                    least.checked_sub(1).map(|below| below.to_string()),
                    Some("many".to_owned()),
                ],
                ParameterForm::Flag(_) | ParameterForm::Integer | ParameterForm::Integers(_) => {
                    vec![Some("x".to_owned())]
                }
                ParameterForm::One(_) | ParameterForm::Many(_) => {
                    vec![Some("no-such-value".to_owned())]
                }
                ParameterForm::Cursor => vec![Some("no-such-page".to_owned())],
                ParameterForm::Text | ParameterForm::Required | ParameterForm::Texts(_) => vec![],
            };
            for value in bad.into_iter().flatten() {
                let asked = format!("{path}?{fixed}{name}={value}");
                assert_eq!(status(&simulator, &asked).await, 400, "{asked}");
            }
        }
    }
}

#[tokio::test]
async fn every_field_is_declared_or_was_observed() {
    let simulator = simulator(|_| {});
    let documents = documents();
    let mut met = HashSet::new();
    for (path, route) in sample_paths(&simulator) {
        if UNDOCUMENTED_ROUTES.contains(&route.path) {
            continue;
        }
        let answer = json(&simulator, &path).await;
        if let Some(results) = answer.get("results") {
            assert!(!results.as_array().unwrap().is_empty(), "{path} shows no row");
        }
        compare(&path, "", &answer, &documents[route.path]["response"], &mut met);
    }
    for observed in OBSERVED_FIELDS {
        assert!(met.contains(observed), "{observed} is never sent");
    }
}

/// Holds a value to its schema: a type's name, a list of one schema, or an object of schemas.
fn compare(path: &str, at: &str, value: &Value, schema: &Value, met: &mut HashSet<&'static str>) {
    match (value, schema) {
        (Value::Object(fields), Value::Object(declared)) => {
            for (name, value) in fields {
                let inner = format!("{at}.{name}");
                if let Some(schema) = declared.get(name) {
                    compare(path, &inner, value, schema, met);
                    continue;
                }
                let is_meant = |known: &&&str| inner.ends_with(&format!(".{known}"));
                let observed = OBSERVED_FIELDS.iter().find(is_meant);
                let unknown = || panic!("{path}: {inner} is neither declared nor observed");
                let observed = observed.unwrap_or_else(unknown);
                met.insert(observed);
            }
        }
        (Value::Array(items), Value::Array(schemas)) => {
            for item in items {
                compare(path, at, item, &schemas[0], met);
            }
        }
        (Value::Null, _) => {}
        (value, Value::String(kind)) => {
            let good = match kind.as_str() {
                "string" => value.is_string(),
                "integer" => value.is_u64(),
                "boolean" => value.is_boolean(),
                "object" => value.is_object(),
                "array" => value.is_array(),
                _ => true,
            };
            assert!(good, "{path}: {at} is {value}, declared as {kind}");
        }
        _ => panic!("{path}: {at} is {value}, declared as {schema}"),
    }
}

/// For every route a path that brings rows, with all that can be included.
fn sample_paths(simulator: &Simulator) -> Vec<(String, Route)> {
    let mut samples = Vec::new();
    for route in ROUTES {
        let mut path = route.path.to_owned();
        if path.contains('{') {
            path = fill(simulator, &path);
        }
        let mut query: Vec<String> = route
            .parameters
            .iter()
            .filter_map(|parameter| match (parameter.name, parameter.form) {
                (name, ParameterForm::Flag(_)) => Some(format!("{name}=true")),
                ("limit", _) => Some("limit=40".to_owned()),
                ("cql", ParameterForm::Required) => Some("cql=type=page".to_owned()),
                ("expand", ParameterForm::Texts(_)) => {
                    Some("expand=version,metadata.labels,space,history,body.storage".to_owned())
                }
                ("type", ParameterForm::Required) => {
                    Some(format!("type={}", CUSTOM_CONTENT_TYPES[0]))
                }
                ("description-format", _) => Some("description-format=plain".to_owned()),
                ("body-format", _) => Some("body-format=storage".to_owned()),
                _ => None,
            })
            .collect();
        query.sort();
        samples.push((format!("{path}?{}", query.join("&")), *route));
    }
    samples
}

/// Puts the id of a parent with many children where the template has `{…}`.
fn fill(simulator: &Simulator, template: &str) -> String {
    let (before, rest) = template.split_once('{').unwrap();
    let after = rest.split_once('}').unwrap().1;
    let segment = before.trim_end_matches('/').rsplit('/').next().unwrap();
    let part = after.trim_start_matches('/').replace('-', "_");
    let (stream, parent) = match (segment, part.as_str()) {
        ("spaces", "labels" | "permissions" | "properties") => {
            (format!("space_{part}"), "space_id")
        }
        ("spaces", "blogposts") => ("blog_posts".to_owned(), "spaceId"),
        ("spaces", _) => ("pages".to_owned(), "spaceId"),
        ("pages", "children" | "direct_children") => ("child_pages".to_owned(), "page_id"),
        ("pages", "attachments") => ("attachments".to_owned(), "pageId"),
        ("blogposts", "attachments") => ("attachments".to_owned(), "blogPostId"),
        ("pages", "footer_comments" | "inline_comments") => (format!("page_{part}"), "page_id"),
        ("pages", _) => ("page_labels".to_owned(), "page_id"),
        ("blogposts", "footer_comments" | "inline_comments") => {
            (format!("blog_post_{part}"), "blog_post_id")
        }
        ("blogposts", _) => ("blog_post_labels".to_owned(), "blog_post_id"),
        ("attachments", _) => ("attachment_labels".to_owned(), "attachment_id"),
        ("labels", "blogposts") => ("blog_post_labels".to_owned(), "id"),
        ("labels", "attachments") => ("attachment_labels".to_owned(), "id"),
        ("labels", _) => ("page_labels".to_owned(), "id"),
        ("footer-comments", _) => ("page_footer_comments".to_owned(), "parentCommentId"),
        _ => ("page_inline_comments".to_owned(), "parentCommentId"),
    };
    let mut counts: Vec<(String, usize)> = Vec::new();
    for row in simulator.truth(&stream).unwrap() {
        let Some(id) = row.get(parent).and_then(Value::as_str) else { continue };
        match counts.iter_mut().find(|(known, _)| known == id) {
            Some((_, count)) => *count += 1,
            None => counts.push((id.to_owned(), 1)),
        }
    }
    let id = counts.into_iter().max_by_key(|(_, count)| *count).unwrap().0;
    format!("{before}{id}{after}")
}
