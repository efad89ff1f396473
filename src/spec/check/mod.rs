//! What a spec means, checked: every queue fed, every name defined, every path and template valid.

mod access;
mod changes;
mod checker;
mod fused;
mod graph;
mod inputs;
mod names;
mod pages;
mod paths;
mod requests;
mod routes;
mod streams;
mod unique;

use crate::spec::api::Spec;
use crate::yaml::Finding;

use checker::Checker;
use names::Names;

/// All that is wrong with a spec whose shape is right.
pub(super) fn check(spec: &Spec) -> Vec<Finding> {
    let mut checker = Checker { spec, names: Names::new(spec), findings: Vec::new() };
    checker.name(&["name"], &spec.name);
    checker.connection();
    checker.inputs();
    checker.access();
    checker.limits();
    checker.steps();
    checker.defaults();
    checker.streams();
    checker.fused();
    graph::check(spec, &mut checker.findings);
    checker.findings
}

/// What may be wrong with a spec that is valid.
pub(super) fn warnings(spec: &Spec) -> Vec<Finding> {
    [unique::warnings(spec), pages::warnings(spec)].concat()
}
