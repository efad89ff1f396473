//! Records of a fixed size, sorted in bounded memory: beyond a limit, sorted runs go to a file.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};
use crate::write::storage::disk;

/// Records that are kept in memory: 24 MB of the largest ones.
const PENDING: usize = 250_000;
/// Records of a run that are read at once, while runs are merged.
const READ: usize = 1024;

/// What is sorted.
pub(crate) trait Record: Copy + Ord {
    /// Its size in a file.
    const BYTES: usize;

    /// Adds its bytes.
    fn put(&self, out: &mut Vec<u8>);

    /// The record of these bytes; `None` when they are too few.
    fn get(bytes: &[u8]) -> Option<Self>;
}

impl Record for u64 {
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
    /// Where the file is made, when there has to be one.
    folder: PathBuf,
    limit: usize,
    pending: Vec<R>,
    /// Where each run begins and ends, counted in records.
    runs: Vec<(u64, u64)>,
    /// Has no name: it is gone when it is closed, however the process ends.
    file: Option<File>,
}

impl<R: Record> Sorter<R> {
    pub(crate) fn new(folder: &Path) -> Self {
        Self::limited(folder, PENDING)
    }

    fn limited(folder: &Path, limit: usize) -> Self {
        let folder = folder.to_owned();
        Self { folder, limit, pending: Vec::new(), runs: Vec::new(), file: None }
    }

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
        let start = self.runs.last().map_or(0, |(_, end)| *end);
        self.runs.push((start, start + self.pending.len() as u64));
        self.pending.clear();
        self.file = Some(file);
        Ok(())
    }

    /// Ends the taking.
    pub(crate) fn done(mut self) -> Result<Sorted<R>> {
        if self.runs.is_empty() {
            self.pending.sort_unstable();
        } else if !self.pending.is_empty() {
            self.spill()?;
        }
        Ok(Sorted(self))
    }
}

/// A file that only this process sees.
fn nameless(folder: &Path) -> io::Result<File> {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let path = folder.join(format!("sort-{:016x}", u64::from_le_bytes(random)));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Records that can be gone through in their order, as often as needed.
pub(crate) struct Sorted<R>(Sorter<R>);

impl<R: Record> Sorted<R> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.pending.is_empty() && self.0.runs.is_empty()
    }

    /// Holds 1,024 records of each run.
    pub(crate) fn iter(&self) -> Iter<'_, R> {
        let run =
            |(next, end): &(u64, u64)| Run { next: *next, end: *end, read: Vec::new(), at: 0 };
        let runs = self.0.runs.iter().map(run).collect();
        Iter { sorter: &self.0, runs, heap: BinaryHeap::new(), at: 0 }
    }
}

/// A run while it is merged with others.
struct Run<R> {
    /// The records of it that are still in the file.
    next: u64,
    end: u64,
    read: Vec<R>,
    at: usize,
}

impl<R: Record> Run<R> {
    fn next(&mut self, file: Option<&File>) -> io::Result<Option<R>> {
        if self.at == self.read.len() && self.next < self.end {
            let count = (self.end - self.next).min(READ as u64);
            let size = R::BYTES as u64;
            let mut bytes = vec![0; usize::try_from(count * size).unwrap_or_default()];
            let file = file.ok_or(io::ErrorKind::NotFound)?;
            file.read_exact_at(&mut bytes, self.next * size)?;
            self.read = bytes.chunks_exact(R::BYTES).filter_map(R::get).collect();
            (self.next, self.at) = (self.next + count, 0);
        }
        let record = self.read.get(self.at).copied();
        self.at += 1;
        Ok(record)
    }
}

/// Goes through records in their order.
pub(crate) struct Iter<'sorter, R> {
    sorter: &'sorter Sorter<R>,
    runs: Vec<Run<R>>,
    /// The next record of each run.
    heap: BinaryHeap<Reverse<(R, usize)>>,
    /// Records so far.
    at: usize,
}

impl<R: Record> Iter<'_, R> {
    fn pull(&mut self, number: usize) -> Result<()> {
        let Some(run) = self.runs.get_mut(number) else { return Ok(()) };
        let record = run.next(self.sorter.file.as_ref()).map_err(|error| {
            Error::target("sorted rows cannot be read").because(error.to_string())
        })?;
        self.heap.extend(record.map(|record| Reverse((record, number))));
        Ok(())
    }
}

impl<R: Record> Iterator for Iter<'_, R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.runs.is_empty() {
            let record = self.sorter.pending.get(self.at).copied()?;
            self.at += 1;
            return Some(Ok(record));
        }
        if self.at == 0 {
            for number in 0..self.runs.len() {
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
    fn records_come_in_their_order_however_many_runs_there_are() {
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
