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
    /// Keys of sizes that the tensors tell too: the channels of the tokens, and the number of blocks.
    pub sizes: [(&'static str, Option<usize>); 2],
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
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
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
    do_normalize: Option<bool>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
}

impl Preprocessor {
    /// Refuses pixels of another range than 0..=1.
    fn refuse_other_ranges(&self, overrides: &Overrides) -> Result<(), TensorError> {
        let odd = match (self.do_rescale, self.rescale_factor) {
            (Some(false), _) if !overrides.ignores("do_rescale") => {
                "`do_rescale` = false: only pixels of 0..1 are supported".to_string()
            }
            (_, Some(factor))
                if (factor * 255.0 - 1.0).abs() > 1e-3 && !overrides.ignores("rescale_factor") =>
            {
                format!("`rescale_factor` = {factor}: only 1 / 255 is supported")
            }
            _ => return Ok(()),
        };
        let what = format!("preprocessor_config.json: {odd}");
        Err(TensorError::File(what))
    }

    /// Mean and deviation: what it says, or none at all where nothing is normalised.
    fn normalisation(&self) -> (Option<[f32; 3]>, Option<[f32; 3]>) {
        match self.do_normalize {
            Some(false) => (Some([0.0; 3]), Some([1.0; 3])),
            _ => (self.image_mean, self.image_std),
        }
    }

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
    /// Refuses a configuration of other weights than those with tokens of `width` channels and so many blocks.
    pub fn refuse_other_weights(&self, width: usize, blocks: usize) -> Result<(), TensorError> {
        for ((key, said), own) in self.sizes.iter().zip([width, blocks]) {
            if let Some(said) = said.filter(|said| *said != own) {
                let what = format!(
                    "config.json: `{key}` = {said}, but the tensors have {own}: it belongs to other weights (--config names another file)"
                );
                return Err(TensorError::File(what));
            }
        }
        Ok(())
    }

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
        hub.refuse_other_ranges(overrides)?;
        let (mean, std) = hub.normalisation();
        let timm = config.pretrained_cfg;
        let named = match timm.interpolation.as_deref() {
            Some("bicubic") => Some(Interpolation::Bicubic),
            Some("bilinear") => Some(Interpolation::Bilinear),
            _ => None,
        };
        Ok(Said {
            found: true,
            heads: config.num_attention_heads,
            sizes: [
                ("hidden_size", config.hidden_size),
                ("num_hidden_layers", config.num_hidden_layers),
            ],
            epsilon: config.layer_norm_eps,
            mean: mean.or(timm.mean),
            std: std.or(timm.std),
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
