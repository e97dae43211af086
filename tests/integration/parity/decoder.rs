//! The decoder against goldens: inputs, every block, router, logits, and free-running generation under every guard.

use super::golden::{Golden, Report};
use burn::tensor::{DType, Int, Tensor, TensorData};
use deepseek_ocr_core::ops::Precision;
use deepseek_ocr_decoder::{
    Cache, Decoder, Finish, GenerateOptions, Generation, LoopStop, Mlp, NoRepeat, Prompt, Segment, ops::Rows,
};

/// Logit gap up to which two implementations may choose differently.
const CHOICE_GAP: f32 = 1e-3;

/// Probability gap up to which two implementations may choose other experts.
const ROUTER_GAP: f32 = 1e-4;

/// Window guards of at least this n-gram length are the official presets, which allow the cell tags of tables.
const PRESET_NGRAM: usize = 20;

/// Blocks whose outputs `hidden.last_row` holds.
const LAST_ROW_LAYERS: [usize; 4] = [0, 1, 6, 11];

/// Ids of the tokens that decoding treats in a special way.
pub struct Special {
    pub eos: u32,
    pub image: u32,
    /// `<td>`, `</td>`.
    pub td: [u32; 2],
}

/// Compares every key of the decoder that `golden` has.
pub fn check(decoder: &Decoder, segments: &[Segment], golden: &Golden, special: &Special, report: &mut Report) {
    let inputs = decoder.embed(segments).unwrap();
    report.close(golden, "inputs_embeds", inputs.clone());
    let layers = decoder.forward_all(inputs.clone());
    hidden(decoder, &layers, golden, report);
    logits(decoder, &layers, golden, report);
    for layer in numbered(golden, "router.layer") {
        let x = if layer == 0 { inputs.clone() } else { layers[layer - 1].clone() };
        router(decoder, layer, x, golden, report);
    }
    let prompt = Prompt { segments: segments.to_vec(), vision_id: special.image };
    for guard in guards(golden) {
        let run = Run::new(decoder, &prompt, golden, &guard, special);
        run.check(golden, &guard, report);
    }
}

fn hidden(decoder: &Decoder, layers: &[Tensor<2>], golden: &Golden, report: &mut Report) {
    for (layer, x) in layers.iter().enumerate() {
        report.close(golden, &format!("hidden.layer{layer}"), x.clone());
    }
    let norm = decoder.norm.forward(layers[layers.len() - 1].clone());
    report.close(golden, "hidden.final_norm.last", last(&norm));
    report.close(golden, "hidden.final_norm", norm);
    if golden.has("hidden.last_row") {
        let rows = LAST_ROW_LAYERS.iter().filter_map(|&layer| layers.get(layer)).map(last).collect();
        report.close(golden, "hidden.last_row", Tensor::cat(rows, 0));
    }
}

fn logits(decoder: &Decoder, layers: &[Tensor<2>], golden: &Golden, report: &mut Report) {
    let x = &layers[layers.len() - 1];
    report.close(golden, "logits.last", decoder.logits(last(x)));
    if let Some(positions) = golden.i64s("logits.positions") {
        let indices: Vec<i32> = positions.iter().map(|&p| p as i32).collect();
        let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [positions.len()]), &decoder.device());
        report.close(golden, "logits.at", decoder.logits(x.clone().select(0, indices)));
        report.seen(golden, "logits.positions", Ok(format!("{} positions", positions.len())));
    }
}

/// Compares one router: `x` is the block's input.
fn router(decoder: &Decoder, layer: usize, x: Tensor<2>, golden: &Golden, report: &mut Report) {
    let key = |name: &str| format!("router.layer{layer}.{name}");
    let Mlp::Moe(moe) = &decoder.layers[layer].mlp else { panic!("layer {layer} has no router") };
    let x = decoder.mlp_inputs(layer, x);
    let scores = moe.gate.scores(Rows::Together(Precision::Exact), x.clone());
    let routing = moe.gate.forward(Rows::Together(Precision::Exact), x);
    report.close(golden, &key("logits"), scores.clone());
    report.close(golden, &key("topk_weight"), routing.weights);

    let [positions, chosen] = routing.indices.dims();
    let indices: Vec<i64> = routing.indices.into_data().convert_dtype(DType::I64).try_to_vec().unwrap();
    let own = margins(&scores, chosen);
    let gaps = golden.f32s(&key("margin")).unwrap_or(&own);
    if golden.has(&key("margin")) {
        report.close_values(golden, &key("margin"), &own);
    }
    if let Some(expected) = golden.i64s(&key("topk_idx")) {
        let sorted = |row: &[i64]| {
            let mut row = row.to_vec();
            row.sort_unstable();
            row
        };
        let clear = |i: &usize| gaps[*i] > ROUTER_GAP;
        let sets = |all: &[i64]| -> Vec<Vec<i64>> {
            let rows: Vec<_> = all.chunks(chosen).map(sorted).collect();
            (0..positions).filter(clear).map(|i| rows[i].clone()).collect()
        };
        assert_eq!(expected.len(), positions * chosen, "{}: {}", golden.name, key("topk_idx"));
        report.equal(golden, &key("topk_idx"), &sets(&indices), &sets(expected));
    }
}

/// Gap between the last chosen probability and the next, for each position.
fn margins(scores: &Tensor<2>, chosen: usize) -> Vec<f32> {
    let experts = scores.dims()[1];
    let probabilities = floats(burn::tensor::activation::softmax(scores.clone(), 1));
    let margin = |row: &[f32]| {
        let mut row = row.to_vec();
        row.sort_by(|a, b| b.total_cmp(a));
        row[chosen - 1] - row.get(chosen).copied().unwrap_or(f32::NEG_INFINITY)
    };
    probabilities.chunks(experts).map(margin).collect()
}

/// One free-running generation, and the logits after banning that each of its tokens was chosen from.
struct Run {
    ids: Vec<u32>,
    logits: Vec<Vec<f32>>,
}

impl Run {
    fn new(decoder: &Decoder, prompt: &Prompt, golden: &Golden, guard: &str, special: &Special) -> Self {
        let no_repeat = parse(guard, special);
        let wanted = golden.get(&format!("greedy.{guard}.ids")).map_or(0, |values| values.shape[0]);
        let options = GenerateOptions::new(special.eos)
            .with_no_repeat(no_repeat.clone())
            .with_max_new_tokens(wanted)
            .with_loop_stop(LoopStop::OFF);
        let mut generation = Generation::new(decoder, vec![(prompt.clone(), options)]).unwrap();
        while !generation.is_finished() {
            generation.advance(decoder).unwrap();
        }
        let mut ids = generation.ids(0).to_vec();
        if generation.finish(0) == Some(Finish::Stop) {
            ids.push(special.eos);
        }
        let logits = replay(decoder, prompt, &ids, &no_repeat);
        Self { ids, logits }
    }

    fn check(&self, golden: &Golden, guard: &str, report: &mut Report) {
        let key = |name: &str| format!("greedy.{guard}.{name}");
        let expected = golden.i64s(&key("ids")).unwrap();
        let top5 = golden.f32s(&key("top5_logits"));
        let stored = |i: usize| top5.map(|top5| top5[i * 5] - top5[i * 5 + 1]);
        let gap = |i: usize| golden.f32s(&key("margin")).map(|margin| margin[i]).or_else(|| stored(i));

        let same = |(a, b): (&u32, &i64)| i64::from(*a) == *b;
        let equal = self.ids.iter().zip(expected).take_while(|&pair| same(pair)).count();
        let detail = format!("{equal} of {} ids equal", expected.len());
        let close_call = equal < expected.len() && gap(equal).is_some_and(|gap| gap <= CHOICE_GAP);
        let complete = equal == expected.len() && self.ids.len() == equal;
        report.seen(golden, &key("ids"), if complete || close_call { Ok(detail) } else { Err(detail) });

        // A step whose choice was a close call is still computed from equal tokens.
        let steps = (equal + 1).min(expected.len()).min(self.logits.len());
        self.check_margin(golden, &key("margin"), steps, report);
        self.check_top5(golden, &key("top5_ids"), &key("top5_logits"), steps, report);
    }

    fn check_margin(&self, golden: &Golden, key: &str, steps: usize, report: &mut Report) {
        let Some(expected) = golden.f32s(key) else { return };
        let own = self.logits[..steps].iter().map(|logits| {
            let best = best(logits, 2);
            logits[best[0]] - logits[best[1]]
        });
        report.seen(golden, key, compare(&own.collect::<Vec<_>>(), &expected[..steps]));
    }

    /// The stored ids are checked by what our logits say of them: near ties may stand in either order.
    fn check_top5(&self, golden: &Golden, ids: &str, values: &str, steps: usize, report: &mut Report) {
        let (Some(expected_ids), Some(expected)) = (golden.i64s(ids), golden.f32s(values)) else { return };
        let (mut sorted, mut named) = (Vec::new(), Vec::new());
        for (logits, ids) in self.logits[..steps].iter().zip(expected_ids.chunks(5)) {
            sorted.extend(best(logits, 5).into_iter().map(|id| logits[id]));
            named.extend(ids.iter().map(|&id| logits[id as usize]));
        }
        report.seen(golden, values, compare(&sorted, &expected[..5 * steps]));
        report.seen(golden, ids, compare(&named, &expected[..5 * steps]));
    }
}

/// The logits after banning, token by token over given ids.
fn replay(decoder: &Decoder, prompt: &Prompt, ids: &[u32], no_repeat: &NoRepeat) -> Vec<Vec<f32>> {
    let whole = prompt.ids();
    let mut cache = Cache::new(decoder.config(), 1, whole.len() + ids.len(), &decoder.device());
    let mut next = floats(decoder.prefill(decoder.embed(&prompt.segments).unwrap(), &mut cache, 0));
    let mut all = Vec::new();
    for (i, &id) in ids.iter().enumerate() {
        for token in no_repeat.banned(&whole, &ids[..i]) {
            next[token as usize] = f32::NEG_INFINITY;
        }
        all.push(next);
        next = floats(decoder.step(&[id], &[0], &mut cache));
    }
    all
}

/// `plain`, `hf_ngramN` or `win_nN_wW`.
fn parse(guard: &str, special: &Special) -> NoRepeat {
    let number = |text: &str| text.parse::<usize>().unwrap_or_else(|_| panic!("unknown guard {guard}"));
    if guard == "plain" {
        return NoRepeat::Off;
    }
    if let Some(ngram) = guard.strip_prefix("hf_ngram") {
        return NoRepeat::Sequence { ngram: number(ngram) };
    }
    let window = guard.strip_prefix("win_n").and_then(|rest| rest.split_once("_w"));
    let (ngram, window) = window.unwrap_or_else(|| panic!("unknown guard {guard}"));
    let (ngram, window) = (number(ngram), number(window));
    let allowed = if ngram >= PRESET_NGRAM { special.td.to_vec() } else { Vec::new() };
    NoRepeat::Window { ngram, window, allowed }
}

fn guards(golden: &Golden) -> Vec<String> {
    let ids = golden.keys().filter_map(|key| key.strip_prefix("greedy.")?.strip_suffix(".ids"));
    ids.map(str::to_owned).collect()
}

/// The numbers `i` of keys `{prefix}{i}.*`.
fn numbered(golden: &Golden, prefix: &str) -> Vec<usize> {
    let number = |key: &str| key.strip_prefix(prefix)?.split('.').next()?.parse().ok();
    let mut numbers: Vec<usize> = golden.keys().filter_map(number).collect();
    numbers.dedup();
    numbers
}

/// Ids of the highest logits, best first, lowest id first among equals.
fn best(logits: &[f32], count: usize) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    ids.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    ids.truncate(count);
    ids
}

/// As [`Report::close_values`], over the part of a stage that can be compared.
fn compare(actual: &[f32], expected: &[f32]) -> Result<String, String> {
    let scale = expected.iter().filter(|v| v.is_finite()).fold(0f32, |m, v| m.max(v.abs()));
    let difference = |(a, e): (&f32, &f32)| if a == e { 0.0 } else { (a - e).abs() };
    let worst = actual
        .iter()
        .zip(expected)
        .map(difference)
        .fold(0f32, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) });
    let detail = format!("max |difference| {worst:.2e} of {}", expected.len());
    if worst <= 1e-4 * (1.0 + scale) { Ok(detail) } else { Err(detail) }
}

fn last(x: &Tensor<2>) -> Tensor<2> {
    let length = x.dims()[0];
    x.clone().narrow(0, length - 1, 1)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert_dtype(DType::F32).try_to_vec().unwrap()
}
