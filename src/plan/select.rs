//! Selection of streams and columns, and the order of streams.

use indexmap::IndexMap;

use crate::error::{Error, Result};
use crate::replication::{Replication, StreamOptions};
use crate::schema::EXTRA;
use crate::spec::{Spec, Stream};
use crate::yaml::suggest;

/// Names and patterns of streams. A leading `-` excludes streams. Empty: all streams.
#[derive(Clone, Debug, Default)]
pub struct Selection(pub Vec<String>);

impl Selection {
    /// Reads names from the command line; ignores blanks around them.
    ///
    /// # Errors
    /// Something was typed, and no name in it: that is not taken for all streams.
    pub fn of(patterns: &[String]) -> Result<Self> {
        let names = patterns.iter().map(|pattern| pattern.trim().to_owned());
        let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
        if names.is_empty() && !patterns.is_empty() {
            return Err(Error::input("`--streams` names no stream").with_hint(
                "it may use a variable that is not set; for all streams, omit the option",
            ));
        }
        Ok(Self(names))
    }

    /// Whether a name is selected.
    pub fn contains(&self, name: &str) -> bool {
        let (out, within): (Vec<&String>, Vec<&String>) =
            self.0.iter().partition(|pattern| pattern.starts_with('-'));
        let excluded =
            out.iter().any(|pattern| matches_pattern(pattern.trim_start_matches('-'), name));
        !excluded && (within.is_empty() || within.iter().any(|one| matches_pattern(one, name)))
    }
}

/// Whether a name matches a pattern, in which `*` stands for any characters and `?` for one.
pub fn matches_pattern(pattern: &str, name: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return name.is_empty() };
    let rest = pattern.get(first.len_utf8()..).unwrap_or_default();
    match first {
        '*' => {
            let mut tails = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            tails.any(|at| matches_pattern(rest, name.get(at..).unwrap_or_default()))
        }
        _ => name.chars().next().is_some_and(|letter| {
            (first == '?' || first == letter)
                && matches_pattern(rest, name.get(letter.len_utf8()..).unwrap_or_default())
        }),
    }
}

/// Names of the columns that `select` keeps. The columns of the key are always kept.
pub(super) fn selected(name: &str, stream: &Stream, select: &[String]) -> Result<Vec<String>> {
    let (out, within): (Vec<&String>, Vec<&String>) =
        select.iter().partition(|pattern| pattern.starts_with('-'));
    let out: Vec<&str> = out.iter().map(|pattern| pattern.trim_start_matches('-')).collect();
    let all: Vec<&str> = stream.columns.keys().map(String::as_str).chain([EXTRA]).collect();
    for pattern in within.iter().map(|pattern| pattern.as_str()).chain(out.iter().copied()) {
        if !all.iter().any(|column| matches_pattern(pattern, column)) {
            return Err(Error::input(format!("`select: {pattern}` matches no column of `{name}`"))
                .with_hint(format!("its columns are: {}", all.join(", "))));
        }
    }
    let wanted = |column: &str| {
        let named = within.is_empty() || within.iter().any(|one| matches_pattern(one, column));
        named && !out.iter().any(|pattern| matches_pattern(pattern, column))
    };
    let needed = |column: &str| {
        stream.key.iter().any(|key| key == column) || stream.replaces.as_deref() == Some(column)
    };
    let kept = all.iter().filter(|column| needed(column) || wanted(column));
    Ok(kept.map(|column| (*column).to_owned()).collect())
}

/// The selected streams with their settings, in the spec's order.
pub(super) fn streams<'spec>(
    spec: &'spec Spec,
    replication: &Replication,
    selection: &Selection,
) -> Result<IndexMap<&'spec str, StreamOptions>> {
    for pattern in &selection.0 {
        findable(pattern, spec, replication)?;
    }
    let mut chosen = IndexMap::new();
    for (name, _) in spec.selectable().filter(|(name, _)| selection.contains(name)) {
        if let Some(settings) = settings_of(replication, name)
            && settings.disabled != Some(true)
        {
            chosen.insert(name.as_str(), settings);
        }
    }
    if chosen.is_empty() {
        let known: Vec<&str> = spec.selectable().map(|(name, _)| name.as_str()).collect();
        return Err(Error::input("no stream is selected").with_hint(format!(
            "the spec `{}` has: {}",
            spec.name,
            known.join(", ")
        )));
    }
    Ok(chosen)
}

/// Rejects a pattern that matches no stream of the spec, or none of the replication.
fn findable(pattern: &str, spec: &Spec, replication: &Replication) -> Result<()> {
    let wanted = pattern.trim_start_matches('-');
    let matching: Vec<&str> = spec
        .selectable()
        .map(|(name, _)| name.as_str())
        .filter(|name| matches_pattern(wanted, name))
        .collect();
    let Some(first) = matching.first() else {
        let names = spec.selectable().map(|(name, _)| name.as_str());
        let hint = suggest(wanted, names).unwrap_or_default();
        let what =
            format!("no stream matches `{wanted}`: the spec `{}` has no such stream", spec.name);
        return Err(Error::input(what).with_hint(hint));
    };
    let settings: Vec<StreamOptions> =
        matching.iter().filter_map(|name| settings_of(replication, name)).collect();
    if pattern.starts_with('-') || settings.iter().any(|own| own.disabled != Some(true)) {
        return Ok(());
    }
    if settings.is_empty() {
        let what = format!("no stream matches `{wanted}`: the replication has no such stream");
        return Err(Error::input(what).with_hint(format!("add `{first}:` to its `streams`")));
    }
    let what = format!("`{wanted}` is disabled in the replication");
    Err(Error::input(what).with_hint(format!("remove `disabled` from `{first}` in its `streams`")))
}

/// A stream's settings in the replication; `None` if it does not name the stream.
pub(super) fn settings_of(replication: &Replication, name: &str) -> Option<StreamOptions> {
    let all = replication.streams.iter();
    let mut patterns: Vec<_> = all.filter(|(pattern, _)| matches_pattern(pattern, name)).collect();
    patterns.sort_by_key(|(pattern, _)| *pattern == name);
    let first = patterns.first().map(|_| replication.defaults.clone());
    let own = patterns.into_iter().filter_map(|(_, own)| own.as_ref());
    first.map(|settings| own.fold(settings, overlaid))
}

/// Settings merged with more specific ones.
fn overlaid(below: StreamOptions, above: &StreamOptions) -> StreamOptions {
    let mut inputs = below.inputs;
    inputs.extend(above.inputs.clone());
    let mut columns = below.columns;
    columns.extend(above.columns.clone());
    StreamOptions {
        mode: above.mode.or(below.mode),
        object: above.object.clone().or(below.object),
        select: if above.select.is_empty() { below.select } else { above.select.clone() },
        columns,
        disabled: above.disabled.or(below.disabled),
        inputs,
        metadata: above.metadata.or(below.metadata),
        strict: above.strict.or(below.strict),
        files: above.files.or(below.files),
        refresh: above.refresh.or(below.refresh),
        deletes: above.deletes.or(below.deletes),
        max_errors: above.max_errors.or(below.max_errors),
    }
}

/// The queues that a stream consumes and feeds.
#[derive(Debug)]
pub(super) struct Links<'spec> {
    pub(super) name: &'spec str,
    pub(super) consumes: Vec<&'spec str>,
    pub(super) feeds: Vec<&'spec str>,
}

/// Names in an order in which parents precede their children; otherwise in the given order.
pub(super) fn order(links: &[Links<'_>]) -> Result<Vec<String>> {
    let mut done: Vec<&str> = Vec::new();
    while done.len() < links.len() {
        let waiting = || links.iter().filter(|link| !done.contains(&link.name));
        let ready = waiting().find(|link| {
            let parents = waiting()
                .filter(|other| link.consumes.iter().any(|queue| other.feeds.contains(queue)));
            parents.count() == 0
        });
        let Some(ready) = ready else {
            let names: Vec<&str> = waiting().map(|link| link.name).collect();
            return Err(Error::input(format!("streams wait for each other: {}", names.join(", "))));
        };
        done.push(ready.name);
    }
    Ok(done.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        let table = [
            ("*", "pages", true),
            ("page_*", "page_labels", true),
            ("page_*", "pages", false),
            ("*labels", "page_labels", true),
            ("p?ges", "pages", true),
            ("pages", "pages", true),
            ("pages", "page", false),
            ("", "", true),
        ];
        for (pattern, name, matches) in table {
            assert_eq!(matches_pattern(pattern, name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn a_leading_dash_leaves_streams_out() {
        let selection = Selection(vec!["page*".to_owned(), "-*_versions".to_owned()]);
        assert!(selection.contains("pages"));
        assert!(!selection.contains("page_versions"));
        assert!(!selection.contains("spaces"));
        assert!(Selection(vec!["-spaces".to_owned()]).contains("pages"));
        assert!(Selection::default().contains("anything"));
    }

    #[test]
    fn parents_come_before_children() {
        let link = |name, consumes: &[&'static str], feeds: &[&'static str]| Links {
            name,
            consumes: consumes.to_vec(),
            feeds: feeds.to_vec(),
        };
        let links = [
            link("labels", &["pages"], &[]),
            link("pages", &["spaces"], &["pages"]),
            link("spaces", &[], &["spaces"]),
        ];
        assert_eq!(order(&links).unwrap(), ["spaces", "pages", "labels"]);
        let cycle = [link("a", &["x"], &["y"]), link("b", &["y"], &["x"])];
        assert!(order(&cycle).is_err());
    }
}
