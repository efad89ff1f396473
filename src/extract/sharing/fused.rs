//! Requests of several streams for the same object, sent as one.
//!
//! Each stream keeps its own slices, progress and rows. Before a stream requests an object, all streams whose route has
//! the same path announce whether they need the object. Then one request is sent with the parameters of those that do.
//! All streams take the objects from one queue in its order. So streams that have not announced yet reach the object
//! that others wait for next, and no stream waits forever.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;
use tokio::sync::OnceCell;

use crate::decode::Page;
use crate::error::Result;
use crate::extract::context::StreamContext;
use crate::extract::sharing::group::{Group, GroupState, Membership, decode_for, groups};
use crate::http::answer::{Answer, FailedRequest};
use crate::http::call::{Call, Need};
use crate::http::exchange::Request;
use crate::http::request::{add_headers, unfilled, url_of};
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

/// The state of streams that request the same objects.
pub(crate) struct FusedState {
    /// Per member the positions for which it has announced whether it needs the object; `None` once it has left.
    announced: Vec<Option<RangeSet>>,
    /// Objects that members need, by their position in the queue.
    wanted: BTreeMap<u64, WantedObject>,
    estimate: Arc<ObjectEstimate>,
    /// Whether the API refuses the request, whatever the object.
    refused: bool,
    /// Whether the API has answered the request.
    served: bool,
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

/// A stream's membership in a group that requests the same objects.
pub(crate) type FusedRequest = Membership<FusedState>;

/// Groups the requests of a run for the same objects, by stream and index of the request.
pub(crate) fn fused_requests(
    plans: &[(Arc<StreamPlan>, ReadPlan)],
) -> HashMap<(String, usize), FusedRequest> {
    let key = |_: &StreamPlan, request: &RequestPlan| {
        let Iterate::Queue { queue, .. } = request.iterate else { return None };
        Some((queue, request.kind.embedded()?.path.clone()))
    };
    groups(plans, key, |members| {
        let most = members.iter().map(|one| INSIDE * one.plan.cost.object).sum();
        FusedState {
            announced: vec![Some(RangeSet::default()); members.len()],
            wanted: BTreeMap::new(),
            estimate: Arc::new(ObjectEstimate::guessed(most)),
            refused: false,
            served: false,
        }
    })
}

impl GroupState for FusedState {
    fn leave(&mut self, number: usize) {
        if let Some(announced) = self.announced.get_mut(number) {
            *announced = None;
        }
        self.wanted.retain(|_, wanted| wanted.is_awaited_without(number));
    }
}

impl WantedObject {
    /// Removes a member. Returns whether other members wait for the object.
    fn is_awaited_without(&mut self, gone: usize) -> bool {
        self.waiting.retain(|number| *number != gone);
        !self.waiting.is_empty()
    }
}

impl FusedState {
    /// The members that need an object, once all have announced.
    fn all_announced(&self, position: u64) -> Option<(Vec<usize>, Arc<OnceCell<SharedAnswer>>)> {
        let mut announced = self.announced.iter().flatten();
        if announced.any(|announced| announced.free(position) == position) {
            return None;
        }
        let wanted = self.wanted.get(&position)?;
        let mut by = wanted.by.clone();
        by.sort_unstable();
        Some((by, Arc::clone(&wanted.answer)))
    }
}

impl FusedRequest {
    /// Joins the group. `done`: positions that are finished. `stats`: counters of the stream.
    pub(crate) fn join(&self, done: &RangeSet, stats: &Arc<Stats>) {
        self.set_stats(stats);
        self.group.change(|state| {
            if let Some(announced) = state.announced.get_mut(self.number) {
                *announced = Some(done.clone());
            }
        });
    }

    /// Announces whether the stream needs the object at a position.
    pub(crate) fn announce(&self, position: u64, wants: bool) {
        self.group.change(|state| {
            if let Some(Some(announced)) = state.announced.get_mut(self.number) {
                announced.insert(position, position + 1);
            }
            if wants {
                let wanted = state.wanted.entry(position).or_default();
                wanted.by.push(self.number);
                wanted.waiting.push(self.number);
            }
        });
    }

    /// Whether the API has refused the request, whatever the object.
    pub(crate) fn is_refused(&self) -> bool {
        self.group.state().refused
    }

    /// Records that the API refuses the request, unless it has answered one before. Returns `true` the first time.
    pub(crate) fn refuse(&self) -> bool {
        let mut state = self.group.state();
        !state.served && !std::mem::replace(&mut state.refused, true)
    }

    /// Waits until all members have announced whether they need the object, and requests it with those that do.
    pub(crate) async fn ask(
        &self,
        shared: &StreamContext,
        position: u64,
        scope: &Arc<Scope>,
    ) -> Result<FusedReply> {
        if self.is_refused() {
            return Ok(FusedReply::Alone);
        }
        let taker = Taker { fused: self, position };
        let (by, answer) = self.group.wait(shared, |state| state.all_announced(position)).await?;
        if by.len() < 2 || self.is_refused() {
            return Ok(FusedReply::Alone);
        }
        let answer = answer.get_or_try_init(|| self.group.send(shared, &by, scope)).await?;
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

impl Group<FusedState> {
    /// Requests an object with the parameters of all members that need it. The first of them is charged.
    async fn send(
        &self,
        shared: &StreamContext,
        by: &[usize],
        scope: &Arc<Scope>,
    ) -> Result<SharedAnswer> {
        let members = self.members(by);
        let Some((_, first)) = members.first() else {
            unreachable!("a request is shared by two members or more")
        };
        let client = &shared.env.client;
        let path = first.request().path.render_path(scope).map_err(|error| unfilled(&error))?;
        let query = joint_query(members.iter().map(|(_, member)| member.request()));
        let url = url_of(&client.access.base_url, &path, &query, scope)?;
        let build = || {
            let mut request = Request::get(url.clone());
            add_headers(&mut request, &first.request().headers, scope)?;
            Ok(request)
        };
        let stats = self.stats(&members).unwrap_or_else(|| Arc::clone(&shared.stats));
        // The cost of embedded records differs between streams, so that the estimate counts points instead of objects.
        let own = shared.plan.cost;
        let cost =
            PointRates { base: own.base + own.carrier, object: own.carrier.min(1), carrier: 0 };
        let estimate = Arc::clone(&self.state().estimate);
        let call = Call {
            stream: &first.plan.name,
            stats: &stats,
            rules: &shared.plan.rules,
            child: true,
            need: Need::Tentative,
            leaves: true,
            shared: true,
            price: RequestCost { cost, estimate: &estimate, page: None },
            build: &build,
            shrink: &|| false,
            narrow: &|| false,
        };
        let answer = client.ask(&call, |response| {
            let (mut parts, mut weight) = (HashMap::new(), 0);
            for (number, member, page) in decode_for(&members, response)? {
                weight += member.plan.cost.object * u64::try_from(page.rows).unwrap_or(0);
                parts.extend(part(page).map(|part| (number, part)));
            }
            Ok((parts, weight))
        });
        Ok(match answer.await? {
            Answer::Read(parts) => {
                self.state().served = true;
                SharedAnswer::Parts(Mutex::new(parts))
            }
            Answer::Given { then, url, status, message, .. } => {
                let gone = then == Then::Gone && self.state().served;
                let path = url.path().to_owned();
                SharedAnswer::Refused(RequestRefusal { path, status, message, gone })
            }
            Answer::Failed(failed) => {
                let FailedRequest { url, status, message, .. } = *failed;
                let path = url.path().to_owned();
                SharedAnswer::Refused(RequestRefusal { path, status, message, gone: false })
            }
        })
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
