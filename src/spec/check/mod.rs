//! Checks of what a spec means: every queue is fed, every name is defined, every path and template
//! is valid.

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

use crate::spec::language::api::Spec;
use crate::yaml::Finding;

use checker::Checker;
use names::Names;

/// Errors in a spec whose form is valid.
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

/// Warnings about a valid spec.
pub(super) fn warnings(spec: &Spec) -> Vec<Finding> {
    [unique::warnings(spec), pages::warnings(spec)].concat()
}
