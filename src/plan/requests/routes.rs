//! Routes, compiled: the sets of requests that can read a stream's rows.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::plan::draft::Draft;
use crate::plan::requests::iterate::Iterate;
use crate::plan::requests::request::RequestPlan;
use crate::plan::requests::route_kind::RouteKind;
use crate::spec::route_name;

/// A set of requests that reads a stream's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePlan {
    /// Name.
    pub name: String,
    /// Range of its requests among those of the stream.
    pub requests: Range<usize>,
    /// Whether its slices correspond to those of the default route, parent by parent, so that it
    /// can be used for some parents only.
    pub by_parents: bool,
}

/// Index of the default request for the single values of the same queue. For a request that fetches
/// by ids: the default request with the same slices.
pub(crate) fn own_of(request: &RequestPlan, own: &[RequestPlan]) -> Option<usize> {
    let fetches = request.kind.fetch().is_some();
    own.iter().position(|one| match (&request.iterate, &one.iterate) {
        (Iterate::Once, Iterate::Once) => fetches,
        (
            Iterate::Queue { queue, chunk, variable, .. },
            Iterate::Queue { queue: other, chunk: theirs, variable: name, only, .. },
        ) if fetches => (queue, chunk, variable) == (other, theirs, name) && only.is_none(),
        (Iterate::Queue { queue, .. }, Iterate::Queue { queue: other, chunk, .. }) => {
            other == queue && chunk.is_none()
        }
        _ => false,
    })
}

/// Whether a route's slices correspond to those of the default route.
pub(crate) fn is_by_parents(route: &[RequestPlan], own: &[RequestPlan]) -> bool {
    let over = |request: &RequestPlan| match &request.iterate {
        Iterate::Queue { queue, only, .. } if only.is_none() => Some(*queue),
        _ => None,
    };
    let mut theirs: Vec<_> = own.iter().map(over).collect();
    let mut ours: Vec<_> = route.iter().map(over).collect();
    theirs.sort_unstable();
    ours.sort_unstable();
    ours == theirs
        && ours.iter().all(Option::is_some)
        && route.iter().all(|request| {
            request.parent_in.is_empty() && !matches!(request.kind, RouteKind::NoRequest)
        })
}

/// Adds a route's requests to those of its stream. A route that depends on a default request that
/// does not apply is not available.
pub(crate) fn add(
    requests: &mut Vec<RequestPlan>,
    routes: &mut Vec<RoutePlan>,
    name: &str,
    mut compiled: Vec<RequestPlan>,
) {
    let own = routes.first().map_or(0, |own| own.requests.end);
    let own = requests.get(..own).unwrap_or_default();
    let mut replaced: Vec<Option<usize>> = Vec::new();
    for request in &mut compiled {
        let fetches = request.kind.fetch().is_some();
        let at = own_of(request, own);
        let has_fingerprints = request.fingerprint.is_some() || request.columns.is_empty();
        if request.kind.needs_default() && at.is_none() || fetches && !has_fingerprints {
            return;
        }
        request.own = at;
        replaced.extend(fetches.then_some(at));
    }
    let fetches = !replaced.is_empty();
    replaced.sort_unstable();
    replaced.dedup();
    // If the API refuses the route, one default request replaces each of its requests, and together
    // they replace the whole route.
    if fetches && replaced.len() != own.len() {
        return;
    }
    let by_parents = is_by_parents(&compiled, own);
    let from = requests.len();
    requests.append(&mut compiled);
    routes.push(RoutePlan { name: name.to_owned(), requests: from..requests.len(), by_parents });
}

impl Draft<'_> {
    /// Index of the route that the user chose for a stream.
    pub(crate) fn wanted(&self, stream: &str, routes: &[RoutePlan]) -> Result<Option<usize>> {
        let mut asked = self.options.routes.iter().filter(|(name, _)| name == stream);
        let Some((_, wanted)) = asked.next_back() else { return Ok(None) };
        let at = |wanted: &str| routes.iter().position(|route| route.name == wanted);
        if let Some(at) = at(wanted).or_else(|| at(route_name(wanted))) {
            return Ok(Some(at));
        }
        let open: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
        let spec = self.documents.spec.streams.get(stream);
        let known = spec.is_some_and(|spec| spec.routes.contains_key(wanted));
        let why = if known { "is not available with these inputs" } else { "is not known" };
        Err(Error::input(format!("`--route {stream}={wanted}`: this route {why}"))
            .with_hint(format!("the routes of `{stream}` are: {}", open.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::documents::PlanOptions;
    use crate::plan::testing::{plan, spec, stream};

    const PARENT: &str = "  p: { get: /p, key: [id], feeds: { ids: id }, columns: { id: text } }\n";

    /// The available routes of a child stream; `*` marks those whose slices correspond to parents.
    #[track_caller]
    fn check(routes: &str, expected: &str) {
        let child = format!(
            "  c: {{ for_each: ids, get: '/p/{{{{ id }}}}/c', key: [id], \
             columns: {{ id: text }}, routes: {{ {routes} }} }}\n"
        );
        let plan = plan(&spec(&format!("{PARENT}{child}")), "", &PlanOptions::default()).unwrap();
        let shown = stream(&plan, "c").routes.iter().map(|route| {
            let mark = if route.by_parents { "*" } else { "" };
            format!("{}{mark}", route.name)
        });
        assert_eq!(shown.collect::<Vec<_>>().join(" "), expected, "{routes}");
    }

    #[test]
    fn a_route_is_available_when_all_its_requests_apply() {
        check("r: { get: /c }", "default* r");
        check("r: { for_each: ids, get: '/c/{{ id }}' }", "default* r*");
        check("r: { when: false, get: /c }", "default*");
        check("r: [{ get: /c }, { when: false, get: /d }]", "default*");
        check("r: [{ when: true, get: /c }, { get: /d }]", "default* r");
        let some = "r: { for_each: { queue: ids, only: id != '1' }, get: '/c/{{ id }}' }";
        check(some, "default* r");
    }

    /// The index of the route that the user chose, or the error.
    #[track_caller]
    fn check_choice(choice: &str, expected: Result<usize, &str>) {
        let spec = spec(
            "  c: { get: /c, key: [id], columns: { id: text }, \
             routes: { list_then_fetch: { get: /r }, closed: { when: false, get: /s } } }\n",
        );
        let routes = vec![("c".to_owned(), choice.to_owned())];
        let plan = plan(&spec, "", &PlanOptions { routes, ..PlanOptions::default() });
        match (plan, expected) {
            (Ok(plan), Ok(index)) => assert_eq!(stream(&plan, "c").wanted, Some(index), "{choice}"),
            (Err(error), Err(text)) => assert!(error.chain().contains(text), "{}", error.chain()),
            (plan, expected) => panic!("{choice}: {:?}, {expected:?}", plan.map(|_| ())),
        }
    }

    #[test]
    fn a_route_is_chosen_by_its_present_or_former_name() {
        check_choice("default", Ok(0));
        check_choice("own", Ok(0));
        check_choice("list_then_fetch", Ok(1));
        check_choice("probed", Ok(1));
        check_choice("closed", Err("this route is not available with these inputs"));
        check_choice("other", Err("this route is not known"));
    }
}
