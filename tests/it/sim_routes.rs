//! The simulated site's cheaper ways to rows: what single objects carry, the search, labels from
//! their own side; and what an extractor meets when such a way is closed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;
use weir_sim::{New, Options, Simulator, TenantChange, Wanted, refusal};

use super::sim::{Row, V2, get, id, json, most_children, status, walk};

const SEARCH: &str = "/wiki/rest/api/content/search";

fn simulator(change: impl FnOnce(&mut Options)) -> Simulator {
    let mut options = Options::default();
    change(&mut options);
    Simulator::new(options)
}

fn points(simulator: &Simulator) -> u64 {
    simulator.log().last().unwrap().points
}

fn search(cql: &str, rest: &str) -> String {
    let cql: String = url::form_urlencoded::byte_serialize(cql.as_bytes()).collect();
    format!("{SEARCH}?cql={cql}{rest}")
}

async fn ids(simulator: &Simulator, path: &str) -> Vec<String> {
    walk(simulator, path).await.iter().map(|row| id(row).to_owned()).collect()
}

fn in_status(simulator: &Simulator, stream: &str, status: &str) -> Vec<Row> {
    let wanted = Wanted { statuses: Some(vec![status.to_owned()]), body_format: None };
    simulator.truth_of(stream, &wanted).unwrap()
}

/// Fifty items and then the rest by the cursor are the whole list, in its order.
async fn check_carried(simulator: &Simulator, object: &str, (parameter, list): (&str, &str)) {
    let field = if list == "direct-children" { "directChildren" } else { list };
    let carrying = json(simulator, &format!("{object}?{parameter}=true")).await;
    let carried = &carrying[field];
    let first = carried["results"].as_array().unwrap();
    assert_eq!((first.len(), &carried["meta"]["hasMore"]), (50, &Value::Bool(true)), "{object}");
    let own = format!("/wiki{}", carried["_links"]["self"].as_str().unwrap());
    assert_eq!(own, format!("{object}/{list}"));
    let cursor = carried["meta"]["cursor"].as_str().unwrap();
    let rest = walk(simulator, &format!("{own}?cursor={cursor}")).await;
    let whole = walk(simulator, &format!("{own}?limit=250")).await;
    let (head, tail) = whole.split_at(50);
    assert_eq!(rest, tail, "{own}");
    for (one, listed) in first.iter().zip(head) {
        for (name, value) in one.as_object().unwrap() {
            assert_eq!(value, &listed[name], "{own} {name}");
        }
    }
    let of_list = head.iter().map(Row::len).max();
    // A version inside of its page does not name the page.
    let missing = usize::from(list == "versions");
    let of_carried = first.iter().map(|row| row.as_object().unwrap().len() + missing).max();
    assert_eq!(of_carried, of_list, "{own}");
}

#[tokio::test]
async fn what_is_carried_and_the_rest_by_its_cursor_are_the_whole_list() {
    let simulator = simulator(|options| (options.pages, options.spaces) = (300, 2));
    for (stream, parent, segment) in [
        ("page_labels", "page_id", "pages"),
        ("blog_post_labels", "blog_post_id", "blogposts"),
        ("attachment_labels", "attachment_id", "attachments"),
    ] {
        let (heavy, _) = most_children(&simulator, stream, parent);
        let object = format!("{V2}/{segment}/{heavy}");
        for list in ["labels", "versions", "properties"] {
            check_carried(&simulator, &object, (&format!("include-{list}"), list)).await;
        }
    }
    for list in ["labels", "permissions", "properties"] {
        let (heavy, _) = most_children(&simulator, &format!("space_{list}"), "space_id");
        let object = format!("{V2}/spaces/{heavy}");
        check_carried(&simulator, &object, (&format!("include-{list}"), list)).await;
    }
    let (heavy, count) = most_children(&simulator, "child_pages", "page_id");
    assert!(count > 50);
    let object = format!("{V2}/pages/{heavy}");
    check_carried(&simulator, &object, ("include-direct-children", "direct-children")).await;
}

#[tokio::test]
async fn a_small_collection_is_carried_whole() {
    let simulator = simulator(|_| {});
    let mut liked = 0;
    for page in in_status(&simulator, "pages", "current") {
        let path = format!("{V2}/pages/{}", id(&page));
        let all = "?include-direct-children=true&include-likes=true&include-operations=true";
        let carrying = json(&simulator, &format!("{path}{all}")).await;
        let children = carrying["directChildren"]["results"].as_array().unwrap();
        if children.len() < 50 {
            assert_eq!(carrying["directChildren"]["meta"], serde_json::json!({ "hasMore": false }));
        }
        let own = walk(&simulator, &format!("{path}/direct-children?limit=50")).await;
        assert!(children.iter().zip(&own).all(|(one, other)| one.as_object() == Some(other)));
        liked += carrying["likes"]["results"].as_array().unwrap().len();
        assert!(!carrying["operations"]["results"].as_array().unwrap().is_empty());
    }
    assert!(liked > 0);
}

#[tokio::test]
async fn what_is_carried_costs_what_it_costs_in_lists_unless_it_is_free() {
    for free in [false, true] {
        let simulator = simulator(|options| options.embedded_are_free = free);
        let cost = |points| if free { 2 } else { 2 + points };
        let (page, _) = most_children(&simulator, "page_labels", "page_id");
        json(&simulator, &format!("{V2}/pages/{page}")).await;
        assert_eq!(points(&simulator), 2);
        json(&simulator, &format!("{V2}/pages/{page}?include-labels=true")).await;
        assert_eq!(points(&simulator), cost(50));
        assert_eq!(simulator.log().last().unwrap().rows, 51);
        let (space, _) = most_children(&simulator, "space_permissions", "space_id");
        json(&simulator, &format!("{V2}/spaces/{space}?include-permissions=true")).await;
        assert_eq!(points(&simulator), cost(100), "permissions cost 2");
        let liked = json(&simulator, &format!("{V2}/pages/{page}?include-operations=true")).await;
        let operations = liked["operations"]["results"].as_array().unwrap().len() as u64;
        assert_eq!(points(&simulator), cost(2 * operations), "so does access");
        json(&simulator, &search(&format!("id={page}"), "&expand=metadata.labels")).await;
        assert_eq!(points(&simulator), cost(200));
        json(&simulator, &search("type=page", "&limit=7")).await;
        assert_eq!(points(&simulator), 8);
    }
}

#[tokio::test]
async fn the_search_finds_what_is_current_and_nothing_else() {
    let simulator = simulator(|options| (options.pages, options.attachments) = (300, 80));
    let current: BTreeSet<String> = walk(&simulator, &format!("{V2}/spaces?limit=250"))
        .await
        .iter()
        .filter(|space| space["status"] == "current")
        .map(|space| id(space).to_owned())
        .collect();
    assert!(current.len() < simulator.options().spaces, "one space is in the archive");
    let is_there = |row: &&Row| current.contains(row["spaceId"].as_str().unwrap());
    let mut held = BTreeSet::new();
    for (stream, kind) in [("pages", "page"), ("blog_posts", "blogpost")] {
        let rows = in_status(&simulator, stream, "current");
        let expected: BTreeSet<String> =
            rows.iter().filter(is_there).map(|row| id(row).to_owned()).collect();
        let found = ids(&simulator, &search(&format!("type = {kind}"), "&limit=9")).await;
        assert_eq!(found.len(), expected.len(), "nothing twice");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
        held.extend(expected);
    }
    let files: BTreeSet<String> = in_status(&simulator, "attachments", "current")
        .iter()
        .filter(|row| {
            let container = row.get("pageId").or(row.get("blogPostId")).unwrap();
            held.contains(container.as_str().unwrap())
        })
        .map(|row| id(row).to_owned())
        .collect();
    let found = ids(&simulator, &search("type=attachment", "&limit=200")).await;
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), files);
    let named = files.iter().take(3).cloned().collect::<Vec<_>>();
    let query = format!("id in ({}, 1, 999999999) and type = attachment", named.join(", "));
    assert_eq!(ids(&simulator, &search(&query, "")).await.len(), 3);
    let two = ids(&simulator, &search("type in (page, blogpost) and space in (ENG)", "")).await;
    let key = ids(&simulator, &search("space = \"eng\" and type in (blogpost, page)", "")).await;
    assert!(!two.is_empty() && two == key);
}

#[tokio::test]
async fn what_is_found_shows_what_was_asked_for() {
    let simulator = simulator(|_| {});
    let all = "&expand=version,metadata.labels&expand=space,history&limit=250";
    let found = walk(&simulator, &search("type in (page, blogpost)", all)).await;
    let pages: BTreeMap<String, Row> = ["pages", "blog_posts"]
        .iter()
        .flat_map(|stream| simulator.truth(stream).unwrap())
        .map(|row| (id(&row).to_owned(), row))
        .collect();
    let mut labels: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for (stream, parent) in [("page_labels", "page_id"), ("blog_post_labels", "blog_post_id")] {
        for row in simulator.truth(stream).unwrap() {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            labels.entry(text(parent)).or_default().insert((text("id"), text("name")));
        }
    }
    let mut more = 0;
    for row in &found {
        let page = &pages[id(row)];
        let (old, new) = (&row["version"], &page["version"]);
        assert_eq!((&old["number"], &old["when"]), (&new["number"], &new["createdAt"]));
        assert_eq!(old["by"]["accountId"], new["authorId"]);
        assert_eq!((&old["message"], &old["minorEdit"]), (&new["message"], &new["minorEdit"]));
        assert_eq!(row["space"]["id"].to_string(), page["spaceId"].as_str().unwrap());
        assert_eq!(row["history"]["createdDate"], page["createdAt"]);
        let shown = &row["metadata"]["labels"];
        let pairs: BTreeSet<(String, String)> = shown["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                (one["id"].as_str().unwrap().to_owned(), one["name"].as_str().unwrap().to_owned())
            })
            .collect();
        let expected = labels.get(id(row)).cloned().unwrap_or_default();
        if shown["_links"].get("next").is_some() {
            assert!(pairs.len() == 200 && expected.len() > 200 && pairs.is_subset(&expected));
            more += 1;
        } else {
            assert_eq!(pairs, expected);
        }
        assert_eq!((&shown["size"], &shown["limit"]), (&pairs.len().into(), &200.into()));
    }
    assert!(more > 0 && found.len() > more);
    let plain = json(&simulator, &search("type=page", "&limit=1")).await;
    let names: Vec<&String> = plain["results"][0].as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 5, "{names:?}");
}

#[tokio::test]
async fn pages_of_the_search_have_silent_caps_and_odd_links() {
    let simulator = simulator(|options| (options.pages, options.body_bytes) = (1800, 40));
    for (rest, cap) in [("", 1000), ("&expand=version", 200), ("&expand=version,body.storage", 50)]
    {
        let page = json(&simulator, &search("type=page", &format!("&limit=5000{rest}"))).await;
        assert_eq!(page["results"].as_array().unwrap().len(), cap, "{rest}");
        assert_eq!((&page["limit"], &page["size"]), (&cap.into(), &cap.into()));
        let next = page["_links"]["next"].as_str().unwrap();
        assert!(next.starts_with("/rest/api/content/search?next=true&cursor=_f_"), "{next}");
        assert_eq!(page["_links"]["context"], "/wiki");
        let second = json(&simulator, &format!("/wiki{next}")).await;
        assert_eq!((&second["start"], &second["limit"]), (&cap.into(), &cap.into()));
        assert_ne!(second["results"][0]["id"], page["results"][0]["id"]);
    }
    let none = json(&simulator, &search("type=page", "&limit=0")).await;
    assert!(none["results"].as_array().unwrap().is_empty() && none["_links"]["next"].is_null());
    for bad in ["", "title ~ \"x\"", "type = page or type = blogpost", "lastmodified > 1"] {
        let refused = get(&simulator, &search(bad, "")).await;
        assert_eq!(refused.status, 400, "{bad}");
        let body: Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!(body["statusCode"], 400);
    }
    assert_eq!(status(&simulator, &search("type=page", "&cursor=_f_x")).await, 400);
}

#[tokio::test]
async fn the_search_of_everything_tells_how_much_there_is() {
    let simulator = simulator(|_| {});
    let find = |cql: &str, rest: &str| {
        let cql: String = url::form_urlencoded::byte_serialize(cql.as_bytes()).collect();
        format!("/wiki/rest/api/search?cql={cql}{rest}")
    };
    for kind in ["page", "blogpost", "attachment"] {
        let all = ids(&simulator, &search(&format!("type={kind}"), "&limit=1000")).await.len();
        let one = json(&simulator, &find(&format!("type={kind}"), "&limit=1")).await;
        let rows = one["results"].as_array().unwrap().len();
        assert_eq!((&one["totalSize"], rows), (&all.into(), 1), "{kind}");
    }
    let comments = json(&simulator, &find("type=comment", "&limit=1")).await;
    let streams = ["page_footer_comments", "page_inline_comments"];
    let listed: usize = streams.map(|one| simulator.truth(one).unwrap().len()).iter().sum();
    let found = usize::try_from(comments["totalSize"].as_u64().unwrap()).unwrap();
    assert!(found > 0 && comments["results"][0]["content"]["type"] == "comment", "{comments}");
    let blogs = ["blog_post_footer_comments", "blog_post_inline_comments"];
    let blogs: usize = blogs.map(|one| simulator.truth(one).unwrap().len()).iter().sum();
    assert!(found < listed + blogs, "those of what is archived are not found: {found}");
    let spaces = simulator.truth("spaces").unwrap();
    let current = spaces.iter().filter(|space| space["status"] == "current").count();
    let found = json(&simulator, &find("type=space", "&limit=0")).await;
    assert_eq!(found["totalSize"], current);
    // Pages lead on to the end.
    let mut path = find("type=comment and space in (ENG)", "&limit=7");
    let (mut seen, mut total) = (0, 0);
    loop {
        let page = json(&simulator, &path).await;
        seen += page["results"].as_array().unwrap().len();
        total = page["totalSize"].as_u64().map_or(total, |size| usize::try_from(size).unwrap());
        let Some(next) = page["_links"]["next"].as_str() else { break };
        path = format!("/wiki{next}");
    }
    assert_eq!(seen, total);
    assert_eq!(status(&simulator, &find("type=whiteboard", "")).await, 400);
}

#[tokio::test]
async fn the_search_knows_times_to_the_minute_and_their_order() {
    let simulator = simulator(|options| {
        options.now = Some("2026-09-01T10:00:30Z".parse().unwrap());
    });
    let old = ids(&simulator, &search("lastmodified >= \"2026/09/01 10:00\"", "")).await;
    assert!(old.is_empty());
    let page = in_status(&simulator, "pages", "current").pop().unwrap();
    let page = id(&page).to_owned();
    simulator.change(&TenantChange::Edit { id: page.clone(), retitle: false }).unwrap();
    let since = |minute: &str| search(&format!("lastmodified >= \"2026-09-01 {minute}\""), "");
    assert_eq!(ids(&simulator, &since("10:00")).await, [page.as_str()]);
    assert!(ids(&simulator, &since("10:01")).await.is_empty());

    let oldest = search("type=page order by lastmodified", "&expand=version&limit=7");
    let newest = search("type=page order by lastmodified desc", "&expand=version&limit=7");
    let (oldest, mut newest) = (walk(&simulator, &oldest).await, walk(&simulator, &newest).await);
    assert_eq!(newest[0]["id"], page.as_str());
    // Milliseconds are left out when they are zero: the texts as such are not in order.
    let times: Vec<chrono::DateTime<chrono::Utc>> = oldest
        .iter()
        .map(|row| row["version"]["when"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(times.is_sorted());
    newest.reverse();
    assert_eq!(oldest, newest);
}

#[tokio::test(start_paused = true)]
async fn the_index_lags() {
    let simulator = simulator(|options| options.index_lag = Duration::from_mins(1));
    let space = simulator.truth("spaces").unwrap().remove(1);
    let under = id(&space).to_owned();
    let page = simulator.change(&TenantChange::Create { what: New::Page, under }).unwrap();
    let found = async || ids(&simulator, &search(&format!("id = {page}"), "")).await;
    assert!(found().await.is_empty());
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(found().await, [page.as_str()]);
    simulator.change(&TenantChange::Archive { id: page.clone() }).unwrap();
    assert!(found().await.is_empty(), "the archive is not searched");
}

fn pair(content: &str, label: &Row) -> String {
    format!("{content} {} {} {}", label["id"], label["name"], label["prefix"])
}

#[tokio::test]
async fn labels_from_their_own_side_are_those_of_current_contents() {
    let simulator = simulator(|options| {
        (options.pages, options.blog_posts, options.attachments) = (200, 80, 80);
    });
    let labels = walk(&simulator, &format!("{V2}/labels?limit=250")).await;
    for (stream, parents, parent) in [
        ("page_labels", "pages", "page_id"),
        ("blog_post_labels", "blogposts", "blog_post_id"),
        ("attachment_labels", "attachments", "attachment_id"),
    ] {
        let mut inverted = BTreeSet::new();
        for label in &labels {
            let list = format!("{V2}/labels/{}/{parents}?limit=250", id(label));
            for content in walk(&simulator, &list).await {
                assert_eq!(content["status"], "current");
                inverted.insert(pair(id(&content), label));
            }
        }
        let own: BTreeSet<String> = in_status(&simulator, stream, "current")
            .iter()
            .map(|row| pair(row[parent].as_str().unwrap(), row))
            .collect();
        assert_eq!(inverted, own, "{stream}");
        let (segment, status) = match parents {
            "blogposts" => ("blogposts", "trashed"),
            other => (other, "archived"),
        };
        let other = in_status(&simulator, stream, status);
        let carrier = other.first().unwrap()[parent].as_str().unwrap();
        let own = walk(&simulator, &format!("{V2}/{segment}/{carrier}/labels?limit=250")).await;
        assert!(!own.is_empty(), "what is {status} keeps its labels, on its own list only");
    }
}

#[tokio::test]
async fn a_closed_way_is_refused_in_the_api_s_words() {
    let refuses = [
        "/wiki/rest/api/content/search=410",
        "/wiki/api/v2/pages/{id}?include-labels=400",
        "/wiki/api/v2/blogposts/{id}=404",
        "/wiki/api/v2/labels=403",
        "/wiki/api/v2/tasks=404",
    ];
    let simulator = simulator(|options| {
        options.refuses = refuses.iter().map(|text| refusal(text).unwrap()).collect();
    });
    let page = id(&simulator.truth("pages").unwrap()[0]).to_owned();
    let blog = id(&simulator.truth("blog_posts").unwrap()[0]).to_owned();
    for (path, expected, words) in [
        (search("type=page", ""), 410, "This deprecated endpoint has been removed."),
        (format!("{V2}/pages/{page}?include-labels=true"), 400, "INVALID_REQUEST_PARAMETER"),
        (format!("{V2}/blogposts/{blog}"), 404, "Cannot find a blogpost with id"),
        (format!("{V2}/labels"), 403, "User does not have permission"),
        (format!("{V2}/tasks"), 404, "No message available"),
        (format!("{V2}/pages/{page}?include-versions=true"), 200, "versions"),
        (format!("{V2}/pages/{page}?include-labels=false"), 200, "title"),
        (format!("{V2}/blogposts/{blog}/labels"), 200, "results"),
    ] {
        let answer = get(&simulator, &path).await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status, expected, "{path}: {body}");
        assert!(body.to_string().contains(words), "{path}: {body}");
    }
}
