//! What a run dropped, replaced, cut or assumed, counted by kind.

use serde::{Deserialize, Serialize};

/// What happened, in a name that programs can rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// A row replaced another one with the same key and other content.
    KeyCollision,
    /// A record was deleted while it was read.
    Gone,
    /// Rows were marked as deleted since a listing did not bring them that may pass over records.
    DeletesAssumed,
    /// Rows that are gone stay, since what is read has changed.
    DeletesOff,
    /// A listing has more pages than were read.
    MissingPages,
    /// A full page came, and nothing says whether another one follows.
    FullPage,
    /// An answer told of errors beside its records.
    AnswerErrors,
    /// A table was used by other sessions, so that its rows had to wait; counts seconds.
    TableInUse,
    /// At the end of a run its state could not be read or saved.
    StateOutOfReach,
    /// Saved state was damaged, and left out.
    StateDamaged,
    /// A table was changed by something other than the replication.
    TargetChanged,
    /// A stream was read again from its start in a run that went on.
    ReadAgain,
    /// A stream was read whole, because the run before read or wrote it otherwise.
    ReadWhole,
}

impl NoticeKind {
    /// What happened so many times, as the start of a sentence.
    pub fn sentence(self, count: u64) -> String {
        match self {
            Self::Gone => {
                plural(count, "object was", "objects were") + " deleted while the stream was read"
            }
            Self::DeletesAssumed => {
                plural(count, "row was", "rows were")
                    + " taken for deleted, by a listing that passes over records when others go"
            }
            Self::DeletesOff => "rows that are gone stay".to_owned(),
            Self::KeyCollision => {
                plural(count, "row replaced another row", "rows replaced others")
                    + " with the same key"
            }
            Self::MissingPages => {
                plural(count, "listing", "listings") + " with records that did not come"
            }
            Self::FullPage => {
                plural(count, "listing ended", "listings ended")
                    + " with a full page, without a sign that it was the last one"
            }
            Self::AnswerErrors => {
                plural(count, "answer", "answers") + " told of errors beside the records"
            }
            Self::TableInUse => {
                plural(count, "second was", "seconds were") + " waited for a table in use"
            }
            Self::StateOutOfReach => "the saved state was out of reach at the end".to_owned(),
            Self::StateDamaged => "the saved state was damaged".to_owned(),
            Self::TargetChanged => "the table was changed by something else".to_owned(),
            Self::ReadAgain => "the stream was read again from its start".to_owned(),
            Self::ReadWhole => "everything was read, not changes alone".to_owned(),
        }
    }

    /// Whether a stream with `strict: true` fails because of it.
    pub fn fails_strict(self) -> bool {
        matches!(self, Self::KeyCollision | Self::MissingPages | Self::AnswerErrors)
    }
}

/// Something that was dropped, replaced, cut or assumed, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What happened.
    pub kind: NoticeKind,
    /// How often; at least 1.
    pub count: u64,
    /// The first example, and what to do about it; empty where the kind says all.
    pub detail: String,
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind.sentence(self.count))?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// Adds a notice to others: of each kind there is one, with the sum of the counts and the first detail.
pub fn add_notice(notices: &mut Vec<Notice>, notice: Notice) {
    match notices.iter_mut().find(|known| known.kind == notice.kind) {
        Some(known) => known.count = known.count.saturating_add(notice.count),
        None => notices.push(notice),
    }
}

fn plural(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_of_a_kind_become_one_with_the_first_detail() {
        let mut notices = Vec::new();
        for detail in ["`id=1`", "`id=2`"] {
            let notice =
                Notice { kind: NoticeKind::KeyCollision, count: 1, detail: detail.to_owned() };
            add_notice(&mut notices, notice);
        }
        assert_eq!(notices.len(), 1);
        assert_eq!(notices[0].to_string(), "2 rows replaced others with the same key: `id=1`");
    }
}
