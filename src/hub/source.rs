//! One fetch: what to ask, in which order, and what serves when the hub does not answer.

use super::{
    Failure, Hub, Network, Progress,
    listing::{Blob, Listing},
    snapshot,
    transfer::{self, Transfer},
};
use deepseek_ocr_core::{Error, Result};
use hf_hub::{
    CacheRepo, Repo, RepoType,
    api::sync::{Api, ApiBuilder, ApiRepo},
};
use std::{path::PathBuf, time::Duration};

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
/// How long to wait for a name, and then for a connection with its handshake.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// How long to wait for the head of an answer.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// A transfer that brings nothing for so long is taken up anew where it stopped.
const STALL_LIMIT: Duration = Duration::from_secs(60);
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
        let cache = hf_hub::Cache::new(hub.cache.clone());
        let api = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(hub.endpoint.clone())
            .with_token(hub.token.clone())
            .with_user_agent(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|e| Error::Hub { repo: repo.into(), file: FILE_LIST.into(), source: e.into() })?;
        let cache = cache.repo(Repo::with_revision(repo.into(), RepoType::Model, revision.into()));
        Ok(Self { hub, repo, revision, api, agent: agent(), cache })
    }

    pub(super) fn fetch(&self, progress: Report<'_>) -> Result<PathBuf> {
        let cached = snapshot::in_cache(&self.cache, self.revision);
        if self.hub.network == Network::Forbidden {
            let place = self.hub.cache.display();
            let reason = format!("it is not in the cache at {place}, and offline mode forbids the network");
            return cached.map_err(|missing| self.error(&missing)(Failure::lasting(reason)));
        }
        match cached {
            Ok(folder) if snapshot::is_commit(self.revision) => Ok(folder),
            Ok(folder) => match self.list() {
                Ok(listing) => self.download(&listing, progress),
                Err(failure) => {
                    let reason = failure.reason();
                    tracing::warn!(repo = self.repo, %reason, "the hub cannot be asked, using the model in the cache");
                    Ok(folder)
                }
            },
            Err(_) => self.download(&self.list().map_err(self.error(FILE_LIST))?, progress),
        }
    }

    fn list(&self) -> Result<Listing, Failure> {
        Listing::ask(&self.api_at(self.revision))
    }

    /// Brings what the snapshot lacks. The branch's name moves to it last: until then the old snapshot serves offline.
    fn download(&self, listing: &Listing, progress: Report<'_>) -> Result<PathBuf> {
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
        let named = self.cache.get(snapshot::CONFIG).is_some_and(|config| config.starts_with(&folder));
        if !named && !snapshot::is_commit(self.revision) {
            let written = self.cache.create_ref(&listing.commit).map_err(Failure::lasting);
            written.map_err(self.error(&format!("refs/{}", self.revision)))?;
        }
        Ok(folder)
    }

    /// The names of the safetensors files. With an index, that is brought first.
    fn weights(&self, listing: &Listing, progress: Report<'_>) -> Result<Vec<String>> {
        if !listing.files.contains_key(snapshot::INDEX) {
            let only = snapshot::only_weights(listing.files.keys().map(String::as_str));
            return Ok(vec![only.unwrap_or(snapshot::SINGLE).to_owned()]);
        }
        self.bring(snapshot::INDEX, listing, progress)?;
        let index = self.cache.pointer_path(&listing.commit).join(snapshot::INDEX);
        snapshot::shards(&index).map_err(self.error(snapshot::INDEX))
    }

    fn bring(&self, name: &str, listing: &Listing, progress: Report<'_>) -> Result<()> {
        self.try_bring(name, listing, progress).map_err(self.error(name))
    }

    fn try_bring(&self, name: &str, listing: &Listing, progress: Report<'_>) -> Result<(), Failure> {
        let (revision, commit) = (self.revision, &listing.commit);
        let url = self.api_at(commit).url(name);
        let token = self.hub.token.as_deref();
        let blob = match listing.files.get(name) {
            Some(Some(blob)) => blob.clone(),
            Some(None) => Blob::ask(&self.agent, &url, token)?,
            None => return Err(Failure::lasting(format!("the repository has no such file at {revision} ({commit})"))),
        };
        let pointer = self.cache.pointer_path(commit).join(name);
        if snapshot::has_size(&pointer, blob.size) {
            return Ok(());
        }
        let path = self.cache.blob_path(&blob.etag);
        let _lock = transfer::lock(&path).map_err(Failure::lasting)?;
        // Another process may have finished it while this one waited for the lock.
        if snapshot::has_size(&pointer, blob.size) {
            return Ok(());
        }
        let mut report = |bytes| progress(&Progress { file: name.into(), bytes, total: blob.size });
        Transfer { agent: &self.agent, url: &url, token, blob: &blob }.run(&path, &mut report)?;
        snapshot::link(&path, &pointer).map_err(Failure::lasting)
    }

    fn api_at(&self, revision: &str) -> ApiRepo {
        self.api.repo(Repo::with_revision(self.repo.into(), RepoType::Model, revision.into()))
    }

    fn error(&self, file: &str) -> impl FnOnce(Failure) -> Error + use<> {
        let (repo, file) = (self.repo.to_owned(), file.to_owned());
        move |failure| Error::Hub { repo, file, source: failure.reason() }
    }
}

/// The client for everything but the list. A status is an answer here, not an error: its headers are needed.
fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(USER_AGENT)
        .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
        .timeout_resolve(Some(CONNECT_LIMIT))
        .timeout_connect(Some(CONNECT_LIMIT))
        .timeout_recv_response(Some(ANSWER_LIMIT))
        .timeout_per_read(Some(STALL_LIMIT))
        .build()
        .into()
}
