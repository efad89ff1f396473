//! A stream's requests, compiled: templates, pagination, decoder, and the values that they are sent
//! for.

use std::sync::Arc;

use crate::decode::{Decoder, Layout, Others};
use crate::error::{Error, Result};
use crate::http::exchange::{HeaderName, Method};
use crate::http::pagination::Pager;
use crate::http::request::BodyPlan;
use crate::path::Path;
use crate::plan::requests::compiler::{Compiler, unfed};
use crate::plan::requests::iterate::Iterate;
use crate::plan::requests::queue::FeedPlan;
use crate::plan::requests::route_kind::{
    DerivePlan, FingerprintPlan, RouteKind, captures, route_kind,
};
use crate::plan::requests::templates::{body, headers, query, template};
use crate::plan::streams::columns;
use crate::plan::streams::columns::{ColumnPlan, ColumnValue};
use crate::spec::{Body, Children, Filter, ForEach, InputItems, Paginate, RequestSpec, Unknown};
use crate::template::Template;

/// Default maximum number of pages of a slice.
const MAX_PAGES: u32 = 100_000;

/// A request of a stream, compiled.
#[derive(Debug)]
pub struct RequestPlan {
    /// The values it is sent for.
    pub iterate: Iterate,
    /// Method.
    pub method: Method,
    /// Path below the base URL.
    pub path: Template,
    /// Query parameters.
    pub query: Vec<(String, Template)>,
    /// Headers.
    pub headers: Vec<(HeaderName, Template)>,
    /// Body of a `POST`.
    pub body: Option<BodyPlan>,
    /// Its pagination.
    pub pager: Pager,
    /// Maximum number of pages of a slice; more are an error.
    pub max_pages: u32,
    /// Whether a page may consist only of records from earlier pages.
    pub may_repeat: bool,
    /// Decoder of its responses: the decoded columns of the stream in their order, the captures of
    /// the pager, and the taps for `feeds` and `children`.
    pub decoder: Decoder,
    /// The queues that its records feed.
    pub feeds: Vec<FeedPlan>,
    /// Tap of the cursor's field.
    pub cursor: Option<usize>,
    /// Filter: taps of the values that a record must have, each with its required text; `None`
    /// accepts any value.
    pub filter: Vec<(usize, Option<String>)>,
    /// Sources of the columns, in the table's order; empty for a stream that only feeds.
    pub columns: Vec<ColumnValue>,
    /// Position of the column with the parent's id, if each slice replaces all rows of its parent.
    pub replaced: Option<usize>,
    /// Requests for the children of each record.
    pub children: Option<ChildrenPlan>,
    /// Queues that must contain a value of the record, each with the tap of the value.
    pub parent_in: Vec<(usize, usize)>,
    /// The values for which it is sent, if each record states its value.
    pub asked: Option<AskedPlan>,
    /// How it reads the records of a slice.
    pub kind: RouteKind,
    /// Index of the default request for the same value, which weir sends where this request cannot continue. `None`
    /// for default requests.
    pub own: Option<usize>,
    /// Rows that follow from the parent record, without a request.
    pub derive: Option<DerivePlan>,
    /// How to compute the fingerprint of a record, if one of the stream's routes fetches by id.
    pub fingerprint: Option<FingerprintPlan>,
}

impl RequestPlan {
    /// Text that identifies the listing. Two requests with the same text get the same responses if
    /// their templates have the same values.
    pub fn listing(&self) -> String {
        format!("{:?} {:?} {:?}", self.path, self.query, self.headers)
    }
}

/// Values of an input for which a request is sent.
#[derive(Clone, Debug)]
pub struct AskedPlan {
    /// Name of the input.
    pub input: String,
    /// The values.
    pub values: Vec<String>,
    /// Tap of the value to which a record belongs.
    pub tap: usize,
}

/// Requests for the children of each record, compiled.
#[derive(Debug)]
pub struct ChildrenPlan {
    /// Variables, each with the tap of its value.
    pub with: Vec<(Arc<str>, usize)>,
    /// Path below the base URL.
    pub path: Template,
    /// Query parameters.
    pub query: Vec<(String, Template)>,
    /// Their pagination.
    pub pager: Pager,
    /// Maximum number of levels below the first.
    pub max_depth: u32,
    /// Tap of a value that shows that the listing itself contains the children.
    pub unless: Option<usize>,
    /// Filter for children, in the form of `RequestPlan::filter`.
    pub filter: Vec<(usize, Option<String>)>,
}

impl Compiler<'_> {
    pub(crate) fn compile(
        &self,
        request: &RequestSpec,
        notes: &mut Vec<String>,
    ) -> Result<RequestPlan> {
        let (method, path) = match (&request.get, &request.post) {
            (Some(path), None) => (Method::GET, path.as_str()),
            (None, Some(path)) => (Method::POST, path.as_str()),
            (None, None) if request.derive.is_some() => (Method::GET, ""),
            _ => return Err(Error::input("a request needs exactly one of `get` and `post`")),
        };
        let json = method == Method::POST && matches!(request.body, Some(Body::Json(_)));
        let pager = pager(request, json)?;
        let mut taps = Vec::new();
        let mut tap = |text: &str| -> Result<usize> {
            taps.push(Path::parse(text).map_err(Error::from_path)?);
            Ok(taps.len() - 1)
        };
        let mut feeds = Vec::new();
        for (queue, feed) in &self.stream.feeds {
            if let Some(number) = self.queue(queue) {
                let value = tap(feed.value())?;
                let filter = feed.filter().into_iter().flat_map(Filter::all);
                let filter = filter.map(|(path, text)| Ok((tap(path)?, text.map(str::to_owned))));
                let filter = filter.collect::<Result<_>>()?;
                let carried = self.queues.get(number).map_or(&[][..], |queue| &queue.carried);
                let carried = carried.iter().map(|path| tap(path)).collect::<Result<_>>()?;
                feeds.push(FeedPlan { queue: number, tap: value, filter, carried });
            }
        }
        let mut parent_in = Vec::new();
        for (queue, path) in &request.parent_in {
            let number = self.queue(queue).ok_or_else(|| unfed(queue))?;
            parent_in.push((number, tap(path)?));
        }
        let filter = request.filter.iter().flat_map(Filter::all);
        let filter = filter.map(|(path, text)| Ok((tap(path)?, text.map(str::to_owned))));
        let filter = filter.collect::<Result<_>>()?;
        let cursor = self.cursor_path(request).as_deref().map(&mut tap).transpose()?;
        let asked = match &request.for_each {
            Some(ForEach::Input(InputItems { input, found_at: Some(path), .. })) => {
                let list = self.scope.get(input).unwrap_or_default();
                let values = list.try_iter().into_iter().flatten().map(|value| value.to_string());
                Some(AskedPlan { input: input.clone(), values: values.collect(), tap: tap(path)? })
            }
            _ => None,
        };
        let columns = self.sources(request)?;
        let version = self.fetch.map(|fetch| tap(&fetch.version)).transpose()?;
        let fingerprint = version.and_then(|version| self.fingerprint(version, &columns));
        let children = match &request.children {
            Some(children) => Some(children_plan(children, request, &mut taps)?),
            None => None,
        };
        Ok(RequestPlan {
            iterate: self.iterate(request, notes)?,
            method,
            path: template(path)?,
            query: query(&request.query)?,
            headers: headers(&request.headers)?,
            body: request.body.as_ref().map(body).transpose()?,
            max_pages: request.max_pages.unwrap_or(MAX_PAGES),
            may_repeat: request.may_repeat.unwrap_or_default(),
            decoder: self.decoder(request, &columns, &pager, taps)?,
            pager,
            feeds,
            cursor,
            filter,
            replaced: self.replaced(),
            columns,
            children,
            parent_in,
            asked,
            kind: route_kind(request)?,
            own: None,
            derive: self.derive(request)?,
            fingerprint,
        })
    }

    pub(crate) fn queue(&self, name: &str) -> Option<usize> {
        self.queues.iter().position(|queue| queue.name == name)
    }

    /// Position of the column with the parent's id, if each slice replaces all rows of its parent.
    fn replaced(&self) -> Option<usize> {
        let name = self.stream.replaces.as_ref()?;
        self.columns?.iter().position(|plan| plan.column.name == *name)
    }

    /// Path of the cursor's field in a record.
    fn cursor_path(&self, request: &RequestSpec) -> Option<String> {
        let field = &self.stream.cursor.as_ref()?.field;
        let column = request.columns.get(field).or_else(|| self.stream.columns.get(field))?;
        match &column.from {
            None => Some(field.clone()),
            Some(from) => from.0.first().filter(|text| !text.contains("{{")).cloned(),
        }
    }

    /// Sources of the columns in this request.
    fn sources(&self, request: &RequestSpec) -> Result<Vec<ColumnValue>> {
        let columns = self.columns.unwrap_or_default().iter();
        let source = |plan: &ColumnPlan| {
            let name = &plan.column.name;
            match request.columns.get(name) {
                Some(other) => columns::source(name, other, plan.column.kind),
                None => Ok(plan.value.clone()),
            }
        };
        columns.map(source).collect()
    }

    fn decoder(
        &self,
        request: &RequestSpec,
        columns: &[ColumnValue],
        pager: &Pager,
        taps: Vec<Path>,
    ) -> Result<Decoder> {
        let parse = |text: &String| Path::parse(text).map_err(Error::from_path);
        let columns = columns.iter().filter_map(|column| match column {
            ColumnValue::Decoded(source) => Some(source.clone()),
            _ => None,
        });
        // A declared column that is not selected does not count as an undeclared field.
        let unselected = self.stream.columns.iter().filter(|(name, _)| {
            !self.columns.unwrap_or_default().iter().any(|column| column.column.name == **name)
        });
        let mut ignore: Vec<Path> = self.ignore.iter().map(parse).collect::<Result<_>>()?;
        for (name, column) in unselected {
            let texts = column.from.as_ref().map(|from| from.0.clone());
            for text in texts.unwrap_or_else(|| vec![name.clone()]) {
                if !text.contains("{{") && !text.starts_with('^') {
                    ignore.push(parse(&text)?);
                }
            }
        }
        let layout = Layout {
            records: parse(request.records.as_ref().unwrap_or(&String::new()))?,
            paged: pager.is_paged(),
            null_is_none: request.null_means_none.unwrap_or_default(),
            columns: columns.collect(),
            taps,
            captures: captures(request, pager)?,
            others: match request.unknown {
                Some(Unknown::Ignore) => Others::Drop,
                Some(Unknown::Fail) => Others::Refuse,
                Some(Unknown::Keep) | None => self.others,
            },
            ignore,
        };
        Decoder::new(layout)
            .map_err(|error| Error::input("the columns cannot be compiled").because(error))
    }
}

/// The pagination of a request. A response about one object has one page.
fn pager(request: &RequestSpec, in_body: bool) -> Result<Pager> {
    let (paginate, size) = match &request.embedded {
        Some(_) => (Some(Paginate::None), None),
        None => (request.paginate.clone(), request.page_size.clone()),
    };
    Pager::new(paginate, size, in_body).map_err(Error::from_path)
}

fn children_plan(
    children: &Children,
    request: &RequestSpec,
    taps: &mut Vec<Path>,
) -> Result<ChildrenPlan> {
    let mut with = Vec::new();
    for (variable, path) in &children.with {
        with.push((Arc::from(variable.as_str()), taps.len()));
        taps.push(Path::parse(path).map_err(Error::from_path)?);
    }
    let unless = children.unless.as_deref().map(Path::parse).transpose();
    let unless = unless.map_err(Error::from_path)?.map(|path| {
        taps.push(path);
        taps.len() - 1
    });
    let mut filter = Vec::new();
    for (path, text) in
        children.filter.as_ref().or(request.filter.as_ref()).iter().flat_map(|all| all.all())
    {
        filter.push((taps.len(), text.map(str::to_owned)));
        taps.push(Path::parse(path).map_err(Error::from_path)?);
    }
    Ok(ChildrenPlan {
        unless,
        filter,
        with,
        path: template(&children.get)?,
        query: query(children.query.as_ref().unwrap_or(&request.query))?,
        pager: pager(request, false)?,
        max_depth: children.max_depth,
    })
}
