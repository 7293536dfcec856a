//! What tensors do not say of their network: `config.json` of Hugging Face's and timm's folders, `preprocessor_config.json`.

use crate::bundle::manifest::Interpolation;
use crate::train::clip::Overrides;
use crate::train::tensors::TensorError;
use serde::Deserialize;
use std::path::Path;

/// What the configuration says.
#[derive(Debug, Default)]
pub struct Said {
    /// Whether there is a configuration at all.
    pub found: bool,
    pub heads: Option<usize>,
    pub epsilon: Option<f32>,
    pub mean: Option<[f32; 3]>,
    pub std: Option<[f32; 3]>,
    pub interpolation: Option<Interpolation>,
}

/// `config.json`, of either library.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    model_type: Option<String>,
    num_attention_heads: Option<usize>,
    layer_norm_eps: Option<f32>,
    hidden_act: Option<String>,
    use_swiglu_ffn: bool,
    architecture: Option<String>,
    pretrained_cfg: Pretrained,
    model_args: serde_json::Map<String, serde_json::Value>,
}

/// The keys of timm's `config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Pretrained {
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    interpolation: Option<String>,
}

/// The keys of Hugging Face's `config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Preprocessor {
    pub image_mean: Option<[f32; 3]>,
    pub image_std: Option<[f32; 3]>,
    /// PIL's number: 2 bilinear, 3 bicubic.
    resample: Option<u64>,
}

impl Preprocessor {
    /// How pictures are resized, where it is one of ours.
    pub fn interpolation(&self) -> Option<Interpolation> {
        match self.resample {
            Some(2) => Some(Interpolation::Bilinear),
            Some(3) => Some(Interpolation::Bicubic),
            _ => None,
        }
    }
}

/// What a JSON file says; `None` if there is no such file.
pub fn parse<T: for<'a> Deserialize<'a> + Default>(path: &Path) -> Result<Option<T>, TensorError> {
    if !path.is_file() {
        return Ok(None);
    }
    let wrong = |e: &dyn std::fmt::Display| TensorError::File(format!("{}: {e}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| wrong(&e))?;
    let mut reader = serde_json::Deserializer::from_str(text.trim_start_matches('\u{feff}'));
    serde_path_to_error::deserialize(&mut reader)
        .map(Some)
        .map_err(|e| wrong(&e))
}

impl Said {
    /// What lies beside the weight file, or what the user names instead.
    pub fn beside(file: &Path, overrides: &Overrides) -> Result<Said, TensorError> {
        Said::read(file, overrides, true)
    }

    /// The same of any network: only what becomes of pictures counts.
    pub fn of_pictures(file: &Path, overrides: &Overrides) -> Result<Said, TensorError> {
        Said::read(file, overrides, false)
    }

    fn read(file: &Path, overrides: &Overrides, refuse: bool) -> Result<Said, TensorError> {
        let folder = file.parent().unwrap_or(Path::new("."));
        let path = overrides.config.clone();
        let path = path.unwrap_or_else(|| folder.join("config.json"));
        if overrides.config.is_some() && !path.is_file() {
            let what = format!("{}: no such file", path.display());
            return Err(TensorError::File(what));
        }
        let config = match parse::<Config>(&path)? {
            Some(config) => config,
            None if refuse => return Ok(Said::default()),
            None => Config::default(),
        };
        if refuse {
            config.refuse_others(overrides)?;
        }
        let hub = parse::<Preprocessor>(&folder.join("preprocessor_config.json"))?;
        let hub = hub.unwrap_or_default();
        let timm = config.pretrained_cfg;
        let named = match timm.interpolation.as_deref() {
            Some("bicubic") => Some(Interpolation::Bicubic),
            Some("bilinear") => Some(Interpolation::Bilinear),
            _ => None,
        };
        Ok(Said {
            found: true,
            heads: config.num_attention_heads,
            epsilon: config.layer_norm_eps,
            mean: hub.image_mean.or(timm.mean),
            std: hub.image_std.or(timm.std),
            interpolation: hub.interpolation().or(named),
        })
    }
}

impl Config {
    /// Refuses what would be another network.
    fn refuse_others(&self, overrides: &Overrides) -> Result<(), TensorError> {
        let mut odd = vec![];
        if let Some(kind) = &self.model_type
            && !["dinov2", "dinov2_with_registers", "vit"].contains(&&**kind)
        {
            let why = match kind.as_str() {
                "dinov3_vit" => ": DINOv3, whose positions rotate queries and keys",
                _ => ": neither DINOv2 nor a ViT",
            };
            odd.push(("model_type", format!("`model_type` = {kind}{why}")));
        }
        if let Some(act) = &self.hidden_act
            && act != "gelu"
        {
            let what = format!("`hidden_act` = {act}: another activation than exact GELU");
            odd.push(("hidden_act", what));
        }
        if self.use_swiglu_ffn {
            let what = "`use_swiglu_ffn`: gated MLPs (DINOv2's giant)".into();
            odd.push(("use_swiglu_ffn", what));
        }
        if let Some(name) = &self.architecture
            && ["dinov3", "eva", "deit3", "beit"]
                .iter()
                .any(|n| name.contains(n))
        {
            let what = format!("`architecture` = {name}: another network than a plain ViT");
            odd.push(("architecture", what));
        }
        for key in self.model_args.keys() {
            if [
                "act_layer",
                "norm_layer",
                "mlp_layer",
                "block_fn",
                "qk_norm",
            ]
            .contains(&&**key)
            {
                odd.push(("model_args", format!("`model_args.{key}`: another network")));
            }
        }
        odd.retain(|(key, _)| !overrides.ignores(key));
        match odd.first() {
            None => Ok(()),
            Some((_, what)) => Err(TensorError::File(what.clone())),
        }
    }
}
