//! Every spec and replication in the repository is valid; wrong ones are told what is wrong with them.

use std::{fs, path::Path};

use jsonschema::Validator;
use weir::{
    connection::{self, EnvFile},
    plan,
    replication::{self, Replication},
    spec::{self, Spec},
    yaml::{Document, Problems},
};

/// Path and text of every YAML file in a folder of the repository, in order.
fn files(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let read =
        |path: std::path::PathBuf| (path.display().to_string(), fs::read_to_string(&path).unwrap());
    paths.into_iter().map(read).collect()
}

#[track_caller]
fn valid<T>(read: Result<T, Problems>) -> T {
    read.unwrap_or_else(|problems| panic!("{problems}"))
}

fn load_replication(file: &str, text: &str) -> Result<Replication, Problems> {
    Replication::load(&Document::parse(file, text)?)
}

/// What is told of a wrong file.
#[track_caller]
fn wrong(name: &str) -> String {
    let path = format!("{}/tests/it/fixtures/wrong/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).unwrap();
    let read = if name.starts_with("replication") {
        load_replication(name, &text).map(|_| ())
    } else {
        Spec::load(name, &text).map(|_| ())
    };
    read.unwrap_err().to_string()
}

/// Ways of writing values, a line each.
const VALUES: &str = "\
none

link_header
cursor
next_url
{ link_header: }
{ link_header: {} }
{ link_header: { rel: next } }
{ none: }
{ offset: }
{ offset: { param: p } }
{ next_url: { at: n } }
{ next_url: { at: n, follow: exact } }
5
1.5
true
x
[]
[x]
[5, x]
{}
{ x: y }
{ x: 5 }
{ x: [1, a] }
{ x: { value: y } }
{ x: { value: y, filter: { z: 1 } } }
{ queue: q }
{ values: [1, a], as: v }
{ range: { from: 1, to: 2 }, as: v }
{ form: { a: 1 } }
{ json: { a: [1] } }
{ param: limit, max: 5 }
{ when: x, get: /c, at: n }
keep
ignore
add_columns
10s
with_parent
{ field: id }
{ field: id, lookback: 1h }
[{ status: 204, then: empty }]
[{ status: [4xx, 500] }]
[{ status: x }]
[{}]
{ with: { b: c }, get: /x }
{ with: { b: c }, get: /x, filter: {} }";

/// Keys of a stream.
const KEYS: &str = "\
doc key feeds replaces cursor refresh place min_rows unknown ignore responses concurrency cost routes count internal
requests when for_each post query headers body records paginate page_size max_pages children filter null_means_none may_repeat";

/// Keys of a spec.
const TOP: &str = "\
title docs connection inputs auth headers limits responses setup defaults";

/// Ways of writing columns, a line each.
const COLUMNS: &str = "\
text
{ text: x }
{ text: [x, y] }
{ text: 5 }
{ type: int }
{}
5

{ text: x, int: y }
[text]
{ int: n, default: 1 }";

/// Each way of writing values for each key that a spec may have anywhere.
fn corpus() -> Vec<String> {
    let start = "name: x\nbase_url: https://x.test\ntest: { get: /me }\n";
    let stream = |more: &str| {
        format!("{start}streams:\n  a:\n    get: /a\n    columns: {{ id: text }}\n    {more}\n")
    };
    let of_streams = KEYS
        .split_whitespace()
        .flat_map(|key| VALUES.split('\n').map(move |value| stream(&format!("{key}: {value}"))));
    let of_specs = TOP.split_whitespace().flat_map(|key| {
        VALUES.split('\n').map(move |value| {
            format!(
                "{start}{key}: {value}\nstreams: {{ a: {{ get: /a, columns: {{ id: text }} }} }}\n"
            )
        })
    });
    let of_columns = COLUMNS.split('\n').map(|column| {
        format!("{start}streams: {{ a: {{ get: /a, columns: {{ id: {column} }} }} }}\n")
    });
    of_streams.chain(of_specs).chain(of_columns).collect()
}

#[test]
fn the_schema_of_specs_and_the_reader_agree_on_every_form() {
    let schema = validator(&spec::json_schema());
    let mut differ = Vec::new();
    for text in corpus() {
        let document = valid(Document::parse("x.yaml", &text));
        let read = document.read::<Spec>();
        let refused = refused(&schema, &text);
        if read.is_ok() != refused.is_empty() {
            differ.push(format!("{text}\nreader: {:?}\nschema: {refused:?}\n", read.err()));
        }
    }
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
}

/// What a schema says against a text.
fn refused(schema: &Validator, text: &str) -> Vec<String> {
    let document = valid(Document::parse("example.yaml", text));
    let value = document.root().to_json();
    schema.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn validator(schema: &serde_json::Value) -> Validator {
    jsonschema::draft202012::new(schema).unwrap()
}

#[test]
fn every_spec_is_valid() {
    let schema = validator(&spec::json_schema());
    for (path, text) in files("specs") {
        valid(Spec::load(&path, &text));
        assert_eq!(refused(&schema, &text), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn every_replication_is_valid_and_fits_a_spec() {
    let schema = validator(&replication::json_schema());
    let specs: Vec<Spec> =
        files("specs").iter().map(|(path, text)| valid(Spec::load(path, text))).collect();
    for (path, text) in files("replications") {
        let replication = valid(load_replication(&path, &text));
        assert_eq!(refused(&schema, &text), Vec::<String>::new(), "{path}");
        let fits = specs.iter().any(|spec| plan::check(&replication, spec).is_empty());
        assert!(fits, "{path} fits no spec");
    }
}

#[test]
fn the_schema_of_specs_refuses_what_the_loader_refuses() {
    let schema = validator(&spec::json_schema());
    let table = [
        ("streams: { a: { get: /a, columns: { id: text } } }", true),
        ("streams: { a: { get: /a, columns: { id: { int: n, default: 1, doc: d } } } }", true),
        ("streams: { a: { get: /a, query: { n: [1, x, true] }, columns: { id: text } } }", true),
        (
            "streams: { a: { get: /a, for_each: ids, feeds: { ids: id }, columns: { id: text } } }",
            false,
        ),
        ("streams: { a: { gett: /a, columns: { id: text } } }", false),
        ("streams: { a: { get: /a, columns: { id: texd } } }", false),
        ("streams: { a: { get: /a, columns: { id: { intt: x } } } }", false),
        ("streams: { a: { get: /a, key: id, columns: { id: text } } }", true),
        ("streams: { a: { get: /a, key: { id: 1 }, columns: { id: text } } }", false),
        (
            "connection: { t: { secret: 'true' } }\nstreams: { a: { get: /a, columns: { id: text } } }",
            true,
        ),
        (
            "connection: { t: { secret: 'yes' } }\nstreams: { a: { get: /a, columns: { id: text } } }",
            false,
        ),
        ("streams: { a: { get: /a, max_pages: many, columns: { id: text } } }", false),
        ("streams: { a: { get: /a, paginate: { curser: {} }, columns: { id: text } } }", false),
        (
            "streams: { a: { get: /a, paginate: { cursor: { at: x } }, columns: { id: text } } }",
            false,
        ),
        ("streams: { a: { get: /a, responses: [{ status: 9xx }], columns: { id: text } } }", false),
        ("streams: { a: { get: /a, unknown: keeep, columns: { id: text } } }", false),
        ("streams: []", false),
        ("limits: { timeout: 10 }\nstreams: { a: { get: /a, columns: { id: text } } }", false),
        ("limit: {}\nstreams: { a: { get: /a, columns: { id: text } } }", false),
    ];
    for (text, valid) in table {
        let text = format!("name: x\nbase_url: https://x.test\ntest: {{ get: /me }}\n{text}\n");
        let loads = Spec::load("example.yaml", &text);
        assert_eq!(loads.is_ok(), valid, "{text}");
        // A schema knows the form alone, not that a stream must not wait for itself.
        let meaning = text.contains("for_each");
        assert_eq!(refused(&schema, &text).is_empty(), valid || meaning, "{text}");
    }
}

#[test]
fn the_schema_of_replications_refuses_what_the_loader_refuses() {
    let schema = validator(&replication::json_schema());
    let table = [
        ("source: A\ntarget: B\nstreams: { '*': }\n", true),
        ("source: A\ntarget: B\nstreams: { '*': { mode: snapshot, select: [id] } }\n", true),
        ("source: A\nstreams: { '*': }\n", false),
        ("source: A\ntarget: B\nstreams: { '*': { mode: full_refresh } }\n", false),
        ("source: A\ntarget: B\nstreams: { '*': { selekt: [id] } }\n", false),
        ("source: A\ntarget: B\nstreams: { '*': { columns: { id: number } } }\n", false),
        ("source: A\ntarget: B\nstreams: ['*']\n", false),
        ("source: A\ntarget: B\nstreams: { '*': }\nenviron: {}\n", false),
    ];
    for (text, valid) in table {
        assert_eq!(load_replication("example.yaml", text).is_ok(), valid, "{text}");
        assert_eq!(refused(&schema, text).is_empty(), valid, "{text}");
    }
}

#[test]
fn the_schema_of_connections_refuses_what_is_no_connection() {
    let schema = validator(&connection::json_schema());
    let table = [
        ("postgres://user@host/db", true),
        ("{ type: api, spec: wiki, domain: acme.test, port: 80 }", true),
        ("{ spec: wiki, simulate: { pages: 3 } }", true),
        ("{ type: postgres, host: db, port: 5432 }", true),
        ("{ type: files, url: out }", true),
        ("{ type: api, spec: wiki, secrets: { token: x }, inputs: { keys: [a] } }", true),
        ("{ type: api, spec: wiki, secrets: '{ token: x }' }", true),
        ("{ type: api, spec: wiki, secrets: [x] }", false),
        ("{ url: 's3://bucket' }", true),
        ("ftp://host", false),
        ("{ type: mysql, url: x }", false),
        ("{ type: api }", false),
        ("{ type: files, url: { a: b } }", false),
        ("7", false),
    ];
    for (entry, valid) in table {
        let text = format!("connections:\n  NAME: {entry}\n");
        assert_eq!(refused(&schema, &text).is_empty(), valid, "{text}");
        let file = EnvFile::of_connections("connections.yaml".into(), text.clone()).unwrap();
        let connections = connection::Connections { files: vec![file], ..Default::default() };
        // That an API needs a spec is found when its fields are looked up.
        let late = entry == "{ type: api }";
        assert_eq!(connections.find("NAME").is_ok(), valid || late, "{text}");
    }
}

#[test]
fn requests_before_the_streams_see_the_inputs() {
    let text = "name: x\nbase_url: https://x.test\ntest: { get: /me }\n\
        inputs: { jobs: { bool: false } }\n\
        setup: [{ when: jobs, post: /jobs }]\n\
        streams: { a: { get: /a, columns: { id: text } } }\n";
    let spec = valid(Spec::load("x.yaml", text));
    for jobs in [false, true] {
        let replication = format!(
            "source: X\ntarget: Y\ndefaults: {{ inputs: {{ jobs: {jobs} }} }}\nstreams: {{ a: }}\n"
        );
        let replication = valid(load_replication("r.yaml", &replication));
        let fields = spec::Fields::default();
        let documents = plan::Documents {
            spec: &spec,
            replication: &replication,
            fields: &fields,
            default_object: "{stream_name}",
            default_name: "specs",
        };
        let run = plan::Run { id: "1".to_owned(), started_at: chrono::DateTime::UNIX_EPOCH };
        let hooks = plan::AccessHooks::default();
        let plan = plan::Plan::new(documents, &plan::PlanOptions::default(), run, &hooks).unwrap();
        assert_eq!(plan.setup.len(), usize::from(jobs));
    }
}

#[test]
fn unknown_keys_get_a_suggestion() {
    insta::assert_snapshot!(wrong("unknown_keys.yaml"), @r"
    unknown_keys.yaml:3:1: unknown key `conection`
      3 | conection: { token: { secret: true } }
        | ^
      hint: did you mean `connection`?
    unknown_keys.yaml:6:3: unknown key `page_sise`
      6 |   page_sise: { param: limit, max: 100 }
        |   ^
      hint: did you mean `page_size`?
    unknown_keys.yaml:10:17: unknown key `curser`
      10 |     paginate: { curser: { at: next, param: cursor } }
         |                 ^
      hint: did you mean `cursor`?
    unknown_keys.yaml:12:11: `texd` is not one of the allowed values
      12 |       id: texd
         |           ^
      hint: did you mean `text`?
    unknown_keys.yaml:13:16: unknown key `decimall`
      13 |       total: { decimall: amount }
         |                ^
      hint: did you mean `decimal`?
    unknown_keys.yaml:15:24: unknown key `than`
      15 |       - { status: 404, than: empty }
         |                        ^
      hint: did you mean `then`?
    ");
}

#[test]
fn what_is_said_of_changes_is_checked() {
    insta::assert_snapshot!(wrong("changes.yaml"), @r#"
    changes.yaml:7:22: `updated` is not a column of the stream
      7 |     cursor: { field: updated, lookback: 5m, query: { since: "{{ cursr }}" } }
        |                      ^
      hint: did you mean `updated_at`?
    changes.yaml:7:61: `cursr` is not defined here
      7 |     cursor: { field: updated, lookback: 5m, query: { since: "{{ cursr }}" } }
        |                                                             ^
      hint: did you mean `cursor`?
    changes.yaml:8:16: `shelf` is not a column of the stream
      8 |     location: [shelf]
        |                ^
      hint: allowed: id, updated_at
    changes.yaml:14:5: the cursor needs a way to request changes: `query`, `requests` or `newest_first`
      14 |     cursor: { field: name }
         |     ^
    changes.yaml:14:22: a cursor must be a timestamp, a date or an int
      14 |     cursor: { field: name }
         |                      ^
    changes.yaml:15:14: `daily` is neither a duration (`0s`, `30m`, `24h`, `7d`) nor `with_parent`
      15 |     refresh: daily
         |              ^
    changes.yaml:19:40: `lookback` is a duration, but the cursor is an int
      19 |     cursor: { field: number, lookback: 1h, newest_first: true, operator: until }
         |                                        ^
    changes.yaml:19:74: `until` is not one of the allowed values
      19 |     cursor: { field: number, lookback: 1h, newest_first: true, operator: until }
         |                                                                          ^
      hint: allowed: at_least, after
    changes.yaml:24:14: `with_parent` needs a `for_each` over a queue whose feeders have a cursor
      24 |     refresh: with_parent
         |              ^
    changes.yaml:26:14: a cursor must come from a record; it cannot be computed
      26 |       field: seen
         |              ^
    changes.yaml:28:18: `since` is not defined here
      28 |         - { get: "/carriers/{{ since }}", columns: { seen: { text: at } } }
         |                  ^
      hint: allowed: columns, cursor, run_date, run_id, run_timestamp, stream_name
    changes.yaml:28:54: the column is timestamp, not text
      28 |         - { get: "/carriers/{{ since }}", columns: { seen: { text: at } } }
         |                                                      ^
    changes.yaml:29:11: exactly one of `get`, `post` is required
      29 |         - { query: { sort: seen } }
         |           ^
    "#);
}

#[test]
fn wrong_types_say_what_is_wanted() {
    insta::assert_snapshot!(wrong("wrong_types.yaml"), @r"
    wrong_types.yaml:4:24: `many` is not a whole number of 0 or more
      4 | limits: { concurrency: many, requests_per_second: [5] }
        |                        ^
    wrong_types.yaml:4:51: a list is not a number
      4 | limits: { concurrency: many, requests_per_second: [5] }
        |                                                   ^
    wrong_types.yaml:7:10: a mapping is not a text
      7 |     get: { path: /orders }
        |          ^
    wrong_types.yaml:9:47: -1 is not a whole number of 0 or more
      9 |     page_size: { param: limit, max: 250, min: -1 }
        |                                               ^
    wrong_types.yaml:10:16: `lots` is not a whole number of 0 or more
      10 |     max_pages: lots
         |                ^
    wrong_types.yaml:13:36: the default is not a valid bool
      13 |       flag: { bool: flag, default: yes, doc: [a] }
         |                                    ^
    wrong_types.yaml:13:46: a list is not a text
      13 |       flag: { bool: flag, default: yes, doc: [a] }
         |                                              ^
    wrong_types.yaml:15:19: `9xx` is not a status; write `429` or `5xx`
      15 |       - { status: 9xx }
         |                   ^
    wrong_types.yaml:16:37: `yes` is not `true` or `false`
      16 |       - { status: 404, no_response: yes }
         |                                     ^
    wrong_types.yaml:17:12: `/refunds` is not a mapping
      17 |   refunds: /refunds
         |            ^
    ");
}

#[test]
fn durations_without_a_unit_are_refused() {
    insta::assert_snapshot!(wrong("durations.yaml"), @r"
    durations.yaml:4:20: `10` is not a duration; write `500ms`, `10s`, `5m`, `2h` or `1d`
      4 | limits: { timeout: 10, max_wait: 1 hour }
        |                    ^
    durations.yaml:4:34: `1 hour` is not a duration; write `500ms`, `10s`, `5m`, `2h` or `1d`
      4 | limits: { timeout: 10, max_wait: 1 hour }
        |                                  ^
    durations.yaml:6:44: `fast` is not a duration; write `500ms`, `10s`, `5m`, `2h` or `1d`
      6 |   - { status: 5xx, backoff: linear, delay: fast, max_delay: 1.5s }
        |                                            ^
    durations.yaml:6:61: `1.5s` is not a duration; write `500ms`, `10s`, `5m`, `2h` or `1d`
      6 |   - { status: 5xx, backoff: linear, delay: fast, max_delay: 1.5s }
        |                                                             ^
    ");
}

#[test]
fn all_keys_that_stand_twice_are_told() {
    insta::assert_snapshot!(wrong("duplicate_keys.yaml"), @r"
    duplicate_keys.yaml:10:7: the key `id` is set twice
      10 |       id: int
         |       ^
      hint: remove one of the two
    duplicate_keys.yaml:14:5: the key `get` is set twice
      14 |     get: /refunds/all
         |     ^
      hint: remove one of the two
    duplicate_keys.yaml:15:3: the key `orders` is set twice
      15 |   orders:
         |   ^
      hint: remove one of the two
    duplicate_keys.yaml:18:1: the key `name` is set twice
      18 | name: store
         | ^
      hint: remove one of the two
    ");
}

#[test]
fn templates_without_quotes_are_told_from_other_mistakes() {
    insta::assert_snapshot!(wrong("braces.yaml"), @r#"
    braces.yaml:2:11: `domain` is not defined here
      2 | base_url: https://{{ domain }}
        |           ^
    braces.yaml:6:10: the key of this mapping is itself a mapping or list
      6 |     get: {{ path }}
        |          ^
      hint: if it is a template, quote it: "{{ name }}"
    "#);
}

#[test]
fn what_is_no_yaml_is_told_where() {
    insta::assert_snapshot!(wrong("not_yaml.yaml"), @r"
    not_yaml.yaml:4:11: this is not valid YAML: unclosed bracket '{'
      4 |   orders: { get: /orders, columns: { id: text }
        |           ^
    ");
}

#[test]
fn undefined_variables_are_told_where_they_are_used() {
    insta::assert_snapshot!(wrong("undefined_variables.yaml"), @r#"
    undefined_variables.yaml:2:11: `domian` is not defined here
      2 | base_url: "https://{{ domian }}"
        |           ^
      hint: did you mean `domain`?
    undefined_variables.yaml:6:17: `tokn` is not defined here
      6 | auth: { bearer: "{{ tokn }}" }
        |                 ^
      hint: did you mean `token`?
    undefined_variables.yaml:9:14: `order_id` is not defined here
      9 | test: { get: "/me/{{ order_id }}" }
        |              ^
      hint: allowed: domain
    undefined_variables.yaml:12:11: `sinse` is not defined here
      12 |     when: sinse
         |           ^
      hint: did you mean `since`?
    undefined_variables.yaml:14:20: `sinc` is not defined here
      14 |     query: { from: "{{ sinc }}", secret: "{{ token }}" }
         |                    ^
      hint: did you mean `since`?
    undefined_variables.yaml:14:42: `token` is secret and cannot be used here
      14 |     query: { from: "{{ sinc }}", secret: "{{ token }}" }
         |                                          ^
      hint: secrets are allowed in `auth` only
    undefined_variables.yaml:19:21: `nr` is not a column of the stream
      19 |       host: { text: "{{ domain }}/{{ row.nr }}" }
         |                     ^
      hint: allowed: id, host
    undefined_variables.yaml:22:10: `orderid` is not defined here
      22 |     get: /orders/{{ orderid }}/lines
         |          ^
      hint: did you mean `order_id`?
    undefined_variables.yaml:26:5: a body needs `post`
      26 |     body: { json: { deep: ["{{ nobody }}"] } }
         |     ^
    undefined_variables.yaml:26:28: `nobody` is not defined here
      26 |     body: { json: { deep: ["{{ nobody }}"] } }
         |                            ^
      hint: allowed: columns, domain, order_id, run_date, run_id, run_timestamp, since, stream_name
    undefined_variables.yaml:27:23: `row` is not defined here
      27 |     headers: { X-Row: "{{ row.n }}" }
         |                       ^
      hint: allowed: columns, domain, order_id, run_date, run_id, run_timestamp, since, stream_name
    "#);
}

#[test]
fn queues_without_feeders_and_cycles_are_told() {
    insta::assert_snapshot!(wrong("queues.yaml"), @r"
    queues.yaml:10:15: no stream feeds the queue `orders_ids`
      10 |     for_each: orders_ids
         |               ^
      hint: did you mean `order_ids`?
    queues.yaml:14:24: no stream feeds the queue `freight`
      14 |     for_each: { queue: freight, chunk: 10 }
         |                        ^
      hint: allowed: order_ids, chickens, nests, eggs
    queues.yaml:17:3: streams wait for each other: chicken → nest → egg → chicken
      17 |   chicken:
         |   ^
    ");
}

/// Requests that are sent as one must not contradict each other, and what joins records must be there.
#[test]
fn what_joins_requests_and_records_is_checked() {
    insta::assert_snapshot!(wrong("joints.yaml"), @r"
    joints.yaml:20:33: `orderref` is not the path of a column of the stream
      20 |         parent_in: { order_ids: orderref }
         |                                 ^
      hint: did you mean `orderRef`? If the path is correct, declare a column with it
    joints.yaml:22:54: `statuscode` is not the path of a column of `orders`, which feeds `order_ids`
      22 |         for_each: { queue: order_ids, carry: { code: statuscode, at: placedAt, any: somethingElse } }
         |                                                      ^
      hint: did you mean `statusCode`? If the path is correct, declare a column with it
    joints.yaml:22:70: `placedAt` is not the path of a column of `orders`, which feeds `order_ids`
      22 |         for_each: { queue: order_ids, carry: { code: statuscode, at: placedAt, any: somethingElse } }
         |                                                                      ^
      hint: did you mean `placed_at`? If the path is correct, declare a column with it
    joints.yaml:33:41: `header.orderref` is not the path of a column of the stream, by `^`
      33 |         covers: { records: results, at: header.orderref }
         |                                         ^
      hint: did you mean `header.orderRef`? If the path is correct, declare a column with it
    joints.yaml:42:26: `lines` gives `expand` a different value, but both share one request for `/orders/{{ order_id }}`
      42 |         query: { expand: notes, include-notes: true, lang: de }
         |                          ^
    joints.yaml:42:60: `lines` gives `lang` a different value, but both share one request for `/orders/{{ order_id }}`
      42 |         query: { expand: notes, include-notes: true, lang: de }
         |                                                            ^
    ");
}

/// Rows by ids need a key to match them with, a sign of change, and own requests to give way to.
#[test]
fn what_fetches_rows_by_ids_is_checked() {
    insta::assert_snapshot!(wrong("fetches.yaml"), @r"
    fetches.yaml:31:9: none of the stream's own requests has the same `for_each`: weir sends it if the API refuses this one
      31 |         fetch: *by_ids
         |         ^
    fetches.yaml:42:9: this is not allowed in streams with `replaces`
      42 |         fetch: *by_ids
         |         ^
    fetches.yaml:48:31: all routes of a stream must have the same `version` and `brings`
      48 |       probed: { get: /unlike, fetch: *by_ids }
         |                               ^
    fetches.yaml:49:30: all routes of a stream must have the same `version` and `brings`
      49 |       fewer: { get: /unlike, fetch: { <<: *by_ids, brings: [note] } }
         |                              ^
    fetches.yaml:50:30: all routes of a stream must have the same `version` and `brings`
      50 |       other: { get: /unlike, fetch: { <<: *by_ids, version: edited } }
         |                              ^
    fetches.yaml:56:52: at least one column is required
      56 |       probed: { get: /empty, fetch: { <<: *by_ids, brings: [] } }
         |                                                    ^
    fetches.yaml:62:63: `bdy` is not a column of the stream
      62 |       probed: { get: /strange, fetch: { <<: *by_ids, brings: [bdy] } }
         |                                                               ^
      hint: did you mean `body`?
    fetches.yaml:68:57: neither `get` nor `query` uses this variable
      68 |       probed: { get: /unused, fetch: { <<: *by_ids, as: keys, query: { ids: all } } }
         |                                                         ^
    fetches.yaml:74:37: the stream's key must be this one value, as text or int
      74 |       probed: { get: /keyed, fetch: *by_ids }
         |                                     ^
    fetches.yaml:80:41: the stream's key must be this one value, as text or int
      80 |       probed: { get: /elsewhere, fetch: *by_ids }
         |                                         ^
    fetches.yaml:86:37: the stream's key must be this one value, as text or int
      86 |       probed: { get: /typed, fetch: *by_ids }
         |                                     ^
    fetches.yaml:92:58: a chunk must have at least 1 id
      92 |       probed: { get: /none, fetch: { <<: *by_ids, chunk: 0 } }
         |                                                          ^
    fetches.yaml:98:32: this needs `get`, and excludes `embedded`, `covers`, `derive` and `children`
      98 |       probed: { post: /posted, fetch: *by_ids }
         |                                ^
    fetches.yaml:100:5: `embedded`, `derive`, `covers` and `fetch` are allowed in the requests of `routes` only
      100 |     requests:
          |     ^
    ");
}

#[test]
fn what_a_connection_must_have_and_keep_is_checked() {
    insta::assert_snapshot!(wrong("access.yaml"), @r#"
    access.yaml:5:43: `required` already covers all connections
      5 |   email: { required: true, required_when: region == 'us', help: whose }
        |                                           ^
    access.yaml:6:41: `regoin` is not defined here
      6 |   token: { secret: true, required_when: regoin == 'eu', help: its token }
        |                                         ^
      hint: did you mean `region`?
    access.yaml:7:42: `token` is secret and cannot be used here
      7 |   secret: { secret: true, required_when: token, help: its secret }
        |                                          ^
      hint: secrets are allowed in `auth` only
    access.yaml:10:132: `rotates` needs a connection field for the token: `refresh_token: "{{ field }}"`
      10 |     oauth2: { grant: refresh_token, token_url: https://id.example.com, client_id: me, refresh_token: "Token {{ token }}", rotates: true }
         |                                                                                                                                    ^
    "#);
}

#[test]
fn values_must_fit_what_they_are_for() {
    insta::assert_snapshot!(wrong("values.yaml"), @r#"
    values.yaml:1:7: `My Shop` is not a valid name: use a-z, 0-9 and `_`, and begin with a letter
      1 | name: My Shop
        |       ^
    values.yaml:2:12: a URL starts with `https://`
      2 | base_url: [api.example.com, "https://{{ region }}.example.com"]
        |            ^
    values.yaml:2:12: the entries after this one are never used, because this one has no `when`
      2 | base_url: [api.example.com, "https://{{ region }}.example.com"]
        |            ^
    values.yaml:4:40: the default `mars` is not among `one_of`
      4 |   region: { one_of: [eu, us], default: mars, help: where it runs }
        |                                        ^
    values.yaml:6:1: exactly one of `basic`, `bearer`, `header`, `query`, `oauth2` is required
      6 | auth: { basic: { username: a, password: "{{ token }}" }, bearer: "{{ token" }
        | ^
    values.yaml:6:66: this is not a valid template: `{{` without its `}}`
      6 | auth: { basic: { username: a, password: "{{ token }}" }, bearer: "{{ token" }
        |                                                                  ^
    values.yaml:8:3: exactly one of `text`, `int`, `bool`, `date`, `list`, `one_of` is required
      8 |   since: { date: soon, text: x }
        |   ^
    values.yaml:8:18: `soon` is not a date; write `2026-01-31` or `1 year ago`
      8 |   since: { date: soon, text: x }
        |                  ^
    values.yaml:9:33: the default is not a list of texts
      9 |   kinds: { list: text, default: all }
        |                                 ^
    values.yaml:10:25: the default is not a list of integers
      10 |   numbers: { list: int, default: [one] }
         |                         ^
    values.yaml:11:36: the default is not among `one_of`
      11 |   size: { one_of: [s, m], default: xl }
         |                                    ^
    values.yaml:12:3: `region` is also a connection field
      12 |   region: { text: eu }
         |   ^
    values.yaml:13:3: `run_id` is reserved by weir; choose another name
      13 |   run_id: { int: 1 }
         |   ^
    values.yaml:14:14: a path below the base URL must start with `/`
      14 | test: { get: me }
         |              ^
    values.yaml:15:24: this limit must be greater than 0
      15 | limits: { concurrency: 0, requests_per_second: 0, timeout: 0s }
         |                        ^
    values.yaml:15:48: this limit must be greater than 0
      15 | limits: { concurrency: 0, requests_per_second: 0, timeout: 0s }
         |                                                ^
    values.yaml:15:60: this limit must be greater than 0
      15 | limits: { concurrency: 0, requests_per_second: 0, timeout: 0s }
         |                                                            ^
    values.yaml:16:22: `a..b` is not a valid path: a name is missing
      16 | defaults: { records: "a..b", page_size: { param: n, max: 1, min: 2 } }
         |                      ^
    values.yaml:16:66: `min: 2` is larger than `max: 1`
      16 | defaults: { records: "a..b", page_size: { param: n, max: 1, min: 2 } }
         |                                                                  ^
    values.yaml:18:5: a rule needs a condition: `status`, `no_response`, `header` or `body`
      18 |   - { then: empty }
         |     ^
    values.yaml:19:5: `attempts`, `delay` and `max_delay` need `backoff`
      19 |   - { status: 404, attempts: 0 }
         |     ^
    values.yaml:19:30: the number includes the first attempt, so it must be at least 1
      19 |   - { status: 404, attempts: 0 }
         |                              ^
    values.yaml:21:5: exactly one of `get`, `post`, `put`, `delete` is required
      21 |   - { get: /, post: /, capture: { site: "a[" } }
         |     ^
    values.yaml:21:41: `a[` is not a valid path: `[` must be followed by `]`, or by a number or a quoted name and `]`
      21 |   - { get: /, post: /, capture: { site: "a[" } }
         |                                         ^
    values.yaml:22:1: a spec needs at least one stream
      22 | streams: {}
         | ^
    "#);
}

#[test]
fn streams_must_fit_together() {
    insta::assert_snapshot!(wrong("streams.yaml"), @r#"
    streams.yaml:6:3: `Orders` is not a valid name: use a-z, 0-9 and `_`, and begin with a letter
      6 |   Orders:
        |   ^
    streams.yaml:6:3: exactly one of `get`, `post`, `requests` is required
      6 |   Orders:
        |   ^
    streams.yaml:9:11: `idd` is not a column of the stream
      9 |     key: [idd]
        |           ^
      hint: did you mean `id`?
    streams.yaml:10:15: `parent` is not a column of the stream
      10 |     replaces: parent
         |               ^
      hint: allowed: id, total, flag, link, label, _weir_own
    streams.yaml:11:18: this limit must be greater than 0
      11 |     concurrency: 0
         |                  ^
    streams.yaml:12:28: `X Header` is not a valid header name
      12 |     headers: { "X Header": x }
         |                            ^
    streams.yaml:13:31: `next[` is not a valid path: `[` must be followed by `]`, or by a number or a quoted name and `]`
      13 |     paginate: { cursor: { at: "next[", param: cursor } }
         |                               ^
    streams.yaml:16:25: `a[b` is not a valid path: `[` must be followed by `]`, or by a number or a quoted name and `]`
      16 |       total: { decimal: "a[b" }
         |                         ^
    streams.yaml:17:36: the default is not a valid bool
      17 |       flag: { bool: flag, default: 7 }
         |                                    ^
    streams.yaml:18:21: `label` is itself computed from the row
      18 |       link: { text: "/orders/{{ row.label }}", default: x }
         |                     ^
    streams.yaml:18:57: a template always has a value, so a default has no effect
      18 |       link: { text: "/orders/{{ row.label }}", default: x }
         |                                                         ^
    streams.yaml:20:18: `_weir_own` is the name of one of weir's own columns; choose another name
      20 |       _weir_own: text
         |                  ^
    streams.yaml:21:3: a stream must declare its columns
      21 |   empty:
         |   ^
    streams.yaml:22:10: this is not a valid template: syntax error: unexpected end of input, expected expression
      22 |     get: "/empty/{{ 1 + }}"
         |          ^
    streams.yaml:23:24: the input `since` is not a list
      23 |     for_each: { input: since, as: day }
         |                        ^
    streams.yaml:26:5: `requests` and `get` or `post` exclude each other
      26 |     requests:
         |     ^
    streams.yaml:27:17: a path below the base URL must start with `/`
      27 |       - { post: pieces, for_each: { range: { from: one, to: "{{ last }}", step: 0 }, as: n } }
         |                 ^
    streams.yaml:27:52: this is neither an integer nor a template
      27 |       - { post: pieces, for_each: { range: { from: one, to: "{{ last }}", step: 0 }, as: n } }
         |                                                    ^
    streams.yaml:27:61: `last` is not defined here
      27 |       - { post: pieces, for_each: { range: { from: one, to: "{{ last }}", step: 0 }, as: n } }
         |                                                             ^
      hint: allowed: columns, run_date, run_id, run_timestamp, since, stream_name
    streams.yaml:27:81: a step must be at least 1
      27 |       - { post: pieces, for_each: { range: { from: one, to: "{{ last }}", step: 0 }, as: n } }
         |                                                                                 ^
    streams.yaml:28:54: `columns` is reserved by weir; choose another name
      28 |       - { get: /pieces, for_each: { values: [a], as: columns }, children: { with: { id: "[" }, get: "/{{ id }}/{{ n }}" } }
         |                                                      ^
    streams.yaml:28:89: `[` is not a valid path: `[` must be followed by `]`, or by a number or a quoted name and `]`
      28 |       - { get: /pieces, for_each: { values: [a], as: columns }, children: { with: { id: "[" }, get: "/{{ id }}/{{ n }}" } }
         |                                                                                         ^
    streams.yaml:28:101: `n` is not defined here
      28 |       - { get: /pieces, for_each: { values: [a], as: columns }, children: { with: { id: "[" }, get: "/{{ id }}/{{ n }}" } }
         |                                                                                                     ^
      hint: allowed: columns, id, run_date, run_id, run_timestamp, since, stream_name
    "#);
}

#[test]
fn how_records_are_counted_is_checked() {
    insta::assert_snapshot!(wrong("counts.yaml"), @r#"
    counts.yaml:8:20: `hour` is not defined here
      8 |     count: { when: hour, get: count, query: { q: "{{ day }}" }, at: "n[" }
        |                    ^
      hint: allowed: columns, run_date, run_id, run_timestamp, since, stream_name
    counts.yaml:8:31: a path below the base URL must start with `/`
      8 |     count: { when: hour, get: count, query: { q: "{{ day }}" }, at: "n[" }
        |                               ^
    counts.yaml:8:50: `day` is not defined here
      8 |     count: { when: hour, get: count, query: { q: "{{ day }}" }, at: "n[" }
        |                                                  ^
      hint: allowed: columns, run_date, run_id, run_timestamp, since, stream_name
    counts.yaml:8:69: `n[` is not a valid path: `[` must be followed by `]`, or by a number or a quoted name and `]`
      8 |     count: { when: hour, get: count, query: { q: "{{ day }}" }, at: "n[" }
        |                                                                     ^
    counts.yaml:12:33: unknown key `as`
      12 |     count: { get: /items/count, as: n }
         |                                 ^
      hint: did you mean `at`?
    "#);
}

#[test]
fn mistakes_of_form_and_meaning_are_told_at_once() {
    insta::assert_snapshot!(wrong("several.yaml"), @r#"
    several.yaml:4:20: `10 minutes` is not a duration; write `500ms`, `10s`, `5m`, `2h` or `1d`
      4 | limits: { timeout: 10 minutes }
        |                    ^
    several.yaml:7:10: `year` is not defined here
      7 |     get: "/orders/{{ year }}"
        |          ^
      hint: allowed: columns, run_date, run_id, run_timestamp, stream_name
    several.yaml:8:5: unknown key `page_sise`
      8 |     page_sise: { param: limit, max: 250 }
        |     ^
      hint: did you mean `page_size`?
    several.yaml:9:11: `idd` is not a column of the stream
      9 |     key: [idd]
        |           ^
      hint: did you mean `id`?
    several.yaml:13:14: `money` is not one of the allowed values
      13 |       total: money
         |              ^
      hint: allowed: text, int, float, decimal, bool, date, timestamp, json, bytes
    several.yaml:15:7: the key `placed_at` is set twice
      15 |       placed_at: date
         |       ^
      hint: remove one of the two
    several.yaml:17:15: no stream feeds the queue `order_idz`
      17 |     for_each: order_idz
         |               ^
      hint: did you mean `order_ids`?
    several.yaml:18:10: `order_id` is not defined here
      18 |     get: "/orders/{{ order_id }}/lines"
         |          ^
      hint: did you mean `order_idz`?
    several.yaml:19:16: `many` is not a whole number of 0 or more
      19 |     max_pages: many
         |                ^
    several.yaml:22:24: no stream feeds the queue `cancelled_ids`
      22 |     for_each: { queue: cancelled_ids }
         |                        ^
      hint: allowed: order_ids, parent_ids, children_ids
    several.yaml:25:3: streams wait for each other: parents → children → parents
      25 |   parents:
         |   ^
    "#);
}

#[test]
fn a_replication_tells_all_its_mistakes_at_once() {
    insta::assert_snapshot!(wrong("replication.yaml"), @r#"
    replication.yaml:2:1: unknown key `targt`
      2 | targt: OUT
        | ^
      hint: did you mean `target`?
    replication.yaml:3:19: `full_refresh` is not one of the allowed values
      3 | defaults: { mode: full_refresh, object: "{stream}.parquet" }
        |                   ^
      hint: did you mean `full-refresh`?
    replication.yaml:5:37: `number` is not one of the allowed values
      5 |   '*': { select: id, columns: { id: number } }
        |                                     ^
      hint: allowed: text, int, float, decimal, bool, date, timestamp, json, bytes
    replication.yaml:6:44: unknown key `disable`
      6 |   orders: { object: "{run_dat}/x.parquet", disable: true }
        |                                            ^
      hint: did you mean `disabled`?
    replication.yaml:7:3: the key `orders` is set twice
      7 |   orders:
        |   ^
      hint: remove one of the two
    "#);
}

#[test]
fn a_replication_names_only_placeholders_that_exist() {
    insta::assert_snapshot!(wrong("replication_meaning.yaml"), @r#"
    replication_meaning.yaml:3:21: `{stream}` is not a placeholder
      3 | defaults: { object: "{stream}.parquet" }
        |                     ^
      hint: did you mean `stream_name`?
    replication_meaning.yaml:5:21: `{run_dat}` is not a placeholder
      5 |   orders: { object: "{run_dat}/x.parquet", files: { zstd_level: 40 } }
        |                     ^
      hint: did you mean `run_date`?
    replication_meaning.yaml:5:65: `zstd_level` must be from 1 (fast) to 19 (small)
      5 |   orders: { object: "{run_dat}/x.parquet", files: { zstd_level: 40 } }
        |                                                                 ^
    "#);
}

proptest::proptest! {
    /// A good spec with a few of its characters replaced.
    #[test]
    fn no_damage_to_a_file_makes_the_loader_panic(
        file in proptest::prelude::any::<proptest::sample::Index>(),
        damage in proptest::collection::vec((0_usize..2000, "[a-z{}:\\[\\]&*<'\" \n-]{0,3}"), 1..6),
    ) {
        let files = files("tests/it/fixtures/wrong");
        let mut letters: Vec<char> = files[file.index(files.len())].1.chars().collect();
        for (at, text) in damage {
            let at = at % letters.len();
            letters.splice(at..=at, text.chars());
            if letters.is_empty() {
                break;
            }
        }
        let text: String = letters.into_iter().collect();
        drop(Spec::load("x.yaml", &text));
        drop(load_replication("x.yaml", &text));
    }
}
