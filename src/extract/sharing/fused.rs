//! Requests of several streams for the same object, sent as one.
//!
//! Each stream keeps its own slices, progress and rows. Before a stream requests an object, all streams whose route has
//! the same path announce whether they need the object. Then one request is sent with the parameters of those that do.
//! All streams take the objects from one queue in its order. So streams that have not announced yet reach the object
//! that others wait for next, and no stream waits forever.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;
use tokio::sync::{Notify, OnceCell};

use crate::decode::{DecodeError, Page};
use crate::error::Result;
use crate::extract::context::StreamContext;
use crate::http::answer::{Answer, FailedRequest};
use crate::http::call::{Call, Need};
use crate::http::client::interrupted;
use crate::http::exchange::Request;
use crate::http::request::{add_headers, url_of};
use crate::plan::{Iterate, RequestPlan, StreamPlan};
use crate::planner::read_plan::ReadPlan;
use crate::progress::ranges::RangeSet;
use crate::quota::cost::PointRates;
use crate::quota::request_cost::{ObjectEstimate, RequestCost};
use crate::report::counters::Stats;
use crate::spec::Then;
use crate::template::{Scope, Template};

/// Assumed maximum number of records of an embedded list before the first response.
const INSIDE: u64 = 50;

/// Streams that request the same objects.
pub(crate) struct FusedGroup {
    members: Vec<FusedMember>,
    state: Mutex<State>,
    /// Notified when a member announces something or leaves.
    announced: Notify,
    estimate: ObjectEstimate,
    /// Whether the API refuses the request, whatever the object.
    refused: AtomicBool,
    /// Whether the API has answered the request.
    served: AtomicBool,
}

struct FusedMember {
    plan: Arc<StreamPlan>,
    /// Index of its request.
    request: usize,
}

impl FusedMember {
    fn request(&self) -> Option<&RequestPlan> {
        self.plan.requests.get(self.request)
    }
}

#[derive(Default)]
struct State {
    places: Vec<MemberState>,
    /// Objects that members need, by their position in the queue.
    wanted: BTreeMap<u64, WantedObject>,
}

#[derive(Default)]
struct MemberState {
    /// Positions for which the member has announced whether it needs the object.
    announced: RangeSet,
    gone: bool,
    stats: Option<Arc<Stats>>,
}

#[derive(Default)]
struct WantedObject {
    by: Vec<usize>,
    /// Members that have not taken their part yet.
    waiting: Vec<usize>,
    answer: Arc<OnceCell<SharedAnswer>>,
}

/// The response to a shared request, or its refusal.
enum SharedAnswer {
    /// Per member its part, until the member takes it.
    Parts(Mutex<HashMap<usize, AnswerPart>>),
    Refused(RequestRefusal),
}

/// A refused request, and the reason.
#[derive(Clone, Debug)]
pub(crate) struct RequestRefusal {
    pub(crate) path: String,
    pub(crate) status: Option<u16>,
    pub(crate) message: String,
    /// Whether the API reports that the object does not exist.
    pub(crate) gone: bool,
}

impl fmt::Display for RequestRefusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` was refused: ", self.path)?;
        self.status.map_or(Ok(()), |status| write!(formatter, "{status} "))?;
        formatter.write_str(&self.message)
    }
}

/// A member's part of a response.
pub(crate) struct AnswerPart {
    pub(crate) page: Page,
    /// Token with which the default request continues; `None` if the list is complete.
    pub(crate) next: Option<String>,
}

/// Result of a shared request.
pub(crate) enum FusedReply {
    AnswerPart(AnswerPart),
    /// No other stream needs the object, or the response lacks the member's part. The stream sends its default request.
    Alone,
    /// The API refused the request, perhaps because of the object.
    Refused(RequestRefusal),
}

/// Groups the requests of a run for the same objects, by stream and index of the request.
pub(crate) fn fused_requests(
    plans: &[(Arc<StreamPlan>, ReadPlan)],
) -> HashMap<(String, usize), FusedRequest> {
    let mut groups: BTreeMap<(usize, String), Vec<FusedMember>> = BTreeMap::new();
    for (plan, read_plan) in plans {
        for (request, one) in read_plan.active(plan) {
            if let (Some(embedded), Iterate::Queue { queue, .. }) =
                (one.kind.embedded(), &one.iterate)
            {
                let members = groups.entry((*queue, embedded.path.clone())).or_default();
                members.push(FusedMember { plan: Arc::clone(plan), request });
            }
        }
    }
    let mut fused_requests = HashMap::new();
    for members in groups.into_values() {
        let names: Vec<(String, usize)> =
            members.iter().map(|one| (one.plan.name.clone(), one.request)).collect();
        let places = members.iter().map(|_| MemberState::default()).collect();
        let most = members.iter().map(|one| INSIDE * one.plan.cost.object).sum();
        let group = Arc::new(FusedGroup {
            members,
            state: Mutex::new(State { places, ..State::default() }),
            announced: Notify::new(),
            estimate: ObjectEstimate::guessed(most),
            refused: AtomicBool::new(false),
            served: AtomicBool::new(false),
        });
        for (number, name) in names.into_iter().enumerate() {
            fused_requests.insert(name, FusedRequest { group: Arc::clone(&group), number });
        }
    }
    fused_requests
}

/// A stream's membership in a group. Once it is dropped, the group no longer waits for the stream.
pub(crate) struct FusedRequest {
    group: Arc<FusedGroup>,
    number: usize,
}

impl Drop for FusedRequest {
    fn drop(&mut self) {
        let mut state = self.group.state();
        if let Some(place) = state.places.get_mut(self.number) {
            place.gone = true;
        }
        state.wanted.retain(|_, wanted| wanted.is_awaited_without(self.number));
        drop(state);
        self.group.announced.notify_waiters();
    }
}

impl WantedObject {
    /// Removes a member. Returns whether other members wait for the object.
    fn is_awaited_without(&mut self, gone: usize) -> bool {
        self.waiting.retain(|number| *number != gone);
        !self.waiting.is_empty()
    }
}

impl FusedRequest {
    /// Joins the group. `done`: positions that are finished. `stats`: counters of the stream.
    pub(crate) fn join(&self, done: &RangeSet, stats: &Arc<Stats>) {
        if let Some(place) = self.group.state().places.get_mut(self.number) {
            place.announced = done.clone();
            place.stats = Some(Arc::clone(stats));
        }
        self.group.announced.notify_waiters();
    }

    /// Announces whether the stream needs the object at a position.
    pub(crate) fn announce(&self, position: u64, wants: bool) {
        let mut state = self.group.state();
        if let Some(place) = state.places.get_mut(self.number) {
            place.announced.insert(position, position + 1);
        }
        if wants {
            let wanted = state.wanted.entry(position).or_default();
            wanted.by.push(self.number);
            wanted.waiting.push(self.number);
        }
        drop(state);
        self.group.announced.notify_waiters();
    }

    /// Whether the API has refused the request as such.
    pub(crate) fn is_refused(&self) -> bool {
        self.group.refused.load(Ordering::Relaxed)
    }

    /// Records that the API refuses the request, unless it has answered one before. Returns `true` the first time.
    pub(crate) fn refuse(&self) -> bool {
        let served = self.group.served.load(Ordering::Relaxed);
        !served && !self.group.refused.swap(true, Ordering::Relaxed)
    }

    /// Waits until all members have announced whether they need the object, and requests it with those that do.
    pub(crate) async fn ask(
        &self,
        shared: &StreamContext,
        position: u64,
        scope: &Arc<Scope>,
    ) -> Result<FusedReply> {
        let group = &self.group;
        if self.is_refused() {
            return Ok(FusedReply::Alone);
        }
        let taker = Taker { fused: self, position };
        let (by, answer) = loop {
            let announced = group.announced.notified();
            if let Some(all) = group.all_announced(position) {
                break all;
            }
            tokio::select! {
                biased;
                () = shared.enough.cancelled() => return Err(interrupted()),
                () = announced => {}
            }
        };
        if by.len() < 2 || self.is_refused() {
            return Ok(FusedReply::Alone);
        }
        let answer = answer.get_or_try_init(|| group.send(shared, &by, scope)).await?;
        let reply = match answer {
            SharedAnswer::Refused(refusal) => FusedReply::Refused(refusal.clone()),
            SharedAnswer::Parts(parts) => {
                let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
                parts.remove(&self.number).map_or(FusedReply::Alone, FusedReply::AnswerPart)
            }
        };
        drop(taker);
        Ok(reply)
    }
}

/// A member that is about to take its part. The last one removes the object.
struct Taker<'fused> {
    fused: &'fused FusedRequest,
    position: u64,
}

impl Drop for Taker<'_> {
    fn drop(&mut self) {
        let mut state = self.fused.group.state();
        let wanted = state.wanted.get_mut(&self.position);
        if wanted.is_some_and(|wanted| !wanted.is_awaited_without(self.fused.number)) {
            state.wanted.remove(&self.position);
        }
    }
}

impl FusedGroup {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The members that need an object, once all have announced.
    fn all_announced(&self, position: u64) -> Option<(Vec<usize>, Arc<OnceCell<SharedAnswer>>)> {
        let state = self.state();
        let silent =
            |place: &MemberState| !place.gone && place.announced.free(position) == position;
        if state.places.iter().any(silent) {
            return None;
        }
        let wanted = state.wanted.get(&position)?;
        let mut by = wanted.by.clone();
        by.sort_unstable();
        Some((by, Arc::clone(&wanted.answer)))
    }

    /// Requests an object with the parameters of all members that need it. The first of them is charged.
    async fn send(
        &self,
        shared: &StreamContext,
        by: &[usize],
        scope: &Arc<Scope>,
    ) -> Result<SharedAnswer> {
        let members: Vec<(usize, &FusedMember)> =
            by.iter().filter_map(|number| Some((*number, self.members.get(*number)?))).collect();
        let first = members.first().and_then(|(_, member)| member.request());
        let Some(first) = first else { return Ok(SharedAnswer::Parts(Mutex::default())) };
        let client = &shared.env.client;
        let path = first.path.render_path(scope).map_err(|e| crate::http::request::unfilled(&e))?;
        let query = joint_query(members.iter().filter_map(|(_, member)| member.request()));
        let url = url_of(&client.access.base_url, &path, &query, scope)?;
        let build = || {
            let mut request = Request::get(url.clone());
            add_headers(&mut request, &first.headers, scope)?;
            Ok(request)
        };
        let (stats, stream) = self.payer(by);
        let stats = stats.unwrap_or_else(|| Arc::clone(&shared.stats));
        // The cost of embedded records differs between streams, so that the estimate counts points instead of objects.
        let own = shared.plan.cost;
        let cost =
            PointRates { base: own.base + own.carrier, object: own.carrier.min(1), carrier: 0 };
        let call = Call {
            stream: stream.unwrap_or(&shared.plan.name),
            stats: &stats,
            rules: &shared.plan.rules,
            child: true,
            need: Need::Tentative,
            leaves: true,
            shared: true,
            price: RequestCost { cost, estimate: &self.estimate, page: None },
            build: &build,
            shrink: &|| false,
            narrow: &|| false,
        };
        let answer = client.ask(&call, |response| {
            let (mut parts, mut weight) = (HashMap::new(), 0);
            for (number, member) in &members {
                let Some(request) = member.request() else { continue };
                match request.decoder.decode(response.json()) {
                    Ok(page) => {
                        weight += member.plan.cost.object * u64::try_from(page.rows).unwrap_or(0);
                        if let Some(part) = part(page) {
                            parts.insert(*number, part);
                        }
                    }
                    Err(error @ (DecodeError::Malformed(_) | DecodeError::NotJson(_))) => {
                        return Err(error);
                    }
                    // A stream whose list is missing in the response sends its default request.
                    Err(DecodeError::Shape(why)) => tracing::debug!(%url, why, "not embedded"),
                }
            }
            Ok((parts, weight))
        });
        Ok(match answer.await? {
            Answer::Read(parts) => {
                self.served.store(true, Ordering::Relaxed);
                SharedAnswer::Parts(Mutex::new(parts))
            }
            Answer::Given { then, url, status, message, .. } => {
                let gone = then == Then::Gone && self.served.load(Ordering::Relaxed);
                SharedAnswer::Refused(RequestRefusal {
                    path: url.path().to_owned(),
                    status,
                    message,
                    gone,
                })
            }
            Answer::Failed(failed) => {
                let FailedRequest { url, status, message, .. } = *failed;
                SharedAnswer::Refused(RequestRefusal {
                    path: url.path().to_owned(),
                    status,
                    message,
                    gone: false,
                })
            }
        })
    }

    fn payer(&self, by: &[usize]) -> (Option<Arc<Stats>>, Option<&str>) {
        let Some(first) = by.first() else { return (None, None) };
        let stats = self.state().places.get(*first).and_then(|place| place.stats.clone());
        (stats, self.members.get(*first).map(|member| member.plan.name.as_str()))
    }
}

/// A member's part of a response; `None` if the list is truncated and the response has no token for the rest.
fn part(page: Page) -> Option<AnswerPart> {
    let [more, cursor] = page.captures.as_slice() else { return None };
    // A list counts as complete only if the response says so.
    let more = more.as_ref().and_then(Value::as_bool)?;
    let next = cursor.as_ref().and_then(Value::as_str).map(str::to_owned);
    match (more, next) {
        (false, _) => Some(AnswerPart { page, next: None }),
        (true, next @ Some(_)) => Some(AnswerPart { page, next }),
        (true, None) => None,
    }
}

/// The query parameters of several requests. If several have the same name, the first one counts.
fn joint_query<'plan>(
    requests: impl Iterator<Item = &'plan RequestPlan>,
) -> Vec<(String, Template)> {
    let mut query: Vec<(String, Template)> = Vec::new();
    for (name, value) in requests.flat_map(|request| &request.query) {
        if !query.iter().any(|(other, _)| other == name) {
            query.push((name.clone(), value.clone()));
        }
    }
    query
}
