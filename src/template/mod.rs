//! Templates and conditions: `{{ … }}` over named values. An undefined name is an error.
//!
//! A template is a text with Jinja expressions between double braces. There are no blocks, because
//! a template only inserts values.

mod bounds;
mod live;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, LazyLock},
};

use minijinja::{
    Environment, ErrorKind, Expression as Compiled,
    value::{Enumerator, Serde},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::secret::line;

pub use live::Live;
pub use minijinja::{
    Value,
    value::{Object, ValueKind},
};

/// Characters that a path segment may contain unencoded (RFC 3986 §2.3).
const PATH_SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(bounds::engine);

/// Converts a JSON value to a template value.
pub fn from_json(value: &serde_json::Value) -> Value {
    Value::from(Serde(value))
}

/// Why a template or expression is invalid, or has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// A lowercase clause.
    pub message: String,
    /// Byte offset of the error in the text, from 0, if known.
    pub offset: Option<usize>,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for TemplateError {}

/// The variables of templates: shared values, and values of one slice that take precedence.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    shared: Arc<BTreeMap<String, Value>>,
    own: Vec<(Arc<str>, Value)>,
    /// Names of values that messages do not show.
    silent: Vec<(Arc<str>, Value)>,
    /// Replaceable values; they take precedence over shared ones.
    live: Live,
}

impl Scope {
    /// A scope with these values.
    pub fn new(shared: BTreeMap<String, Value>) -> Self {
        Self { shared: Arc::new(shared), ..Self::default() }
    }

    /// The same scope with replaceable values, which hide shared values of the same name.
    #[must_use]
    pub fn with_live(self, live: &Live) -> Self {
        Self { live: live.clone(), ..self }
    }

    /// The same scope with one more value, which hides a value of the same name.
    #[must_use]
    pub fn with(&self, name: Arc<str>, value: Value) -> Self {
        let mut scope = self.clone();
        scope.own.push((name, value));
        scope
    }

    /// The same scope with values that [`Scope::describe`] omits.
    #[must_use]
    pub fn with_silent(mut self, values: impl IntoIterator<Item = (Arc<str>, Value)>) -> Self {
        self.silent.extend(values);
        self
    }

    /// The same scope with one more value; [`Scope::describe`] then shows only this one.
    #[must_use]
    pub fn with_only(mut self, name: Arc<str>, value: Value) -> Self {
        self.silent.append(&mut self.own);
        self.own.push((name, value));
        self
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<Value> {
        let mut own = self.silent.iter().chain(&self.own).rev();
        let own = own.find(|(key, _)| key.as_ref() == name);
        let own = own.map(|(_, value)| value).cloned();
        own.or_else(|| self.live.get(name)).or_else(|| self.shared.get(name).cloned())
    }

    /// The values of this slice as `name=value`, for messages: on one line, with known secrets
    /// masked.
    pub fn describe(&self) -> String {
        let pairs: Vec<String> =
            self.own.iter().map(|(name, value)| format!("{name}={value}")).collect();
        line(&pairs.join(" "))
    }
}

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.get(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

/// One expression, as in `when: space_keys`.
#[derive(Clone)]
pub struct Expression {
    source: String,
    compiled: Arc<Compiled<'static, 'static>>,
}

impl Expression {
    /// Compiles the text of an expression.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        bounds::check_expression(source)
            .map_err(|message| TemplateError { message, offset: Some(0) })?;
        let engine: &'static Environment<'static> = &ENGINE;
        known_names(source)?;
        let compiled = engine
            .compile_expression_owned(source.to_owned())
            .map_err(|error| TemplateError { message: describe(&error), offset: Some(0) })?;
        Ok(Self { source: source.to_owned(), compiled: Arc::new(compiled) })
    }

    /// Names of the variables that it uses.
    pub fn variables(&self) -> BTreeSet<String> {
        self.compiled.undeclared_variables(false).into_iter().collect()
    }

    /// Names of the variables that it uses, including fields: `row.id`.
    pub fn nested_variables(&self) -> BTreeSet<String> {
        self.compiled.undeclared_variables(true).into_iter().collect()
    }

    /// Evaluates it. An undefined name is an error.
    pub fn eval(&self, scope: &Arc<Scope>) -> Result<Value, TemplateError> {
        let context = Value::from_dyn_object(Arc::clone(scope));
        let wrong = |message| TemplateError { message, offset: None };
        let value = self.compiled.eval(context).map_err(|error| wrong(describe(&error)))?;
        if value.is_undefined() {
            return Err(wrong(format!("`{}` is not defined", self.source)));
        }
        Ok(value)
    }

    /// Whether its value is true. Empty texts, empty lists, 0 and none are false.
    pub fn holds(&self, scope: &Arc<Scope>) -> Result<bool, TemplateError> {
        self.eval(scope).map(|value| value.is_true())
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Expression({:?})", self.source)
    }
}

/// A text with expressions.
#[derive(Clone, Debug)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(String),
    Expression(Expression),
}

impl Template {
    /// Compiles a template.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        bounds::check_source(source)
            .map_err(|message| TemplateError { message, offset: Some(0) })?;
        let mut pieces = Vec::new();
        let mut rest = source;
        while let Some(start) = rest.find("{{") {
            let (literal, after) = rest.split_at(start);
            push_literal(&mut pieces, literal, source.len() - rest.len())?;
            let offset = source.len() - after.len();
            let inner = after.strip_prefix("{{").unwrap_or(after);
            let end = end_of_expression(inner).ok_or_else(|| TemplateError {
                message: "`{{` without its `}}`".to_owned(),
                offset: Some(offset),
            })?;
            let (text, tail) = inner.split_at(end);
            let expression = Expression::parse(text.trim())
                .map_err(|error| TemplateError { offset: Some(offset), ..error })?;
            pieces.push(Piece::Expression(expression));
            rest = tail.strip_prefix("}}").unwrap_or(tail);
        }
        push_literal(&mut pieces, rest, source.len() - rest.len())?;
        Ok(Self { pieces })
    }

    /// Names of the variables that it uses.
    pub fn variables(&self) -> BTreeSet<String> {
        self.expressions().flat_map(Expression::variables).collect()
    }

    /// Names of the variables that it uses, including fields: `row.id`.
    pub fn nested_variables(&self) -> BTreeSet<String> {
        self.expressions().flat_map(Expression::nested_variables).collect()
    }

    /// Renders the text; each value is percent-encoded as one segment of a URL's path.
    ///
    /// # Errors
    /// As for [`Template::render`]; or a whole segment is empty, and the path another one.
    pub fn render_path(&self, scope: &Arc<Scope>) -> Result<String, TemplateError> {
        let mut out = String::new();
        let mut pieces = self.pieces.iter().peekable();
        while let Some(piece) = pieces.next() {
            let expression = match piece {
                Piece::Literal(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::Expression(expression) => expression,
            };
            let value = expression.eval(scope)?;
            let text = shown(&value);
            let ends = match pieces.peek() {
                None => true,
                Some(Piece::Literal(next)) => next.starts_with(['/', '?']),
                Some(Piece::Expression(_)) => false,
            };
            let begins = out.is_empty() || out.ends_with('/');
            // URLs normalize `.` and `..` segments away.
            if begins && ends && matches!(&*text, "" | "." | "..") {
                let what = if text.is_empty() { "empty".to_owned() } else { format!("`{text}`") };
                let message = format!(
                    "`{}` is {what}, so the request would have a different path",
                    expression.source
                );
                return Err(TemplateError { message, offset: None });
            }
            out.extend(utf8_percent_encode(&text, PATH_SEGMENT));
        }
        Ok(out)
    }

    /// The value itself if the template is a single expression, else the rendered text.
    pub fn eval(&self, scope: &Arc<Scope>) -> Result<Value, TemplateError> {
        match self.pieces.as_slice() {
            [Piece::Expression(expression)] => expression.eval(scope),
            _ => self.render(scope).map(Value::from),
        }
    }

    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Expression(expression) => Some(expression),
            Piece::Literal(_) => None,
        })
    }

    /// Renders the text; none becomes an empty text.
    pub fn render(&self, scope: &Arc<Scope>) -> Result<String, TemplateError> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Expression(expression) => {
                    out.push_str(&shown(&expression.eval(scope)?));
                }
            }
            if out.len() > bounds::MAX_TEXT {
                let message = bounds::LARGE.to_owned();
                return Err(TemplateError { message, offset: None });
            }
        }
        Ok(out)
    }
}

/// The text of a value; empty for none.
fn shown(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.kind() == ValueKind::None => String::new(),
        // Written as in JSON and in queries, not as in Python.
        None if value.kind() == ValueKind::Bool => value.is_true().to_string(),
        None => value.to_string(),
    }
}

fn push_literal(
    pieces: &mut Vec<Piece>,
    literal: &str,
    offset: usize,
) -> Result<(), TemplateError> {
    for block in ["{%", "{#"] {
        if let Some(at) = literal.find(block) {
            let message = format!("`{block}` is not part of the language; use `{{{{ … }}}}`");
            return Err(TemplateError { message, offset: Some(offset + at) });
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal.to_owned()));
    }
    Ok(())
}

/// Position of the `}}` that ends an expression; skips quoted text.
fn end_of_expression(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (position, character) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if character == '\\' => escaped = true,
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if character == '"' || character == '\'' => quote = Some(character),
            None if text.get(position..)?.starts_with("}}") => return Some(position),
            None => {}
        }
    }
    None
}

/// Checks that the engine knows the filters and tests of an expression, which it would only report
/// on evaluation.
fn known_names(source: &str) -> Result<(), TemplateError> {
    for (offset, sign, name) in names_of(source) {
        let (kind, probe) = match sign {
            Sign::Filter => (ErrorKind::UnknownFilter, format!("none|{name}")),
            Sign::Test => (ErrorKind::UnknownTest, format!("none is {name}")),
            Sign::Method => {
                let message = format!("`.{name}()` is not part of the language; use a filter");
                return Err(TemplateError { message, offset: Some(offset) });
            }
        };
        let probed = ENGINE.compile_expression(&probe).and_then(|probe| probe.eval(()));
        if probed.is_err_and(|error| error.kind() == kind) {
            let what = if kind == ErrorKind::UnknownTest { "test" } else { "filter" };
            let message = format!("there is no {what} `{name}`");
            return Err(TemplateError { message, offset: Some(offset) });
        }
    }
    Ok(())
}

/// The kind of a name in an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Filter,
    Test,
    Method,
}

/// Names of filters, tests and methods in an expression, each with its position; skips quoted text.
fn names_of(source: &str) -> Vec<(usize, Sign, &str)> {
    let mut found = Vec::new();
    let mut sign = None;
    let mut quote = None;
    let mut letters = source.char_indices().peekable();
    while let Some((start, letter)) = letters.next() {
        match quote {
            Some(_) if letter == '\\' => drop(letters.next()),
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if letter == '"' || letter == '\'' => (quote, sign) = (Some(letter), None),
            None if letter == '|' => sign = Some(Sign::Filter),
            None if letter == '.' => sign = Some(Sign::Method),
            None if letter.is_alphabetic() || letter == '_' => {
                let mut end = start + letter.len_utf8();
                while let Some((at, next)) = letters.peek().copied() {
                    if !next.is_alphanumeric() && next != '_' {
                        break;
                    }
                    end = at + next.len_utf8();
                    letters.next();
                }
                let word = source.get(start..end).unwrap_or_default();
                let called = source.get(end..).unwrap_or_default().trim_start().starts_with('(');
                match sign.take() {
                    Some(Sign::Test) if word == "not" => sign = Some(Sign::Test),
                    Some(Sign::Method) if !called => {}
                    Some(sign) => found.push((start, sign, word)),
                    None if word == "is" => sign = Some(Sign::Test),
                    None => {}
                }
            }
            None if letter.is_whitespace() => {}
            None => sign = None,
        }
    }
    found
}

fn describe(error: &minijinja::Error) -> String {
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{}{detail}", error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Arc<Scope> {
        let shared = BTreeMap::from([
            ("domain".to_owned(), Value::from("acme.test")),
            ("keys".to_owned(), Value::from(vec!["A", "B"])),
            ("none".to_owned(), Value::from(())),
        ]);
        Arc::new(Scope::new(shared).with("page_id".into(), Value::from("7/8")))
    }

    #[track_caller]
    fn check(template: &str, rendered: &str) {
        assert_eq!(Template::parse(template).unwrap().render(&scope()).unwrap(), rendered);
    }

    #[test]
    fn values_are_filled_in() {
        check("https://{{ domain }}/x", "https://acme.test/x");
        check("{{ keys | join(',') }}", "A,B");
        check("{{ domain if 'A' in keys else '' }}", "acme.test");
        check("a{{ none }}b", "ab");
        check("{{ '}}' }}", "}}");
        check("plain", "plain");
    }

    #[test]
    fn path_values_are_encoded() {
        let template = Template::parse("/pages/{{ page_id }}/labels").unwrap();
        assert_eq!(template.render_path(&scope()).unwrap(), "/pages/7%2F8/labels");
    }

    #[test]
    fn a_segment_without_a_value_is_an_error() {
        let path = |text: &str| Template::parse(text).unwrap().render_path(&scope());
        for text in ["/orgs/{{ none }}/x", "/orgs/{{ none }}", "/{{ '' }}/x", "{{ none }}/x"] {
            assert!(path(text).unwrap_err().message.contains("is empty"), "{text}");
        }
        assert_eq!(path("/orgs{{ none }}/x-{{ none }}").unwrap(), "/orgs/x-");
    }

    #[test]
    fn undefined_names_are_errors() {
        let error = Template::parse("{{ nobody }}").unwrap().render(&scope()).unwrap_err();
        assert_eq!(error.message, "`nobody` is not defined");
    }

    #[test]
    fn what_a_template_needs_is_known_beforehand() {
        let template = Template::parse("{{ page_id }}/{{ row.title }}").unwrap();
        assert_eq!(template.variables(), BTreeSet::from(["page_id".into(), "row".into()]));
        assert!(template.nested_variables().contains("row.title"));
    }

    #[test]
    fn mistakes_are_found_where_they_are() {
        assert_eq!(Template::parse("ab{{ x").unwrap_err().offset, Some(2));
        assert_eq!(Template::parse("ab{% if x %}").unwrap_err().offset, Some(2));
        assert!(Template::parse("{{ a + }}").is_err());
    }

    #[test]
    fn what_would_be_too_deep_or_too_large_is_an_error() {
        let long = |start: &str, part: &str, end: &str| {
            format!("{{{{ {start}{}{end} }}}}", part.repeat(53_000 / part.len()))
        };
        let deep = [
            long("1", "+1", ""),
            long("", "-", "1"),
            long("", "not ", "1"),
            long("a", ".b", ""),
            long("", "(", "1"),
            long("a", "|upper", ""),
            long("a", "[0]", ""),
            long("1", " if 1 else 1", ""),
            long("", "[", "1"),
            "{{ 1 }}".repeat(20_000),
        ];
        for source in deep {
            assert!(Template::parse(&source).is_err(), "{:?}", source.get(..40));
        }
        let large = [
            "{{ 'a'*1000000 }}",
            "{{ '%1000000000d' | format(1) }}",
            "{{ '%.*f' | format(1000000000, 1) }}",
            "{{ 'aaaaaaaaaa' | replace('a', 'aaaaaaaaaa') | replace('a', 'aaaaaaaaaa') | replace('a', 'aaaaaaaaaa') | replace('a', 'aaaaaaaaaa') | replace('a', 'aaaaaaaaaa') | replace('a', 'aaaaaaaaaa') }}",
            "{{ 'ab' | map('replace', '', 'x') | join('0123456789') | list | join('0123456789') | list | join('0123456789') | list | join('0123456789') | list | join('0123456789') | list | join('0123456789') | list | join('0123456789') }}",
            "{{ range(100000) | list }}",
        ];
        for source in large {
            let made = Template::parse(source).and_then(|made| made.render(&scope()));
            assert!(made.is_err(), "{source}");
        }
        check("{{ (3 | int) * 4 }}{{ '%03d' | format(7) }}", "12007");
        check(&format!("{{{{ {} }}}}", vec!["1"; 60].join("+")), "60");
    }

    mod any {
        use proptest::prelude::*;

        use super::*;

        /// A part of an expression.
        fn part() -> impl Strategy<Value = String> {
            let known = prop::sample::select(vec![
                "domain",
                "keys",
                "page_id",
                "none",
                "nobody",
                "'a'",
                "\"b\"",
                "'\\",
                "1",
                "9999999",
                "1.5",
                "(",
                ")",
                "[",
                "]",
                "{",
                "}",
                "+",
                "-",
                "*",
                "**",
                "/",
                "//",
                "%",
                "~",
                ".",
                ",",
                ":",
                "|",
                "|join(",
                "|replace(",
                "|list",
                "|map(",
                "|format(",
                "|tojson",
                "|int",
                "|split",
                "|sort",
                " if ",
                " else ",
                " not ",
                " and ",
                " in ",
                " is ",
                "==",
                "{{",
                "}}",
                "{%",
                "\u{0}",
                "é",
            ]);
            (known, prop_oneof![8 => Just(1_usize), 2 => 1_usize..500])
                .prop_map(|(part, times)| part.repeat(times))
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(400))]

            /// No template may overflow the stack, panic, or exceed the limits.
            #[test]
            fn template_ends_well(parts in prop::collection::vec(part(), 1..14), inside: bool) {
                let text = parts.concat();
                let text = if inside { format!("{{{{ {text} }}}}") } else { text };
                if let Ok(template) = Template::parse(&text) {
                    let _names = template.nested_variables();
                    if let Ok(made) = template.render(&scope()) {
                        prop_assert!(made.len() <= bounds::MAX_TEXT);
                    }
                }
            }
        }
    }

    #[test]
    fn filters_and_tests_that_are_not_there_are_found_beforehand() {
        for text in
            ["a | nosuch", "a|upper|nosuch(1)", "a is nosuch", "a is not nosuch", "a.upper()"]
        {
            let error = Expression::parse(text).unwrap_err();
            assert!(error.message.contains("nosuch") || error.message.contains("upper"), "{text}");
        }
        for text in [
            "a | reject('in', ['x']) | list",
            "a is defined and a is not none",
            "a == '| nosuch' ~ \"is x\"",
            "a.b.c | unique | length",
            "[1, 2] | join(',')",
            "a is divisibleby(2)",
            "1.5 + 2",
        ] {
            Expression::parse(text).unwrap();
        }
    }

    #[test]
    fn emptiness_counts_as_false() {
        let scope = Arc::new(Scope::new(BTreeMap::from([
            ("empty".to_owned(), Value::from(Vec::<String>::new())),
            ("full".to_owned(), Value::from("x")),
        ])));
        assert!(!Expression::parse("empty").unwrap().holds(&scope).unwrap());
        assert!(Expression::parse("full and not empty").unwrap().holds(&scope).unwrap());
    }
}
