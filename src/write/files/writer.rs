//! The rows of one object: staged until their commit, then merged with the existing rows and published.

use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;

use crate::error::Result;
use crate::schema::Column;
use crate::state::Change;
use crate::write::duplicate_keys::check_strict;
use crate::write::files::destination::{Destination, FoundFile};
use crate::write::files::location::Location;
use crate::write::files::object::Object;
use crate::write::files::output::EncodedOutput;
use crate::write::files::owner::OwnerRecord;
use crate::write::files::state::location::StateLocation;
use crate::write::formats::codec::Encoding;
use crate::write::formats::codec_of;
use crate::write::formats::memory_limit::MemoryLimit;
use crate::write::formats::settings::Settings;
use crate::write::staging::merge::Merge;
use crate::write::staging::rows::StagedRows;
use crate::write::table::{Disposition, Table};
use crate::write::target::{CommitInfo, Committed, Writer};

/// Stages the rows of one table; encodes and publishes them at commit.
pub(crate) struct FilesWriter {
    pub(crate) table: Table,
    pub(crate) object: Object,
    pub(crate) settings: Settings,
    pub(crate) memory: Arc<MemoryLimit>,
    pub(crate) location: Location,
    pub(crate) destination: Destination,
    pub(crate) state: StateLocation,
    pub(crate) staged: StagedRows,
}

impl FilesWriter {
    /// The files that a merge reads.
    async fn existing_files(&self) -> Result<Vec<FoundFile>> {
        if self.table.disposition != Disposition::Merge {
            return Ok(Vec::new());
        }
        self.destination.existing_files(&self.table, &self.object).await
    }

    /// The columns of the first existing file that the table does not have.
    async fn other_columns(&self, files: &[FoundFile]) -> Result<Vec<Column>> {
        match files.first() {
            Some(first) => {
                codec_of(self.object.format).other_columns(&first.load().await?, &self.table.schema)
            }
            None => Ok(Vec::new()),
        }
    }

    /// Finds out before any row is staged whether a commit could merge into the existing files.
    pub(crate) async fn check_existing(&self) -> Result<()> {
        let files = self.existing_files().await?;
        let Some(first) = files.first() else { return Ok(()) };
        let file = first.load().await?;
        let codec = codec_of(self.object.format);
        let mut schema = self.table.schema.clone();
        schema.columns.extend(codec.other_columns(&file, &self.table.schema)?);
        // The first batch shows whether the types fit.
        codec.read(&file, &schema)?.next().map(drop)
    }

    /// Encodes the new content, unseen; what the commit will report, except for the path.
    async fn build(&self, info: &CommitInfo) -> Result<(EncodedOutput, Committed)> {
        let files = self.existing_files().await?;
        let others = self.other_columns(&files).await?;
        let merge = Merge::new(&self.table, others, info, &self.staged);
        let mut output = self.output(&merge).await?;
        let lost = merge.lost().await?;
        let notices = lost.counts.notices(lost.example.clone(), &self.table.stream);
        check_strict(self.table.strict, &notices)?;
        let (repeated, object) = (lost.counts.repeated, self.table.object.clone());
        let mut built = Committed { object, rows: 0, deleted: 0, repeated, notices };
        if self.table.disposition != Disposition::Merge {
            let (mut staged, mut lost) = (self.staged.batches(), lost.cursor());
            while let Some((batch, first)) = staged.next().await? {
                output.write(&merge.last_per_key(&batch, first, &mut lost)?).await?;
            }
            built.rows = output.rows();
            return Ok((output, built));
        }
        let parents = merge.parents().await?;
        for pass in 0..merge.passes() {
            let mut keys = merge.keys(pass, &lost).await?;
            built.rows += keys.count();
            for found in &files {
                let file = found.load().await?;
                let mut existing = codec_of(self.object.format).read(&file, merge.schema())?;
                while let Some(batch) = existing.next()? {
                    let (rows, gone) = merge.surviving_rows(&batch, &mut keys, &parents)?;
                    built.deleted += gone;
                    output.write(&rows).await?;
                }
            }
            let (mut staged, mut lost) = (self.staged.batches(), lost.cursor());
            while let Some((batch, first)) = staged.next().await? {
                output.write(&merge.new_rows(&batch, first, &keys, &mut lost)?).await?;
            }
        }
        Ok((output, built))
    }

    async fn output(&self, merge: &Merge<'_>) -> Result<EncodedOutput> {
        let encoding = Encoding::new(merge.schema(), self.settings, Arc::clone(&self.memory));
        let sink = self.destination.sink(&self.table, &self.object).await?;
        let codec = codec_of(self.object.format);
        EncodedOutput::new(codec, encoding, sink, self.settings.max_file_bytes)
    }
}

#[async_trait]
impl Writer for FilesWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.staged.append(batch).await
    }

    async fn replaced(&mut self) -> Result<Vec<(String, u64)>> {
        Ok(Vec::new())
    }

    fn staged(&self) -> u64 {
        self.staged.count()
    }

    async fn checkpoint(&mut self, state: &[Change]) -> Result<()> {
        self.staged.sync().await?;
        self.state.store().save(state).await
    }

    async fn missing(&mut self, info: &CommitInfo, most: usize) -> Result<Option<Vec<String>>> {
        self.staged.sync().await?;
        let files = self.existing_files().await?;
        let others = self.other_columns(&files).await?;
        let merge = Merge::new(&self.table, others, info, &self.staged);
        let (lost, parents) = (merge.lost().await?, merge.parents().await?);
        let mut missing = Vec::new();
        for pass in 0..merge.passes() {
            let keys = merge.keys(pass, &lost).await?;
            for found in &files {
                let file = found.load().await?;
                let mut existing = codec_of(self.object.format).read(&file, merge.schema())?;
                while let Some(batch) = existing.next()? {
                    missing.extend(merge.missing(&batch, &keys, &parents)?);
                    if missing.len() > most {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(missing))
    }

    async fn commit(mut self: Box<Self>, info: &CommitInfo, state: &[Change]) -> Result<Committed> {
        self.staged.sync().await?;
        let (output, mut committed) = self.build(info).await?;
        // The merge may have taken so long that a lease on the replication has expired.
        self.state.check_lock()?;
        let record = OwnerRecord::new(&self.location, &self.object.path);
        let owner = record.announce(&self.table, output.rows()).await?;
        committed.object = output.publish().await?;
        record.save(owner).await?;
        // When this process dies here, the next one finds the rows still staged and publishes them once more.
        self.state.store().save(state).await?;
        let Self { staged, .. } = *self;
        staged.remove().await?;
        Ok(committed)
    }

    async fn discard(self: Box<Self>) -> Result<()> {
        let Self { staged, .. } = *self;
        staged.remove().await
    }
}
