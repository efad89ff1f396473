//! Suggestions for misspelt names.

/// A hint with the most similar candidate, or with the list of candidates.
pub fn suggest<'name>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'name str>,
) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let near = candidates
        .iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len().min(wrong.len()) / 4)
        .min();
    // A longer word, such as `integer` for `int`, or an abbreviation.
    let begins = |name: &&&str| {
        let (short, long) =
            if name.len() < wrong.len() { (**name, wrong) } else { (wrong, **name) };
        short.len() >= 3 && long.starts_with(short)
    };
    let near = near.or_else(|| candidates.iter().find(begins).map(|name| (0, *name)));
    match near {
        Some((_, name)) => Some(format!("did you mean `{name}`?")),
        None if candidates.is_empty() => None,
        None => Some(format!("allowed: {}", candidates.join(", "))),
    }
}

/// Whether a text is probably a misspelling of another one: it differs only in case, or in one
/// letter.
pub fn is_slip(text: &str, meant: &str) -> bool {
    /// Minimum length for a difference of one letter.
    const LONG: usize = 5;
    let plain = |text: &str| text.replace('_', "").to_lowercase();
    let long = text.len().min(meant.len()) >= LONG;
    let whole = text.starts_with(meant) || meant.starts_with(text);
    plain(text) == plain(meant) || long && !whole && strsim::damerau_levenshtein(text, meant) == 1
}
