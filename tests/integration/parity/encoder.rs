//! The encoder against goldens: every stage of SAM, compressor, CLIP and projector, and the laid-out tokens.

use super::golden::{Golden, Report};
use burn::tensor::{Device, Tensor};
use deepseek_ocr_core::{View, Views};
use deepseek_ocr_encoder::{Clip, Encoder, Sam};

/// Compares what `golden` holds of the encoder's stages for these views.
pub fn check(encoder: &Encoder, views: &Views, device: &Device, golden: &Golden, report: &mut Report) {
    let tiles: Vec<&View> = views.tiles().iter().collect();
    for (name, views) in [("global", vec![views.page()]), ("local", tiles)] {
        if STAGES.iter().any(|stage| golden.keys().any(|key| key.starts_with(&format!("{stage}.{name}")))) {
            assert!(!views.is_empty(), "{}: stages of {name} views, but there are none", golden.name);
            check_stages(encoder, name, encoder.pixels(&views).to_device(device), golden, report);
        }
    }
    if golden.has(VISION_SEQ) {
        report.close(golden, VISION_SEQ, encoder.encode(views).tensor());
    }
}

/// The first part of a stage's key; the second is the view.
const STAGES: [&str; 3] = ["sam", "clip", "proj"];

const VISION_SEQ: &str = "vision_seq";

fn check_stages(encoder: &Encoder, view: &str, pixels: Tensor<4>, golden: &Golden, report: &mut Report) {
    report.close(golden, &format!("pix.{view}.f32"), pixels.clone());
    let patches = check_sam(&encoder.sam, view, pixels, golden, report);
    let halved = encoder.compressor.net_2.forward(patches);
    report.close(golden, &format!("sam.{view}.net_2"), halved.clone());
    let features = encoder.compressor.net_3.forward(halved);
    report.close(golden, &format!("sam.{view}.out"), features.clone());
    let tokens = check_clip(&encoder.clip, view, features.clone(), golden, report);
    report.close(golden, &format!("proj.{view}"), encoder.projector.forward(tokens, features));
}

fn check_sam(sam: &Sam, view: &str, pixels: Tensor<4>, golden: &Golden, report: &mut Report) -> Tensor<4> {
    let mut x = sam.embed(pixels);
    report.close(golden, &format!("sam.{view}.embed"), x.clone());
    for (i, block) in sam.blocks.iter().enumerate() {
        x = block.forward(x);
        report.close(golden, &format!("sam.{view}.block{i}"), x.clone());
    }
    let x = sam.neck.forward(x);
    report.close(golden, &format!("sam.{view}.neck"), x.clone());
    x
}

fn check_clip(clip: &Clip, view: &str, features: Tensor<4>, golden: &Golden, report: &mut Report) -> Tensor<3> {
    let x = clip.embed(features);
    report.close(golden, &format!("clip.{view}.embed"), x.clone());
    let mut x = clip.pre_layernorm.forward(x);
    report.close(golden, &format!("clip.{view}.pre_ln"), x.clone());
    for (i, layer) in clip.layers.iter().enumerate() {
        x = layer.forward(x);
        report.close(golden, &format!("clip.{view}.layer{i}"), x.clone());
    }
    report.close(golden, &format!("clip.{view}.out"), x.clone());
    x
}
