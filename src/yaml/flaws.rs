//! Mistakes that are valid YAML: duplicate keys, and templates without quotes.

use std::{borrow::Cow, collections::HashSet};

use serde_saphyr::granit_parser::{Event, Parser, Span};

use super::place::Place;

/// A mistake, its place and a hint. It never contains a value.
#[derive(Clone, Debug)]
pub(super) struct Flaw {
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) hint: &'static str,
}

/// A mapping or list whose end has not been reached.
enum Open<'text> {
    Map { start: Place, keys: HashSet<Cow<'text, str>>, at_key: bool },
    List,
}

/// Finds all flaws in the order of the text, up to the first syntax error.
pub(super) fn find(text: &str) -> Vec<Flaw> {
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut flaws = Vec::new();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        match event {
            Event::Scalar(text, ..) => {
                if let Some(Open::Map { keys, at_key: true, .. }) = open.last_mut() {
                    flaws.extend(twice(keys, text, &span));
                }
                passed(&mut open);
            }
            Event::Alias(..) => passed(&mut open),
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                flaws.extend(unquoted(open.last()));
                open.push(match event {
                    Event::SequenceStart(..) => Open::List,
                    _ => Open::Map { start: place(&span), keys: HashSet::new(), at_key: true },
                });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
                passed(&mut open);
            }
            _ => {}
        }
    }
    flaws
}

/// Notes the end of a key or value; in a mapping, keys and values alternate.
fn passed(open: &mut [Open<'_>]) {
    if let Some(Open::Map { at_key, .. }) = open.last_mut() {
        *at_key = !*at_key;
    }
}

fn twice<'text>(
    keys: &mut HashSet<Cow<'text, str>>,
    key: Cow<'text, str>,
    span: &Span,
) -> Option<Flaw> {
    let message = format!("the key `{key}` is set twice");
    let again = key != "<<" && !keys.insert(key);
    again.then(|| Flaw { place: place(span), message, hint: "remove one of the two" })
}

/// A mapping or list in place of a key: YAML reads `{{ name }}` like this.
fn unquoted(within: Option<&Open<'_>>) -> Option<Flaw> {
    let Some(Open::Map { start, at_key: true, .. }) = within else { return None };
    let message = "the key of this mapping is itself a mapping or list".to_owned();
    Some(Flaw { place: *start, message, hint: "if it is a template, quote it: \"{{ name }}\"" })
}

fn place(span: &Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}
