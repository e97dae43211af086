//! The transfer of one blob: resumed where it stopped, checked, and only then put in its place.

use super::{
    Failure,
    listing::{Blob, header, refusal},
    snapshot,
};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::Path,
    thread,
    time::Duration,
};
use ureq::{Body, http::Response};

/// The pauses after attempts that brought nothing. One more such attempt is the last.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];
/// Reports come at least so many bytes apart.
const REPORT_STEP: u64 = 1 << 20;
const BUFFER: usize = 1 << 17;

/// What to bring, and from where.
pub(super) struct Transfer<'a> {
    pub(super) agent: &'a ureq::Agent,
    pub(super) url: &'a str,
    pub(super) token: Option<&'a str>,
    pub(super) blob: &'a Blob,
}

type Report<'a> = &'a mut dyn FnMut(u64);

/// Waits until no other process or thread brings this blob.
///
/// The lock is the one that `hf-hub` takes, and the partial file has the name that it uses.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path.with_extension("lock"))?;
    match file.lock() {
        // Some network file systems have no locks. Then a blob that two processes bring at once fails its check.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        result => result.map(|()| file),
    }
}

impl Transfer<'_> {
    /// Leaves the whole blob at `path`. The caller holds its [`lock`].
    pub(super) fn run(&self, path: &Path, report: Report<'_>) -> Result<(), Failure> {
        if snapshot::has_size(path, self.blob.size) {
            return Ok(());
        }
        let partial = path.with_extension("part");
        let mut part = Part::open(&partial, self.blob).map_err(Failure::lasting)?;
        report(part.len);
        self.fill(&mut part, report)?;
        if let Err(failure) = part.check(self.blob) {
            // What an earlier call left may have been damaged; the second check is of this call's bytes alone.
            tracing::warn!(url = self.url, reason = %failure.reason(), "starting again");
            part.restart().map_err(Failure::lasting)?;
            self.fill(&mut part, report)?;
            if let Err(failure) = part.check(self.blob) {
                part.restart().map_err(Failure::lasting)?;
                return Err(failure);
            }
        }
        // Without this a power cut could leave a file of the right size and the wrong content.
        part.file.sync_all().map_err(Failure::lasting)?;
        drop(part);
        fs::rename(partial, path).map_err(Failure::lasting)
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
        let response = request.call().map_err(Failure::passing)?;
        match response.status().as_u16() {
            200 => {
                self.agree(header(&response, "content-length"))?;
                part.restart().map_err(Failure::lasting)?;
            }
            206 => {
                let range = ContentRange::parse(&response);
                let range = range.filter(|range| range.start == part.len && part.len > 0);
                let range =
                    range.ok_or_else(|| Failure::lasting("the server sent another range than the one asked for"))?;
                self.agree(range.total)?;
            }
            416 => {
                part.restart().map_err(Failure::lasting)?;
                return Err(Failure::passing("the server refused to continue the transfer"));
            }
            _ => return Err(refusal(&response)),
        }
        self.receive(response, part, report)
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

    fn receive(&self, response: Response<Body>, part: &mut Part, report: Report<'_>) -> Result<(), Failure> {
        let mut body = response.into_body().into_reader();
        let (mut buffer, mut reported) = (vec![0; BUFFER], part.len);
        while part.len < self.blob.size {
            let rest = usize::try_from(self.blob.size - part.len).unwrap_or(BUFFER);
            let count = match body.read(&mut buffer[..rest.min(BUFFER)]) {
                Ok(0) => return Err(Failure::passing("the answer ended early")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::passing(error)),
            };
            part.append(&buffer[..count]).map_err(Failure::lasting)?;
            if part.len - reported >= REPORT_STEP || part.len == self.blob.size {
                report(part.len);
                reported = part.len;
            }
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
    file: File,
    len: u64,
    sha256: Option<Sha256>,
}

impl Part {
    fn open(path: &Path, blob: &Blob) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let len = file.metadata()?.len();
        let mut part = Self { file, len, sha256: blob.sha256().map(|_| Sha256::new()) };
        if len > blob.size {
            part.restart()?;
        } else if let Some(sha256) = &mut part.sha256 {
            io::copy(&mut part.file, sha256)?;
        }
        part.file.seek(io::SeekFrom::Start(part.len))?;
        Ok(part)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
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
