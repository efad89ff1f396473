//! Templates and conditions: `{{ … }}` over named values, strict about undefined names.
//!
//! A template is text with Jinja expressions between double braces; there are no blocks, because a
//! template only fills values in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, LazyLock},
};

use minijinja::{
    Environment, Expression as Compiled, UndefinedBehavior,
    value::{Enumerator, Serde},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub use minijinja::{
    Value,
    value::{Object, ValueKind},
};

/// Steps one expression may take; a runaway loop ends here.
const FUEL: u64 = 50_000;

/// What a path segment may hold as it is (RFC 3986 §2.3).
const PATH_SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_fuel(Some(FUEL));
    engine
});

/// A JSON value as templates see it.
pub fn from_json(value: &serde_json::Value) -> Value {
    Value::from(Serde(value))
}

/// Why a template or expression is not valid, or has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// A lowercase clause.
    pub message: String,
    /// Where in the text it starts, in bytes from 0, when that is known.
    pub offset: Option<usize>,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for TemplateError {}

/// The values that templates see: shared ones, and over them those of one slice.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    shared: Arc<BTreeMap<String, Value>>,
    own: Vec<(Arc<str>, Value)>,
    /// Values that messages do not tell.
    silent: Vec<(Arc<str>, Value)>,
}

impl Scope {
    /// A scope with these values.
    pub fn new(shared: BTreeMap<String, Value>) -> Self {
        Self { shared: Arc::new(shared), ..Self::default() }
    }

    /// The same scope with one more value, which hides one of the same name.
    #[must_use]
    pub fn with(&self, name: Arc<str>, value: Value) -> Self {
        let mut scope = self.clone();
        scope.own.push((name, value));
        scope
    }

    /// The same with values that [`Scope::describe`] leaves out.
    #[must_use]
    pub fn with_silent(mut self, values: impl IntoIterator<Item = (Arc<str>, Value)>) -> Self {
        self.silent.extend(values);
        self
    }

    /// The same with one more value, which alone [`Scope::describe`] tells of.
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
        own.map(|(_, value)| value).or_else(|| self.shared.get(name)).cloned()
    }

    /// The values of this slice alone, as `name=value`, for messages.
    pub fn describe(&self) -> String {
        let pairs: Vec<String> =
            self.own.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join(" ")
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
        let engine: &'static Environment<'static> = &ENGINE;
        let compiled = engine
            .compile_expression_owned(source.to_owned())
            .map_err(|error| TemplateError { message: describe(&error), offset: Some(0) })?;
        Ok(Self { source: source.to_owned(), compiled: Arc::new(compiled) })
    }

    /// Names that it needs from its scope.
    pub fn variables(&self) -> BTreeSet<String> {
        self.compiled.undeclared_variables(false).into_iter().collect()
    }

    /// Names that it needs, with the fields taken of them: `row.id`.
    pub fn nested_variables(&self) -> BTreeSet<String> {
        self.compiled.undeclared_variables(true).into_iter().collect()
    }

    /// Its value; an undefined name is an error.
    pub fn eval(&self, scope: &Arc<Scope>) -> Result<Value, TemplateError> {
        let context = Value::from_dyn_object(Arc::clone(scope));
        let wrong = |message| TemplateError { message, offset: None };
        let value = self.compiled.eval(context).map_err(|error| wrong(describe(&error)))?;
        if value.is_undefined() {
            return Err(wrong(format!("`{}` is not defined", self.source)));
        }
        Ok(value)
    }

    /// Whether its value counts as true: empty text, empty lists, 0 and none do not.
    pub fn holds(&self, scope: &Arc<Scope>) -> Result<bool, TemplateError> {
        self.eval(scope).map(|value| value.is_true())
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Expression({:?})", self.source)
    }
}

/// Text with expressions to fill in.
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

    /// Names that it needs from its scope.
    pub fn variables(&self) -> BTreeSet<String> {
        self.expressions().flat_map(Expression::variables).collect()
    }

    /// Names that it needs, with the fields taken of them: `row.id`.
    pub fn nested_variables(&self) -> BTreeSet<String> {
        self.expressions().flat_map(Expression::nested_variables).collect()
    }

    /// The text with all values filled in; none is filled in as nothing.
    pub fn render(&self, scope: &Arc<Scope>) -> Result<String, TemplateError> {
        self.render_with(scope, |text, out| out.push_str(text))
    }

    /// The text with all values filled in, each percent-encoded as one segment of a URL's path.
    pub fn render_path(&self, scope: &Arc<Scope>) -> Result<String, TemplateError> {
        self.render_with(scope, |text, out| out.extend(utf8_percent_encode(text, PATH_SEGMENT)))
    }

    /// The value itself when the template is one expression, else the rendered text.
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

    fn render_with(
        &self,
        scope: &Arc<Scope>,
        fill_in: impl Fn(&str, &mut String),
    ) -> Result<String, TemplateError> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Expression(expression) => {
                    let value = expression.eval(scope)?;
                    match value.as_str() {
                        Some(text) => fill_in(text, &mut out),
                        None if value.kind() == ValueKind::None => {}
                        None => fill_in(&value.to_string(), &mut out),
                    }
                }
            }
        }
        Ok(out)
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

/// Position of the `}}` that ends an expression, quoted text passed over.
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
    fn emptiness_counts_as_false() {
        let scope = Arc::new(Scope::new(BTreeMap::from([
            ("empty".to_owned(), Value::from(Vec::<String>::new())),
            ("full".to_owned(), Value::from("x")),
        ])));
        assert!(!Expression::parse("empty").unwrap().holds(&scope).unwrap());
        assert!(Expression::parse("full and not empty").unwrap().holds(&scope).unwrap());
    }
}
