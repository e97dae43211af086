//! What a file is that stands where another should be, as far as its first bytes tell, and what to do about it.

/// How other kinds of file begin.
const BEGINNINGS: [(&[u8], &str); 11] = [
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder"),
    (b"version https://hawser", "it is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder"),
    (b"GGUF", "it is in GGUF, the format of llama.cpp: get the safetensors of the original"),
    (b"PK\x03\x04", "it is a ZIP archive, as PyTorch's weights are: unpack it, or get the safetensors"),
    (b"\x80\x02", "it is a Python pickle, as PyTorch's old weights are: get the safetensors"),
    (b"\x89HDF", "it is in HDF5: get the safetensors"),
    (b"\x93NUMPY", "it is a NumPy array: get the safetensors"),
    (b"\x1f\x8b", "it is compressed with gzip: unpack it"),
    (b"\xfd7zXZ", "it is compressed with xz: unpack it"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it"),
    (b"%PDF", "it is a PDF document"),
];

/// How a web page begins, in lower case.
const PAGES: [&[u8]; 5] = [b"<!doctype", b"<html", b"<head", b"<?xml", b"<error"];
const PAGE: &str = "it is a web page, perhaps of a login or an error, not the file itself: download it again";

/// Bytes that are looked at where a file may be zeros throughout.
const START: usize = 4096;

/// Says what these bytes are, if they are something known that is neither JSON nor safetensors.
pub(crate) fn name(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("it is empty");
    }
    if bytes.iter().take(START).all(|byte| *byte == 0) {
        return Some("it begins with zeros only: the download did not finish, get it again");
    }
    let text = bytes.trim_ascii_start();
    let begins = |page: &&[u8]| text.get(..page.len()).is_some_and(|start| start.eq_ignore_ascii_case(page));
    if PAGES.iter().any(begins) {
        return Some(PAGE);
    }
    BEGINNINGS.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, what)| *what)
}
