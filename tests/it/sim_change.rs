//! Changes of the simulated tenant: each shows wherever the object shows, and nowhere else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use serde_json::Value;
use weir::cli::simulated::SimulatedApi;
use weir::http::exchange::{HeaderValue, Transport, header};
use weir_sim::{
    Churn, Churning, FaultRule, Faults, Happening, New, Options, STREAMS, Simulator, TenantChange,
    Wanted, What, When,
};

use crate::sim::{Row, V2, credentials, extracted, get, id, json, request, sorted, status, walk};

/// 2026-10-01, after all initial data.
fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_812_800, 0).unwrap()
}

fn tenant(seed: u64) -> Simulator {
    Simulator::new(Options {
        seed,
        pages: 40,
        blog_posts: 10,
        attachments: 14,
        heavy_parents: 0,
        now: Some(start()),
        ..Options::default()
    })
}

fn rows(simulator: &Simulator, stream: &str) -> Vec<Row> {
    simulator.truth(stream).unwrap()
}

fn ids(simulator: &Simulator, stream: &str) -> BTreeSet<String> {
    rows(simulator, stream).iter().map(|row| id(row).to_owned()).collect()
}

/// The row of this id.
fn row(simulator: &Simulator, stream: &str, wanted: &str) -> Option<Row> {
    rows(simulator, stream).into_iter().find(|row| id(row) == wanted)
}

/// A page that is current, has no page below it, and is not a home page.
fn leaf(simulator: &Simulator) -> String {
    let parents: BTreeSet<String> = rows(simulator, "child_pages")
        .iter()
        .map(|row| row["page_id"].as_str().unwrap().to_owned())
        .collect();
    let pages = rows(simulator, "pages");
    let is_leaf = |page: &&Row| {
        page["status"] == "current" && !parents.contains(id(page)) && !page["parentId"].is_null()
    };
    id(pages.iter().find(is_leaf).unwrap()).to_owned()
}

fn some(simulator: &Simulator, stream: &str) -> String {
    id(&rows(simulator, stream)[0]).to_owned()
}

fn change(simulator: &Simulator, change: &TenantChange) -> String {
    simulator.change(change).unwrap_or_else(|error| panic!("{change:?}: {error}"))
}

fn create(simulator: &Simulator, what: New, under: &str) -> String {
    change(simulator, &TenantChange::Create { what, under: under.to_owned() })
}

fn edit(simulator: &Simulator, id: &str, retitle: bool) {
    change(simulator, &TenantChange::Edit { id: id.to_owned(), retitle });
}

fn delete(simulator: &Simulator, id: &str) {
    change(simulator, &TenantChange::Delete { id: id.to_owned() });
}

fn number(row: &Row) -> u64 {
    row["version"]["number"].as_u64().unwrap()
}

fn count(simulator: &Simulator, stream: &str, parent: (&str, &str)) -> usize {
    rows(simulator, stream).iter().filter(|row| row[parent.0] == parent.1).count()
}

#[track_caller]
fn assert_same(found: Vec<Row>, truth: Vec<Row>, what: &str) {
    assert_eq!(sorted(found), sorted(truth), "{what}");
}

#[tokio::test(start_paused = true)]
async fn after_random_changes_every_stream_walked_to_its_end_is_the_truth() {
    for seed in [3, 4] {
        let simulator = tenant(seed);
        let before: Vec<_> = STREAMS.map(|stream| sorted(rows(&simulator, stream))).into();
        let mut made = simulator.churn(seed, &Churn::of(300));
        let end = Churn { changes: 1, kinds: vec![Happening::SpaceDeleted] };
        made.extend(simulator.churn(seed, &end));
        made.extend(simulator.churn(seed, &Churn::of(100)));
        assert_eq!(made.len(), 401);
        for (stream, before) in STREAMS.into_iter().zip(before) {
            let truth = rows(&simulator, stream);
            assert_ne!(sorted(truth.clone()), before, "{stream} is as it was");
            for limit in [250, 7] {
                assert_same(extracted(&simulator, stream, limit).await, truth.clone(), stream);
            }
        }
        for (stream, path) in
            [("pages", "pages"), ("blog_posts", "blogposts"), ("attachments", "attachments")]
        {
            for row in rows(&simulator, stream) {
                let single = json(&simulator, &format!("{V2}/{path}/{}", id(&row))).await;
                for (name, value) in row.iter().filter(|(name, _)| *name != "_links") {
                    assert_eq!(&single[name], value, "{path} {} {name}", id(&row));
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_may_happen_happens_and_shows() {
    let mut kinds = Happening::USUAL.to_vec();
    kinds.dedup();
    kinds.push(Happening::SpaceDeleted);
    for kind in kinds {
        let simulator = tenant(1);
        let all = || STREAMS.map(|stream| rows(&simulator, stream));
        let before = all();
        let made = simulator.churn(1, &Churn { changes: 1, kinds: vec![kind] });
        assert_eq!(made.len(), 1, "{kind:?}");
        assert_ne!(before, all(), "{kind:?}: {made:?}");
        let changed: Vec<&str> = STREAMS
            .into_iter()
            .zip(before.iter().zip(all().iter()))
            .filter(|(_, (before, after))| before != after)
            .map(|(stream, _)| stream)
            .collect();
        for stream in changed {
            assert_same(extracted(&simulator, stream, 25).await, rows(&simulator, stream), stream);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_edit_is_a_new_version_now_and_touches_nothing_else() {
    let simulator = tenant(1);
    let page = leaf(&simulator);
    let body = Wanted { statuses: None, body_format: Some("storage".to_owned()) };
    let with_bodies = |stream| simulator.truth_of(stream, &body).unwrap();
    for (stream, id, versions) in [
        ("pages", page.as_str(), Some(("page_versions", "page_id"))),
        (
            "blog_posts",
            &some(&simulator, "blog_posts"),
            Some(("blog_post_versions", "blog_post_id")),
        ),
        (
            "attachments",
            &some(&simulator, "attachments"),
            Some(("attachment_versions", "attachment_id")),
        ),
        ("page_footer_comments", &some(&simulator, "page_footer_comments"), None),
        ("blog_post_inline_comments", &some(&simulator, "blog_post_inline_comments"), None),
        ("page_content_properties", &some(&simulator, "page_content_properties"), None),
        ("space_properties", &some(&simulator, "space_properties"), None),
        ("custom_content", &some(&simulator, "custom_content"), None),
    ] {
        let before: BTreeMap<&str, Vec<Row>> =
            STREAMS.into_iter().map(|stream| (stream, with_bodies(stream))).collect();
        let had = versions.map(|(stream, parent)| count(&simulator, stream, (parent, id)));
        edit(&simulator, id, versions.is_some());
        let now = simulator.now().to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
        let old = before[stream].iter().find(|row| row["id"] == id).unwrap();
        let all = with_bodies(stream);
        let new = all.iter().find(|row| row["id"] == id).unwrap();
        assert_eq!(number(new), number(old) + 1, "{stream}");
        assert_eq!(new["version"]["createdAt"], now.as_str(), "{stream}");
        assert!(old["version"]["createdAt"].as_str().unwrap() < now.as_str());
        let content = ["body", "value", "fileId"].into_iter().find(|name| new.contains_key(*name));
        assert_ne!(new[content.unwrap()], old[content.unwrap()], "{stream}");
        if let Some((versions, parent)) = versions {
            assert_ne!(new["title"], old["title"], "{stream}");
            assert_eq!(Some(count(&simulator, versions, (parent, id)) - 1), had);
        }
        for other in STREAMS {
            let (was, is) = (sorted(before[other].clone()), sorted(with_bodies(other)));
            let lost = was.iter().filter(|line| !is.contains(line)).count();
            // The pages under which it is listed know its title; versions only grow.
            let expected =
                usize::from(other == stream || other == "child_pages" && stream == "pages");
            assert_eq!(lost, expected, "{other} after the edit of one of {stream}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_edit_comes_first_and_a_walk_begun_before_it_misses_nothing_else() {
    let simulator = tenant(1);
    for (stream, path) in [
        ("pages", "/pages"),
        ("blog_posts", "/blogposts"),
        ("attachments", "/attachments"),
        ("page_footer_comments", "/footer-comments"),
        ("page_inline_comments", "/inline-comments"),
        ("custom_content", "/custom-content?type=ac:com.example.diagrams:diagram"),
    ] {
        let and = if path.contains('?') { '&' } else { '?' };
        let path = format!("{V2}{path}{and}sort=-modified-date");
        let before = walk(&simulator, &format!("{path}&limit=250")).await;
        let first = json(&simulator, &format!("{path}&limit=2")).await;
        let late = id(before.last().unwrap()).to_owned();
        edit(&simulator, &late, false);
        let after = walk(&simulator, &format!("{path}&limit=250")).await;
        assert_eq!(id(&after[0]), late, "{stream}");
        assert_eq!(after.len(), before.len(), "{stream}");
        let next = first["_links"]["next"].as_str().unwrap();
        let rest: Vec<String> =
            walk(&simulator, next).await.iter().map(|row| id(row).to_owned()).collect();
        let expected: Vec<String> =
            before[2..before.len() - 1].iter().map(|row| id(row).to_owned()).collect();
        assert_eq!(rest, expected, "{stream}: the walk begun before");
        let up = walk(&simulator, &path.replace("-modified", "modified")).await;
        assert_eq!(id(up.last().unwrap()), late, "{stream}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_is_a_place_that_outlives_what_is_around_it() {
    for sort in ["id", "-id", "created-date", "-created-date", "title", "-title"] {
        let simulator = tenant(1);
        let path = format!("{V2}/pages?limit=7&sort={sort}");
        let before = walk(&simulator, &path).await;
        let first = json(&simulator, &path).await;
        let spaces = rows(&simulator, "spaces");
        let homes: Vec<&Value> = spaces.iter().map(|space| &space["homepageId"]).collect();
        let seen: Vec<Row> = before[..7].to_vec();
        let mut deleted = BTreeSet::new();
        // Those before the place and the one at it.
        for page in seen.iter().filter(|page| !homes.contains(&&page["id"])) {
            delete(&simulator, id(page));
            deleted.insert(id(page).to_owned());
        }
        assert!(deleted.contains(id(&before[6])) || !sort.starts_with('-'), "{sort}");
        let created = create(&simulator, New::Page, &some(&simulator, "spaces"));
        let rest = walk(&simulator, first["_links"]["next"].as_str().unwrap()).await;
        let mut rest: BTreeSet<String> = rest.iter().map(|row| id(row).to_owned()).collect();
        rest.remove(&created);
        let expected: BTreeSet<String> = before[7..].iter().map(|row| id(row).to_owned()).collect();
        assert_eq!(rest, expected, "{sort}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_created_is_listed_and_found_below_its_container() {
    let simulator = tenant(2);
    let (page, space) = (leaf(&simulator), some(&simulator, "spaces"));
    let now = simulator.now();
    let child = create(&simulator, New::Page, &page);
    let post = create(&simulator, New::BlogPost, &space);
    let file = create(&simulator, New::Attachment, &child);
    let comment = create(&simulator, New::FooterComment, &child);
    let reply = create(&simulator, New::FooterComment, &comment);
    let inline = create(&simulator, New::InlineComment, &post);
    let task = create(&simulator, New::Task, &child);
    let property = create(&simulator, New::Property, &child);
    let space_property = create(&simulator, New::Property, &space);
    let permission = create(&simulator, New::Permission, &space);
    let group = create(&simulator, New::Group, "");
    assert!((simulator.now() - now).num_milliseconds() >= 10, "each change has its own time");
    let made = row(&simulator, "pages", &child).unwrap();
    assert_eq!((&made["parentId"], number(&made)), (&Value::from(page.as_str()), 1));
    assert_eq!(row(&simulator, "child_pages", &child).unwrap()["page_id"], page.as_str());
    assert_eq!(row(&simulator, "attachments", &file).unwrap()["pageId"], child.as_str());
    let answer = row(&simulator, "page_footer_comments", &reply).unwrap();
    assert_eq!(answer["parentCommentId"], comment.as_str());
    assert!(
        !row(&simulator, "page_footer_comments", &comment).unwrap().contains_key("parentCommentId")
    );
    assert_eq!(
        row(&simulator, "blog_post_inline_comments", &inline).unwrap()["blogPostId"],
        post.as_str()
    );
    assert_eq!(row(&simulator, "tasks", &task).unwrap()["pageId"], child.as_str());
    assert_eq!(
        row(&simulator, "page_content_properties", &property).unwrap()["page_id"],
        child.as_str()
    );
    assert_eq!(
        row(&simulator, "space_properties", &space_property).unwrap()["space_id"],
        space.as_str()
    );
    assert_eq!(
        row(&simulator, "space_permissions", &permission).unwrap()["space_id"],
        space.as_str()
    );
    assert!(ids(&simulator, "groups").contains(&group));
    assert_eq!(status(&simulator, &format!("{V2}/blogposts/{post}")).await, 200);
    assert_eq!(status(&simulator, &format!("{V2}/pages/{child}/labels")).await, 200);
    for stream in STREAMS {
        assert_same(extracted(&simulator, stream, 20).await, rows(&simulator, stream), stream);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_trash_is_listed_as_such_and_comes_back() {
    let simulator = tenant(1);
    let page = leaf(&simulator);
    let child = create(&simulator, New::Page, &page);
    let file = create(&simulator, New::Attachment, &page);
    let comment = create(&simulator, New::FooterComment, &page);
    let parent = row(&simulator, "pages", &page).unwrap()["parentId"].clone();
    let number_before = number(&row(&simulator, "pages", &page).unwrap());
    change(&simulator, &TenantChange::Trash { id: page.clone() });
    assert!(!ids(&simulator, "pages").contains(&page));
    assert!(!ids(&simulator, "attachments").contains(&file));
    assert!(!ids(&simulator, "page_footer_comments").contains(&comment));
    assert_eq!(row(&simulator, "pages", &child).unwrap()["parentId"], parent, "moved up");
    let trashed = walk(&simulator, &format!("{V2}/pages?status=trashed&limit=250")).await;
    let found = trashed.iter().find(|row| id(row) == page).unwrap();
    assert!(found["parentId"].is_null() && found["position"].is_null());
    let single = json(&simulator, &format!("{V2}/pages/{page}")).await;
    assert_eq!(single["status"], "trashed");
    assert_eq!(single["version"]["number"], number_before, "no version tells");
    assert_eq!(status(&simulator, &format!("{V2}/footer-comments/{comment}/children")).await, 404);
    assert!(simulator.change(&TenantChange::Edit { id: page.clone(), retitle: false }).is_err());
    change(&simulator, &TenantChange::Restore { id: page.clone() });
    assert!(ids(&simulator, "attachments").contains(&file));
    assert!(ids(&simulator, "page_footer_comments").contains(&comment));
    let back = row(&simulator, "pages", &page).unwrap();
    assert_eq!((&back["status"], &back["parentType"]), (&"current".into(), &"page".into()));
    change(&simulator, &TenantChange::Archive { id: page.clone() });
    assert_eq!(row(&simulator, "pages", &page).unwrap()["status"], "archived");
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_gone_with_all_in_it() {
    let simulator = tenant(1);
    let page = leaf(&simulator);
    let (file, task) =
        (create(&simulator, New::Attachment, &page), create(&simulator, New::Task, &page));
    let root = create(&simulator, New::InlineComment, &page);
    let reply = create(&simulator, New::InlineComment, &root);
    let deeper = create(&simulator, New::InlineComment, &reply);
    let other = create(&simulator, New::InlineComment, &page);
    delete(&simulator, &root);
    let comments = ids(&simulator, "page_inline_comments");
    assert!([&root, &reply, &deeper].iter().all(|gone| !comments.contains(*gone)));
    assert!(comments.contains(&other));
    delete(&simulator, &page);
    for path in [
        format!("/pages/{page}"),
        format!("/pages/{page}/labels"),
        format!("/pages/{page}/versions"),
        format!("/attachments/{file}"),
        format!("/attachments/{file}/properties"),
        format!("/inline-comments/{other}/children"),
    ] {
        assert_eq!(status(&simulator, &format!("{V2}{path}")).await, 404, "{path}");
    }
    for (stream, gone) in
        [("attachments", &file), ("tasks", &task), ("page_inline_comments", &other)]
    {
        assert!(!ids(&simulator, stream).contains(gone), "{stream}");
    }
    let listed =
        walk(&simulator, &format!("{V2}/pages?status=current,archived,trashed,deleted")).await;
    assert!(listed.iter().all(|row| id(row) != page));
    assert!(walk(&simulator, &format!("{V2}/pages?id={page}")).await.is_empty());
    let group = some(&simulator, "groups");
    delete(&simulator, &group);
    assert!(!ids(&simulator, "groups").contains(&group));
    let permission = some(&simulator, "space_permissions");
    delete(&simulator, &permission);
    assert!(!ids(&simulator, "space_permissions").contains(&permission));
    let space = rows(&simulator, "spaces")[1].clone();
    delete(&simulator, id(&space));
    assert_eq!(status(&simulator, &format!("{V2}/spaces/{}", id(&space))).await, 404);
    let home = space["homepageId"].as_str().unwrap();
    assert_eq!(status(&simulator, &format!("{V2}/pages/{home}")).await, 404);
    for stream in STREAMS {
        let truth = rows(&simulator, stream);
        assert!(truth.iter().all(|row| row.get("spaceId").is_none_or(|of| of != id(&space))));
        assert_same(extracted(&simulator, stream, 20).await, truth, stream);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_moves_with_all_below_it_and_no_version_tells() {
    let simulator = tenant(1);
    let page = leaf(&simulator);
    let child = create(&simulator, New::Page, &page);
    let before = row(&simulator, "pages", &page).unwrap();
    let spaces = rows(&simulator, "spaces");
    let other = spaces.iter().find(|space| space["id"] != before["spaceId"]).unwrap();
    change(&simulator, &TenantChange::Move { id: page.clone(), to: id(other).to_owned() });
    let after = row(&simulator, "pages", &page).unwrap();
    assert_eq!((&after["spaceId"], &after["parentId"]), (&other["id"], &other["homepageId"]));
    assert_eq!(after["version"], before["version"]);
    assert_eq!(row(&simulator, "pages", &child).unwrap()["spaceId"], other["id"]);
    let into_itself = TenantChange::Move { id: page.clone(), to: child };
    assert!(simulator.change(&into_itself).is_err());
    let home = other["homepageId"].as_str().unwrap().to_owned();
    let error = simulator.change(&TenantChange::Trash { id: home }).unwrap_err();
    assert!(error.to_string().contains("home page"), "{}", error);
    let in_space = walk(&simulator, &format!("{V2}/spaces/{}/pages", id(other))).await;
    assert!(in_space.iter().any(|row| id(row) == page));
}

#[tokio::test(start_paused = true)]
async fn labels_come_and_go_and_the_lists_by_label_know() {
    let simulator = tenant(1);
    let (page, label) = (leaf(&simulator), rows(&simulator, "page_labels")[0].clone());
    let listed = async || {
        let path = format!("{V2}/labels/{}/pages?limit=250", id(&label));
        walk(&simulator, &path).await.iter().any(|row| id(row) == page)
    };
    let carries = || count(&simulator, "page_labels", ("page_id", &page));
    let (labels, label_id) = (carries(), id(&label).to_owned());
    assert!(!listed().await);
    change(&simulator, &TenantChange::AddLabel { id: page.clone(), label: label_id.clone() });
    assert!(listed().await);
    assert_eq!(carries(), labels + 1);
    change(&simulator, &TenantChange::RemoveLabel { id: page.clone(), label: label_id.clone() });
    assert!(!listed().await);
    assert_eq!(carries(), labels);
    assert!(simulator.change(&TenantChange::RemoveLabel { id: page, label: label_id }).is_err());
}

#[tokio::test(start_paused = true)]
async fn tasks_are_ticked_and_filtered_by_when() {
    let simulator = tenant(1);
    let open =
        rows(&simulator, "tasks").into_iter().find(|task| task["status"] == "incomplete").unwrap();
    let since = simulator.now().timestamp_millis();
    let ask =
        async |filter: &str| walk(&simulator, &format!("{V2}/tasks?{filter}={since}")).await.len();
    assert_eq!((ask("completed-at-from").await, ask("created-at-from").await), (0, 0));
    change(&simulator, &TenantChange::Toggle { id: id(&open).to_owned() });
    let done = row(&simulator, "tasks", id(&open)).unwrap();
    assert_eq!((&done["status"], &done["completedAt"]), (&"complete".into(), &done["updatedAt"]));
    assert_ne!(done["updatedAt"], open["updatedAt"]);
    create(&simulator, New::Task, &leaf(&simulator));
    assert_eq!((ask("completed-at-from").await, ask("created-at-from").await), (1, 1));
    change(&simulator, &TenantChange::Toggle { id: id(&open).to_owned() });
    let again = row(&simulator, "tasks", id(&open)).unwrap();
    assert!(again["completedAt"].is_null());
    assert_ne!(again["updatedAt"], open["updatedAt"]);
    assert_eq!(ask("completed-at-from").await, 0);
    assert!(ask("completed-at-to").await > 0 && ask("due-at-to").await > 0);
}

#[tokio::test(start_paused = true)]
async fn equal_changes_of_equal_tenants_give_equal_bytes() {
    let history = async |seed: u64| {
        let simulator = tenant(1);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let made = simulator.churn(seed, &Churn::of(150));
        let mut bytes = Vec::new();
        for list in ["pages?body-format=storage", "attachments", "tasks", "footer-comments"] {
            bytes.push(get(&simulator, &format!("{V2}/{list}")).await.body);
        }
        (made, bytes)
    };
    let first = history(7).await;
    assert_eq!(first, history(7).await);
    assert_ne!(first, history(8).await);
    let (mut few, mut many) = (tenant(1), tenant(1));
    let made = (few.churn(7, &Churn::of(50)), many.churn(7, &Churn::of(60)));
    assert_eq!(made.0[..], made.1[..50], "more changes go on where fewer end");
    let options = Options { changes: 50, ..tenant(1).options().clone() };
    (few, many) = (Simulator::new(options), tenant(1));
    assert_ne!(rows(&few, "pages"), rows(&many, "pages"));
    many.churn(1, &Churn::of(50));
    assert_eq!(rows(&few, "pages"), rows(&many, "pages"), "changed at the start");
}

#[tokio::test(start_paused = true)]
async fn changes_happen_while_requests_come_in_always_at_the_same_ones() {
    let run = async |churning: Option<Churning>| {
        let options = Options { churn: churning, ..tenant(1).options().clone() };
        let simulator = Simulator::new(options);
        let walked = walk(&simulator, &format!("{V2}/pages?limit=3")).await;
        let truths = STREAMS.map(|stream| rows(&simulator, stream));
        (walked, truths)
    };
    let often = Some(Churning::every(1, 5));
    let changing = run(often.clone()).await;
    assert_eq!(changing, run(often).await);
    assert_ne!(changing, run(Some(Churning::every(1, 6))).await);
    assert_ne!(changing, run(None).await);
    let simulator =
        Simulator::new(Options { churn: Some(Churning::every(1, 5)), ..Options::default() });
    walk(&simulator, &format!("{V2}/pages?limit=3")).await;
    simulator.set_churning(None);
    for stream in STREAMS {
        assert_same(extracted(&simulator, stream, 250).await, rows(&simulator, stream), stream);
    }
}

#[tokio::test(start_paused = true)]
async fn the_tenant_s_clock_goes_with_time_and_starts_after_all_there_was() {
    let simulator = tenant(1);
    assert_eq!(simulator.now(), start());
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!((simulator.now() - start()).num_seconds(), 90);
    let early = Options { now: DateTime::from_timestamp(0, 0), ..Options::default() };
    let early = Simulator::new(early).now().to_rfc3339();
    for stream in STREAMS {
        for row in rows(&simulator, stream) {
            for time in times(&Value::Object(row)) {
                assert!(time < early || time.contains("T00:00:00Z"), "{stream}: {time}");
            }
        }
    }
}

/// All instants anywhere in a value, but for when a task is due.
fn times(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| *name != "dueAt")
            .flat_map(|(_, value)| times(value))
            .collect(),
        Value::Array(items) => items.iter().flat_map(times).collect(),
        Value::String(text) if DateTime::parse_from_rfc3339(text).is_ok() => vec![text.clone()],
        _ => Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_cursor_is_refused_and_the_first_page_is_not() {
    let simulator = tenant(1);
    let pages = format!("{V2}/pages?limit=5");
    let first = json(&simulator, &pages).await;
    let next = first["_links"]["next"].as_str().unwrap();
    let rule = FaultRule {
        part: "/pages".to_owned(),
        when: When::Numbers(vec![2]),
        what: What::ExpiredCursor,
    };
    simulator.set_faults(Faults { rules: vec![rule], ..Faults::default() });
    for _ in 0..3 {
        assert_eq!(status(&simulator, &pages).await, 200);
    }
    assert_eq!(status(&simulator, next).await, 200);
    let refused = get(&simulator, next).await;
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert_eq!(refused.status, 400);
    assert!(text.contains("You can get a new valid cursor"), "{text}");
    assert_eq!(status(&simulator, next).await, 200);
}

#[tokio::test(start_paused = true)]
async fn credentials_are_revoked_for_a_while() {
    let options = tenant(1).options().clone();
    let faults = Faults { revoke_after: Some(2), restore_after: Some(4), ..Faults::default() };
    let simulator =
        Simulator::new(Options { credentials: Some(credentials(false)), faults, ..options });
    let mut asked = request(&format!("{V2}/spaces"));
    let good = format!("Basic {}", STANDARD.encode("me@example.com:letmein"));
    asked.headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&good).unwrap());
    let ask = async || SimulatedApi(simulator.clone()).send(&asked).await.unwrap().status.as_u16();
    for expected in [200, 200, 404, 404, 200] {
        assert_eq!(ask().await, expected);
    }
    simulator.set_faults(Faults { revoke_after: Some(0), ..Faults::default() });
    assert_eq!(ask().await, 404);
    simulator.set_faults(Faults::default());
    assert_eq!(ask().await, 200);
}
