//! The model folder from the Hugging Face hub, or from a mirror of it, in the cache that the official client uses.
//!
//! `source` is the course of one fetch: `listing` asks what the repository holds, `transfer` brings one blob, `snapshot` says
//! which files make a model and lays them out. Addresses, the cache's layout and the login's token come from the crate `hf-hub`. Its version 0.5 is not
//! trusted with the bytes: it asks for compressed ranges, which the hub answers without the header that it then misses
//! (its issue 141); it appends a whole answer to a partial file when a server ignores `Range`; it cannot finish a partial file
//! that has its full size; and it checks neither size nor content.

mod listing;
mod snapshot;
mod source;
mod transfer;

use deepseek_ocr_core::{BoxError, Error, Result};
use std::{ffi::OsString, fmt, path::PathBuf};

const OFFICIAL_ENDPOINT: &str = "https://huggingface.co";

/// Where models are downloaded from, and the folder that keeps them.
///
/// The folder has the layout of the official Python client (`models--owner--name/{blobs,refs,snapshots}`), so each uses what
/// the other has downloaded. A download that was interrupted continues where it stopped, in the same call or in a later one;
/// a file takes its place only when it has the size, and for large files the SHA-256, that the hub states.
/// Nothing here needs or starts an asynchronous runtime; inside one, call it from `spawn_blocking`, as it blocks.
///
/// ```no_run
/// use deepseek_ocr::Hub;
///
/// let folder = Hub::from_env()?.fetch("deepseek-ai/DeepSeek-OCR", Hub::MAIN, &mut |progress| {
///     eprintln!("{}: {} of {} bytes", progress.file, progress.bytes, progress.total);
/// })?;
/// assert!(folder.join("config.json").is_file());
/// # Ok::<(), deepseek_ocr::Error>(())
/// ```
#[derive(Clone)]
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    network: Network,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Allowed,
    Forbidden,
}

/// How far the transfer of one file has come.
///
/// Files that the cache already holds are not reported. The first report of a file tells where the transfer starts: not at zero
/// when an interrupted one continues. The last has `bytes == total`. The count falls only if what arrived had to be thrown away,
/// because the server cannot continue a transfer or the content was not what the hub promises.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The file's name within the repository.
    pub file: String,
    /// Bytes of it on disk.
    pub bytes: u64,
    /// Bytes that it has.
    pub total: u64,
}

impl Hub {
    /// The revision that a repository offers by default.
    pub const MAIN: &str = "main";

    /// The official hub, without a token, with downloads kept in the folder `cache`.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self { endpoint: OFFICIAL_ENDPOINT.into(), cache: cache.into(), token: None, network: Network::Allowed }
    }

    /// The settings that the official client would use, from the same environment variables.
    ///
    /// | variable | meaning | without it |
    /// |---|---|---|
    /// | `HF_HOME` | folder of the client's data | `.cache/huggingface` in the home folder |
    /// | `HF_HUB_CACHE` | folder of the downloads | `hub` in `HF_HOME` |
    /// | `HF_ENDPOINT` | address of the hub or of a mirror | `https://huggingface.co` |
    /// | `HF_TOKEN` | token for private and gated repositories | the file `token` in `HF_HOME`, which a login writes |
    /// | `HF_HUB_OFFLINE` | `1`, `on`, `yes` or `true`: never use the network | the network is used |
    ///
    /// The HTTP client also follows the usual `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if neither `HF_HOME` nor `HF_HUB_CACHE` is set and there is no home folder.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(&|name| std::env::var_os(name), std::env::home_dir())
    }

    /// Downloads from this address, for example that of a mirror.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = endpoint.into().trim_end_matches('/').into();
        self
    }

    /// Presents this token to the endpoint; it is never sent to another host.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Keeps downloads in this folder.
    #[must_use]
    pub fn with_cache(mut self, cache: impl Into<PathBuf>) -> Self {
        self.cache = cache.into();
        self
    }

    /// Uses what the cache holds and never the network.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.network = Network::Forbidden;
        self
    }

    /// The local folder with the model of `repo` (`owner/name`) at `revision`: a branch, a tag or a full commit hash.
    ///
    /// Only what a model needs is downloaded: configuration, tokenizer and safetensors weights. When the hub cannot be asked, a
    /// complete model in the cache is used as it is. A full commit hash that the cache holds causes no request at all.
    ///
    /// # Errors
    /// [`Error::Hub`], naming the file, when something is neither in the cache nor to be had; [`Error::InvalidRequest`] if
    /// `repo` or `revision` cannot be the name of one.
    pub fn fetch(&self, repo: &str, revision: &str, progress: &mut dyn FnMut(&Progress)) -> Result<PathBuf> {
        source::Source::new(self, repo, revision)?.fetch(progress)
    }

    fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>, user: Option<PathBuf>) -> Result<Self> {
        let folder = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let text = |name| {
            let value = variable(name)?.into_string().ok()?.trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let home = folder("HF_HOME").or_else(|| Some(user?.join(".cache").join("huggingface")));
        let login = home.as_ref().and_then(|home| hf_hub::Cache::new(home.join("hub")).token());
        let cache = folder("HF_HUB_CACHE").or_else(|| Some(home?.join("hub")));
        let cache = cache.ok_or_else(|| {
            Error::invalid_request("HF_HOME", "not set, and there is no home folder", "a folder for downloads")
        })?;
        let mut hub = Self::new(cache).with_endpoint(text("HF_ENDPOINT").unwrap_or(OFFICIAL_ENDPOINT.into()));
        hub.token = text("HF_TOKEN").or(login);
        match text("HF_HUB_OFFLINE") {
            Some(value) if ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()) => Ok(hub.offline()),
            _ => Ok(hub),
        }
    }
}

impl fmt::Debug for Hub {
    /// Debug output reaches logs, so it never shows the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "hidden");
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &token)
            .field("network", &self.network)
            .finish()
    }
}

/// Why something could not be had.
#[derive(Debug)]
enum Failure {
    /// Another attempt may succeed.
    Passing(BoxError),
    /// Another attempt would fail alike.
    Lasting(BoxError),
}

impl Failure {
    fn lasting(reason: impl Into<BoxError>) -> Self {
        Self::Lasting(reason.into())
    }

    fn passing(reason: impl Into<BoxError>) -> Self {
        Self::Passing(reason.into())
    }

    fn reason(self) -> BoxError {
        match self {
            Self::Passing(reason) | Self::Lasting(reason) => reason,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::collections::HashMap;

    fn hub(variables: &[(&str, &str)]) -> Hub {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        Hub::from_variables(&|name| variables.get(name).map(OsString::from), Some("/nowhere".into())).unwrap()
    }

    #[test]
    fn without_variables_it_is_the_official_hub_and_cache() {
        let hub = hub(&[("HF_TOKEN", " "), ("HF_ENDPOINT", ""), ("HF_HUB_OFFLINE", "0")]);
        assert_eq!(hub.endpoint, "https://huggingface.co");
        assert_eq!(hub.cache, PathBuf::from("/nowhere/.cache/huggingface/hub"));
        assert_eq!((hub.token, hub.network), (None, Network::Allowed));
    }

    #[test]
    fn each_variable_is_honoured() {
        let home = ("HF_HOME", "/data");
        assert_eq!(hub(&[home]).cache, PathBuf::from("/data/hub"));
        assert_eq!(hub(&[home, ("HF_HUB_CACHE", "/cache")]).cache, PathBuf::from("/cache"));
        assert_eq!(hub(&[("HF_ENDPOINT", "http://mirror:80//")]).endpoint, "http://mirror:80");
        assert_eq!(hub(&[("HF_TOKEN", "hf_secret\n")]).token.as_deref(), Some("hf_secret"));
        for yes in ["1", "ON", "yes", "True"] {
            assert_eq!(hub(&[("HF_HUB_OFFLINE", yes)]).network, Network::Forbidden, "{yes}");
        }
    }

    #[test]
    fn no_home_is_an_error_only_when_it_is_needed() {
        let cache = |name: &str| (name == "HF_HUB_CACHE").then(|| OsString::from("/cache"));
        assert_eq!(Hub::from_variables(&cache, None).unwrap().cache, PathBuf::from("/cache"));
        let error = Hub::from_variables(&|_| None, None).unwrap_err();
        assert!(error.to_string().contains("HF_HOME"), "{error}");
    }

    #[test]
    fn the_token_is_not_in_debug_output() {
        let text = format!("{:?}", Hub::new("/cache").with_token("hf_secret"));
        assert!(text.contains("hidden") && !text.contains("hf_secret"), "{text}");
    }
}
