//! A YAML tree whose nodes know their place.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Location, Options, Spanned};

use super::place::Place;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where its value starts.
    pub place: Place,
    /// The value.
    pub value: NodeValue,
    /// The spelling of a number, if it differs from the number's usual form: `1.10`, `007`.
    pub spelled: Option<String>,
}

/// A YAML value.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeValue {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number that fits 64 bits.
    Int(i64),
    /// A larger whole number.
    UInt(u64),
    /// Another number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file: key, place of the key, value.
    Map(Vec<(String, Place, Node)>),
}

/// Parses a text; the error is the place and the reason. Of duplicate keys the first value is kept;
/// `flaws` reports them.
pub(super) fn parse(text: &str) -> Result<Node, (Place, String)> {
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::FirstWins;
    options.strict_booleans = true;
    options.with_snippet = false;
    let root = serde_saphyr::from_str_with_options::<Option<Node>>(text, options);
    let mut root =
        root.map(|root| root.unwrap_or_else(Node::null)).map_err(|error| fault(&error))?;
    let lines: Vec<&str> = text.lines().collect();
    root.spell(&lines);
    Ok(root)
}

fn fault(error: &serde_saphyr::Error) -> (Place, String) {
    let place = error.location().map(|location| place(&location)).unwrap_or_default();
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    // The message repeats the place, which is reported separately.
    let message = line.split(" at line ").next().unwrap_or(line).trim_start_matches("error: ");
    let message = message.split_once("]: ").map_or(message, |(_, rest)| rest);
    let message = match bound(message) {
        Some(bound) => bound,
        None => format!("this is not valid YAML: {message}"),
    };
    (place, message)
}

/// The limit that a text exceeds. The parser reports it in the form of its own data: `Nodes {
/// nodes: 250001 }`.
fn bound(message: &str) -> Option<String> {
    let (_, breach) = message.split_once("budget breached: ")?;
    let digits: String = breach.chars().filter(char::is_ascii_digit).collect();
    let most = digits.parse::<u64>().ok()?.saturating_sub(1).to_string();
    let most = match most.len().checked_sub(3).and_then(|at| most.split_at_checked(at)) {
        Some((thousands, rest)) if !thousands.is_empty() => format!("{thousands},{rest}"),
        _ => most,
    };
    Some(match breach.split_whitespace().next() {
        Some("Depth") => format!("this is nested deeper than {most} levels"),
        Some("Nodes") => format!("this has more than {most} nodes once aliases are followed"),
        _ => "this exceeds a limit of the YAML parser".to_owned(),
    })
}

fn place(location: &Location) -> Place {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    Place { line: number(location.line()), column: number(location.column()) }
}

impl Node {
    pub(super) fn null() -> Self {
        Self { place: Place { line: 1, column: 1 }, value: NodeValue::Null, spelled: None }
    }

    /// A text node that is not part of a file.
    pub fn text(text: &str) -> Self {
        Self { value: NodeValue::Text(text.to_owned()), ..Self::null() }
    }

    /// The value of a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            NodeValue::Map(entries) => {
                entries.iter().find(|(name, ..)| name == key).map(|(.., node)| node)
            }
            _ => None,
        }
    }

    /// The same value without its places, as JSON. Numbers that JSON does not support become null.
    pub fn to_json(&self) -> Value {
        match &self.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(flag) => Value::from(*flag),
            NodeValue::Int(number) => Value::from(*number),
            NodeValue::UInt(number) => Value::from(*number),
            NodeValue::Float(number) => Value::from(*number),
            NodeValue::Text(text) => Value::from(text.as_str()),
            NodeValue::List(items) => items.iter().map(Self::to_json).collect(),
            NodeValue::Map(entries) => {
                entries.iter().map(|(key, _, value)| (key.clone(), value.to_json())).collect()
            }
        }
    }

    /// Place of the value at a path, or of the last key on the path that exists.
    pub(super) fn place_of(&self, path: &[&str]) -> Place {
        let mut at = self;
        let mut found = self.place;
        for (depth, key) in path.iter().enumerate() {
            let last = depth + 1 == path.len();
            match &at.value {
                NodeValue::Map(entries) => {
                    let Some((_, own, node)) = entries.iter().find(|(name, ..)| name == key) else {
                        return found;
                    };
                    let scalar = !matches!(node.value, NodeValue::Map(_) | NodeValue::List(_));
                    found = if last && scalar && node.value != NodeValue::Null {
                        node.place
                    } else {
                        *own
                    };
                    at = node;
                }
                NodeValue::List(items) => {
                    let item = key.parse().ok().and_then(|index: usize| items.get(index));
                    let Some(item) = item else { return found };
                    found = item.place;
                    at = item;
                }
                NodeValue::Null => return found,
                // A scalar is the short form of the mapping that the path enters.
                _ => return at.place,
            }
        }
        found
    }

    /// Replaces texts. Notes the places of replaced texts, and of those that could not be replaced.
    pub fn map_texts(
        &mut self,
        replace: &dyn Fn(&str) -> Result<Option<String>, String>,
        filled: &mut Vec<Place>,
        wrong: &mut Vec<(Place, String)>,
    ) {
        match &mut self.value {
            NodeValue::Text(text) => match replace(text) {
                Ok(Some(new)) => {
                    *text = new;
                    filled.push(self.place);
                }
                Ok(None) => {}
                Err(message) => wrong.push((self.place, message)),
            },
            NodeValue::List(items) => {
                for item in items {
                    item.map_texts(replace, filled, wrong);
                }
            }
            NodeValue::Map(entries) => {
                for (.., node) in entries {
                    node.map_texts(replace, filled, wrong);
                }
            }
            _ => {}
        }
    }
}

impl Node {
    /// Notes the spelling of numbers. A number that does not fit 64 bits becomes the text of its
    /// digits.
    fn spell(&mut self, lines: &[&str]) {
        let number = match &mut self.value {
            NodeValue::List(items) => {
                for item in items.iter_mut() {
                    item.spell(lines);
                }
                return;
            }
            NodeValue::Map(entries) => {
                for (.., node) in entries.iter_mut() {
                    node.spell(lines);
                }
                return;
            }
            NodeValue::Int(number) => number.to_string(),
            NodeValue::UInt(number) => number.to_string(),
            NodeValue::Float(number) => number.to_string(),
            NodeValue::Null | NodeValue::Bool(_) | NodeValue::Text(_) => return,
        };
        let line = self.place.line.checked_sub(1).and_then(|line| lines.get(line));
        let start = self.place.column.saturating_sub(1);
        let part = |letter: &char| letter.is_ascii_alphanumeric() || "+-._".contains(*letter);
        let written: String =
            line.iter().flat_map(|line| line.chars().skip(start)).take_while(part).collect();
        // Another base, or separators between the digits, spell the same number differently.
        let same = written.parse::<f64>().ok().zip(number.parse::<f64>().ok());
        if same.is_none_or(|(one, other)| one.to_bits() != other.to_bits()) || written == number {
            return;
        }
        let digits = written.strip_prefix(['-', '+']).unwrap_or(&written);
        if matches!(self.value, NodeValue::Float(_))
            && digits.bytes().all(|one| one.is_ascii_digit())
        {
            self.value = NodeValue::Text(written);
        } else {
            self.spelled = Some(written);
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<NodeValue>::deserialize(deserializer)?;
        Ok(Self { place: place(&spanned.referenced), value: spanned.value, spelled: None })
    }
}

impl<'de> Deserialize<'de> for NodeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = NodeValue;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<NodeValue, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<NodeValue, E> {
        Ok(NodeValue::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<NodeValue, E> {
        Ok(NodeValue::Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<NodeValue, E> {
        Ok(i64::try_from(value).map_or(NodeValue::UInt(value), NodeValue::Int))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<NodeValue, E> {
        Ok(NodeValue::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<NodeValue, E> {
        Ok(NodeValue::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<NodeValue, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(NodeValue::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NodeValue, A::Error> {
        let mut entries = Vec::new();
        let mut braces = false;
        while let Some(key) = map.next_key::<Spanned<NodeValue>>()? {
            let name = match key.value {
                NodeValue::Text(text) => text,
                NodeValue::Int(number) => number.to_string(),
                NodeValue::UInt(number) => number.to_string(),
                NodeValue::Float(number) => number.to_string(),
                NodeValue::Bool(flag) => flag.to_string(),
                NodeValue::Null => "null".to_owned(),
                NodeValue::List(_) | NodeValue::Map(_) => {
                    braces = true;
                    String::new()
                }
            };
            entries.push((name, place(&key.referenced), map.next_value()?));
        }
        // An unquoted `{{ name }}` is a mapping with a mapping as its key; `flaws` reports it.
        let braced = || NodeValue::Text("{{ … }}".to_owned());
        Ok(if braces { braced() } else { NodeValue::Map(entries) })
    }
}
