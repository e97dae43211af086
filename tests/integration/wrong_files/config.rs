//! Configurations that other tools write: each field that asks for another computation is refused by its name.

use super::{folder, load};
use deepseek_ocr::{DeepseekOcr, Device, Error};
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;

const CONFIG: &str = "config.json";

fn with(file: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let folder = folder();
    let path = folder.path().join(file);
    let mut json = fs::read(&path).map_or(json!({}), |bytes| serde_json::from_slice(&bytes).unwrap());
    change(&mut json);
    fs::write(&path, json.to_string()).unwrap();
    folder
}

/// The message for a configuration in which `pointer`, to a field that need not be there, has this value.
fn refused(pointer: &str, value: &Value) -> String {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let error = load(&with(CONFIG, |config| config.pointer_mut(parent).expect(pointer)[field] = value.clone()));
    assert!(matches!(error, Error::Config { .. }), "{pointer}: {error}");
    error.to_string()
}

fn loads(change: impl FnOnce(&mut Value)) -> bool {
    DeepseekOcr::from_dir(with(CONFIG, change).path(), &Device::default())
        .map(drop)
        .map_err(|error| println!("{error}"))
        .is_ok()
}

#[test]
fn every_base_of_the_rotary_embedding_must_be_the_same() {
    for (pointer, value, message) in [
        (
            "/rope_parameters",
            json!({ "rope_theta": 500_000.0 }),
            "rope_parameters.rope_theta is 500000, expected 10000 as rope_theta says",
        ),
        (
            "/language_config/rope_parameters",
            json!({ "rope_theta": 1e6, "rope_type": "default" }),
            "language_config.rope_parameters.rope_theta",
        ),
        ("/rope_scaling", json!({ "rope_theta": 1e6 }), "rope_scaling.rope_theta"),
        ("/rope_theta", json!(1e6), "rope_theta is 1000000.0, expected 10000 as language_config.rope_theta says"),
        ("/rope_theta", json!("1e4"), "rope_theta"),
        ("/rotary_emb_base", json!(10_000), "rotary_emb_base"),
    ] {
        let folder = with(CONFIG, |config| {
            config["language_config"]["rope_theta"] = json!(10_000);
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[field] = value;
        });
        let error = load(&folder).to_string();
        assert!(error.contains(message), "{pointer}: {error}");
    }
    assert!(loads(|config| {
        config["rope_theta"] = json!(10_000.0);
        config["language_config"]["rope_theta"] = json!(10_000);
        config["rope_parameters"] = json!({ "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0 });
        config["language_config"]["rope_scaling"] = json!({ "type": "default" });
    }));
}

#[test]
fn the_base_counts_wherever_it_stands() {
    let here = |change: fn(&mut Value)| super::ids(&with(CONFIG, change));
    let at_the_root = here(|config| config["rope_theta"] = json!(500.0));
    assert_eq!(here(|config| config["language_config"]["rope_parameters"] = json!({ "rope_theta": 500 })), at_the_root);
    assert_ne!(at_the_root, super::ids(&folder()));
}

#[test]
fn scaled_rotary_embeddings_are_refused() {
    for (pointer, value, field) in [
        (
            "/rope_parameters",
            json!({ "rope_type": "yarn", "factor": 40.0 }),
            "rope_parameters.rope_type is \"yarn\", expected \"default\"",
        ),
        (
            "/language_config/rope_parameters",
            json!({ "rope_type": "dynamic" }),
            "language_config.rope_parameters.rope_type",
        ),
        ("/rope_scaling", json!({ "type": "linear", "factor": 2.0 }), "rope_scaling.type is \"linear\""),
        ("/language_config/rope_scaling", json!({ "factor": 2.0 }), "language_config.rope_scaling.factor is 2.0"),
        ("/rope_scaling", json!({ "mrope_section": [16, 24, 24] }), "rope_scaling.mrope_section"),
        ("/rope_parameters", json!({ "full_attention": { "rope_theta": 1e4 } }), "rope_parameters.full_attention"),
        ("/rope_scaling", json!("yarn"), "rope_scaling is \"yarn\", expected an object"),
        ("/rope_parameters", json!({ "partial_rotary_factor": 0.5 }), "rope_parameters.partial_rotary_factor"),
        ("/partial_rotary_factor", json!(0.25), "partial_rotary_factor is 0.25, expected 1"),
    ] {
        let error = refused(pointer, &value);
        assert!(error.contains(field), "{pointer}: {error}");
    }
}

#[test]
fn a_window_is_refused_by_the_name_of_its_field() {
    for scope in ["", "/language_config"] {
        for field in ["sliding_window", "sliding_window_size"] {
            let error = refused(&format!("{scope}/{field}"), &json!(128));
            assert!(error.contains(&format!("{field} is 128, expected null")), "{error}");
        }
    }
    let sliding = json!(["full_attention", "sliding_attention", "full_attention"]);
    assert!(refused("/language_config/layer_types", &sliding).contains("layer_types is ["));
    assert!(refused("/attention_chunk_size", &json!(8192)).contains("attention_chunk_size"));
    assert!(loads(|config| {
        config["sliding_window"] = json!(null);
        config["language_config"]["sliding_window_size"] = json!(null);
        config["layer_types"] = json!(["full_attention", "full_attention", "full_attention"]);
    }));
    // As transformers has it for models that could use one.
    assert!(loads(|config| {
        config["language_config"]["use_sliding_window"] = json!(false);
        config["language_config"]["sliding_window"] = json!(4096);
        config["language_config"]["max_window_layers"] = json!(21);
    }));
}

#[test]
fn sister_models_are_refused() {
    for (pointer, value) in [
        ("/architectures", json!(["DeepseekOCR2ForCausalLM"])),
        ("/architectures", json!(["UnlimitedOCRForCausalLM"])),
        ("/model_type", json!("unlimited-ocr")),
        ("/auto_map", json!({ "AutoModel": "modeling_deepseekocr2.DeepseekOCR2ForCausalLM" })),
        ("/auto_map", json!({ "AutoConfig": "baidu/Unlimited-OCR--modeling_unlimitedocr.UnlimitedOCRConfig" })),
        ("/vision_config/width/qwen2-0-5b", json!({ "dim": 896 })),
        ("/vision_config/model_name", json!("deepencoderv2")),
        ("/language_config/model_type", json!("deepseek_v3")),
        ("/language_config/index_topk", json!(2048)),
    ] {
        let field = pointer.trim_start_matches('/').replace('/', ".");
        let error = refused(pointer, &value);
        assert!(error.contains(&field), "{pointer}: {error}");
    }
}

#[test]
fn what_is_not_implemented_is_refused_by_name() {
    for (pointer, value) in [
        ("/quantization_config", json!({ "quant_method": "gptq", "bits": 4 })),
        ("/language_config/quantization_config", json!({ "quant_method": "fp8" })),
        ("/compression_config", json!({ "format": "pack-quantized" })),
        ("/quantization", json!({ "bits": 4, "group_size": 64 })),
        ("/language_config/tie_word_embeddings", json!(true)),
        ("/mlp_bias", json!(true)),
        ("/head_dim", json!(64)),
        ("/v_head_dim", json!(64)),
        ("/hidden_act", json!("gelu")),
        ("/routed_scaling_factor", json!(2.5)),
        ("/num_experts", json!(8)),
        ("/mlp_layer_types", json!(["sparse", "sparse", "sparse"])),
        ("/final_logit_softcapping", json!(30.0)),
        ("/global_view_pos", json!("tail")),
        ("/projector_config/depth", json!(2)),
        ("/projector_config/token_pooling", json!(true)),
        ("/vision_config/sam_config", json!({ "hidden_size": 768 })),
        ("/vision_config/width/sam_vit_b/window_size", json!(16)),
        ("/vision_config/width/clip-l-14-224/hidden_act", json!("gelu")),
        ("/vision_config/width/clip-l-14-224/layer_norm_eps", json!(1e-6)),
        ("/eos_token_id", json!(2)),
        ("/language_config/eos_token_id", json!([1, 2])),
        ("/bos_token_id", json!(5)),
        ("/image_token_id", json!(128_815)),
    ] {
        let field = pointer.trim_start_matches('/').replace('/', ".");
        let error = refused(pointer, &value);
        assert!(error.starts_with(&format!("config.json: {field} is ")), "{pointer}: {error}");
    }
}

#[test]
fn the_two_places_of_a_field_must_agree() {
    for (field, value) in
        [("hidden_size", json!(512)), ("rms_norm_eps", json!(1e-5)), ("num_experts_per_tok", json!(1))]
    {
        let folder = with(CONFIG, |config| {
            config["language_config"]["rms_norm_eps"] = json!(1e-6);
            config[field] = value;
        });
        let error = load(&folder).to_string();
        assert!(
            error.starts_with(&format!("config.json: {field} is "))
                && error.contains(&format!("as language_config.{field} says")),
            "{error}"
        );
    }
}

#[test]
fn transformers_name_for_the_nested_block_is_read() {
    let renamed = |config: &mut Value| {
        config["text_config"] = config["language_config"].take();
        config
            .as_object_mut()
            .unwrap()
            .retain(|field, _| !["hidden_size", "num_hidden_layers"].contains(&field.as_str()));
    };
    assert_eq!(super::ids(&with(CONFIG, renamed)), super::ids(&folder()));
    assert!(refused("/text_config", &json!({ "hidden_size": 64 })).contains("text_config.hidden_size is 64"));
    assert!(
        refused("/language_config", &json!("deepseek")).contains("language_config is \"deepseek\", expected an object")
    );
}

#[test]
fn fields_that_choose_no_computation_are_of_no_account() {
    let (loads, said) = super::logs::of(|| loads(with_harmless_fields));
    assert!(loads);
    // The only one that nobody has heard of.
    let unknown = ["language_config.something_of_tomorrow", "something_of_tomorrow"];
    assert_eq!(said.matches("WARN").count(), 1, "{said}");
    assert!(said.contains(&format!("fields={unknown:?}")), "{said}");
}

fn with_harmless_fields(config: &mut Value) {
    for (field, value) in [
        ("attention_dropout", json!(0.1)),
        ("use_cache", json!(false)),
        ("dtype", json!("float32")),
        ("aux_loss_alpha", json!(0.001)),
        ("_attn_implementation", json!("flash_attention_2")),
        ("id2label", json!({ "0": "LABEL_0" })),
        ("head_dim", json!(32)),
        ("v_head_dim", json!(32)),
        ("eos_token_id", json!([1])),
        ("something_of_tomorrow", json!({ "a": 1 })),
    ] {
        config[field] = value.clone();
        config["language_config"][field] = value;
    }
}

#[test]
fn a_processor_that_prepares_pages_otherwise_is_refused() {
    for (file, field, value) in [
        ("processor_config.json", "image_std", json!([0.26, 0.26, 0.27])),
        ("preprocessor_config.json", "do_normalize", json!(false)),
        ("preprocessor_config.json", "rescale_factor", json!(1.0)),
        ("processor_config.json", "image_token", json!("<img>")),
    ] {
        let error = load(&with(file, |config| config[field] = value)).to_string();
        assert!(error.starts_with(&format!("{file}: {field} is ")), "{error}");
    }
}

#[test]
fn a_generation_file_must_mean_the_same_tokens() {
    let file = "generation_config.json";
    let error = load(&with(file, |config| config["eos_token_id"] = json!([1, 105]))).to_string();
    assert_eq!(error, "generation_config.json: eos_token_id is [1,105], expected 1 or [1]");
    let folder = with(file, |config| {
        *config = json!({ "bos_token_id": 0, "eos_token_id": 1, "transformers_version": "4.46.3" })
    });
    assert!(DeepseekOcr::from_dir(folder.path(), &Device::default()).is_ok());
}

#[test]
fn a_config_that_asks_for_more() {
    let folder = folder();
    let path = folder.path().join("config.json");
    let json = fs::read_to_string(&path).unwrap();
    fs::write(&path, json.replace("\"use_mla\": false", "\"use_mla\": true")).unwrap();
    assert_eq!(load(&folder).to_string(), "config.json: language_config.use_mla is true, expected false");
    fs::write(&path, &json[..json.len() / 2]).unwrap();
    assert!(matches!(load(&folder), Error::Json { .. }));
}
