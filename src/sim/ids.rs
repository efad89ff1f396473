//! Ids of the tenant's objects, and the orders that lists come in.

/// What an id names. The discriminant is part of the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Space = 1,
    Page,
    BlogPost,
    Attachment,
    Footer,
    Inline,
    Label,
    Property,
    SpaceProperty,
    Permission,
    Task,
    Custom,
    Folder,
}

const KINDS: [Kind; 13] = [
    Kind::Space,
    Kind::Page,
    Kind::BlogPost,
    Kind::Attachment,
    Kind::Footer,
    Kind::Inline,
    Kind::Label,
    Kind::Property,
    Kind::SpaceProperty,
    Kind::Permission,
    Kind::Task,
    Kind::Custom,
    Kind::Folder,
];

/// The smallest id.
const FIRST_ID: u64 = 65_536;

/// The id of the `index`-th object of a kind; ids of a kind rise with the index.
pub(super) fn id_of(kind: Kind, index: usize) -> u64 {
    FIRST_ID + index as u64 * 16 + kind as u64
}

/// The kind and index an id stands for, whether or not the object exists.
pub(super) fn from_id(id: u64) -> Option<(Kind, usize)> {
    let rest = id.checked_sub(FIRST_ID)?;
    let kind = KINDS.into_iter().find(|kind| *kind as u64 == rest % 16)?;
    Some((kind, usize::try_from(rest / 16).ok()?))
}

/// What a listing may be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SortBy {
    Id,
    Created,
    Modified,
    Title,
    Position,
}

/// The objects of a kind in some order, and the place of each in it.
#[derive(Debug)]
pub(super) struct Ranked {
    pub(super) order: Vec<usize>,
    pub(super) rank: Vec<usize>,
}

impl Ranked {
    pub(super) fn by<K: Ord>(count: usize, key: impl Fn(usize) -> K) -> Self {
        let mut keyed: Vec<(K, usize)> = (0..count).map(|index| (key(index), index)).collect();
        keyed.sort_unstable();
        let order: Vec<usize> = keyed.into_iter().map(|(_, index)| index).collect();
        let mut rank = vec![0; count];
        for (place, index) in order.iter().enumerate() {
            rank[*index] = place;
        }
        Self { order, rank }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_back_to_its_object() {
        for kind in KINDS {
            for index in [0, 1, 250, 1_000_000] {
                assert_eq!(from_id(id_of(kind, index)), Some((kind, index)));
            }
        }
        for id in [0, 65_535, FIRST_ID, FIRST_ID + 15] {
            assert_eq!(from_id(id), None, "{id}");
        }
    }
}
