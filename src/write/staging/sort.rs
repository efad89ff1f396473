//! Records of a fixed size, sorted in bounded memory: beyond a limit, sorted sequences go to a file.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};
use crate::write::storage::disk;

/// Number of records in memory: 24 MB of the largest ones.
const MAX_PENDING: usize = 250_000;
/// Number of records of a sequence that are read at once while sequences are merged.
const READ: usize = 1024;

/// A record that can be sorted.
pub(crate) trait SortRecord: Copy + Ord {
    /// Its size in a file, in bytes.
    const BYTES: usize;

    /// Appends its bytes.
    fn put(&self, out: &mut Vec<u8>);

    /// The record at the start of these bytes; `None` when there are too few of them.
    fn get(bytes: &[u8]) -> Option<Self>;
}

impl SortRecord for u64 {
    const BYTES: usize = 8;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn get(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_le_bytes(bytes.first_chunk().copied()?))
    }
}

/// Takes records in any order.
pub(crate) struct Sorter<R> {
    /// Folder for the file, which is created when a sequence has to be written.
    folder: PathBuf,
    limit: usize,
    pending: Vec<R>,
    /// The sorted sequences in the file.
    sequences: Vec<Range<u64>>,
    /// Has no name, so it is gone when the process ends, however it ends.
    file: Option<File>,
}

impl<R: SortRecord> Sorter<R> {
    /// A sorter whose file, if it needs one, is in this folder.
    pub(crate) fn new(folder: &Path) -> Self {
        Self::limited(folder, MAX_PENDING)
    }

    fn limited(folder: &Path, limit: usize) -> Self {
        let folder = folder.to_owned();
        Self { folder, limit, pending: Vec::new(), sequences: Vec::new(), file: None }
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, record: R) -> Result<()> {
        self.pending.push(record);
        if self.pending.len() >= self.limit { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        self.pending.sort_unstable();
        let wrong = |error: &io::Error| disk::failed("sort rows in", &self.folder, error);
        let file = match self.file.take() {
            Some(file) => file,
            None => nameless(&self.folder).map_err(|error| wrong(&error))?,
        };
        let mut bytes = Vec::with_capacity(READ * R::BYTES);
        for records in self.pending.chunks(READ) {
            bytes.clear();
            for record in records {
                record.put(&mut bytes);
            }
            (&file).write_all(&bytes).map_err(|error| wrong(&error))?;
        }
        let start = self.sequences.last().map_or(0, |last| last.end);
        self.sequences.push(start..start + self.pending.len() as u64);
        self.pending.clear();
        self.file = Some(file);
        Ok(())
    }

    /// Ends the input.
    pub(crate) fn done(mut self) -> Result<Sorted<R>> {
        if self.sequences.is_empty() {
            self.pending.sort_unstable();
        } else if !self.pending.is_empty() {
            self.spill()?;
        }
        Ok(Sorted(self))
    }
}

/// A file without a name, which only this process can read.
fn nameless(folder: &Path) -> io::Result<File> {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let path = folder.join(format!("sort-{:016x}", u64::from_le_bytes(random)));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Sorted records, which can be read any number of times.
pub(crate) struct Sorted<R>(Sorter<R>);

impl<R: SortRecord> Sorted<R> {
    /// Whether there are no records.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.pending.is_empty() && self.0.sequences.is_empty()
    }

    /// Reads all records in their order. Holds 1,024 records of each sequence in memory.
    pub(crate) fn iter(&self) -> Iter<'_, R> {
        let sequence = |left: &Range<u64>| Sequence { left: left.clone(), read: Vec::new(), at: 0 };
        let sequences = self.0.sequences.iter().map(sequence).collect();
        Iter { sorter: &self.0, sequences, heap: BinaryHeap::new(), at: 0 }
    }
}

/// A sequence while it is merged with others.
struct Sequence<R> {
    /// Positions of its records that are still to be read from the file.
    left: Range<u64>,
    /// The records that were read last.
    read: Vec<R>,
    /// Number of them that were returned.
    at: usize,
}

impl<R: SortRecord> Sequence<R> {
    fn next(&mut self, file: Option<&File>) -> io::Result<Option<R>> {
        if self.at == self.read.len() && !self.left.is_empty() {
            let count = (self.left.end - self.left.start).min(READ as u64);
            let size = R::BYTES as u64;
            let mut bytes =
                vec![0; usize::try_from(count * size).expect("1,024 records fit in memory")];
            let file = file.ok_or(io::ErrorKind::NotFound)?;
            file.read_exact_at(&mut bytes, self.left.start * size)?;
            self.read = bytes.chunks_exact(R::BYTES).filter_map(R::get).collect();
            (self.left.start, self.at) = (self.left.start + count, 0);
        }
        let record = self.read.get(self.at).copied();
        self.at += 1;
        Ok(record)
    }
}

/// Reads records in their order.
pub(crate) struct Iter<'sorter, R> {
    sorter: &'sorter Sorter<R>,
    sequences: Vec<Sequence<R>>,
    /// The next record of each sequence.
    heap: BinaryHeap<Reverse<(R, usize)>>,
    /// Number of records that were returned.
    at: usize,
}

impl<R: SortRecord> Iter<'_, R> {
    fn pull(&mut self, number: usize) -> Result<()> {
        let sequence = self.sequences.get_mut(number).expect("the heap names sequences");
        let record = sequence.next(self.sorter.file.as_ref()).map_err(|error| {
            Error::target("cannot read the sorted rows").because(error.to_string())
        })?;
        self.heap.extend(record.map(|record| Reverse((record, number))));
        Ok(())
    }
}

impl<R: SortRecord> Iterator for Iter<'_, R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.sequences.is_empty() {
            let record = self.sorter.pending.get(self.at).copied()?;
            self.at += 1;
            return Some(Ok(record));
        }
        if self.at == 0 {
            for number in 0..self.sequences.len() {
                if let Err(error) = self.pull(number) {
                    return Some(Err(error));
                }
            }
        }
        self.at += 1;
        let Reverse((record, number)) = self.heap.pop()?;
        Some(self.pull(number).map(|()| record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_in_their_order_however_many_sequences_there_are() {
        let folder = tempfile::tempdir().unwrap();
        for count in [0_u64, 1, 99, 100, 101, 2_500, 2_600] {
            let mut sorter = Sorter::<u64>::limited(folder.path(), 100);
            for number in 0..count {
                sorter.push(number * 7919 % 1009).unwrap();
            }
            let mut expected: Vec<u64> = (0..count).map(|number| number * 7919 % 1009).collect();
            expected.sort_unstable();
            let sorted = sorter.done().unwrap();
            assert_eq!(sorted.is_empty(), count == 0);
            for _ in 0..2 {
                let found: Vec<u64> = sorted.iter().map(Result::unwrap).collect();
                assert_eq!(found, expected, "{count}");
            }
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "files are left");
    }
}
