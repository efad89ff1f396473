//! Files of variables: lines of `NAME=value`, as in `.env`, or YAML with `connections`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::connection::saved::file::contents;
use crate::error::Result;

/// Environment variables, by name.
pub type Environment = BTreeMap<String, String>;

/// A file of variables, or of connections.
#[derive(Clone, Debug, Default)]
pub struct EnvFile {
    /// The file, as shown to users.
    pub path: PathBuf,
    /// Its variables.
    pub variables: Environment,
    /// The variables as written, before substitution. Connections are defined by these.
    pub definitions: Environment,
    /// Its text, if it is YAML with `connections`.
    pub yaml: Option<String>,
}

impl EnvFile {
    /// A file of connections.
    ///
    /// # Errors
    /// It is not valid YAML.
    pub fn of_connections(path: PathBuf, text: String) -> Result<Self> {
        let variables = variables_of(&path, &text)?;
        Ok(Self { path, variables, definitions: Environment::new(), yaml: Some(text) })
    }

    /// Reads the text of a file of variables. A quoted value may have several lines. `${NAME}`
    /// outside single quotes is a variable of the `environment` or of an earlier line.
    ///
    /// A line that is not `NAME=value` is skipped and reported as a warning. The warning never
    /// shows the line, which may contain a secret.
    pub fn parse(path: PathBuf, text: &str, environment: &Environment) -> (Self, Vec<String>) {
        let mut file = Self { path, ..Self::default() };
        let mut warnings = Vec::new();
        let text = text.trim_start_matches('\u{feff}');
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let line = rest.split_inclusive('\n').next().unwrap_or(rest);
            let bare = line.trim();
            if bare.is_empty() || bare.starts_with('#') {
                at += line.len();
                continue;
            }
            match assignment(rest) {
                Ok(Assignment { name, value, literal, length }) => {
                    file.definitions.insert(name.clone(), value.clone());
                    let value = if literal { value } else { file.filled(&value, environment) };
                    file.variables.insert(name, value);
                    at += length;
                }
                Err(why) => {
                    let number = 1 + text.get(..at).unwrap_or_default().matches('\n').count();
                    let path = file.path.display();
                    warnings.push(format!("{path}:{number}: {why}; the line is ignored"));
                    at += line.len();
                }
            }
        }
        (file, warnings)
    }

    /// A text with each known `${NAME}` replaced; unknown ones stay unchanged.
    fn filled(&self, text: &str, environment: &Environment) -> String {
        let mut parts = text.split("${");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let known = part.split_once('}').and_then(|(name, after)| {
                let value = environment.get(name).or_else(|| self.variables.get(name))?;
                Some((value, after))
            });
            match known.filter(|_| !out.ends_with('$')) {
                Some((value, after)) => out.extend([value.as_str(), after]),
                None => out.extend(["${", part]),
            }
        }
        out
    }
}

/// The `variables` of a connections file, available as `${NAME}`.
///
/// # Errors
/// The file is not valid YAML.
fn variables_of(path: &Path, text: &str) -> Result<Environment> {
    let all = contents(&path.display().to_string(), text)?;
    let entries = all.get("variables").and_then(Value::as_object).into_iter().flatten();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(entries.map(|(name, value)| (name.clone(), text(value))).collect())
}

/// One variable of a file.
struct Assignment {
    name: String,
    value: String,
    /// Whether the value is in single quotes.
    literal: bool,
    /// Length of the assignment in bytes.
    length: usize,
}

/// Reads the assignment at the start of a text.
fn assignment(text: &str) -> std::result::Result<Assignment, &'static str> {
    const FORM: &str = "this is not `NAME=value`";
    let line = text.split_inclusive('\n').next().unwrap_or(text);
    let (before, _) = line.split_once('=').ok_or(FORM)?;
    let name = before.trim();
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    let letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.');
    if name.is_empty()
        || !name.chars().all(letter)
        || name.starts_with(|one: char| one.is_ascii_digit())
    {
        return Err(FORM);
    }
    let name = name.to_owned();
    let start = before.len() + 1;
    let after = text.get(start..).unwrap_or_default();
    let blank = after.len() - after.trim_start_matches([' ', '\t']).len();
    let quoted = after.get(blank..).unwrap_or_default();
    let Some(quote) = quoted.chars().next().filter(|first| matches!(first, '\'' | '"')) else {
        let value = line.get(start..).unwrap_or_default();
        let value = value.split(" #").next().unwrap_or_default().trim().to_owned();
        return Ok(Assignment { name, value, literal: false, length: line.len() });
    };
    let (value, taken) = within_quotes(quoted, quote).ok_or("the quote is not closed")?;
    let end = start + blank + taken;
    let rest = text.get(end..).unwrap_or_default();
    let rest = rest.split_inclusive('\n').next().unwrap_or_default();
    if !rest.trim().is_empty() && !rest.trim_start().starts_with('#') {
        return Err("something follows the closing quote");
    }
    Ok(Assignment { name, value, literal: quote == '\'', length: end + rest.len() })
}

/// The text between quotes, and its length in bytes including the quotes. In double quotes, `\n`,
/// `\"`, `\\` and `\$` are escapes.
fn within_quotes(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            _ if letter == quote => return Some((value, at + 1)),
            '\\' if quote == '"' => match letters.next()?.1 {
                'n' => value.push('\n'),
                escaped @ ('"' | '\\' | '$') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            _ => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_in_quotes_or_bare_and_over_lines() {
        let text = "# mine\r\nA=1\r\n\nexport B = 'two $words' # note\nC={type: api, x: y} # note\n\
                    D='{\n  type: api\n}'\nE=\"a\\\"b\\n${A}${OUTSIDE}${NOBODY}\"\nF=\nG=a#b";
        let outside = Environment::from([("OUTSIDE".to_owned(), "o".to_owned())]);
        let (file, warnings) = EnvFile::parse(".env".into(), text, &outside);
        assert_eq!(warnings, Vec::<String>::new());
        let found: Vec<(&str, &str)> =
            file.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("A", "1"),
            ("B", "two $words"),
            ("C", "{type: api, x: y}"),
            ("D", "{\n  type: api\n}"),
            ("E", "a\"b\n1o${NOBODY}"),
            ("F", ""),
            ("G", "a#b"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_bad_line_is_told_by_its_number_and_the_others_count() {
        let table: [(&str, &[usize], &[&str]); 4] = [
            ("no equals sign\nA=1\nB C=2\nD='x\ny'\n", &[1, 3], &["A", "D"]),
            ("A='never closed\nB=2\nC=3\n", &[1], &["B", "C"]),
            ("A='x' y\n\n\"B\"=2\n=s3cret\n1=1\nC=3", &[1, 3, 4, 5], &["C"]),
            ("s3cret\ns3cret\n", &[1, 2], &[]),
        ];
        for (text, lines, names) in table {
            let (file, warnings) = EnvFile::parse(".env".into(), text, &Environment::new());
            let found: Vec<&str> = file.variables.keys().map(String::as_str).collect();
            assert_eq!(found, names, "{text}");
            assert_eq!(warnings.len(), lines.len(), "{warnings:?}");
            for (warning, line) in warnings.iter().zip(lines) {
                assert!(warning.starts_with(&format!(".env:{line}: ")), "{warning}");
                assert!(!warning.contains("s3cret"), "{warning}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}|[A='\"\\\\$ {}#\n]{0,40}") {
            drop(EnvFile::parse(".env".into(), &text, &Environment::new()));
        }
    }
}
