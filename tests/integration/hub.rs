//! `Hub` against a hub on loopback: whole downloads, the cache, and the environment.

mod cache;
mod interrupted;
mod refused;
mod server;

use deepseek_ocr::{Error, Hub, Progress};
use server::{Fault, LIST, REPO, Seen, Server, etag};
use std::{
    collections::BTreeMap,
    error::Error as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

const FIRST: &str = "model-00001-of-000002.safetensors";
const SECOND: &str = "model-00002-of-000002.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// What a model needs of [`files`].
const WANTED: [&str; 6] = ["config.json", "tokenizer.json", "tokenizer_config.json", INDEX, FIRST, SECOND];
/// Long enough for several reports.
const LARGE: usize = 5 << 19;

fn files() -> BTreeMap<String, Vec<u8>> {
    let index = format!(r#"{{"metadata":{{}},"weight_map":{{"a":"{FIRST}","b":"{SECOND}","c":"{FIRST}"}}}}"#);
    let file = |name: &str, content: &[u8]| (name.to_owned(), content.to_vec());
    BTreeMap::from([
        file("config.json", b"{\"model_type\": \"deepseekocr\"}"),
        file("tokenizer.json", b"{\"model\": {}}"),
        file("tokenizer_config.json", b"{}"),
        file(INDEX, index.as_bytes()),
        file(FIRST, &noise(LARGE, 1)),
        file(SECOND, &noise(5000, 2)),
        file("modeling_deepseekocr.py", b"import os"),
        file("README.md", b"# A model"),
    ])
}

/// Bytes whose every stretch is its own, so that a piece in the wrong place shows. The multiplier is Knuth's, of MMIX.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A server with a model, and an empty cache.
struct Setup {
    server: Server,
    cache: PathBuf,
}

impl Setup {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("hub-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).join("hub");
        Self { server: Server::start(files()), cache }
    }

    fn hub(&self) -> Hub {
        Hub::new(&self.cache).with_endpoint(self.server.url())
    }

    fn fetch(&self) -> (Result<PathBuf, Error>, Vec<Progress>) {
        fetch(&self.hub())
    }

    fn blob(&self, file: &str) -> PathBuf {
        let content = self.server.with(|state| state.files[file].clone());
        self.cache.join("models--someone--model/blobs").join(etag(file, &content))
    }

    /// The folder holds what a model needs, each file as the server has it, and nothing else.
    fn assert_model(&self, folder: &Path) {
        for file in WANTED {
            let expected = self.server.with(|state| state.files[file].clone());
            assert!(fs::read(folder.join(file)).unwrap() == expected, "{file} differs");
        }
        assert_eq!(fs::read_dir(folder).unwrap().count(), WANTED.len());
    }

    fn transfers(&self) -> Vec<Seen> {
        self.server.take_seen().into_iter().filter(Seen::is_transfer).collect()
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if let Some(folder) = self.cache.parent() {
            fs::remove_dir_all(folder).ok();
        }
    }
}

fn fetch(hub: &Hub) -> (Result<PathBuf, Error>, Vec<Progress>) {
    let mut reports = Vec::new();
    let result = hub.fetch(REPO, Hub::MAIN, &mut |progress| reports.push(progress.clone()));
    (result, reports)
}

/// The file that the error names, and all that its chain says.
fn hub_error(result: Result<PathBuf, Error>) -> (String, String) {
    let error = result.unwrap_err();
    let Error::Hub { repo, file, .. } = &error else { panic!("{error:?} is not `Error::Hub`") };
    assert_eq!(repo, REPO);
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    (file.clone(), text)
}

fn bytes_of<'a>(reports: &'a [Progress], file: &'a str) -> impl Iterator<Item = u64> + 'a {
    reports.iter().filter(move |report| report.file == file).map(|report| report.bytes)
}

#[test]
fn brings_what_a_model_needs_and_nothing_else() {
    let setup = Setup::new();
    let (folder, reports) = setup.fetch();
    setup.assert_model(&folder.unwrap());
    for file in WANTED {
        let total = setup.server.with(|state| state.files[file].len() as u64);
        let bytes: Vec<_> = bytes_of(&reports, file).collect();
        assert!(bytes.is_sorted(), "{file}: {bytes:?}");
        assert_eq!((bytes.first(), bytes.last()), (Some(&0), Some(&total)), "{file}");
        assert!(reports.iter().all(|report| report.file != file || report.total == total));
    }
    assert!(bytes_of(&reports, FIRST).count() >= 4, "a large file is reported on the way");
    let seen = setup.server.take_seen();
    assert!(seen.iter().all(|seen| seen.file() != "README.md" && !seen.path.ends_with(".py")));
    assert_eq!(seen.iter().filter(|seen| seen.is_transfer()).count(), WANTED.len());
}

#[cfg(unix)]
#[test]
fn the_cache_has_the_layout_of_the_official_client() {
    let setup = Setup::new();
    let folder = setup.fetch().0.unwrap();
    let repo = setup.cache.join("models--someone--model");
    assert_eq!(folder, repo.join("snapshots").join("c".repeat(40)));
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), "c".repeat(40));
    for file in WANTED {
        let blob = setup.blob(file);
        assert_eq!(fs::read_link(folder.join(file)).unwrap(), Path::new("../../blobs").join(blob.file_name().unwrap()));
        assert!(blob.is_file());
    }
}

#[test]
fn the_second_time_only_the_list_is_asked_for() {
    let setup = Setup::new();
    let first = setup.fetch().0.unwrap();
    setup.server.take_seen();
    let (second, reports) = setup.fetch();
    assert_eq!((second.unwrap(), reports), (first.clone(), vec![]));
    let seen = setup.server.take_seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].path.starts_with("/api/models/someone/model/revision/main"));

    let pinned = setup.hub().fetch(REPO, &"c".repeat(40), &mut |_| {}).unwrap();
    assert_eq!(pinned, first);
    assert!(setup.server.take_seen().is_empty(), "a commit in the cache needs no request");
}

#[test]
fn a_complete_cache_serves_when_the_hub_does_not() {
    let setup = Setup::new();
    let folder = setup.fetch().0.unwrap();
    for status in [401, 404, 429, 500] {
        setup.server.fault(LIST, Fault::Status(status));
        assert_eq!(setup.fetch().0.unwrap(), folder);
    }
    let nobody = setup.hub().with_endpoint("http://127.0.0.1:1");
    assert_eq!(fetch(&nobody).0.unwrap(), folder);

    setup.server.take_seen();
    assert_eq!(fetch(&setup.hub().offline()).0.unwrap(), folder);
    assert!(setup.server.take_seen().is_empty(), "offline makes no request");
}

#[test]
fn offline_names_what_the_cache_lacks() {
    let setup = Setup::new();
    let offline = setup.hub().offline();
    let (file, text) = hub_error(fetch(&offline).0);
    assert_eq!(file, "config.json");
    assert!(text.contains("offline") && text.contains(&*setup.cache.to_string_lossy()), "{text}");
    assert!(setup.server.take_seen().is_empty());

    let folder = setup.fetch().0.unwrap();
    fs::remove_file(folder.join(SECOND)).unwrap();
    assert_eq!(hub_error(fetch(&offline).0).0, SECOND);
}

#[test]
fn an_empty_cache_and_no_network_is_an_error() {
    let setup = Setup::new();
    let (file, text) = hub_error(fetch(&setup.hub().with_endpoint("http://127.0.0.1:1")).0);
    assert_eq!(file, "the file list");
    assert!(text.to_lowercase().contains("refused"), "{text}");
}

#[test]
fn a_model_without_an_index_has_one_file_of_weights() {
    let setup = Setup::new();
    setup.server.with(|state| {
        state.files.remove(INDEX);
        state.files.remove(FIRST);
    });
    let folder = setup.fetch().0.unwrap();
    assert_eq!(fs::read(folder.join(SECOND)).unwrap(), noise(5000, 2));
    assert_eq!(fetch(&setup.hub().offline()).0.unwrap(), folder);

    setup.server.with(|state| state.files.remove(SECOND));
    assert_eq!(hub_error(setup.fetch().0).0, "model.safetensors");
}

#[test]
fn threads_bring_each_file_once() {
    let setup = Setup::new();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| setup.fetch().0.unwrap())).collect();
        for call in calls {
            setup.assert_model(&call.join().unwrap());
        }
    });
    let mut files: Vec<_> = setup.transfers().iter().map(|seen| seen.file().to_owned()).collect();
    files.sort_unstable();
    let mut wanted = WANTED;
    wanted.sort_unstable();
    assert_eq!(files, wanted);
}

#[test]
fn it_runs_inside_a_tokio_runtime() {
    let setup = Setup::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let folder = runtime.block_on(async { setup.fetch().0.unwrap() });
    setup.assert_model(&folder);
    let hub = setup.hub();
    let again = runtime.block_on(async { tokio::task::spawn_blocking(move || fetch(&hub).0.unwrap()).await.unwrap() });
    assert_eq!(again, folder);
}

#[test]
fn the_endpoint_may_end_in_a_slash() {
    let setup = Setup::new();
    let hub = setup.hub().with_endpoint(setup.server.url() + "/");
    setup.assert_model(&fetch(&hub).0.unwrap());
    assert!(setup.server.take_seen().iter().all(|seen| !seen.path.contains("//")));
}

/// The environment belongs to the whole process, so the test that sets it is a process of its own.
#[test]
fn the_environment_is_honoured() {
    let setup = Setup::new();
    setup.server.with(|state| state.token = Some("hf_secret".into()));
    let home = setup.cache.parent().unwrap();
    let run = |token: &str, offline: &str| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--ignored", "--exact", "hub::child_of_the_environment_is_honoured"]);
        for inherited in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN"] {
            child.env_remove(inherited);
        }
        for inherited in ["HF_HUB_DISABLE_IMPLICIT_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            child.env_remove(inherited);
        }
        child.env("HF_HOME", home).env("HF_ENDPOINT", setup.server.url());
        child.env("HF_TOKEN", token).env("HF_HUB_OFFLINE", offline).output().unwrap()
    };
    let offline = run("hf_secret", "1");
    assert!(!offline.status.success());
    assert!(setup.server.take_seen().is_empty(), "HF_HUB_OFFLINE forbids requests");

    let online = run("hf_secret", "0");
    assert!(online.status.success(), "{}", String::from_utf8_lossy(&online.stdout));
    setup.assert_model(&home.join("hub/models--someone--model/snapshots").join("c".repeat(40)));
    setup.server.take_seen();
    assert!(run("", "1").status.success(), "offline from the cache");
    assert!(setup.server.take_seen().is_empty());

    fs::write(home.join("token"), "hf_secret\n").unwrap();
    assert!(run("", "0").status.success());
    assert_eq!(setup.server.take_seen()[0].header("authorization"), Some("Bearer hf_secret"), "the login's token");
}

#[test]
#[ignore = "the body of `the_environment_is_honoured`, which runs it in a process with its own environment"]
fn child_of_the_environment_is_honoured() {
    // Run by hand it must not reach for the real hub.
    if std::env::var("HF_ENDPOINT").is_ok_and(|endpoint| endpoint.starts_with("http://127.0.0.1:")) {
        fetch(&Hub::from_env().unwrap()).0.unwrap();
    }
}
