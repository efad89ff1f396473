//! Warnings about keys that several records may share; only the API's documentation can confirm
//! them.

use crate::spec::language::api::Spec;
use crate::spec::language::request::{ForEach, QueueItems};
use crate::spec::language::stream::Stream;
use crate::template::Template;
use crate::yaml::Finding;

/// The alternative, if ids are unique.
const UNIQUE: &str = "or set `unique_ids: true` if ids are unique in the whole API";

/// Warnings about rows that may replace each other, because ids of different parents may be equal.
pub(super) fn warnings(spec: &Spec) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, stream) in &spec.streams {
        if stream.key.is_empty() || is_unique(spec, stream) {
            continue;
        }
        findings.extend(parentless(name, stream).filter(|_| !stream.internal));
        for (queue, feed) in &stream.feeds {
            let lost = partly_fed(spec, name, queue, feed.value());
            findings.extend(lost.into_iter().flatten());
        }
    }
    findings
}

fn is_unique(spec: &Spec, stream: &Stream) -> bool {
    stream.unique_ids.or(spec.defaults.unique_ids).unwrap_or(false)
}

/// A child stream whose key contains no column of its parent.
fn parentless(name: &str, stream: &Stream) -> Option<Finding> {
    let parents = queues(stream);
    let first = parents.first()?;
    if stream.key.iter().any(|column| names_parent(stream, column, &parents)) {
        return None;
    }
    let key = stream.key.join("`, `");
    let message = format!(
        "the key `{key}` has no column of the parent: children of two parents that share it become one row"
    );
    let variable = first.variable_name();
    let hint =
        format!("add a column of the parent, such as `{{{{ {variable} }}}}`, to `key`, {UNIQUE}");
    Some(Finding::new(&["streams", name, "key"], message).with_hint(hint))
}

/// The queues for whose values the stream's own requests are sent.
fn queues(stream: &Stream) -> Vec<&QueueItems> {
    let requests = stream.requests.iter().map(|request| request.for_each.as_ref());
    let all = requests.chain([stream.for_each.as_ref()]).flatten();
    all.filter_map(|for_each| match for_each {
        ForEach::Queue(items) => Some(items),
        _ => None,
    })
    .collect()
}

/// Whether a column identifies the parent: `replaces` names it, or its value comes from the queue.
fn names_parent(stream: &Stream, column: &str, parents: &[&QueueItems]) -> bool {
    let own = stream.columns.get(column);
    let others = stream.requests.iter().filter_map(|request| request.columns.get(column));
    let mut texts = own.into_iter().chain(others).filter_map(|spec| spec.from.as_ref());
    let is_made_of_it = |text: &String| {
        let used = Template::parse(text).map(|template| template.variables()).unwrap_or_default();
        parents.iter().any(|items| {
            let carried = items.carry.keys().map(String::as_str);
            carried.chain([items.variable_name()]).any(|name| used.contains(name))
        })
    };
    stream.replaces.as_deref() == Some(column) || texts.any(|from| from.0.iter().any(is_made_of_it))
}

/// Warnings about a queue that gets only a part of the stream's key, and about consumers that do
/// not add the rest.
fn partly_fed(spec: &Spec, name: &str, queue: &str, value: &str) -> Option<Vec<Finding>> {
    let stream = spec.streams.get(name)?;
    let paths: Vec<&str> = stream.key.iter().map(|column| path_of(stream, column)).collect();
    // The value is not part of the key: it is fed once for all records that contain it.
    let rest: Vec<&str> = paths.iter().copied().filter(|path| *path != value).collect();
    if rest.is_empty() || rest.len() == paths.len() {
        return None;
    }
    let key = stream.key.join("`, `");
    let mut findings = Vec::new();
    for (child, consumer) in &spec.streams {
        for items in queues(consumer).into_iter().filter(|items| items.queue == queue) {
            let carries = |path: &&str| items.carry.values().any(|carried| carried == path);
            if !rest.iter().all(carries) {
                let message = format!(
                    "`{queue}` gets only `{value}`, but the key of `{name}` is `{key}`: `{child}` sends one \
                     request for all records that share it"
                );
                let hint = format!(
                    "let `{child}` carry the rest: `carry: {{ {0}: {0} }}`, {UNIQUE}",
                    rest.join(", ")
                );
                findings.push(
                    Finding::new(&["streams", name, "feeds", queue], message).with_hint(hint),
                );
            } else if consumer.replaces.is_some() && !is_unique(spec, consumer) {
                let message = format!(
                    "two parents may share the `{value}` of `{name}`: rows of one would replace those of the other"
                );
                let hint = format!("remove `replaces`, {UNIQUE}");
                findings
                    .push(Finding::new(&["streams", child, "replaces"], message).with_hint(hint));
            }
        }
    }
    Some(findings)
}

/// Path of a column in the record.
fn path_of<'spec>(stream: &'spec Stream, column: &'spec str) -> &'spec str {
    let from = stream.columns.get(column).and_then(|spec| spec.from.as_ref());
    from.and_then(|from| from.0.first()).map_or(column, String::as_str)
}

#[cfg(test)]
mod tests {
    use crate::spec::language::api::Spec;

    const START: &str = "name: a\nbase_url: https://a.test\ntest: { get: /a }\nstreams:\n";

    #[track_caller]
    fn check(streams: &str, expected: &[&str]) {
        let text = format!("{START}{streams}");
        let spec = Spec::load("a.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"));
        let found = spec.warnings("a.yaml", &text).0;
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}");
        }
    }

    const ORGS: &str =
        "  orgs: { get: /orgs, key: [id], feeds: { org_ids: id }, columns: { id: int } }\n";

    #[test]
    fn a_child_names_its_parent_in_its_key_or_says_that_ids_are_unique() {
        let child = |more: &str| {
            format!("{ORGS}  kids: {{ for_each: org_ids, get: '/o/{{{{ org_id }}}}', {more} }}\n")
        };
        check(&child("key: [id], columns: { id: int }"), &["`id` has no column of the parent"]);
        check(&child("key: [id], columns: { id: int }, unique_ids: true"), &[]);
        check(&child("columns: { id: int }"), &[]);
        let parent = "columns: { id: int, org: { int: '{{ org_id }}' } }";
        check(&child(&format!("key: [org, id], {parent}")), &[]);
        check(&child(&format!("key: [id], {parent}")), &["a.yaml:6:"]);
        let replaces = "columns: { id: int, org: int }, replaces: org";
        check(&child(&format!("key: [org, id], {replaces}")), &[]);
        check(&child(&format!("key: [id], {replaces}")), &["has no column of the parent"]);
    }

    #[test]
    fn what_is_fed_is_the_whole_key() {
        let projects = "  projects: { get: /p, key: [org, id], feeds: { ids: id, users: user }, \
                        columns: { org: text, id: int, user: text } }\n";
        let child = |for_each: &str, more: &str| {
            format!(
                "{projects}  items: {{ for_each: {for_each}, get: /i, key: [project, id], \
                 columns: {{ project: {{ int: '{{{{ id }}}}' }}, id: int }}{more} }}\n"
            )
        };
        check(
            &child("ids", ""),
            &["`ids` gets only `id`, but the key of `projects` is `org`, `id`"],
        );
        check(&child("{ queue: ids, carry: { o: org } }", ""), &[]);
        let replaces = ", replaces: project";
        check(&child("{ queue: ids, carry: { o: org } }", replaces), &["two parents may share"]);
        let users = "  people: { for_each: users, get: /u, key: [user], replaces: user, columns: { user: text } }\n";
        check(&format!("{projects}{users}"), &[]);
    }

    #[test]
    fn nothing_is_to_be_said_of_the_specs_that_weir_brings() {
        for (name, text) in crate::spec::embedded::EMBEDDED {
            let spec = Spec::load(name, text).unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(spec.warnings(name, text).to_string(), "", "{name}");
        }
    }
}
