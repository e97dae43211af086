//! Which files make up a checkpoint, and their bytes.

use crate::{Error, Result};
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

pub(super) fn list(folder: &Path) -> Result<Listing> {
    let index = folder.join(INDEX);
    if index.is_file() {
        return from_index(folder, &index);
    }
    let single = folder.join(SINGLE);
    let file = if single.is_file() { single } else { only_safetensors(folder)? };
    Ok(Listing { files: vec![file], promised: Vec::new() })
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
    let json = |source: crate::BoxError| Error::Json { path: index.to_owned(), source };
    let text = std::fs::read(index).map_err(Error::read(index))?;
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|e| json(e.into()))?;
    let map = value["weight_map"].as_object().ok_or_else(|| json("there is no object `weight_map`".into()))?;
    let (mut files, mut promised) = (Vec::new(), Vec::new());
    for (tensor, file) in map {
        let file = file.as_str().filter(|name| is_plain_name(name));
        let file = file.ok_or_else(|| json(format!("`weight_map.{tensor}` is not a file name").into()))?;
        files.push(folder.join(file));
        promised.push(tensor.clone());
    }
    files.sort_unstable();
    files.dedup();
    Ok(Listing { files, promised })
}

/// Whether this names a file in the same folder: an index must not reach outside it.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
}

fn only_safetensors(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).map_err(Error::read(folder))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::read(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            found.push(path);
        }
    }
    match <[PathBuf; 1]>::try_from(found) {
        Ok([file]) => Ok(file),
        Err(found) => {
            let reason = format!("no {INDEX} and {} files *.safetensors, expected one", found.len());
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, reason);
            Err(Error::Read { path: folder.to_owned(), source })
        }
    }
}
