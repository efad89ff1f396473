//! The one task per stream that owns its rows and its progress: whatever it saves, it saves together.

use std::{sync::Arc, time::Duration};

use arrow_array::{BooleanArray, Int64Array, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    Durable,
    doubt::{AnsweredKinds, Doubt},
    marks::{Mark, NO_SLICE, markers},
    parents::{About, Read, met, touched},
    queue::{Item, Queues, Settler},
    reach,
    state::{FailedSlice, OpenItem, OpenListing, OpenSlice, Progress, StreamState, Way},
    stats::Stats,
};
use crate::error::{Error, Kind, Result};
use crate::plan::StreamPlan;
use crate::state::Change;
use crate::write::{CommitInfo, Committed, Deletable, SliceNumber, Writer};

/// Notes that may wait for the task.
const WAITING: usize = 16;
/// Batches, and bytes of memory, at which small batches are handed over as one. A batch of a few rows
/// takes far more memory than its values.
const BATCHES: usize = 64;
const BYTES: usize = 1 << 20;
/// Parents that are marked by one batch.
const MARKS: usize = 8192;
/// A slice: which one it is, and the values of its queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Slice {
    pub(super) request: usize,
    /// Its first number: a position in its queue, or its own.
    pub(super) from: u64,
    /// The number after its last.
    pub(super) to: u64,
    /// Number of its value, where it is not about values of a queue.
    pub(super) number: u64,
    /// Times it was begun anew.
    pub(super) attempt: u32,
    pub(super) items: Vec<Item>,
    /// The parents whose rows it replaces.
    pub(super) parents: Vec<String>,
    /// It is read from its start, whatever the bound: no run has read its parents' records before.
    pub(super) unbounded: bool,
}

impl Slice {
    /// Its number among all slices of the stream.
    pub(super) fn number(&self) -> SliceNumber {
        let Self { request, from, attempt, .. } = *self;
        SliceNumber { request, from, attempt, aside: false }
    }

    /// The slice as it is saved.
    fn open(&self, listings: Vec<OpenListing>) -> OpenSlice {
        let item =
            |item: &Item| OpenItem(item.value.to_string(), item.stamp, item.carried.to_string());
        let items = self.items.iter().map(item).collect();
        let Self { request, from, to, number, attempt, .. } = *self;
        OpenSlice { request, from, to, number, attempt, items, listings }
    }

    pub(super) fn is(&self, open: &OpenSlice) -> bool {
        open.request == self.request && open.from == self.from
    }
}

/// What a worker tells of its slice.
#[derive(Debug)]
pub(super) enum Note {
    /// A page was read.
    Page {
        slice: Arc<Slice>,
        batch: Option<RecordBatch>,
        /// Whether a request beside the slice's own listing brought it.
        aside: bool,
        /// Listings that have not ended; nothing: the slice is done.
        rest: Vec<OpenListing>,
        /// Greatest value of the cursor on the page.
        newest: Option<i64>,
        /// What says that rows are missing.
        gap: Option<String>,
        /// Whether nothing of the slice was left out so far.
        whole: bool,
        /// How records looked by which a later run tells whether they have changed.
        sights: Vec<Sight>,
    },
    /// Its parents have not changed: nothing was asked.
    Unchanged(Slice),
    /// It begins anew, with the listings that follow: its rows so far do not count.
    Restart { slice: Arc<Slice>, anew: Arc<Slice>, rest: Vec<OpenListing> },
    /// It was refused: its rows do not count.
    Refused(Arc<Slice>, FailedSlice),
    /// An object is gone, by what the API says: the slice itself, or something that hangs on one of its records.
    Gone { slice: Option<Arc<Slice>>, doubt: Doubt },
    /// One of its values was refused: the rows of its others count.
    Part(FailedSlice),
    /// A part of it was refused, and the stream goes on without: what says that rows are missing.
    Left(FailedSlice, String),
    /// Rows are missing.
    Gap(String),
    /// The API refuses the route.
    RouteRefused,
}

/// How a record looked.
#[derive(Debug)]
pub(super) struct Sight {
    /// Its id, with a hash of how it looked.
    pub(super) item: Item,
    /// Whether its row is not read, and the old one stays.
    pub(super) stays: bool,
    /// Whether its row is as the API has it; one that came without a part is read again the next time.
    pub(super) whole: bool,
}

/// The way to a stream's task.
pub(super) struct Loader {
    notes: mpsc::Sender<Note>,
    task: JoinHandle<(Keeper, Result<()>)>,
}

impl Loader {
    /// Starts the task.
    pub(super) fn start(keeper: Keeper) -> Self {
        let (notes, waiting) = mpsc::channel(WAITING);
        Self { notes, task: tokio::spawn(keeper.run(waiting)) }
    }

    /// The way in for notes; once the task has failed, sending fails too.
    pub(super) fn notes(&self) -> mpsc::Sender<Note> {
        self.notes.clone()
    }

    /// Waits until all notes are dealt with.
    pub(super) async fn finish(self) -> Result<(Keeper, Result<()>)> {
        drop(self.notes);
        self.task.await.map_err(|error| Error::target("the writer broke").because(error))
    }
}

/// A stream's rows and progress.
pub(super) struct Keeper {
    pub(super) plan: Arc<StreamPlan>,
    /// `None` for a feeder.
    pub(super) writer: Option<Box<dyn Writer>>,
    /// What was known of the stream before the run.
    pub(super) before: StreamState,
    pub(super) progress: Progress,
    pub(super) way: Way,
    /// Whether its slices replace their parents' rows, so that these are marked.
    pub(super) marks: bool,
    pub(super) stats: Arc<Stats>,
    pub(super) page_sizes: Arc<Vec<std::sync::atomic::AtomicU32>>,
    pub(super) queues: Arc<Queues>,
    /// Per request the hold on its queue.
    pub(super) settlers: Vec<Option<Settler>>,
    /// `None`: nothing is saved.
    pub(super) durable: Option<Durable>,
    /// Bytes of rows, and time, after which is saved.
    pub(super) interval: (usize, Duration),
    pub(super) pending: Pending,
    /// What is remembered of it, or its parents; `None`: nothing.
    pub(super) parents: Option<(About, Read)>,
    /// Column that names what is marked.
    pub(super) replaces: Option<String>,
    /// Kinds of requests that were answered.
    pub(super) answered: Arc<AnsweredKinds>,
}

/// What is not with the writer yet.
#[derive(Default)]
pub(super) struct Pending {
    batches: Vec<RecordBatch>,
    bytes: usize,
    pub(super) marks: Vec<Mark>,
    /// Bytes since the last checkpoint.
    unsaved: usize,
    /// Whether there has been a note since: otherwise there is nothing to save.
    noted: bool,
}

impl Keeper {
    async fn run(mut self, mut waiting: mpsc::Receiver<Note>) -> (Self, Result<()>) {
        let mut due = Instant::now() + self.interval.1;
        loop {
            let outcome = tokio::select! {
                biased;
                note = waiting.recv() => match note {
                    Some(note) => self.take(note).await,
                    None => break,
                },
                () = sleep_until(due), if self.durable.is_some() && self.pending.noted => {
                    due = Instant::now() + self.interval.1;
                    self.checkpoint().await
                }
            };
            let outcome = match outcome {
                Ok(()) if self.pending.unsaved >= self.interval.0 && self.durable.is_some() => {
                    due = Instant::now() + self.interval.1;
                    self.checkpoint().await
                }
                Ok(()) if Instant::now() >= due && self.durable.is_some() => {
                    due = Instant::now() + self.interval.1;
                    self.checkpoint().await
                }
                other => other,
            };
            if outcome.is_err() {
                return (self, outcome);
            }
        }
        let flushed = self.flush().await;
        (self, flushed)
    }

    async fn take(&mut self, note: Note) -> Result<()> {
        self.pending.noted = true;
        match note {
            Note::Page { slice, batch, aside, rest, newest, gap, whole, sights } => {
                if let Some(batch) = batch {
                    self.add(&batch, SliceNumber { aside, ..slice.number() })?;
                }
                for sight in sights {
                    self.see(sight, slice.number().number());
                }
                self.progress.newest = self.progress.newest.max(newest);
                self.gap(gap);
                let done = rest.is_empty();
                self.progress.open.retain(|open| !slice.is(open));
                if done {
                    self.finish(&slice, whole, whole);
                } else {
                    self.progress.open.push(slice.open(rest));
                }
            }
            Note::Unchanged(slice) => self.finish(&slice, false, true),
            Note::Restart { slice, anew, rest } => {
                self.progress.open.retain(|open| !slice.is(open));
                self.progress.void.extend(slice.number().both());
                self.progress.open.push(anew.open(rest));
            }
            Note::Refused(slice, failed) => {
                self.leave_out(&slice);
                self.refused(failed)?;
            }
            Note::Gone { slice, doubt } => {
                if let Some(slice) = &slice {
                    self.leave_out(slice);
                }
                self.gone(doubt)?;
            }
            Note::Part(failed) => self.refused(failed)?,
            Note::Left(failed, gap) => {
                self.gap(Some(gap));
                self.refused(failed)?;
            }
            Note::Gap(gap) => self.gap(Some(gap)),
            Note::RouteRefused => self.route_refused(),
        }
        if self.pending.batches.len() >= BATCHES
            || self.pending.bytes >= BYTES
            || self.pending.marks.len() >= MARKS
        {
            self.flush().await?;
        }
        Ok(())
    }

    /// Takes note of how a record looks.
    fn see(&mut self, Sight { item, stays, whole }: Sight, slice: i64) {
        if stays && self.replaces.is_some() {
            self.pending.marks.push(Mark(item.value.to_string(), false, slice));
        }
        match &mut self.parents {
            Some((About::Looks, looks)) if whole => looks.note(0, &item),
            Some((About::Touched, all)) => all.note(0, &touched(&item)),
            Some((About::Parents | About::Looks, _)) | None => {}
        }
    }

    /// Takes note that the API refuses the route.
    pub(super) fn route_refused(&mut self) {
        let name = reach::refusable(&self.plan, self.way);
        if !self.progress.refused.iter().any(|known| known == name) {
            self.progress.refused.push(name.to_owned());
        }
    }

    pub(super) fn gap(&mut self, gap: Option<String>) {
        let Some(gap) = gap.filter(|gap| !self.progress.gaps.contains(gap)) else { return };
        // The first few tell the story.
        if self.progress.gaps.len() < 10 {
            self.progress.gaps.push(gap);
        }
    }

    /// Takes note of a slice that has ended: whether its parents' rows were read anew, and whether the
    /// target then has all of them.
    pub(super) fn finish(&mut self, slice: &Slice, anew: bool, whole: bool) {
        if let Some(spans) = self.progress.finished.get_mut(slice.request) {
            spans.insert(slice.from, slice.to);
        }
        if self.marks {
            let marks = slice.parents.iter();
            self.pending.marks.extend(marks.map(|parent| Mark(parent.clone(), anew, NO_SLICE)));
        }
        for item in &slice.items {
            let progress = &mut self.progress;
            progress.newest_parent = progress.newest_parent.max(item.stamp);
            match self.parents.as_mut().filter(|_| whole) {
                Some((About::Parents, parents)) if self.plan.cursor.is_none() => {
                    parents.note(self.plan.own_number(slice.request), item);
                }
                Some((About::Parents, parents)) if anew => parents.note(0, &met(item)),
                _ => {}
            }
        }
    }

    fn add(&mut self, batch: &RecordBatch, slice: SliceNumber) -> Result<()> {
        let Some(schema) = self.schema() else { return Ok(()) };
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(Int64Array::from_value(slice.number(), batch.num_rows())));
        columns.push(Arc::new(BooleanArray::new_null(batch.num_rows())));
        let staged = RecordBatch::try_new(schema, columns)
            .map_err(|error| Error::new(Kind::Shape, "rows cannot be staged").because(error))?;
        let bytes = staged.get_array_memory_size();
        self.pending.bytes += bytes;
        self.pending.unsaved += bytes;
        self.pending.batches.push(staged);
        Ok(())
    }

    fn schema(&self) -> Option<SchemaRef> {
        self.plan.output.as_ref().map(|output| output.table.schema.staged())
    }

    /// Hands all rows and markers to the writer.
    async fn flush(&mut self) -> Result<()> {
        let (Some(schema), Some(writer)) = (self.schema(), self.writer.as_mut()) else {
            return Ok(());
        };
        let mut batches = std::mem::take(&mut self.pending.batches);
        self.pending.bytes = 0;
        let marks = std::mem::take(&mut self.pending.marks);
        if let Some(output) = self.plan.output.as_ref().filter(|_| !marks.is_empty()) {
            batches.push(markers(&schema, (output, self.replaces.as_deref()), &marks)?);
        }
        let broken = |error| Error::new(Kind::Shape, "batches do not fit together").because(error);
        match batches.as_slice() {
            [] => Ok(()),
            [one] => writer.write(one.clone()).await,
            many => writer.write(concat_batches(&schema, many).map_err(broken)?).await,
        }
    }

    /// The progress with all figures.
    fn current(&mut self) -> Progress {
        let progress = &mut self.progress;
        progress.counts = self.stats.counts();
        progress.notices = self.stats.notices();
        progress.columns = self.stats.columns();
        progress.staged = self.writer.as_ref().map_or(0, |writer| writer.staged());
        let sizes = self.page_sizes.iter();
        progress.page_sizes =
            sizes.map(|size| size.load(std::sync::atomic::Ordering::Relaxed)).collect();
        progress.clone()
    }

    /// Hands all rows over, and takes note of what the target has changed in them.
    pub(super) async fn hand_over(&mut self) -> Result<()> {
        self.flush().await?;
        let Some(writer) = self.writer.as_mut() else { return Ok(()) };
        self.stats.note_replaced(writer.replaced().await?);
        Ok(())
    }

    /// Makes all rows so far last, with the progress that brought them.
    pub(super) async fn checkpoint(&mut self) -> Result<()> {
        self.hand_over().await?;
        self.pending.unsaved = 0;
        self.pending.noted = false;
        let Some(durable) = self.durable.clone() else { return Ok(()) };
        durable.check()?;
        // The progress may name positions of queues, so that these are saved first.
        let open = self.current();
        self.queues.save(durable.store.as_ref()).await?;
        let state = StreamState { open: Some(open), ..self.before.clone() };
        let mut changes = vec![state.change(&self.plan.name)];
        changes.extend(self.parents.as_mut().and_then(|(_, read)| read.unsaved()));
        match self.writer.as_mut() {
            Some(writer) if durable.at_home => writer.checkpoint(&changes).await?,
            Some(writer) => {
                writer.checkpoint(&[]).await?;
                durable.store.save(&changes).await?;
            }
            None => durable.store.save(&changes).await?,
        }
        for (settler, finished) in self.settlers.iter().zip(&self.progress.finished) {
            if let Some(settler) = settler {
                settler.settle(finished.free(0));
            }
        }
        Ok(())
    }

    /// Makes the rows visible, with what is to be remembered of the stream.
    pub(super) async fn commit(
        mut self,
        ending: &CommitInfo,
        after: impl FnOnce(&Progress, Option<&Committed>) -> StreamState + Send,
    ) -> Result<(Option<Committed>, Progress)> {
        let at_home = self.durable.as_ref().is_some_and(|durable| durable.at_home);
        if at_home && self.writer.is_some() && self.pending.noted {
            // The commit may have to wait for those who use the table, and be given up.
            self.checkpoint().await?;
        }
        self.hand_over().await?;
        let progress = self.current();
        let Some(durable) = self.durable.clone() else {
            let committed = match self.writer.take() {
                Some(writer) => Some(writer.commit(ending, &[]).await?),
                None => None,
            };
            return Ok((committed, progress));
        };
        durable.check()?;
        self.queues.save(durable.store.as_ref()).await?;
        let name = self.plan.name.clone();
        let mut changes = match (&self.writer, durable.at_home) {
            (Some(_), false) => Vec::new(),
            _ => self.settled(ending.deletable),
        };
        let Some(mut writer) = self.writer.take() else {
            changes.push(after(&progress, None).change(&name));
            durable.store.save(&changes).await?;
            return Ok((None, progress));
        };
        if durable.at_home {
            // How many rows the commit will have found gone is not known before it.
            changes.push(after(&progress, None).change(&name));
            let committed = writer.commit(ending, &changes).await?;
            return Ok((Some(committed), progress));
        }
        let open = Progress { publishing: true, ..progress.clone() };
        let state = StreamState { open: Some(open), ..self.before.clone() };
        writer.checkpoint(&[]).await?;
        let new = self.parents.as_mut().and_then(|(_, read)| read.unsaved());
        let open = [state.change(&name)].into_iter().chain(new).collect::<Vec<_>>();
        durable.store.save(&open).await?;
        let committed = writer.commit(ending, &[]).await?;
        changes.extend(self.settled(ending.deletable));
        changes.push(after(&progress, Some(&committed)).change(&name));
        durable.store.save(&changes).await?;
        Ok((Some(committed), progress))
    }

    /// The changes by which the parents of this run, or its records, are remembered.
    pub(super) fn settled(&self, seen: Deletable) -> Vec<Change> {
        match &self.parents {
            None => Vec::new(),
            Some((About::Looks, looks)) => {
                // Where a slice is void, some of these are of rows that do not count. Of what was not seen in
                // this run, it is not known how its row looks now.
                let sound = self.progress.void.is_empty();
                let looks = if sound { looks.settled(true) } else { looks.forgotten() };
                [looks, vec![About::Touched.forgotten(&self.plan.name)]].concat()
            }
            Some((About::Touched, touched)) => touched.settled(false),
            Some((About::Parents, parents)) => parents.settled(seen == Deletable::Everything),
        }
    }

    /// Forgets all rows, and saves what is to be remembered of the stream.
    pub(super) async fn discard(mut self, after: StreamState) -> Result<()> {
        // First said, then done: what is staged without being said is forgotten when it is opened.
        if let Some(durable) = &self.durable {
            durable.check()?;
            durable.store.save(&[after.change(&self.plan.name)]).await?;
        }
        match self.writer.take() {
            Some(writer) => writer.discard().await,
            None => Ok(()),
        }
    }
}
