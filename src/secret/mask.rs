//! Masks known secrets in texts with `***`, in every form in which a server may return them.
//!
//! The list of secrets is global to the process, so that a text can be masked without knowing which
//! connection it came from.

use std::{
    borrow::Cow,
    sync::{PoisonError, RwLock},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

/// Minimum length of a secret or of one of its forms, in bytes. A shorter text would also match by
/// chance.
const LEAST: usize = 6;
/// Maximum number of stored forms of temporary secrets; the oldest are removed first.
const MOST: usize = 4096;
/// The replacement of a secret.
const MASK: &str = "***";
/// Characters that most programs do not encode in URLs.
const URL: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<');
const UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'*');

static KNOWN: RwLock<KnownSecrets> =
    RwLock::new(KnownSecrets { lasting: Vec::new(), passing: Vec::new() });

/// The forms of all known secrets.
struct KnownSecrets {
    /// Forms of secrets that the user has set.
    lasting: Vec<String>,
    /// Forms of secrets that servers issue and replace.
    passing: Vec<String>,
}

/// Adds a secret that [`masked`] hides from now on. A secret shorter than six bytes is not hidden.
pub fn hide(secret: &str) {
    learn(secret, |known, new| known.lasting.extend(new));
}

/// Adds a secret that a server issued and may often replace. The oldest of these are removed first.
pub fn hide_passing(secret: &str) {
    learn(secret, |KnownSecrets { passing, .. }, new| {
        let surplus = (passing.len() + new.len()).saturating_sub(MOST).min(passing.len());
        passing.drain(..surplus);
        passing.extend(new);
    });
}

fn learn(secret: &str, keep: impl FnOnce(&mut KnownSecrets, Vec<String>)) {
    if secret.len() < LEAST || secret == MASK {
        return;
    }
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    if known.lasting.iter().chain(&known.passing).all(|form| form != secret) {
        keep(&mut known, forms(secret));
    }
}

/// The forms in which a text may contain a secret.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    for set in [NON_ALPHANUMERIC, UNRESERVED, URL] {
        let encoded = utf8_percent_encode(secret, set).to_string();
        forms.push(encoded.replace("%20", "+"));
        forms.push(small_digits(&encoded));
        forms.push(encoded);
    }
    // In JSON.
    forms.push(secret.replace('\\', "\\\\").replace('"', "\\\""));
    // In HTML.
    let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    for (double, single) in [("&quot;", "&#39;"), ("&#34;", "&#39;"), ("&quot;", "&#x27;")] {
        forms.push(html.replace('"', double).replace('\'', single));
    }
    forms.push(html);
    // In Base64 at any offset of the encoded text (`user:password`): only the characters that
    // depend on the secret alone.
    for before in 0..3_usize {
        let bytes = [vec![0; before], secret.as_bytes().to_vec()].concat();
        let start = (before * 8).div_ceil(6);
        let end = bytes.len() * 8 / 6;
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            forms.extend(engine.encode(&bytes).get(start..end).map(str::to_owned));
        }
    }
    forms.retain(|form| form.len() >= LEAST);
    forms.sort();
    forms.dedup();
    forms
}

/// A percent-encoded text with lowercase digits: `%2f`.
fn small_digits(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        out + "%" + &digits.to_lowercase() + rest
    })
}

/// The text with `***` in place of every known secret, its Base64, percent-encoded and HTML forms,
/// and the user and password of URLs.
pub fn masked(text: &str) -> Cow<'_, str> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let forms = known.lasting.iter().chain(&known.passing);
    let mut found: Vec<&String> = forms.filter(|form| text.contains(form.as_str())).collect();
    if found.is_empty() {
        return without_logins(text);
    }
    // The longest form comes first, because a secret may be a part of another one.
    found.sort_by_key(|form| std::cmp::Reverse(form.len()));
    let text = found.into_iter().fold(text.to_owned(), |text, form| text.replace(form, MASK));
    Cow::Owned(without_logins(&text).into_owned())
}

/// The text with `***` in place of the user and password of each URL, whether or not they are
/// known.
fn without_logins(text: &str) -> Cow<'_, str> {
    if !text.contains("://") || !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split("://");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // The password of a database may contain a slash.
        let scheme = out.rsplit(|letter: char| !letter.is_ascii_alphanumeric()).next();
        let database = scheme.is_some_and(|scheme| scheme.starts_with("postgres"));
        let ends = |letter: char| {
            let outside = letter.is_whitespace() || matches!(letter, '"' | '\'' | '`' | '<' | '>');
            outside || matches!(letter, '?' | '#') || letter == '/' && !database
        };
        let authority = part.split(ends).next().unwrap_or_default();
        out.push_str("://");
        match authority.rsplit_once('@').map(|(login, _)| login) {
            Some(login) if !is_example(login) => {
                out.push_str(MASK);
                out.push_str(part.get(login.len()..).unwrap_or_default());
            }
            _ => out.push_str(part),
        }
    }
    Cow::Owned(out)
}

/// Whether user and password are placeholders of documentation.
fn is_example(login: &str) -> bool {
    matches!(login, "user" | "user:password") || login.contains('…')
}

/// The text with control characters and direction marks escaped as `\u{…}`, so that it cannot
/// control a terminal. Line breaks and tabs stay.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if steers(letter) {
            out.extend(letter.escape_unicode());
        } else {
            out.push(letter);
        }
    }
    Cow::Owned(out)
}

/// Whether a character moves the cursor, changes colours or changes the writing direction.
fn steers(letter: char) -> bool {
    let marks = ['\u{61c}', '\u{feff}'];
    let ranges = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}'];
    (letter.is_control() && !matches!(letter, '\n' | '\t'))
        || marks.contains(&letter)
        || ranges.iter().any(|range| range.contains(&letter))
}

/// A text from outside, made safe for output: known secrets masked, control characters escaped.
pub fn shown(text: &str) -> String {
    escaped(&masked(text)).into_owned()
}

/// Like [`shown`], truncated to a number of characters. A secret is either masked whole or cut off
/// with what follows.
pub fn shown_start(text: &str, most: usize) -> String {
    let end = text.char_indices().nth(most).map(|(end, _)| end);
    let Some(start) = end.and_then(|end| text.get(..end)) else { return shown(text) };
    let masked = masked(start);
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let forms = known.lasting.iter().chain(&known.passing);
    // The rest of a truncated secret is at the end, and shorter than the longest secret.
    let cut_off = forms.map(String::len).max().unwrap_or(0);
    let kept = masked.chars().count().saturating_sub(cut_off);
    escaped(&masked.chars().take(kept).collect::<String>()).into_owned()
}

/// Like [`shown`], on one line: a line break would let a server write whole lines that look like
/// weir's.
pub fn line(text: &str) -> String {
    on_a_line(&shown(text))
}

/// A text without control characters, including line breaks and tabs. Secrets stay.
pub fn on_a_line(text: &str) -> String {
    escaped(text).replace('\n', "\\n").replace('\t', "\\t")
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_known_secret_is_hidden_in_all_its_forms() {
        let secret = "p/ss wörd\"+x9?";
        hide(secret);
        hide("short");
        let percent = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
        let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let url = url::Url::parse_with_params("https://a.test/x", [("t", secret)]).unwrap();
        let mut texts = vec![
            secret.to_owned(),
            small_digits(&percent),
            percent,
            form,
            url.query().unwrap().to_owned(),
            serde_json::to_string(secret).unwrap(),
        ];
        for user in ["a", "ab", "abc", "ann@acme.test"] {
            texts.push(STANDARD.encode(format!("{user}:{secret}")));
            texts.push(URL_SAFE_NO_PAD.encode(format!("{user}:{secret}:more")));
        }
        for text in texts {
            let hidden = masked(&text);
            assert!(hidden.contains(MASK), "{text} {hidden}");
            assert!(text.len() - hidden.len() >= secret.len() - MASK.len(), "{text} {hidden}");
        }
        assert_eq!(masked("a short text"), "a short text");
    }

    #[test]
    fn an_html_page_that_repeats_a_secret_does_not_show_it() {
        hide("a&b<c>\"d'");
        for text in [
            "a&amp;b&lt;c&gt;&quot;d&#39;",
            "a&amp;b&lt;c&gt;&#34;d&#39;",
            "a&amp;b&lt;c&gt;&quot;d&#x27;",
            "a&amp;b&lt;c&gt;\"d'",
        ] {
            assert_eq!(masked(text), MASK, "{text}");
        }
    }

    #[test]
    fn renewed_tokens_give_way_and_what_the_user_has_set_stays() {
        hide("set-by-the-user");
        hide_passing("first-of-all-tokens");
        for number in 0..1000 {
            hide_passing(&format!("renewed-token-{number:05}"));
        }
        assert_eq!(masked("set-by-the-user renewed-token-00999"), "*** ***");
        assert_eq!(masked("first-of-all-tokens"), "first-of-all-tokens");
        assert!(KNOWN.read().unwrap().passing.len() <= MOST);
    }

    #[test]
    fn a_secret_that_is_cut_through_is_left_out() {
        hide("cut-through-secret");
        let text = format!("{}cut-through-secret, and more", "s".repeat(900) + &" ".repeat(90));
        for most in 985..1012 {
            let start = shown_start(&text, most);
            assert!(start.starts_with('s') && !start.contains("cut"), "{start}");
        }
    }

    #[test]
    fn a_login_in_a_url_is_hidden_known_or_not() {
        let table = [
            ("at postgres://u:P/W@h/d: works", "at postgres://***@h/d: works"),
            ("`https://token@h/a@b` x@y", "`https://***@h/a@b` x@y"),
            ("s3://k:s@b and az://b/c@d", "s3://***@b and az://b/c@d"),
            ("postgres://h/d?user=a@b", "postgres://h/d?user=a@b"),
            ("write `postgres://user:…@host/db`", "write `postgres://user:…@host/db`"),
        ];
        for (text, expected) in table {
            assert_eq!(masked(text), expected);
        }
    }

    #[test]
    fn a_line_stays_one() {
        assert_eq!(line("e\r\nerror: fake\t\x1b[8m"), "e\\u{d}\\nerror: fake\\t\\u{1b}[8m");
    }

    #[test]
    fn the_longest_secret_is_hidden_first() {
        hide("abcdef-long");
        hide("abcdef-longer");
        assert_eq!(masked("<abcdef-longer> <abcdef-long>"), "<***> <***>");
    }

    #[test]
    fn no_text_steers_a_terminal() {
        assert_eq!(
            escaped("a\x1b[2Jb\u{202e}c\u{9b}d\n\te"),
            "a\\u{1b}[2Jb\\u{202e}c\\u{9b}d\n\te"
        );
        assert_eq!(escaped("grüße 世界 🙂"), "grüße 世界 🙂");
    }
}
