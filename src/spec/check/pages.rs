//! Requests of whose pages a spec says nothing: a warning, since one page may be all there is.

use crate::spec::api::Spec;
use crate::spec::request::RequestSpec;
use crate::spec::stream::Stream;
use crate::yaml::Finding;

/// Streams whose listings end after the first page because nothing is declared.
pub(super) fn warnings(spec: &Spec) -> Vec<Finding> {
    if spec.defaults.paginate.is_some() {
        return Vec::new();
    }
    let silent = spec.streams.iter().filter(|(_, stream)| is_silent(stream));
    let finding = |(name, _): (&String, &Stream)| {
        let message = "nothing is said of pages: only the first page of each answer is read";
        Finding::new(&["streams", name], message)
            .with_hint("declare `paginate`, or `paginate: none` if there is but one page")
    };
    silent.map(finding).collect()
}

/// Whether a request of a stream is for a list, as far as that shows, and says nothing of pages.
fn is_silent(stream: &Stream) -> bool {
    let own = stream.own_request();
    let all =
        if stream.requests.is_empty() { vec![&own] } else { stream.requests.iter().collect() };
    let lists = |request: &RequestSpec| request.records.is_some() || own.records.is_some();
    all.into_iter()
        .any(|request| lists(request) && request.paginate.is_none() && own.paginate.is_none())
}
