//! Which files make up a checkpoint, and their bytes.

use super::folder;
use crate::{Error, Result, json};
use memmap2::Mmap;
use std::{
    fs::File,
    ops::Range,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

pub(super) const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// The files of a checkpoint and the tensors that its index promises.
pub(super) struct Listing {
    pub(super) files: Vec<PathBuf>,
    pub(super) promised: Vec<String>,
}

/// The files that an index names, else `model.safetensors`, else the only safetensors file that is there.
pub(super) fn list(folder: &Path) -> Result<Listing> {
    let names = folder::names(folder)?;
    if let Some(adapter) = folder::adapter(&names) {
        return Err(folder::refused(folder, adapter));
    }
    let found: Vec<&String> = names.iter().filter(|name| name.ends_with(".safetensors")).collect();
    let listing = if names.iter().any(|name| name == INDEX) {
        from_index(folder, &folder.join(INDEX))?
    } else {
        let file = match found[..] {
            [only] => only,
            _ if found.iter().any(|name| *name == SINGLE) => SINGLE,
            [] => return Err(none(folder, &names)),
            _ => {
                let reason = format!("there is no {INDEX} to say which of {found:?} belong together");
                return Err(folder::refused(folder, reason));
            }
        };
        Listing { files: vec![folder.join(file)], promised: Vec::new() }
    };
    let left: Vec<_> = found.into_iter().filter(|name| !listing.files.contains(&folder.join(name))).collect();
    if !left.is_empty() {
        tracing::warn!(folder = %folder.display(), read = ?listing.files, ?left, "safetensors that belong to no index are not read");
    }
    Ok(listing)
}

fn none(folder: &Path, names: &[String]) -> Error {
    let other = folder::other_weights(names).map(|reason| folder::refused(folder, reason));
    other.unwrap_or_else(|| {
        let reason = format!("no {INDEX} and no file *.safetensors");
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, reason);
        Error::Read { path: folder.to_owned(), source }
    })
}

/// A file in memory.
#[derive(Debug, Clone)]
pub(super) struct Map(Arc<Mmap>);

impl Map {
    /// Maps a whole file.
    #[allow(unsafe_code)]
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::read(path))?;
        // SAFETY: the map is private and read-only. Another process that cuts or rewrites the file while it is mapped breaks
        // the promise that the bytes do not change; that is documented on `Checkpoint`, as for every memory-mapped loader.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::read(path))?;
        Ok(Self(Arc::new(map)))
    }

    /// The bytes, for as long as anyone holds them.
    pub(super) fn bytes(&self) -> bytes::Bytes {
        bytes::Bytes::from_owner(self.clone())
    }

    /// Takes a part out of this process' memory until it is read again. The system keeps it in its cache as long as it likes.
    #[allow(unsafe_code)]
    pub(super) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: nobody wrote to the map, it is read-only: the same bytes are read from the file again.
            let done = unsafe { self.0.unchecked_advise_range(advice, range.start, range.len()) };
            if let Err(error) = done {
                tracing::debug!(%error, "pages of the checkpoint were not released");
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn from_index(folder: &Path, index: &Path) -> Result<Listing> {
    let invalid = |reason: String| Error::Json { path: index.to_owned(), reason };
    let value = json::read(index)?;
    let map = value["weight_map"].as_object().ok_or_else(|| invalid("there is no object `weight_map`".into()))?;
    let (mut files, mut promised) = (Vec::new(), Vec::new());
    for (tensor, file) in map {
        let file = file.as_str().filter(|name| is_plain_name(name));
        let file = file.ok_or_else(|| invalid(format!("`weight_map.{tensor}` is not a file name")))?;
        files.push(folder.join(file));
        promised.push(tensor.clone());
    }
    if files.is_empty() {
        return Err(invalid("its `weight_map` names no file".into()));
    }
    files.sort_unstable();
    files.dedup();
    let absent: Vec<_> = files.iter().filter(|file| !file.is_file()).collect();
    if let [first, ..] = absent[..] {
        let reason = format!("{} of the {} files that {INDEX} names are not there", absent.len(), files.len());
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, reason);
        return Err(Error::Read { path: first.clone(), source });
    }
    Ok(Listing { files, promised })
}

/// Whether this names a file in the same folder: an index must not reach outside it.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
}
