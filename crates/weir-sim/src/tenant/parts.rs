//! JSON of dependent objects: comments, tasks, labels, versions, properties, permissions, child nodes;
//! and of groups and users.

use crate::api::out::Out;
use crate::tenant::Tenant;
use crate::tenant::content::BodyFacts;
use crate::tenant::facts::property_key;
use crate::tenant::ids::{MAX_CHILDREN, ObjectKind, id_of};
use crate::tenant::overlay::TaskState;
use crate::tenant::text::{below, mix, uuid};

/// Operations and their targets. Some are undocumented, as on live sites.
const OPERATIONS: &[(&str, &str)] = &[
    ("read", "space"),
    ("create", "page"),
    ("create", "blogpost"),
    ("create", "comment"),
    ("create", "attachment"),
    ("delete", "page"),
    ("delete", "comment"),
    ("archive", "page"),
    ("export", "space"),
    ("administer", "space"),
    ("restrict_content", "space"),
    ("manage_users", "space"),
];

/// Values of properties, as JSON of any type.
const PROPERTY_VALUES: &[&str] = &[
    "\"full-width\"",
    "\"v2\"",
    "{\"color\":\"blue\",\"sizes\":[1,2,3],\"deep\":{\"on\":true}}",
    "42",
    "1.5",
    "true",
    "null",
    "[\"a\",{\"b\":null}]",
    "12345678901234567890",
];

impl Tenant {
    pub(crate) fn write_comment(
        &self,
        out: &mut Out,
        kind: ObjectKind,
        comment: usize,
        format: Option<&str>,
    ) {
        let id = id_of(kind, comment);
        let container = self.comment_container(kind, comment);
        let (owner, index) = self.content(container);
        let title = format!("Re: {}", self.title_at(owner, index, 1));
        out.raw("{\"id\":").id(id).raw(",\"status\":\"current\",\"title\":").string(&title);
        self.write_container(out.raw(","), container);
        if let Some(parent) = self.replies_to(kind, comment) {
            out.raw(",\"parentCommentId\":").id(id_of(kind, parent));
        }
        self.write_version(out.raw(",\"version\":"), kind, comment);
        let dice = self.dice_of(kind, comment);
        let text = self.edited(kind, comment, dice);
        let body = BodyFacts { dice: text, bytes: 40 + below(text >> 9, 300), heading: "Comment" };
        self.write_body(out, format, &body);
        if kind == ObjectKind::Inline {
            self.write_inline_fields(out, comment, dice);
        } else {
            out.raw(",\"resolutionStatus\":\"open\"");
        }
        out.raw(",\"_links\":{\"webui\":\"/spaces/");
        out.raw(&self.space_key(self.container_space(container))).raw("/pages/");
        out.num(id_of(owner, index)).raw("?focusedCommentId=").num(id).raw("\"}}");
    }

    fn write_inline_fields(&self, out: &mut Out, comment: usize, dice: u64) {
        let status = self.resolution(comment);
        out.raw(",\"resolutionStatus\":\"").raw(status).raw("\"");
        if matches!(status, "resolved" | "reopened") {
            out.raw(",\"resolutionLastModifierId\":");
            self.write_user(out, mix(dice));
            let initial = self.initial_versions(ObjectKind::Inline, comment);
            let time = self.version_time(ObjectKind::Inline, comment, initial) + 60_000;
            out.raw(",\"resolutionLastModifiedAt\":").time(time);
        }
        let (marker, selection) = (uuid(dice), crate::tenant::text::word(dice >> 5));
        out.raw(",\"properties\":{\"inlineMarkerRef\":\"").raw(&marker);
        out.raw("\",\"inline-marker-ref\":\"").raw(&marker);
        out.raw("\",\"inlineOriginalSelection\":\"").raw(selection);
        out.raw("\",\"inline-original-selection\":\"").raw(selection).raw("\"}");
    }

    /// Resolution of an inline comment.
    pub(crate) fn resolution(&self, comment: usize) -> &'static str {
        if comment >= self.initial(ObjectKind::Inline) {
            return "open";
        }
        match self.dice("resolution", comment) % 10 {
            0..2 => "resolved",
            2 => "reopened",
            3 => "dangling",
            _ => "open",
        }
    }

    pub(crate) fn write_task(&self, out: &mut Out, task: usize, format: Option<&str>) {
        let facts = self.task(task);
        out.raw("{\"id\":").id(id_of(ObjectKind::Task, task)).raw(",\"localId\":");
        if facts.dice.is_multiple_of(3) {
            out.string(&uuid(facts.dice));
        } else {
            out.id(facts.dice % 50);
        }
        out.raw(",\"spaceId\":")
            .id(id_of(ObjectKind::Space, self.container_space(facts.container)));
        self.write_container(out.raw(","), facts.container);
        out.raw(",\"status\":\"").raw(facts.status()).raw("\"");
        let body = BodyFacts { dice: facts.dice, bytes: 60, heading: "Task" };
        self.write_body(out, format, &body);
        out.raw(",\"createdBy\":");
        self.write_user(out, facts.dice);
        out.raw(",\"assignedTo\":");
        if facts.assigned {
            self.write_user(out, facts.dice >> 3);
        } else {
            out.raw("null");
        }
        out.raw(",\"completedBy\":");
        if facts.completed.is_some() {
            self.write_user(out, facts.dice >> 5);
        } else {
            out.raw("null");
        }
        out.raw(",\"createdAt\":").time(facts.created);
        out.raw(",\"updatedAt\":").time(facts.updated);
        write_optional_time(out.raw(",\"dueAt\":"), facts.due);
        write_optional_time(out.raw(",\"completedAt\":"), facts.completed);
        out.raw("}");
    }

    /// The attributes of a task for the filters of the task list.
    pub(crate) fn task(&self, task: usize) -> TaskFacts {
        let dice = self.dice_of(ObjectKind::Task, task);
        let created = self.created(ObjectKind::Task, task);
        let patch = self.overlay.patch(ObjectKind::Task, task);
        let place = patch.and_then(|patch| patch.place);
        let ticked = task < self.initial(ObjectKind::Task) && (dice >> 11).is_multiple_of(3);
        let initial = ticked.then_some(created + 86_461_000);
        let initial = TaskState { completed: initial, updated: initial.unwrap_or(created) };
        let TaskState { completed, updated } =
            patch.and_then(|patch| patch.task).unwrap_or(initial);
        TaskFacts {
            dice,
            container: place.unwrap_or_else(|| below(self.dice("task", task), self.containers())),
            created,
            updated,
            assigned: !dice.is_multiple_of(4),
            due: dice
                .is_multiple_of(3)
                .then_some(created / 86_400_000 * 86_400_000 + 1_209_600_000),
            completed,
        }
    }

    /// The account IDs of a task: creator, assignee, completer.
    pub(crate) fn task_people(&self, task: usize) -> [Option<String>; 3] {
        let facts = self.task(task);
        let user = |dice: u64| {
            let mut out = Out::default();
            self.write_user(&mut out, dice);
            String::from_utf8_lossy(&out.into_bytes()).trim_matches('"').to_owned()
        };
        [
            Some(user(facts.dice)),
            facts.assigned.then(|| user(facts.dice >> 3)),
            facts.completed.map(|_| user(facts.dice >> 5)),
        ]
    }

    pub(crate) fn write_label(&self, out: &mut Out, label: usize) {
        out.raw("{\"id\":").id(id_of(ObjectKind::Label, label)).raw(",\"name\":");
        out.string(&self.title(ObjectKind::Label, label)).raw(",\"prefix\":\"");
        out.raw(Self::label_prefix(label)).raw("\"}");
    }

    /// One version of a content, with its number from 1.
    pub(crate) fn write_content_version(
        &self,
        out: &mut Out,
        content: usize,
        number: usize,
        format: Option<&str>,
    ) {
        let (kind, index) = self.content(content);
        out.raw("{");
        self.write_version_fields(out, kind, index, number);
        let (owner, prefix) = match kind {
            ObjectKind::Page => ("page", ""),
            ObjectKind::BlogPost => ("blogpost", ""),
            _ => ("attachment", "att"),
        };
        out.raw(",\"").raw(owner).raw("\":{\"title\":");
        let title = self.title_at(kind, index, number);
        if self.dice("untitled", content ^ number).is_multiple_of(50) {
            out.raw("null");
        } else {
            out.string(&title);
        }
        out.raw(",\"id\":\"").raw(prefix).num(id_of(kind, index)).raw("\"");
        if let (Some(_), ObjectKind::Page | ObjectKind::BlogPost) = (format, kind) {
            let dice = mix(self.dice_of(kind, index) ^ number as u64);
            let bytes = self.options.body_bytes;
            self.write_body(out, format, &BodyFacts { dice, bytes, heading: &title });
        }
        out.raw("}}");
    }

    /// A property of a content or a space, by its composed index.
    pub(crate) fn write_property(&self, out: &mut Out, kind: ObjectKind, property: usize) {
        let (owner, number) = (property / MAX_CHILDREN, property % MAX_CHILDREN);
        let dice = self.dice_of(kind, property);
        let value = self.edited(kind, property, dice);
        out.raw("{\"id\":").id(id_of(kind, property)).raw(",\"key\":");
        out.string(&property_key(number)).raw(",\"value\":");
        out.raw(PROPERTY_VALUES[below(value, PROPERTY_VALUES.len())]);
        let (owner_kind, index) = match kind {
            ObjectKind::SpaceProperty => (ObjectKind::Space, owner),
            _ => self.content(owner),
        };
        let own = self.overlay.patch(kind, property).and_then(|patch| patch.created);
        let created = own.unwrap_or_else(|| {
            let step = if index < self.initial(owner_kind) { 1 + number as u64 } else { 0 };
            self.created(owner_kind, index) + step
        });
        let edits = self.overlay.edits(kind, property);
        if kind == ObjectKind::SpaceProperty {
            out.raw(",\"createdAt\":").time(created).raw(",\"authorId\":");
            self.write_user(out, dice);
        }
        out.raw(",\"version\":{\"number\":").int(1 + edits.len()).raw(",\"message\":\"\"");
        if kind == ObjectKind::Property {
            out.raw(",\"minorEdit\":false");
        }
        self.write_user(out.raw(",\"authorId\":"), value);
        out.raw(",\"createdAt\":").time(edits.last().map_or(created, |edit| edit.at)).raw("}}");
    }

    /// A permission of a space, by its composed index.
    pub(crate) fn write_permission(&self, out: &mut Out, permission: usize) {
        let number = permission % MAX_CHILDREN;
        let (operation, target) = OPERATIONS[number % OPERATIONS.len()];
        let principal = number / OPERATIONS.len();
        out.raw("{\"id\":")
            .id(id_of(ObjectKind::Permission, permission))
            .raw(",\"principal\":{\"type\":");
        match principal % 4 {
            1 => _ = out.raw("\"group\",\"id\":").string(&self.group_id(principal)),
            3 => _ = out.raw("\"role\",\"id\":").string(&uuid(self.dice("role", principal))),
            _ => self.write_user(out.raw("\"user\",\"id\":"), principal as u64),
        }
        out.raw("},\"operation\":{\"key\":\"").raw(operation).raw("\",\"targetType\":\"");
        out.raw(target).raw("\"}}");
    }

    /// A child of a page: a page or a folder. The deprecated list contains only pages, with their space.
    pub(crate) fn write_child(&self, out: &mut Out, node: usize, old: bool) {
        let (kind, index) = self.node(node);
        let (status, typed) = match kind {
            ObjectKind::Page => (self.page_status(index), "page"),
            _ => ("current", "folder"),
        };
        out.raw("{\"id\":").id(id_of(kind, index)).raw(",\"status\":\"").raw(status);
        out.raw("\",\"title\":").string(&self.title(kind, index));
        if old {
            out.raw(",\"spaceId\":").id(id_of(ObjectKind::Space, self.page_space(index)));
        } else {
            out.raw(",\"type\":\"").raw(typed).raw("\"");
        }
        out.raw(",\"childPosition\":").num(self.position(node)).raw("}");
    }

    pub(crate) fn write_group(&self, out: &mut Out, group: usize) {
        let id = self.group_id(group);
        let managed = if group.is_multiple_of(3) { "EXTERNAL" } else { "ADMINS" };
        out.raw("{\"type\":\"group\",\"name\":\"").raw(&Self::group_name(group));
        out.raw("\",\"id\":\"")
            .raw(&id)
            .raw("\",\"usageType\":\"USERBASE_GROUP\",\"managedBy\":\"");
        out.raw(managed).raw("\",\"_links\":{\"self\":\"").raw(&self.options.site);
        out.raw("/wiki/rest/api/group/by-id?id=").raw(&id).raw("\"}}");
    }

    /// Names increase with the index, because the list is sorted by name.
    pub(crate) fn group_name(group: usize) -> String {
        format!("confluence-users-{group:06}")
    }

    pub(crate) fn group_id(&self, group: usize) -> String {
        uuid(self.dice("group", group))
    }

    pub(crate) fn write_current_user(&self, out: &mut Out) {
        out.raw("{\"type\":\"known\",\"accountId\":");
        self.write_user(out, 0);
        out.raw(",\"accountType\":\"atlassian\",\"email\":\"\",\"publicName\":\"A. User\"");
        out.raw(",\"profilePicture\":{\"path\":\"/wiki/aa-avatar/0\",\"width\":48,\"height\":48,");
        out.raw("\"isDefault\":false},\"displayName\":\"A. User\",\"timeZone\":\"UTC\",");
        out.raw("\"isExternalCollaborator\":false,\"_expandable\":{\"operations\":\"\",");
        out.raw("\"personalSpace\":\"\"},\"_links\":{\"self\":\"").raw(&self.options.site);
        out.raw("/wiki/rest/api/user/current\"}}");
    }
}

/// The filterable attributes of a task. Times are in epoch milliseconds.
pub(crate) struct TaskFacts {
    pub(crate) dice: u64,
    pub(crate) container: usize,
    pub(crate) created: u64,
    pub(crate) updated: u64,
    pub(crate) assigned: bool,
    pub(crate) due: Option<u64>,
    pub(crate) completed: Option<u64>,
}

impl TaskFacts {
    pub(crate) fn status(&self) -> &'static str {
        if self.completed.is_some() { "complete" } else { "incomplete" }
    }
}

fn write_optional_time(out: &mut Out, time: Option<u64>) {
    match time {
        Some(millis) => out.time(millis),
        None => out.raw("null"),
    };
}
