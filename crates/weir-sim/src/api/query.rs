//! Parses query strings and checks them against the parameters of a route.

use std::borrow::Cow;

use crate::api::parameters::ParameterForm;
use crate::api::routes::Route;

/// The checked parameters of a request that its route supports.
#[derive(Debug, Default)]
pub(crate) struct Query<'a> {
    /// The query as sent, to repeat it in links.
    pub(crate) raw: &'a str,
    pairs: Vec<(&'static str, Cow<'a, str>)>,
}

/// An invalid parameter: title and detail of the API's error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueryProblem {
    pub(crate) title: String,
    pub(crate) detail: Option<&'static str>,
}

impl QueryProblem {
    fn wrong_type(value: &str, name: &str, expected: &str) -> Self {
        let title = format!(
            "Provided value {{{value}}} for '{name}' is not the correct type. Expected type is {expected}"
        );
        Self { title, detail: None }
    }

    /// The error for a token that the API did not issue.
    pub(crate) fn bad_cursor() -> Self {
        let title = "Provided value for 'cursor' is not the correct type. Expected type is Cursor.";
        let detail = "The provided cursor was not valid. You can get a new valid cursor by making \
                      the original pagination request again.";
        Self { title: title.to_owned(), detail: Some(detail) }
    }
}

impl<'a> Query<'a> {
    /// Parses and checks a query. Returns all problems.
    pub(crate) fn parse(raw: &'a str, route: &Route) -> Result<Self, Vec<QueryProblem>> {
        let mut query = Self { raw, pairs: Vec::new() };
        let mut problems = Vec::new();
        for (name, value) in url::form_urlencoded::parse(raw.as_bytes()) {
            let known = route.parameters.iter().find(|known| known.name == name);
            if let Some(known) = known {
                problems.extend(check(known.name, &value, known.form));
                query.pairs.push((known.name, value));
            }
        }
        for known in route.parameters {
            problems.extend(query.check_count(known.name, known.form));
        }
        if problems.is_empty() { Ok(query) } else { Err(problems) }
    }

    fn check_count(&self, name: &str, form: ParameterForm) -> Option<QueryProblem> {
        match form {
            ParameterForm::Required if self.text(name).is_none_or(str::is_empty) => {
                let title = format!("Required parameter '{name}' is not present.");
                Some(QueryProblem { title, detail: None })
            }
            ParameterForm::Integers(most) | ParameterForm::Texts(most)
                if self.list(name).count() > most =>
            {
                let count = self.list(name).count();
                let title = format!(
                    "Provided size {{{count}}} for '{name}' is greater than the max allowed: {most}"
                );
                Some(QueryProblem { title, detail: None })
            }
            _ => None,
        }
    }

    /// The last value.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.as_ref())
    }

    /// All values, whether repeated or separated by commas.
    pub(crate) fn list<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        let values = self.pairs.iter().filter(move |(known, _)| *known == name);
        values.flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|one| !one.is_empty())
    }

    /// Whether the parameter was given at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(known, _)| *known == name)
    }

    /// All values as IDs, sorted and without duplicates.
    pub(crate) fn ids(&self, name: &str) -> Option<Vec<u64>> {
        if !self.has(name) {
            return None;
        }
        let mut ids: Vec<u64> = self.list(name).filter_map(|one| one.parse().ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        Some(ids)
    }

    /// Whether this value passes an optional filter.
    pub(crate) fn allows(&self, name: &str, value: &str) -> bool {
        !self.has(name) || self.list(name).any(|one| one == value)
    }

    /// Whether this ID is in an optional list of IDs.
    pub(crate) fn allows_id(ids: Option<&[u64]>, id: u64) -> bool {
        ids.is_none_or(|ids| ids.binary_search(&id).is_ok())
    }

    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        self.text(name).map_or(default, |value| value == "true")
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

fn check(name: &str, value: &str, form: ParameterForm) -> Option<QueryProblem> {
    match form {
        ParameterForm::Cursor
        | ParameterForm::Text
        | ParameterForm::Required
        | ParameterForm::Texts(_) => None,
        ParameterForm::Limit(least, most, _) => check_limit(name, value, least, most),
        ParameterForm::Flag(_) => {
            let good = matches!(value, "true" | "false");
            (!good).then(|| QueryProblem::wrong_type(value, name, "boolean."))
        }
        ParameterForm::Integer => check_integer(name, value),
        ParameterForm::Integers(_) => {
            value.split(',').filter(|one| !one.is_empty()).find_map(|one| check_integer(name, one))
        }
        ParameterForm::One(allowed) => check_enum(name, value, allowed),
        ParameterForm::Many(allowed) => {
            value.split(',').find_map(|one| check_enum(name, one, allowed))
        }
    }
}

fn check_limit(name: &str, value: &str, least: u64, most: u64) -> Option<QueryProblem> {
    let Ok(number) = value.parse::<u64>() else {
        return Some(QueryProblem::wrong_type(value, name, "int."));
    };
    let (relation, bound) = if number > most {
        ("greater than the max", most)
    } else if number < least {
        ("less than the min", least)
    } else {
        return None;
    };
    let title = format!("Provided size {{{number}}} for '{name}' is {relation} allowed: {bound}");
    Some(QueryProblem { title, detail: None })
}

fn check_integer(name: &str, value: &str) -> Option<QueryProblem> {
    value.trim().parse::<i64>().err().map(|_| QueryProblem::wrong_type(value, name, "long."))
}

fn check_enum(name: &str, value: &str, allowed: &[&str]) -> Option<QueryProblem> {
    let good = allowed.contains(&value.trim());
    (!good)
        .then(|| QueryProblem::wrong_type(value, name, &format!("one of {}.", allowed.join(", "))))
}

#[cfg(test)]
mod tests {
    use crate::api::routes::find;

    use super::*;

    fn problems(path: &str, raw: &str) -> Vec<String> {
        let (route, _) = find(path).unwrap();
        let problems = Query::parse(raw, route).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.title).collect()
    }

    #[test]
    fn parameters_are_held_to_their_declaration() {
        let pages = "/wiki/api/v2/pages";
        for good in
            ["", "limit=250", "limit=1", "nonsense=1", "status=current,trashed", "id=1&id=2,3"]
        {
            assert_eq!(problems(pages, good), Vec::<String>::new(), "{good}");
        }
        assert_eq!(
            problems(pages, "limit=251"),
            ["Provided size {251} for 'limit' is greater than the max allowed: 250"]
        );
        assert_eq!(
            problems(pages, "id=Docs"),
            ["Provided value {Docs} for 'id' is not the correct type. Expected type is long."]
        );
        for bad in
            ["limit=0", "limit=x", "status=draft", "sort=name", "body-format=view", "space-id=a"]
        {
            assert_eq!(problems(pages, bad).len(), 1, "{bad}");
        }
        let many = (0..101).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(problems(pages, &format!("space-id={many}")).len(), 1);
        assert_eq!(problems("/wiki/api/v2/custom-content", "").len(), 1);
    }
}
