//! Why something could not be had, in words that help.

use deepseek_ocr_core::BoxError;
use std::{
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use ureq::{
    Body, ResponseExt,
    http::{Response, Uri},
};

/// The pauses after attempts that brought nothing. One more such attempt is the last.
pub(super) const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];
/// How much of a server's own words goes into a message.
const SAYING_LIMIT: usize = 200;

/// Why something could not be had.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another attempt may succeed.
    Passing(BoxError),
    /// Another attempt would fail alike.
    Lasting(BoxError),
    /// The cache does not take it.
    Unwritable { path: PathBuf, source: io::Error },
}

/// What a server was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) repo: &'a str,
    pub(super) revision: &'a str,
    /// Nothing for the list of files.
    pub(super) file: Option<&'a str>,
}

impl Failure {
    pub(super) fn lasting(reason: impl Into<BoxError>) -> Self {
        Self::Lasting(reason.into())
    }

    pub(super) fn passing(reason: impl Into<BoxError>) -> Self {
        Self::Passing(reason.into())
    }

    /// For `map_err` where the cache is written.
    pub(super) fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Unwritable { path: path.to_owned(), source }
    }

    /// Whether nobody was to write to the cache.
    pub(super) fn is_read_only(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(self, Self::Unwritable { source, .. } if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem))
    }

    pub(super) fn reason(self) -> BoxError {
        match self {
            Self::Passing(reason) | Self::Lasting(reason) => reason,
            Self::Unwritable { path, source } => {
                let advice = cache_advice(source.kind());
                format!("cannot write {} in the cache: {source}{advice}", path.display()).into()
            }
        }
    }
}

/// Repeats what fails for a while.
pub(super) fn retried<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for pause in PAUSES {
        match attempt() {
            Err(Failure::Passing(reason)) => {
                tracing::warn!(%reason, "asking again");
                thread::sleep(pause);
            }
            outcome => return outcome,
        }
    }
    attempt()
}

fn cache_advice(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind as Kind;
    match kind {
        Kind::StorageFull | Kind::QuotaExceeded => {
            "; the disk is full: make room, or keep downloads elsewhere with HF_HUB_CACHE (or `Hub::with_cache`)"
        }
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
            "; keep downloads in a folder that can be written with HF_HUB_CACHE (or `Hub::with_cache`)"
        }
        Kind::NotADirectory | Kind::AlreadyExists => "; a part of this path is a file and not a folder",
        _ => "",
    }
}

pub(super) fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// What to tell of an answer that is neither content nor a redirect.
pub(super) fn refusal(response: &Response<Body>, asked: Asked<'_>) -> Failure {
    let status = response.status();
    let saying = said(header(response, "x-error-message").unwrap_or_default());
    let saying = if saying.is_empty() { saying } else { format!(" ({saying:?})") };
    let advice = advice(status.as_u16(), header(response, "x-error-code"), asked);
    let reason = format!("{} answered {status}{saying}{advice}", place(response.get_uri()));
    // Too slow, too many requests, or trouble of the server's own; but not a network that wants a login (511).
    match status.as_u16() {
        408 | 425 | 429 | 500..=510 | 512.. => Failure::passing(reason),
        _ => Failure::lasting(reason),
    }
}

fn advice(status: u16, code: Option<&str>, asked: Asked<'_>) -> String {
    let Asked { repo, revision, file } = asked;
    let token = "set HF_TOKEN (or `Hub::with_token`) to a token that may read it";
    match (status, code) {
        (_, Some("GatedRepo")) => format!(": {repo} is gated; accept its terms on its page at the hub, and {token}"),
        (404, Some("RepoNotFound")) => format!(": there is no repository {repo}"),
        (404, Some("RevisionNotFound")) => format!(": {repo} has no revision {revision}"),
        (401 | 403, _) => {
            let link = if status == 403 && file.is_some() {
                "; or the link to the file was refused: is the clock right, and does a proxy let it through? The next call goes on \
                 where this one stopped"
            } else {
                ""
            };
            format!(": {repo} may be private, gated or misspelt; accept its terms on the hub, and {token}{link}")
        }
        (404, _) => match file {
            Some(file) => format!(": {repo} has no file {file} at {revision}"),
            None => format!(": there is no repository {repo}, or it has no revision {revision}"),
        },
        (407, _) => ": the proxy wants a login; see HTTPS_PROXY".into(),
        (429, _) => ": too many requests; wait a while, a token (HF_TOKEN) allows more of them".into(),
        (511, _) => ": the network wants a login; open a page in a browser".into(),
        _ => String::new(),
    }
}

/// The failure, if this is a page for a browser: that of a login, a proxy or a hotel's network.
pub(super) fn web_page(response: &Response<Body>, body: &[u8], asked: Asked<'_>) -> Option<Failure> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let begins = |tag: &str| text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
    let is_html = header(response, "content-type").is_some_and(|kind| kind.to_lowercase().contains("html"));
    if !(begins("<!doctype html") || begins("<html") || is_html && begins("<")) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").and_then(|at| text[at + "<title>".len()..].split('<').next()).map(said);
    let title = title.filter(|title| !title.is_empty()).map_or(String::new(), |title| format!(" ({title:?})"));
    let wanted = asked.file.unwrap_or("the list of files");
    Some(Failure::lasting(format!(
        "{} answered with a web page{title} instead of {wanted}: a login or a proxy may stand in between; open the address in a \
         browser, and see HF_ENDPOINT and HTTPS_PROXY",
        place(response.get_uri())
    )))
}

fn said(text: &str) -> String {
    text.trim().chars().take(SAYING_LIMIT).collect()
}

/// An address without its query, in which signatures are.
fn place(address: &Uri) -> String {
    let authority = address.authority().map_or("", |authority| authority.as_str());
    // A name and a password may stand before the host.
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{}://{host}{}", address.scheme_str().unwrap_or("http"), address.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn addresses_in_messages_have_no_secrets() {
        let address = "https://me:word@host:1/a/b?signature=x".parse().expect("an address");
        assert_eq!(place(&address), "https://host:1/a/b");
    }

    #[test]
    fn advice_names_what_is_absent() {
        let list = Asked { repo: "a/b", revision: "v2", file: None };
        let file = Asked { file: Some("config.json"), ..list };
        assert!(advice(404, None, list).contains("a/b") && advice(404, None, list).contains("v2"));
        assert!(advice(404, None, file).contains("no file config.json at v2"));
        assert!(advice(404, Some("RevisionNotFound"), list).contains("no revision v2"));
        for (status, asked) in [(401, list), (403, list), (403, file)] {
            let text = advice(status, None, asked);
            assert!(text.contains("HF_TOKEN") && text.contains("accept its terms"), "{text}");
        }
        assert!(advice(403, Some("GatedRepo"), list).contains("is gated"));
    }

    #[test]
    fn a_cache_that_is_closed_is_told_from_one_that_is_full() {
        let failure = |kind: io::ErrorKind| Failure::unwritable(Path::new("/cache/x"))(kind.into());
        assert!(failure(io::ErrorKind::ReadOnlyFilesystem).is_read_only());
        assert!(failure(io::ErrorKind::PermissionDenied).is_read_only());
        assert!(!failure(io::ErrorKind::StorageFull).is_read_only());
        let text = failure(io::ErrorKind::StorageFull).reason().to_string();
        assert!(text.contains("/cache/x") && text.contains("disk is full") && text.contains("HF_HUB_CACHE"), "{text}");
    }

    #[test]
    fn what_lasts_is_asked_once() {
        let count = Cell::new(0);
        let outcome: Result<(), _> = retried(|| {
            count.set(count.get() + 1);
            Err(Failure::lasting("no"))
        });
        assert!(matches!(outcome, Err(Failure::Lasting(_))));
        assert_eq!(count.get(), 1);
    }
}
