//! Generated prose: bodies in storage format and as documents, titles, names. Shared by all tenants.

use std::sync::OnceLock;

use crate::api::out::Out;

/// Size of the prose that bodies are cut from, in bytes.
const POOL_BYTES: usize = 512 * 1024;

/// Who or what sentences are about.
const SUBJECTS: &[&str] = &[
    "The release team",
    "The on-call engineer",
    "Finance",
    "The café and canteen crew",
    "Every new colleague",
    "The search index",
    "Our partner in São Paulo",
    "The billing service",
    "The data platform",
    "The owner of this page",
    "The nightly test run",
    "Customer support",
    "The migration checklist",
    "The naïve first version",
    "A reviewer",
];

/// What they do.
const VERBS: &[&str] = &[
    "checks",
    "updates",
    "replaces",
    "documents",
    "monitors",
    "restores",
    "reviews",
    "measures",
    "prepares",
    "depends on",
    "reports",
    "approves",
];

/// To what they do it.
const OBJECTS: &[&str] = &[
    "the incident timeline",
    "the rollback plan",
    "the alert thresholds",
    "the monthly invoices",
    "the API tokens that expire this quarter",
    "the dashboard for latency",
    "the staging environment",
    "the customer database",
    "the rota for the next two weeks",
    "the roadmap",
    "the list of open decisions",
    "the backup of the über-cluster",
];

/// When, why or where.
const ENDINGS: &[&str] = &[
    "before each deploy",
    "after approval by finance",
    "when traffic grows",
    "every Monday at nine",
    "within two hours",
    "as agreed in the last retrospective",
    "because the old process took too long",
    "until the migration is finished",
    "in all regions",
    "together with the security team",
    "once the review is done",
    "if an alert lasts longer than five minutes",
];

/// Headings within a page.
const HEADINGS: &[&str] = &[
    "Background",
    "Decision",
    "Next steps",
    "How we measure it",
    "Open questions",
    "Who to ask",
    "Risks and mitigations",
    "Before you begin",
];

const OPENERS: &[&str] = &[
    "Release",
    "Payments",
    "Incident",
    "Onboarding",
    "Roadmap",
    "Search",
    "Billing",
    "Design",
    "Café & Canteen",
    "\"Draft\"",
    "Security",
    "Data",
    "Platform",
    "Über-Team",
    "Hiring",
    "Sales",
];

const CLOSERS: &[&str] = &[
    "notes",
    "review",
    "runbook",
    "plan",
    "checklist",
    "FAQ",
    "minutes",
    "architecture",
    "report",
    "decision",
    "guide",
    "overview",
    "retrospective",
    "metrics",
    "policy",
    "ideas",
];

/// The prose in two renderings, cut into pieces that can follow each other in any order.
#[derive(Debug)]
pub(crate) struct Text {
    storage: Pool,
    plain: Pool,
}

#[derive(Debug)]
struct Pool {
    text: String,
    /// Start of every piece, and the end of the last piece.
    starts: Vec<usize>,
}

impl Text {
    /// The shared prose of the process.
    pub(crate) fn shared() -> &'static Self {
        static TEXT: OnceLock<Text> = OnceLock::new();
        TEXT.get_or_init(|| Self {
            storage: Pool::new(storage_piece),
            plain: Pool::new(plain_piece),
        })
    }

    /// Storage format of at least `bytes`, escaped for a JSON string. `dice` selects the start.
    pub(crate) fn storage(&self, dice: u64, bytes: usize) -> (&str, &str) {
        self.storage.cut(dice, bytes)
    }

    /// Plain words of at least `bytes`, without characters that JSON escapes.
    pub(crate) fn plain(&self, dice: u64, bytes: usize) -> (&str, &str) {
        self.plain.cut(dice, bytes)
    }
}

impl Pool {
    fn new(piece: fn(u64, &mut String)) -> Self {
        let mut text = String::with_capacity(POOL_BYTES + 2048);
        let mut starts = vec![0];
        let mut dice = 1;
        while text.len() < POOL_BYTES {
            dice = mix(dice);
            piece(dice, &mut text);
            starts.push(text.len());
        }
        Self { text, starts }
    }

    /// Whole pieces of at least `bytes`, in two parts if the pool wraps around.
    fn cut(&self, dice: u64, bytes: usize) -> (&str, &str) {
        let first = below(dice, self.starts.len() - 1);
        let begin = self.starts[first];
        let wanted = begin + bytes.min(POOL_BYTES / 2);
        if wanted <= self.text.len() {
            let end = self.starts.partition_point(|start| *start < wanted);
            return (self.slice(begin, self.starts[end]), "");
        }
        let end = self.starts.partition_point(|start| *start < wanted - self.text.len());
        (self.slice(begin, self.text.len()), self.slice(0, self.starts[end]))
    }

    fn slice(&self, begin: usize, end: usize) -> &str {
        self.text.get(begin..end).unwrap_or_default()
    }
}

fn storage_piece(dice: u64, text: &mut String) {
    let (open, close) = match dice % 9 {
        0 => ("<h2>", "</h2>"),
        1 => ("<ul><li><p>", "</p></li></ul>"),
        2 => (
            "<ac:structured-macro ac:name=\\\"info\\\" ac:schema-version=\\\"1\\\"><ac:rich-text-body><p>",
            "</p></ac:rich-text-body></ac:structured-macro>",
        ),
        3 => (
            "<p><strong>Note:</strong> ",
            " More details &amp; &ldquo;lessons learned&rdquo; follow.</p>",
        ),
        _ => ("<p>", "</p>"),
    };
    text.push_str(open);
    if dice.is_multiple_of(9) {
        text.push_str(HEADINGS[below(dice >> 8, HEADINGS.len())]);
    } else {
        sentences(dice, 2 + below(dice >> 8, 3), text);
    }
    text.push_str(close);
}

fn plain_piece(dice: u64, text: &mut String) {
    sentences(dice, 1, text);
    text.push(' ');
}

fn sentences(mut dice: u64, count: usize, text: &mut String) {
    for at in 0..count {
        if at > 0 {
            text.push(' ');
        }
        for (part, end) in [(SUBJECTS, " "), (VERBS, " "), (OBJECTS, " "), (ENDINGS, ".")] {
            dice = mix(dice);
            text.push_str(part[below(dice, part.len())]);
            text.push_str(end);
        }
    }
}

/// A title. The number makes it unique among its kind.
pub(crate) fn title(dice: u64, number: usize) -> String {
    let opener = OPENERS[below(dice, OPENERS.len())];
    let closer = CLOSERS[below(dice >> 20, CLOSERS.len())];
    format!("{opener} {closer} {number}")
}

/// A lowercase word that needs no escaping in JSON or a URL.
pub(crate) fn word(dice: u64) -> &'static str {
    CLOSERS[below(dice, 5)]
}

/// A title as in the site's links: all characters except letters and digits become `+`.
pub(crate) fn write_slug(out: &mut Out, title: &str) {
    for part in title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()) {
        out.raw("+").raw(part);
    }
}

/// Scrambles 64 bits (the finaliser of `SplitMix64`).
pub(crate) fn mix(value: u64) -> u64 {
    let mut scrambled = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    scrambled = (scrambled ^ (scrambled >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    scrambled = (scrambled ^ (scrambled >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    scrambled ^ (scrambled >> 31)
}

/// A number below `limit` (0 if `limit` is 0), from scrambled bits.
#[expect(clippy::cast_possible_truncation, reason = "the remainder is below a usize")]
pub(crate) fn below(dice: u64, limit: usize) -> usize {
    if limit == 0 { 0 } else { (dice % limit as u64) as usize }
}

/// Something that looks like a UUID.
pub(crate) fn uuid(dice: u64) -> String {
    let (high, low) = (dice >> 32, dice & 0xFFFF_FFFF);
    format!("{high:08x}-0000-4000-8000-0000{low:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_has_the_length_asked_for_and_reads_as_a_json_string() {
        for (dice, bytes) in [(0, 100), (7, 4096), (u64::MAX, 20_000), (POOL_BYTES as u64, 1)] {
            let (head, tail) = Text::shared().storage(dice, bytes);
            let length = head.len() + tail.len();
            assert!(length >= bytes && length < bytes + 1200, "{length} for {bytes}");
            let body: String = serde_json::from_str(&format!("\"{head}{tail}\"")).unwrap();
            assert_eq!(body.matches("<p>").count(), body.matches("</p>").count());
        }
    }
}
