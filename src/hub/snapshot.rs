//! Which files make a model folder, and their places in the cache.

use super::failure::Failure;
use deepseek_ocr_core::json;
use hf_hub::CacheRepo;
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

pub(super) const CONFIG: &str = "config.json";
pub(super) const REQUIRED: [&str; 2] = [CONFIG, "tokenizer.json"];
pub(super) const OPTIONAL: [&str; 2] = ["tokenizer_config.json", "processor_config.json"];
pub(super) const INDEX: &str = "model.safetensors.index.json";
pub(super) const SINGLE: &str = "model.safetensors";
/// Hexadecimal digits of a Git commit.
const COMMIT_LEN: usize = 40;

/// What keeps a snapshot in the cache from being complete.
pub(super) struct Absent {
    /// The first file that is missing.
    pub(super) file: String,
    /// Where it would be; nothing if the cache knows no snapshot of the revision.
    place: Option<PathBuf>,
}

impl Absent {
    /// Why the cache at this place lacks the file.
    pub(super) fn reason(&self, cache: &Path) -> String {
        match &self.place {
            Some(place) => match fs::read_link(place) {
                Ok(target) => format!("{} is a link to {}, which is not there", place.display(), target.display()),
                Err(_) => format!("{} is not in the cache", place.display()),
            },
            None if cache.is_file() => format!("the cache at {} is a file and not a folder", cache.display()),
            None => format!("it is not in the cache at {}", cache.display()),
        }
    }

    pub(super) fn is_partial(&self) -> bool {
        self.place.is_some()
    }
}

/// The complete snapshot that the cache holds for a revision.
pub(super) fn in_cache(cache: &CacheRepo, revision: &str) -> Result<PathBuf, Absent> {
    let commit = if is_commit(revision) { Some(revision.to_owned()) } else { named(cache, revision) };
    let folder = commit.map(|commit| cache.pointer_path(&commit)).filter(|folder| folder.is_dir());
    let Some(folder) = folder else { return Err(Absent { file: CONFIG.into(), place: None }) };
    match first_missing(&folder) {
        Some(file) => Err(Absent { place: Some(folder.join(&file)), file }),
        None => Ok(folder),
    }
}

/// The commit that the cache knows by the name of a branch or a tag.
pub(super) fn named(cache: &CacheRepo, name: &str) -> Option<String> {
    let snapshots = cache.pointer_path("");
    let commit = fs::read_to_string(snapshots.parent()?.join("refs").join(name)).ok()?;
    Some(commit.trim().to_owned()).filter(|commit| is_plain_name(commit))
}

/// A blob takes its place in the cache only when it is complete, so that being there is enough.
fn first_missing(folder: &Path) -> Option<String> {
    let absent = |name: &str| !folder.join(name).is_file();
    if let Some(name) = REQUIRED.into_iter().find(|name| absent(name)) {
        return Some(name.to_owned());
    }
    if !absent(INDEX) {
        return match shards(&folder.join(INDEX)) {
            Ok(shards) => shards.into_iter().find(|name| absent(name)),
            Err(_) => Some(INDEX.to_owned()),
        };
    }
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    match only_weights(names.iter().map(String::as_str)) {
        Some(name) if !absent(name) => None,
        name => Some(name.unwrap_or(SINGLE).to_owned()),
    }
}

/// The weights of a model without an index: `model.safetensors`, else the only safetensors file.
pub(super) fn only_weights<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut found: Vec<_> = names.filter(|name| name.ends_with(".safetensors") && is_plain_name(name)).collect();
    if found.contains(&SINGLE) {
        found = vec![SINGLE];
    }
    match found[..] {
        [name] => Some(name),
        _ => None,
    }
}

/// The files that an index names.
pub(super) fn shards(index: &Path) -> Result<Vec<String>, Failure> {
    let index = json::read(index).map_err(Failure::lasting)?;
    let map = index["weight_map"].as_object().ok_or_else(|| Failure::lasting("it has no object `weight_map`"))?;
    let mut shards = BTreeSet::new();
    for (tensor, file) in map {
        let file = file.as_str().filter(|name| is_plain_name(name));
        shards.insert(file.ok_or_else(|| Failure::lasting(format!("`weight_map.{tensor}` is not a file name")))?);
    }
    if shards.is_empty() {
        return Err(Failure::lasting("its `weight_map` names no file"));
    }
    Ok(shards.into_iter().map(str::to_owned).collect())
}

/// Whether this can be one component of a path and of an address as it is: servers and users must not reach elsewhere.
pub(super) fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)
}

pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == COMMIT_LEN && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn has_size(path: &Path, size: u64) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == size)
}

/// Puts a blob into a snapshot under its name.
pub(super) fn link(blob: &Path, pointer: &Path) -> io::Result<()> {
    if let Some(folder) = pointer.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(pointer) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => place(blob, pointer),
    }
}

#[cfg(unix)]
fn place(blob: &Path, pointer: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(from_snapshot(blob), pointer)
}

/// Where users may not make links, the file itself moves into the snapshot, as with the official client.
#[cfg(windows)]
fn place(blob: &Path, pointer: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(from_snapshot(blob), pointer).or_else(|_| fs::rename(blob, pointer))
}

#[cfg(not(any(unix, windows)))]
fn place(blob: &Path, pointer: &Path) -> io::Result<()> {
    fs::rename(blob, pointer)
}

/// `blobs/<etag>` as seen from `snapshots/<commit>/`: relative, so that the cache can be moved as a whole.
#[cfg(any(unix, windows))]
fn from_snapshot(blob: &Path) -> PathBuf {
    let up = Path::new("..").join("..").join("blobs");
    blob.file_name().map_or_else(|| blob.to_owned(), |etag| up.join(etag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names() {
        for name in ["main", "DeepSeek-OCR", "v1.0_a", "model-00001-of-000001.safetensors"] {
            assert!(is_plain_name(name), "{name}");
        }
        for name in ["", ".", "..", ".git", "a/b", "a\\b", "a b", "a%2f", "ü", "a\0", "C:"] {
            assert!(!is_plain_name(name), "{name}");
        }
    }

    #[test]
    fn without_an_index_the_weights_must_be_clear() {
        assert_eq!(only_weights(["a.bin", "x.safetensors"].into_iter()), Some("x.safetensors"));
        assert_eq!(only_weights(["model.safetensors", "x.safetensors"].into_iter()), Some(SINGLE));
        assert_eq!(only_weights(["sub/x.safetensors"].into_iter()), None);
        assert_eq!(only_weights(["x.safetensors", "y.safetensors"].into_iter()), None);
    }
}
