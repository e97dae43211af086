//! Transfers that break off, come damaged or end early.

use super::{
    FIRST, LARGE, SECOND, Setup, bytes_of, fetch, hub_error, noise,
    server::{Fault, Seen},
};
use std::fs;

const CUT: usize = 1_000_000;

#[test]
fn a_cut_connection_is_taken_up_where_it_broke() {
    let setup = Setup::new();
    setup.server.fault(FIRST, Fault::Cut(CUT));
    setup.server.fault(FIRST, Fault::Status(503));
    let (folder, reports) = setup.fetch();
    setup.assert_model(&folder.unwrap());
    let transfers: Vec<_> = setup.transfers().into_iter().filter(|seen| seen.file() == FIRST).collect();
    let ranges: Vec<_> = transfers.iter().map(|seen| seen.header("range").map(str::to_owned)).collect();
    let rest = Some(format!("bytes={CUT}-"));
    assert_eq!(ranges, [None, rest.clone(), rest]);
    assert!(bytes_of(&reports, FIRST).is_sorted());
}

#[test]
fn a_later_call_continues_an_interrupted_one() {
    let setup = Setup::new();
    setup.server.fault(FIRST, Fault::Cut(CUT));
    setup.server.fault(FIRST, Fault::Status(403));
    let (file, text) = hub_error(setup.fetch().0);
    assert_eq!(file, FIRST);
    assert!(text.contains("403") && text.contains("HF_TOKEN"), "{text}");
    assert!(!setup.blob(FIRST).exists(), "a part is not taken for the whole");
    assert!(fetch(&setup.hub().offline()).0.is_err());

    setup.server.take_seen();
    let (folder, reports) = setup.fetch();
    setup.assert_model(&folder.unwrap());
    assert_eq!(bytes_of(&reports, FIRST).next(), Some(CUT as u64));
    let transfers = setup.transfers();
    assert_eq!(transfers.iter().map(Seen::file).collect::<Vec<_>>(), [FIRST, SECOND]);
    assert_eq!(transfers[0].header("range"), Some(&*format!("bytes={CUT}-")));
    assert_eq!(transfers[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let setup = Setup::new();
    setup.server.fault(FIRST, Fault::Cut(CUT));
    setup.server.fault(FIRST, Fault::WholeFile);
    setup.assert_model(&setup.fetch().0.unwrap());
    let ranges = setup.transfers().into_iter().filter(|seen| seen.file() == FIRST);
    let ranges: Vec<_> = ranges.map(|seen| seen.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some(format!("bytes={CUT}-"))]);
}

#[test]
fn partial_files_of_any_length_end_well() {
    for len in [10, LARGE, LARGE + 1] {
        for damage in [0, 1] {
            let setup = Setup::new();
            let mut left = noise(len, 1);
            left[3] ^= damage;
            let part = setup.blob(FIRST).with_extension("part");
            fs::create_dir_all(part.parent().unwrap()).unwrap();
            fs::write(&part, left).unwrap();
            setup.assert_model(&setup.fetch().0.unwrap());
            let asked = setup.transfers().iter().filter(|seen| seen.file() == FIRST).count();
            assert_eq!(asked > 0, len != LARGE || damage != 0, "{len} bytes, damage {damage}");
            assert!(!part.exists());
        }
    }
}

#[test]
fn wrong_content_is_never_left_as_complete() {
    let setup = Setup::new();
    for _ in 0..2 {
        setup.server.fault(FIRST, Fault::Garble);
    }
    let (file, text) = hub_error(setup.fetch().0);
    assert_eq!(file, FIRST);
    assert!(text.contains("SHA-256"), "{text}");
    assert!(!setup.blob(FIRST).exists());
    setup.assert_model(&setup.fetch().0.unwrap());
}

#[test]
fn a_file_of_another_size_is_never_left_as_complete() {
    let setup = Setup::new();
    setup.server.fault("tokenizer.json", Fault::Short);
    let (file, text) = hub_error(setup.fetch().0);
    assert_eq!(file, "tokenizer.json");
    assert!(text.contains("12 bytes where its list says 13"), "{text}");

    let folder = setup.fetch().0.unwrap();
    fs::write(setup.blob("tokenizer.json"), "{").unwrap();
    assert_eq!(setup.fetch().0.unwrap(), folder);
    setup.assert_model(&folder);
}

#[test]
fn the_old_revision_serves_until_the_new_one_is_complete() {
    let setup = Setup::new();
    let old = setup.fetch().0.unwrap();
    setup.server.take_seen();
    setup.server.with(|state| {
        state.commit = "d".repeat(40);
        state.files.insert(SECOND.into(), noise(6000, 3));
    });
    setup.server.fault(SECOND, Fault::Status(403));
    assert_eq!(hub_error(setup.fetch().0).0, SECOND);
    assert_eq!(fetch(&setup.hub().offline()).0.unwrap(), old);

    let new = setup.fetch().0.unwrap();
    assert!(new.ends_with("d".repeat(40)));
    setup.assert_model(&new);
    assert_eq!(fetch(&setup.hub().offline()).0.unwrap(), new);
    assert!(setup.transfers().iter().all(|seen| seen.file() == SECOND), "what did not change is not brought again");
}
