//! Names and URLs as messages may show them, without a login.

use super::kind::kind_of_url;

/// What somebody gave as the name of a connection, or of a file, as it may be shown: of a URL no login, and no
/// more than the first word of what may be one with a mistake.
pub fn shown_name(text: &str) -> String {
    if kind_of_url(text).is_some() {
        return without_login(text);
    }
    if !is_access(text) {
        return text.to_owned();
    }
    let word: String = text.chars().take_while(char::is_ascii_alphanumeric).collect();
    format!("{word}…")
}

/// Whether a text is in all likelihood no name and no path, but a way to a database with what it takes to use
/// it: a URL, perhaps misspelt, `key=value`, or a mapping.
pub fn is_access(text: &str) -> bool {
    let path = text.starts_with(['.', '/', '~']);
    let signs = ["://", ":/", "@", "=", "{"];
    signs.iter().any(|sign| text.contains(sign)) && !path
        || path && text.contains('@') && text.contains(':')
        || text.starts_with("postgres") && text.contains(':')
}

/// A URL, host or path without user, password and parameters.
pub fn without_login(text: &str) -> String {
    let (scheme, rest) = match text.find("://") {
        Some(at) => text.split_at(at + "://".len()),
        None if text.contains('@') => ("", text),
        None => return text.to_owned(),
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let host = rest.rsplit('@').next().unwrap_or_default();
    format!("{scheme}{}", host.trim_end_matches('/'))
}
