//! Requests of several streams about the same object, sent as one.
//!
//! Each stream keeps its own slices, progress and rows. Before one asks for an object, all streams whose
//! route has the same path say whether they want it too; then one request is sent with the parameters of
//! those that do. All of them take the objects from one queue in its order, so that the first object
//! that somebody waits for is always the next one of those that have not said yet.

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

/// Records of a list inside an answer, at most, before any was seen.
const INSIDE: u64 = 50;

/// Streams that ask for the same objects.
pub(crate) struct FusedGroup {
    members: Vec<FusedMember>,
    state: Mutex<State>,
    /// Somebody has said whether it wants an object, or is gone.
    said: Notify,
    estimate: ObjectEstimate,
    /// Whether the API refuses the request as such.
    refused: AtomicBool,
    /// Whether it has served the request.
    served: AtomicBool,
}

struct FusedMember {
    plan: Arc<StreamPlan>,
    /// Number of its request.
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
    /// Objects that somebody wants, by their position in the queue.
    wanted: BTreeMap<u64, WantedObject>,
}

#[derive(Default)]
struct MemberState {
    /// Positions of which it is known whether the stream wants the object.
    said: RangeSet,
    gone: bool,
    stats: Option<Arc<Stats>>,
}

#[derive(Default)]
struct WantedObject {
    by: Vec<usize>,
    /// Those of them who have not taken their part yet.
    waiting: Vec<usize>,
    answer: Arc<OnceCell<SharedAnswer>>,
}

/// An answer, or what was refused.
enum SharedAnswer {
    /// Per stream that wants it the part of it, until it is taken.
    Parts(Mutex<HashMap<usize, AnswerPart>>),
    Refused(RequestRefusal),
}

/// What was refused, and why.
#[derive(Clone, Debug)]
pub(crate) struct RequestRefusal {
    pub(crate) path: String,
    pub(crate) status: Option<u16>,
    pub(crate) message: String,
    /// Whether it says that the object is gone.
    pub(crate) gone: bool,
}

impl fmt::Display for RequestRefusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` was refused: ", self.path)?;
        self.status.map_or(Ok(()), |status| write!(formatter, "{status} "))?;
        formatter.write_str(&self.message)
    }
}

/// What an answer holds for one stream.
pub(crate) struct AnswerPart {
    pub(crate) page: Page,
    /// Token by which the own request goes on; `None` when the list is whole.
    pub(crate) next: Option<String>,
}

/// What comes of asking together.
pub(crate) enum FusedReply {
    AnswerPart(AnswerPart),
    /// Nobody else wants the object, or the answer does not serve: the own request is to be sent.
    Alone,
    /// The request was refused, which may be because of the object.
    Refused(RequestRefusal),
}

/// Groups the requests of a run that ask for the same objects, by stream and number of the request.
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
            said: Notify::new(),
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

/// A stream's place in a group; dropped, nobody waits for the stream any more.
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
        state.wanted.retain(|_, wanted| wanted.is_waited_for(self.number));
        drop(state);
        self.group.said.notify_waiters();
    }
}

impl WantedObject {
    /// Whether anybody but this one still waits for it.
    fn is_waited_for(&mut self, gone: usize) -> bool {
        self.waiting.retain(|number| *number != gone);
        !self.waiting.is_empty()
    }
}

impl FusedRequest {
    /// Begins: these positions are done already, and the figures go there.
    pub(crate) fn sit(&self, done: &RangeSet, stats: &Arc<Stats>) {
        if let Some(place) = self.group.state().places.get_mut(self.number) {
            place.said = done.clone();
            place.stats = Some(Arc::clone(stats));
        }
        self.group.said.notify_waiters();
    }

    /// Says whether the stream wants the object at a position.
    pub(crate) fn say(&self, position: u64, wants: bool) {
        let mut state = self.group.state();
        if let Some(place) = state.places.get_mut(self.number) {
            place.said.insert(position, position + 1);
        }
        if wants {
            let wanted = state.wanted.entry(position).or_default();
            wanted.by.push(self.number);
            wanted.waiting.push(self.number);
        }
        drop(state);
        self.group.said.notify_waiters();
    }

    /// Whether the API has refused the request as such.
    pub(crate) fn is_refused(&self) -> bool {
        self.group.refused.load(Ordering::Relaxed)
    }

    /// Takes note that the API refuses the request as such, unless it has served it before; `true` the
    /// first time.
    pub(crate) fn refuse(&self) -> bool {
        let served = self.group.served.load(Ordering::Relaxed);
        !served && !self.group.refused.swap(true, Ordering::Relaxed)
    }

    /// Waits until all have said whether they want the object, and asks for it with those that do.
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
            let said = group.said.notified();
            if let Some(all) = group.all_said(position) {
                break all;
            }
            tokio::select! {
                biased;
                () = shared.enough.cancelled() => return Err(interrupted()),
                () = said => {}
            }
        };
        if by.len() < 2 || self.is_refused() {
            return Ok(FusedReply::Alone);
        }
        let joint = answer.get_or_try_init(|| group.send(shared, &by, scope)).await?;
        let told = match joint {
            SharedAnswer::Refused(refusal) => FusedReply::Refused(refusal.clone()),
            SharedAnswer::Parts(parts) => {
                let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
                parts.remove(&self.number).map_or(FusedReply::Alone, FusedReply::AnswerPart)
            }
        };
        drop(taker);
        Ok(told)
    }
}

/// Somebody who is about to take its part; the last one takes the object off the list.
struct Taker<'fused> {
    fused: &'fused FusedRequest,
    position: u64,
}

impl Drop for Taker<'_> {
    fn drop(&mut self) {
        let mut state = self.fused.group.state();
        let wanted = state.wanted.get_mut(&self.position);
        if wanted.is_some_and(|wanted| !wanted.is_waited_for(self.fused.number)) {
            state.wanted.remove(&self.position);
        }
    }
}

impl FusedGroup {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who wants an object, once all that are there have said so.
    fn all_said(&self, position: u64) -> Option<(Vec<usize>, Arc<OnceCell<SharedAnswer>>)> {
        let state = self.state();
        let silent = |place: &MemberState| !place.gone && place.said.free(position) == position;
        if state.places.iter().any(silent) {
            return None;
        }
        let wanted = state.wanted.get(&position)?;
        let mut by = wanted.by.clone();
        by.sort_unstable();
        Some((by, Arc::clone(&wanted.answer)))
    }

    /// Asks for an object with the parameters of all who want it. The first of them bears the cost.
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
        let (stats, stream) = self.bearer(by);
        let stats = stats.unwrap_or_else(|| Arc::clone(&shared.stats));
        // What the records inside cost differs from stream to stream: they are counted in points.
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
                    // What is not there as declared is asked for by the stream itself.
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

    fn bearer(&self, by: &[usize]) -> (Option<Arc<Stats>>, Option<&str>) {
        let Some(first) = by.first() else { return (None, None) };
        let stats = self.state().places.get(*first).and_then(|place| place.stats.clone());
        (stats, self.members.get(*first).map(|member| member.plan.name.as_str()))
    }
}

/// A stream's part of an answer; `None` when the list is cut short and nothing leads on.
fn part(page: Page) -> Option<AnswerPart> {
    let [more, cursor] = page.captures.as_slice() else { return None };
    // A list that does not say whether it is whole is not taken for it.
    let more = more.as_ref().and_then(Value::as_bool)?;
    let next = cursor.as_ref().and_then(Value::as_str).map(str::to_owned);
    match (more, next) {
        (false, _) => Some(AnswerPart { page, next: None }),
        (true, next @ Some(_)) => Some(AnswerPart { page, next }),
        (true, None) => None,
    }
}

/// The query parameters of several requests, each name once: the first request that has it wins.
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
