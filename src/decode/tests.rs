//! Decoding, by example.

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use serde_json::Value;

use super::*;
use crate::path::Path;
use crate::schema::ColumnType;

fn column(kind: ColumnType, paths: &[&str]) -> ColumnSource {
    let paths = paths.iter().map(|path| Path::parse(path).unwrap()).collect();
    ColumnSource { kind, paths, default: None }
}

fn decoder(records: &str, columns: Vec<ColumnSource>) -> Decoder {
    let layout = Layout {
        records: Path::parse(records).unwrap(),
        columns,
        captures: vec![Path::parse("_links.next").unwrap()],
        ignore: vec![Path::parse("_links").unwrap()],
        ..Layout::default()
    };
    Decoder::new(layout).unwrap()
}

fn texts(array: &ArrayRef) -> Vec<Option<&str>> {
    array.as_string::<i32>().iter().collect()
}

#[test]
fn records_become_columns_and_the_rest_is_kept() {
    let decoder = decoder(
        "results",
        vec![column(ColumnType::Text, &["id"]), column(ColumnType::Int, &["version.number"])],
    );
    let body = br#"{"results":[
        {"id":"1","version":{"number":3,"by":"x"},"odd":[1,{"a":2}],"_links":{"webui":"/x"}},
        {"version":null,"id":null},
        {"id":"3","version":{"by":{"deep":true},"number":"three"}}
    ],"_links":{"next":"/p?cursor=a=="}}"#;
    let page = decoder.decode(body).unwrap();
    assert_eq!(page.rows, 3);
    assert_eq!(texts(&page.columns[0]), [Some("1"), None, Some("3")]);
    let numbers: Vec<_> = page.columns[1].as_primitive::<Int64Type>().iter().collect();
    assert_eq!(numbers, [Some(3), None, None]);
    assert_eq!(
        texts(page.extra.as_ref().unwrap()),
        [
            Some(r#"{"version":{"by":"x"},"odd":[1,{"a":2}]}"#),
            None,
            Some(r#"{"version":{"by":{"deep":true},"number":"three"}}"#),
        ]
    );
    assert_eq!(page.captures, [Some(Value::from("/p?cursor=a=="))]);
    assert_eq!((page.misfits, page.first_misfit.as_deref()), (1, Some("version.number")));
    assert_eq!(page.column_misfits, [0, 1]);
}

#[test]
fn the_first_path_with_a_value_wins_in_any_order() {
    let both = || vec![column(ColumnType::Text, &["by", "creator.id"])];
    let decoder = decoder("", both());
    for (body, expected) in [
        (r#"{"by":"a","creator":{"id":"b"}}"#, Some("a")),
        (r#"{"creator":{"id":"b"},"by":"a"}"#, Some("a")),
        (r#"{"creator":{"id":"b"},"by":null}"#, Some("b")),
        (r#"{"by":"a","by":"again"}"#, Some("a")),
        (r"{}", None),
    ] {
        let page = decoder.decode(body.as_bytes()).unwrap();
        assert_eq!(texts(&page.columns[0]), [expected], "{body}");
    }
}

#[test]
fn records_in_records_see_what_encloses_them() {
    let decoder = decoder(
        "results[].items",
        vec![column(ColumnType::Text, &["field"]), column(ColumnType::Text, &["^.id"])],
    );
    let body = br#"{"results":[
        {"items":[{"field":"a"},{"field":"b"}],"id":"1"},
        {"id":"2","items":[]},
        {"id":"3","items":[{"field":"c"}]},
        {"id":"4"}
    ]}"#;
    let page = decoder.decode(body).unwrap();
    assert_eq!(texts(&page.columns[0]), [Some("a"), Some("b"), Some("c")]);
    assert_eq!(texts(&page.columns[1]), [Some("1"), Some("1"), Some("3")]);
}

#[test]
fn a_column_may_hold_an_object_and_others_its_fields() {
    let decoder = decoder(
        "",
        vec![column(ColumnType::Json, &["fields"]), column(ColumnType::Text, &["fields.name"])],
    );
    let page = decoder.decode(br#"[{"fields":{"name":"n","x":1}},{"fields":7}]"#).unwrap();
    assert_eq!(texts(&page.columns[0]), [Some(r#"{"name":"n","x":1}"#), Some("7")]);
    assert_eq!(texts(&page.columns[1]), [Some("n"), None]);
    assert_eq!(texts(page.extra.as_ref().unwrap())[1], None);
}

#[test]
fn a_scalar_in_place_of_an_object_is_kept() {
    let decoder = decoder("", vec![column(ColumnType::Text, &["a.b.c"])]);
    for (body, kept) in [
        (r#"{"a":"text"}"#, Some(r#"{"a":"text"}"#)),
        (r#"{"a":{"b":[1,"x"]}}"#, Some(r#"{"a":{"b":[1,"x"]}}"#)),
        (r#"{"a":{"b":null}}"#, None),
    ] {
        let page = decoder.decode(body.as_bytes()).unwrap();
        assert_eq!(texts(page.extra.as_ref().unwrap()), [kept], "{body}");
        assert_eq!(page.misfits, u64::from(kept.is_some()));
        assert_eq!(page.column_misfits, [page.misfits], "of the column that is inside of it");
    }
}

#[test]
fn taps_and_defaults_are_per_record() {
    let mut status = column(ColumnType::Text, &["status"]);
    status.default = Some("\"current\"".to_owned());
    let layout = Layout {
        records: Path::parse("results").unwrap(),
        columns: vec![status],
        taps: vec![Path::parse("id").unwrap()],
        others: Others::Drop,
        ..Layout::default()
    };
    let page = Decoder::new(layout)
        .unwrap()
        .decode(br#"{"results":[{"id":7},{"status":"trashed","x":1}]}"#)
        .unwrap();
    assert_eq!(texts(&page.columns[0]), [Some("current"), Some("trashed")]);
    assert_eq!(page.taps[0].iter().collect::<Vec<_>>(), [Some("7"), None]);
    assert!(page.extra.is_none());
}

#[test]
fn what_is_not_the_declared_shape_is_an_error() {
    let decoder = decoder("results", vec![column(ColumnType::Text, &["id"])]);
    for body in [r#"{"items":[]}"#, r#"{"results":[1]}"#, r#"{"results":"x"}"#, "[]"] {
        let error = decoder.decode(body.as_bytes()).unwrap_err();
        assert!(matches!(error, DecodeError::Shape(_)), "{body}: {error:?}");
    }
    for body in [r#"{"results":[{"id":"1"}"#, "<html>", r#"{"results":[]}x"#] {
        let error = decoder.decode(body.as_bytes()).unwrap_err();
        assert!(matches!(error, DecodeError::Malformed(_)), "{body}: {error:?}");
    }
    for body in ["", "id,name\n1,x", "<?xml version='1.0'?><a/>", "{\"id\":1}\n{\"id\":2}\n"] {
        let error = decoder.decode(body.as_bytes()).unwrap_err();
        assert!(matches!(error, DecodeError::NotJson(_)), "{body}: {error:?}");
    }
}

#[test]
fn null_and_one_object_are_no_list() {
    let layout = |records: &str| Layout {
        records: Path::parse(records).unwrap(),
        columns: vec![column(ColumnType::Text, &["id"])],
        paged: true,
        ..Layout::default()
    };
    let strict = Decoder::new(layout("data.items")).unwrap();
    let lenient = Decoder::new(Layout { null_is_none: true, ..layout("data.items") }).unwrap();
    for body in [r#"{"data":{"items":null}}"#, r#"{"data":null}"#] {
        assert!(strict.decode(body.as_bytes()).is_err(), "{body}");
        assert_eq!(lenient.decode(body.as_bytes()).unwrap().rows, 0, "{body}");
    }
    for body in [r#"{"data":{"items":{"id":"1"}}}"#, r#"{"data":{}}"#, "{}"] {
        assert!(strict.decode(body.as_bytes()).is_err(), "{body}");
        assert!(lenient.decode(body.as_bytes()).is_err(), "{body}");
    }
    let one = Decoder::new(Layout { paged: false, ..layout("data") }).unwrap();
    assert_eq!(one.decode(br#"{"data":{"id":"1"}}"#).unwrap().rows, 1);
    let itself = Decoder::new(layout("")).unwrap();
    assert_eq!(itself.decode(br#"{"id":"1"}"#).unwrap().rows, 1);
}

#[test]
fn each_item_of_a_list_is_the_list() {
    let layout = |records: &str| Layout {
        records: Path::parse(records).unwrap(),
        columns: vec![column(ColumnType::Text, &["id"])],
        ..Layout::default()
    };
    let listed = Decoder::new(layout("data[]")).unwrap();
    assert_eq!(listed.decode(br#"{"data":[{"id":"1"},{"id":"2"}]}"#).unwrap().rows, 2);
    assert!(listed.decode(br#"{"data":{"id":"1"}}"#).is_err());
    let nested = Decoder::new(layout("data[].kids")).unwrap();
    assert!(nested.decode(br#"{"data":{"kids":[{"id":"1"}]}}"#).is_err());
    assert!(nested.decode(br#"{"data":[{"kids":null}]}"#).is_err());
    assert_eq!(nested.decode(br#"{"data":[{"kids":{"id":"1"}},{}]}"#).unwrap().rows, 1);
}

#[test]
fn errors_beside_no_records_are_an_error() {
    let decoder = decoder("results", vec![column(ColumnType::Text, &["id"])]);
    for body in [
        r#"{"errors":[{"message":"no rights"}],"results":[]}"#,
        r#"{"results":[],"error":"no rights"}"#,
        r#"{"error":{"message":"no rights"}}"#,
    ] {
        let error = decoder.decode(body.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("no rights"), "{body}: {error}");
    }
    for none in ["[]", "null", "false", "{}", "\"\"", "0"] {
        let body = format!(r#"{{"errors":{none},"results":[]}}"#);
        assert_eq!(decoder.decode(body.as_bytes()).unwrap().errors, None, "{body}");
    }
    let page = decoder.decode(br#"{"errors":["x"],"results":[{"id":"1"}]}"#).unwrap();
    assert_eq!((page.rows, page.errors.as_deref()), (1, Some(r#"["x"]"#)));
}

#[test]
fn an_empty_path_is_the_whole_record() {
    for (records, body) in [
        ("results", r#"{"results":[{"id":"1","a":{"b":2}}]}"#),
        ("", r#"{"id":"1","a":{"b":2}}"#),
        ("", r#"[{"id":"1","a":{"b":2}}]"#),
    ] {
        let columns = vec![column(ColumnType::Json, &[""]), column(ColumnType::Text, &["id"])];
        let page = decoder(records, columns).decode(body.as_bytes()).unwrap();
        assert_eq!(texts(&page.columns[0]), [Some(r#"{"id":"1","a":{"b":2}}"#)], "{body}");
        assert_eq!(texts(&page.columns[1]), [Some("1")], "{body}");
    }
    let columns = vec![column(ColumnType::Json, &["^"]), column(ColumnType::Text, &["id"])];
    let page = decoder("r[].k", columns).decode(br#"{"r":[{"k":[{"id":"1"}]}]}"#).unwrap();
    assert_eq!(texts(&page.columns[0]), [Some(r#"{"k":[{"id":"1"}]}"#)]);
}

#[test]
fn captured_numbers_keep_their_digits() {
    let decoder = decoder("results", vec![column(ColumnType::Text, &["id"])]);
    let body = br#"{"results":[],"_links":{"next":123456789012345678901234567890}}"#;
    let page = decoder.decode(body).unwrap();
    assert_eq!(page.captures, [Some(Value::from("123456789012345678901234567890"))]);
}

#[test]
fn undeclared_fields_can_be_refused() {
    let layout = Layout { others: Others::Refuse, ..Layout::default() };
    let error = Decoder::new(layout).unwrap().decode(br#"{"x":1}"#).unwrap_err();
    assert!(error.to_string().contains("`x`"), "{error}");
}

#[test]
fn an_ignored_object_still_gives_its_declared_fields() {
    let layout = Layout {
        columns: vec![column(ColumnType::Text, &["_links.webui"])],
        taps: vec![Path::parse("id").unwrap()],
        ignore: vec![Path::parse("_links").unwrap(), Path::parse("id").unwrap()],
        ..Layout::default()
    };
    let body = br#"{"id":"7","_links":{"webui":"/x","tinyui":"/t"},"odd":1}"#;
    let page = Decoder::new(layout).unwrap().decode(body).unwrap();
    assert_eq!(texts(&page.columns[0]), [Some("/x")]);
    assert_eq!(texts(page.extra.as_ref().unwrap()), [Some(r#"{"odd":1}"#)]);
    assert_eq!(page.taps[0].value(0), "7");
}
