//! What targets share: files that a target writes and the library reads, and how such a file is put together.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// A folder of this process; `just fuzz` puts it in memory.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for temporary files");
    folder
});

/// The folder in which the target's files are.
pub fn folder() -> &'static Path {
    &FOLDER
}

/// Writes a file of the folder.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = FOLDER.join(name);
    fs::write(&path, bytes).expect("a file in the folder");
    path
}

/// The safetensors file that an input stands for.
///
/// A file as it is begins with `F`. Any other input is the header's JSON up to the first NUL and the tensors' bytes behind it: the
/// length before the header is filled in, so that mutations get past it.
pub fn safetensors(input: &[u8]) -> Vec<u8> {
    if let Some(file) = input.strip_prefix(b"F") {
        return file.to_vec();
    }
    let (header, tensors) = split(input);
    with_length(header, tensors)
}

/// As [`safetensors`], with `key`'s metadata in a part of its own behind the header, since JSON in a string of JSON is hard to mutate.
pub fn safetensors_with_metadata(input: &[u8], key: &str) -> Vec<u8> {
    if let Some(file) = input.strip_prefix(b"F") {
        return file.to_vec();
    }
    let (header, rest) = split(input);
    let (metadata, tensors) = split(rest);
    let metadata = serde_json::json!({ key: String::from_utf8_lossy(metadata) });
    let comma = if header.iter().all(u8::is_ascii_whitespace) { "" } else { "," };
    let header = [b"{\"__metadata__\":", metadata.to_string().as_bytes(), comma.as_bytes(), header, b"}"].concat();
    with_length(&header, tensors)
}

fn split(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.iter().position(|&byte| byte == 0);
    end.map_or((input, &[]), |end| (&input[..end], &input[end + 1..]))
}

fn with_length(header: &[u8], tensors: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, tensors].concat()
}
