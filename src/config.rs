//! `config.json` and `processor_config.json`, turned into types that can only describe what runs here.
//!
//! A field that asks for something else is refused by name, so that nothing is "unsupported" after loading.

use deepseek_ocr_core::{Error, Result};
use deepseek_ocr_decoder::DecoderConfig;
use deepseek_ocr_encoder::{ClipConfig, CompressorConfig, EncoderConfig, SamConfig};
use serde_json::Value;
use std::fmt::Display;

const CONFIG: &str = "config.json";
const PROCESSOR: &str = "processor_config.json";

/// Side of a SAM patch in pixels; not in any configuration file.
const SAM_PATCH: usize = 16;
/// Channels of SAM's neck where the file does not say.
const NECK_CHANNELS: usize = 256;
/// Defaults of the released configuration class for keys that the released file lacks.
const RMS_EPS: f64 = 1e-6;
const ROPE_THETA: f64 = 10_000.0;

/// Everything about a model that its configuration says.
#[derive(Debug, Clone)]
pub(crate) struct ModelConfig {
    pub(crate) encoder: EncoderConfig,
    pub(crate) decoder: DecoderConfig,
}

impl ModelConfig {
    pub(crate) fn parse(config: &Value) -> Result<Self> {
        let root = Fields { file: CONFIG, scopes: vec![("", config)] };
        root.equals("model_type", "deepseek_vl_v2")?;
        root.equals("tile_tag", "2D")?;
        let decoder = decoder(config)?;
        let encoder = encoder(config, decoder.hidden)?;
        Ok(Self { encoder, decoder })
    }
}

/// Checks that `processor_config.json` describes the preprocessing that is built in.
pub(crate) fn check_processor(config: &Value) -> Result<()> {
    let fields = Fields { file: PROCESSOR, scopes: vec![("", config)] };
    for field in ["image_mean", "image_std"] {
        fields.equals(field, vec![0.5, 0.5, 0.5])?;
    }
    fields.equals("normalize", true)?;
    fields.equals("patch_size", SAM_PATCH)?;
    fields.equals("downsample_ratio", 4)?;
    fields.equals("image_token", "<image>")
}

fn decoder(config: &Value) -> Result<DecoderConfig> {
    // The released file states the decoder twice; the nested block wins where both speak.
    let fields = Fields { file: CONFIG, scopes: vec![("language_config.", &config["language_config"]), ("", config)] };
    refuse_other_decoders(&fields)?;
    let heads = fields.size("num_attention_heads")?;
    fields.equals("num_key_value_heads", heads)?;
    let config = DecoderConfig {
        vocab: fields.size("vocab_size")?,
        hidden: fields.size("hidden_size")?,
        layers: fields.size("num_hidden_layers")?,
        heads,
        dense_width: fields.size("intermediate_size")?,
        dense_layers: fields.count("first_k_dense_replace")?,
        experts: fields.size("n_routed_experts")?,
        experts_per_token: fields.size("num_experts_per_tok")?,
        expert_width: fields.size("moe_intermediate_size")?,
        shared_width: fields.size("n_shared_experts")? * fields.size("moe_intermediate_size")?,
        context: fields.size("max_position_embeddings")?,
        rms_eps: fields.number("rms_norm_eps", RMS_EPS)?,
        rope_theta: fields.number("rope_theta", ROPE_THETA)?,
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
    Ok(config)
}

/// The switches of the configuration class that choose another architecture.
fn refuse_other_decoders(fields: &Fields<'_>) -> Result<()> {
    fields.equals("hidden_act", "silu")?;
    fields.equals("scoring_func", "softmax")?;
    fields.equals("topk_method", "greedy")?;
    for field in ["use_mla", "norm_topk_prob", "attention_bias", "tie_word_embeddings", "rm_head"] {
        fields.equals(field, false)?;
    }
    fields.equals("lm_head", true)?;
    for field in ["n_group", "topk_group", "moe_layer_freq"] {
        fields.equals(field, 1)?;
    }
    for field in ["qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"] {
        fields.equals(field, 0)?;
    }
    for field in ["q_lora_rank", "kv_lora_rank", "rope_scaling"] {
        fields.absent(field)?;
    }
    match fields.number("routed_scaling_factor", 1.0)? {
        1.0 => Ok(()),
        other => Err(fields.error("routed_scaling_factor", other, "1.0")),
    }
}

fn encoder(config: &Value, hidden: usize) -> Result<EncoderConfig> {
    let vision = Fields { file: CONFIG, scopes: vec![("vision_config.", &config["vision_config"])] };
    let width = &config["vision_config"]["width"];
    let sam = Fields { file: CONFIG, scopes: vec![("vision_config.width.sam_vit_b.", &width["sam_vit_b"])] };
    let clip = Fields { file: CONFIG, scopes: vec![("vision_config.width.clip-l-14-224.", &width["clip-l-14-224"])] };
    let projector = Fields { file: CONFIG, scopes: vec![("projector_config.", &config["projector_config"])] };

    let layers = sam.size("layers")?;
    let channels = sam.sizes("downsample_channels")?;
    let channels = <[usize; 2]>::try_from(channels)
        .map_err(|found| sam.error("downsample_channels", format!("{found:?}"), "two sizes"))?;
    let global_blocks = sam.counts("global_attn_indexes")?;
    if let Some(block) = global_blocks.iter().find(|block| **block >= layers) {
        return Err(sam.error("global_attn_indexes", block, format!("block numbers below {layers}")));
    }
    let neck = sam.optional("out_chans").map_or(Ok(NECK_CHANNELS), |_| sam.size("out_chans"))?;
    let sam_width = sam.heads_divide("width")?;
    let clip_width = clip.heads_divide("width")?;
    clip.equals("width", channels[1])?;
    projector.equals("projector_type", "linear")?;
    projector.equals("input_dim", clip_width + channels[1])?;
    projector.equals("n_embed", hidden)?;

    let grid = vision.quotient("image_size", SAM_PATCH)?;
    let sam = SamConfig::new(sam_width, layers, sam.size("heads")?, global_blocks, grid).with_neck_channels(neck);
    let grid = clip.quotient("image_size", clip.size("patch_size")?)?;
    let clip = ClipConfig::new(clip_width, clip.size("layers")?, clip.size("heads")?, grid);
    Ok(EncoderConfig::new(sam, CompressorConfig::new(channels), clip, hidden))
}

/// Fields of a JSON object, looked up in the first scope that has them.
struct Fields<'a> {
    file: &'static str,
    scopes: Vec<(&'static str, &'a Value)>,
}

impl<'a> Fields<'a> {
    /// The value, unless it is absent or null in every scope.
    fn optional(&self, field: &str) -> Option<&'a Value> {
        self.scopes.iter().filter_map(|(_, scope)| scope.get(field)).find(|value| !value.is_null())
    }

    fn required(&self, field: &str) -> Result<&'a Value> {
        self.optional(field).ok_or_else(|| self.error(field, "absent", "a value"))
    }

    /// A whole number of at least zero.
    fn count(&self, field: &str) -> Result<usize> {
        let value = self.required(field)?;
        as_count(value).ok_or_else(|| self.error(field, value, "a whole number"))
    }

    /// A whole number of at least one.
    fn size(&self, field: &str) -> Result<usize> {
        let size = self.count(field)?;
        if size == 0 { Err(self.error(field, size, "at least 1")) } else { Ok(size) }
    }

    fn counts(&self, field: &str) -> Result<Vec<usize>> {
        let value = self.required(field)?;
        let counts = value.as_array().and_then(|items| items.iter().map(as_count).collect());
        counts.ok_or_else(|| self.error(field, value, "a list of whole numbers"))
    }

    fn sizes(&self, field: &str) -> Result<Vec<usize>> {
        let sizes = self.counts(field)?;
        if sizes.contains(&0) {
            return Err(self.error(field, format!("{sizes:?}"), "sizes of at least 1"));
        }
        Ok(sizes)
    }

    /// `field / divisor`, which must be whole.
    fn quotient(&self, field: &str, divisor: usize) -> Result<usize> {
        let value = self.size(field)?;
        if value.is_multiple_of(divisor) {
            Ok(value / divisor)
        } else {
            Err(self.error(field, value, format!("a multiple of {divisor}")))
        }
    }

    /// A size that the field `heads` beside it divides.
    fn heads_divide(&self, field: &str) -> Result<usize> {
        let (size, heads) = (self.size(field)?, self.size("heads")?);
        if size.is_multiple_of(heads) {
            Ok(size)
        } else {
            Err(self.error("heads", heads, format!("a divisor of {field}, {size}")))
        }
    }

    fn number(&self, field: &str, default: f64) -> Result<f64> {
        let Some(value) = self.optional(field) else { return Ok(default) };
        let number = value.as_f64().filter(|number| *number > 0.0);
        number.ok_or_else(|| self.error(field, value, "a number above 0"))
    }

    /// An absent field stands for `expected`.
    fn equals(&self, field: &str, expected: impl Into<Value>) -> Result<()> {
        let expected = expected.into();
        match self.optional(field) {
            Some(found) if *found != expected => Err(self.error(field, found, expected)),
            _ => Ok(()),
        }
    }

    fn absent(&self, field: &str) -> Result<()> {
        match self.optional(field) {
            Some(found) => Err(self.error(field, found, "null")),
            None => Ok(()),
        }
    }

    fn error(&self, field: &str, found: impl Display, expected: impl Display) -> Error {
        let scope = self.scopes.iter().find(|(_, scope)| scope.get(field).is_some_and(|value| !value.is_null()));
        let scope = scope.or(self.scopes.first()).map_or("", |(name, _)| name);
        let (found, expected) = (found.to_string(), expected.to_string());
        Error::Config { file: self.file, field: format!("{scope}{field}"), found, expected }
    }
}

fn as_count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok())
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
        assert!(check_processor(&json!({ "image_mean": [0.5, 0.5, 0.5], "downsample_ratio": 4 })).is_ok());
        let error = check_processor(&json!({ "image_std": [0.26, 0.26, 0.27] })).expect_err("other std").to_string();
        assert_eq!(error, "processor_config.json: image_std is [0.26,0.26,0.27], expected [0.5,0.5,0.5]");
    }
}
