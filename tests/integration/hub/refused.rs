//! What a server does not have, does not give to everybody, or does not tell.

use super::{
    FIRST, INDEX, SECOND, Setup, WANTED, fetch, hub_error,
    server::{Detail, Fault, LIST, REPO},
};
use deepseek_ocr::Error;
use std::fs;

#[test]
fn an_absent_file_is_named() {
    let setup = Setup::new();
    setup.server.fault("config.json", Fault::Status(404));
    assert_eq!(hub_error(setup.fetch().0).0, "config.json");
    for file in ["tokenizer.json", "config.json", SECOND] {
        let content = setup.server.with(|state| state.files.remove(file).unwrap());
        let (named, text) = hub_error(setup.fetch().0);
        assert_eq!(named, file);
        assert!(text.contains("no such file"), "{text}");
        setup.server.with(|state| state.files.insert(file.to_owned(), content));
    }
    let (file, text) = hub_error(setup.hub().fetch(REPO, "v2", &mut |_| {}));
    assert_eq!(file, "the file list");
    assert!(text.contains("404") && text.contains("Invalid rev id"), "{text}");
}

#[test]
fn a_token_opens_a_gated_repository_and_stays_with_its_host() {
    let setup = Setup::new();
    setup.server.with(|state| state.token = Some("hf_secret".into()));
    for hub in [setup.hub(), setup.hub().with_token("hf_wrong")] {
        let (_, text) = hub_error(fetch(&hub).0);
        assert!(text.contains("401") && text.contains("HF_TOKEN") && text.contains("is restricted"), "{text}");
        assert!(!text.contains("hf_wrong"), "{text}");
    }
    setup.server.take_seen();
    setup.assert_model(&fetch(&setup.hub().with_token("hf_secret")).0.unwrap());
    let elsewhere: Vec<_> = setup.transfers().into_iter().filter(|seen| seen.path.starts_with("/cdn/")).collect();
    assert_eq!(elsewhere.len(), 2);
    assert!(elsewhere.iter().all(|seen| seen.header("authorization").is_none()), "{elsewhere:?}");
}

#[test]
fn a_mirror_whose_list_has_only_names_is_asked_for_each_file() {
    for detail in [Detail::InRedirect, Detail::AtPlace] {
        let setup = Setup::new();
        setup.server.with(|state| {
            state.detail = detail;
            state.token = Some("hf_secret".into());
        });
        let hub = setup.hub().with_token("hf_secret");
        let folder = fetch(&hub).0.unwrap();
        setup.assert_model(&folder);
        assert!(setup.blob(FIRST).is_file(), "the content has the name that the server states");
        let seen = setup.server.take_seen();
        let asked: Vec<_> = seen.iter().filter(|seen| seen.method == "HEAD").collect();
        assert!(WANTED.iter().all(|file| asked.iter().any(|seen| seen.file() == *file)));
        assert!(asked.iter().all(|seen| seen.header("accept-encoding") == Some("identity")));
        let elsewhere: Vec<_> = asked.into_iter().filter(|seen| seen.path.starts_with("/cdn/")).collect();
        assert_eq!(elsewhere.is_empty(), detail == Detail::InRedirect);
        assert!(elsewhere.iter().all(|seen| seen.header("authorization").is_none()), "{elsewhere:?}");

        assert_eq!(fetch(&hub).0.unwrap(), folder);
        assert!(setup.transfers().is_empty());
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let setup = Setup::new();
    let outside = br#"{"weight_map": {"a": "../../../../outside.safetensors"}}"#;
    setup.server.with(|state| state.files.insert(INDEX.into(), outside.to_vec()));
    let (file, text) = hub_error(setup.fetch().0);
    assert_eq!(file, INDEX);
    assert!(text.contains("weight_map.a"), "{text}");

    setup.server.take_seen();
    for (repo, revision) in [("../up", "main"), ("a/b/c", "main"), ("", "main"), (REPO, "../main"), (REPO, "")] {
        let error = setup.hub().fetch(repo, revision, &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::InvalidRequest { .. }), "{error:?}");
    }
    assert!(setup.server.take_seen().is_empty());
}

#[test]
fn a_page_for_a_browser_is_named_with_its_address() {
    let setup = Setup::new();
    setup.server.fault(LIST, Fault::Page);
    let (file, text) = hub_error(setup.fetch().0);
    assert_eq!(file, "the file list");
    let address = format!("{}/api/models/{REPO}/revision/main", setup.server.url());
    assert!(text.contains(&address) && text.contains("web page") && text.contains("Sign in"), "{text}");

    for fault in [Fault::Page, Fault::BarePage] {
        let setup = Setup::new();
        for (wanted, place) in [("config.json", "/resolve-cache/config.json"), (FIRST, "/cdn/model-00001")] {
            setup.server.fault(wanted, fault);
            let (file, text) = hub_error(setup.fetch().0);
            assert_eq!(file, wanted);
            assert!(text.contains(place) && text.contains("web page") && text.contains("Sign in"), "{text}");
        }
        setup.assert_model(&setup.fetch().0.unwrap());
        setup.server.fault(LIST, Fault::Page);
        assert!(setup.fetch().0.is_ok(), "a complete cache serves");
    }
}

#[test]
fn a_page_for_a_browser_does_not_end_a_download() {
    const CUT: usize = 100_000;
    let setup = Setup::new();
    setup.server.fault(FIRST, Fault::Cut(CUT));
    setup.server.fault(FIRST, Fault::Page);
    assert_eq!(hub_error(setup.fetch().0).0, FIRST);
    setup.server.take_seen();
    setup.assert_model(&setup.fetch().0.unwrap());
    assert_eq!(setup.transfers()[0].header("range"), Some(&*format!("bytes={CUT}-")));
}

#[test]
fn a_file_that_is_longer_than_the_list_says_is_refused() {
    let setup = Setup::new();
    setup.server.fault("tokenizer.json", Fault::Long);
    let (file, text) = hub_error(setup.fetch().0);
    assert_eq!(file, "tokenizer.json");
    assert!(text.contains("more than the 13 bytes"), "{text}");
    setup.assert_model(&setup.fetch().0.unwrap());
}

#[test]
fn a_list_that_is_refused_for_a_while_is_asked_for_again() {
    for status in [429, 503] {
        let setup = Setup::new();
        setup.server.fault(LIST, Fault::Status(status));
        setup.assert_model(&setup.fetch().0.unwrap());
    }
}

#[test]
fn what_is_private_or_absent_says_what_to_do() {
    let setup = Setup::new();
    for (status, words) in
        [(401, "private, gated or misspelt"), (403, "accept its terms"), (404, "has no revision main")]
    {
        setup.server.fault(LIST, Fault::Status(status));
        let (file, text) = hub_error(setup.fetch().0);
        assert_eq!(file, "the file list");
        assert!(text.contains(&status.to_string()) && text.contains(REPO) && text.contains(words), "{text}");
        assert_eq!(text.contains("HF_TOKEN"), status != 404, "{text}");
    }
    setup.server.fault(SECOND, Fault::Status(404));
    let (file, text) = hub_error(setup.fetch().0);
    assert_eq!(file, SECOND);
    assert!(text.contains(&format!("no file {SECOND}")), "{text}");
}

#[test]
fn an_endpoint_without_scheme_is_named() {
    let setup = Setup::new();
    for endpoint in ["huggingface.example.com", "localhost:8080", "ftp://mirror", "https//mirror", "https:", "a b", ""]
    {
        let (file, text) = hub_error(fetch(&setup.hub().with_endpoint(endpoint)).0);
        assert_eq!(file, "the file list");
        assert!(text.contains(&format!("{endpoint:?}")) && text.contains("HF_ENDPOINT"), "{text}");
    }
    let folder = setup.fetch().0.unwrap();
    assert_eq!(fetch(&setup.hub().with_endpoint("huggingface.example.com")).0.unwrap(), folder, "from the cache");
}

#[test]
fn a_token_that_cannot_be_one_is_refused_and_not_shown() {
    let setup = Setup::new();
    for token in ["hf_with space", "hf_\u{fc}mlaut", "hf_\u{0}"] {
        let error = fetch(&setup.hub().with_token(token)).0.unwrap_err();
        assert!(matches!(error, Error::InvalidRequest { field: "token", .. }), "{error:?}");
        assert!(!error.to_string().contains("hf_"), "{error}");
    }
    assert!(setup.server.take_seen().is_empty());
    assert!(!fs::exists(&setup.cache).unwrap());
}
