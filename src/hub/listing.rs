//! What a repository holds: its commit, and each file's size and content name.

use super::{
    failure::{Asked, Failure, header, refusal, web_page},
    snapshot,
};
use serde_json::Value;
use std::collections::BTreeMap;
use ureq::{
    Body,
    http::{Response, Uri},
};

/// A list of files is some kilobytes; this bounds what a wrong server can make us hold.
const LIST_LIMIT: u64 = 32 << 20;
/// Redirects that a file's address may go through.
const HOPS: usize = 5;

/// The files of a repository at one commit. A mirror may leave out what is known of a blob; then it must be asked for.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: BTreeMap<String, Option<Blob>>,
}

/// A file's content, as the hub and the cache name it: the SHA-256 of a large file, the Git hash of a small one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) etag: String,
    pub(super) size: u64,
}

impl Listing {
    pub(super) fn ask(agent: &ureq::Agent, url: &str, token: Option<&str>, asked: Asked<'_>) -> Result<Self, Failure> {
        let mut request = agent.get(url).query("blobs", "true");
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = request.call().map_err(|error| Failure::lasting(format!("{url}: {error}")))?;
        if !response.status().is_success() {
            return Err(refusal(&response, asked));
        }
        let body = response.body_mut().with_config().limit(LIST_LIMIT).read_to_vec().map_err(Failure::passing)?;
        if let Some(page) = web_page(&response, &body, asked) {
            return Err(page);
        }
        let list = serde_json::from_slice(&body).ok().and_then(|list| Self::parse(&list));
        list.ok_or_else(|| Failure::lasting(format!("the answer of {url} is not a list of files; see HF_ENDPOINT")))
    }

    fn parse(list: &Value) -> Option<Self> {
        let commit = list["sha"].as_str().filter(|sha| snapshot::is_plain_name(sha))?.to_owned();
        let mut files = BTreeMap::new();
        for entry in list["siblings"].as_array()? {
            let lfs = &entry["lfs"];
            let etag = lfs["sha256"].as_str().or_else(|| entry["blobId"].as_str());
            let size = lfs["size"].as_u64().or_else(|| entry["size"].as_u64());
            let blob = etag.zip(size).and_then(|(etag, size)| Blob::new(etag, size));
            files.insert(entry["rfilename"].as_str()?.to_owned(), blob);
        }
        Some(Self { commit, files })
    }
}

impl Blob {
    /// `None` if the name could not be that of a file in the cache.
    fn new(etag: &str, size: u64) -> Option<Self> {
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        snapshot::is_plain_name(etag).then(|| Self { etag: etag.to_owned(), size })
    }

    /// The SHA-256 that the content must have, if its name is one.
    pub(super) fn sha256(&self) -> Option<&str> {
        (self.etag.len() == 64 && self.etag.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(&*self.etag)
    }

    /// Asks the server for one file's blob. The hub states it before it redirects to where the bytes are.
    pub(super) fn ask(agent: &ureq::Agent, url: &str, token: Option<&str>, asked: Asked<'_>) -> Result<Self, Failure> {
        let start: Uri = url.parse().map_err(Failure::lasting)?;
        let mut place = start.clone();
        for _ in 0..HOPS {
            // A compressed answer would state the compressed size.
            let mut request = agent.head(&place).header("Accept-Encoding", "identity");
            if let Some(token) = token.filter(|_| place.authority() == start.authority()) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let response = request.config().max_redirects(0).build().call();
            let response = response.map_err(|error| Failure::lasting(format!("{url}: {error}")))?;
            let (status, linked) = (response.status(), Self::from_headers(&response, "x-linked-etag", "x-linked-size"));
            match header(&response, "location").filter(|_| status.is_redirection()) {
                _ if linked.is_some() => return linked.ok_or_else(|| refusal(&response, asked)),
                Some(location) => place = join(&place, location)?,
                None if status.is_success() => {
                    let blob = Self::from_headers(&response, "etag", "content-length");
                    let silent = || Failure::lasting("the server states no size or no usable etag");
                    return blob.ok_or_else(|| web_page(&response, b"<", asked).unwrap_or_else(silent));
                }
                None => return Err(refusal(&response, asked)),
            }
        }
        Err(Failure::lasting(format!("the server redirects more than {HOPS} times")))
    }

    fn from_headers(response: &Response<Body>, etag: &str, size: &str) -> Option<Self> {
        Self::new(header(response, etag)?, header(response, size)?.parse().ok()?)
    }
}

/// Where a `Location` leads that may be relative to the host.
fn join(place: &Uri, location: &str) -> Result<Uri, Failure> {
    let unusable = || Failure::lasting(format!("the server redirects to {location:?}"));
    let target: Uri = location.parse().map_err(|_| unusable())?;
    if target.scheme().is_some() {
        return Ok(target);
    }
    let path = target.path_and_query().filter(|_| location.starts_with('/') && !location.starts_with("//"));
    let mut parts = place.clone().into_parts();
    parts.path_and_query = Some(path.cloned().ok_or_else(unusable)?);
    Uri::from_parts(parts).map_err(|_| unusable())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde_json::json;

    #[test]
    fn a_large_file_is_named_by_its_content_and_a_small_one_by_git() {
        let sha = "ab".repeat(32);
        let list = Listing::parse(&json!({"sha": "c0ffee", "siblings": [
            {"rfilename": "w.safetensors", "size": 7, "blobId": "cafe", "lfs": {"size": 7, "sha256": sha, "pointerSize": 1}},
            {"rfilename": "config.json", "size": 3, "blobId": "beef"},
            {"rfilename": "bare.json"},
        ]}));
        let list = list.unwrap();
        let weights = list.files["w.safetensors"].as_ref().unwrap();
        assert_eq!((weights.sha256(), weights.size), (Some(&*sha), 7));
        let config = list.files["config.json"].as_ref().unwrap();
        assert_eq!((config.sha256(), &*config.etag, config.size), (None, "beef", 3));
        assert_eq!(list.files["bare.json"], None);
    }

    #[test]
    fn names_that_leave_the_cache_are_refused() {
        assert!(Listing::parse(&json!({"sha": "../up", "siblings": []})).is_none());
        assert!(Listing::parse(&json!({"sha": "", "siblings": []})).is_none());
        assert!(Listing::parse(&json!({"siblings": []})).is_none());
        for etag in ["../up", "/root", "..", "", ".part", "a/b"] {
            assert_eq!(Blob::new(etag, 1), None, "{etag}");
        }
        assert_eq!(Blob::new("W/\"abc-1\"", 1).unwrap().etag, "abc-1");
    }

    #[test]
    fn a_redirect_may_be_relative_to_the_host() {
        let place: Uri = "http://hub:80/a/b".parse().unwrap();
        assert_eq!(join(&place, "/c?d=e").unwrap(), "http://hub:80/c?d=e");
        assert_eq!(join(&place, "https://cdn/x").unwrap(), "https://cdn/x");
        for unusable in ["", "x", "//cdn/x", "http:// /"] {
            assert!(join(&place, unusable).is_err(), "{unusable}");
        }
    }
}
