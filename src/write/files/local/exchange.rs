//! Replacement of folders on local disk, and links to files.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::Path,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::error::Result;
use crate::write::storage::disk;

/// Gives a file a second name, or copies it where the filesystem has no hard links; `false` when the file is
/// gone.
pub(crate) fn link(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::hard_link(from, to) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(_) => {}
    }
    fs::copy(from, to)?;
    File::open(to)?.sync_all()?;
    Ok(true)
}

/// Moves the folder `new` to `place`. The folder that was at `place` is then at `new` or at `aside`.
pub(crate) fn swap(
    new: &Path,
    place: &Path,
    aside: &Path,
    exchange: fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    if !place.exists() {
        return fs::rename(new, place);
    }
    match exchange(new, place) {
        Err(error) if is_unsupported(&error) => {}
        other => return other,
    }
    fs::rename(place, aside)?;
    fs::rename(new, place).or_else(|error| fs::rename(aside, place).and(Err(error)))
}

pub(crate) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput)
}

pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| disk::failed("write", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_swapped_with_and_without_an_exchange() {
        let none: fn(&Path, &Path) -> io::Result<()> = |_, _| Err(ErrorKind::Unsupported.into());
        for swapper in [exchange, none] {
            let root = tempfile::tempdir().unwrap();
            let [new, place, aside] = ["new", "place", "aside"].map(|name| root.path().join(name));
            for folder in [&new, &place] {
                fs::create_dir(folder).unwrap();
                fs::write(folder.join("name"), folder.display().to_string()).unwrap();
            }
            let was = fs::read_to_string(new.join("name")).unwrap();
            swap(&new, &place, &aside, swapper).unwrap();
            assert_eq!(fs::read_to_string(place.join("name")).unwrap(), was);
        }
    }
}
