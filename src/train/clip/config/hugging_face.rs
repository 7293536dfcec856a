//! Hugging Face's configuration: `config.json` of a `CLIPModel`, `preprocessor_config.json` (or
//! `processor_config.json`) and `tokenizer_config.json` beside it. Defaults are those of transformers'
//! `CLIPTextConfig` and `CLIPVisionConfig`, which files leave out.

use super::section::Section;
use super::{Facts, Heads, Overrides, Size, object, three};
use crate::bundle::manifest::{ActivationKind, Interpolation};
use crate::ops::layer_norm::EPSILON;
use crate::train::clip::{MEAN, STD};
use crate::train::tensors::TensorError;
use serde_json::{Map, Value};
use std::path::Path;

/// Keys of every configuration of that library, of training and of generating text; none changes what the
/// encoders of a `CLIPModel` compute.
const GENERAL: [&str; 78] = [
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "logit_scale_init_value",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "return_loss",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "transformers.js_config",
    "typical_p",
    "unk_token_id",
    "use_bfloat16",
    "use_cache",
    "use_return_dict",
    "xla_device",
    "projection_dim",
    "ignore_mismatched_sizes",
    "license",
    "language",
    "revision",
];

/// Reads `map`, the contents of `path`, and what lies in `folder`.
pub fn facts(
    path: &Path,
    folder: &Path,
    map: Map<String, Value>,
    overrides: &Overrides,
) -> Result<Facts, TensorError> {
    let mut facts = Facts::default();
    let mut s = Section::new("", map, overrides, &mut facts);
    s.only("model_type", "another model than a CLIPModel", |v| {
        v == "clip"
    });
    if let Some(dim) = s.count("projection_dim") {
        s.facts
            .sizes
            .push(("projection_dim".into(), Size::Embed, dim));
    }
    let (text, vision) = (tower(&mut s, "text"), tower(&mut s, "vision"));
    s.only("quantization_config", "quantised weights", |_| false);
    s.only("auto_map", "code of the model's own", |_| false);
    s.only("pruned_heads", "pruned heads", |v| {
        v.as_object().is_some_and(|m| m.is_empty())
    });
    s.harmless(&GENERAL);
    s.finish();

    let mut s = Section::new("vision_config", vision, overrides, &mut facts);
    s.only("num_channels", "only RGB is supported", |v| v == 3);
    let image = common(
        &mut s,
        "clip_vision_model",
        12,
        &[
            ("hidden_size", Size::ImageWidth),
            ("num_hidden_layers", Size::ImageLayers),
            ("patch_size", Size::Patch),
        ],
    );
    s.finish();
    let mut s = Section::new("text_config", text, overrides, &mut facts);
    let words = common(
        &mut s,
        "clip_text_model",
        8,
        &[
            ("hidden_size", Size::TextWidth),
            ("num_hidden_layers", Size::TextLayers),
        ],
    );
    s.finish();
    for (i, tower) in [&image, &words].into_iter().enumerate() {
        facts.heads[i] = Some(Heads::Count(tower.heads));
        facts.epsilon[i] = Some(tower.epsilon);
    }
    facts.activation = image.activation;
    if image.activation != words.activation && facts.refused.is_empty() {
        facts
            .refused
            .push("`hidden_act`: the two encoders have different activations".into());
    }
    // What lies beside a configuration that the user named belongs to it too.
    let beside = path.parent().unwrap_or(folder);
    tokenizer(beside, overrides, &mut facts)?;
    preprocess(beside, &mut facts)?;
    Ok(facts)
}

/// `text_config` or `vision_config` as transformers puts it together: where there is a `…_config_dict` (of
/// files from before 2023), its keys count, and so do the defaults that it leaves out.
fn tower(s: &mut Section, name: &str) -> Map<String, Value> {
    let mut map = s.object(&format!("{name}_config"));
    let older = format!("{name}_config_dict");
    let older = match s.take(&older) {
        Some(Value::Object(older)) => older,
        _ => return map,
    };
    for key in ["num_attention_heads", "hidden_act", "layer_norm_eps"] {
        map.remove(key);
    }
    map.extend(older);
    map
}

/// What both encoders have.
struct Tower {
    activation: Option<ActivationKind>,
    heads: usize,
    epsilon: f32,
}

fn common(s: &mut Section, model: &str, heads: usize, sizes: &[(&str, Size)]) -> Tower {
    s.only("model_type", "another encoder than CLIP's", |v| {
        v == model || v == "clip"
    });
    let mut width = None;
    for (key, size) in sizes {
        let value = s.count(key);
        if *key == "hidden_size" {
            width = value;
        }
        if let Some(value) = value {
            let name = s.name(key);
            s.facts.sizes.push((name, *size, value));
        }
    }
    if let (Some(inner), Some(width)) = (s.count("intermediate_size"), width)
        && inner != 4 * width
    {
        s.refuse(
            "intermediate_size",
            format_args!(" = {inner}: only MLPs of four times hidden_size are supported"),
        );
    }
    let activation = s.text("hidden_act").unwrap_or("quick_gelu".into());
    let activation = match activation.as_str() {
        "quick_gelu" => Some(ActivationKind::QuickGelu),
        "gelu" | "gelu_python" => Some(ActivationKind::Gelu),
        other => {
            s.refuse(
                "hidden_act",
                format_args!(
                    " = {other}: another activation; quick_gelu and gelu (exact) are supported"
                ),
            );
            None
        }
    };
    s.only("quantization_config", "quantised weights", |_| false);
    s.only("pruned_heads", "pruned heads", |v| {
        v.as_object().is_some_and(|m| m.is_empty())
    });
    let epsilon = s.number("layer_norm_eps").map_or(EPSILON, |v| v as f32);
    let heads = s.count("num_attention_heads").unwrap_or(heads);
    s.harmless(&["image_size", "max_position_embeddings", "vocab_size"]);
    s.harmless(&GENERAL);
    Tower {
        activation,
        heads,
        epsilon,
    }
}

/// Refuses another tokenizer than CLIP's, where a file says which it is.
fn tokenizer(folder: &Path, overrides: &Overrides, facts: &mut Facts) -> Result<(), TensorError> {
    let Some(map) = object(&folder.join("tokenizer_config.json"))? else {
        return Ok(());
    };
    let class = map.get("tokenizer_class").and_then(Value::as_str);
    if let Some(class) = class
        && !["CLIPTokenizer", "CLIPTokenizerFast"].contains(&class)
        && !overrides.ignores("tokenizer_class")
    {
        facts.refused.push(format!(
            "`tokenizer_class` = {class} (tokenizer_config.json): another tokenizer than CLIP's, words would be looked up in the wrong rows"
        ));
    }
    Ok(())
}

/// Reads the normalisation, if one of its files is in `folder`.
pub fn preprocess(folder: &Path, facts: &mut Facts) -> Result<(), TensorError> {
    let map = match object(&folder.join("preprocessor_config.json"))? {
        Some(map) => map,
        None => match object(&folder.join("processor_config.json"))?
            .and_then(|mut map| map.remove("image_processor"))
        {
            Some(Value::Object(map)) => map,
            _ => return Ok(()),
        },
    };
    let off = |key: &str| map.get(key) == Some(&Value::Bool(false));
    let mut refuse = |key: &str, what: &str| {
        let value = map.get(key).unwrap_or(&Value::Null);
        facts.refused.push(format!(
            "`{key}` = {value} (preprocessor_config.json): {what}"
        ));
    };
    let read = |key: &str| map.get(key).filter(|v| !v.is_null());
    if off("do_rescale") {
        refuse("do_rescale", "only pixels of 0..1 are supported");
    }
    if let Some(factor) = read("rescale_factor")
        && factor
            .as_f64()
            .is_none_or(|f| (f * 255.0 - 1.0).abs() > 1e-3)
    {
        refuse("rescale_factor", "only 1 / 255 is supported");
    }
    let class = ["image_processor_type", "feature_extractor_type"];
    let class = class.iter().find_map(|k| map.get(*k)?.as_str());
    let clips = class.is_none_or(|c| c.starts_with("CLIP"));
    let mut both = [None, None];
    for (key, value) in ["image_mean", "image_std"].into_iter().zip(&mut both) {
        match read(key) {
            Some(v) => match three(v) {
                Some(three) => *value = Some(three),
                None => refuse(key, "three numbers are wanted"),
            },
            // CLIPImageProcessor (once CLIPFeatureExtractor) has OpenAI's where its file leaves them out.
            None if clips => *value = Some(if key == "image_mean" { MEAN } else { STD }),
            None => (),
        }
    }
    let interpolation = match read("resample").map(Value::as_u64) {
        None | Some(Some(3)) => Interpolation::Bicubic,
        Some(Some(2)) => Interpolation::Bilinear,
        Some(_) => {
            refuse("resample", "bicubic (3) and bilinear (2) are supported");
            Interpolation::Bicubic
        }
    };
    [facts.mean, facts.std] = match off("do_normalize") {
        true => [Some([0.0; 3]), Some([1.0; 3])],
        false => both,
    };
    facts.interpolation = Some(interpolation);
    Ok(())
}
