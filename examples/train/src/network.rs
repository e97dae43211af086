//! The model while it is trained: the stages that run inference, and heads beside them.

use crate::{
    batch::{Batch, Totals},
    guide,
    heads::{Heads, Judged, asked_for, cross_entropy, ints},
    lora::Adapters,
    pages::{COLUMNS, TOKEN},
    parameters::{Narrow, Widen},
    recipe::{Precision, Weights},
};
use burn::{
    module::Module,
    tensor::{DType, Device, Tensor, TensorData},
};
use deepseek_ocr_core::{Names, Parameters};
use deepseek_ocr_decoder::{Choice, Decoder, Taught};
use deepseek_ocr_encoder::Encoder;

/// Encoder, decoder, what is added to its matrices, and auxiliary heads.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub encoder: Encoder,
    pub decoder: Decoder,
    pub adapters: Adapters,
    heads: Heads,
    /// The vision stage as it is while its towers do not learn.
    eyes: Option<Encoder>,
    /// The id of the token in front of everything.
    bos: u32,
    /// Whether products are of numbers in bf16.
    mixed: bool,
}

/// What a batch gives.
pub(crate) struct Outcome {
    /// What is to become less.
    pub loss: Tensor<1>,
    pub figures: Figures,
}

/// What a step gave.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Figures {
    pub text: Part,
    pub patches: Part,
    pub tokens: Part,
    pub places: Part,
    pub looks: Part,
    pub shares: Part,
    /// The norm of all gradients before they were clipped.
    pub norm: f32,
}

/// A cross entropy and how often the likeliest class was the right one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Part {
    pub loss: f32,
    pub accuracy: f32,
}

impl Figures {
    /// All parts, in the order of the table.
    pub(crate) fn parts(&self) -> [Part; 6] {
        [self.text, self.patches, self.tokens, self.places, self.looks, self.shares]
    }

    fn parts_mut(&mut self) -> [&mut Part; 6] {
        let Self { text, patches, tokens, places, looks, shares, .. } = self;
        [text, patches, tokens, places, looks, shares]
    }

    /// Those of another part of the batch, too.
    pub(crate) fn add(&mut self, more: &Self) {
        for (part, more) in self.parts_mut().into_iter().zip(more.parts()) {
            part.loss += more.loss;
            part.accuracy += more.accuracy;
        }
    }
}

impl Network {
    /// The names of the auxiliary heads' parameters begin so.
    pub(crate) const AUXILIARY: &str = "auxiliary.";
    const HEADS: Names = Names(&[("", Self::AUXILIARY)]);

    /// A network of these stages, with all parameters in f32.
    pub(crate) fn new((encoder, decoder): (Encoder, Decoder), density: [u32; 2], bos: u32) -> Self {
        let cells = density.iter().product::<u32>() as usize;
        let heads = Heads::new(encoder.sam.pos_embed.lazy_shape()[3], &decoder, [COLUMNS * COLUMNS, cells]);
        Self { encoder, decoder, adapters: Adapters::default(), heads, eyes: None, bos, mixed: false }.map(&mut Widen)
    }

    /// The network with towers that do not learn, which are computed as inference does, or with towers that do.
    pub(crate) fn with_still_towers(self, still: bool) -> Self {
        let eyes = still.then(|| self.eyes.unwrap_or_else(|| self.encoder.clone()));
        Self { eyes, ..self }
    }

    /// The network with products of this precision.
    pub(crate) fn with_precision(self, precision: Precision) -> Self {
        Self { mixed: precision == Precision::Bf16, ..self }
    }

    /// The network on another device.
    pub(crate) fn on(self, device: &Device) -> Self {
        Self {
            encoder: self.encoder.to_device(device),
            decoder: self.decoder.to_device(device),
            adapters: self.adapters.on(device),
            heads: self.heads.to_device(device),
            eyes: self.eyes.map(|eyes| eyes.to_device(device)),
            ..self
        }
    }

    /// Replaces each parameter; names are the checkpoint's.
    pub(crate) fn map(self, parameters: &mut impl Parameters) -> Self {
        Self {
            encoder: Encoder::NAMES.map(self.encoder, parameters),
            decoder: Decoder::NAMES.map(self.decoder, parameters),
            adapters: self.adapters.map(parameters),
            heads: Self::HEADS.map(self.heads, parameters),
            ..self
        }
    }

    /// Replaces each parameter that the state of a run holds: all, or, beside adapters, what the checkpoint does not have.
    pub(crate) fn map_state(self, parameters: &mut impl Parameters) -> Self {
        if self.adapters.is_empty() {
            return self.map(parameters);
        }
        let (adapters, heads) = (self.adapters.map(parameters), Self::HEADS.map(self.heads, parameters));
        Self { adapters, heads, ..self }
    }

    /// The network with its adapters in the decoder's matrices.
    pub(crate) fn merged(self) -> Self {
        Self { decoder: self.adapters.merged(self.decoder), adapters: Adapters::default(), ..self }
    }

    /// What is computed with: adapters are in their matrices, and these in the type of the products.
    fn stages(&self) -> (Encoder, Decoder) {
        let (encoder, decoder) = (self.encoder.clone(), self.adapters.merged(self.decoder.clone()));
        match self.mixed {
            true => (Encoder::NAMES.map(encoder, &mut Narrow), Decoder::NAMES.map(decoder, &mut Narrow)),
            false => (encoder, decoder),
        }
    }

    /// The share that a part of a batch has in the losses of the whole.
    pub(crate) fn forward(&self, batch: &Batch, totals: Totals, weights: Weights) -> Outcome {
        let device = self.decoder.device();
        let mut loss = Tensor::zeros([1], (&device, DType::F32));
        let mut add = |(part, accuracy): Judged, weight: f32| {
            loss = loss.clone() + part.clone() * weight;
            Part { loss: part.inner().into_scalar::<f32>(), accuracy }
        };
        let mut figures = Figures::default();
        let (encoder, decoder) = self.stages();
        let tokens = match &self.eyes {
            Some(eyes) => {
                let patches = eyes.sam.patches_of_part(pixels(batch, &device), batch.at);
                let (tokens, features) = eyes.towers_of_part(patches, batch.at);
                encoder.project_part(tokens.autodiff(), features.autodiff())
            }
            None => {
                let patches = encoder.sam.patches_of_part(pixels(batch, &device), batch.at);
                figures.patches = add(self.heads.of_patches(patches.clone(), batch, totals), weights.patches);
                let tokens = encoder.join_part(patches, batch.at);
                figures.tokens = add(self.heads.of_tokens(tokens.clone(), batch, totals), weights.tokens);
                tokens
            }
        };
        if !batch.asked.is_empty() {
            let (taught, positions) = self.teach(&decoder, tokens, batch);
            let states = asked_for(taught.last(), batch);
            figures.text = add(text(&decoder, states.clone(), batch, totals), 1.0);
            if weights.places > 0.0 {
                figures.places = add(self.heads.of_places(&taught, batch, totals), weights.places);
            }
            if weights.looks > 0.0 {
                figures.looks = add(guide::of_looks(&decoder, &taught, &positions, batch, totals), weights.looks);
            }
            if weights.shares > 0.0 {
                let (states, heads) = (decoder.norm.forward(states), decoder.config().heads);
                figures.shares = add(self.heads.of_shares(states, heads, batch, totals), weights.shares);
            }
            let share = weights.balance * batch.pages as f32 / totals.pages as f32;
            for choice in taught.choices {
                add((unevenness(choice), 0.0), share);
            }
        }
        Outcome { loss, figures }
    }

    /// The decoder over pages and what is known of their texts, and the positions of its inputs.
    fn teach(&self, decoder: &Decoder, tokens: Tensor<4>, batch: &Batch) -> (Taught, Vec<usize>) {
        let vision = self.encoder.layout.forward_pages(tokens);
        let [pages, seen, hidden] = vision.dims();
        let shared = |ids: &[u32]| {
            let rows = self.embed(ids).reshape([1, ids.len(), hidden]);
            rows.expand([pages, ids.len(), hidden])
        };
        let mut parts = vec![shared(&[self.bos]), vision];
        if !batch.prompt.is_empty() {
            parts.push(shared(&batch.prompt));
        }
        let inputs = batch.inputs();
        if !inputs.is_empty() {
            parts.push(self.embed(&inputs).reshape([pages, inputs.len() / pages, hidden]));
        }
        let before = 1 + seen + batch.prompt.len();
        let positions: Vec<usize> = (0..before).chain(batch.known().map(|at| before + at)).collect();
        (decoder.forward(Tensor::cat(parts, 1), &positions), positions)
    }

    fn embed(&self, ids: &[u32]) -> Tensor<2> {
        let values: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        self.decoder.embed_tokens.forward(ints(values, &self.decoder.device()))
    }
}

/// Cross entropy of the text.
///
/// # Shapes
/// - `states`: `[pages * asked, hidden]`
fn text(decoder: &Decoder, states: Tensor<2>, batch: &Batch, totals: Totals) -> Judged {
    let counted: Vec<bool> = batch.counted().collect();
    cross_entropy(decoder.logits_together(states), &batch.targets(), &counted, totals.tokens)
}

fn pixels(batch: &Batch, device: &Device) -> Tensor<4> {
    let shape = [batch.pages, 1, batch.rows * TOKEN, COLUMNS * TOKEN];
    let grey: Tensor<4> = Tensor::from_data(TensorData::new(batch.pixels.clone(), shape), (device, DType::F32));
    grey.expand([shape[0], 3, shape[2], shape[3]])
}

/// One if every expert is used alike, more if not: the share of positions that each gets times its mean probability.
pub(crate) fn unevenness(choice: Choice) -> Tensor<1> {
    let [positions, experts] = choice.probabilities.dims();
    let chosen = choice.indices.into_data().convert_dtype(DType::I32);
    let mut shares = vec![0.0; experts];
    let each = experts as f32 / chosen.num_elements() as f32;
    chosen.iter::<i32>().for_each(|expert| shares[expert as usize] += each);
    let shares: Tensor<2> =
        Tensor::from_data(TensorData::new(shares, [1, experts]), (&choice.probabilities.device(), DType::F32));
    (choice.probabilities * shares).sum() / positions as f32
}
