//! Former names of keys and routes, which specs and command lines may still use.

use serde::{Deserialize, Deserializer};

use crate::spec::language::routes::DEFAULT;
use crate::yaml::Renamed;

/// Paths of the mappings that describe a request: a stream, and the requests inside it.
const REQUESTS: [&[&str]; 4] = [
    &["streams", "*"],
    &["streams", "*", "requests", "?*"],
    &["streams", "*", "routes", "*", "?*"],
    &["streams", "*", "cursor", "requests", "?*"],
];

/// The same for the requests of a record's children.
const CHILDREN: [&[&str]; 4] = [
    &["streams", "*", "children"],
    &["streams", "*", "requests", "?*", "children"],
    &["streams", "*", "routes", "*", "?*", "children"],
    &["streams", "*", "cursor", "requests", "?*", "children"],
];

/// The keys of a spec that have been renamed. A key comes after those on its path.
pub(super) fn renamed() -> Vec<Renamed> {
    let key = |path, former, name| Renamed { path, former, name, unit: "" };
    let mut all = vec![
        key(&["streams", "*"], "place", "location"),
        key(&["streams", "*", "feeds", "*"], "having", "filter"),
        key(&["streams", "*", "cursor"], "look_back", "lookback"),
        key(&["limits", "points"], "object", "record"),
    ];
    for path in REQUESTS {
        all.push(key(path, "descend", "children"));
        all.push(key(path, "having", "filter"));
        all.push(key(path, "within", "parent_in"));
        all.push(key(path, "found", "covers"));
    }
    all.extend(CHILDREN.map(|path| key(path, "having", "filter")));
    all
}

/// The present name of a route.
pub fn route_name(name: &str) -> &str {
    match name {
        "own" => DEFAULT,
        "probed" => "list_then_fetch",
        "probed_by_space" => "list_then_fetch_by_space",
        _ => name,
    }
}

/// Reads the saved name of a route, which may be a former one.
///
/// # Errors
/// It is not a text.
pub fn present_route<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|name| route_name(&name).to_owned())
}

#[cfg(test)]
mod tests {
    use crate::spec::Spec;

    const START: &str = "name: a\nbase_url: https://a.test\ntest: { get: /a }\n";
    const PARENTS: &str = "  parents:\n    get: /p\n    key: [id]\n    columns: { id: text }\n    \
                           feeds: { parent_ids: id }\n";
    const STREAM: &str =
        "  s:\n    get: /s\n    key: [id]\n    columns: { id: text, at: timestamp }\n";
    const CHILD: &str = "  s:\n    get: '/s/{{ parent_id }}'\n    for_each: parent_ids\n    key: [id]\n    \
                         columns: { id: text }\n";

    fn load(text: &str) -> Result<Spec, String> {
        Spec::load("a.yaml", text).map_err(|problems| problems.to_string())
    }

    /// A spec whose `@` is a key means the same with the former and with the present one; with both, the
    /// former one is an error at its place.
    #[track_caller]
    fn check(template: &str, former: &str, present: &str, value: &str) {
        let with = |keys: &[&str]| {
            let pairs: Vec<String> = keys.iter().map(|key| format!("{key}: {value}")).collect();
            let between = if template.contains("    @") { "\n    " } else { ", " };
            template.replace('@', &pairs.join(between))
        };
        let [old, new] = [former, present].map(|key| {
            let text = with(&[key]);
            load(&text).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
        });
        assert_eq!(format!("{old:?}"), format!("{new:?}"));
        let text = with(&[present, former]);
        let at = text.find(&format!("{former}:")).unwrap();
        let before = text.get(..at).unwrap();
        let column = 1 + before.chars().rev().take_while(|one| *one != '\n').count();
        let place = format!("a.yaml:{}:{column}: ", 1 + before.matches('\n').count());
        let problems = load(&text).unwrap_err();
        let message = format!("{place}`{former}` is the former name of `{present}`; both are set");
        assert!(problems.starts_with(&message), "{text}\n{problems}");
    }

    #[test]
    fn former_keys_keep_working() {
        let stream = |lines: &str| format!("{START}streams:\n{STREAM}    {lines}\n");
        check(&stream("@"), "place", "location", "[at]");
        check(&stream("@"), "having", "filter", "{ id: x }");
        check(&stream("@"), "descend", "children", "{ with: { c: id }, get: '/s/{{ c }}' }");
        let below = "children: { with: { c: id }, get: '/s/{{ c }}', @ }";
        check(&stream(below), "having", "filter", "{ id: x }");
        check(&stream("feeds: { s_ids: { value: id, @ } }"), "having", "filter", "{ id: x }");
        let cursor = "cursor: { field: at, newest_first: true, @ }";
        check(&stream(cursor), "look_back", "lookback", "5m");
        let changes =
            "cursor: { field: at, requests: [{ get: /s, query: { a: '{{ cursor }}' }, @ }] }";
        check(&stream(changes), "having", "filter", "{ id: x }");
    }

    #[test]
    fn former_keys_of_requests_routes_and_limits_keep_working() {
        let child = |lines: &str| format!("{START}streams:\n{PARENTS}{CHILD}    {lines}\n");
        let listed =
            "  s:\n    key: [id]\n    columns: { id: text }\n    requests: [{ get: /s, @ }]\n";
        let listed = format!("{START}streams:\n{PARENTS}{listed}");
        check(&listed, "within", "parent_in", "{ parent_ids: id }");
        let route = "routes: { many: { for_each: { queue: parent_ids, chunk: 5, as: many }, \
                     get: /s, query: { ids: '{{ many }}' }, records: '[].kids', @ } }";
        check(&child(route), "found", "covers", "{ records: '[]', at: id }");
        let limits = "limits: { points: { per_hour: 10, base: 1, @ } }\n";
        let limits = format!("{START}{limits}streams:\n{STREAM}");
        check(&limits, "object", "record", "{ core: 1 }");
    }
}
