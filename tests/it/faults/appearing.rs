//! Parents that appear between two incremental runs.

use serde_json::{Value, json};

use crate::support::fake::{Asked, Fake, Reply};

const INCREMENTAL: &str = "source: A\ntarget: B\n\
    defaults: { mode: incremental, metadata: { synced_at: false } }\nstreams: { '*': }\n";

/// Projects with tasks, of which a request brings those that changed since a date.
fn spec(cursor: &str) -> String {
    format!(
        "
name: shop
base_url: https://shop.test
test: {{ get: /ping }}
defaults: {{ paginate: none }}
streams:
  projects: {{ get: /projects, key: [id], feeds: {{ project_ids: id }}, columns: {{ id: int }}, refresh: 1s }}
  tasks:
    for_each: project_ids
    get: '/projects/{{{{ project_id }}}}/tasks'
    key: [project_id, id]
    columns: {{ id: int, project_id: {{ int: '{{{{ project_id }}}}' }}, changed_at: {{ timestamp: changedAt }} }}
    cursor: {cursor}
    refresh: 365d
"
    )
}

fn tasks(asked: &Asked, projects: &[u64]) -> Reply {
    if asked.path == "/projects" {
        return Reply::json(&projects.iter().map(|id| json!({ "id": id })).collect::<Value>());
    }
    let all = [("2026-03-01T00:00:00Z", 2), ("2020-01-01T00:00:00Z", 1)];
    let since = asked.param("since");
    let some = all.into_iter().filter(|(at, _)| *at >= since);
    Reply::json(&some.map(|(at, id)| json!({ "id": id, "changedAt": at })).collect::<Value>())
}

#[tokio::test]
async fn children_of_a_parent_that_appears_between_runs_are_read_whatever_the_bound() {
    let spec = spec("{ field: changed_at, query: { since: '{{ cursor }}' } }");
    let fake = Fake::new(&spec, |asked| tasks(asked, &[1]));
    fake.run_with(INCREMENTAL).await;
    assert_eq!(fake.rows("tasks").len(), 2);
    fake.answer(|asked| tasks(asked, &[1, 2]));
    let ran = fake.run_with(INCREMENTAL).await;
    assert_eq!(fake.rows("tasks").len(), 4);
    // The bound holds for the one that was there before, and for both from then on.
    assert_eq!(since(&ran.asked, 1), "2026-03-01T00:00:00.000Z");
    assert_eq!(since(&ran.asked, 2), "1970-01-01T00:00:00.000Z");
    let ran = fake.run_with(INCREMENTAL).await;
    assert_eq!(since(&ran.asked, 2), "2026-03-01T00:00:00.000Z");
}

fn since(asked: &[Asked], project: u64) -> &str {
    let path = format!("/projects/{project}/tasks");
    asked.iter().find(|asked| asked.path == path).unwrap().param("since")
}

/// Projects are numbered in each organisation: the first of a second organisation is another one.
#[tokio::test]
async fn a_parent_that_repeats_the_value_and_version_of_another_one_is_not_taken_for_it() {
    const SPEC: &str = "
name: shop
base_url: https://shop.test
test: { get: /ping }
streams:
  projects:
    get: /projects
    records: results
    key: [org, id]
    columns: { org: text, id: int, at: timestamp }
    cursor: { field: at, query: { since: '{{ cursor }}' } }
    refresh: 24h
    feeds: { project_ids: id }
  tasks:
    for_each: { queue: project_ids, carry: { org: org } }
    get: /orgs/{{ org }}/projects/{{ project_id }}/tasks
    records: results
    key: [org, project, id]
    columns:
      org: { text: '{{ org }}' }
      project: { int: '{{ project_id }}' }
      id: int
";
    let replication = "source: A\ntarget: B\ndefaults: { mode: incremental }\nstreams: { '*': }\n";
    let site = |orgs: &'static [&'static str]| {
        move |asked: &Asked| {
            let project = |org: &&str| json!({ "org": org, "id": 1, "at": "2026-01-01T00:00:00Z" });
            let results: Vec<Value> = match asked.path.as_str() {
                "/projects" => orgs.iter().map(project).collect(),
                _ => vec![json!({ "id": 7 })],
            };
            Reply::json(&json!({ "results": results }))
        }
    };
    let fake = Fake::new(SPEC, site(&["a"]));
    fake.run_with(replication).await;
    fake.answer(site(&["a", "b"]));
    let ran = fake.run_with(replication).await;
    let asked: Vec<&str> = ran.asked.iter().map(|asked| asked.path.as_str()).collect();
    assert!(asked.contains(&"/orgs/b/projects/1/tasks"), "{asked:?}");
    assert_eq!(fake.column("tasks", "org"), ["a", "b"]);
}
