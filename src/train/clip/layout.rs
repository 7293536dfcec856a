//! Which file of a folder holds the weights, which tensors of a file are CLIP's, and what kind of network
//! they are of.

use super::config::Overrides;
use crate::train::some;
use crate::train::tensors::{TensorError, Tensors};
use std::path::{Path, PathBuf};

/// Whose names the tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `transformer.resblocks.N.…`, fused projection: OpenAI's and open_clip's files.
    OpenAi,
    /// `encoder.layers.N.…`, three projections: Hugging Face's `CLIPModel`.
    HuggingFace,
}

impl Layout {
    /// The tensor that every file of this layout has, and only those.
    fn anchor(self) -> &'static str {
        match self {
            Layout::OpenAi => "visual.conv1.weight",
            Layout::HuggingFace => "vision_model.embeddings.patch_embedding.weight",
        }
    }

    /// How its text encoder's tensors begin.
    fn of_text(self) -> &'static str {
        match self {
            Layout::OpenAi => "`transformer.` and `token_embedding.`",
            Layout::HuggingFace => "`text_model.`",
        }
    }
}

/// What can be read, for messages that refuse something else.
const SUPPORTED: &str = "supported are CLIPs with a ViT image encoder and CLIP's own text encoder, from OpenAI, open_clip or Hugging Face (CLIPModel)";

/// Names that weight files have in the folders of open_clip and Hugging Face models, in the order in which
/// they are taken. Hub folders of open_clip models often hold both.
const OPEN_CLIP: [&str; 3] = [
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
];
/// ONNX files, in the folder or in its `onnx/`: whole CLIPs, or the image tower with the text tower beside it.
const ONNX: [&str; 3] = ["model.onnx", "vision_model.onnx", "visual.onnx"];
const HUGGING_FACE: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// The weight file that `path` is, or that the folder `path` holds.
pub fn weight_file(path: &Path) -> Result<PathBuf, TensorError> {
    if !path.exists() {
        let what =
            "no such file or folder; `faprompt-train pull --list` names weights that it fetches";
        return Err(TensorError::File(what.into()));
    }
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let named = OPEN_CLIP.iter().chain(&HUGGING_FACE).map(|n| path.join(n));
    if let Some(file) = named.into_iter().find(|f| f.is_file()) {
        return Ok(file);
    }
    let graphs = ONNX.map(|n| path.join(n)).into_iter();
    let graphs = graphs.chain(ONNX.map(|n| path.join("onnx").join(n)));
    if let Some(file) = graphs.into_iter().find(|f| f.is_file()) {
        return Ok(file);
    }
    // Any other name, if there is only one.
    let mut others: Vec<PathBuf> = std::fs::read_dir(path)
        .map_err(|e| TensorError::File(e.to_string()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|p| {
            let extension = p.extension().and_then(|e| e.to_str()).unwrap_or_default();
            ["safetensors", "pt", "pth", "bin", "onnx"].contains(&extension) && p.is_file()
        })
        .collect();
    others.sort();
    match &*others {
        [one] => Ok(one.clone()),
        [] => Err(TensorError::File(format!(
            "no weights in this folder: none of {}, and no other .safetensors, .pt, .pth, .bin or .onnx file beside config.json or open_clip_config.json",
            [&OPEN_CLIP[..], &HUGGING_FACE[..], &ONNX[..]]
                .concat()
                .join(", ")
        ))),
        several => {
            let names = several.iter().filter_map(|p| p.file_name());
            let names: Vec<_> = names.map(|n| n.to_string_lossy()).collect();
            Err(TensorError::File(format!(
                "several weight files are in this folder: name one of {}",
                names.join(", ")
            )))
        }
    }
}

/// Where a configuration would lie beside a weight file: beside the folder `onnx` for a file in one that has none.
pub fn beside(file: &Path) -> PathBuf {
    let is_onnx = file.extension().is_some_and(|e| e == "onnx");
    let folder = file.parent().filter(|f| is_onnx && f.ends_with("onnx"));
    let here = ["config.json", "open_clip_config.json"];
    let bare = folder.filter(|f| !here.iter().any(|n| f.join(n).is_file()));
    match (bare.and_then(Path::parent), file.file_name()) {
        (Some(above), Some(name)) => above.join(name),
        _ => file.to_path_buf(),
    }
}

/// The tensors of the one CLIP in a file, under its layout's own names, and the names of all others.
pub fn find(
    tensors: Tensors,
    overrides: &Overrides,
) -> Result<(Layout, Tensors, Vec<String>), TensorError> {
    let mut roots: Vec<(String, Layout)> = vec![];
    for layout in [Layout::OpenAi, Layout::HuggingFace] {
        for name in tensors.names() {
            let root = name.strip_suffix(layout.anchor());
            // Wrappers' names end in a full stop: `module.`, `state_dict.model.`, `_orig_mod.`.
            roots.extend(
                root.filter(|r| r.is_empty() || r.ends_with('.'))
                    .map(|r| (r.to_string(), layout)),
            );
        }
    }
    let all = roots.clone();
    if let Some(prefix) = &overrides.prefix {
        roots.retain(|(root, _)| root == prefix || root.strip_suffix('.') == Some(prefix));
    }
    let (root, layout) = match &*roots {
        [one] => one.clone(),
        [] => return Err(TensorError::File(unknown(&tensors, overrides, &all))),
        several => {
            let names: Vec<String> = several.iter().map(|(r, _)| format!("`{r}`")).collect();
            return Err(TensorError::File(format!(
                "it holds {} CLIPs, below {}: choose one with --prefix",
                several.len(),
                names.join(", ")
            )));
        }
    };
    let begin = beginnings(&tensors);
    let (tensors, outside) = tensors.below(&root);
    match other_kind(&tensors, layout) {
        Some(what) if tensors.computed().is_some() && what.contains("without a text") => {
            Err(TensorError::File(format!(
                "{what}: an ONNX file of one tower needs the other's beside it (vision_model.onnx and text_model.onnx, visual.onnx and textual.onnx)"
            )))
        }
        Some(what) => {
            let at = match root.is_empty() {
                true => "without a prefix".into(),
                false => format!("below the prefix `{root}`"),
            };
            Err(TensorError::File(format!(
                "{what}; `{}` was found {at}, where tensors of the text encoder would begin with {}; {begin}; {SUPPORTED}",
                layout.anchor(),
                layout.of_text(),
            )))
        }
        None => Ok((layout, tensors, outside)),
    }
}

/// What the names of a file's tensors begin with, up to the first full stop: for messages that found no network.
pub fn beginnings(tensors: &Tensors) -> String {
    const SHOWN: usize = 6;
    let mut all: Vec<String> = vec![];
    for name in tensors.names() {
        let first = name.find('.').map_or(name, |end| &name[..=end]);
        let first = format!("`{first}`");
        if !all.contains(&first) {
            all.push(first);
        }
    }
    match all.is_empty() {
        true => "it has no tensors".into(),
        false => format!("its tensors begin with {}", some(&all, SHOWN, "others")),
    }
}

/// What a file without a CLIP's ViT is; `roots` are where it has some that were not asked for.
fn unknown(tensors: &Tensors, overrides: &Overrides, roots: &[(String, Layout)]) -> String {
    let found = beginnings(tensors);
    let looked = format!(
        "looked for `{}` (OpenAI, open_clip) and `{}` (Hugging Face), below any prefix; {found}",
        Layout::OpenAi.anchor(),
        Layout::HuggingFace.anchor()
    );
    if let Some(prefix) = &overrides.prefix {
        let place = |root: &String| match root.is_empty() {
            true => "without a prefix".into(),
            false => format!("below `{root}`"),
        };
        let there: Vec<String> = roots.iter().map(|(root, _)| place(root)).collect();
        return match there.is_empty() {
            true => format!("no CLIP is below --prefix {prefix}: {looked}"),
            false => format!(
                "no CLIP is below --prefix {prefix}, but one {}",
                there.join(", one ")
            ),
        };
    }
    let any = |part: &str| tensors.names().any(|n| n.contains(part));
    let what = if any("visual.trunk.") {
        "an image encoder of timm (`visual.trunk.…`: SigLIP, EVA-CLIP, MobileCLIP, ConvNeXt and others of open_clip)"
    } else if any("visual.layer1.0.") || any("visual.attnpool.") {
        "a ResNet image encoder (RN50 and its relatives)"
    } else if any("visual.patch_embed.") {
        "an image encoder of EVA-CLIP (`visual.patch_embed.…`)"
    } else if any("image_encoder.model.") {
        "an image encoder of MobileCLIP (`image_encoder.model.…`)"
    } else if any("lora_A.") || any("lora_down.") {
        "a LoRA adapter: merge it into its weights first"
    } else if any("ctx_pos") || any("prompts.normal") {
        "a prompt learner, which belongs to --prompts"
    } else if any("conv1.weight") && any("class_embedding") {
        "an image encoder alone, without the `visual.` that its tensors begin with in a whole CLIP"
    } else if any("embeddings.patch_embedding.") {
        "an image encoder alone, without the `vision_model.` that its tensors begin with in a whole CLIP"
    } else if any("text_model.") || any("transformer.resblocks.") || any("token_embedding.") {
        "a text encoder without an image encoder"
    } else {
        return format!("no CLIP with a ViT image encoder: {looked}; {SUPPORTED}");
    };
    format!("no CLIP with a ViT image encoder: {what}; {looked}; {SUPPORTED}")
}

/// What else a file with the right anchor may be.
fn other_kind(tensors: &Tensors, layout: Layout) -> Option<&'static str> {
    let any = |start: &str| tensors.names().any(|n| n.starts_with(start));
    match layout {
        Layout::OpenAi => {
            if any("visual.layer1.") || any("visual.attnpool.") {
                Some("a CLIP with a ResNet image encoder (RN50 and its relatives)")
            } else if any("text.") {
                Some(
                    "a CLIP with a custom text encoder (`text.…`: open_clip's CustomTextCLIP and CoCa)",
                )
            } else if !any("transformer.") && !any("token_embedding.") {
                Some("an image encoder without a text encoder")
            } else {
                None
            }
        }
        Layout::HuggingFace => {
            if any("vision_model.head.") || !any("vision_model.embeddings.class_embedding") {
                Some(
                    "an image encoder without a class token (SigLIP and its relatives), not a `CLIPModel`",
                )
            } else if !any("text_model.") {
                Some("an image encoder without a text encoder (`CLIPVisionModel`)")
            } else {
                None
            }
        }
    }
}

/// Tensors that no forward pass of the encoders uses: temperatures of the training loss, buffers that
/// older versions of the libraries saved, and what OpenAI's archives say of their own sizes.
const HARMLESS: [&str; 9] = [
    "logit_scale",
    "logit_bias",
    "attn_mask",
    "input_resolution",
    "context_length",
    "vocab_size",
    "text_model.embeddings.position_ids",
    "vision_model.embeddings.position_ids",
    "visual.input_resolution",
];

/// What this program's own checkpoints keep beside the weights.
const OWN: &str = "pretrain.";

/// Where training programs keep what is not weights.
const TRAINING: [&str; 12] = [
    "optimizer",
    "optimizers",
    "optimizer_states",
    "optimizer_state_dict",
    "optim",
    "scaler",
    "grad_scaler",
    "scheduler",
    "lr_scheduler",
    "lr_schedulers",
    "callbacks",
    "rng_state",
];

/// Why a tensor of this name matters, where that is known.
fn meaning(name: &str) -> Option<&'static str> {
    let known = [
        (".ls_1.", "layer scale"),
        (".ls_2.", "layer scale"),
        ("layer_scale", "layer scale"),
        ("attn_pool", "attention pooling"),
        (".ln_attn.", "a normalisation inside the attention"),
        ("q_norm", "normalised queries"),
        ("k_norm", "normalised keys"),
        ("patch_embedding.bias", "a bias of the patch embedding"),
        ("conv1.bias", "a bias of the patch embedding"),
        ("text_projection.bias", "a bias of the text projection"),
        ("lora_", "a LoRA adapter that was not merged"),
        ("text_decoder.", "CoCa's decoder"),
        ("cls_emb", "a class token of the text encoder"),
        ("classifier.", "a classification head"),
    ];
    known
        .iter()
        .find(|(part, _)| name.contains(part))
        .map(|(_, what)| *what)
}

/// Refuses tensors that nobody read and that are not known to be harmless; returns those that the user said
/// to ignore.
pub fn refuse_unread(
    tensors: &Tensors,
    outside: Vec<String>,
    overrides: &Overrides,
) -> Result<Vec<String>, TensorError> {
    let inside = tensors.unread().into_iter();
    let inside = inside.filter(|n| !HARMLESS.contains(&&**n) && !n.starts_with(OWN));
    let first = |n: &str| n.split('.').next().unwrap_or_default().to_string();
    let outside = outside
        .into_iter()
        .filter(|n| !TRAINING.contains(&&*first(n)) && !HARMLESS.contains(&&**n));
    let (ignored, refused): (Vec<_>, Vec<_>) =
        inside.chain(outside).partition(|n| overrides.ignores(n));
    if refused.is_empty() {
        return Ok(ignored);
    }
    const SHOWN: usize = 4;
    let mut shown: Vec<String> = refused
        .iter()
        .take(SHOWN)
        .map(|n| match meaning(n) {
            Some(what) => format!("`{n}` ({what})"),
            None => format!("`{n}`"),
        })
        .collect();
    if refused.len() > SHOWN {
        shown.push(format!("and {} more", refused.len() - SHOWN));
    }
    Err(TensorError::File(format!(
        "tensors that are no part of the network that this program runs: {}; without them it would compute something else (if you know that they do nothing: --ignore NAME, a name or its beginning)",
        shown.join(", ")
    )))
}
