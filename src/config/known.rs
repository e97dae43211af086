//! What fields of configuration files mean here: those that choose a computation, and those that choose none.
//!
//! Each table of switches lists the values that stand for what is implemented; no value at all means that only null does. The
//! fields are those of the released files, of the configuration classes of the released code and of transformers (4.46 to 5.24),
//! and of sister models with the same shapes.

use serde_json::Value;

/// Fields with the values that are accepted.
pub(super) type Table = Vec<(&'static str, Vec<Value>)>;

macro_rules! table {
    ($($field:ident: [$($value:expr),*]),* $(,)?) => {
        vec![$((stringify!($field), vec![$(Value::from($value)),*])),*]
    };
}

/// Fields of the whole file.
pub(super) fn file() -> Table {
    table! {
        model_type: ["deepseek_vl_v2"],
        architectures: [vec!["DeepseekOCRForCausalLM"], vec!["DeepseekOCRModel"]],
        tile_tag: ["2D"],
        // The released code does not read it: the global view always follows the tiles. No released file says anything else.
        global_view_pos: ["head"],
        // Tensors that hold other numbers than their names say.
        quantization_config: [], compression_config: [], quantization: [],
        is_encoder_decoder: [false], tie_encoder_decoder: [false], add_cross_attention: [false],
    }
}

/// What the nested configuration says of its own class.
pub(super) fn decoder_class() -> Table {
    table! {
        model_type: ["deepseek_v2", "deepseek_vl_v2"],
        architectures: [vec!["DeepseekV2ForCausalLM"], vec!["DeepseekV2Model"], vec!["DeepseekOCRForCausalLM"]],
        quantization_config: [],
    }
}

/// Fields of the decoder. `head` is the width of a head.
pub(super) fn decoder(head: usize) -> Table {
    table! {
        // Norms, activations and products.
        hidden_act: ["silu", "swish"],
        attention_bias: [false], mlp_bias: [false], use_bias: [false], qkv_bias: [false],
        use_qk_norm: [false], qk_norm: [false], qk_layernorm: [false],
        tie_word_embeddings: [false], lm_head: [true], rm_head: [false],
        embedding_multiplier: [1], residual_multiplier: [1], attention_multiplier: [], logits_scaling: [1], logit_scale: [1],
        attn_logit_softcapping: [], final_logit_softcapping: [], query_pre_attn_scalar: [],
        // Heads. With `use_mla` false the released code takes every head's width from `hidden_size`.
        use_mla: [false], q_lora_rank: [], kv_lora_rank: [], qk_nope_head_dim: [0], qk_rope_head_dim: [0],
        v_head_dim: [0, head], qk_head_dim: [0, head], head_dim: [head],
        // What a position sees; windows are looked at on their own.
        use_sliding_window: [false], sliding_window_pattern: [], attention_chunk_size: [], attention_sinks: [],
        index_topk: [], index_n_heads: [], index_head_dim: [], is_causal: [true],
        // Positions; the base is looked at on its own.
        partial_rotary_factor: [1], rotary_pct: [1], rotary_dim: [head], rope_interleave: [false], rope_interleaved: [false],
        rope_base: [], rotary_base: [], rotary_emb_base: [], rope_local_base_freq: [], no_rope_layers: [],
        no_rope_layer_interval: [], alibi: [false], position_embedding_type: ["rope", "rotary"],
        // Experts.
        scoring_func: ["softmax"], topk_method: ["greedy"], norm_topk_prob: [false], n_group: [1], topk_group: [1],
        moe_layer_freq: [1], decoder_sparse_step: [1], mlp_only_layers: [Vec::<Value>::new()], routed_scaling_factor: [1],
        num_nextn_predict_layers: [0],
    }
}

/// Fields of a block that describes rotary embeddings, the base aside.
pub(super) fn rope() -> Table {
    table! { rope_type: ["default"], type: ["default"], partial_rotary_factor: [1], factor: [1] }
}

pub(super) fn projector() -> Table {
    table! {
        projector_type: ["linear"], model_type: ["mlp_projector"], depth: [1],
        token_pooling: [false], conv_fusion_high_low_features: [false],
    }
}

pub(super) fn vision() -> Table {
    table! {
        model_name: ["deeplip_b_l"], model_type: ["vision"],
        // The layout of transformers' own classes, whose tensors have other names and shapes.
        sam_config: [], encoder_config: [], clip_config: [],
    }
}

pub(super) fn sam(image: usize, patch: usize, neck: usize) -> Table {
    table! {
        image_size: [image], img_size: [image], patch_size: [patch], in_chans: [3], num_channels: [3],
        window_size: [14], mlp_ratio: [4], qkv_bias: [true], use_rel_pos: [true], use_abs_pos: [true],
        rel_pos: [true], hidden_act: ["gelu"], layer_norm_eps: [1e-6], norm_eps: [1e-6],
        output_channels: [neck], prompt_embed_dim: [neck],
    }
}

pub(super) fn clip(width: usize) -> Table {
    table! {
        mlp_ratio: [4], ffn_hidden_size: [4 * width], intermediate_size: [4 * width], hidden_size: [width],
        num_channels: [3], hidden_act: ["quick_gelu"], layer_norm_eps: [1e-5], layernorm_epsilon: [1e-5],
        pre_layernorm_epsilon: [1e-5],
    }
}

/// Fields of the processor's file, whose preprocessing is built in.
pub(super) fn processor(patch: usize) -> Table {
    table! {
        image_mean: [vec![0.5; 3]], image_std: [vec![0.5; 3]], normalize: [true], do_normalize: [true],
        do_rescale: [true], rescale_factor: [1.0 / 255.0], do_resize: [true], do_convert_rgb: [true],
        // Bicubic, as Pillow numbers it.
        resample: [3],
        patch_size: [patch], downsample_ratio: [4], image_token: ["<image>"],
    }
}

/// Fields that choose no computation.
pub(super) const UNUSED: &[&str] = &[
    // Whence the file comes.
    "_name_or_path",
    "_commit_hash",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "tokenizer_class",
    // Looked at on their own, in one scope or file.
    "architectures",
    "auto_map",
    "model_type",
    "language_config",
    "text_config",
    "vision_config",
    "projector_config",
    "tile_tag",
    "global_view_pos",
    "quantization_config",
    "compression_config",
    "quantization",
    "is_encoder_decoder",
    "tie_encoder_decoder",
    "add_cross_attention",
    "bos_token_id",
    "eos_token_id",
    "image_token_id",
    "image_token_index",
    // How the numbers are stored, which the tensors say themselves.
    "torch_dtype",
    "dtype",
    "use_bfloat16",
    // How the released code computes, not what.
    "_attn_implementation",
    "_attn_implementation_autoset",
    "attn_implementation",
    "_attn_implementation_internal",
    "use_flash_attn",
    "use_flash_attention",
    "use_cache",
    "pretraining_tp",
    "ep_size",
    "chunk_size_feed_forward",
    "torchscript",
    "is_decoder",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    // Training.
    "attention_dropout",
    "hidden_dropout",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "initializer_range",
    "initializer_factor",
    "aux_loss_alpha",
    "seq_aux",
    "router_aux_loss_coef",
    "gradient_checkpointing",
    "use_checkpoint",
    "recompute_list",
    // Not read by the released code: the tiling is a request's mode, both towers' inner width is four times the outer, and
    // a linear projector has neither ratio.
    "candidate_resolutions",
    "mlp_ratio",
    "downsample_ratio",
    "projection_dim",
    // Windows that are off.
    "max_window_layers",
    // Classification and generation, of which the request says what is wanted.
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "finetuning_task",
    "task_specific_params",
    "pruned_heads",
    "prefix",
    "pad_token_id",
    "sep_token_id",
    "decoder_start_token_id",
    "max_length",
    "min_length",
    "do_sample",
    "early_stopping",
    "num_beams",
    "num_beam_groups",
    "diversity_penalty",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "repetition_penalty",
    "length_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "num_return_sequences",
    "output_scores",
    "return_dict_in_generate",
    "remove_invalid_values",
    "tf_legacy_loss",
];

/// Fields of the processor's file that choose no computation: names of classes, training, and prompts' formats other than the plain one.
pub(super) const UNUSED_BY_PROCESSOR: &[&str] = &[
    "processor_class",
    "image_processor_type",
    "auto_map",
    "chat_template",
    "sft_format",
    "pad_token",
    "add_special_token",
    "ignore_id",
    "mask_prompt",
    "candidate_resolutions",
    "transformers_version",
    "image_processor",
    "model_input_names",
    "return_tensors",
    "data_format",
    "input_data_format",
    "device",
    "disable_grouping",
];
