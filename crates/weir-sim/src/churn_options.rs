//! Options for random changes.

/// A number of random changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Churn {
    /// Number of changes.
    pub changes: usize,
    /// The possible kinds. A kind that is listed more often is more likely.
    pub kinds: Vec<Happening>,
}

impl Churn {
    /// Changes of all kinds except the deletion of a space.
    pub fn of(changes: usize) -> Self {
        Self { changes, kinds: Happening::USUAL.to_vec() }
    }
}

/// Random changes that are made as requests arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Churning {
    /// Makes the changes before each request whose number in the log is a multiple of this; 0 disables
    /// them.
    pub every_requests: u64,
    /// Seed of the random choice.
    pub seed: u64,
    /// The changes made each time.
    pub churn: Churn,
}

impl Churning {
    /// One change of any usual kind before every `requests`-th request.
    pub fn every(requests: u64, seed: u64) -> Self {
        Self { every_requests: requests, seed, churn: Churn::of(1) }
    }
}

/// A kind of random change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the names are self-explanatory; `TenantChange` documents each change"
)]
pub enum Happening {
    PageCreated,
    PageEdited,
    PageMoved,
    PageArchived,
    PageTrashed,
    PageRestored,
    PagePurged,
    BlogPostCreated,
    BlogPostEdited,
    BlogPostTrashed,
    BlogPostRestored,
    BlogPostPurged,
    AttachmentCreated,
    AttachmentEdited,
    AttachmentTrashed,
    AttachmentRestored,
    AttachmentPurged,
    LabelAdded,
    LabelRemoved,
    CommentCreated,
    CommentEdited,
    CommentDeleted,
    PropertyCreated,
    PropertyEdited,
    PropertyDeleted,
    TaskCreated,
    TaskToggled,
    TaskDeleted,
    CustomContentEdited,
    CustomContentDeleted,
    PermissionCreated,
    PermissionDeleted,
    GroupCreated,
    GroupDeleted,
    SpaceArchived,
    SpaceRestored,
    SpaceDeleted,
}

impl Happening {
    /// All kinds except the deletion of a space, which would soon empty a small tenant. Edits are more
    /// frequent.
    pub const USUAL: [Self; 42] = [
        Self::PageCreated,
        Self::PageCreated,
        Self::PageEdited,
        Self::PageEdited,
        Self::PageEdited,
        Self::PageMoved,
        Self::PageArchived,
        Self::PageTrashed,
        Self::PageRestored,
        Self::PagePurged,
        Self::BlogPostCreated,
        Self::BlogPostEdited,
        Self::BlogPostEdited,
        Self::BlogPostTrashed,
        Self::BlogPostRestored,
        Self::BlogPostPurged,
        Self::AttachmentCreated,
        Self::AttachmentEdited,
        Self::AttachmentTrashed,
        Self::AttachmentRestored,
        Self::AttachmentPurged,
        Self::LabelAdded,
        Self::LabelRemoved,
        Self::CommentCreated,
        Self::CommentCreated,
        Self::CommentEdited,
        Self::CommentEdited,
        Self::CommentDeleted,
        Self::PropertyCreated,
        Self::PropertyEdited,
        Self::PropertyDeleted,
        Self::TaskCreated,
        Self::TaskToggled,
        Self::TaskDeleted,
        Self::CustomContentEdited,
        Self::CustomContentDeleted,
        Self::PermissionCreated,
        Self::PermissionDeleted,
        Self::GroupCreated,
        Self::GroupDeleted,
        Self::SpaceArchived,
        Self::SpaceRestored,
    ];
}
