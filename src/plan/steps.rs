//! Requests sent before and after the streams.

use std::{collections::BTreeMap, sync::Arc};

use indexmap::IndexMap;

use crate::error::{Error, Result};
use crate::http::exchange::Method;
use crate::http::session::StepPlan;
use crate::path::Path;
use crate::plan::documents::Run;
use crate::plan::requests::templates::{body, headers, invalid, query, template};
use crate::plan::variables::{inputs, of_run};
use crate::spec::{Fields, Spec, StepSpec};
use crate::template::{Expression, Scope, Value};

/// Compiles the setup and teardown requests for the test of a connection, with their variables.
/// Each input has its default.
///
/// # Errors
/// One of them cannot be compiled.
pub fn session_steps(spec: &Spec, fields: &Fields, run: &Run) -> Result<SessionSteps> {
    let mut variables = fields.variables();
    variables.extend(of_run(run));
    variables.extend(inputs(spec, &IndexMap::new(), run)?);
    let scope = Arc::new(Scope::new(variables.clone()));
    let (before, after) = (steps(&spec.setup, &scope)?, steps(&spec.teardown, &scope)?);
    Ok(SessionSteps { before, after, variables })
}

/// The setup and teardown requests for the test of a connection.
#[derive(Debug)]
pub struct SessionSteps {
    /// Requests before the streams.
    pub before: Vec<StepPlan>,
    /// Requests after the streams.
    pub after: Vec<StepPlan>,
    /// Variables of both.
    pub variables: BTreeMap<String, Value>,
}

/// Compiles the requests before or after the streams whose `when` holds.
pub(super) fn steps(steps: &[StepSpec], scope: &Arc<Scope>) -> Result<Vec<StepPlan>> {
    let mut plans = Vec::new();
    for step in steps {
        let when = step.when.as_deref().map(Expression::parse).transpose();
        let when = when.map_err(|error| invalid(&error))?;
        if let Some(when) = when
            && !when.holds(scope).map_err(|error| invalid(&error))?
        {
            continue;
        }
        let methods = [
            (Method::GET, &step.get),
            (Method::POST, &step.post),
            (Method::PUT, &step.put),
            (Method::DELETE, &step.delete),
        ];
        let mut given =
            methods.into_iter().filter_map(|(method, path)| Some((method, path.as_ref()?)));
        let (Some((method, path)), None) = (given.next(), given.next()) else {
            return Err(Error::input("a step needs exactly one of `get`, `post`, `put`, `delete`"));
        };
        let capture = step.capture.iter().map(|(name, path)| {
            Path::parse(path).map(|path| (name.clone(), path)).map_err(Error::from_path)
        });
        plans.push(StepPlan {
            method,
            path: template(path)?,
            query: query(&step.query)?,
            headers: headers(&step.headers)?,
            body: step.body.as_ref().map(body).transpose()?,
            capture: capture.collect::<Result<_>>()?,
        });
    }
    Ok(plans)
}
