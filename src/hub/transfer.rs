//! The transfer of one blob: resumed where it stopped, checked, and only then put in its place.

use super::{
    failure::{Asked, Failure, PAUSES, header, refusal, web_page},
    listing::Blob,
    snapshot,
};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use ureq::{Body, http::Response};

/// Reports come at least so many bytes apart.
const REPORT_STEP: u64 = 1 << 20;
const BUFFER: usize = 1 << 17;
/// So much of an answer tells whether it is a page for a browser, and its title.
const PAGE_HEAD: u64 = 1 << 12;

/// What to bring, and from where.
pub(super) struct Transfer<'a> {
    pub(super) agent: &'a ureq::Agent,
    pub(super) url: &'a str,
    pub(super) token: Option<&'a str>,
    pub(super) asked: Asked<'a>,
    pub(super) stall: Duration,
    pub(super) blob: &'a Blob,
}

type Report<'a> = &'a mut dyn FnMut(u64);

/// Waits until no other process or thread brings this blob.
///
/// The lock is the one that `hf-hub` takes, and the partial file has the name that it uses.
pub(super) fn lock(path: &Path) -> Result<File, Failure> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Failure::unwritable(folder))?;
    }
    let path = path.with_extension("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(Failure::unwritable(&path))?;
    match file.lock() {
        // Some network file systems have no locks. Then a blob that two processes bring at once fails its check.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        result => result.map(|()| file).map_err(Failure::unwritable(&path)),
    }
}

impl Transfer<'_> {
    /// Leaves the whole blob at `path`. The caller holds its [`lock`].
    pub(super) fn run(&self, path: &Path, report: Report<'_>) -> Result<(), Failure> {
        if snapshot::has_size(path, self.blob.size) {
            return Ok(());
        }
        let partial = path.with_extension("part");
        let mut part = Part::open(&partial, self.blob)?;
        report(part.len);
        self.fill(&mut part, report)?;
        if let Err(failure) = part.check(self.blob) {
            // What an earlier call left may have been damaged; the second check is of this call's bytes alone.
            tracing::warn!(url = self.url, reason = %failure.reason(), "starting again");
            part.restart()?;
            self.fill(&mut part, report)?;
            if let Err(failure) = part.check(self.blob) {
                part.restart()?;
                return Err(failure);
            }
        }
        // Without this a power cut could leave a file of the right size and the wrong content.
        part.file.sync_all().map_err(Failure::unwritable(&partial))?;
        drop(part);
        fs::rename(partial, path).map_err(Failure::unwritable(path))
    }

    /// Asks again, from where the last answer stopped, until all is there.
    fn fill(&self, part: &mut Part, report: Report<'_>) -> Result<(), Failure> {
        let (mut farthest, mut pauses) = (part.len, PAUSES.iter());
        while part.len < self.blob.size {
            let outcome = self.request(part, report);
            if part.len > farthest {
                (farthest, pauses) = (part.len, PAUSES.iter());
            }
            match outcome {
                Err(Failure::Passing(reason)) => {
                    let Some(pause) = pauses.next() else { return Err(Failure::Passing(reason)) };
                    tracing::warn!(url = self.url, at = part.len, %reason, "the transfer stopped, continuing");
                    thread::sleep(*pause);
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }

    fn request(&self, part: &mut Part, report: Report<'_>) -> Result<(), Failure> {
        // Ranges count the bytes of the file as it is, so it must not come compressed.
        let mut request = self.agent.get(self.url).header("Accept-Encoding", "identity");
        if let Some(token) = self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if part.len > 0 {
            request = request.header("Range", format!("bytes={}-", part.len));
        }
        let request = request.config().timeout_recv_response(Some(self.stall)).build();
        let mut response = request.call().map_err(Failure::passing)?;
        let mut head = Vec::new();
        if response.status().is_success() {
            response.body_mut().as_reader().take(PAGE_HEAD).read_to_end(&mut head).map_err(Failure::passing)?;
        }
        // Before anything that was brought is thrown away. Bytes in the middle of a file can be anything.
        let from_start = response.status() == 200;
        if let Some(page) = web_page(&response, &head, self.asked).filter(|_| from_start) {
            return Err(page);
        }
        match response.status().as_u16() {
            200 => {
                self.agree(header(&response, "content-length"))?;
                if part.len > 0 {
                    part.restart()?;
                }
            }
            206 => {
                let range = ContentRange::parse(&response);
                let range = range.filter(|range| range.start == part.len && part.len > 0);
                let range =
                    range.ok_or_else(|| Failure::lasting("the server sent another range than the one asked for"))?;
                self.agree(range.total)?;
            }
            416 => {
                part.restart()?;
                return Err(Failure::passing("the server refused to continue the transfer"));
            }
            _ => return Err(refusal(&response, self.asked)),
        }
        self.receive(head.as_slice().chain(response.into_body().into_reader()), part, report)
    }

    fn agree(&self, total: Option<&str>) -> Result<(), Failure> {
        let expected = self.blob.size;
        match total.and_then(|total| total.parse::<u64>().ok()) {
            Some(total) if total != expected => {
                Err(Failure::lasting(format!("the server sends {total} bytes where its list says {expected}")))
            }
            _ => Ok(()),
        }
    }

    fn receive(&self, mut body: impl Read, part: &mut Part, report: Report<'_>) -> Result<(), Failure> {
        let (mut buffer, mut reported) = (vec![0; BUFFER], part.len);
        while part.len < self.blob.size {
            let rest = usize::try_from(self.blob.size - part.len).unwrap_or(BUFFER);
            let count = match body.read(&mut buffer[..rest.min(BUFFER)]) {
                Ok(0) => return Err(Failure::passing("the answer ended early")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::passing(error)),
            };
            part.append(&buffer[..count])?;
            if part.len - reported >= REPORT_STEP || part.len == self.blob.size {
                report(part.len);
                reported = part.len;
            }
        }
        // An answer that does not state its length may be longer.
        if body.read(&mut buffer[..1]).is_ok_and(|more| more > 0) {
            part.restart()?;
            return Err(Failure::lasting(format!(
                "the server sends more than the {} bytes of its list",
                self.blob.size
            )));
        }
        Ok(())
    }
}

/// `bytes start-end/total`, of which the total may be unknown.
struct ContentRange<'a> {
    start: u64,
    total: Option<&'a str>,
}

impl<'a> ContentRange<'a> {
    fn parse(response: &'a Response<Body>) -> Option<Self> {
        let (range, total) = header(response, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
        let (start, _end) = range.split_once('-')?;
        Some(Self { start: start.trim().parse().ok()?, total: Some(total.trim()).filter(|total| *total != "*") })
    }
}

/// The file that grows until it is the blob, and the hash of what it holds.
struct Part {
    path: PathBuf,
    file: File,
    len: u64,
    sha256: Option<Sha256>,
}

impl Part {
    fn open(path: &Path, blob: &Blob) -> Result<Self, Failure> {
        let open = || {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            let len = file.metadata()?.len();
            Ok(Self { path: path.to_owned(), file, len, sha256: blob.sha256().map(|_| Sha256::new()) })
        };
        let mut part = open().map_err(Failure::unwritable(path))?;
        if part.len > blob.size {
            part.restart()?;
        } else if let Some(sha256) = &mut part.sha256 {
            // A device has no end.
            io::copy(&mut (&part.file).take(part.len), sha256).map_err(Failure::unwritable(path))?;
        }
        part.file.seek(io::SeekFrom::Start(part.len)).map_err(Failure::unwritable(path))?;
        Ok(part)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(Failure::unwritable(&self.path))?;
        self.len += bytes.len() as u64;
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Failure> {
        let cleared = self.file.set_len(0).and_then(|()| self.file.rewind());
        cleared.map_err(Failure::unwritable(&self.path))?;
        self.len = 0;
        self.sha256 = self.sha256.take().map(|_| Sha256::new());
        Ok(())
    }

    /// Whether the whole content is what the hub promises.
    fn check(&self, blob: &Blob) -> Result<(), Failure> {
        let (Some(sha256), Some(expected)) = (&self.sha256, blob.sha256()) else { return Ok(()) };
        let found: String = sha256.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        Err(Failure::lasting(format!("its content has SHA-256 {found}, the hub says {expected}")))
    }
}
