//! Lines of a document that problems do not show, because they may contain secrets. It works on
//! lines, not on YAML, because it also has to protect files that are not valid YAML.

/// Words that mark a line with a secret anywhere in a document.
const WORDS: [&str; 5] = ["password", "passwd", "secret", "token", "api_key"];

/// Top-level keys of a document, divided into those with secrets below them and those without.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// Keys below which all lines are hidden.
    pub secret: &'static [&'static str],
    /// Keys that end a hidden part.
    pub open: &'static [&'static str],
}

/// Whether each line is hidden.
pub(super) fn hidden(lines: &[String], guard: &Guard) -> Vec<bool> {
    let mut within = None;
    let hide = |line: &String| {
        let indent = line.len() - line.trim_start().len();
        let key = line.split(':').next().unwrap_or_default();
        let key = key.trim().trim_matches(['"', '\'']);
        if within.is_some_and(|start| indent <= start) && guard.open.contains(&key) {
            within = None;
        }
        if within.is_none() && guard.secret.iter().any(|key| has_key(line, key)) {
            within = Some(indent);
        }
        let lower = line.to_lowercase();
        within.is_some() || WORDS.iter().any(|word| lower.contains(word))
    };
    lines.iter().map(hide).collect()
}

/// Whether a line contains a key, which may be quoted.
fn has_key(line: &str, key: &str) -> bool {
    let mut parts = line.split(key);
    parts.next();
    parts.any(|after| after.trim_start_matches(['"', '\'', ' ', '\t']).starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_hold_secrets_is_hidden_and_the_rest_is_not() {
        let guard = Guard { secret: &["env", "target"], open: &["streams", "defaults"] };
        let table = [
            ("source: S\ntarget: T\nstreams: { a: }\n", "a-a"),
            ("env:\n\tS: {x: PW}\nPW\n# streams\nstreams:\n  a:\n", "----aa"),
            ("defaults: {}\n\"env\" : { S: {\nstreams: x } }\n", "a-a"),
            ("  env:\n    streams: x\n  streams: y\n", "--a"),
            ("{ source: S, env: { S: PW } }\n", "-"),
            ("streams:\n  a: { api_token: PW }\n  b:\n", "a-a"),
        ];
        for (text, expected) in table {
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let found = hidden(&lines, &guard);
            let found: String =
                found.iter().map(|hidden| if *hidden { '-' } else { 'a' }).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
