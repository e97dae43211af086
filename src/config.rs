//! `config.json` and `processor_config.json`, turned into types that can only describe what runs here.
//!
//! A field that asks for something else is refused by name, so that nothing is "unsupported" after loading.

mod fields;
mod known;

use crate::Tokenizer;
use deepseek_ocr_core::{Result, json};
use deepseek_ocr_decoder::DecoderConfig;
use deepseek_ocr_encoder::{ClipConfig, CompressorConfig, EncoderConfig, SamConfig};
use fields::Fields;
use serde_json::Value;
use std::path::Path;

const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";
/// Both hold the same fields; the second is what older exporters call it.
const PROCESSORS: [&str; 2] = ["processor_config.json", "preprocessor_config.json"];

/// Side of a SAM patch in pixels; not in any configuration file.
const SAM_PATCH: usize = 16;
/// Channels of SAM's neck where the file does not say.
const NECK_CHANNELS: usize = 256;
/// Defaults of the released configuration class for keys that the released file lacks.
const RMS_EPS: f64 = 1e-6;
const ROPE_THETA: f64 = 10_000.0;

/// The towers, by their names in the file.
const SAM: &str = "sam_vit_b";
const CLIP: &str = "clip-l-14-224";

/// Parts of the names of modules and classes that sister models with the same fields have.
const SISTERS: [&str; 2] = ["ocr2", "unlimited"];

/// Everything about a model that its configuration says.
#[derive(Debug, Clone)]
pub(crate) struct ModelConfig {
    pub(crate) encoder: EncoderConfig,
    pub(crate) decoder: DecoderConfig,
    /// The whole files that state ids of tokens.
    stated: Vec<(&'static str, Value)>,
}

impl ModelConfig {
    /// Reads the configuration files of a model folder.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut config = Self::parse(&json::read(folder.join(CONFIG))?)?;
        for file in PROCESSORS {
            if folder.join(file).is_file() {
                check_processor(file, &json::read(folder.join(file))?)?;
            }
        }
        if folder.join(GENERATION).is_file() {
            config.stated.push((GENERATION, json::read(folder.join(GENERATION))?));
        }
        Ok(config)
    }

    pub(crate) fn parse(config: &Value) -> Result<Self> {
        let root = Fields::of_file(CONFIG, config)?;
        root.switches(&known::file())?;
        refuse_sister_code(&root)?;
        Fields::new(CONFIG, nested(&root))?.switches(&known::decoder_class())?;
        let fields = Fields::new(CONFIG, nested(&root).into_iter().chain([(String::new(), config)]))?;
        let decoder = decoder(&fields)?;
        warn_of(fields.unknown(known::UNUSED));
        let encoder = encoder(&root, decoder.hidden)?;
        Ok(Self { encoder, decoder, stated: vec![(CONFIG, config.clone())] })
    }

    /// Checks that the files mean the tokens that the tokenizer has.
    pub(crate) fn check_tokens(&self, tokenizer: &Tokenizer) -> Result<()> {
        for &(file, ref value) in &self.stated {
            let root = Fields::of_file(file, value)?;
            let fields = Fields::new(file, nested(&root).into_iter().chain([(String::new(), value)]))?;
            for (field, id) in [
                ("bos_token_id", tokenizer.bos()),
                ("eos_token_id", tokenizer.eos()),
                ("image_token_id", tokenizer.image()),
                ("image_token_index", tokenizer.image()),
            ] {
                // The class allows several that end an answer; here there is one.
                fields.one_of(field, &[id.into(), vec![id].into()])?;
            }
        }
        Ok(())
    }
}

/// Checks that the processor's file describes the preprocessing that is built in.
fn check_processor(file: &'static str, config: &Value) -> Result<()> {
    let root = Fields::of_file(file, config)?;
    let fields = Fields::new(file, root.all("image_processor").into_iter().chain([(String::new(), config)]))?;
    fields.switches(&known::processor(SAM_PATCH))?;
    warn_of(fields.unknown(known::UNUSED_BY_PROCESSOR));
    Ok(())
}

fn warn_of(fields: Vec<String>) {
    if !fields.is_empty() {
        tracing::warn!(?fields, "a configuration file has fields that are not known here, and are not read");
    }
}

/// The blocks in which a file may state the decoder; the released one does so there and at its root. Transformers calls it otherwise.
fn nested<'a>(root: &Fields<'a>) -> Vec<(String, &'a Value)> {
    [root.all("language_config"), root.all("text_config")].concat()
}

/// Refuses a file whose remote code is that of another model.
fn refuse_sister_code(root: &Fields<'_>) -> Result<()> {
    for (path, map) in root.all("auto_map") {
        for (class, code) in map.as_object().into_iter().flatten() {
            let name = code.to_string().to_lowercase();
            let module = name.rsplit("--").next().unwrap_or(&name);
            if SISTERS.iter().any(|sister| module.contains(sister)) {
                return Err(root.error_at(&format!("{path}{class}"), code, "code of DeepSeek-OCR"));
            }
        }
    }
    Ok(())
}

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig> {
    let heads = fields.size("num_attention_heads")?;
    let experts = fields.size("n_routed_experts")?;
    let config = DecoderConfig {
        vocab: fields.size("vocab_size")?,
        hidden: fields.size("hidden_size")?,
        layers: fields.size("num_hidden_layers")?,
        heads,
        dense_width: fields.size("intermediate_size")?,
        dense_layers: fields.count("first_k_dense_replace")?,
        experts,
        experts_per_token: fields.size("num_experts_per_tok")?,
        expert_width: fields.size("moe_intermediate_size")?,
        shared_width: fields.size("n_shared_experts")? * fields.size("moe_intermediate_size")?,
        context: fields.size("max_position_embeddings")?,
        rms_eps: fields.number("rms_norm_eps")?.unwrap_or(RMS_EPS),
        rope_theta: rope_theta(fields)?,
    };
    if !config.hidden.is_multiple_of(2 * heads) {
        return Err(fields.error("num_attention_heads", heads, format!("a divisor of half of {}", config.hidden)));
    }
    if config.experts_per_token > config.experts {
        let expected = format!("at most n_routed_experts, {}", config.experts);
        return Err(fields.error("num_experts_per_tok", config.experts_per_token, expected));
    }
    if config.dense_layers > config.layers {
        let expected = format!("at most num_hidden_layers, {}", config.layers);
        return Err(fields.error("first_k_dense_replace", config.dense_layers, expected));
    }
    fields.equals("num_key_value_heads", heads)?;
    for other_name in ["num_experts", "num_local_experts"] {
        fields.equals(other_name, experts)?;
    }
    fields.switches(&known::decoder(config.hidden / heads))?;
    refuse_windows(fields)?;
    check_layers(fields, &config)?;
    Ok(config)
}

/// Refuses windows over the positions that a token sees. `use_sliding_window` is transformers' switch for its own field only.
fn refuse_windows(fields: &Fields<'_>) -> Result<()> {
    let off = fields.optional("use_sliding_window")? == Some(&Value::Bool(false));
    fields.one_of("sliding_window_size", &[])?;
    // Asked for in either case, so that it is no unknown field.
    let window = fields.one_of("sliding_window", &[]);
    if off { Ok(()) } else { window }
}

/// Checks the lists in which transformers says of each layer what it is.
fn check_layers(fields: &Fields<'_>, config: &DecoderConfig) -> Result<()> {
    fields.equals("layer_types", vec!["full_attention"; config.layers])?;
    let kinds = (0..config.layers).map(|layer| if layer < config.dense_layers { "dense" } else { "sparse" });
    fields.equals("mlp_layer_types", kinds.collect::<Vec<_>>())
}

/// The base of the rotary embedding, which all fields that state one must agree on.
fn rope_theta(fields: &Fields<'_>) -> Result<f64> {
    let mut found = fields.number("rope_theta")?.map(|theta| ("rope_theta", theta));
    for block in ["rope_parameters", "rope_scaling"] {
        let inside = fields.inside(block)?;
        inside.switches(&known::rope())?;
        let theta = inside.number("rope_theta")?;
        inside.refuse_unknown()?;
        match (found, theta) {
            (Some((field, first)), Some(theta)) if first != theta => {
                return Err(inside.error("rope_theta", theta, format!("{first} as {field} says")));
            }
            (None, Some(theta)) => found = Some((block, theta)),
            _ => {}
        }
    }
    Ok(found.map_or(ROPE_THETA, |(_, theta)| theta))
}

fn encoder(root: &Fields<'_>, hidden: usize) -> Result<EncoderConfig> {
    let vision = root.inside("vision_config")?;
    vision.switches(&known::vision())?;
    let towers = vision.inside("width")?;
    let (sam, clip) = (towers.inside(SAM)?, towers.inside(CLIP)?);
    towers.refuse_unknown()?;
    let projector = root.inside("projector_config")?;

    let layers = sam.size("layers")?;
    let channels = sam.sizes("downsample_channels")?;
    let channels = <[usize; 2]>::try_from(channels)
        .map_err(|found| sam.error("downsample_channels", format!("{found:?}"), "two sizes"))?;
    let global_blocks = sam.counts("global_attn_indexes")?;
    if let Some(block) = global_blocks.iter().find(|block| **block >= layers) {
        return Err(sam.error("global_attn_indexes", block, format!("block numbers below {layers}")));
    }
    let neck = sam.optional("out_chans")?.map_or(Ok(NECK_CHANNELS), |_| sam.size("out_chans"))?;
    let (sam_width, sam_heads) = (sam.heads_divide("width")?, sam.size("heads")?);
    let (clip_width, clip_heads) = (clip.heads_divide("width")?, clip.size("heads")?);
    clip.equals("width", channels[1])?;
    projector.switches(&known::projector())?;
    projector.equals("input_dim", clip_width + channels[1])?;
    projector.equals("n_embed", hidden)?;

    let grid = vision.quotient("image_size", SAM_PATCH)?;
    sam.switches(&known::sam(grid * SAM_PATCH, SAM_PATCH, neck))?;
    let sam_config = SamConfig::new(sam_width, layers, sam_heads, global_blocks, grid).with_neck_channels(neck);
    let grid = clip.quotient("image_size", clip.size("patch_size")?)?;
    clip.switches(&known::clip(clip_width))?;
    let clip_config = ClipConfig::new(clip_width, clip.size("layers")?, clip_heads, grid);
    for fields in [vision, sam, clip, projector] {
        warn_of(fields.unknown(known::UNUSED));
    }
    Ok(EncoderConfig::new(sam_config, CompressorConfig::new(channels), clip_config, hidden))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn released() -> Value {
        json!({
            "model_type": "deepseek_vl_v2",
            "tile_tag": "2D",
            "language_config": {
                "vocab_size": 129280, "hidden_size": 1280, "num_hidden_layers": 12, "num_attention_heads": 10,
                "num_key_value_heads": 10, "intermediate_size": 6848, "moe_intermediate_size": 896,
                "first_k_dense_replace": 1, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
                "max_position_embeddings": 8192, "use_mla": false, "q_lora_rank": null, "topk_method": "greedy",
                "n_group": 1, "topk_group": 1, "v_head_dim": 0
            },
            "projector_config": { "input_dim": 2048, "n_embed": 1280, "projector_type": "linear" },
            "vision_config": { "image_size": 1024, "mlp_ratio": 3.7362, "width": {
                "clip-l-14-224": { "heads": 16, "image_size": 224, "layers": 24, "patch_size": 14, "width": 1024 },
                "sam_vit_b": { "downsample_channels": [512, 1024], "global_attn_indexes": [2, 5, 8, 11], "heads": 12,
                    "layers": 12, "width": 768 }
            }}
        })
    }

    #[test]
    fn the_released_file_and_its_defaults() {
        let config = ModelConfig::parse(&released()).expect("released values");
        assert_eq!(config.decoder.shared_width, 1792);
        assert_eq!((config.decoder.rms_eps, config.decoder.rope_theta), (1e-6, 1e4));
        assert_eq!((config.encoder.sam.neck_channels, config.encoder.sam.grid), (256, 64));
        assert_eq!(config.encoder.clip.grid, 16);
    }

    #[test]
    fn what_is_not_run_is_refused_by_field() {
        let cases = [
            ("/language_config/use_mla", json!(true), "language_config.use_mla is true, expected false"),
            ("/language_config/scoring_func", json!("sigmoid"), "language_config.scoring_func is \"sigmoid\""),
            ("/language_config/norm_topk_prob", json!(true), "language_config.norm_topk_prob"),
            ("/language_config/kv_lora_rank", json!(512), "language_config.kv_lora_rank is 512, expected null"),
            ("/language_config/num_key_value_heads", json!(2), "language_config.num_key_value_heads is 2, expected 10"),
            ("/language_config/vocab_size", json!(-1), "language_config.vocab_size is -1, expected a whole number"),
            ("/language_config/hidden_size", json!(null), "language_config.hidden_size is absent"),
            ("/language_config/num_experts_per_tok", json!(65), "language_config.num_experts_per_tok is 65"),
            ("/projector_config/projector_type", json!("mlp"), "projector_config.projector_type"),
            ("/projector_config/input_dim", json!(1), "projector_config.input_dim is 1, expected 2048"),
            ("/vision_config/width/sam_vit_b/global_attn_indexes", json!([12]), "sam_vit_b.global_attn_indexes is 12"),
            ("/vision_config/width/sam_vit_b/downsample_channels", json!([5]), "sam_vit_b.downsample_channels is [5]"),
            ("/model_type", json!("llava"), "model_type is \"llava\""),
            ("/tile_tag", json!("1D"), "tile_tag"),
        ];
        for (pointer, value, message) in cases {
            let mut config = released();
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
            config.pointer_mut(parent).expect("a scope")[field] = value;
            let error = ModelConfig::parse(&config).expect_err(pointer).to_string();
            assert!(error.starts_with("config.json: ") && error.contains(message), "{pointer}: {error}");
        }
    }

    #[test]
    fn another_normalisation_is_refused() {
        let check = |config| check_processor(PROCESSORS[0], &config);
        assert!(check(json!({ "image_mean": [0.5, 0.5, 0.5], "downsample_ratio": 4, "pad_token": "x" })).is_ok());
        let error = check(json!({ "image_std": [0.26, 0.26, 0.27] })).expect_err("other std").to_string();
        assert_eq!(error, "processor_config.json: image_std is [0.26,0.26,0.27], expected [0.5,0.5,0.5]");
        let nested = check(json!({ "image_processor": { "resample": 2 } })).expect_err("bilinear").to_string();
        assert_eq!(nested, "processor_config.json: image_processor.resample is 2, expected 3");
    }
}
