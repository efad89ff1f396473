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
use crate::extract::context::Shared;
use crate::http::answer::{Answer, FailedRequest};
use crate::http::call::{Call, Need};
use crate::http::client::interrupted;
use crate::http::exchange::Request;
use crate::http::request::{add_headers, url_of};
use crate::plan::{Iterate, RequestPlan, StreamPlan};
use crate::progress::ranges::RangeSet;
use crate::progress::saved::Way;
use crate::quota::cost::PointRates;
use crate::quota::request_cost::{ObjectEstimate, RequestCost};
use crate::report::counters::Stats;
use crate::spec::Then;
use crate::template::Scope;

/// Records of a list inside an answer, at most, before any was seen.
const INSIDE: u64 = 50;

/// Streams that ask for the same objects.
pub(crate) struct Group {
    members: Vec<Member>,
    state: Mutex<State>,
    /// Somebody has said whether it wants an object, or is gone.
    said: Notify,
    estimate: ObjectEstimate,
    /// Whether the API refuses the request as such.
    refused: AtomicBool,
    /// Whether it has served the request.
    served: AtomicBool,
}

struct Member {
    plan: Arc<StreamPlan>,
    /// Number of its request.
    request: usize,
}

impl Member {
    fn request(&self) -> Option<&RequestPlan> {
        self.plan.requests.get(self.request)
    }
}

#[derive(Default)]
struct State {
    places: Vec<Place>,
    /// Objects that somebody wants, by their position in the queue.
    wanted: BTreeMap<u64, Wanted>,
}

#[derive(Default)]
struct Place {
    /// Positions of which it is known whether the stream wants the object.
    said: RangeSet,
    gone: bool,
    stats: Option<Arc<Stats>>,
}

#[derive(Default)]
struct Wanted {
    by: Vec<usize>,
    /// Those of them who have not taken their part yet.
    waiting: Vec<usize>,
    answer: Arc<OnceCell<Joint>>,
}

/// An answer, or what was refused.
enum Joint {
    /// Per stream that wants it the part of it, until it is taken.
    Parts(Mutex<HashMap<usize, Part>>),
    Refused(Refusal),
}

/// What was refused, and why.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) path: String,
    pub(crate) status: Option<u16>,
    pub(crate) message: String,
    /// Whether it says that the object is gone.
    pub(crate) gone: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` was refused: ", self.path)?;
        self.status.map_or(Ok(()), |status| write!(formatter, "{status} "))?;
        formatter.write_str(&self.message)
    }
}

/// What an answer holds for one stream.
pub(crate) struct Part {
    pub(crate) page: Page,
    /// Token by which the own request goes on; `None` when the list is whole.
    pub(crate) next: Option<String>,
}

/// What comes of asking together.
pub(crate) enum Told {
    Part(Part),
    /// Nobody else wants the object, or the answer does not serve: the own request is to be sent.
    Alone,
    /// The request was refused, which may be because of the object.
    Refused(Refusal),
}

/// The groups of a run, and the seat of each stream's request in them.
pub(crate) fn seats(plans: &[(Arc<StreamPlan>, Way)]) -> HashMap<(String, usize), Seat> {
    let mut groups: BTreeMap<(usize, String), Vec<Member>> = BTreeMap::new();
    for (plan, way) in plans {
        for (request, one) in crate::planner::read_plan::active(plan, *way) {
            if let (Some(embedded), Iterate::Queue { queue, .. }) =
                (&one.routed.embedded, &one.iterate)
            {
                let members = groups.entry((*queue, embedded.path.clone())).or_default();
                members.push(Member { plan: Arc::clone(plan), request });
            }
        }
    }
    let mut seats = HashMap::new();
    for members in groups.into_values() {
        let names: Vec<(String, usize)> =
            members.iter().map(|one| (one.plan.name.clone(), one.request)).collect();
        let places = members.iter().map(|_| Place::default()).collect();
        let most = members.iter().map(|one| INSIDE * one.plan.cost.object).sum();
        let group = Arc::new(Group {
            members,
            state: Mutex::new(State { places, ..State::default() }),
            said: Notify::new(),
            estimate: ObjectEstimate::guessed(most),
            refused: AtomicBool::new(false),
            served: AtomicBool::new(false),
        });
        for (number, name) in names.into_iter().enumerate() {
            seats.insert(name, Seat { group: Arc::clone(&group), number });
        }
    }
    seats
}

/// A stream's place in a group; dropped, nobody waits for the stream any more.
pub(crate) struct Seat {
    group: Arc<Group>,
    number: usize,
}

impl Drop for Seat {
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

impl Wanted {
    /// Whether anybody but this one still waits for it.
    fn is_waited_for(&mut self, gone: usize) -> bool {
        self.waiting.retain(|number| *number != gone);
        !self.waiting.is_empty()
    }
}

impl Seat {
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
        shared: &Shared,
        position: u64,
        scope: &Arc<Scope>,
    ) -> Result<Told> {
        let group = &self.group;
        if self.is_refused() {
            return Ok(Told::Alone);
        }
        let taker = Taker { seat: self, position };
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
            return Ok(Told::Alone);
        }
        let joint = answer.get_or_try_init(|| group.send(shared, &by, scope)).await?;
        let told = match joint {
            Joint::Refused(refusal) => Told::Refused(refusal.clone()),
            Joint::Parts(parts) => {
                let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
                parts.remove(&self.number).map_or(Told::Alone, Told::Part)
            }
        };
        drop(taker);
        Ok(told)
    }
}

/// Somebody who is about to take its part; the last one takes the object off the list.
struct Taker<'seat> {
    seat: &'seat Seat,
    position: u64,
}

impl Drop for Taker<'_> {
    fn drop(&mut self) {
        let mut state = self.seat.group.state();
        let wanted = state.wanted.get_mut(&self.position);
        if wanted.is_some_and(|wanted| !wanted.is_waited_for(self.seat.number)) {
            state.wanted.remove(&self.position);
        }
    }
}

impl Group {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who wants an object, once all that are there have said so.
    fn all_said(&self, position: u64) -> Option<(Vec<usize>, Arc<OnceCell<Joint>>)> {
        let state = self.state();
        let silent = |place: &Place| !place.gone && place.said.free(position) == position;
        if state.places.iter().any(silent) {
            return None;
        }
        let wanted = state.wanted.get(&position)?;
        let mut by = wanted.by.clone();
        by.sort_unstable();
        Some((by, Arc::clone(&wanted.answer)))
    }

    /// Asks for an object with the parameters of all who want it. The first of them bears the cost.
    async fn send(&self, shared: &Shared, by: &[usize], scope: &Arc<Scope>) -> Result<Joint> {
        let members: Vec<(usize, &Member)> =
            by.iter().filter_map(|number| Some((*number, self.members.get(*number)?))).collect();
        let first = members.first().and_then(|(_, member)| member.request());
        let Some(first) = first else { return Ok(Joint::Parts(Mutex::default())) };
        let client = &shared.env.client;
        let path = first.path.render_path(scope).map_err(|e| crate::http::request::unfilled(&e))?;
        let mut query = Vec::new();
        for request in members.iter().filter_map(|(_, member)| member.request()) {
            for (name, value) in &request.query {
                if !query.iter().any(|(other, _)| other == name) {
                    query.push((name.clone(), value.clone()));
                }
            }
        }
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
                Joint::Parts(Mutex::new(parts))
            }
            Answer::Given { then, url, status, message, .. } => {
                let gone = then == Then::Gone && self.served.load(Ordering::Relaxed);
                Joint::Refused(Refusal { path: url.path().to_owned(), status, message, gone })
            }
            Answer::Failed(failed) => {
                let FailedRequest { url, status, message, .. } = *failed;
                Joint::Refused(Refusal {
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
fn part(page: Page) -> Option<Part> {
    let [more, cursor] = page.captures.as_slice() else { return None };
    // A list that does not say whether it is whole is not taken for it.
    let more = more.as_ref().and_then(Value::as_bool)?;
    let next = cursor.as_ref().and_then(Value::as_str).map(str::to_owned);
    match (more, next) {
        (false, _) => Some(Part { page, next: None }),
        (true, next @ Some(_)) => Some(Part { page, next }),
        (true, None) => None,
    }
}
