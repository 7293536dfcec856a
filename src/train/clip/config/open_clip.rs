//! open_clip's configuration: `open_clip_config.json`, or a model's own file with `vision_cfg` and
//! `text_cfg` at its top. Keys and defaults are those of open_clip 3.3 (`CLIPVisionCfg`, `CLIPTextCfg`).

use super::section::Section;
use super::{Facts, Heads, Overrides, Preprocess, Size, three};
use crate::bundle::manifest::{ActivationKind, Interpolation};
use crate::ops::layer_norm::EPSILON;
use serde_json::{Map, Value};
use std::path::Path;

/// Reads it.
pub fn facts(path: &Path, mut map: Map<String, Value>, overrides: &Overrides) -> Facts {
    let mut facts = Facts::default();
    if let Some(preprocess_cfg) = map.remove("preprocess_cfg") {
        let map = preprocess_cfg.as_object().cloned().unwrap_or_default();
        preprocess(path, map, &mut facts);
    }
    let model = match map.remove("model_cfg") {
        Some(Value::Object(model)) => {
            Section::new("", map, overrides, &mut facts).finish();
            model
        }
        _ => map,
    };
    let mut s = Section::new("model_cfg", model, overrides, &mut facts);
    let (vision, text) = (s.object("vision_cfg"), s.object("text_cfg"));
    let quick = s.flag("quick_gelu");
    if let Some(embed) = s.count("embed_dim") {
        let name = s.name("embed_dim");
        s.facts.sizes.push((name, Size::Embed, embed));
    }
    s.only("multimodal_cfg", "CoCa", |_| false);
    s.off("custom_text", "a custom text encoder");
    s.harmless(&[
        "init_logit_scale",
        "init_logit_bias",
        "nonscalar_logit_scale",
        "cast_dtype",
        "output_dict",
    ]);
    s.finish();
    facts.activation = Some(match quick {
        true => ActivationKind::QuickGelu,
        false => ActivationKind::Gelu,
    });

    let mut s = Section::new("vision_cfg", vision, overrides, &mut facts);
    if s.take_if_array("layers").is_some() {
        s.refuse(
            "layers",
            ": stages of a ResNet image encoder (RN50 and its relatives)",
        );
    }
    sizes(
        &mut s,
        &[
            ("width", Size::ImageWidth),
            ("layers", Size::ImageLayers),
            ("patch_size", Size::Patch),
        ],
    );
    let head_width = s.count("head_width").unwrap_or(64);
    s.facts.heads[0] = Some(Heads::Width(head_width));
    s.only("timm_model_name", "an image encoder of timm", |_| false);
    s.off("attentional_pool", "attention pooling");
    s.off("no_ln_pre", "no normalisation before the first block");
    s.off(
        "global_average_pool",
        "pooled patches instead of the class token",
    );
    s.off("input_patchnorm", "normalised patches");
    s.only(
        "pos_embed_type",
        "only learned positions are supported",
        |v| v == "learnable",
    );
    s.only(
        "pool_type",
        "only the class token (tok) is supported",
        |v| v == "tok",
    );
    if s.number("patch_dropout").is_some_and(|p| p > 0.0) {
        let note = format!(
            "`{}` matters only while CLIP itself is trained",
            s.name("patch_dropout")
        );
        s.facts.notes.push(note);
    }
    s.facts.epsilon[0] = Some(block(&mut s, quick));
    // Where the class token is all that is pooled, normalising before or after is the same.
    s.harmless(&[
        "image_size",
        "final_ln_after_pool",
        "output_tokens",
        "attn_pooler_queries",
        "attn_pooler_heads",
        "timm_model_pretrained",
        "timm_pool",
        "timm_proj",
        "timm_proj_bias",
        "timm_drop",
        "timm_drop_path",
    ]);
    s.finish();

    let mut s = Section::new("text_cfg", text, overrides, &mut facts);
    sizes(
        &mut s,
        &[("width", Size::TextWidth), ("layers", Size::TextLayers)],
    );
    let heads = s.count("heads").unwrap_or(8);
    s.facts.heads[1] = Some(Heads::Count(heads));
    s.only("hf_model_name", "a text encoder of Hugging Face", |_| false);
    s.only(
        "hf_tokenizer_name",
        "another tokenizer than CLIP's, words would be looked up in the wrong rows",
        |v| {
            v.as_str()
                .is_some_and(|v| v.starts_with("openai/clip-vit-") || v.is_empty())
        },
    );
    s.only("tokenizer_mode", "another tokenizer than CLIP's", |v| {
        v == "clip"
    });
    s.only(
        "tokenizer_kwargs",
        "options of another tokenizer than CLIP's",
        |v| v.as_object().is_some_and(|map| map.is_empty()),
    );
    s.off("no_causal_mask", "a text encoder without a causal mask");
    s.off("embed_cls", "a class token in the text encoder");
    s.off("proj_bias", "a text projection with a bias");
    s.only(
        "proj_type",
        "only a linear text projection is supported",
        |v| v == "linear",
    );
    s.only(
        "pool_type",
        "only the end token (argmax, eos) is supported",
        |v| v == "argmax" || v == "eos",
    );
    s.facts.epsilon[1] = Some(block(&mut s, quick));
    s.harmless(&[
        "pad_id",
        "context_length",
        "vocab_size",
        "eos_id",
        "final_ln_after_pool",
        "output_tokens",
        "hf_model_pretrained",
        "hf_proj_type",
        "hf_pooler_type",
    ]);
    s.finish();
    facts
}

fn sizes(s: &mut Section, keys: &[(&str, Size)]) {
    for (key, size) in keys {
        if let Some(value) = s.count(key) {
            let name = s.name(key);
            s.facts.sizes.push((name, *size, value));
        }
    }
}

/// What both encoders' blocks may have; returns the epsilon.
fn block(s: &mut Section, quick: bool) -> f32 {
    s.only(
        "mlp_ratio",
        "only MLPs of four times the width are supported",
        |v| v.as_f64() == Some(4.0),
    );
    s.only("ls_init_value", "layer scale", |_| false);
    s.only("block_type", "other blocks", |v| v == "default");
    for key in [
        "qk_norm",
        "scaled_cosine_attn",
        "scale_heads",
        "scale_attn_inner",
        "scale_attn",
        "scale_fc",
    ] {
        s.off(key, "other blocks");
    }
    for (key, value) in s.object("act_kwargs") {
        let exact = key == "approximate" && value == "none" && !quick;
        if !exact && !value.is_null() {
            s.refuse(
                "act_kwargs",
                format_args!(
                    ".{key} = {value}: another GELU; QuickGELU and the exact GELU are supported"
                ),
            );
        }
    }
    let mut epsilon = EPSILON;
    for (key, value) in s.object("norm_kwargs") {
        match value.as_f64() {
            Some(v) if key == "eps" => epsilon = v as f32,
            _ => s.refuse(
                "norm_kwargs",
                format_args!(".{key} = {value}: another normalisation"),
            ),
        }
    }
    epsilon
}

/// Reads `preprocess_cfg`; what it leaves out is OpenAI's, as open_clip has it.
pub fn preprocess(path: &Path, map: Map<String, Value>, facts: &mut Facts) {
    let usual = Preprocess::default();
    let mut read = |key: &str, usual: [f32; 3]| match map.get(key).filter(|v| !v.is_null()) {
        None => usual,
        Some(value) => three(value).unwrap_or_else(|| {
            facts.refused.push(format!(
                "`preprocess_cfg.{key}` = {value}: three numbers are wanted"
            ));
            usual
        }),
    };
    (facts.mean, facts.std) = (Some(read("mean", usual.mean)), Some(read("std", usual.std)));
    let word = |key: &str| map.get(key).and_then(Value::as_str);
    facts.interpolation = Some(match word("interpolation") {
        None | Some("bicubic") => Interpolation::Bicubic,
        Some("bilinear") => Interpolation::Bilinear,
        Some("random") => {
            let note = "preprocess_cfg.interpolation is random: bicubic is used (--interpolation)";
            facts.notes.push(format!("{}: {note}", path.display()));
            Interpolation::Bicubic
        }
        Some(other) => {
            let what = "bicubic and bilinear are supported";
            facts
                .refused
                .push(format!("`preprocess_cfg.interpolation` = {other}: {what}"));
            Interpolation::Bicubic
        }
    });
    if let Some(mode) = word("mode").filter(|m| *m != "RGB") {
        facts.refused.push(format!(
            "`preprocess_cfg.mode` = {mode}: only RGB is supported"
        ));
    }
}
