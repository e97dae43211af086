//! Models that grow.

use super::*;
use crate::grow::{Growth, grow};
use deepseek_ocr::{Mode, Page, Request};

#[test]
fn a_model_that_grew_gives_what_it_gave_until_it_learns() {
    let (folder, recipe) = workplace(4);
    let [run, small, large] = ["run", "small", "large"].map(|name| folder.path().join(name));
    train(&run, Some(&recipe), Pace { log: 4, save: 4, stop: None }, &Device::flex()).unwrap();
    let style = crate::pages::style([2, 5], crate::recipe::Arrangement::Lines, 8);
    let page = Page::typeset("The sailors sang of home and rain.", &style).unwrap().pages()[0].page.clone();
    let formats = [Weights::Stored, Weights::Q8].map(Formats::from);
    for formats in &formats {
        crate::export::export(&run, &small, formats).unwrap();
        for block in 0..2 {
            grow(&small, &large, Growth { block, copies: 2 }).unwrap();
            let [before, after] =
                [&small, &large].map(|folder| DeepseekOcr::from_dir(folder, &Device::flex()).unwrap());
            let layers = [&before, &after].map(|ocr| ocr.decoder().layers.len());
            assert_eq!(layers, [2, 4]);
            let read = |ocr: &DeepseekOcr| {
                let request = Request::new(&page).with_mode(Mode::Tiny).with_max_new_tokens(24);
                let transcript = ocr.generate(request).unwrap();
                (transcript.ids().to_vec(), transcript.probabilities().to_vec())
            };
            assert_eq!(read(&before), read(&after));
        }
    }
    let error = grow(&small, &large, Growth { block: 2, copies: 1 }).unwrap_err();
    assert!(error.to_string().contains("there are 2"), "{error}");
    // What is in blocks of 8 bits now learns as floats.
    change(&recipe, &json!({ "model": large, "start": "warm", "freeze": ["model.embed_tokens"] }));
    let values = around_steps(&recipe, 2);
    let changed = changed(&values);
    for name in ["self_attn.q_proj", "self_attn.o_proj", "mlp.shared_experts.down_proj"] {
        // The queries of copies whose outputs were zero learn from the second step on.
        let name = |block| format!("model.layers.{block}.{name}.weight");
        assert!((0..4).filter(|block| changed.contains(&name(*block).as_str())).count() >= 3, "{changed:?}");
    }
}
