//! What changes in a tenant at random, and how often.

/// Some random changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Churn {
    /// How many.
    pub changes: usize,
    /// What may happen, each as likely as it is often in here.
    pub kinds: Vec<Happening>,
}

impl Churn {
    /// So many changes of all kinds but the end of a space.
    pub fn of(changes: usize) -> Self {
        Self { changes, kinds: Happening::USUAL.to_vec() }
    }
}

/// Changes that happen by themselves as requests come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Churning {
    /// Before every so-manieth request is answered, by the number that the log gives it; 0 never.
    pub every_requests: u64,
    /// Where the choice comes from.
    pub seed: u64,
    /// What happens each time.
    pub churn: Churn,
}

impl Churning {
    /// One change of any usual kind before every so-manieth request.
    pub fn every(requests: u64, seed: u64) -> Self {
        Self { every_requests: requests, seed, churn: Churn::of(1) }
    }
}

/// What may happen to a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; `Change` says what each means")]
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
    /// All but the end of a space, which would empty a small tenant soon; edits come more often.
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
