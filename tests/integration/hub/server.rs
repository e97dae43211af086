//! A hub on loopback: the list of files, `resolve` with its redirects and headers, ranges, and the faults that a test asks for.

use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

pub(crate) const REPO: &str = "someone/model";
/// The key of the list of files among the faults.
pub(crate) const LIST: &str = "the list";
const TIMEOUT: Duration = Duration::from_secs(10);

/// What to do wrong, once, when a file's bytes (or the list) are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Answer with this status.
    Status(u16),
    /// Close the connection after so many bytes of the body.
    Cut(usize),
    /// Send the whole file though a range was asked for.
    WholeFile,
    /// Send other bytes of the same length.
    Garble,
    /// Send a file that is shorter than the list says, as if that was all.
    Short,
    /// Send a byte too many, and do not state the length.
    Long,
    /// Send the page of a login.
    Page,
    /// Send it without its type and its length.
    BarePage,
}

/// How much the server tells of each file before it sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// The list has each file's size and content name.
    InList,
    /// The list has names only, the rest is in the redirect.
    InRedirect,
    /// Only the place where the bytes are tells anything.
    AtPlace,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
}

pub(crate) struct State {
    pub(crate) commit: String,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) faults: HashMap<String, VecDeque<Fault>>,
    pub(crate) token: Option<String>,
    pub(crate) detail: Detail,
    pub(crate) seen: Vec<Seen>,
    port: u16,
    stopped: bool,
}

/// Runs until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            commit: "c".repeat(40),
            files,
            faults: HashMap::new(),
            token: None,
            detail: Detail::InList,
            seen: Vec::new(),
            port: address.port(),
            stopped: false,
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.lock().unwrap().stopped {
                    break;
                }
                let shared = Arc::clone(&shared);
                // A client that goes away in the middle is no concern of the server.
                thread::spawn(move || serve(&stream, &shared).ok());
            }
        });
        Self { address, state, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Reads or changes what the server does.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    pub(crate) fn fault(&self, file: &str, fault: Fault) {
        self.with(|state| state.faults.entry(file.to_owned()).or_default().push_back(fault));
    }

    pub(crate) fn take_seen(&self) -> Vec<Seen> {
        self.with(|state| std::mem::take(&mut state.seen))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.with(|state| state.stopped = true);
        // Wakes the thread from `accept`.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn file(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it asks for the bytes of a file, at the place where they are.
    pub(crate) fn is_transfer(&self) -> bool {
        self.method == "GET" && (self.path.starts_with("/cdn/") || self.path.starts_with("/resolve-cache/"))
    }
}

/// The name that the hub gives to a content.
pub(crate) fn etag(file: &str, content: &[u8]) -> String {
    let sha256: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    // Git's hash of a small file is SHA-1; nothing depends on it but that it is the content's own and has its length.
    if is_large(file) { sha256 } else { sha256[..40].to_owned() }
}

fn is_large(file: &str) -> bool {
    file.ends_with(".safetensors")
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let seen = read_request(stream)?;
    let answer = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen.clone());
        answer(&mut state, &seen)
    };
    let mut head = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !answer.open_ended && answer.headers.iter().all(|(name, _)| *name != "Content-Length") {
        head += &format!("Content-Length: {}\r\n", answer.body.len());
    }
    let mut stream = stream;
    stream.write_all((head + "\r\n").as_bytes())?;
    if seen.method != "HEAD" {
        stream.write_all(&answer.body[..answer.sent.unwrap_or(answer.body.len())])?;
    }
    stream.flush()
}

fn read_request(stream: &TcpStream) -> std::io::Result<Seen> {
    let mut lines = BufReader::new(stream.take(64 << 10)).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let mut seen = Seen { method: words.next().unwrap_or_default(), ..Seen::default() };
    seen.path = words.next().unwrap_or_default();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        seen.headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Ok(seen)
}

#[derive(Default)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Bytes of the body after which the connection closes.
    sent: Option<usize>,
    /// Whether the body's length is not stated.
    open_ended: bool,
}

fn answer(state: &mut State, seen: &Seen) -> Answer {
    let of_status = |status, said: &str| {
        let headers = vec![("X-Error-Message", said.to_owned())];
        Answer { status, headers, ..Answer::default() }
    };
    let expected = state.token.as_ref().map(|token| format!("Bearer {token}"));
    let at_home = !seen.path.starts_with("/cdn/");
    if at_home && expected.is_some() && seen.header("authorization") != expected.as_deref() {
        return of_status(401, "Access to model someone/model is restricted.");
    }
    let path = seen.path.split('?').next().unwrap_or_default();
    let resolve = format!("/{REPO}/resolve/{}/", state.commit);
    let places = ["/cdn/", "/resolve-cache/"];
    if let Some(revision) = path.strip_prefix(&format!("/api/models/{REPO}/revision/")) {
        if !["main", &state.commit].contains(&revision) {
            return of_status(404, "Invalid rev id");
        }
        match next_fault(state, LIST) {
            Some(Fault::Status(status)) => of_status(status, "as asked"),
            Some(Fault::Page) => page(),
            _ => list(state),
        }
    } else if let Some(file) = path.strip_prefix(&resolve) {
        let Some(content) = state.files.get(file) else { return of_status(404, "Entry not found") };
        redirect(state, file, content)
    } else if let Some(file) = places.iter().find_map(|place| path.strip_prefix(place)) {
        let Some(content) = state.files.get(file).cloned() else { return of_status(404, "Entry not found") };
        let fault = if seen.method == "GET" { next_fault(state, file) } else { None };
        match fault {
            Some(Fault::Status(status)) => of_status(status, "as asked"),
            Some(Fault::Page) => page(),
            Some(Fault::BarePage) => Answer { headers: Vec::new(), open_ended: true, ..page() },
            fault => bytes(&content, seen.header("range"), fault, etag(file, &content)),
        }
    } else {
        of_status(404, "Repository not found")
    }
}

fn next_fault(state: &mut State, file: &str) -> Option<Fault> {
    state.faults.get_mut(file)?.pop_front()
}

fn list(state: &State) -> Answer {
    let files = state.files.iter().map(|(name, content)| match state.detail {
        Detail::InRedirect | Detail::AtPlace => serde_json::json!({"rfilename": name}),
        Detail::InList if is_large(name) => {
            let lfs = serde_json::json!({"sha256": etag(name, content), "size": content.len(), "pointerSize": 134});
            serde_json::json!({"rfilename": name, "blobId": "0".repeat(40), "size": content.len(), "lfs": lfs})
        }
        Detail::InList => {
            serde_json::json!({"rfilename": name, "blobId": etag(name, content), "size": content.len()})
        }
    });
    let files: Vec<_> = files.collect();
    let body = serde_json::json!({"id": REPO, "sha": state.commit, "siblings": files});
    Answer { status: 200, body: body.to_string().into_bytes(), ..Answer::default() }
}

fn page() -> Answer {
    let body = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>A hotel</body></html>".to_vec();
    let headers = vec![("Content-Type", "text/html; charset=utf-8".to_owned())];
    Answer { status: 200, headers, body, ..Answer::default() }
}

/// Large files lie on another host, the others at another address of this one; `localhost` is not `127.0.0.1` to a client.
fn redirect(state: &State, file: &str, content: &[u8]) -> Answer {
    let mut headers = vec![("X-Repo-Commit", state.commit.clone()), ("Content-Length", "0".to_owned())];
    if is_large(file) {
        if state.detail != Detail::AtPlace {
            headers.push(("X-Linked-Etag", format!("\"{}\"", etag(file, content))));
            headers.push(("X-Linked-Size", content.len().to_string()));
        }
        headers.push(("Location", format!("http://localhost:{}/cdn/{file}", state.port)));
        Answer { status: 302, headers, ..Answer::default() }
    } else {
        headers.push(("Location", format!("/resolve-cache/{file}")));
        Answer { status: 307, headers, ..Answer::default() }
    }
}

fn bytes(content: &[u8], range: Option<&str>, fault: Option<Fault>, etag: String) -> Answer {
    let mut answer = Answer { status: 200, headers: vec![("ETag", format!("\"{etag}\""))], ..Answer::default() };
    let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    answer.body = match start.filter(|_| !matches!(fault, Some(Fault::WholeFile))) {
        Some(start) if start >= content.len() => return Answer { status: 416, ..answer },
        Some(start) => {
            let span = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
            answer.headers.push(("Content-Range", span));
            answer.status = 206;
            content[start..].to_vec()
        }
        None => content.to_vec(),
    };
    match fault {
        Some(Fault::Cut(sent)) => answer.sent = Some(sent),
        Some(Fault::Garble) => answer.body.iter_mut().for_each(|byte| *byte = !*byte),
        Some(Fault::Short) => drop(answer.body.pop()),
        Some(Fault::Long) => {
            answer.body.push(b'}');
            answer.open_ended = true;
        }
        _ => {}
    }
    answer
}
