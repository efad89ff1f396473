//! The loader of a stream: the task that owns its rows and its progress, and saves both together.

use std::{sync::Arc, time::Duration};

use arrow_array::{BooleanArray, Int64Array, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::error::{Error, Kind, Result};
use crate::extract::answered_kinds::AnsweredKinds;
use crate::extract::messages::{SeenRecord, Slice, SliceEvent};
use crate::plan::StreamPlan;
use crate::planner::read_plan::ReadPlan;
use crate::progress::saved::{Progress, StreamState};
use crate::progress::session::StateSession;
use crate::progress::versions::{VersionKind, VersionLog, met, touched};
use crate::queue::{Queues, Settler};
use crate::report::counters::Stats;
use crate::run::markers::{Marker, NO_SLICE, markers};
use crate::state::Change;
use crate::write::{CommitInfo, Committed, Deletable, SliceNumber, Writer};

/// Capacity of the channel of events.
const WAITING: usize = 16;
/// Number of small batches, and bytes of memory, at which the loader merges them and passes them to the writer. A
/// batch of a few rows takes far more memory than its values.
const BATCHES: usize = 64;
const BYTES: usize = 1 << 20;
/// Maximum number of markers per batch.
const MARKS: usize = 8192;
/// Handle of a loader's task.
pub(crate) struct LoaderHandle {
    notes: mpsc::Sender<SliceEvent>,
    task: JoinHandle<(Loader, Result<()>)>,
}

impl LoaderHandle {
    /// Starts the task.
    pub(crate) fn start(loader: Loader) -> Self {
        let (notes, waiting) = mpsc::channel(WAITING);
        Self { notes, task: tokio::spawn(loader.run(waiting)) }
    }

    /// Sender of events. Sending fails once the task has failed.
    pub(crate) fn notes(&self) -> mpsc::Sender<SliceEvent> {
        self.notes.clone()
    }

    /// Waits until the task has processed all events.
    pub(crate) async fn finish(self) -> Result<(Loader, Result<()>)> {
        drop(self.notes);
        self.task
            .await
            .map_err(|error| Error::target("the task of the writer panicked").because(error))
    }
}

/// A stream's rows and progress.
pub(crate) struct Loader {
    pub(crate) plan: Arc<StreamPlan>,
    /// `None` for a feeder.
    pub(crate) writer: Option<Box<dyn Writer>>,
    /// Saved state of the stream before the run.
    pub(crate) before: StreamState,
    pub(crate) progress: Progress,
    pub(crate) read_plan: ReadPlan,
    /// Whether its slices replace all rows of their parents, so that the parents are marked.
    pub(crate) marks: bool,
    pub(crate) stats: Arc<Stats>,
    pub(crate) page_sizes: Arc<Vec<std::sync::atomic::AtomicU32>>,
    pub(crate) queues: Arc<Queues>,
    /// By request, settles the values of its queue that are finished.
    pub(crate) settlers: Vec<Option<Settler>>,
    /// `None` if the run saves no state.
    pub(crate) durable: Option<StateSession>,
    /// Bytes of rows, and time, between checkpoints.
    pub(crate) interval: (usize, Duration),
    pub(crate) pending: PendingRows,
    /// The versions to save, of its records or its parents.
    pub(crate) parents: Option<(VersionKind, VersionLog)>,
    /// Name of the marked column.
    pub(crate) replaces: Option<String>,
    /// Kinds of requests that the API has answered.
    pub(crate) answered: Arc<AnsweredKinds>,
}

/// Rows and markers that the writer does not have yet.
#[derive(Default)]
pub(crate) struct PendingRows {
    batches: Vec<RecordBatch>,
    bytes: usize,
    pub(crate) marks: Vec<Marker>,
    /// Bytes since the last checkpoint.
    unsaved: usize,
    /// Whether an event has arrived since the last checkpoint.
    noted: bool,
}

impl Loader {
    async fn run(mut self, mut waiting: mpsc::Receiver<SliceEvent>) -> (Self, Result<()>) {
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

    async fn take(&mut self, note: SliceEvent) -> Result<()> {
        self.pending.noted = true;
        match note {
            SliceEvent::Page { slice, batch, aside, rest, newest, gap, whole, seen } => {
                if let Some(batch) = batch {
                    self.add(&batch, SliceNumber { aside, ..slice.number() })?;
                }
                for sight in seen {
                    self.note_record(sight, slice.number().number());
                }
                self.progress.newest = self.progress.newest.max(newest);
                self.note_gap(gap);
                let done = rest.is_empty();
                self.progress.open.retain(|open| !slice.is(open));
                if done {
                    self.finish(&slice, whole, whole);
                } else {
                    self.progress.open.push(slice.open(rest));
                }
            }
            SliceEvent::Unchanged(slice) => self.finish(&slice, false, true),
            SliceEvent::Restart { slice, restarted, rest } => {
                self.progress.open.retain(|open| !slice.is(open));
                self.progress.discarded_slices.extend(slice.number().both());
                self.progress.open.push(restarted.open(rest));
            }
            SliceEvent::Refused(slice, refused) => {
                self.leave_out(&slice);
                self.note_refused(refused)?;
            }
            SliceEvent::Gone { slice, doubt } => {
                if let Some(slice) = &slice {
                    self.leave_out(slice);
                }
                self.note_gone(doubt)?;
            }
            SliceEvent::Part(refused) => self.note_refused(refused)?,
            SliceEvent::Left(refused, gap) => {
                self.note_gap(Some(gap));
                self.note_refused(refused)?;
            }
            SliceEvent::Gap(gap) => self.note_gap(Some(gap)),
            SliceEvent::RouteRefused => self.route_refused(),
        }
        if self.pending.batches.len() >= BATCHES
            || self.pending.bytes >= BYTES
            || self.pending.marks.len() >= MARKS
        {
            self.flush().await?;
        }
        Ok(())
    }

    /// Records the fingerprint of a record.
    fn note_record(&mut self, SeenRecord { item, stays, whole }: SeenRecord, slice: i64) {
        if stays && self.replaces.is_some() {
            self.pending.marks.push(Marker { value: item.value.to_string(), read: false, slice });
        }
        match &mut self.parents {
            Some((VersionKind::Fingerprints, fingerprints)) if whole => fingerprints.note(0, &item),
            Some((VersionKind::Overwritten, all)) => all.note(0, &touched(&item)),
            Some((VersionKind::Parents | VersionKind::Fingerprints, _)) | None => {}
        }
    }

    /// Records that the API refuses the route.
    pub(crate) fn route_refused(&mut self) {
        let name = self.read_plan.refusal_name(&self.plan);
        if !self.progress.refused_routes.iter().any(|known| known == name) {
            self.progress.refused_routes.push(name.to_owned());
        }
    }

    pub(crate) fn note_gap(&mut self, gap: Option<String>) {
        let Some(gap) = gap.filter(|gap| !self.progress.gaps.contains(gap)) else { return };
        // The first few are enough for the report.
        if self.progress.gaps.len() < 10 {
            self.progress.gaps.push(gap);
        }
    }

    /// Records a finished slice. `read`: the run has read its rows. `whole`: none of them is missing.
    pub(crate) fn finish(&mut self, slice: &Slice, read: bool, whole: bool) {
        if let Some(ranges) = self.progress.finished.get_mut(slice.request) {
            ranges.insert(slice.from, slice.to);
        }
        if self.marks {
            self.pending.marks.extend(slice.parents.iter().map(|parent| Marker {
                value: parent.clone(),
                read,
                slice: NO_SLICE,
            }));
        }
        for item in &slice.items {
            let progress = &mut self.progress;
            progress.newest_parent = progress.newest_parent.max(item.stamp);
            match self.parents.as_mut().filter(|_| whole) {
                Some((VersionKind::Parents, parents)) if self.plan.cursor.is_none() => {
                    parents.note(self.plan.own_number(slice.request), item);
                }
                Some((VersionKind::Parents, parents)) if read => parents.note(0, &met(item)),
                _ => {}
            }
        }
    }

    fn add(&mut self, batch: &RecordBatch, slice: SliceNumber) -> Result<()> {
        let Some(schema) = self.schema() else {
            unreachable!("only a stream with an output has rows")
        };
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

    /// Passes all rows and markers to the writer.
    async fn flush(&mut self) -> Result<()> {
        let (Some(schema), Some(writer)) = (self.schema(), self.writer.as_mut()) else {
            return Ok(());
        };
        let mut batches = std::mem::take(&mut self.pending.batches);
        self.pending.bytes = 0;
        let marks = std::mem::take(&mut self.pending.marks);
        if let Some(output) = self.plan.output.as_ref().filter(|_| !marks.is_empty()) {
            batches.push(markers(&schema, output, self.replaces.as_deref(), &marks)?);
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

    /// Passes all rows to the writer, and counts the values that the target had to replace.
    pub(crate) async fn hand_over(&mut self) -> Result<()> {
        self.flush().await?;
        let Some(writer) = self.writer.as_mut() else { return Ok(()) };
        self.stats.note_replaced(writer.replaced().await?);
        Ok(())
    }

    /// Saves all rows so far, together with the progress.
    pub(crate) async fn checkpoint(&mut self) -> Result<()> {
        self.hand_over().await?;
        self.pending.unsaved = 0;
        self.pending.noted = false;
        let Some(durable) = self.durable.clone() else { return Ok(()) };
        durable.check()?;
        // The progress refers to positions in queues, so the queues are saved first.
        let open = self.current();
        self.queues.save(durable.store.as_ref()).await?;
        let state = StreamState { open: Some(open), ..self.before.clone() };
        let mut changes = vec![state.change(&self.plan.name)];
        changes.extend(self.parents.as_mut().and_then(|(_, read)| read.unsaved()));
        match self.writer.as_mut() {
            Some(writer) if durable.in_target => writer.checkpoint(&changes).await?,
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

    /// Makes the rows visible, and saves the new state of the stream.
    pub(crate) async fn commit(
        mut self,
        ending: &CommitInfo,
        after: impl FnOnce(&Progress, Option<&Committed>) -> StreamState + Send,
    ) -> Result<(Option<Committed>, Progress)> {
        let in_target = self.durable.as_ref().is_some_and(|durable| durable.in_target);
        if in_target && self.writer.is_some() && self.pending.noted {
            // The commit may wait for other users of the table, and may fail.
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
        let mut changes = match (&self.writer, durable.in_target) {
            (Some(_), false) => Vec::new(),
            _ => self.settled(ending.deletable),
        };
        let Some(mut writer) = self.writer.take() else {
            changes.push(after(&progress, None).change(&name));
            durable.store.save(&changes).await?;
            return Ok((None, progress));
        };
        if durable.in_target {
            // The number of deleted rows is unknown before the commit, so the saved report lacks it.
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

    /// The changes that save the versions of this run's parents or records.
    pub(crate) fn settled(&self, seen: Deletable) -> Vec<Change> {
        match &self.parents {
            None => Vec::new(),
            Some((VersionKind::Fingerprints, fingerprints)) => {
                // A discarded slice makes some of these fingerprints invalid. Fingerprints of records that this
                // run has not seen may be outdated.
                let sound = self.progress.discarded_slices.is_empty();
                let fingerprints =
                    if sound { fingerprints.settled(true) } else { fingerprints.forgotten() };
                [fingerprints, vec![VersionKind::Overwritten.forgotten(&self.plan.name)]].concat()
            }
            Some((VersionKind::Overwritten, touched)) => touched.settled(false),
            Some((VersionKind::Parents, parents)) => parents.settled(seen == Deletable::Everything),
        }
    }

    /// Discards all rows, and saves the new state of the stream.
    pub(crate) async fn discard(mut self, after: StreamState) -> Result<()> {
        // The state is saved first: a target that opens a table discards staged rows without a state.
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
