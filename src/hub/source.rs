//! One fetch: what to ask, in which order, and what serves when the hub does not answer.

use super::{
    Hub, Network, Progress,
    failure::{Asked, Failure, retried},
    listing::{Blob, Listing},
    snapshot,
    transfer::{self, Transfer},
};
use deepseek_ocr_core::{Error, Result};
use hf_hub::{
    CacheRepo, Repo, RepoType,
    api::sync::{Api, ApiBuilder},
};
use std::{path::PathBuf, time::Duration};
use ureq::http::Uri;

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
/// How long to wait for a name, and then for a connection with its handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// What the error names when not even the list of files could be had.
const FILE_LIST: &str = "the file list";

/// One repository at one revision, and the ways to it.
pub(super) struct Source<'a> {
    hub: &'a Hub,
    repo: &'a str,
    revision: &'a str,
    api: Api,
    agent: ureq::Agent,
    cache: CacheRepo,
}

/// A file that could not be had.
struct Missed {
    file: String,
    failure: Failure,
}

type Report<'a> = &'a mut dyn FnMut(&Progress);

impl<'a> Source<'a> {
    pub(super) fn new(hub: &'a Hub, repo: &'a str, revision: &'a str) -> Result<Self> {
        if repo.split('/').count() > 2 || !repo.split('/').all(snapshot::is_plain_name) {
            return Err(Error::invalid_request("repo", format!("{repo:?}"), "`owner/name`"));
        }
        if !revision.split('/').all(snapshot::is_plain_name) {
            return Err(Error::invalid_request(
                "revision",
                format!("{revision:?}"),
                "a branch, a tag or a commit hash",
            ));
        }
        if hub.token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Error::invalid_request("token", "text with other characters", "letters, digits and `_`"));
        }
        let cache = hf_hub::Cache::new(hub.cache.clone());
        let api = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(hub.endpoint.clone())
            .with_token(hub.token.clone())
            .with_user_agent(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|e| Error::Hub { repo: repo.into(), file: FILE_LIST.into(), source: e.into() })?;
        let cache = cache.repo(Repo::with_revision(repo.into(), RepoType::Model, revision.into()));
        Ok(Self { hub, repo, revision, api, agent: agent(hub), cache })
    }

    pub(super) fn fetch(&self, progress: Report<'_>) -> Result<PathBuf> {
        let cached = snapshot::in_cache(&self.cache, self.revision);
        if self.hub.network == Network::Forbidden {
            return cached.map_err(|absent| {
                let reason = format!("{}, and offline mode forbids the network", absent.reason(&self.hub.cache));
                self.error(Missed { file: absent.file, failure: Failure::lasting(reason) })
            });
        }
        match cached {
            Ok(folder) if snapshot::is_commit(self.revision) => Ok(folder),
            Ok(folder) => self.renewed(folder, progress),
            Err(absent) => {
                let listing = retried(|| self.list()).map_err(|failure| {
                    let failure = if absent.is_partial() {
                        let lacks = absent.reason(&self.hub.cache);
                        Failure::lasting(format!(
                            "{}; the model in the cache is not complete: {lacks}",
                            failure.reason()
                        ))
                    } else {
                        failure
                    };
                    self.error(Missed { file: FILE_LIST.into(), failure })
                })?;
                self.download(&listing, progress).map_err(|missed| self.error(missed))
            }
        }
    }

    /// The newest snapshot, or the complete one in the cache if that cannot be had for reasons which the caller need not mend.
    fn renewed(&self, folder: PathBuf, progress: Report<'_>) -> Result<PathBuf> {
        let repo = self.repo;
        let listing = match self.list() {
            Ok(listing) => listing,
            Err(failure) => {
                let reason = failure.reason();
                tracing::warn!(repo, %reason, "the hub cannot be asked, using the model in the cache");
                return Ok(folder);
            }
        };
        match self.download(&listing, progress) {
            Err(Missed { file, failure }) if failure.is_read_only() => {
                let (reason, commit) = (failure.reason(), &listing.commit);
                tracing::warn!(repo, file, commit, %reason, "the hub has a newer model, using the one in the read-only cache");
                Ok(folder)
            }
            outcome => outcome.map_err(|missed| self.error(missed)),
        }
    }

    fn list(&self) -> Result<Listing, Failure> {
        self.check_endpoint()?;
        let url = format!("{}/api/{}", self.hub.endpoint, self.at(self.revision).api_url());
        Listing::ask(&self.agent, &url, self.hub.token.as_deref(), self.asked(self.revision, None))
    }

    fn check_endpoint(&self) -> Result<(), Failure> {
        let endpoint = &self.hub.endpoint;
        let uri: Option<Uri> = endpoint.parse().ok();
        let is_web =
            uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some());
        let expected =
            "expected an address that begins with https:// or http://; see HF_ENDPOINT (or `Hub::with_endpoint`)";
        if is_web { Ok(()) } else { Err(Failure::lasting(format!("the endpoint is {endpoint:?}, {expected}"))) }
    }

    /// Brings what the snapshot lacks. The branch's name moves to it last: until then the old snapshot serves offline.
    fn download(&self, listing: &Listing, progress: Report<'_>) -> Result<PathBuf, Missed> {
        let folder = self.cache.pointer_path(&listing.commit);
        for name in snapshot::REQUIRED {
            self.bring(name, listing, progress)?;
        }
        for name in snapshot::OPTIONAL.into_iter().filter(|name| listing.files.contains_key(*name)) {
            self.bring(name, listing, progress)?;
        }
        for name in self.weights(listing, progress)? {
            self.bring(&name, listing, progress)?;
        }
        let named = snapshot::named(&self.cache, self.revision).is_some_and(|commit| commit == listing.commit);
        if !named && !snapshot::is_commit(self.revision) {
            self.name(&listing.commit)?;
        }
        Ok(folder)
    }

    /// Lets the branch's name stand for a commit. In a read-only cache the snapshot serves without.
    fn name(&self, commit: &str) -> Result<(), Missed> {
        let file = format!("refs/{}", self.revision);
        let written = self.cache.create_ref(commit).map_err(Failure::unwritable(&self.hub.cache.join(&file)));
        match written {
            Err(failure) if failure.is_read_only() => {
                tracing::warn!(repo = self.repo, commit, reason = %failure.reason(), "the cache keeps the old name");
                Ok(())
            }
            written => written.map_err(|failure| Missed { file, failure }),
        }
    }

    /// The names of the safetensors files. With an index, that is brought first.
    fn weights(&self, listing: &Listing, progress: Report<'_>) -> Result<Vec<String>, Missed> {
        if !listing.files.contains_key(snapshot::INDEX) {
            let only = snapshot::only_weights(listing.files.keys().map(String::as_str));
            return Ok(vec![only.unwrap_or(snapshot::SINGLE).to_owned()]);
        }
        self.bring(snapshot::INDEX, listing, progress)?;
        let index = self.cache.pointer_path(&listing.commit).join(snapshot::INDEX);
        snapshot::shards(&index).map_err(|failure| Missed { file: snapshot::INDEX.into(), failure })
    }

    fn bring(&self, name: &str, listing: &Listing, progress: Report<'_>) -> Result<(), Missed> {
        self.try_bring(name, listing, progress).map_err(|failure| Missed { file: name.into(), failure })
    }

    fn try_bring(&self, name: &str, listing: &Listing, progress: Report<'_>) -> Result<(), Failure> {
        let (revision, commit) = (self.revision, &listing.commit);
        let url = self.api.repo(self.at(commit)).url(name);
        let token = self.hub.token.as_deref();
        let blob = match listing.files.get(name) {
            Some(Some(blob)) => blob.clone(),
            Some(None) => retried(|| Blob::ask(&self.agent, &url, token, self.asked(commit, Some(name))))?,
            None => return Err(Failure::lasting(format!("the repository has no such file at {revision} ({commit})"))),
        };
        let pointer = self.cache.pointer_path(commit).join(name);
        if snapshot::has_size(&pointer, blob.size) {
            return Ok(());
        }
        let path = self.cache.blob_path(&blob.etag);
        let _lock = transfer::lock(&path)?;
        // Another process may have finished it while this one waited for the lock.
        if snapshot::has_size(&pointer, blob.size) {
            return Ok(());
        }
        let mut report = |bytes| progress(&Progress { file: name.into(), bytes, total: blob.size });
        let (asked, stall) = (self.asked(commit, Some(name)), self.hub.limits.stall);
        Transfer { agent: &self.agent, url: &url, token, asked, stall, blob: &blob }.run(&path, &mut report)?;
        snapshot::link(&path, &pointer).map_err(Failure::unwritable(&pointer))
    }

    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.repo.into(), RepoType::Model, revision.into())
    }

    fn asked<'b>(&'b self, revision: &'b str, file: Option<&'b str>) -> Asked<'b> {
        Asked { repo: self.repo, revision, file }
    }

    fn error(&self, Missed { file, failure }: Missed) -> Error {
        Error::Hub { repo: self.repo.into(), file, source: failure.reason() }
    }
}

/// The HTTP client. A status is an answer here, not an error: its headers are needed.
fn agent(hub: &Hub) -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(USER_AGENT)
        .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
        .timeout_resolve(Some(CONNECT_LIMIT))
        .timeout_connect(Some(CONNECT_LIMIT))
        .timeout_recv_response(Some(hub.limits.answer))
        .timeout_per_read(Some(hub.limits.stall))
        .build()
        .into()
}
