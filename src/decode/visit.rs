//! Visits a JSON text along a trie and passes each value to the run.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::layout::Others;
use super::run::Decoding;
use super::trie::{Trie, TrieNode, ValueUse};

/// Why a node exists: a trie refers to its own nodes only.
const IN_TRIE: &str = "the trie has every node that it refers to";

/// Visits a whole document, starting at the root of the envelope.
pub(super) fn document(run: &mut Decoding<'_>, body: &[u8]) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let trie = &run.decoder.envelope;
    let mut walk = Visit { run, trie, level: None, stack: Vec::new(), ignored: 0 };
    ValueVisitor { walk: &mut walk, node: 0 }.deserialize(&mut json)?;
    json.end()
}

/// A visit along one trie: that of the envelope, or of one record.
struct Visit<'run, 'decoder> {
    run: &'run mut Decoding<'decoder>,
    trie: &'decoder Trie,
    /// Level of the record; `None` in the envelope.
    level: Option<usize>,
    /// Nodes from below the root to the current one.
    stack: Vec<usize>,
    /// Number of those nodes that are ignored except for declared paths inside them.
    ignored: usize,
}

impl<'decoder> Visit<'_, 'decoder> {
    fn node(&self, number: usize) -> Option<&'decoder TrieNode> {
        self.trie.node(number)
    }

    /// Whether undeclared fields matter here.
    fn others(&self) -> Option<Others> {
        let innermost = self.level.is_some_and(|level| self.run.is_innermost(level));
        let others = if self.ignored > 0 { Others::Drop } else { self.run.decoder.layout.others };
        innermost.then_some(others)
    }

    fn name(&self, number: usize) -> &'decoder str {
        self.node(number).map(|node| node.name.as_str()).unwrap_or_default()
    }

    /// Keeps a field's JSON text in `_extra`; `name` is below the current node.
    fn keep(&mut self, name: &str, raw: &str) {
        let trie = self.trie;
        let names = self
            .stack
            .iter()
            .map(|number| trie.node(*number).map(|node| node.name.as_str()).unwrap_or_default());
        if let Some(extra) = &mut self.run.extra {
            extra.add(names, name, raw);
        }
    }

    /// Passes the value at the end of a path to its targets.
    fn set(&mut self, number: usize, raw: &str) {
        if raw == "null" {
            return;
        }
        let node = self.node(number).expect(IN_TRIE);
        let mut misfit = false;
        for target in &node.targets {
            match *target {
                ValueUse::Column { index, rank } => {
                    if self.run.set_column(index, rank, raw).is_err() {
                        self.run.misses(index);
                        misfit = true;
                    }
                }
                ValueUse::Tap(index) => self.run.set_tap(index, raw),
                ValueUse::Capture(index) => {
                    if let Some(slot) = self.run.captures.get_mut(index) {
                        *slot = exact(raw);
                    }
                }
                ValueUse::Records(_) | ValueUse::Ignore => {}
            }
        }
        if misfit {
            self.misfit(&node.name, raw);
        }
    }

    fn misfit(&mut self, name: &str, raw: &str) {
        self.run.misfits += 1;
        if self.run.first_misfit.is_none() {
            let names: Vec<&str> = self.stack.iter().map(|number| self.name(*number)).collect();
            self.run.first_misfit = Some([names.as_slice(), &[name]].concat().join("."));
        }
        self.keep(name, raw);
    }

    /// A null in place of the records, or of a value that encloses them.
    fn nothing(&mut self, node: usize) {
        let leads = self.level.is_none() && self.trie.leads_to_records(node);
        if leads && self.run.decoder.layout.null_is_none {
            self.run.records_found = true;
        }
    }

    /// A scalar or list in place of an object that the paths enter.
    fn not_an_object(&mut self, node: usize, raw: &str) {
        if self.level.is_none() || self.stack.is_empty() || self.ignored > 0 {
            return;
        }
        for column in self.trie.columns_below(node) {
            self.run.misses(column);
        }
        self.stack.pop();
        self.misfit(self.name(node), raw);
        self.stack.push(node);
    }
}

/// Deserializes the value of one node.
struct ValueVisitor<'walk, 'run, 'decoder> {
    walk: &'walk mut Visit<'run, 'decoder>,
    node: usize,
}

impl<'de> DeserializeSeed<'de> for ValueVisitor<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let node = self.walk.node(self.node).expect(IN_TRIE);
        if let Some(level) = records_level(node) {
            let run = &mut *self.walk.run;
            if run.wants_whole(level) {
                let raw: &RawValue = serde::Deserialize::deserialize(deserializer)?;
                let mut inner = serde_json::Deserializer::from_str(raw.get());
                let records = Records { run, level, raw: Some(raw.get()) };
                return inner.deserialize_any(records).map_err(Error::custom);
            }
            return deserializer.deserialize_any(Records { run, level, raw: None });
        }
        if !node.targets.is_empty() && node.targets.iter().all(|target| *target == ValueUse::Ignore)
        {
            if node.is_leaf() {
                return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ());
            }
            self.walk.ignored += 1;
            let walked =
                deserializer.deserialize_any(ValueVisitor { walk: self.walk, node: self.node });
            self.walk.ignored -= 1;
            return walked;
        }
        if node.targets.is_empty() && !node.is_leaf() {
            return deserializer.deserialize_any(self);
        }
        let raw: &RawValue = serde::Deserialize::deserialize(deserializer)?;
        self.walk.set(self.node, raw.get());
        if raw.get() == "null" {
            self.walk.nothing(self.node);
        }
        if !node.is_leaf() && raw.get().starts_with(['{', '[']) {
            let mut inner = serde_json::Deserializer::from_str(raw.get());
            inner.deserialize_any(self).map_err(Error::custom)?;
        }
        Ok(())
    }
}

fn records_level(node: &TrieNode) -> Option<usize> {
    node.targets.iter().find_map(|target| match target {
        ValueUse::Records(level) => Some(*level),
        _ => None,
    })
}

impl<'de> Visitor<'de> for ValueVisitor<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { walk, node: number } = self;
        let node = walk.node(number).expect(IN_TRIE);
        while let Some(key) = map.next_key_seed(FieldName { node })? {
            match key {
                Field::Known(child) => {
                    let inner = walk.node(child).is_some_and(|node| !node.is_leaf());
                    if !inner {
                        map.next_value_seed(ValueVisitor { walk, node: child })?;
                        continue;
                    }
                    walk.stack.push(child);
                    map.next_value_seed(ValueVisitor { walk, node: child })?;
                    walk.stack.pop();
                    if let Some(extra) = &mut walk.run.extra {
                        extra.leave(walk.stack.len());
                    }
                }
                Field::Unknown(name) => match walk.others() {
                    Some(Others::Keep) => {
                        let raw: &RawValue = map.next_value()?;
                        walk.keep(&name, raw.get());
                    }
                    Some(Others::Refuse) => {
                        return Err(Error::custom(format!("the field `{name}` is not declared")));
                    }
                    Some(Others::Drop) | None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                },
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { walk, node: number } = self;
        let node = walk.node(number).expect(IN_TRIE);
        if node.items.is_empty() {
            let mut raw: Vec<&str> = Vec::new();
            while let Some(item) = items.next_element::<&RawValue>()? {
                raw.push(item.get());
            }
            walk.not_an_object(number, &format!("[{}]", raw.join(",")));
            return Ok(());
        }
        for position in 0.. {
            let more = match node.item(position) {
                Some(child) => {
                    items.next_element_seed(ValueVisitor { walk, node: child })?.is_some()
                }
                None => items.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.walk.nothing(self.node);
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.walk.not_an_object(self.node, &value.to_string());
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.walk.not_an_object(self.node, &value.to_string());
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.walk.not_an_object(self.node, &value.to_string());
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.walk.not_an_object(self.node, &value.to_string());
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.walk.not_an_object(self.node, &serde_json::Value::from(value).to_string());
        Ok(())
    }
}

/// A value with all its digits: a number that does not fit 64 bits becomes its text.
fn exact(raw: &str) -> Option<serde_json::Value> {
    let value: serde_json::Value = serde_json::from_str(raw).ok()?;
    Some(if value.is_f64() && raw.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
        raw.into()
    } else {
        value
    })
}

/// The records of one level: a list or a single record.
struct Records<'run, 'decoder> {
    run: &'run mut Decoding<'decoder>,
    level: usize,
    /// The text of the record, if a column takes the whole record.
    raw: Option<&'run str>,
}

impl<'de> Visitor<'de> for Records<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of records, or one record")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { run, level, .. } = self;
        run.records_found = true;
        while items.next_element_seed(RecordVisitor { run, level, raw: None })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let decoder = self.run.decoder;
        if decoder.levels.get(self.level).is_some_and(|level| level.is_list) {
            return Err(Error::custom(format!(
                "there is one object at `{}` instead of a list of records; if it is a single record, set `paginate: none`",
                decoder.layout.records
            )));
        }
        self.run.records_found = true;
        RecordVisitor { run: self.run, level: self.level, raw: self.raw }.visit_map(map)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        let layout = &self.run.decoder.layout;
        if !layout.null_is_none {
            return Err(Error::custom(format!(
                "there is null at `{}` instead of records; if null means that there are none, set `null_means_none: true` in the spec",
                layout.records
            )));
        }
        self.run.records_found = true;
        Ok(())
    }
}

/// One record of a level.
struct RecordVisitor<'run, 'decoder> {
    run: &'run mut Decoding<'decoder>,
    level: usize,
    /// The text of the record, if a column takes the whole record.
    raw: Option<&'run str>,
}

impl<'de> DeserializeSeed<'de> for RecordVisitor<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if !self.run.wants_whole(self.level) {
            return deserializer.deserialize_map(self);
        }
        let raw: &RawValue = serde::Deserialize::deserialize(deserializer)?;
        let mut inner = serde_json::Deserializer::from_str(raw.get());
        let record = RecordVisitor { run: self.run, level: self.level, raw: Some(raw.get()) };
        inner.deserialize_map(record).map_err(Error::custom)
    }
}

impl<'de> Visitor<'de> for RecordVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a record (an object)")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Self { run, level, raw } = self;
        let decoder = run.decoder;
        let trie =
            &decoder.levels.get(level).expect("the envelope names compiled levels only").trie;
        let rows_before = run.rows;
        run.begin_record(level);
        let mut walk = Visit { run, trie, level: Some(level), stack: Vec::new(), ignored: 0 };
        if let Some(raw) = raw {
            walk.set(0, raw);
        }
        ValueVisitor { walk: &mut walk, node: 0 }.visit_map(map)?;
        run.end_record(level, rows_before);
        Ok(())
    }
}

/// The name of a field: one on a declared path, or another.
enum Field<'de> {
    Known(usize),
    Unknown(Cow<'de, str>),
}

struct FieldName<'node> {
    node: &'node TrieNode,
}

impl<'de> DeserializeSeed<'de> for FieldName<'_> {
    type Value = Field<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field<'de>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for FieldName<'_> {
    type Value = Field<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field's name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Field<'de>, E> {
        Ok(self.node.field(name).map_or(Field::Unknown(Cow::Borrowed(name)), Field::Known))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Field<'de>, E> {
        Ok(self.node.field(name).map_or(Field::Unknown(Cow::Owned(name.to_owned())), Field::Known))
    }
}
