//! The values of a connection to an API, checked against the fields of its spec.

use std::sync::Arc;

use crate::connection::definition::Connection;
use crate::connection::env_file::Environment;
use crate::connection::kind::ConnectionKind;
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::spec::{ConnectionField, FieldFormat, Fields, Spec};
use crate::template::{Expression, Scope};
use crate::yaml::suggest;

/// Properties of a connection to an API that are not fields of its spec.
const OWN: [&str; 1] = ["spec"];

/// The values of the spec's fields: from the connection, else from the field's environment
/// variable, else its default. Fields without a value are empty.
///
/// # Errors
/// Everything that is wrong: unknown properties, missing fields, and values of the wrong form. A
/// simulated API needs no field.
pub fn api_fields(
    connection: &Connection,
    spec: &Spec,
    environment: &Environment,
) -> Result<Fields> {
    let CheckedFields { mut fields, mut wrong } = found(connection, spec, environment)?;
    let required = required(spec, &fields)?;
    if connection.simulate.is_some() {
        fill_in_simulated(&required, &mut fields);
    } else {
        wrong.extend(absent(&required, &fields));
    }
    if wrong.is_empty() {
        return Ok(fields);
    }
    let what =
        format!("connection `{}` is not complete:\n  {}", connection.name, wrong.join("\n  "));
    // The values of `one_of` fields may determine which other fields are required.
    let chosen = spec.connection.iter().filter_map(|(name, field)| {
        let value = fields.open.get(name).filter(|value| field.one_of.contains(*value))?;
        (field.default.as_ref() != Some(value)).then(|| format!("{name}={value}"))
    });
    let needed = required.iter().map(|(name, _)| format!("{name}=…"));
    let missing: Vec<String> = chosen.chain(needed).collect();
    let example = format!("weir conns set {} type=api spec={} ", connection.name, spec.name);
    Err(Error::input(what).with_hint(example + &missing.join(" ")))
}

/// The required fields that a connection to an API lacks, one clause per field.
///
/// # Errors
/// The connection has unknown properties, or values of the wrong form.
pub fn lacking_fields(
    connection: &Connection,
    spec: &Spec,
    environment: &Environment,
) -> Result<Vec<String>> {
    let CheckedFields { fields, wrong } = found(connection, spec, environment)?;
    if !wrong.is_empty() {
        let what = format!("connection `{}`:\n  {}", connection.name, wrong.join("\n  "));
        return Err(
            Error::input(what).with_hint(format!("weir spec show {} shows the fields", spec.name))
        );
    }
    if connection.simulate.is_some() {
        return Ok(Vec::new());
    }
    Ok(absent(&required(spec, &fields)?, &fields).collect())
}

/// The fields with values, and what is wrong with them.
struct CheckedFields {
    fields: Fields,
    wrong: Vec<String>,
}

fn found(connection: &Connection, spec: &Spec, environment: &Environment) -> Result<CheckedFields> {
    if connection.kind != ConnectionKind::Api {
        let what =
            format!("connection `{}` is of type {}, not api", connection.name, connection.kind);
        return Err(Error::input(what).with_hint("the source of a replication is an API"));
    }
    let mut wrong = Vec::new();
    for name in connection.properties.keys().filter(|name| !OWN.contains(&name.as_str())) {
        if !spec.connection.contains_key(name) {
            let hint = suggest(name, spec.connection.keys().map(String::as_str));
            let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            wrong.push(format!("`{}` has no connection field `{name}`{hint}", spec.name));
        }
    }
    let mut fields = Fields::default();
    for (name, field) in &spec.connection {
        let given = connection.property(name).map(str::to_owned);
        let from_variable =
            || field.env.as_ref().and_then(|variable| environment.get(variable)).cloned();
        let value = given.filter(|value| !value.is_empty()).or_else(from_variable);
        let value = value.or_else(|| field.default.clone()).unwrap_or_default();
        if !value.is_empty() && !connection.elsewhere.contains_key(name) {
            wrong.extend(misshapen(name, field, &value));
        }
        if field.secret {
            fields.secret.insert(name.clone(), Secret::new(value));
        } else {
            fields.open.insert(name.clone(), value);
        }
    }
    Ok(CheckedFields { fields, wrong })
}

/// The required fields without a value, one clause per field.
fn absent<'a>(required: &'a [Named<'a>], fields: &'a Fields) -> impl Iterator<Item = String> + 'a {
    let absent = required.iter().filter(|(name, field)| fields.is_empty(name, field.secret));
    absent.map(|(name, field)| missing(name, field))
}

/// A field with its name.
type Named<'a> = (&'a String, &'a ConnectionField);

/// The required fields of a connection with these values.
fn required<'a>(spec: &'a Spec, fields: &Fields) -> Result<Vec<Named<'a>>> {
    let scope = Arc::new(Scope::new(fields.variables()));
    let mut required = Vec::new();
    for (name, field) in &spec.connection {
        let holds = match &field.required_when {
            None => field.required,
            Some(when) => {
                let holds = Expression::parse(when).and_then(|when| when.holds(&scope));
                holds.map_err(|error| Error::input(format!("`required_when: {when}`: {error}")))?
            }
        };
        if holds {
            required.push((name, field));
        }
    }
    Ok(required)
}

/// weir never resolves the host of a simulated API, so any host will do.
fn fill_in_simulated(required: &[Named], fields: &mut Fields) {
    for (name, field) in required {
        let value = match field.format {
            Some(FieldFormat::Hostname) => "simulated.example.net".to_owned(),
            Some(FieldFormat::Email) => "you@example.net".to_owned(),
            // A placeholder that does not occur in texts, because weir masks secrets in all of
            // them.
            _ if field.secret => "needs-no-secret".to_owned(),
            _ => "simulated".to_owned(),
        };
        if field.secret {
            let slot = fields.secret.entry((*name).clone()).or_insert_with(|| Secret::new(""));
            if slot.expose().is_empty() {
                // It is too short to be masked in other texts.
                *slot = Secret::new("any");
            }
        } else {
            let slot = fields.open.entry((*name).clone()).or_default();
            if slot.is_empty() {
                *slot = value;
            }
        }
    }
}

fn missing(name: &str, field: &ConnectionField) -> String {
    let variable = field.env.as_ref().map(|variable| format!(" (or the variable {variable})"));
    format!("`{name}` is missing{}: {}", variable.unwrap_or_default(), field.help)
}

/// What is wrong with the form of a value. The value itself is not shown, because it may be a
/// misplaced secret.
fn misshapen(name: &str, field: &ConnectionField, value: &str) -> Option<String> {
    // The text before an `@` may be a password, unless the field is an email address.
    let login = value.contains('@') && field.format != Some(FieldFormat::Email);
    if !field.one_of.is_empty() && !field.one_of.iter().any(|one| one == value) {
        return Some(format!("`{name}` is not one of {}", field.one_of.join(", ")));
    }
    let wanted = match field.format? {
        FieldFormat::Hostname if is_hostname(value) => return None,
        FieldFormat::Url
            if !login && (value.starts_with("http://") || value.starts_with("https://")) =>
        {
            return None;
        }
        FieldFormat::Email if value.split_once('@').is_some_and(|(_, host)| is_hostname(host)) => {
            return None;
        }
        FieldFormat::Uuid if is_uuid(value) => return None,
        FieldFormat::Hostname => "a host without `https://` and path",
        FieldFormat::Url => "a URL with `https://`, without user and password",
        FieldFormat::Email => "an email address",
        FieldFormat::Uuid => "a UUID",
    };
    Some(format!("`{name}` is not {wanted}"))
}

fn is_hostname(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let letters =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    !host.is_empty() && host.chars().all(letters) && port.parse::<u16>().is_ok()
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && groups.concat().chars().all(|digit| digit.is_ascii_hexdigit())
}
