//! One slice: its pages one after the other, and the children of its records.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    Env,
    client::{Answer, Call},
    keys::KeySet,
    queue::Feeder,
    rows::{RowBuilder, without_known},
    stats::Stats,
};
use crate::decode::Page;
use crate::error::{Error, Kind, Result};
use crate::fetch::{HeaderName, HeaderValue, Method, Request, Url, header};
use crate::paginate::{LoopGuard, Position, Seen};
use crate::plan::{BodyPlan, Iterate, Output, RequestPlan, StreamPlan};
use crate::report::{Event, SliceError};
use crate::spec::Then;
use crate::template::{Scope, Template, TemplateError, Value};

/// What the workers of a stream share.
pub(super) struct Shared {
    pub(super) env: Arc<Env>,
    pub(super) plan: Arc<StreamPlan>,
    pub(super) stats: Stats,
    /// Per queue of the plan the feeder, where this stream feeds it.
    pub(super) feeders: Vec<Option<Feeder>>,
    pub(super) rows: Option<RowBuilder>,
    pub(super) batches: Option<mpsc::Sender<RecordBatch>>,
    /// Rows that may still be taken.
    pub(super) allowance: Mutex<Option<u64>>,
    /// Per request the page size asked for now; 0 where the API takes none.
    pub(super) page_sizes: Vec<AtomicU32>,
    /// No more slices are taken once it is cancelled.
    pub(super) enough: tokio_util::sync::CancellationToken,
    pub(super) errors: Mutex<Vec<SliceError>>,
}

/// One listing inside a slice: the slice's own, or the children of one record.
struct Listing<'plan> {
    scope: Arc<Scope>,
    path: &'plan Template,
    query: &'plan [(String, Template)],
    at: Position,
    depth: u32,
    guard: Option<LoopGuard>,
}

/// A page, decoded, and where the next one is.
struct Fetched {
    page: Page,
    next: Option<Position>,
}

/// Runs one slice to its end. Refused slices are recorded and count as run.
pub(super) async fn run(shared: &Shared, number: usize, scope: Scope) -> Result<()> {
    let Some(request) = shared.plan.requests.get(number) else { return Ok(()) };
    let slice = scope.describe();
    let scope = Arc::new(scope);
    let mut open = vec![Listing {
        scope,
        path: &request.path,
        query: &request.query,
        at: Position::First,
        depth: 0,
        guard: None,
    }];
    let mut known = None;
    while let Some(mut listing) = open.pop() {
        if shared.enough.is_cancelled() {
            return Ok(());
        }
        match fetch(shared, number, request, &listing).await? {
            Answer::Read(Fetched { page, next }) => {
                let rows = u64::try_from(page.rows).unwrap_or(u64::MAX);
                let whole = next.is_none() && listing.depth == 0 && known.is_none();
                if let Some(next) = &next {
                    let guard =
                        listing.guard.get_or_insert_with(|| LoopGuard::new(request.max_pages));
                    guard.check(next, rows)?;
                }
                let children = children(request, &listing, &page)?;
                deliver(shared, request, &listing.scope, page, (!whole).then_some(&mut known))
                    .await?;
                if let Some(at) = next {
                    open.push(Listing { at, ..listing });
                }
                open.extend(children);
            }
            Answer::Given { then: Then::Empty, .. } => {}
            Answer::Given { then: Then::StopStream, url, status, message } => {
                record(
                    shared,
                    SliceError {
                        stream: String::new(),
                        slice,
                        url: url.to_string(),
                        status,
                        message,
                    },
                );
                shared.enough.cancel();
                return Ok(());
            }
            Answer::Given { then, url, status, message } => {
                let error = SliceError {
                    stream: String::new(),
                    slice: slice.clone(),
                    url: url.to_string(),
                    status,
                    message,
                };
                record(shared, error);
                let size = shared.page_sizes.get(number).map(|size| size.load(Ordering::Relaxed));
                let after = request.pager.position_after_unread(&listing.at, size);
                let Some(at) = after.filter(|_| then == Then::SkipPage) else {
                    shared.stats.skipped.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                };
                listing
                    .guard
                    .get_or_insert_with(|| LoopGuard::new(request.max_pages))
                    .check(&at, 0)?;
                open.push(Listing { at, ..listing });
            }
        }
    }
    shared.stats.done.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn record(shared: &Shared, error: SliceError) {
    let error = SliceError { stream: shared.plan.name.clone(), ..error };
    shared.stats.incomplete.store(true, Ordering::Relaxed);
    shared.env.client.reporter.report(&Event::SliceSkipped { error: error.clone() });
    shared.errors.lock().unwrap_or_else(PoisonError::into_inner).push(error);
}

/// Fetches and decodes one page.
async fn fetch(
    shared: &Shared,
    number: usize,
    request: &RequestPlan,
    listing: &Listing<'_>,
) -> Result<Answer<Fetched>> {
    let first = first_url(&shared.env.client.access.base_url, listing)?;
    let size = shared.page_sizes.get(number);
    let current = || size.map(|size| size.load(Ordering::Relaxed)).filter(|size| *size > 0);
    let build = || {
        let url = request.pager.url(&first, &listing.at, current());
        assemble(request, listing, url)
    };
    let shrink = || {
        let smaller = current().and_then(|size| request.pager.smaller_page(size));
        if let (Some(slot), Some(smaller)) = (size, smaller) {
            slot.store(smaller, Ordering::Relaxed);
        }
        smaller.is_some()
    };
    let call = Call {
        stream: &shared.plan.name,
        stats: &shared.stats,
        rules: &shared.plan.rules,
        child: !matches!(request.iterate, Iterate::Once),
        build: &build,
        shrink: &shrink,
    };
    let answer = shared
        .env
        .client
        .ask(&call, |response| {
            let page = request.decoder.decode(&response.body)?;
            Ok((page, response.headers.clone()))
        })
        .await?;
    let (page, headers) = match answer {
        Answer::Read(read) => read,
        Answer::Given { then, url, status, message } => {
            return Ok(Answer::Given { then, url, status, message });
        }
    };
    let url = request.pager.url(&first, &listing.at, current());
    let rows = u64::try_from(page.rows).unwrap_or(u64::MAX);
    let seen = Seen { url: &url, headers: &headers, captures: &page.captures, rows };
    let next = request.pager.next(&listing.at, &seen)?;
    Ok(Answer::Read(Fetched { page, next }))
}

/// The listings of the children of each record on a page.
fn children<'plan>(
    request: &'plan RequestPlan,
    listing: &Listing<'_>,
    page: &Page,
) -> Result<Vec<Listing<'plan>>> {
    let Some(descend) = &request.descend else { return Ok(Vec::new()) };
    if page.rows > 0 && listing.depth >= descend.max_depth {
        let what = format!("records are nested deeper than {} levels", descend.max_depth);
        return Err(
            Error::new(Kind::Shape, what).with_hint("raise `descend.max_depth` in the spec")
        );
    }
    let mut children = Vec::with_capacity(page.rows);
    // The last one pushed is the first one asked for.
    for row in (0..page.rows).rev() {
        let mut scope = listing.scope.as_ref().clone();
        for (variable, tap) in &descend.with {
            let values = page.taps.get(*tap).filter(|values| values.is_valid(row));
            let value = values.map(|values| values.value(row)).ok_or_else(|| {
                Error::new(
                    Kind::Shape,
                    format!("a record lacks `{variable}`, which its children need"),
                )
            })?;
            scope = scope.with(Arc::clone(variable), Value::from(value));
        }
        children.push(Listing {
            scope: Arc::new(scope),
            path: &descend.path,
            query: &descend.query,
            at: Position::First,
            depth: listing.depth + 1,
            guard: None,
        });
    }
    Ok(children)
}

/// Hands a page's rows to the writer and its values to the queues. `known` holds the keys of the
/// slice so far; it is absent when the page is the whole slice.
async fn deliver(
    shared: &Shared,
    request: &RequestPlan,
    scope: &Arc<Scope>,
    page: Page,
    known: Option<&mut Option<KeySet>>,
) -> Result<()> {
    let stats = &shared.stats;
    let allowed = allowance(shared, page.rows);
    if let (Some(output), Some(rows), Some(batches)) =
        (&shared.plan.output, &shared.rows, &shared.batches)
    {
        if let Some(path) = page.first_misfit.as_ref().filter(|_| output.strict) {
            let what = format!("a value at `{path}` does not fit its column, and `strict` is set");
            return Err(Error::new(Kind::Shape, what));
        }
        stats.misfits.fetch_add(page.misfits, Ordering::Relaxed);
        let mut batch = rows.build(output, &page, scope)?.slice(0, allowed);
        check_key(output, &batch, &page)?;
        if let Some(known) = known.filter(|_| !output.key.is_empty()) {
            let known = known.get_or_insert_with(KeySet::default);
            let (fresh, dropped) = without_known(batch, &output.key, known);
            Stats::add(&stats.duplicates, dropped);
            batch = fresh;
        }
        Stats::add(&stats.rows, batch.num_rows());
        if batch.num_rows() > 0 && batches.send(batch).await.is_err() {
            return Err(Error::target("the writer has stopped"));
        }
    } else {
        Stats::add(&stats.rows, allowed);
    }
    let bytes = stats.bytes.load(Ordering::Relaxed);
    shared.env.client.reporter.report(&Event::Page {
        stream: shared.plan.name.clone(),
        rows: u64::try_from(allowed).unwrap_or(u64::MAX),
        bytes,
    });
    for (tap, queue) in &request.feeds {
        let (Some(Some(feeder)), Some(values)) = (shared.feeders.get(*queue), page.taps.get(*tap))
        else {
            continue;
        };
        let values = values.iter().take(allowed).flatten();
        tokio::select! {
            biased;
            () = shared.env.client.cancel.cancelled() => return Err(super::client::interrupted()),
            () = feeder.push(values) => {}
        }
    }
    Ok(())
}

/// A row without its key could be told from no other.
fn check_key(output: &Output, batch: &RecordBatch, page: &Page) -> Result<()> {
    let gap = output.key.iter().find(|position| batch.column(**position).null_count() > 0);
    let Some(column) = gap.and_then(|position| output.columns.get(*position)) else {
        return Ok(());
    };
    let name = &column.column.name;
    let what = format!("a row has no value in `{name}`, a column of the key");
    let hint = match &page.first_misfit {
        Some(path) => format!(
            "the value at `{path}` is no {}; give the column another type",
            column.column.kind
        ),
        None => format!("the API left `{name}` out, or the spec's path for it is wrong"),
    };
    Err(Error::new(Kind::Shape, what).with_hint(hint))
}

/// How many of a page's rows may be taken; ends the stream when the limit is reached.
fn allowance(shared: &Shared, rows: usize) -> usize {
    let mut left = shared.allowance.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(rest) = left.as_mut() else { return rows };
    let taken = rows.min(usize::try_from(*rest).unwrap_or(usize::MAX));
    *rest -= u64::try_from(taken).unwrap_or(*rest);
    if *rest == 0 {
        shared.stats.incomplete.store(true, Ordering::Relaxed);
        shared.enough.cancel();
    }
    taken
}

fn first_url(base_url: &str, listing: &Listing<'_>) -> Result<Url> {
    let path = listing.path.render_path(&listing.scope).map_err(|error| unfilled(&error))?;
    url_of(base_url, &path, listing.query, &listing.scope)
}

/// A URL below the base URL; parameters whose value is empty are left out.
pub(super) fn url_of(
    base_url: &str,
    path: &str,
    query: &[(String, Template)],
    scope: &Arc<Scope>,
) -> Result<Url> {
    let separator = if path.starts_with('/') { "" } else { "/" };
    let mut url = Url::parse(&format!("{base_url}{separator}{path}"))
        .map_err(|error| Error::input(format!("`{path}` makes no URL")).because(error))?;
    for (name, template) in query {
        let value = template.render(scope).map_err(|error| unfilled(&error))?;
        if !value.is_empty() {
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
    Ok(url)
}

fn assemble(request: &RequestPlan, listing: &Listing<'_>, url: Url) -> Result<Request> {
    let mut assembled = Request::get(url);
    // A record's children are listed by `GET`, whatever the slice's own request is.
    if listing.depth == 0 {
        assembled.method = request.method.clone();
        add_body(&mut assembled, request.body.as_ref(), &listing.scope)?;
        if assembled.method == Method::POST
            && let Some((field, token)) = request.pager.body_field(&listing.at)
        {
            set_body_field(&mut assembled, field, token);
        }
    }
    add_headers(&mut assembled, &request.headers, &listing.scope)?;
    Ok(assembled)
}

pub(super) fn add_headers(
    request: &mut Request,
    headers: &[(HeaderName, Template)],
    scope: &Arc<Scope>,
) -> Result<()> {
    for (name, template) in headers {
        let value = template.render(scope).map_err(|error| unfilled(&error))?;
        let value = HeaderValue::try_from(value)
            .map_err(|_| Error::input(format!("the value of the header `{name}` is not one")))?;
        request.headers.insert(name.clone(), value);
    }
    Ok(())
}

pub(super) fn add_body(
    request: &mut Request,
    body: Option<&BodyPlan>,
    scope: &Arc<Scope>,
) -> Result<()> {
    let (kind, text) = match body {
        None => return Ok(()),
        Some(BodyPlan::Json(value)) => ("application/json", filled(value, scope)?.to_string()),
        Some(BodyPlan::Form(fields)) => {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            for (name, template) in fields {
                let value = template.render(scope).map_err(|error| unfilled(&error))?;
                form.append_pair(name, &value);
            }
            ("application/x-www-form-urlencoded", form.finish())
        }
    };
    request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    request.body = Some(Bytes::from(text));
    Ok(())
}

/// A JSON value whose texts are filled in; a text that is one expression becomes its value.
fn filled(value: &serde_json::Value, scope: &Arc<Scope>) -> Result<serde_json::Value> {
    use serde_json::Value as Json;
    Ok(match value {
        Json::String(text) => {
            let value = Template::parse(text).and_then(|template| template.eval(scope));
            let value = value.map_err(|error| unfilled(&error))?;
            serde_json::to_value(&value)
                .map_err(|error| Error::input("a value makes no JSON").because(error))?
        }
        Json::Array(items) => {
            items.iter().map(|item| filled(item, scope)).collect::<Result<Vec<_>>>()?.into()
        }
        Json::Object(fields) => {
            let fields =
                fields.iter().map(|(name, field)| Ok((name.clone(), filled(field, scope)?)));
            Json::Object(fields.collect::<Result<_>>()?)
        }
        other => other.clone(),
    })
}

fn set_body_field(request: &mut Request, field: &str, token: &str) {
    let body = request.body.as_deref().and_then(|body| serde_json::from_slice(body).ok());
    let mut body: serde_json::Value = body.unwrap_or_else(|| serde_json::json!({}));
    if let Some(fields) = body.as_object_mut() {
        fields.insert(field.to_owned(), token.into());
    }
    request.body = Some(Bytes::from(body.to_string()));
}

pub(super) fn unfilled(error: &TemplateError) -> Error {
    Error::input(format!("a template cannot be filled in: {error}"))
}
