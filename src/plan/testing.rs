//! Plans from texts, for the tests of this module.

use chrono::DateTime;

use crate::error::Result;
use crate::http::access::AccessHooks;
use crate::plan::documents::{Documents, Options, Run};
use crate::plan::resolve::Plan;
use crate::plan::streams::stream::StreamPlan;
use crate::replication::Replication;
use crate::spec::{Fields, Spec};
use crate::yaml::Document;

/// A spec with these streams.
pub(super) fn spec(streams: &str) -> Spec {
    let text =
        format!("name: a\nbase_url: https://a.test\ntest: {{ get: /me }}\nstreams:\n{streams}");
    Spec::load("spec.yaml", &text).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

/// The plan of all streams of a spec, with these keys under `defaults` and `limits` of the spec.
pub(super) fn plan(spec: &Spec, defaults: &str, options: &Options) -> Result<Plan> {
    let text = format!("source: A\ntarget: B\ndefaults: {{ {defaults} }}\nstreams: {{ '*': }}\n");
    let document = Document::parse("replication.yaml", &text).unwrap();
    let replication = Replication::load(&document).unwrap_or_else(|problems| panic!("{problems}"));
    let documents = Documents {
        spec,
        replication: &replication,
        fields: &Fields::default(),
        default_object: "{stream_name}",
        default_name: "test",
    };
    let run = Run { id: "run".to_owned(), started_at: DateTime::UNIX_EPOCH };
    Plan::new(documents, options, run, &AccessHooks::default())
}

/// A stream of a plan.
pub(super) fn stream<'plan>(plan: &'plan Plan, name: &str) -> &'plan StreamPlan {
    let found = plan.streams.iter().find(|stream| stream.name == name);
    found.unwrap_or_else(|| panic!("the plan has no stream `{name}`"))
}
