//! Former names of keys: a file that uses one is read as if it used the present name.

use super::flaws::Flaw;
use super::node::{Node, NodeValue};

/// A key that has been renamed.
#[derive(Clone, Copy, Debug)]
pub struct Renamed {
    /// Keys that lead to the mappings with the key. `*` matches every key of a mapping and every item
    /// of a list; `?*` also for the value itself where it is not a list.
    pub path: &'static [&'static str],
    /// The former name.
    pub former: &'static str,
    /// The present name.
    pub name: &'static str,
    /// Unit that the present form writes after the number: `s` makes `10s` of `10`. Empty where the value
    /// stays as it is.
    pub unit: &'static str,
}

/// Renames a key wherever its path leads; a mapping with both names is a flaw.
pub(super) fn rename(node: &mut Node, path: &[&str], key: &Renamed, flaws: &mut Vec<Flaw>) {
    let Some((first, rest)) = path.split_first() else { return rename_in(node, key, flaws) };
    match &mut node.value {
        NodeValue::List(items) if first.ends_with('*') => {
            for item in items {
                rename(item, rest, key, flaws);
            }
        }
        _ if *first == "?*" => rename(node, rest, key, flaws),
        NodeValue::Map(entries) => {
            for (name, _, value) in entries {
                if *first == "*" || first == name {
                    rename(value, rest, key, flaws);
                }
            }
        }
        _ => {}
    }
}

fn rename_in(node: &mut Node, key: &Renamed, flaws: &mut Vec<Flaw>) {
    let NodeValue::Map(entries) = &mut node.value else { return };
    let Some(at) = entries.iter().position(|(name, ..)| name == key.former) else { return };
    if entries.iter().any(|(name, ..)| name == key.name) {
        let (_, place, _) = entries.remove(at);
        let message =
            format!("`{}` is the former name of `{}`; both are set", key.former, key.name);
        flaws.push(Flaw { place, message, hint: "delete this line" });
    } else if let Some((name, _, value)) = entries.get_mut(at) {
        key.name.clone_into(name);
        if !key.unit.is_empty()
            && let NodeValue::Int(number) = value.value
        {
            value.value = NodeValue::Text(format!("{number}{}", key.unit));
        }
    }
}
