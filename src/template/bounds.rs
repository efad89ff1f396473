//! Limits of templates: the length of the text, the depth of an expression, and the size of its
//! result. The depth is limited by the number of tokens, because each level of nesting needs one.
//!

use std::borrow::Cow;

use minijinja::{
    Environment, Error, ErrorKind, State, UndefinedBehavior, Value, filters,
    value::{Rest, ValueOrKwargs},
};

/// Maximum number of steps of an expression, so that an endless loop stops.
const FUEL: u64 = 50_000;
/// Maximum size of a template, in bytes.
const MAX_SOURCE: usize = 64 * 1024;
/// Maximum number of words and signs of an expression; a quoted text counts as one.
const MAX_TOKENS: usize = 400;
/// Maximum number of `+` and `~` in an expression.
const MAX_JOINTS: usize = 64;
/// Maximum size of a rendered text, in bytes.
pub(super) const MAX_TEXT: usize = 8 * 1024 * 1024;
/// Error message for a longer text.
pub(super) const LARGE: &str = "the result is larger than 8 MiB, the limit for a template";
/// Maximum number of items of a list that a filter returns.
const MAX_ITEMS: usize = 100_000;
/// Maximum number of digits of a width or precision in `format`.
const MAX_WIDTH_DIGITS: usize = 3;

/// Filters that return a number.
const NUMERIC: [&str; 6] = ["int", "float", "length", "count", "abs", "round"];
/// Filters and functions that build large results from small values, and that templates of values
/// do not need.
const NO_FILTERS: [&str; 6] = ["batch", "slice", "indent", "pprint", "zip", "chain"];
const NO_FUNCTIONS: [&str; 4] = ["range", "dict", "debug", "namespace"];

/// The expression language, with limits on its expensive filters.
pub(super) fn engine() -> Environment<'static> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_fuel(Some(FUEL));
    for name in NO_FILTERS {
        engine.remove_filter(name);
    }
    for name in NO_FUNCTIONS {
        engine.remove_global(name);
    }
    let list = Value::from_function(filters::list);
    let escape = Value::from_function(filters::escape);
    let costly = [
        ("replace", Value::from_function(filters::replace), Some(replaced as Size)),
        ("join", Value::from_function(filters::join), Some(joined)),
        ("format", Value::from_function(filters::format), Some(formatted)),
        ("tojson", Value::from_function(filters::tojson), None),
        ("escape", escape.clone(), None),
        ("e", escape, None),
        ("list", list, Some(listed)),
        ("split", Value::from_function(filters::split), Some(listed)),
        ("lines", Value::from_function(filters::lines), Some(listed)),
        ("map", Value::from_function(filters::map), None),
    ];
    for (name, filter, size) in costly {
        let bounded = move |state: &mut State, given: Rest<ValueOrKwargs>| {
            let given = given.into_values();
            size.map_or(Ok(()), |size: Size| size(&given))?;
            let made = filter.call(state, &given)?;
            text_of(made.as_str().map(str::len)).map(|()| made)
        };
        engine.add_filter(name, bounded);
    }
    engine
}

/// Fails if the result of a filter for these values would be too large.
type Size = fn(&[Value]) -> Result<(), Error>;

fn replaced(given: &[Value]) -> Result<(), Error> {
    let text = |at: usize| given.get(at).map(shown).unwrap_or_default();
    let (whole, old, new) = (text(0), text(1), text(2));
    text_of(Some(whole.matches(old.as_ref()).count().saturating_mul(new.len())))
}

fn joined(given: &[Value]) -> Result<(), Error> {
    let items = given.first().and_then(Value::len).unwrap_or(0);
    let between = given.get(1).and_then(Value::as_str).map_or(0, str::len);
    text_of(Some(items.saturating_mul(between)))
}

fn formatted(given: &[Value]) -> Result<(), Error> {
    let form = given.first().and_then(Value::as_str).unwrap_or_default();
    let mut rest = form.split('%');
    rest.next();
    let small = rest.all(|part| {
        let width = part.find(|letter: char| letter.is_ascii_alphabetic());
        let width = width.and_then(|end| part.get(..end)).unwrap_or_default();
        let mut numbers = width.split(|letter: char| !letter.is_ascii_digit());
        !width.contains('*') && numbers.all(|digits| digits.len() <= MAX_WIDTH_DIGITS)
    });
    if small {
        return Ok(());
    }
    Err(too_large(&format!("a width or precision has more than {MAX_WIDTH_DIGITS} digits")))
}

fn listed(given: &[Value]) -> Result<(), Error> {
    let items = given.first().and_then(Value::len).unwrap_or(0);
    if items <= MAX_ITEMS {
        return Ok(());
    }
    Err(too_large("the list has more than 100,000 items, the limit for a template"))
}

/// Fails if a text is too large.
fn text_of(bytes: Option<usize>) -> Result<(), Error> {
    if bytes.is_some_and(|bytes| bytes > MAX_TEXT) { Err(too_large(LARGE)) } else { Ok(()) }
}

fn shown(value: &Value) -> Cow<'_, str> {
    value.as_str().map_or_else(|| Cow::Owned(value.to_string()), Cow::Borrowed)
}

fn too_large(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.to_owned())
}

/// The error about a template that is too long.
pub(super) fn check_source(source: &str) -> Result<(), String> {
    if source.len() <= MAX_SOURCE {
        return Ok(());
    }
    Err(format!("it has {} bytes; the limit for a template is {MAX_SOURCE}", source.len()))
}

/// The error about an expression that is over a limit, or that multiplies values other than
/// numbers.
pub(super) fn check_expression(source: &str) -> Result<(), String> {
    check_source(source)?;
    let tokens = tokens(source);
    if tokens.len() > MAX_TOKENS {
        return Err(format!("it has more than {MAX_TOKENS} tokens; make it shorter"));
    }
    let joints = tokens.iter().filter(|token| matches!(token, Lexeme::Sign("+" | "~"))).count();
    if joints > MAX_JOINTS {
        return Err(format!("it has {joints} `+` and `~`; at most {MAX_JOINTS} are allowed"));
    }
    let product = |at: &usize| tokens.get(*at) == Some(&Lexeme::Sign("*"));
    if (0..tokens.len()).filter(product).all(|at| of_numbers(&tokens, at)) {
        return Ok(());
    }
    Err("`*` multiplies numbers: write `(a | int) * (b | int)`".to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lexeme<'text> {
    Word(&'text str),
    Number,
    Text,
    Sign(&'text str),
}

/// The words and signs of an expression; at most one more than the limit.
fn tokens(source: &str) -> Vec<Lexeme<'_>> {
    let mut tokens = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let wordlike = |letter: char| letter.is_alphanumeric() || letter == '_';
        let end_of = |kept: &dyn Fn(char) -> bool| {
            rest.find(|letter: char| !kept(letter)).unwrap_or(rest.len())
        };
        let (token, length) = match first {
            '"' | '\'' => (Lexeme::Text, quoted(rest)),
            _ if first.is_ascii_digit() => (Lexeme::Number, end_of(&wordlike)),
            _ if wordlike(first) => {
                let end = end_of(&wordlike);
                (Lexeme::Word(rest.get(..end).unwrap_or_default()), end)
            }
            _ => {
                let double = rest.starts_with("**") || rest.starts_with("//");
                let length = if double { 2 } else { first.len_utf8() };
                (Lexeme::Sign(rest.get(..length).unwrap_or_default()), length)
            }
        };
        tokens.push(token);
        if tokens.len() > MAX_TOKENS {
            break;
        }
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    tokens
}

/// Length of the quoted text at the start.
fn quoted(rest: &str) -> usize {
    let mut letters = rest.char_indices();
    let open = letters.next().map(|(_, open)| open);
    let mut escaped = false;
    for (at, letter) in letters {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if Some(letter) == open => return at + letter.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Whether both operands of the `*` at this position are syntactically numbers.
fn of_numbers(tokens: &[Lexeme], at: usize) -> bool {
    let starts = |start: &usize| {
        let before = start.checked_sub(1).and_then(|before| tokens.get(before));
        let apart = match before {
            None => true,
            Some(Lexeme::Word(word)) => ["if", "else", "and", "or", "not", "in"].contains(word),
            Some(Lexeme::Sign(sign)) => ![".", "|", ")", "]", "}"].contains(sign),
            Some(_) => false,
        };
        apart && number(tokens, *start) == Some(at)
    };
    number(tokens, at + 1).is_some() && (0..at).any(|start| starts(&start))
}

/// The end of the number at this position: a literal, a sum in parentheses, or an expression with a
/// numeric filter.
fn number(tokens: &[Lexeme], mut at: usize) -> Option<usize> {
    let sign = |at: usize, sign: &str| tokens.get(at) == Some(&Lexeme::Sign(sign));
    while sign(at, "-") {
        at += 1;
    }
    let mut numeric = false;
    let mut end = match tokens.get(at)? {
        Lexeme::Number => {
            numeric = true;
            // The digits after the decimal point.
            let fraction = sign(at + 1, ".") && tokens.get(at + 2) == Some(&Lexeme::Number);
            if fraction { at + 3 } else { at + 1 }
        }
        Lexeme::Text => at + 1,
        Lexeme::Sign("(") => {
            let close = closing(tokens, at)?;
            numeric = sum(tokens, at + 1) == Some(close);
            close + 1
        }
        Lexeme::Word(_) => {
            let mut end = at + 1;
            while sign(end, ".") {
                end += 2;
            }
            end
        }
        Lexeme::Sign(_) => return None,
    };
    while sign(end, "|") {
        let Some(Lexeme::Word(filter)) = tokens.get(end + 1) else { return None };
        numeric = NUMERIC.contains(filter);
        end += 2;
        if sign(end, "(") {
            end = closing(tokens, end)? + 1;
        }
    }
    numeric.then_some(end)
}

/// The end of the arithmetic expression of numbers at this position.
fn sum(tokens: &[Lexeme], at: usize) -> Option<usize> {
    let mut end = number(tokens, at)?;
    while let Some(Lexeme::Sign("+" | "-" | "*" | "/" | "//" | "%" | "**")) = tokens.get(end) {
        end = number(tokens, end + 1)?;
    }
    Some(end)
}

/// The position of the `)` that closes the `(` at this position.
fn closing(tokens: &[Lexeme], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Lexeme::Sign("(") => depth += 1,
            Lexeme::Sign(")") if depth == 1 => return Some(at),
            Lexeme::Sign(")") => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_of_numbers() {
        let fine = [
            "3 * 4",
            "1.5 * 2",
            "(page | int - 1) * 50",
            "page|int * (2 + 3)",
            "name | length * 2 ~ 'x'",
            "'a' ~ 5 * 3",
            "-5 * -3",
            "x | default(0) | int * 3",
            "(3 * 4) * (5 - 1)",
            "row.size | int * 8",
            "2 ** 3",
            "1 if a else 3 * 4",
        ];
        for source in fine {
            assert_eq!(check_expression(source), Ok(()), "{source}");
        }
        let wrong = [
            "'a' * 3",
            "3 * 'a'",
            "name * 3",
            "3 * name",
            "(name) * 3",
            "(a or 'x') * 3",
            "'a' | default(x | int) * 3",
            "3 | string * 9",
            "[1] * 9",
            "row.5 * 9",
            "9 * (name)",
            "9 * name | upper",
            "x.int * 5",
            "x is int * 5",
            "'a' * 3 * 4",
            "3 * 4 * name",
            "f(*many)",
        ];
        for source in wrong {
            assert!(check_expression(source).is_err(), "{source}");
        }
    }

    #[test]
    fn a_quoted_text_counts_as_one() {
        assert_eq!(tokens("a.b | join('x \\' y, z')").len(), 8);
        assert_eq!(tokens("'never closed"), [Lexeme::Text]);
    }
}
