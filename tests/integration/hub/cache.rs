//! Caches that others made, that are damaged, or that take nothing more.

use super::{FIRST, SECOND, Setup, WANTED, fetch, hub_error};
use std::{fs, path::Path};

/// As the official client leaves it where users may not make links: files in the snapshot, and no blobs.
fn make_copies(setup: &Setup, folder: &Path) {
    for file in WANTED {
        let content = fs::read(folder.join(file)).unwrap();
        fs::remove_file(folder.join(file)).unwrap();
        fs::write(folder.join(file), content).unwrap();
    }
    fs::remove_dir_all(setup.cache.join("models--someone--model/blobs")).unwrap();
}

#[test]
fn a_snapshot_of_copies_is_as_good_as_one_of_links() {
    let setup = Setup::new();
    let folder = setup.fetch().0.unwrap();
    make_copies(&setup, &folder);
    setup.server.take_seen();
    assert_eq!(fetch(&setup.hub().offline()).0.unwrap(), folder);
    assert_eq!(setup.fetch().0.unwrap(), folder);
    assert!(setup.transfers().is_empty());
    // What is missing in it is brought alone.
    fs::remove_file(folder.join(SECOND)).unwrap();
    assert_eq!(hub_error(fetch(&setup.hub().offline()).0).0, SECOND);
    setup.assert_model(&setup.fetch().0.unwrap());
    assert_eq!(setup.transfers().len(), 1);
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_is_named_and_mended() {
    let setup = Setup::new();
    let folder = setup.fetch().0.unwrap();
    fs::remove_file(setup.blob(SECOND)).unwrap();
    let (file, text) = hub_error(fetch(&setup.hub().offline()).0);
    assert_eq!(file, SECOND);
    let target = setup.blob(SECOND).file_name().unwrap().to_string_lossy().into_owned();
    assert!(text.contains("link") && text.contains(&target) && text.contains("offline"), "{text}");

    let (file, text) = hub_error(fetch(&setup.hub().with_endpoint("http://127.0.0.1:1")).0);
    assert_eq!(file, "the file list");
    assert!(text.contains("refused") && text.contains(SECOND), "{text}");

    setup.server.take_seen();
    setup.assert_model(&setup.fetch().0.unwrap());
    assert_eq!(setup.transfers().len(), 1);
    assert_eq!(fetch(&setup.hub().offline()).0.unwrap(), folder);
}

#[test]
fn a_name_may_end_in_a_line_feed_and_may_not_lead_elsewhere() {
    let setup = Setup::new();
    let folder = setup.fetch().0.unwrap();
    let name = setup.cache.join("models--someone--model/refs/main");
    fs::write(&name, "c".repeat(40) + "\r\n").unwrap();
    assert_eq!(fetch(&setup.hub().offline()).0.unwrap(), folder);
    for wrong in ["", "../snapshots", "/", "d"] {
        fs::write(&name, wrong).unwrap();
        assert_eq!(hub_error(fetch(&setup.hub().offline()).0).0, "config.json");
    }
    assert_eq!(setup.fetch().0.unwrap(), folder);
    assert_eq!(fs::read_to_string(&name).unwrap(), "c".repeat(40));
}

#[test]
fn a_cache_that_is_a_file_is_named() {
    let setup = Setup::new();
    fs::create_dir_all(setup.cache.parent().unwrap()).unwrap();
    fs::write(&setup.cache, "no folder").unwrap();
    for hub in [setup.hub(), setup.hub().offline()] {
        let (file, text) = hub_error(fetch(&hub).0);
        assert_eq!(file, "config.json");
        assert!(
            text.contains(&*setup.cache.to_string_lossy()) && text.contains("is a file and not a folder"),
            "{text}"
        );
    }
}

/// What nobody may write to, not even root, who runs tests in containers.
#[cfg(target_os = "linux")]
const READ_ONLY: &str = "/sys/kernel";

#[cfg(target_os = "linux")]
#[test]
fn a_read_only_cache_serves_the_old_model_when_the_branch_has_moved_on() {
    let setup = Setup::new();
    let old = setup.fetch().0.unwrap();
    make_copies(&setup, &old);
    let blobs = setup.cache.join("models--someone--model/blobs");
    std::os::unix::fs::symlink(READ_ONLY, &blobs).unwrap();
    setup.server.take_seen();
    setup.server.with(|state| {
        state.commit = "d".repeat(40);
        state.files.insert(SECOND.into(), super::noise(6000, 3));
    });
    assert_eq!(setup.fetch().0.unwrap(), old);
    assert!(setup.transfers().is_empty());
    let pinned = setup.hub().fetch(super::REPO, &"d".repeat(40), &mut |_| {});
    let (file, text) = hub_error(pinned);
    assert_eq!(file, "config.json", "what was asked for by its hash is not another model");
    assert!(text.contains(&*blobs.to_string_lossy()) && text.contains("HF_HUB_CACHE"), "{text}");

    fs::remove_file(&blobs).unwrap();
    let new = setup.fetch().0.unwrap();
    assert!(new.ends_with("d".repeat(40)));
    setup.assert_model(&new);
}

#[cfg(target_os = "linux")]
#[test]
fn a_complete_snapshot_serves_where_its_name_cannot_be_written() {
    let setup = Setup::new();
    let folder = setup.fetch().0.unwrap();
    let refs = setup.cache.join("models--someone--model/refs");
    fs::remove_dir_all(&refs).unwrap();
    std::os::unix::fs::symlink(READ_ONLY, &refs).unwrap();
    assert_eq!(setup.fetch().0.unwrap(), folder);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named() {
    let setup = Setup::new();
    let part = setup.blob(FIRST).with_extension("part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    let (file, text) = hub_error(setup.fetch().0);
    assert_eq!(file, FIRST);
    assert!(text.contains(&*part.to_string_lossy()) && text.contains("disk is full"), "{text}");
}
