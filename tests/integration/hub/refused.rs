//! What a server does not have, does not give to everybody, or does not tell.

use super::{
    FIRST, INDEX, SECOND, Setup, WANTED, fetch, hub_error,
    server::{Detail, Fault, REPO},
};
use deepseek_ocr::Error;

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
