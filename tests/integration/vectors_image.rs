//! Pixels and geometry against vectors that Pillow and the released processor made (`tests/data/vectors`).

use deepseek_ocr_core::{Mode, TileGrid};
use deepseek_ocr_preprocess::{Placement, image::RgbImage, resize};
use safetensors::SafeTensors;
use serde_json::Value;
use std::{fs, path::PathBuf};

fn vectors(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/vectors").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rows(name: &str) -> Vec<Value> {
    serde_json::from_slice(&vectors(name)).unwrap()
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

fn image_of(file: &SafeTensors<'_>, name: &str) -> RgbImage {
    let tensor = file.tensor(name).unwrap();
    let [height, width, 3] = *tensor.shape() else { panic!("{name} is no RGB image") };
    RgbImage::from_raw(width as u32, height as u32, tensor.data().to_vec()).unwrap()
}

#[test]
fn resizing_equals_pillow() {
    let bytes = vectors("resize.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let cases = file.len() / 2;
    assert_eq!(cases, 7);
    for case in 0..cases {
        let expected = image_of(&file, &format!("resize{case}.out"));
        let found = resize(&image_of(&file, &format!("resize{case}.in")), expected.width(), expected.height());
        let different = found.as_raw().iter().zip(expected.as_raw()).filter(|(a, b)| a != b).count();
        assert_eq!(different, 0, "case {case}");
    }
}

#[test]
fn grids_equal_the_released_processor() {
    let rows = rows("grids.json");
    assert_eq!(rows.len(), 171);
    for row in &rows {
        let (width, height) = (number(&row["w"]), number(&row["h"]));
        for (side, max_tiles) in [(640, 6), (640, 9), (1024, 6), (1024, 9)] {
            let expected = &row[format!("tile{side}_max{max_tiles}")];
            let expected = TileGrid { columns: number(&expected[0]), rows: number(&expected[1]) };
            assert_eq!(TileGrid::choose(width, height, side, max_tiles), expected, "{width} x {height}, {side}");
        }
        let tiled = !Mode::Gundam.tile_grid(width, height, Mode::DEFAULT_MAX_TILES).is_single();
        assert_eq!(Some(tiled), row["tiled_in_gundam"].as_bool(), "{width} x {height}");
    }
}

#[test]
fn padding_equals_the_released_processor() {
    let rows = rows("pad_geometry.json");
    assert_eq!(rows.len(), 69 * 4);
    for row in &rows {
        let (width, height, side) = (number(&row["w"]), number(&row["h"]), number(&row["S"]));
        let found = Placement::padded(width, height, side);
        let expected = [&row["x"], &row["y"], &row["inner_w"], &row["inner_h"]].map(number);
        assert_eq!([found.x, found.y, found.width, found.height], expected, "{width} x {height} in {side}");
    }
}
