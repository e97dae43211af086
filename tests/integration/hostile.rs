//! Damaged and malicious images: a page or a typed error, never a panic, a hang, or memory over the limit.
//!
//! The files and their `index.jsonl` come from the folder that `DEEPSEEK_OCR_HOSTILE` names, or from `tests/data/hostile`.

use deepseek_ocr_core::Error;
use deepseek_ocr_preprocess::{Damage, Page, PageWarning};
use serde_json::Value;
use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// The longest that any file of the set may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The default limit of `PageOptions`, with room for the file and what a decoder needs beside its output.
const MEMORY: u64 = (512 << 20) + (256 << 20);

fn folder() -> PathBuf {
    env::var_os("DEEPSEEK_OCR_HOSTILE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hostile"), PathBuf::from)
}

/// `(file, what is expected)` of every image in the index.
fn cases(folder: &Path) -> Vec<(PathBuf, String)> {
    let index = fs::read_to_string(folder.join("index.jsonl")).unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    index
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| (folder.join(text(&row, "file")), text(&row, "expect")))
        .filter(|(path, _)| path.extension().is_none_or(|extension| extension != "pdf"))
        .collect()
}

/// The most memory that the process ever held; `None` where the system does not tell.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

/// Runs in a process of its own, so that no other test's memory is counted and a crash is seen as what it is.
#[test]
fn hostile_images_do_as_the_index_says() {
    let here = module_path!().split_once("::").map_or(String::new(), |(_, modules)| format!("{modules}::"));
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("{here}every_file_alone"), "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&child.stdout);
    println!("{printed}");
    assert!(child.status.success(), "{}\n{printed}{}", child.status, String::from_utf8_lossy(&child.stderr));
    assert!(printed.contains("1 passed"), "nothing ran");
}

#[test]
#[ignore = "run by hostile_images_do_as_the_index_says"]
fn every_file_alone() {
    let folder = folder();
    let cases = cases(&folder);
    assert!(cases.len() >= 15, "{} holds only {} images", folder.display(), cases.len());
    let wrong: Vec<_> = cases.iter().filter_map(|(path, expect)| complaint(path, expect)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with the outcome for one file.
fn complaint(path: &Path, expect: &str) -> Option<String> {
    let (memory, start) = (peak_memory(), Instant::now());
    let found = Page::open(path);
    let taken = start.elapsed();
    // The kernel counts in batches, so that a later reading can be a little lower.
    let grown = peak_memory().zip(memory).map_or(0, |(after, before)| after.saturating_sub(before));
    println!("{}: {found:?}, {taken:?}, {} MiB", path.display(), grown >> 20);
    let fits = match expect {
        "decodes" => found.is_ok(),
        "must error cleanly" => found.is_err(),
        other => other.starts_with("either"),
    };
    let fine = fits && taken < PATIENCE && grown < MEMORY;
    (!fine).then(|| format!("{}: expected {expect}, found {found:?} in {taken:?}, {grown} bytes", path.display()))
}

#[test]
fn a_cut_jpeg_is_never_silent() {
    let folder = folder();
    let half = folder.join("gen_jpeg_cut_3586.jpg");
    let warnings = Page::open(&half).unwrap().warnings().to_vec();
    assert!(matches!(warnings.as_slice(), [PageWarning::Damaged { format: "JPEG", .. }]), "{warnings:?}");
    let refused = Page::reader().with_damage(Damage::Refuse).open(&half);
    assert!(matches!(refused, Err(Error::ImageTruncated { .. })), "{refused:?}");
    let end = Page::open(folder.join("gen_jpeg_cut_7171.jpg")).unwrap();
    assert_eq!(end.warnings(), [PageWarning::EndMissing { format: "JPEG" }]);
}

#[test]
fn hostile_images_come_out_as_a_reader_sees_them() {
    let folder = folder();
    let page = |name: &str| Page::open(folder.join(name)).unwrap();
    let all = |page: &Page, value: u8| page.rgb().as_raw().iter().all(|&sample| sample == value);
    assert!(all(&page("gen_png_gray16.png"), 156));
    assert!(all(&page("gen_png_fully_transparent.png"), 255));
    assert_eq!(page("gen_png_1x12000.png").height(), 12_000);
}

#[test]
fn each_wrong_file_has_its_own_error() {
    let error = |bytes: &[u8]| Page::from_bytes(bytes).unwrap_err();
    assert!(matches!(Page::open("no/such/file.png"), Err(Error::Read { .. })));
    assert!(matches!(Page::open(env!("CARGO_MANIFEST_DIR")), Err(Error::Read { .. })));
    assert!(matches!(error(b"a text that is named .png"), Error::NotAnImage { .. }));
    assert!(matches!(error(b"P6 0 0 255\n"), Error::ImageEmpty { width: 0, height: 0 }));
    assert!(matches!(error(&bomb(30_000, 30_000)), Error::ImageTooLarge { .. }));
    assert!(matches!(error(&bomb(40_000, 1)), Error::ImageTooLarge { .. }));
}

/// A GIF that announces `width` x `height` pixels and holds one.
fn bomb(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = b"GIF89a".to_vec();
    bytes.extend([width, height].iter().flat_map(|side| side.to_le_bytes()));
    bytes.extend(b"\x80\0\0\0\0\0\xFF\xFF\xFF,\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0;");
    bytes
}

#[test]
fn the_name_of_a_file_does_not_matter() {
    let path = env::temp_dir().join(format!("deepseek-ocr-{}.png", std::process::id()));
    fs::File::create(&path).unwrap().write_all(b"P2 1 1 255 7").unwrap();
    let page = Page::open(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(page.unwrap().rgb().as_raw(), &[7; 3]);
}
