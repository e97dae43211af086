//! Windows are parts of whole texts, and cells are what stands in them.

use super::*;
use crate::corpus::Split;
use std::{fs, path::Path};

fn source(folder: &Path, window: serde_json::Value) -> (Source, Bucket) {
    let text = "It rained, and the sailors sang of home.\n\nNobody heard them, for the wind was loud.\n\n";
    (0..40).for_each(|name| fs::write(folder.join(format!("{name}.txt")), text.repeat(20)).unwrap());
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/mini");
    let recipe = serde_json::json!({
        "seed": 3, "model": model, "start": "scratch", "corpus": folder, "density": [3, 4], "arrangement": "blocks",
        "tasks": { "free-ocr": 1.0 }, "strings": 0.0, "full": 1.0, "threads": 1,
        "rate": { "highest": 1e-3, "warm_up": 2, "decay_from": 5, "clip": 1.0 },
        "weights": { "balance": 0.01, "patches": 0.5, "tokens": 0.5 },
        "stages": [{ "until": 9, "batches": [{ "rows": 1, "pages": 3, "weight": 1.0, "window": window }] }]
    });
    let recipe: Recipe = serde_json::from_value(recipe).unwrap();
    let tokenizer = Tokenizer::open(model.join("tokenizer.json")).unwrap();
    let bucket = recipe.stages[0].batches[0];
    (Source::new(&recipe, Corpus::open(folder, Split::Training).unwrap(), tokenizer, 8).unwrap(), bucket)
}

#[test]
fn a_window_is_parts_of_the_whole_text() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, _) = source(folder.path(), serde_json::Value::Null);
    let (part, _) = source(folder.path(), serde_json::json!({ "tokens": 20, "within": 97, "parts": 4 }));
    let (mut begins, mut sizes) = (Vec::new(), Vec::new());
    for step in 0..20 {
        let [whole, part] = [&whole, &part].map(|source| source.batch(step).unwrap());
        // 8 blocks of 12 characters and the end.
        assert!(whole.asked.iter().copied().eq(0..97) && part.asked.is_sorted());
        assert!((whole.pixels == part.pixels) && whole.cells == part.cells && whole.texts == part.texts);
        let (all, some) = (whole.targets(), part.targets());
        for (row, text) in part.texts.iter().enumerate() {
            assert_eq!(all[row * 97..][..97], text.iter().map(|&id| id as i32).collect::<Vec<_>>());
            for (index, &at) in part.asked.iter().enumerate() {
                assert_eq!(some[row * part.asked.len() + index], text[at] as i32);
            }
        }
        let pairs: Vec<_> = part.known().zip(part.inputs()).collect();
        assert!(pairs.iter().all(|&(at, id)| id == part.texts[0][at] && part.asked.contains(&(at + 1))));
        assert_eq!(whole.inputs().len(), 3 * 96);
        sizes.push(part.asked.len());
        begins.push(part.asked[0]);
    }
    // Four parts of five tokens; some meet.
    assert!(sizes.iter().all(|size| (5..=20).contains(size)) && sizes.contains(&20));
    assert!(begins.contains(&0) || begins.iter().max() > Some(&20), "{begins:?}");
    let (blind, _) = source(folder.path(), serde_json::json!({ "tokens": 0, "within": 0 }));
    let batch = blind.batch(0).unwrap();
    assert_eq!((batch.asked.len(), batch.inputs().len(), batch.totals().tokens), (0, 0, 0));
    assert!(batch.parts(2).iter().all(|part| part.asked.is_empty() && !part.cells.is_empty()));
}

#[test]
fn cells_of_blocks_are_the_text_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let (source, _) = source(folder.path(), serde_json::Value::Null);
    let (mut spaces, mut blanks, mut ends) = (0, 0, 0);
    for step in 0..10 {
        let batch = source.batch(step).unwrap();
        let seen: Vec<String> = batch.texts.iter().map(|text| source.tokenizer.decode(&text[..96]).unwrap()).collect();
        let seen = seen.concat().into_bytes();
        for &(cell, class) in &batch.cells {
            let expected = if seen[cell] == b'\n' { CLASSES as u8 - 1 } else { seen[cell] - b' ' };
            assert_eq!(class, expected, "cell {cell}");
            blanks += usize::from(seen[cell] == b' ');
        }
        let count = |character| seen.iter().filter(|&&seen| seen == character).count();
        let others = batch.cells.len() - batch.cells.iter().filter(|(_, class)| *class == 0).count();
        assert_eq!(others, seen.len() - count(b' '), "each that is not blank is looked at");
        spaces += count(b' ');
        ends += count(b'\n');
    }
    let share = blanks as f64 / spaces as f64;
    assert!(ends > 10 && (share - BLANKS).abs() < 0.1, "{ends}, {blanks} of {spaces}");
}
