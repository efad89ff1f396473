//! Reads typed data from a tree with serde. It notes and removes each value that does not fit and
//! reads the rest again, so that one call reports all problems.

use std::{cell::RefCell, fmt};

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor, value::StrDeserializer,
};

use super::cuts::{Cut, cut};
use super::fault::Fault;
use super::hints;
use super::node::{Node, NodeValue};
use super::place::Place;
use super::suggest::suggest;

/// Maximum number of readings of a tree. Each reading except the last finds at least one problem.
const MAX_READINGS: usize = 200;

/// What serde reports, before its place is known.
#[derive(Debug)]
pub(super) struct Failure {
    fault: Fault,
    placed: bool,
    /// Path of the entry to remove: positions from the root.
    cut: Vec<usize>,
    /// Whether a removal from the same mapping may have caused it.
    follows: bool,
}

/// The result of reading a tree.
pub(super) struct Reading<T> {
    /// The data; `None` if the rest could not be read either.
    pub(super) data: Option<T>,
    /// The values that did not fit.
    pub(super) faults: Vec<Fault>,
    /// The tree without them.
    pub(super) tree: Node,
    /// The entries removed from the tree.
    pub(super) cuts: Vec<Cut>,
}

/// Reads data.
pub(super) fn read<T: DeserializeOwned>(root: &Node) -> Reading<T> {
    let mut reading =
        Reading { data: None, faults: Vec::new(), tree: root.clone(), cuts: Vec::new() };
    for _ in 0..MAX_READINGS {
        let trail = RefCell::new(Vec::new());
        let failure = match T::deserialize(At { node: &reading.tree, trail: &trail }) {
            Ok(data) => {
                reading.data = Some(data);
                break;
            }
            Err(failure) => failure,
        };
        // Ignores faults that a removal has caused.
        let place = failure.fault.place;
        if !failure.follows || reading.cuts.iter().all(|cut| cut.hole != place) {
            reading.faults.push(failure.fault);
        }
        match cut(&mut reading.tree, &failure.cut) {
            Some(cut) => reading.cuts.push(cut),
            None => break,
        }
    }
    reading
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.fault.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    fn new(message: String, public_message: String, hint: Option<String>) -> Self {
        Self::of(Fault { place: Place::default(), message, public_message, hint })
    }

    fn of(fault: Fault) -> Self {
        Self { fault, placed: false, cut: Vec::new(), follows: false }
    }

    /// Adds the place to a failure, unless a deeper reader has already done so.
    fn at(mut self, place: Place, trail: &RefCell<Vec<usize>>) -> Self {
        if !self.placed {
            self.placed = true;
            self.fault.place = place;
            self.cut.clone_from(&trail.borrow());
        }
        self
    }
}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let public = "this value does not fit".to_owned();
        Self { follows: true, ..Self::new(message.to_string(), public, None) }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        wrong_value(unexpected, expected)
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        wrong_value(unexpected, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let message = format!("unknown key `{field}`");
        Self::new(message.clone(), message, suggest(field, expected.iter().copied()))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let public = "this is not one of the allowed values".to_owned();
        let hint = suggest(variant, expected.iter().copied());
        Self::new(format!("`{variant}` is not one of the allowed values"), public, hint)
    }

    fn missing_field(field: &'static str) -> Self {
        let message = format!("the key `{field}` is missing");
        Self { follows: true, ..Self::new(message.clone(), message, None) }
    }
}

fn wrong_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Failure {
    let wanted = match expected.to_string().as_str() {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more".to_owned(),
        "i64" | "i32" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a string" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        other if other.starts_with("struct ") || other == "a map" => "a mapping".to_owned(),
        other => other.to_owned(),
    };
    let found = match unexpected {
        Unexpected::Str(text) => format!("`{text}`"),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Float(number) => number.to_string(),
        Unexpected::Bool(flag) => flag.to_string(),
        Unexpected::Map | Unexpected::StructVariant => "a mapping".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        other => other.to_string(),
    };
    let kind = matches!(unexpected, Unexpected::Map | Unexpected::StructVariant | Unexpected::Seq);
    let public = if kind { found.as_str() } else { "this" };
    Failure::new(format!("{found} is not {wanted}"), format!("{public} is not {wanted}"), None)
}

/// A node to deserialize. The trail holds the positions that lead to it.
#[derive(Clone, Copy)]
struct At<'tree> {
    node: &'tree Node,
    trail: &'tree RefCell<Vec<usize>>,
}

impl<'tree> At<'tree> {
    fn placed<T>(self, result: Result<T, Failure>) -> Result<T, Failure> {
        result.map_err(|failure| failure.at(self.node.place, self.trail))
    }

    fn deserialize_number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure>
    where
        'tree: 'de,
    {
        let NodeValue::Text(text) = &self.node.value else { return self.deserialize_any(visitor) };
        let read = if let Ok(number) = text.parse::<u64>() {
            visitor.visit_u64(number)
        } else if let Ok(number) = text.parse::<i64>() {
            visitor.visit_i64(number)
        } else if let Some(number) = text.parse().ok().filter(|number: &f64| number.is_finite()) {
            visitor.visit_f64(number)
        } else {
            return self.deserialize_any(visitor);
        };
        self.placed(read)
    }

    /// Runs a reader one entry deeper.
    fn below<T>(
        self,
        index: usize,
        node: &'tree Node,
        read: impl FnOnce(Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.trail.borrow_mut().push(index);
        let deeper = Self { node, trail: self.trail };
        let result = read(deeper).map_err(|failure| failure.at(node.place, self.trail));
        self.trail.borrow_mut().pop();
        result
    }
}

/// Deserializers of numbers. They accept quoted numbers.
macro_rules! numbers {
    ($($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            self.deserialize_number(visitor)
        })*
    };
}

impl<'de, 'tree: 'de> Deserializer<'de> for At<'tree> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let read = match &self.node.value {
            NodeValue::Null => visitor.visit_unit(),
            NodeValue::Bool(flag) => visitor.visit_bool(*flag),
            NodeValue::Int(number) => visitor.visit_i64(*number),
            NodeValue::UInt(number) => visitor.visit_u64(*number),
            NodeValue::Float(number) => visitor.visit_f64(*number),
            NodeValue::Text(text) => visitor.visit_borrowed_str(text),
            NodeValue::List(items) => {
                visitor.visit_seq(ListItems { at: self, nodes: items, next: 0 })
            }
            NodeValue::Map(entries) => {
                visitor.visit_map(MapEntries { at: self, pairs: entries, next: 0 })
            }
        };
        self.placed(read)
    }

    /// Accepts a number or boolean in place of a text, as spelled in the file.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let text = match &self.node.value {
            _ if self.node.spelled.is_some() => self.node.spelled.clone().unwrap_or_default(),
            NodeValue::Int(number) => number.to_string(),
            NodeValue::UInt(number) => number.to_string(),
            NodeValue::Float(number) => number.to_string(),
            NodeValue::Bool(flag) => flag.to_string(),
            NodeValue::Map(entries) => {
                return match hints::unquoted(entries) {
                    Some(fault) => self.placed(Err(Failure::of(fault))),
                    None => self.deserialize_any(visitor),
                };
            }
            _ => return self.deserialize_any(visitor),
        };
        self.placed(visitor.visit_string(text))
    }

    /// Accepts a quoted `"true"` as `true`, because variables provide texts.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            NodeValue::Text(text) => match text.parse() {
                Ok(flag) => self.placed(visitor.visit_bool(flag)),
                Err(_) => self.deserialize_any(visitor),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    /// Accepts a single value as a list of one.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            NodeValue::List(_) | NodeValue::Null => self.deserialize_any(visitor),
            _ => self.placed(visitor.visit_seq(Single { at: Some(self) })),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let read = match &self.node.value {
            NodeValue::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        };
        self.placed(read)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    /// Accepts null as an empty mapping.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            NodeValue::Null => {
                self.placed(visitor.visit_map(MapEntries { at: self, pairs: &[], next: 0 }))
            }
            // Rejects a list, which serde would read as the fields of a struct in their order.
            NodeValue::List(items) => self.placed(Err(Failure::of(hints::listed(items)))),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let read = match &self.node.value {
            NodeValue::Text(_) => visitor.visit_enum(Variant { at: self, entry: None }),
            NodeValue::Map(entries) if entries.len() == 1 => {
                let entry = entries.first();
                visitor.visit_enum(Variant { at: self, entry })
            }
            NodeValue::Map(entries) => {
                let message = format!("exactly one of these is required: {}", variants.join(", "));
                let missing = entries.is_empty();
                Err(Failure { follows: missing, ..Failure::new(message.clone(), message, None) })
            }
            _ => {
                let message = format!("one of these is required: {}", variants.join(", "));
                Err(Failure::new(message.clone(), message, None))
            }
        };
        self.placed(read)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// A list of one.
struct Single<'tree> {
    at: Option<At<'tree>>,
}

impl<'de, 'tree: 'de> SeqAccess<'de> for Single<'tree> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Failure> {
        self.at.take().map(|at| seed.deserialize(at)).transpose()
    }
}

struct ListItems<'tree> {
    at: At<'tree>,
    nodes: &'tree [Node],
    next: usize,
}

impl<'de, 'tree: 'de> SeqAccess<'de> for ListItems<'tree> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Failure> {
        let Some(node) = self.nodes.get(self.next) else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        self.at.below(index, node, |deeper| seed.deserialize(deeper)).map(Some)
    }
}

struct MapEntries<'tree> {
    at: At<'tree>,
    pairs: &'tree [(String, Place, Node)],
    next: usize,
}

impl<'de, 'tree: 'de> MapAccess<'de> for MapEntries<'tree> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failure> {
        let Some((key, place, _)) = self.pairs.get(self.next) else { return Ok(None) };
        let read = seed.deserialize(StrDeserializer::<Failure>::new(key));
        read.map(Some).map_err(|failure| {
            self.at.trail.borrow_mut().push(self.next);
            let failure = failure.at(*place, self.at.trail);
            self.at.trail.borrow_mut().pop();
            failure
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let index = self.next;
        self.next += 1;
        let (.., node) = self.pairs.get(index).ok_or_else(|| {
            Failure::new(
                "a key without a value".to_owned(),
                "a key without a value".to_owned(),
                None,
            )
        })?;
        self.at.below(index, node, |deeper| seed.deserialize(deeper))
    }
}

/// A variant: a word, or a mapping with one key.
struct Variant<'tree> {
    at: At<'tree>,
    entry: Option<&'tree (String, Place, Node)>,
}

impl<'de, 'tree: 'de> EnumAccess<'de> for Variant<'tree> {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Failure> {
        let (name, place) = match (&self.at.node.value, self.entry) {
            (_, Some((key, place, _))) => (key.as_str(), *place),
            (NodeValue::Text(text), None) => (text.as_str(), self.at.node.place),
            _ => ("", self.at.node.place),
        };
        let read = seed.deserialize(StrDeserializer::<Failure>::new(name));
        let read = read.map_err(|mut failure| {
            if self.entry.is_some() {
                failure.fault.message = format!("unknown key `{name}`");
                failure.fault.public_message.clone_from(&failure.fault.message);
            }
            failure.at(place, self.at.trail)
        });
        Ok((read?, self))
    }
}

impl<'de, 'tree: 'de> VariantAccess<'de> for Variant<'tree> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        match self.entry {
            None => Ok(()),
            Some((name, ..)) => {
                let message = format!("`{name}` takes no value: write it without a colon");
                Err(Failure::new(message.clone(), message, None))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        match self.entry {
            Some((.., node)) => self.at.below(0, node, |deeper| seed.deserialize(deeper)),
            None => seed.deserialize(At { node: &EMPTY, trail: self.at.trail }),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        match self.entry {
            Some((.., node)) => self.at.below(0, node, |deeper| deeper.deserialize_any(visitor)),
            None => At { node: &EMPTY, trail: self.at.trail }.deserialize_any(visitor),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match self.entry {
            Some((.., node)) => self.at.below(0, node, |deeper| deeper.deserialize_map(visitor)),
            None => At { node: &EMPTY, trail: self.at.trail }.deserialize_map(visitor),
        }
    }
}

static EMPTY: Node =
    Node { place: Place { line: 0, column: 0 }, value: NodeValue::Null, spelled: None };
