//! Plans from texts, for tests.

use chrono::DateTime;

use crate::error::Result;
use crate::http::access::AccessHooks;
use crate::plan::documents::{Documents, PlanOptions, Run};
use crate::plan::resolve::Plan;
use crate::plan::streams::stream::StreamPlan;
use crate::replication::Replication;
use crate::spec::{Fields, Spec};
use crate::yaml::Document;

/// A spec with these streams.
pub(crate) fn spec(streams: &str) -> Spec {
    let text =
        format!("name: a\nbase_url: https://a.test\ntest: {{ get: /me }}\nstreams:\n{streams}");
    Spec::load("spec.yaml", &text).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

/// The plan of all streams of a spec, with these keys under `defaults` and `limits` of the spec.
pub(crate) fn plan(spec: &Spec, defaults: &str, options: &PlanOptions) -> Result<Plan> {
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
pub(crate) fn stream<'plan>(plan: &'plan Plan, name: &str) -> &'plan StreamPlan {
    let found = plan.streams.iter().find(|stream| stream.name == name);
    found.unwrap_or_else(|| panic!("the plan has no stream `{name}`"))
}

/// The plan of all streams of a spec that can be planned.
pub(crate) fn planned(streams: &str, defaults: &str) -> Plan {
    plan_under(streams, defaults, &PlanOptions::default())
}

/// The plan of all streams of a spec that can be planned, under these options.
pub(crate) fn plan_under(streams: &str, defaults: &str, options: &PlanOptions) -> Plan {
    let plan = plan(&spec(streams), defaults, options);
    plan.unwrap_or_else(|error| panic!("{streams}{defaults}: {}", error.chain()))
}

/// The plan of all streams of a spec whose API charges 1 point for a request and 1 for a record.
pub(crate) fn plan_with_points(streams: &str, defaults: &str, options: &PlanOptions) -> Plan {
    let mut spec = spec(streams);
    spec.limits.points = Some(crate::spec::Points {
        when: None,
        per_hour: 1000,
        base: 1,
        record: [("core".to_owned(), 1)].into_iter().collect(),
    });
    plan(&spec, defaults, options).unwrap_or_else(|error| panic!("{}", error.chain()))
}
