//! The supported subset of CQL: conditions joined by `and`, and an optional order.

use chrono::{NaiveDate, NaiveDateTime};

use crate::tenant::ids::ObjectKind;

/// A search.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Cql {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) order: Order,
}

/// The conditions on the results.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Ids(Vec<u64>),
    Types(Vec<ObjectKind>),
    /// Space keys in lower case.
    Spaces(Vec<String>),
    /// Lower bound of the modification time, inclusive, in epoch milliseconds.
    Since(u64),
}

/// The sort order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// By ID. The API does not specify an order.
    #[default]
    Id,
    Oldest,
    Newest,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Sign(&'static str),
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

impl Cql {
    /// Parses a search; `None` if it contains anything unsupported.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut tokens = tokens(text)?.into_iter().peekable();
        let mut conditions = vec![condition(&mut tokens)?];
        let mut order = Order::default();
        loop {
            match word(&mut tokens).as_deref() {
                None => break,
                Some("and") => conditions.push(condition(&mut tokens)?),
                Some("order") => {
                    order = ordering(&mut tokens)?;
                    break;
                }
                Some(_) => return None,
            }
        }
        tokens.next().is_none().then_some(Self { conditions, order })
    }

    /// Whether the search is for types other than contents.
    pub(crate) fn asks_for_others(&self) -> bool {
        let others = [ObjectKind::Space, ObjectKind::Footer, ObjectKind::Inline];
        let types = |condition: &Condition| match condition {
            Condition::Types(kinds) => kinds.iter().any(|kind| others.contains(kind)),
            _ => false,
        };
        self.conditions.iter().any(types)
    }
}

/// The next word in lower case, if the next token is a word.
fn word(tokens: &mut Tokens) -> Option<String> {
    match tokens.next_if(|token| matches!(token, Token::Word(_)))? {
        Token::Word(word) => Some(word.to_lowercase()),
        Token::Quoted(_) | Token::Sign(_) => None,
    }
}

fn ordering(tokens: &mut Tokens) -> Option<Order> {
    if word(tokens)? != "by" || word(tokens)? != "lastmodified" {
        return None;
    }
    match word(tokens).as_deref() {
        None | Some("asc") => Some(Order::Oldest),
        Some("desc") => Some(Order::Newest),
        Some(_) => None,
    }
}

fn condition(tokens: &mut Tokens) -> Option<Condition> {
    let field = word(tokens)?;
    if field == "lastmodified" {
        if tokens.next()? != Token::Sign(">=") {
            return None;
        }
        return Some(Condition::Since(time(&value(tokens)?)?));
    }
    let values = values(tokens)?;
    match field.as_str() {
        "id" => {
            let id = |text: &String| text.strip_prefix("att").unwrap_or(text).parse().ok();
            values.iter().map(id).collect::<Option<_>>().map(Condition::Ids)
        }
        "type" => {
            let kinds = |text: &String| match text.to_lowercase().as_str() {
                "page" => Some(vec![ObjectKind::Page]),
                "blogpost" => Some(vec![ObjectKind::BlogPost]),
                "attachment" => Some(vec![ObjectKind::Attachment]),
                "space" => Some(vec![ObjectKind::Space]),
                "comment" => Some(vec![ObjectKind::Footer, ObjectKind::Inline]),
                _ => None,
            };
            let kinds: Vec<Vec<ObjectKind>> = values.iter().map(kinds).collect::<Option<_>>()?;
            Some(Condition::Types(kinds.concat()))
        }
        "space" => Some(Condition::Spaces(values.iter().map(|key| key.to_lowercase()).collect())),
        _ => None,
    }
}

/// The condition after a field: `= one`, or `in (one, another)`.
fn values(tokens: &mut Tokens) -> Option<Vec<String>> {
    if tokens.next_if_eq(&Token::Sign("=")).is_some() {
        return value(tokens).map(|one| vec![one]);
    }
    if word(tokens)? != "in" || tokens.next()? != Token::Sign("(") {
        return None;
    }
    let mut values = vec![value(tokens)?];
    loop {
        match tokens.next()? {
            Token::Sign(",") => values.push(value(tokens)?),
            Token::Sign(")") => return Some(values),
            _ => return None,
        }
    }
}

fn value(tokens: &mut Tokens) -> Option<String> {
    match tokens.next()? {
        Token::Word(text) | Token::Quoted(text) => Some(text),
        Token::Sign(_) => None,
    }
}

/// A time with minutes, or a day, in UTC, which is the time zone of the simulated caller.
fn time(text: &str) -> Option<u64> {
    let text = text.replace('/', "-");
    let minute = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M").ok();
    let day = || NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    u64::try_from(minute.or_else(day)?.and_utc().timestamp_millis()).ok()
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        let token = match next {
            ' ' | '\t' | '\n' => continue,
            '(' => Token::Sign("("),
            ')' => Token::Sign(")"),
            ',' => Token::Sign(","),
            '=' => Token::Sign("="),
            '>' if rest.next_if_eq(&'=').is_some() => Token::Sign(">="),
            '"' | '\'' => {
                let mut quoted = String::new();
                loop {
                    match rest.next()? {
                        end if end == next => break,
                        '\\' => quoted.push(rest.next()?),
                        other => quoted.push(other),
                    }
                }
                Token::Quoted(quoted)
            }
            first if is_of_word(first) => {
                let mut word = String::from(first);
                while let Some(more) = rest.next_if(|next| is_of_word(*next)) {
                    word.push(more);
                }
                Token::Word(word)
            }
            _ => return None,
        };
        tokens.push(token);
    }
    Some(tokens)
}

fn is_of_word(next: char) -> bool {
    next.is_alphanumeric() || matches!(next, '_' | '.' | '-' | '~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_are_read() {
        let one = |condition| Cql { conditions: vec![condition], order: Order::Id };
        for (text, expected) in [
            ("id = 7", one(Condition::Ids(vec![7]))),
            ("id in (1,\"2\", att3)", one(Condition::Ids(vec![1, 2, 3]))),
            ("type=comment", one(Condition::Types(vec![ObjectKind::Footer, ObjectKind::Inline]))),
            (
                "TYPE in (page, blogpost)",
                one(Condition::Types(vec![ObjectKind::Page, ObjectKind::BlogPost])),
            ),
            ("space in (ENG, \"~a\\\"b\")", {
                one(Condition::Spaces(vec!["eng".to_owned(), "~a\"b".to_owned()]))
            }),
            ("lastmodified >= \"1970/01/02 00:01\"", one(Condition::Since(86_460_000))),
            ("lastModified >= '1970-01-02'", one(Condition::Since(86_400_000))),
            (
                "type=attachment AND id=9 order by lastmodified desc",
                Cql {
                    conditions: vec![
                        Condition::Types(vec![ObjectKind::Attachment]),
                        Condition::Ids(vec![9]),
                    ],
                    order: Order::Newest,
                },
            ),
        ] {
            assert_eq!(Cql::parse(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "id",
            "id in ()",
            "id in (1",
            "id = x",
            "type = whiteboard",
            "type = page or id = 1",
            "lastmodified > \"2026/01/01\"",
            "lastmodified >= now(\"-1d\")",
            "lastmodified >= \"2026/13/01\"",
            "id = 1 order by title",
            "id = 1 order by lastmodified up",
            "id = 1 and",
            "id = 1 id = 2",
            "title ~ \"x\"",
            "text = 'open",
        ] {
            assert_eq!(Cql::parse(text), None, "{text}");
        }
    }
}
