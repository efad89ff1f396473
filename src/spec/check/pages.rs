//! Warnings about listings without `paginate`, since their first page may not be the only one.

use crate::spec::language::api::Spec;
use crate::spec::language::request::RequestSpec;
use crate::spec::language::stream::Stream;
use crate::yaml::Finding;

/// Warnings for streams whose listings end after the first page because the spec declares no
/// pagination.
pub(super) fn warnings(spec: &Spec) -> Vec<Finding> {
    if spec.defaults.paginate.is_some() {
        return Vec::new();
    }
    let silent = spec.streams.iter().filter(|(_, stream)| is_silent(stream));
    let finding = |(name, _): (&String, &Stream)| {
        let message = "`paginate` is missing: weir reads only the first page of each listing";
        Finding::new(&["streams", name], message)
            .with_hint("declare `paginate`, or `paginate: none` if there is only one page")
    };
    silent.map(finding).collect()
}

/// Whether a request of a stream seems to read a list without declaring `paginate`.
fn is_silent(stream: &Stream) -> bool {
    let own = stream.own_request();
    let all =
        if stream.requests.is_empty() { vec![&own] } else { stream.requests.iter().collect() };
    let lists = |request: &RequestSpec| request.records.is_some() || own.records.is_some();
    all.into_iter()
        .any(|request| lists(request) && request.paginate.is_none() && own.paginate.is_none())
}
