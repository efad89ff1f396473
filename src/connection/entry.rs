//! The fields of a connection's definition in YAML.

use indexmap::IndexMap;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::connection::origin::Context;
use crate::connection::reference::interpolated;
use crate::error::{Error, Result};
use crate::yaml::{Document, Node, NodeValue, Place};

/// The fields of a connection's definition, including those in `secrets`.
pub(super) fn fields_of(
    place: &str,
    entries: &[(String, Place, Node)],
) -> Result<Vec<(String, Node)>> {
    let mut fields = Vec::new();
    for (key, _, value) in entries {
        match key.as_str() {
            "simulate" | "inputs" => {}
            "secrets" => {
                let within = mapping(place, key, value)?;
                fields.extend(within.into_iter().map(|(key, _, value)| (key, value)));
            }
            _ => fields.push((key.clone(), value.clone())),
        }
    }
    Ok(fields)
}

/// The entries of a mapping given as text, such as `secrets='{token: …}'`.
pub fn mapping_in(key: &str, text: &str) -> Result<IndexMap<String, Value>> {
    let node = Node::text(text);
    let entries = mapping("conns set", key, &node)?;
    Ok(entries.into_iter().map(|(key, _, value)| (key, value.to_json())).collect())
}

/// The entries of a mapping, which may also be given as text: `secrets='{token: …}'`.
pub(super) fn mapping(place: &str, key: &str, node: &Node) -> Result<Vec<(String, Place, Node)>> {
    let document;
    let node = match &node.value {
        NodeValue::Text(text) => {
            document = Document::parse_private(&format!("{place}: `{key}`"), text)?;
            document.read::<IgnoredAny>()?;
            document.root()
        }
        _ => node,
    };
    match &node.value {
        NodeValue::Map(entries) => Ok(entries.clone()),
        NodeValue::Null => Ok(Vec::new()),
        _ => Err(Error::input(format!(
            "{place}: `{key}` is not a mapping; write {key}: {{ name: value }}"
        ))),
    }
}

/// A value with each `${NAME}` replaced.
pub(super) fn filled(mut node: Node, context: &Context<'_>) -> Result<Node> {
    let mut wrong = Vec::new();
    let fill =
        |text: &str| text.contains("${").then(|| interpolated(text, context.variables)).transpose();
    node.map_texts(&fill, &mut Vec::new(), &mut wrong);
    wrong.into_iter().next().map_or(Ok(node), |(_, why)| Err(Error::input(why)))
}

pub(super) fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        NodeValue::Text(text) => Some(text.clone()),
        NodeValue::Int(number) => Some(number.to_string()),
        NodeValue::UInt(number) => Some(number.to_string()),
        NodeValue::Float(number) => Some(number.to_string()),
        NodeValue::Bool(flag) => Some(flag.to_string()),
        NodeValue::Null => Some(String::new()),
        NodeValue::List(_) | NodeValue::Map(_) => None,
    }
}
