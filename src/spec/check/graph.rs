//! Queues: every consumed queue is fed, and no stream waits for itself.

use crate::spec::language::api::Spec;
use crate::spec::language::request::ForEach;
use crate::spec::language::stream::Stream;
use crate::yaml::Finding;

pub(super) fn check(spec: &Spec, findings: &mut Vec<Finding>) {
    let fed: Vec<&str> =
        spec.streams.values().flat_map(|stream| stream.feeds.keys()).map(String::as_str).collect();
    for (name, stream) in &spec.streams {
        for (place, queue) in consumed(stream) {
            if !fed.contains(&queue) {
                let path: Vec<&str> = ["streams", name.as_str()]
                    .into_iter()
                    .chain(place.iter().map(String::as_str))
                    .collect();
                let message = format!("no stream feeds the queue `{queue}`");
                let mut finding = Finding::missing(&path, message, queue, fed.iter().copied());
                finding.hint.get_or_insert_with(|| {
                    format!("add `feeds: {{ {queue}: id }}` to the parent stream")
                });
                findings.push(finding);
            }
        }
    }
    for (position, name) in spec.streams.keys().enumerate() {
        let mut trail = vec![name.as_str()];
        if let Some(cycle) = cycle_from(spec, &mut trail) {
            // A cycle is reported once, at its first stream.
            let first = spec.streams.keys().position(|other| cycle.contains(&other.as_str()));
            if first == Some(position) {
                let message = format!("streams wait for each other: {}", cycle.join(" → "));
                findings.push(Finding::new(&["streams", name], message));
            }
        }
    }
}

/// Queues that a stream consumes, each with its path in the stream.
fn consumed(stream: &Stream) -> Vec<(Vec<String>, &str)> {
    let own = stream.for_each.iter().map(|for_each| (vec!["for_each".to_owned()], for_each));
    let listed = stream.requests.iter().enumerate().filter_map(|(position, request)| {
        let place = ["requests", &position.to_string(), "for_each"].map(str::to_owned).to_vec();
        request.for_each.as_ref().map(|for_each| (place, for_each))
    });
    let changes = stream.cursor.iter().flat_map(|cursor| cursor.requests.iter().enumerate());
    let changes = changes.filter_map(|(position, request)| {
        let place = ["cursor", "requests", &position.to_string(), "for_each"];
        request.for_each.as_ref().map(|one| (place.map(str::to_owned).to_vec(), one))
    });
    let routes = stream.routes.iter().flat_map(|(name, requests)| {
        requests
            .0
            .iter()
            .map(move |request| (["routes", name].map(str::to_owned).to_vec(), request))
    });
    let routes = routes.collect::<Vec<_>>();
    let routed = routes
        .iter()
        .filter_map(|(place, request)| Some((place.clone(), request.for_each.as_ref()?)));
    let queues =
        own.chain(listed).chain(changes).chain(routed).filter_map(|(mut place, for_each)| {
            match for_each {
                ForEach::Queue(items) => {
                    place.push("queue".to_owned());
                    Some((place, items.queue.as_str()))
                }
                _ => None,
            }
        });
    let requests = stream.requests.iter().map(|request| (vec!["requests".to_owned()], request));
    let changed = stream.cursor.iter().flat_map(|cursor| &cursor.requests);
    let changed = changed.map(|request| (vec!["cursor".to_owned()], request));
    let all = requests.chain(changed).chain(routes.iter().cloned());
    let parent_in = all.flat_map(|(place, request)| {
        request.parent_in.keys().map(move |queue| (place.clone(), queue.as_str()))
    });
    queues.chain(parent_in).collect()
}

/// A cycle: the streams from the last one of the trail back to its first, each of which waits for
/// the one before.
fn cycle_from<'spec>(spec: &'spec Spec, trail: &mut Vec<&'spec str>) -> Option<Vec<&'spec str>> {
    let (first, last) = (*trail.first()?, *trail.last()?);
    let feeds = &spec.streams.get(last)?.feeds;
    for (name, stream) in &spec.streams {
        let waits = consumed(stream).iter().any(|(_, queue)| feeds.contains_key(*queue));
        if !waits {
            continue;
        }
        if name == first {
            let mut cycle = trail.clone();
            cycle.push(first);
            return Some(cycle);
        }
        if !trail.contains(&name.as_str()) {
            trail.push(name);
            let cycle = cycle_from(spec, trail);
            trail.pop();
            if cycle.is_some() {
                return cycle;
            }
        }
    }
    None
}
