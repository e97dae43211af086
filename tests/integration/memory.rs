//! A memory of fading pages stays within its budget, survives storage, and is read by a small checkpoint, which reads a few words, too.

use deepseek_ocr::{Decay, Error, Mode, OpticalMemory, Pin, Round, RoundId, Style, decoder::Segment};

fn memory(style: Style, budget: usize) -> OpticalMemory {
    OpticalMemory::new(crate::first::model(), style, budget)
}

fn modes(memory: &OpticalMemory) -> Vec<Mode> {
    memory.rounds().map(|round| round.mode).collect()
}

#[test]
fn rounds_fade_with_age_and_are_read_while_they_are_clear() {
    let decay = Decay::new(Mode::Base).then(1, Mode::Small).then(2, Mode::Tiny).gone_after(4);
    let mut memory = memory(crate::first::style(), 1000).with_decay(decay).unwrap();
    let texts = ["The door is green.", "The number is 4711.", "The train leaves at nine.", "It rains."];
    let ids: Vec<RoundId> = texts.iter().map(|text| memory.remember(text).unwrap()).collect();
    assert_eq!(modes(&memory), [Mode::Tiny, Mode::Tiny, Mode::Small, Mode::Base]);
    assert_eq!(memory.vision_tokens(), 73 + 73 + 111 + 273);
    // What is held in Tiny, its own mode, the model reads.
    assert_eq!(memory.recall(ids[0]).unwrap().text(), texts[0]);
    assert_eq!(memory.recall(ids[1]).unwrap().text(), texts[1]);
    let segments = memory.as_segments().unwrap();
    assert_eq!(segments.iter().map(Segment::len).collect::<Vec<_>>(), [73, 73, 111, 273]);
    memory.fade().unwrap();
    assert!(matches!(memory.recall(ids[0]), Err(Error::InvalidRequest { field: "round", .. })));
    assert_eq!(memory.rounds().map(|round| round.age).collect::<Vec<_>>(), [3, 2, 1]);
}

#[test]
fn what_is_pinned_neither_fades_nor_goes() {
    let mut memory = memory(crate::first::style(), 273 + 111);
    let first = memory.remember("keep me").unwrap();
    memory.pin(first, Pin::Hold).unwrap();
    for _ in 0..5 {
        memory.remember("another").unwrap();
    }
    assert_eq!(modes(&memory), [Mode::Base, Mode::Small]);
    // There is no room beside it for two pages; nothing changes.
    let before: Vec<Round> = memory.rounds().collect();
    assert!(matches!(memory.remember("one page\x0canother"), Err(Error::InvalidRequest { .. })));
    assert!(matches!(memory.set_budget(200), Err(Error::InvalidRequest { .. })));
    assert_eq!((memory.rounds().collect::<Vec<_>>(), memory.budget()), (before, 384));
    memory.pin(first, Pin::Release).unwrap();
    memory.set_budget(200).unwrap();
    assert_eq!(modes(&memory), [Mode::Tiny, Mode::Small]);
    memory.forget(first).unwrap();
    assert!(memory.forget(first).is_err() && memory.pin(first, Pin::Hold).is_err());
    assert!(matches!(memory.remember(""), Err(Error::InvalidRequest { field: "text", .. })));
}

#[test]
fn the_budget_holds_under_ten_thousand_actions() {
    // Small pages, so that the typesetting does not take the time; they cost as many tokens as large ones.
    let style = crate::first::style().with_page(128, 64);
    let decay = Decay::new(Mode::Large).then(3, Mode::Base).then(8, Mode::Tiny).gone_after(60);
    let mut memory = memory(style, 2500).with_decay(decay).unwrap();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut most, mut recalled, mut forgotten) = (0, 0, Vec::new());
    let mut before: Vec<Round> = Vec::new();
    for action in 0..10_000 {
        let any = before.get(random.below(before.len().max(1))).copied();
        match (random.below(1000), any) {
            (0..380, _) | (_, None) => remember(&mut memory, 1 + random.below(12)),
            (380..580, _) => memory.fade().unwrap(),
            (580..600, _) => {
                // What is pinned, and the newest round, may be over the new budget: then the old one stays.
                let budget = 1500 + random.below(1000);
                let pinned: usize = before.iter().filter(|round| round.pinned).map(|round| round.vision_tokens).sum();
                assert!(memory.set_budget(budget).is_ok() || pinned + 6 * 73 > budget, "action {action}");
            }
            (600..750, Some(round)) => {
                memory.forget(round.id).unwrap();
                forgotten.push(round.id);
            }
            (750..800, Some(round)) => memory.pin(round.id, Pin::Hold).unwrap(),
            (800..998, Some(round)) => memory.pin(round.id, Pin::Release).unwrap(),
            (_, Some(round)) => {
                assert_eq!(memory.encoded(round.id).unwrap().vision_tokens(), round.vision_tokens);
                assert_eq!(
                    memory.recall(round.id).unwrap().pages().len(),
                    memory.encoded(round.id).unwrap().pages().len()
                );
                recalled += 1;
            }
        }
        let after: Vec<Round> = memory.rounds().collect();
        assert!(memory.vision_tokens() <= memory.budget(), "action {action}");
        check_fading(&before, &after, action);
        most = most.max(memory.vision_tokens());
        before = after;
    }
    assert!(most > 2000 && recalled > 5, "the budget was used: {most}, {recalled}");
    let gone = |&id: &RoundId| matches!(memory.recall(id), Err(Error::InvalidRequest { field: "round", .. }));
    assert!(forgotten.len() > 500 && forgotten.iter().all(gone));
}

/// Remembers so many words; that fails only where pinned rounds leave no room.
fn remember(memory: &mut OpticalMemory, words: usize) {
    let remembered = memory.remember(&"words ".repeat(words));
    let room = memory.budget() - memory.rounds().filter(|r| r.pinned).map(|r| r.vision_tokens).sum::<usize>();
    assert!(remembered.is_ok() || room < 6 * 73, "{remembered:?} with room for {room}");
}

/// No round becomes clearer, comes back or leaves its place, and what is pinned stays as it is.
fn check_fading(before: &[Round], after: &[Round], action: usize) {
    assert!(after.is_sorted_by(|a, b| a.id < b.id && a.age >= b.age), "action {action}");
    for round in after {
        match before.iter().find(|old| old.id == round.id) {
            Some(old) if old.pinned && round.pinned => {
                assert_eq!(old.vision_tokens, round.vision_tokens, "action {action}")
            }
            Some(old) => assert!(round.vision_tokens <= old.vision_tokens, "action {action}"),
            None => assert_eq!(round.age, 0, "action {action}"),
        }
    }
}

/// Xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

#[test]
fn a_saved_memory_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.safetensors");
    let decay = Decay::new(Mode::Small).then(1, Mode::Tiny).gone_after(9);
    let mut memory = memory(crate::first::style(), 300).with_decay(decay).unwrap();
    let first = memory.remember("The key is under the mat.").unwrap();
    memory.remember("And the code is 4711.").unwrap();
    memory.pin(first, Pin::Hold).unwrap();
    memory.save(&path).unwrap();
    let read = || OpticalMemory::open(&path, crate::first::model(), crate::first::style());
    let mut loaded = read().unwrap();
    assert_eq!(loaded.rounds().collect::<Vec<_>>(), memory.rounds().collect::<Vec<_>>());
    assert_eq!((loaded.budget(), loaded.recall(first).unwrap()), (300, memory.recall(first).unwrap()));
    // Both go on in the same way.
    assert_eq!(loaded.remember("third").unwrap(), memory.remember("third").unwrap());
    assert_eq!(loaded.rounds().collect::<Vec<_>>(), memory.rounds().collect::<Vec<_>>());

    // What a crash while saving leaves behind is beside the file that was saved.
    std::fs::write(folder.path().join("memory.safetensors.partial"), b"half of a fi").unwrap();
    assert_eq!(read().unwrap().rounds().len(), 2);
    loaded.save(&path).unwrap();
    assert_eq!(read().unwrap().rounds().len(), 3);
    // Nothing can be written here, and what was saved stays.
    assert!(matches!(loaded.save(folder.path().join("none/memory")), Err(Error::Write { .. })));

    let bytes = std::fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(501) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(matches!(read(), Err(Error::Safetensors { .. })), "{length}");
    }
}

/// The bytes of a saved memory of one round, with a part of its JSON replaced by another of any length.
fn changed(path: &std::path::Path, from: &str, to: &str) -> Vec<u8> {
    let mut memory = memory(crate::first::style(), 300);
    memory.remember("The key is under the mat.").unwrap();
    memory.save(path).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let text = std::str::from_utf8(&bytes[8..header]).unwrap();
    // JSON within JSON.
    let (from, to) = (from.replace('"', "\\\""), to.replace('"', "\\\""));
    assert_eq!(text.matches(&from).count(), 1, "{from} in {text}");
    let mut text = text.trim_end().replace(&from, &to);
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    [(text.len() as u64).to_le_bytes().as_slice(), text.as_bytes(), &bytes[header..]].concat()
}

#[test]
fn numbers_of_a_saved_memory_that_cannot_be_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.safetensors");
    let style = crate::first::style();
    let size = |width: u64| format!("\"size\":[{width},{}]", style.height);
    let width = u64::from(style.width);
    for (from, to, reason) in [
        ("\"clock\":1", "\"clock\":18446744073709551615", "clock is 18446744073709551615"),
        ("\"next\":1", "\"next\":9007199254740992", "next is 9007199254740992"),
        (&size(width), &size(width + (1 << 32)), "size is 4294967"),
    ] {
        std::fs::write(&path, changed(&path, from, to)).unwrap();
        let error = OpticalMemory::open(&path, crate::first::model(), style.clone()).err().unwrap();
        assert!(matches!(&error, Error::Safetensors { reason: found, .. } if found.contains(reason)), "{error}");
    }
    // The largest that can be counted on from.
    std::fs::write(&path, changed(&path, "\"clock\":1", "\"clock\":9007199254740991")).unwrap();
    assert!(OpticalMemory::open(&path, crate::first::model(), style).is_ok());
}
