//! The model folder from the Hugging Face hub, or from a mirror of it, in the cache that the official client uses.
//!
//! `environment` reads the settings. `source` is the course of one fetch: `listing` asks what the repository holds, `transfer` brings
//! one blob, `snapshot` says which files make a model and lays them out, `failure` says what went wrong. Addresses, the cache's layout and the login's token come from the crate `hf-hub`. Its version 0.5 is not
//! trusted with the bytes: it asks for compressed ranges, which the hub answers without the header that it then misses
//! (its issue 141); it appends a whole answer to a partial file when a server ignores `Range`; it cannot finish a partial file
//! that has its full size; and it checks neither size nor content.

mod environment;
mod failure;
mod listing;
mod snapshot;
mod source;
mod transfer;

use deepseek_ocr_core::Result;
use environment::Environment;
use std::{fmt, path::PathBuf, time::Duration};

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
    limits: Limits,
}

/// How long to wait for a server.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// For the head of an answer that is no file.
    answer: Duration,
    /// For a file's next bytes, the first included. Then the transfer is taken up anew where it stopped.
    stall: Duration,
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
        Self {
            endpoint: OFFICIAL_ENDPOINT.into(),
            cache: cache.into(),
            token: None,
            network: Network::Allowed,
            limits: Limits { answer: Duration::from_secs(30), stall: Duration::from_secs(60) },
        }
    }

    /// The settings that the official client would use, from the same environment variables.
    ///
    /// | variable | meaning | without it |
    /// |---|---|---|
    /// | `HF_HOME` | folder of the client's data | `huggingface` in `XDG_CACHE_HOME`, or else in `.cache` in the home folder |
    /// | `HF_HUB_CACHE`, or else `HUGGINGFACE_HUB_CACHE` | folder of the downloads | `hub` in `HF_HOME` |
    /// | `HF_ENDPOINT` | address of the hub or of a mirror | `https://huggingface.co` |
    /// | `HF_TOKEN`, or else `HUGGING_FACE_HUB_TOKEN` | token for private and gated repositories | that of a login |
    /// | `HF_TOKEN_PATH` | file of a login's token | `token` in `HF_HOME` |
    /// | `HF_HUB_DISABLE_IMPLICIT_TOKEN` | true: no token but that of [`with_token`](Self::with_token) | |
    /// | `HF_HUB_OFFLINE`, or else `TRANSFORMERS_OFFLINE` | true: never use the network | the network is used |
    /// | `HF_HUB_ETAG_TIMEOUT` | seconds to wait for an answer | 30 |
    /// | `HF_HUB_DOWNLOAD_TIMEOUT` | seconds to wait for a file's next bytes | 60 |
    ///
    /// True is `1`, `on`, `yes` or `true`, in any case. A variable that is set to nothing counts as not set. In folders `~`, `$NAME`
    /// and `${NAME}` are expanded. The HTTP client also follows the usual `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`](crate::Error::InvalidRequest), naming the variable, if a value cannot be used, or if neither a folder
    /// is set nor there is a home folder.
    pub fn from_env() -> Result<Self> {
        Environment { variable: &|name| std::env::var_os(name), user: std::env::home_dir() }.hub()
    }

    /// Downloads from this address, for example that of a mirror.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = endpoint.into().trim_end_matches('/').into();
        self
    }

    /// Presents this token to the endpoint; it is never sent to another host. White space around it does not count, and an empty token
    /// is none.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = clean_token(&token.into());
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
    /// Only what a model needs is downloaded: configuration, tokenizer and safetensors weights. When the hub cannot be asked, or
    /// has a newer model for which the cache is read-only, a complete model in the cache is used as it is, with a warning through
    /// [`tracing`](https://docs.rs/tracing). A full commit hash that the cache holds causes no request at all.
    ///
    /// # Errors
    /// [`Error::Hub`](crate::Error::Hub), naming the file, when something is neither in the cache nor to be had;
    /// [`Error::InvalidRequest`](crate::Error::InvalidRequest) if `repo` or `revision` cannot be the name of one, or the token none.
    pub fn fetch(&self, repo: &str, revision: &str, progress: &mut dyn FnMut(&Progress)) -> Result<PathBuf> {
        source::Source::new(self, repo, revision)?.fetch(progress)
    }
}

/// Without the line end that files and secret stores add.
fn clean_token(token: &str) -> Option<String> {
    let token = token.replace(['\r', '\n'], "").trim().to_owned();
    (!token.is_empty()).then_some(token)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_not_in_debug_output() {
        let text = format!("{:?}", Hub::new("/cache").with_token("hf_secret"));
        assert!(text.contains("hidden") && !text.contains("hf_secret"), "{text}");
    }

    #[test]
    fn a_token_has_no_white_space_around_it() {
        assert_eq!(Hub::new("/cache").with_token(" hf_secret\r\n").token.as_deref(), Some("hf_secret"));
        assert_eq!(Hub::new("/cache").with_token("\n").token, None);
    }
}
