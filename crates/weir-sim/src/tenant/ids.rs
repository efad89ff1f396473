//! IDs of the tenant's objects, and the sort orders of lists.

use serde::{Deserialize, Serialize};

/// Maximum number of children per parent for IDs composed from parent and number.
pub(crate) const MAX_CHILDREN: usize = 512;

/// Kinds of objects. The discriminant is part of the ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ObjectKind {
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
    Group,
}

const KINDS: [ObjectKind; 14] = [
    ObjectKind::Space,
    ObjectKind::Page,
    ObjectKind::BlogPost,
    ObjectKind::Attachment,
    ObjectKind::Footer,
    ObjectKind::Inline,
    ObjectKind::Label,
    ObjectKind::Property,
    ObjectKind::SpaceProperty,
    ObjectKind::Permission,
    ObjectKind::Task,
    ObjectKind::Custom,
    ObjectKind::Folder,
    ObjectKind::Group,
];

/// The smallest ID.
const FIRST_ID: u64 = 65_536;

/// The ID of the `index`-th object of a kind. IDs of a kind increase with the index.
pub(crate) fn id_of(kind: ObjectKind, index: usize) -> u64 {
    FIRST_ID + index as u64 * 16 + kind as u64
}

/// The kind and index of an ID, whether or not the object exists.
pub(crate) fn from_id(id: u64) -> Option<(ObjectKind, usize)> {
    let rest = id.checked_sub(FIRST_ID)?;
    let kind = KINDS.into_iter().find(|kind| *kind as u64 == rest % 16)?;
    Some((kind, usize::try_from(rest / 16).ok()?))
}

/// Sort keys of listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SortBy {
    Id,
    Created,
    Modified,
    Title,
    Position,
    /// Key of a space or property.
    Key,
    /// The number of a version, or a composed index.
    Number,
}

/// The position of an object in an order. Ties are broken by index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum SortKey {
    Number(u64),
    Text(String),
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
