//! Notices: what a run dropped, replaced, truncated or assumed, counted by kind.

use serde::{Deserialize, Serialize};

/// The kind of a notice. Its name is stable, so that programs can rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// A row replaced another row with the same key and different content.
    KeyCollision,
    /// A record was deleted while it was read.
    Gone,
    /// Rows were marked as deleted because a listing that may skip records did not return them.
    DeletesAssumed,
    /// Rows of deleted records stay, because the replication's selection of records has changed.
    DeletesOff,
    /// A listing has more pages than weir read.
    MissingPages,
    /// A listing ended with a full page, and the API does not state whether it was the last one.
    FullPage,
    /// A response reported errors beside its records.
    AnswerErrors,
    /// Other sessions used a table, so that its rows had to wait. The count is in seconds.
    TableInUse,
    /// The state could not be read or saved at the end of the run.
    StateOutOfReach,
    /// Saved state was damaged, and weir ignored it.
    StateDamaged,
    /// Something other than the replication changed a table.
    TargetChanged,
    /// A stream was read again from the start in a resumed run.
    ReadAgain,
    /// A stream was read in full, because the previous run read or wrote it with other settings.
    ReadWhole,
}

impl NoticeKind {
    /// The notice with its count, as the start of a sentence.
    pub fn sentence(self, count: u64) -> String {
        match self {
            Self::Gone => {
                plural(count, "object was", "objects were") + " deleted while the stream was read"
            }
            Self::DeletesAssumed => {
                plural(count, "row was", "rows were")
                    + " marked as deleted because of a listing that may skip records while others are removed"
            }
            Self::DeletesOff => "rows of deleted records stay".to_owned(),
            Self::KeyCollision => {
                plural(count, "row replaced another row", "rows replaced others")
                    + " with the same key"
            }
            Self::MissingPages => plural(count, "listing", "listings") + " with missing records",
            Self::FullPage => {
                plural(count, "listing ended", "listings ended")
                    + " with a full page, and the API did not state that it was the last one"
            }
            Self::AnswerErrors => {
                plural(count, "response", "responses") + " reported errors beside the records"
            }
            Self::TableInUse => {
                "weir waited ".to_owned()
                    + &plural(count, "second", "seconds")
                    + " for a table in use"
            }
            Self::StateOutOfReach => {
                "the saved state was not reachable at the end of the run".to_owned()
            }
            Self::StateDamaged => "the saved state was damaged".to_owned(),
            Self::TargetChanged => {
                "something other than this replication changed the table".to_owned()
            }
            Self::ReadAgain => "the stream was read again from the start".to_owned(),
            Self::ReadWhole => "the stream was read in full instead of its changes only".to_owned(),
        }
    }

    /// Whether a stream with `strict: true` fails because of it.
    pub fn fails_strict(self) -> bool {
        matches!(self, Self::KeyCollision | Self::MissingPages | Self::AnswerErrors)
    }
}

/// Something that a run dropped, replaced, truncated or assumed, with its count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What happened.
    pub kind: NoticeKind,
    /// Number of times; at least 1.
    pub count: u64,
    /// The first example, and what to do about it. Empty if the kind is self-explanatory.
    pub detail: String,
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind.sentence(self.count))?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// Adds a notice to others. There is one per kind, with the sum of the counts and the first detail.
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
