//! A run of a tiny model: what it learns, and that being killed changes nothing.

use super::*;
use crate::{export::Formats, optimizer::Tensors};
use deepseek_ocr::Weights;
use serde_json::{Value, json};

mod growth;
mod recipes;

/// The mini's configuration with few of everything.
fn model(folder: &Path) {
    let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/mini");
    let mut config: Value = serde_json::from_slice(&fs::read(mini.join("config.json")).unwrap()).unwrap();
    let decoder = json!({
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 48,
        "moe_intermediate_size": 16, "n_routed_experts": 3
    });
    for (field, value) in decoder.as_object().unwrap() {
        config[field] = value.clone();
        config["language_config"][field] = value.clone();
    }
    config["projector_config"] = json!({ "input_dim": 64, "n_embed": 32, "projector_type": "linear" });
    let width = &mut config["vision_config"]["width"];
    width["clip-l-14-224"] = json!({ "heads": 2, "image_size": 112, "layers": 1, "patch_size": 14, "width": 32 });
    width["sam_vit_b"] = json!({
        "downsample_channels": [16, 32], "global_attn_indexes": [1], "heads": 2, "layers": 2, "width": 16, "out_chans": 8
    });
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::copy(mini.join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
}

/// A folder with a corpus, a model's configuration and a recipe of `steps` steps.
fn workplace(steps: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus/tales");
    fs::create_dir_all(&corpus).unwrap();
    for document in 0..60 {
        let text =
            format!("It was day {document} of the voyage, and the {} sailors sang of home and rain.\n\n", document * 7);
        fs::write(corpus.join(format!("{document}.txt")), text.repeat(3)).unwrap();
    }
    model(&folder.path().join("model"));
    let recipe = json!({
        "seed": 5, "model": folder.path().join("model"), "start": "scratch", "corpus": folder.path().join("corpus"),
        "density": [2, 5], "threads": 2, "strings": 0.3, "full": 0.5,
        "rate": { "highest": 3e-3, "warm_up": 2, "decay_from": steps / 2, "clip": 1.0 },
        "weights": { "balance": 0.01, "patches": 0.5, "tokens": 0.5 },
        "stages": [
            { "until": steps / 2, "batches": [{ "rows": 1, "pages": 2, "weight": 1.0 }] },
            { "until": steps, "batches": [
                { "rows": 1, "pages": 3, "weight": 1.0 },
                { "rows": 2, "pages": 1, "weight": 1.0 },
                { "rows": 1, "pages": 2, "weight": 1.0, "density": [1, 3] },
            ] },
        ]
    });
    let path = folder.path().join("given.json");
    fs::write(&path, recipe.to_string()).unwrap();
    (folder, path)
}

/// The table of a run without the seconds.
fn table(run: &Path) -> Vec<String> {
    let table = fs::read_to_string(run.join(crate::log::TABLE)).unwrap();
    let without = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        [&fields[..2], &fields[3..]].concat().join(",")
    };
    table.lines().map(without).collect()
}

#[test]
fn a_killed_run_goes_on_to_the_same_weights_and_losses() {
    let (folder, recipe) = workplace(8);
    let pace = Pace { log: 2, save: 4, stop: None };
    let [straight, broken] = ["straight", "broken"].map(|name| folder.path().join(name));
    train(&straight, Some(&recipe), pace, &Device::flex()).unwrap();
    // It is killed two steps after a state was saved: these are done anew.
    train(&broken, Some(&recipe), Pace { stop: Some(4), ..pace }, &Device::flex()).unwrap();
    let table_of = |run: &Path| run.join(crate::log::TABLE);
    let mut lines = fs::read_to_string(table_of(&broken)).unwrap();
    lines.push_str("6,999,1.0,0,1e-3,9,9,9,9,9,9,9\n");
    fs::write(table_of(&broken), lines).unwrap();
    train(&broken, None, pace, &Device::flex()).unwrap();
    assert_eq!(table(&straight), table(&broken));
    assert_eq!(table(&straight).len(), 1 + 4 + 2 * 3);
    for file in ["weights.safetensors", "optimizer.safetensors"] {
        let [a, b] = [&straight, &broken].map(|run| fs::read(run.join("step-00000008").join(file)).unwrap());
        assert!(a == b, "{file} differs");
    }
}

#[test]
fn what_was_trained_is_read_by_the_library() {
    let (folder, recipe) = workplace(4);
    let run = folder.path().join("run");
    train(&run, Some(&recipe), Pace { log: 4, save: 4, stop: None }, &Device::flex()).unwrap();
    let recipe = Recipe::read(&recipe).unwrap();
    let mut trainer = Trainer::new(&recipe, &Device::flex()).unwrap();
    let (network, progress) =
        state::restore(&state::newest(&run).unwrap().unwrap(), trainer.network, &mut trainer.optimizer).unwrap();
    assert_eq!(progress.step, 4);
    let alone = random::alone();
    let pixels = burn::tensor::Tensor::<4>::random(
        [1, 3, 512, 512],
        burn::tensor::Distribution::Uniform(-1.0, 1.0),
        &Device::flex(),
    );
    drop(alone);
    let trained = network.encoder.forward_part(pixels.clone(), [0, 0]).inner().reshape([64, 32]);
    let largest = trained.clone().abs().max().into_scalar::<f32>();
    let mut sizes = Vec::new();
    // The whole view gives the library what it gave training, but for the rounding to bf16 or to blocks.
    let mixed = Formats { all: Weights::Q8, narrow: vec!["model.vision_model".into()] };
    let cases: [(Formats, f32); 4] =
        [(Weights::Stored.into(), 0.02), (Weights::Q8.into(), 0.03), (mixed, 0.3), (Weights::Q4.into(), 0.3)];
    for (formats, rounding) in cases {
        let model = folder.path().join(format!("{}{}", formats.all, formats.narrow.concat()));
        assert_eq!(crate::export::export(&run, &model, &formats).unwrap(), 4);
        let ocr = DeepseekOcr::from_dir(&model, &Device::flex()).unwrap();
        let exported = ocr.encoder().forward(pixels.clone()).reshape([64, 32]);
        let worst = (trained.clone() - exported).abs().max().into_scalar::<f32>();
        assert!(worst < rounding * largest, "{formats:?}: {worst} of {largest}");
        sizes.push(fs::metadata(model.join("model.safetensors")).unwrap().len());
    }
    assert!(sizes[0] > 20_000 && sizes.is_sorted_by(|more, less| more > less), "{sizes:?}");
}

/// Slopes are sums of some thousand products in another order: they differ by less than this, over the largest of their parameter.
#[cfg(feature = "wgpu")]
const ORDER: f32 = 1e-3;

#[cfg(feature = "wgpu")]
#[test]
fn a_step_on_a_gpu_is_that_of_the_cpu() {
    let (_folder, path) = workplace(4);
    let recipe = |path: &Path| Recipe { threads: 1, ..Recipe::read(path).unwrap() };
    let lines = recipe(&path);
    change(&path, &recipes::in_blocks());
    for recipe in [lines, recipe(&path)] {
        let corpus = Corpus::open(&recipe.corpus, Split::Training).unwrap();
        let source = Source::new(&recipe, corpus, tokenizer(&recipe).unwrap(), 8).unwrap();
        compare_step(&recipe, &source.batch(3).unwrap());
    }
}

#[cfg(feature = "wgpu")]
fn compare_step(recipe: &Recipe, batch: &Batch) {
    let [cpu, gpu] = [Device::flex(), deepseek_ocr::device("wgpu").unwrap()].map(|device| {
        let trainer = Trainer::new(recipe, &device).unwrap();
        let (slopes, figures) = trainer.slopes(batch, 3);
        let slopes: Vec<(String, Vec<f32>)> =
            slopes.into_iter().map(|(name, slope)| (name, slope.into_data().iter::<f32>().collect())).collect();
        let (trainer, _) = trainer.step(batch, 3);
        (slopes, figures, trainer.judge(batch, 3))
    });
    for (cpu, gpu) in [(cpu.1, gpu.1), (cpu.2, gpu.2)] {
        let mut pairs = cpu.parts().into_iter().zip(gpu.parts());
        assert!(pairs.all(|(cpu, gpu)| (cpu.loss - gpu.loss).abs() <= 1e-4 * cpu.loss), "{cpu:?}\n{gpu:?}");
    }
    assert!(cpu.2.text.loss < cpu.1.text.loss && cpu.0.len() > 60);
    for ((name, cpu), (other, gpu)) in cpu.0.iter().zip(&gpu.0) {
        let largest = cpu.iter().fold(0.0, |largest: f32, slope| largest.max(slope.abs()));
        let worst = cpu.iter().zip(gpu).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(name == other && cpu.len() == gpu.len() && worst <= ORDER * largest, "{name}: {worst} of {largest}");
    }
}

#[test]
fn a_tiny_model_learns() {
    let (folder, recipe) = workplace(160);
    let run = folder.path().join("run");
    train(&run, Some(&recipe), Pace { log: 20, save: 160, stop: None }, &Device::flex()).unwrap();
    let losses: Vec<f64> = table(&run).iter().skip(1).filter_map(|line| line.split(',').nth(4)?.parse().ok()).collect();
    // From a guess among 128 tokens (4.85) to better than the frequencies of characters.
    assert!(losses[0] > 3.5 && losses[7] < 3.0, "{losses:?}");
}

/// Changes fields of a recipe.
fn change(recipe: &Path, fields: &Value) {
    let mut changed: Value = serde_json::from_slice(&fs::read(recipe).unwrap()).unwrap();
    for (name, value) in fields.as_object().unwrap() {
        changed[name] = value.clone();
    }
    fs::write(recipe, changed.to_string()).unwrap();
}

/// The parameters of a recipe's network before and after some steps.
fn around_steps(recipe: &Path, steps: usize) -> [Tensors; 2] {
    let recipe = Recipe::read(recipe).unwrap();
    let mut trainer = Trainer::new(&recipe, &Device::flex()).unwrap();
    let native = trainer.native();
    let corpus = Corpus::open(&recipe.corpus, Split::Training).unwrap();
    let source = Source::new(&recipe, corpus, tokenizer(&recipe).unwrap(), native).unwrap();
    let taken = |network: &Network| {
        let mut taken = state::Taken::default();
        network.clone().map(&mut taken);
        taken.0
    };
    let before = taken(&trainer.network);
    for step in 0..steps {
        (trainer, _) = trainer.step(&source.batch(step).unwrap(), step);
    }
    [before, taken(&trainer.network)]
}

/// Names of the parameters whose bits are no longer what they were.
fn changed([before, after]: &[Tensors; 2]) -> Vec<&str> {
    assert!(before.keys().eq(after.keys()));
    before.iter().filter(|(name, data)| data.bytes() != after[*name].bytes()).map(|(name, _)| name.as_str()).collect()
}

/// A recipe that adapts an exported model, and that model.
fn adapting(steps: usize) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let (folder, recipe) = workplace(steps);
    let [run, base] = ["run", "base"].map(|name| folder.path().join(name));
    train(&run, Some(&recipe), Pace { log: 2, save: 2, stop: Some(2) }, &Device::flex()).unwrap();
    crate::export::export(&run, &base, &Weights::Stored.into()).unwrap();
    let lora = json!({ "matrices": ["*.self_attn.*", "*.experts.*", "lm_head."], "rank": 2, "alpha": 4.0 });
    change(&recipe, &json!({ "model": base, "start": "warm", "lora": lora }));
    (folder, recipe, base)
}

#[test]
fn what_is_frozen_keeps_its_bits() {
    let (_folder, recipe) = workplace(4);
    let patterns = ["model.sam_model.", "*.self_attn.*", "model.layers.1.mlp.gate."];
    change(&recipe, &json!({ "freeze": patterns }));
    let values = around_steps(&recipe, 3);
    let changed = changed(&values);
    let frozen: Vec<_> =
        values[0].keys().filter(|name| patterns.iter().any(|pattern| crate::parameters::fits(pattern, name))).collect();
    assert!(frozen.len() > 30, "{frozen:?}");
    // Text in lines does not ask these heads.
    let idle = ["auxiliary.places.", "auxiliary.shares.", "auxiliary.letters."];
    for name in values[0].keys() {
        let still = frozen.contains(&name) || idle.iter().any(|head| name.starts_with(head));
        assert!(changed.contains(&name.as_str()) != still, "{name}");
    }
}

#[test]
fn beside_adapters_nothing_changes() {
    let (_folder, recipe, _) = adapting(4);
    let values = around_steps(&recipe, 3);
    let adapters: Vec<_> = values[0].keys().filter(|name| name.starts_with("lora.")).collect();
    // Two factors for attention in two blocks, three experts in one and the head.
    assert_eq!(adapters.len(), 2 * (2 * 4 + 3 * 3 + 1));
    let changed = changed(&values);
    assert!(changed.iter().all(|name| name.starts_with("lora.")), "{changed:?}");
    for name in adapters {
        // An expert that no position took has a slope of zero, and so keeps its first B.
        assert!(changed.contains(&name.as_str()) || name.contains(".experts.") && name.ends_with(".b"), "{name}");
    }
}

#[test]
fn a_killed_run_of_adapters_goes_on_to_the_same_weights_and_losses() {
    let (folder, recipe, _) = adapting(8);
    let pace = Pace { log: 2, save: 4, stop: None };
    let [straight, broken] = ["straight", "broken"].map(|name| folder.path().join(name));
    train(&straight, Some(&recipe), pace, &Device::flex()).unwrap();
    // Killed before the eighth step's state was there: the fourth's is the newest, and the table goes further than it.
    let files = |state: &str| {
        ["weights.safetensors", "optimizer.safetensors", "progress.json"].map(|file| Path::new(state).join(file))
    };
    fs::create_dir_all(broken.join("step-00000004")).unwrap();
    let run = [crate::log::TABLE, RECIPE, "config.json", "tokenizer.json"].map(PathBuf::from);
    for file in files("step-00000004").iter().chain(&run) {
        fs::copy(straight.join(file), broken.join(file)).unwrap();
    }
    train(&broken, None, pace, &Device::flex()).unwrap();
    assert_eq!(table(&straight), table(&broken));
    assert_eq!(table(&straight).len(), 1 + 4 + 2 * 3);
    for file in &files("step-00000008")[..2] {
        let [a, b] = [&straight, &broken].map(|run| fs::read(run.join(file)).unwrap());
        assert!(a == b, "{} differs", file.display());
        // Adapters, and heads that only training has; of the model's own weights nothing.
        let held = safetensors::SafeTensors::deserialize(&a).unwrap();
        assert!(held.names().iter().all(|name| name.contains("lora.") || name.starts_with("auxiliary.")));
        assert!(held.names().iter().any(|name| name.contains("lora.lm_head.weight.b")));
    }
}

#[test]
fn adapters_are_merged_when_they_are_exported() {
    let (folder, recipe, base) = adapting(6);
    let [run, model] = ["adapted", "merged"].map(|name| folder.path().join(name));
    train(&run, Some(&recipe), Pace { log: 6, save: 6, stop: None }, &Device::flex()).unwrap();
    assert_eq!(crate::export::export(&run, &model, &Weights::Stored.into()).unwrap(), 6);
    DeepseekOcr::from_dir(&model, &Device::flex()).unwrap();
    let weights = state::weights(&state::newest(&run).unwrap().unwrap()).unwrap();
    let [base, merged] = [base, model].map(|folder| fs::read(folder.join("model.safetensors")).unwrap());
    let [base, merged] = [&base, &merged].map(|bytes| safetensors::SafeTensors::deserialize(bytes).unwrap());
    assert_eq!(base.len(), merged.len());
    for (name, before) in base.tensors() {
        let after = merged.tensor(&name).unwrap();
        let factor = |part: &str| weights.get(&format!("lora.{name}.{part}"));
        let (Some(a), Some(b)) = (factor("a"), factor("b")) else {
            assert!(before.data() == after.data(), "{name}");
            continue;
        };
        let [a, b] = [a, b].map(|factor| factor.iter::<f64>().collect::<Vec<_>>());
        let [before, after] = [before.data(), after.data()].map(|bytes| {
            let value = |pair: &[u8]| half::bf16::from_le_bytes([pair[0], pair[1]]).to_f64();
            bytes.chunks_exact(2).map(value).collect::<Vec<_>>()
        });
        let (rank, inputs) = (2, a.len() / 2);
        for (at, (before, after)) in before.iter().zip(&after).enumerate() {
            let (output, input) = (at / inputs, at % inputs);
            let change: f64 = (0..rank).map(|k| b[output * rank + k] * a[k * inputs + input]).sum();
            let wanted = before + 4.0 / 2.0 * change;
            // Half a unit of bf16's last place, and the sums' rounding in f32.
            assert!((after - wanted).abs() <= wanted.abs() / 256.0 + 1e-6, "{name}: {after} for {wanted}");
        }
        // Of an expert that no position took nothing changed.
        assert!(before != after || name.contains(".experts."), "{name} is as it was");
    }
}
