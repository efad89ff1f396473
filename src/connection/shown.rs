//! Names and URLs as messages may show them, without a login.

use crate::connection::kind::kind_of_url;

/// The given name of a connection or file, as messages may show it: a URL without its login, and
/// only the first word of a text that may be a misspelt URL.
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

/// Whether a text is probably neither a name nor a path but access data of a database: a URL, which
/// may be misspelt, `key=value`, or a mapping.
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
