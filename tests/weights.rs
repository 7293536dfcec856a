//! What a configuration says of CLIP weights, wherever it lies; what is assumed; what is refused.

mod common;

use common::golden;
use faprompt_edge::bundle::manifest::{ActivationKind, Interpolation, Manifest};
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::train::clip::{Clip, MEAN, Network, Overrides, STD};
use faprompt_edge::train::tensors::Tensors;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const OPEN_CLIP: &str = "layouts/open_clip";
const HUGGING_FACE: &str = "layouts/hugging_face";

fn weights(layout: &str) -> &'static str {
    match layout.contains("open_clip") {
        true => "open_clip_model.safetensors",
        false => "model.safetensors",
    }
}

fn copy(from: &str, folder: &Path, names: &[(&str, &str)]) {
    for (name, to) in names {
        std::fs::copy(golden(from).join(name), folder.join(to)).unwrap();
    }
}

/// A copy of a layout's folder whose configuration `change` has changed.
fn changed(layout: &str, change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = match layout.contains("open_clip") {
        true => "open_clip_config.json",
        false => "config.json",
    };
    copy(layout, folder.path(), &[(weights(layout), weights(layout))]);
    let text = std::fs::read(golden(layout).join(config)).unwrap();
    let mut value = serde_json::from_slice(&text).unwrap();
    change(&mut value);
    std::fs::write(folder.path().join(config), value.to_string()).unwrap();
    folder
}

/// Puts `value` at a path such as `/model_cfg/vision_cfg/width`, making what is not there.
fn put(config: &mut Value, path: &str, value: &Value) {
    let mut at = config;
    for key in path.trim_start_matches('/').split('/') {
        at = &mut at[key];
    }
    *at = value.clone();
}

/// Rewrites the tensors of a golden file under other names; `None` leaves one out.
fn renamed(layout: &str, to: &Path, name: impl Fn(&str) -> Option<String>) {
    with_extra(layout, to, name, &[]);
}

fn with_extra(layout: &str, to: &Path, name: impl Fn(&str) -> Option<String>, extra: &[&str]) {
    let bytes = std::fs::read(golden(layout).join(weights(layout))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<(String, TensorView)> = file
        .tensors()
        .into_iter()
        .filter_map(|(n, t)| Some((name(&n)?, t)))
        .collect();
    let one = [0u8; 8];
    for extra in extra {
        let view = TensorView::new(Dtype::F32, vec![2], &one).unwrap();
        all.push(((*extra).into(), view));
    }
    safetensors::serialize_to_file(all, None, to).unwrap();
}

fn error(path: &Path) -> String {
    let text = Clip::load(path).err().map(|e| e.to_string());
    text.unwrap_or_else(|| panic!("{} was read", path.display()))
}

fn network(path: &Path) -> Network {
    let clip = Clip::load(path).unwrap();
    assert!(clip.assumed.is_empty(), "{:?}", clip.assumed);
    clip.network()
}

#[test]
fn the_configuration_is_that_of_the_tensors_layout() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    copy(
        "layouts/open_clip_other",
        folder.path(),
        &[
            ("open_clip_model.safetensors", "open_clip_model.safetensors"),
            ("open_clip_model.safetensors", "ViT-Ti-8.safetensors"),
            ("open_clip_config.json", "open_clip_config.json"),
        ],
    );
    copy(
        HUGGING_FACE,
        folder.path(),
        &[
            ("model.safetensors", "model.safetensors"),
            ("model.safetensors", "other-name.safetensors"),
            ("config.json", "config.json"),
        ],
    );
    copy(
        "layouts/hugging_face_other",
        folder.path(),
        &[("preprocessor_config.json", "preprocessor_config.json")],
    );
    // Its tensors are OpenAI's, whatever it is called.
    copy(
        "layouts/openai",
        folder.path(),
        &[("state_dict.pt", "pytorch_model.bin")],
    );
    let (mean, std) = ([0.5, 0.4, 0.3], [0.25, 0.5, 0.125]);
    for name in [
        "",
        "open_clip_model.safetensors",
        "ViT-Ti-8.safetensors",
        "pytorch_model.bin",
    ] {
        let found = network(&at(name));
        assert_eq!(
            (found.activation, found.heads, found.epsilon),
            (ActivationKind::Gelu, [4, 2], [1e-3, 1e-2]),
            "{name}"
        );
        let p = found.preprocess;
        assert_eq!((p.mean, p.std), (mean, std), "{name}");
        assert_eq!(p.interpolation, Interpolation::Bilinear, "{name}");
    }
    for name in ["model.safetensors", "other-name.safetensors"] {
        let found = network(&at(name));
        assert_eq!(
            (found.activation, found.heads, found.epsilon),
            (ActivationKind::QuickGelu, [1, 1], [1e-5, 1e-5]),
            "{name}"
        );
        let p = found.preprocess;
        assert_eq!((p.mean, p.std), (mean, std), "{name}");
        assert_eq!(p.interpolation, Interpolation::Bicubic, "{name}");
    }
    // A model's own file, of the weights' name, counts first; its normalisation lies elsewhere.
    let own: Value =
        serde_json::from_slice(&std::fs::read(at("open_clip_config.json")).unwrap()).unwrap();
    let mut own = own["model_cfg"].clone();
    own["quick_gelu"] = json!(true);
    std::fs::write(at("ViT-Ti-8.json"), own.to_string()).unwrap();
    let found = network(&at("ViT-Ti-8.safetensors"));
    assert_eq!(found.activation, ActivationKind::QuickGelu);
    assert_eq!(found.preprocess.mean, mean);
    // The other layout's configuration is better than none, and said.
    std::fs::remove_file(at("open_clip_config.json")).unwrap();
    let clip = Clip::load(&at("open_clip_model.safetensors")).unwrap();
    assert_eq!(
        (clip.activation, clip.visual.heads),
        (ActivationKind::QuickGelu, 1)
    );
    assert!(
        clip.notes[0].contains("of the other layout"),
        "{:?}",
        clip.notes
    );
}

#[test]
fn what_nobody_says_is_assumed_and_said_and_can_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().join("ViT-B-16-laion2b.safetensors");
    std::fs::copy(golden(OPEN_CLIP).join(weights(OPEN_CLIP)), &bare).unwrap();
    let clip = Clip::load(&bare).unwrap();
    let found = clip.network();
    assert_eq!(
        (found.activation, found.heads),
        (ActivationKind::QuickGelu, [1, 1])
    );
    assert_eq!((found.preprocess.mean, found.preprocess.std), (MEAN, STD));
    assert_eq!(clip.assumed.len(), 4);
    for option in [
        "--activation",
        "--heads",
        "--epsilon",
        "--mean",
        "--std",
        "--clip-config",
    ] {
        assert!(
            clip.notes.join(" ").contains(option),
            "{option}: {:?}",
            clip.notes
        );
    }
    let said = Overrides {
        activation: Some(ActivationKind::Gelu),
        heads: Some([2, 4]),
        epsilon: Some(1e-6),
        mean: Some([0.5; 3]),
        std: Some([0.25; 3]),
        interpolation: Some(Interpolation::Bilinear),
        ..Overrides::default()
    };
    let clip = Clip::load_with(&bare, &said).unwrap();
    assert!(clip.assumed.is_empty() && clip.notes.is_empty());
    let found = clip.network();
    assert_eq!((found.heads, found.epsilon), ([2, 4], [1e-6, 1e-6]));
    assert_eq!(found.preprocess.mean, [0.5; 3]);
    assert_eq!(
        found.options(),
        "--activation gelu --heads 2,4 --epsilon 1e-6 --mean 0.5,0.5,0.5 --std 0.25,0.25,0.25 --interpolation bilinear"
    );
    // A named configuration is as good as one that lies beside.
    let named = Overrides {
        config: Some(golden("layouts/open_clip_other/open_clip_config.json")),
        ..Overrides::default()
    };
    let clip = Clip::load_with(&bare, &named).unwrap();
    assert!(clip.assumed.is_empty());
    assert_eq!(clip.visual.heads, 4);
    let three = Overrides {
        heads: Some([3, 1]),
        ..Overrides::default()
    };
    let e = Clip::load_with(&bare, &three).err().unwrap().to_string();
    assert!(e.contains("no multiple of 3 heads"), "{e}");
    // This program's own files say it themselves.
    let own = folder.path().join("own.safetensors");
    let clip = Clip::load_with(&bare, &said).unwrap();
    clip.save(&own).unwrap();
    assert_eq!(network(&own), clip.network());
    // OpenAI's scripted archives are nobody else's format.
    assert_eq!(
        network(&golden("layouts/openai/torchscript.pt"))
            .preprocess
            .mean,
        MEAN
    );
}

#[test]
fn another_networks_configuration_is_refused_with_a_folder_and_ignored_beside_a_file() {
    let folder = changed(OPEN_CLIP, |c| {
        put(c, "/model_cfg/vision_cfg/width", &json!(768))
    });
    let e = error(folder.path());
    assert!(
        e.contains("vision_cfg.width = 768") && e.contains("64"),
        "{e}"
    );
    let clip = Clip::load(&folder.path().join(weights(OPEN_CLIP))).unwrap();
    assert_eq!(clip.assumed.len(), 4);
    assert!(
        clip.notes[0].contains("vision_cfg.width = 768"),
        "{:?}",
        clip.notes
    );
    let folder = changed(HUGGING_FACE, |c| put(c, "/projection_dim", &json!(512)));
    let e = error(folder.path());
    assert!(e.contains("projection_dim = 512"), "{e}");
    // A vocabulary that was cut, or positions for another size, tell nothing about the network.
    let folder = changed(HUGGING_FACE, |c| {
        put(c, "/text_config/vocab_size", &json!(49408));
        put(c, "/vision_config/image_size", &json!(224));
    });
    assert_eq!(Clip::load(folder.path()).unwrap().network().heads, [1, 1]);
}

#[test]
fn what_would_be_another_network_is_refused_by_name() {
    let open_clip = [
        (
            "/model_cfg/vision_cfg/ls_init_value",
            json!(1e-4),
            "layer scale",
        ),
        (
            "/model_cfg/vision_cfg/attentional_pool",
            json!(true),
            "attention pooling",
        ),
        (
            "/model_cfg/vision_cfg/pool_type",
            json!("avg"),
            "class token",
        ),
        ("/model_cfg/vision_cfg/no_ln_pre", json!(true), "no_ln_pre"),
        (
            "/model_cfg/vision_cfg/pos_embed_type",
            json!("sin_cos_2d"),
            "positions",
        ),
        (
            "/model_cfg/vision_cfg/act_kwargs",
            json!({"approximate": "tanh"}),
            "another GELU",
        ),
        (
            "/model_cfg/vision_cfg/norm_kwargs",
            json!({"elementwise_affine": false}),
            "another normalisation",
        ),
        (
            "/model_cfg/vision_cfg/timm_model_name",
            json!("eva02_base_patch16_clip_224"),
            "eva02",
        ),
        (
            "/model_cfg/vision_cfg/layers",
            json!([3, 4, 6, 3]),
            "ResNet",
        ),
        (
            "/model_cfg/vision_cfg/mlp_ratio",
            json!(4.3637),
            "mlp_ratio",
        ),
        ("/model_cfg/vision_cfg/qk_norm", json!(true), "qk_norm"),
        (
            "/model_cfg/vision_cfg/patch_merging",
            json!(2),
            "does not know",
        ),
        (
            "/model_cfg/text_cfg/no_causal_mask",
            json!(true),
            "causal mask",
        ),
        ("/model_cfg/text_cfg/pool_type", json!("last"), "end token"),
        (
            "/model_cfg/text_cfg/hf_tokenizer_name",
            json!("bert-base-uncased"),
            "bert-base-uncased",
        ),
        (
            "/model_cfg/text_cfg/tokenizer_kwargs",
            json!({"clean": "canonicalize"}),
            "canonicalize",
        ),
        (
            "/model_cfg/text_cfg/hf_model_name",
            json!("xlm-roberta-base"),
            "xlm-roberta-base",
        ),
        ("/model_cfg/text_cfg/proj_bias", json!(true), "bias"),
        ("/model_cfg/text_cfg/embed_cls", json!(true), "class token"),
        ("/model_cfg/custom_text", json!(true), "custom text"),
        ("/model_cfg/multimodal_cfg", json!({"width": 64}), "CoCa"),
        ("/model_cfg/quick_gelu", json!("yes"), "true or false"),
        ("/preprocess_cfg/mean", json!([0.5]), "three numbers"),
        ("/preprocess_cfg/interpolation", json!("nearest"), "nearest"),
        ("/preprocess_cfg/mode", json!("L"), "RGB"),
    ];
    let hugging_face = [
        ("/model_type", json!("siglip"), "siglip"),
        ("/model_type", json!("metaclip_2"), "metaclip_2"),
        ("/text_config/hidden_act", json!("gelu_new"), "gelu_new"),
        (
            "/vision_config/hidden_act",
            json!("gelu_pytorch_tanh"),
            "gelu_pytorch_tanh",
        ),
        (
            "/vision_config/hidden_act",
            json!("gelu"),
            "different activations",
        ),
        ("/vision_config/intermediate_size", json!(280), "280"),
        ("/vision_config/num_channels", json!(1), "RGB"),
        (
            "/vision_config/num_attention_heads",
            json!("many"),
            "whole number",
        ),
        ("/vision_config/use_registers", json!(true), "does not know"),
        ("/text_config/model_type", json!("bert"), "bert"),
        ("/text_config_dict", json!({"hidden_act": "relu"}), "relu"),
        ("/quantization_config", json!({"bits": 4}), "quantised"),
        ("/auto_map", json!({"AutoModel": "x.Y"}), "auto_map"),
    ];
    let cases = open_clip.iter().map(|c| (OPEN_CLIP, c));
    for (layout, (path, value, word)) in cases.chain(hugging_face.iter().map(|c| (HUGGING_FACE, c)))
    {
        let folder = changed(layout, |c| put(c, path, value));
        let e = error(folder.path());
        let key = path.rsplit('/').next().unwrap();
        let named = e.contains(key) || key.ends_with("_dict");
        assert!(e.contains(word) && named, "{path}: {e}");
        // The file alone is no way around it.
        let e = error(&folder.path().join(weights(layout)));
        assert!(e.contains(word), "{path}: {e}");
    }
    // Every reason is said at once (CLIPA).
    let folder = changed(OPEN_CLIP, |c| {
        put(c, "/model_cfg/vision_cfg/pool_type", &json!("avg"));
        put(c, "/model_cfg/text_cfg/no_causal_mask", &json!(true));
    });
    let e = error(folder.path());
    assert!(
        e.contains("pool_type") && e.contains("no_causal_mask"),
        "{e}"
    );
}

#[test]
fn files_beside_a_hugging_face_model_count() {
    let folder = changed(HUGGING_FACE, |_| ());
    let write = |name: &str, value: Value| {
        std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    };
    write(
        "tokenizer_config.json",
        json!({"tokenizer_class": "XLMRobertaTokenizer"}),
    );
    let e = error(folder.path());
    assert!(e.contains("XLMRobertaTokenizer"), "{e}");
    write(
        "tokenizer_config.json",
        json!({"tokenizer_class": "CLIPTokenizer"}),
    );
    // Nothing says the normalisation.
    let clip = Clip::load(folder.path()).unwrap();
    assert_eq!(clip.assumed.len(), 1);
    assert!(clip.assumed[0].contains("--mean"), "{:?}", clip.assumed);
    for (value, mean, std) in [
        (
            json!({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}),
            [0.5; 3],
            [0.5; 3],
        ),
        (json!({"do_normalize": false}), [0.0; 3], [1.0; 3]),
        (
            json!({"image_processor_type": "CLIPImageProcessor"}),
            MEAN,
            STD,
        ),
    ] {
        write("preprocessor_config.json", value);
        let p = network(folder.path()).preprocess;
        assert_eq!((p.mean, p.std), (mean, std));
    }
    for (value, word) in [
        (json!({"do_rescale": false}), "do_rescale"),
        (json!({"rescale_factor": 1.0}), "rescale_factor"),
        (json!({"resample": 0}), "resample"),
        (json!({"image_mean": 0.5}), "three numbers"),
    ] {
        write("preprocessor_config.json", value);
        let e = error(folder.path());
        assert!(e.contains(word), "{e}");
    }
}

#[test]
fn what_changes_nothing_is_read() {
    let folder = changed(OPEN_CLIP, |c| {
        for (path, value) in [
            ("/model_cfg/vision_cfg/patch_dropout", json!(0.5)),
            ("/model_cfg/vision_cfg/final_ln_after_pool", json!(true)),
            ("/model_cfg/vision_cfg/act_kwargs", json!({})),
            ("/model_cfg/vision_cfg/timm_model_name", Value::Null),
            ("/model_cfg/text_cfg/pool_type", json!("argmax")),
            (
                "/model_cfg/text_cfg/hf_tokenizer_name",
                json!("openai/clip-vit-base-patch32"),
            ),
            ("/model_cfg/init_logit_bias", json!(-10)),
            ("/preprocess_cfg/size", json!([32, 32])),
            ("/preprocess_cfg/resize_mode", json!("shortest")),
        ] {
            put(c, path, &value);
        }
    });
    let clip = Clip::load(folder.path()).unwrap();
    assert!(clip.assumed.is_empty());
    assert!(clip.notes[0].contains("patch_dropout"), "{:?}", clip.notes);
    // A key that nobody knows, ignored at the user's word, which the bundle repeats.
    let folder = changed(OPEN_CLIP, |c| {
        put(c, "/model_cfg/text_cfg/colour", &json!("red"))
    });
    let ignore = Overrides {
        ignore: vec!["colour".into()],
        ..Overrides::default()
    };
    let clip = Clip::load_with(folder.path(), &ignore).unwrap();
    assert_eq!(
        clip.assumed,
        ["`text_cfg.colour` changes nothing (--ignore)"]
    );
}

#[test]
fn tensors_that_nobody_reads_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("extra.safetensors");
    let same = |name: &str| Some(name.to_string());
    for (layout, name, word) in [
        (
            OPEN_CLIP,
            "visual.transformer.resblocks.0.ls_1.gamma",
            "layer scale",
        ),
        (OPEN_CLIP, "visual.attn_pool.query", "attention pooling"),
        (
            OPEN_CLIP,
            "transformer.resblocks.1.attn.q_norm.weight",
            "normalised queries",
        ),
        (OPEN_CLIP, "visual.conv1.bias", "patch embedding"),
        (OPEN_CLIP, "something", "something"),
        (
            HUGGING_FACE,
            "vision_model.embeddings.patch_embedding.bias",
            "patch embedding",
        ),
        (
            HUGGING_FACE,
            "text_model.encoder.layers.0.lora_A.weight",
            "LoRA",
        ),
        (HUGGING_FACE, "classifier.weight", "classification"),
    ] {
        with_extra(layout, &path, same, &[name]);
        let e = error(&path);
        assert!(
            e.contains(name) && e.contains(word) && e.contains("--ignore"),
            "{e}"
        );
        let ignore = Overrides {
            ignore: vec![name.split('.').next().unwrap().into()],
            ..Overrides::default()
        };
        let clip = Clip::load_with(&path, &ignore).unwrap();
        assert!(
            clip.assumed.iter().any(|a| a.contains(name)),
            "{:?}",
            clip.assumed
        );
    }
    for (layout, names) in [
        (
            OPEN_CLIP,
            &[
                "logit_bias",
                "attn_mask",
                "input_resolution",
                "context_length",
            ][..],
        ),
        (
            HUGGING_FACE,
            &[
                "text_model.embeddings.position_ids",
                "vision_model.embeddings.position_ids",
            ][..],
        ),
    ] {
        with_extra(layout, &path, same, names);
        Clip::load(&path).unwrap();
    }
}

#[test]
fn wrappers_names_are_taken_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrapped.safetensors");
    let plain = |layout: &str| Clip::load(&golden(layout)).unwrap().visual.proj;
    for prefix in [
        "module.",
        "model.",
        "state_dict.",
        "_orig_mod.module.",
        "state_dict.model.",
        "clip.",
    ] {
        for layout in [OPEN_CLIP, HUGGING_FACE] {
            renamed(layout, &path, |n| Some(format!("{prefix}{n}")));
            assert_eq!(
                Clip::load(&path).unwrap().visual.proj,
                plain(layout),
                "{prefix}"
            );
        }
    }
    // Outside the wrapper: an optimizer is none of the network, anything else may be.
    let wrap = |n: &str| Some(format!("model.{n}"));
    with_extra(OPEN_CLIP, &path, wrap, &["optimizer.state.0.exp_avg"]);
    Clip::load(&path).unwrap();
    with_extra(OPEN_CLIP, &path, wrap, &["decoder.weight"]);
    assert!(error(&path).contains("`decoder.weight`"));
    // Two networks in one file.
    let bytes = std::fs::read(golden(OPEN_CLIP).join(weights(OPEN_CLIP))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let twice = ["model.", "model_ema."].into_iter().flat_map(|prefix| {
        let all = file.tensors().into_iter();
        all.map(move |(n, t)| (format!("{prefix}{n}"), t))
    });
    safetensors::serialize_to_file(twice, None, &path).unwrap();
    let e = error(&path);
    assert!(
        e.contains("`model.`, `model_ema.`") && e.contains("--prefix"),
        "{e}"
    );
    let chosen = |prefix: &str, ignore: &str| {
        let overrides = Overrides {
            prefix: Some(prefix.into()),
            ignore: vec![ignore.into()],
            ..Overrides::default()
        };
        Clip::load_with(&path, &overrides)
    };
    assert_eq!(
        chosen("model_ema", "model").unwrap().visual.proj,
        plain(OPEN_CLIP)
    );
    assert!(
        chosen("student", "model")
            .err()
            .unwrap()
            .to_string()
            .contains("student")
    );
}

#[test]
fn shards_are_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let bytes = std::fs::read(golden(HUGGING_FACE).join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let names: Vec<String> = file.names().iter().map(|n| n.to_string()).collect();
    let shard = |i: usize| format!("model-0000{}-of-00002.safetensors", i % 2 + 1);
    for i in 0..2 {
        let part = names.iter().enumerate().filter(|(j, _)| j % 2 == i);
        let part: Vec<_> = part
            .map(|(_, n)| (n.clone(), file.tensor(n).unwrap()))
            .collect();
        safetensors::serialize_to_file(part, None, &at(&shard(i))).unwrap();
    }
    let map: serde_json::Map<String, Value> = names
        .iter()
        .enumerate()
        .map(|(i, n)| (n.clone(), json!(shard(i))))
        .collect();
    let index = |map: &serde_json::Map<String, Value>| {
        let text = json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
        std::fs::write(at("model.safetensors.index.json"), text).unwrap();
    };
    index(&map);
    copy(
        HUGGING_FACE,
        folder.path(),
        &[("config.json", "config.json")],
    );
    let whole = Clip::load(&golden(HUGGING_FACE)).unwrap();
    for path in [
        folder.path().to_path_buf(),
        at("model.safetensors.index.json"),
        at("model-00001-of-00002.safetensors"),
        at("model-00002-of-00002.safetensors"),
    ] {
        let clip = Clip::load(&path).unwrap();
        assert_eq!(clip.visual.proj, whole.visual.proj);
        assert_eq!(clip.text.projection, whole.text.projection);
        // The digest is of all of them.
        let index = Tensors::load(&at("model.safetensors.index.json")).unwrap();
        assert_eq!(clip.digest, index.digest().unwrap());
        assert!(clip.digest.len() == 64 && clip.digest != whole.digest);
    }
    let mut elsewhere = map.clone();
    elsewhere.insert(names[0].clone(), json!("../secret.safetensors"));
    index(&elsewhere);
    assert!(error(folder.path()).contains("../secret.safetensors"));
    let mut more = map.clone();
    more.insert("text_model.more.weight".into(), json!(shard(0)));
    index(&more);
    assert!(error(folder.path()).contains("`text_model.more.weight` is not in"));
    index(&map);
    std::fs::remove_file(at(&shard(1))).unwrap();
    assert!(error(folder.path()).contains("model-00002-of-00002.safetensors is not beside it"));
}

#[test]
fn other_models_are_refused_with_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let file = |names: &[&str]| {
        with_extra(OPEN_CLIP, &path, |_| None, names);
        error(&path)
    };
    for (names, word) in [
        (
            &[
                "visual.layer1.0.conv1.weight",
                "visual.attnpool.positional_embedding",
            ][..],
            "ResNet",
        ),
        (
            &["visual.conv1.weight", "visual.layer1.0.conv1.weight"][..],
            "ResNet",
        ),
        (
            &["visual.trunk.pos_embed", "text.token_embedding.weight"][..],
            "timm",
        ),
        (&["visual.patch_embed.proj.weight"][..], "EVA"),
        (
            &["image_encoder.model.patch_embed.0.conv.weight"][..],
            "MobileCLIP",
        ),
        (
            &[
                "visual.conv1.weight",
                "text.transformer.resblocks.0.ln_1.weight",
            ][..],
            "custom text",
        ),
        (
            &["visual.conv1.weight", "visual.proj"][..],
            "without a text encoder",
        ),
        (
            &["module.visual.conv1.weight", "module.visual.proj"][..],
            "found below the prefix `module.`, where tensors of the text encoder would begin with `transformer.`",
        ),
        (
            &["text_model.embeddings.token_embedding.weight"][..],
            "without an image encoder; looked for `visual.conv1.weight` (OpenAI, open_clip) and `vision_model.",
        ),
        (
            &["text_model.embeddings.token_embedding.weight"][..],
            "its tensors begin with `text_model.`",
        ),
        (
            &[
                "conv1.weight",
                "class_embedding",
                "transformer.resblocks.0.ln_1.weight",
            ][..],
            "an image encoder alone, without the `visual.`",
        ),
        (
            &[
                "embeddings.patch_embedding.weight",
                "encoder.layers.0.layer_norm1.weight",
            ][..],
            "an image encoder alone, without the `vision_model.`",
        ),
        (&["prompt_learner.ctx_pos"][..], "--prompts"),
        (&["encoder.lora_A.weight"][..], "LoRA"),
        (
            &["embeddings.cls_token", "encoder.layer.0.norm1.weight"][..],
            "its tensors begin with `embeddings.`, `encoder.`",
        ),
    ] {
        let e = file(names);
        assert!(e.contains(word), "{names:?}: {e}");
    }
    // SigLIP has no class token; a vision tower alone no text.
    let without = |parts: &'static [&'static str]| {
        renamed(HUGGING_FACE, &path, move |n| {
            (!parts.iter().any(|p| n.contains(p))).then(|| n.to_string())
        });
        error(&path)
    };
    assert!(without(&["class_embedding"]).contains("SigLIP"));
    assert!(without(&["text_"]).contains("without a text encoder"));
}

#[test]
fn element_types_that_no_weight_has_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let write = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        std::fs::write(&path, bytes).unwrap();
        error(&path)
    };
    let of = |dtype: &str, shape: &str, end: usize| {
        format!(
            r#"{{"visual.conv1.weight":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}},"transformer.x":{{"dtype":"{dtype}","shape":[0],"data_offsets":[{end},{end}]}}}}"#
        )
    };
    let e = write(&of("F8_E4M3", "[64,3,1,1]", 192), 192);
    assert!(
        e.contains("visual.conv1.weight") && e.contains("F8_E4M3"),
        "{e}"
    );
    let e = write(&of("Q7", "[64,3,1,1]", 192), 192);
    assert!(e.contains("safetensors") && e.contains("Q7"), "{e}");
    let e = write(&of("F32", "[0,3,1,1]", 0), 0);
    assert!(
        e.contains("visual.conv1.weight") && e.contains("[0, 3, 1, 1]"),
        "{e}"
    );
    // A vocabulary that CLIP's tokenizer does not have.
    let more: PathBuf = folder.path().join("vocabulary.safetensors");
    let bytes = std::fs::read(golden(OPEN_CLIP).join(weights(OPEN_CLIP))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let table = vec![0u8; 60_000 * 64 * 2];
    let view = TensorView::new(Dtype::F16, vec![60_000, 64], &table).unwrap();
    let all = file
        .tensors()
        .into_iter()
        .filter(|(n, _)| n != "token_embedding.weight");
    let all = all.chain([("token_embedding.weight".to_string(), view)]);
    safetensors::serialize_to_file(all, None, &more).unwrap();
    assert!(error(&more).contains("60000 tokens"));
}

#[test]
fn manifests_leave_out_what_is_usual_and_old_ones_are_read() {
    let path = Path::new(env!("DEFAULT_BUNDLE"));
    let bundle = Bundle::open(path, &Keys::default()).unwrap();
    let manifest = bundle.manifest();
    assert_eq!(
        (manifest.epsilon("encoder"), manifest.epsilon("tower")),
        (1e-5, 1e-5)
    );
    assert_eq!(manifest.image.interpolation, Interpolation::Bicubic);
    let text = serde_json::to_string(manifest).unwrap();
    for key in ["epsilon", "interpolation", "assumed"] {
        assert!(!text.contains(key), "{key}");
    }
    let mut other = manifest.clone();
    (other.vision.epsilon, other.text.epsilon) = (1e-6, 1e-3);
    other.image.interpolation = Interpolation::Bilinear;
    other.assumed = vec!["QuickGELU".into()];
    other.check().unwrap();
    let text = serde_json::to_string(&other).unwrap();
    let back: Manifest = serde_json::from_str(&text).unwrap();
    assert_eq!(back, other);
    assert_eq!(
        (back.epsilon("encoder"), back.epsilon("tower")),
        (1e-6, 1e-3)
    );
    for wrong in [0.0, f32::NAN, 1.0] {
        other.text.epsilon = wrong;
        assert!(
            other
                .check()
                .unwrap_err()
                .to_string()
                .contains("text.epsilon")
        );
    }
}
