//! What fields of a recipe do.

use super::*;

/// Text in blocks, beside it some that flows, and all auxiliary losses.
pub(super) fn in_blocks() -> Value {
    let weights = json!({ "balance": 0.01, "patches": 0.2, "tokens": 0.2, "places": 0.2, "looks": 0.2, "shares": 0.2 });
    let flow = json!({ "sizes": [16, 20], "margins": [0, 20] });
    let batches = json!([
        { "rows": 1, "pages": 2, "weight": 1.0, "window": { "tokens": 24, "within": 81, "parts": 3 } },
        { "rows": 1, "pages": 2, "weight": 1.0, "flow": flow },
    ]);
    json!({ "arrangement": "blocks", "weights": weights, "stages": [{ "until": 6, "batches": batches }] })
}

#[test]
fn all_heads_learn_from_blocks_and_from_text_that_flows() {
    let (_folder, recipe) = workplace(6);
    change(&recipe, &in_blocks());
    let values = around_steps(&recipe, 6);
    let changed = changed(&values);
    let heads: Vec<_> = values[0].keys().filter(|name| name.starts_with("auxiliary.")).collect();
    assert!(heads.len() > 10 && heads.iter().all(|name| changed.contains(&name.as_str())), "{heads:?}, {changed:?}");
}

#[test]
fn text_that_flows_is_taught_with_where_it_stands() {
    let (_folder, recipe) = workplace(6);
    change(&recipe, &in_blocks());
    let recipe = Recipe::read(&recipe).unwrap();
    let corpus = Corpus::open(&recipe.corpus, Split::Training).unwrap();
    let source = Source::new(&recipe, corpus, tokenizer(&recipe).unwrap(), 8).unwrap();
    let batches: Vec<Batch> = (0..20).map(|step| source.batch(step).unwrap()).collect();
    let (blocks, flows): (Vec<&Batch>, Vec<&Batch>) = batches.iter().partition(|batch| batch.in_blocks);
    assert!(blocks.len() > 4 && flows.len() > 4);
    for batch in batches.iter().filter(|batch| !batch.in_blocks) {
        assert!(batch.shares(2).is_empty() && batch.grid == 10 && batch.all_cells == 2 * 8 * 10);
        for (text, stands) in batch.texts.iter().zip(&batch.stands) {
            assert!(text.len() == stands.len() && stands.iter().all(|&cell| cell < 80));
            // Where a line ends, the next character stands at its beginning: in a column further left, unless the line is empty.
            let line_end = tokenizer(&recipe).unwrap().encode("\n").unwrap()[0];
            let column = |cell: usize| cell / 10 * 5 + cell % 5;
            for (at, _) in
                text.iter().enumerate().filter(|&(at, &id)| id == line_end && at > 1 && text[at - 1] != line_end)
            {
                assert!(column(stands[at + 1]) <= 2 && column(stands[at]) >= column(stands[at - 1]), "{stands:?}");
            }
        }
        assert!(batch.cells.iter().all(|&(cell, class)| cell < batch.all_cells && class < 95));
    }
}

/// Changes fields of the two stages of a recipe.
fn change_stages(recipe: &Path, fields: [Value; 2]) {
    let mut changed: Value = serde_json::from_slice(&fs::read(recipe).unwrap()).unwrap();
    for (stage, fields) in fields.iter().enumerate() {
        for (name, value) in fields.as_object().unwrap() {
            changed["stages"][stage][name] = value.clone();
        }
    }
    fs::write(recipe, changed.to_string()).unwrap();
}

/// The two towers.
const TOWERS: [&str; 2] = ["model.sam_model", "model.vision_model"];

#[test]
fn what_a_stage_says_counts_in_place_of_what_the_recipe_says() {
    let (_folder, path) = workplace(6);
    let weights = json!({ "balance": 0.01, "patches": 0.0, "tokens": 0.0, "places": 0.2, "looks": 0.2 });
    let first = json!({ "freeze": TOWERS, "strings": 1.0, "weights": weights, "rates": { "model.layers.0.": 0.0 } });
    change_stages(&path, [first, json!({ "full": 1.0 })]);
    let recipe = Recipe::read(&path).unwrap();
    assert_eq!([2, 3].map(|step| recipe.shares(step)), [[1.0, 0.5], [0.3, 1.0]]);
    assert_eq!([2, 3].map(|step| recipe.weights(step).places), [0.2, 0.0]);
    let (early, late) = (around_steps(&path, 3), around_steps(&path, 4));
    let still = |name: &str| TOWERS.iter().any(|tower| name.starts_with(tower)) || name.starts_with("model.layers.0.");
    let (early, late) = (changed(&early), changed(&late));
    assert!(early.len() > 10 && !early.iter().any(|name| still(name)), "{early:?}");
    assert!(TOWERS.iter().all(|tower| late.iter().any(|name| name.starts_with(tower))), "{late:?}");
    // It asked for places, which the second does not.
    assert!(early.iter().any(|name| name.starts_with("auxiliary.places.")));
}

#[test]
fn a_run_that_is_killed_while_its_towers_are_still_goes_on_to_the_same_weights() {
    let (folder, recipe) = workplace(8);
    change_stages(&recipe, [json!({}), json!({ "freeze": TOWERS })]);
    let pace = Pace { log: 2, save: 2, stop: None };
    let [straight, broken] = ["straight", "broken"].map(|name| folder.path().join(name));
    train(&straight, Some(&recipe), pace, &Device::flex()).unwrap();
    train(&broken, Some(&recipe), Pace { stop: Some(6), ..pace }, &Device::flex()).unwrap();
    train(&broken, None, pace, &Device::flex()).unwrap();
    assert_eq!(table(&straight), table(&broken));
    let [straight, broken] =
        [straight, broken].map(|run| state::weights(&state::newest(&run).unwrap().unwrap()).unwrap());
    assert!(changed(&[straight, broken]).is_empty());
}

#[test]
fn a_run_is_judged_by_each_kind_of_its_pages() {
    let (folder, recipe) = workplace(4);
    change(&recipe, &in_blocks());
    let run = folder.path().join("run");
    train(&run, Some(&recipe), Pace { log: 2, save: 2, stop: Some(2) }, &Device::flex()).unwrap();
    let kinds: Vec<String> =
        table(&run).iter().skip(1).map(|line| line.rsplit(',').next().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["", "", "flow 16-20"]);
    let curve = folder.path().join("curve.png");
    crate::curve::draw(&run, &curve).unwrap();
    assert!(image::open(curve).unwrap().width() > 900);
}

#[test]
fn first_weights_are_drawn_as_the_recipe_says() {
    let (_folder, recipe) = workplace(4);
    let plain = around_steps(&recipe, 0)[0].clone();
    let queries = "model.layers.0.self_attn.q_proj.weight";
    change(&recipe, &json!({ "draw": { queries: { "times": 2.0 } } }));
    let drawn = around_steps(&recipe, 0)[0].clone();
    assert_eq!(changed(&[plain.clone(), drawn.clone()]), [queries]);
    let twice: Vec<f32> = plain[queries].iter::<f32>().map(|value| 2.0 * value).collect();
    assert_eq!(drawn[queries].iter::<f32>().collect::<Vec<_>>(), twice);
    for (fields, named) in
        [(json!({ "start": "warm" }), "scratch"), (json!({ "draw": { queries: { "common": 2.0 } } }), "common")]
    {
        let (_folder, recipe) = workplace(4);
        change(&recipe, &json!({ "draw": { queries: { "times": 2.0 } } }));
        change(&recipe, &fields);
        let error = format!("{:#}", Recipe::read(&recipe).unwrap_err());
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn a_rate_of_nothing_changes_nothing() {
    let (_folder, recipe) = workplace(4);
    change(&recipe, &json!({ "rates": { "model.layers.0.": 0.0, "*.norm1.*": 0.0 } }));
    let values = around_steps(&recipe, 2);
    let changed = changed(&values);
    let still = |name: &str| name.starts_with("model.layers.0.") || name.contains(".norm1.");
    assert!(values[0].keys().filter(|name| still(name)).count() > 10);
    assert!(changed.len() > 30 && !changed.iter().any(|name| still(name)), "{changed:?}");
}

#[test]
fn a_run_begins_with_the_vision_stage_of_another() {
    let (folder, recipe) = workplace(4);
    let [run, other] = ["run", "other"].map(|name| folder.path().join(name));
    train(&run, Some(&recipe), Pace { log: 2, save: 2, stop: Some(2) }, &Device::flex()).unwrap();
    crate::export::export(&run, &other, &Weights::Stored.into()).unwrap();
    let begun = |fields: Value| {
        change(&recipe, &fields);
        let mut taken = state::Taken::default();
        Trainer::new(&Recipe::read(&recipe).unwrap(), &Device::flex()).unwrap().network.map(&mut taken);
        taken.0
    };
    let joined = begun(json!({ "seed": 9, "encoder": other }));
    let trained = begun(json!({ "model": other, "start": "warm", "encoder": null }));
    assert!(joined.keys().eq(trained.keys()));
    let (mut seen, mut drawn) = (0, 0);
    for (name, data) in joined.iter().filter(|(name, _)| !name.starts_with("auxiliary.")) {
        let of_vision =
            !name.starts_with("model.layers.") && !name.contains("embed_tokens") && name != "lm_head.weight";
        if of_vision && name != "model.norm.weight" {
            assert!(data.bytes() == trained[name].bytes(), "{name}");
            seen += 1;
        } else {
            assert!(data.bytes() != trained[name].bytes(), "{name}");
            drawn += 1;
        }
    }
    assert!(seen > 40 && drawn > 20, "{seen}, {drawn}");
}

#[test]
fn mixed_precision_has_the_slopes_of_f32_but_for_the_rounding() {
    let (_folder, recipe) = workplace(4);
    let recipe = Recipe::read(&recipe).unwrap();
    let corpus = Corpus::open(&recipe.corpus, Split::Training).unwrap();
    let batch = Source::new(&recipe, corpus, tokenizer(&recipe).unwrap(), 8).unwrap().batch(3).unwrap();
    let [exact, mixed] = [Precision::F32, Precision::Bf16].map(|precision| {
        let trainer = Trainer::new(&Recipe { precision, ..recipe.clone() }, &Device::flex()).unwrap();
        trainer.slopes(&batch, 3)
    });
    assert!((exact.1.text.loss - mixed.1.text.loss).abs() < 0.01 * exact.1.text.loss);
    assert!(exact.1.text.loss != mixed.1.text.loss && exact.0.keys().eq(mixed.0.keys()));
    let product = |a: &Tensor<1>, b: &Tensor<1>| (a.clone() * b.clone()).sum().into_scalar::<f32>();
    let (mut both, mut squares) = (0.0, [0.0; 2]);
    for (name, exact) in &exact.0 {
        let mixed = &mixed.0[name];
        assert_eq!(mixed.dtype(), DType::F32, "{name}");
        both += product(exact, mixed);
        squares = [squares[0] + product(exact, exact), squares[1] + product(mixed, mixed)];
    }
    let cosine = both / (squares[0] * squares[1]).sqrt();
    assert!(cosine > 0.999, "{cosine}");
}

#[test]
fn text_cannot_flow_in_sizes_that_fall_or_beside_a_density() {
    let (_folder, recipe) = workplace(4);
    let cases = [
        (json!({ "flow": { "sizes": [20, 16], "margins": [0, 8] } }), "sizes"),
        (json!({ "flow": { "sizes": [16, 20], "margins": [9, 8] } }), "margins"),
        (json!({ "flow": { "sizes": [16, 20], "margins": [0, 8] }, "density": [2, 5] }), "density"),
        (json!({ "flow": { "sizes": [16, 20], "margins": [0, 8], "font": "serif" } }), "font"),
    ];
    for (fields, named) in cases {
        let mut bucket = json!({ "rows": 1, "pages": 1, "weight": 1.0 });
        fields.as_object().unwrap().iter().for_each(|(name, value)| bucket[name] = value.clone());
        change(&recipe, &json!({ "stages": [{ "until": 4, "batches": [bucket] }] }));
        let error = format!("{:#}", Recipe::read(&recipe).unwrap_err());
        assert!(error.contains(named), "{error}");
    }
}
