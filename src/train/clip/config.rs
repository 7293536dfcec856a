//! What tensors do not tell: who says it, and what is assumed where nobody does.

mod hugging_face;
mod open_clip;
mod section;

use super::layout::Layout;
use super::{Network, Preprocess, Text, Visual};
use crate::bundle::manifest::{ActivationKind, Interpolation};
use crate::ops::layer_norm::EPSILON;
use crate::train::tensors::store::Store;
use crate::train::tensors::{TensorError, Tensors, VV_LAYERS};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

/// Tokens of CLIP's own tokenizer, the only one that this program has.
pub const VOCABULARY: usize = 49408;

/// Key of the [`Network`] in the metadata of this program's own files, JSON.
const NETWORK: &str = "faprompt.network";

/// SHA-256 of the ViTs that OpenAI published (the addresses in openai/CLIP's `clip.py` hold them).
const OPENAI: [&str; 4] = [
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
];

/// What the user says of weights: it counts before every configuration.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The configuration to read instead of the one beside the weights.
    pub config: Option<PathBuf>,
    /// Where in the file the CLIP is, if it holds several.
    pub prefix: Option<String>,
    /// The MLPs' activation.
    pub activation: Option<ActivationKind>,
    /// Attention heads of the image and of the text encoder.
    pub heads: Option<[usize; 2]>,
    /// Added to the variance in normalisations.
    pub epsilon: Option<f32>,
    /// Means of R, G and B, 0..=1.
    pub mean: Option<[f32; 3]>,
    /// Standard deviations of the same.
    pub std: Option<[f32; 3]>,
    /// How frames are resized.
    pub interpolation: Option<Interpolation>,
    /// Keys of the configuration, and tensors (names or their beginnings), that change nothing.
    pub ignore: Vec<String>,
}

impl Overrides {
    /// Whether the user said that this key or tensor changes nothing.
    pub fn ignores(&self, name: &str) -> bool {
        let is = |i: &String| {
            let last = name.rsplit('.').next();
            name == i || name.starts_with(&format!("{i}.")) || last == Some(i)
        };
        self.ignore.iter().any(is)
    }
}

/// What the tensors say for themselves, and a configuration repeats. Sizes that do not tell networks apart
/// (a picture's side, a vocabulary that was cut) are the tensors' alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    ImageWidth,
    ImageLayers,
    Patch,
    TextWidth,
    TextLayers,
    Embed,
}

impl Size {
    /// The size in the tensors.
    fn of(self, visual: &Visual, text: &Text) -> usize {
        match self {
            Size::ImageWidth => visual.width,
            Size::ImageLayers => visual.blocks.len(),
            Size::Patch => visual.patch,
            Size::TextWidth => text.width,
            Size::TextLayers => text.blocks.len(),
            Size::Embed => text.projection.nrows(),
        }
    }
}

/// How many attention heads there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heads {
    Count(usize),
    /// Channels of each.
    Width(usize),
}

/// What one configuration says.
#[derive(Clone, Debug, Default)]
struct Facts {
    activation: Option<ActivationKind>,
    heads: [Option<Heads>; 2],
    epsilon: [Option<f32>; 2],
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    interpolation: Option<Interpolation>,
    /// Sizes with the keys that say them.
    sizes: Vec<(String, Size, usize)>,
    /// Whatever makes it another network than this program runs.
    refused: Vec<String>,
    /// Keys that the user said to ignore.
    ignored: Vec<String>,
    /// What the user may want to know.
    notes: Vec<String>,
}

/// Something that nobody said.
#[derive(Clone, Debug, PartialEq)]
pub enum Assumption {
    /// OpenAI's activation.
    Activation,
    /// So many heads of 64 channels.
    Heads([usize; 2]),
    /// PyTorch's epsilon.
    Epsilon,
    /// OpenAI's mean and deviation.
    Normalisation,
}

impl Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Assumption::Activation => write!(f, "QuickGELU (--activation)"),
            Assumption::Heads([image, text]) => {
                write!(f, "{image} and {text} heads of 64 channels (--heads)")
            }
            Assumption::Epsilon => write!(f, "epsilon 1e-5 (--epsilon)"),
            Assumption::Normalisation => {
                write!(f, "OpenAI's mean and deviation (--mean, --std)")
            }
        }
    }
}

/// What is known of a network beside its tensors.
pub struct Known {
    facts: Facts,
    /// Where it was read, if anywhere.
    source: Option<PathBuf>,
    /// Whether a configuration that contradicts the tensors is another network's, or a mistake.
    strict: bool,
    layout: Layout,
    /// Sentences for the user.
    pub notes: Vec<String>,
    /// Keys that the user said to ignore.
    pub ignored: Vec<String>,
}

fn file_error(path: &Path, e: impl Display) -> TensorError {
    TensorError::File(format!("{}: {e}", path.display()))
}

/// A JSON object in a file; `None` if there is no such file.
fn object(path: &Path) -> Result<Option<Map<String, Value>>, TensorError> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(|e| file_error(path, e))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    match serde_json::from_str(text).map_err(|e| file_error(path, e))? {
        Value::Object(map) => Ok(Some(map)),
        _ => Err(file_error(path, "no JSON object")),
    }
}

/// Whose configuration an object is.
fn whose(map: &Map<String, Value>) -> Option<Layout> {
    let has = |key: &str| map.contains_key(key);
    if has("model_cfg") || (has("vision_cfg") && has("text_cfg")) {
        Some(Layout::OpenAi)
    } else if [
        "model_type",
        "vision_config",
        "vision_config_dict",
        "text_config",
    ]
    .iter()
    .any(|k| has(k))
    {
        Some(Layout::HuggingFace)
    } else {
        None
    }
}

/// Reads a configuration of either kind; its normalisation may lie in a file of its own beside it.
fn facts(
    path: &Path,
    map: Map<String, Value>,
    layout: Layout,
    overrides: &Overrides,
) -> Result<Facts, TensorError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    match layout {
        Layout::OpenAi => Ok(open_clip::facts(path, map, overrides)),
        Layout::HuggingFace => hugging_face::facts(path, folder, map, overrides),
    }
}

impl Known {
    /// Looks for what is said of the weights in `file`, of which `folder` tells whether the user named the
    /// folder and not the file.
    pub fn of(
        tensors: &Tensors,
        file: &Path,
        digest: &str,
        layout: Layout,
        folder: bool,
        overrides: &Overrides,
    ) -> Result<Known, TensorError> {
        let mut known = Known::said(tensors, file, digest, layout, folder, overrides)?;
        let computed = tensors.computed().unwrap_or_default();
        if let (Some(what), None) = (computed.refused, overrides.activation) {
            return Err(TensorError::File(format!(
                "{what}: this program runs QuickGELU and exact GELU (--activation takes one of them all the same)"
            )));
        }
        let said = known.facts.activation;
        if said.is_some() && computed.activation.is_some() && said != computed.activation {
            known.notes.push(format!(
                "its configuration says {said:?}, but its graph computes {:?}: the graph counts",
                computed.activation
            ));
        }
        known.facts.activation = computed.activation.or(said);
        if computed.epsilon.iter().all(Option::is_some) {
            known.facts.epsilon = computed.epsilon;
        }
        Ok(known)
    }

    /// The same without what a graph says.
    fn said(
        tensors: &Tensors,
        file: &Path,
        digest: &str,
        layout: Layout,
        folder: bool,
        overrides: &Overrides,
    ) -> Result<Known, TensorError> {
        let mut known = Known {
            facts: Facts::default(),
            source: None,
            strict: folder || overrides.config.is_some(),
            layout,
            notes: vec![],
            ignored: vec![],
        };
        if let Some(network) = own(tensors)? {
            known.facts = network;
            return Ok(known);
        }
        let Some((path, map, whose)) = configuration(file, layout, overrides)? else {
            // OpenAI's scripted archives are nobody else's format.
            if OPENAI.contains(&digest) || (tensors.is_scripted() && layout == Layout::OpenAi) {
                known.facts = openai();
            } else {
                known.facts = normalisation_beside(file)?;
            }
            return Ok(known);
        };
        let mut facts = facts(&path, map, whose, overrides)?;
        if facts.mean.is_none() {
            let beside = normalisation_beside(file)?;
            (facts.mean, facts.std) = (beside.mean, beside.std);
            facts.interpolation = facts.interpolation.or(beside.interpolation);
        }
        if !facts.refused.is_empty() {
            return Err(TensorError::File(format!(
                "{} says what this program does not run: {}",
                path.display(),
                facts.refused.join("; ")
            )));
        }
        if whose != layout {
            known.notes.push(format!(
                "{}: the only configuration beside the weights, though of the other layout",
                path.display()
            ));
        }
        known.notes.append(&mut facts.notes);
        known.ignored.append(&mut facts.ignored);
        (known.facts, known.source) = (facts, Some(path));
        Ok(known)
    }

    /// The network, and what had to be assumed.
    pub fn resolve(
        &mut self,
        visual: &Visual,
        text: &Text,
        overrides: &Overrides,
    ) -> Result<(Network, Vec<Assumption>), TensorError> {
        let said = match self.contradictions(visual, text) {
            Some(what) if self.strict => return Err(TensorError::File(what)),
            Some(what) => {
                // Another network's configuration lies beside a file that was named: it says nothing of this.
                self.notes.push(what);
                self.source = None;
                Facts::default()
            }
            None => self.facts.clone(),
        };
        let mut assumed = vec![];
        let activation = overrides.activation.or(said.activation);
        if activation.is_none() {
            assumed.push(Assumption::Activation);
        }
        let widths = [visual.width, text.width];
        let mut heads = widths.map(|w| (w / 64).max(1));
        if let Some(given) = overrides.heads {
            heads = given;
        } else if let [Some(image), Some(text)] = said.heads {
            for (i, said) in [image, text].into_iter().enumerate() {
                heads[i] = match said {
                    Heads::Count(n) => n,
                    Heads::Width(w) => (widths[i] / w.max(1)).max(1),
                };
            }
        } else {
            assumed.push(Assumption::Heads(heads));
        }
        for ((width, heads), tower) in widths.iter().zip(heads).zip(["image", "text"]) {
            if heads == 0 || !width.is_multiple_of(heads) {
                return Err(TensorError::File(format!(
                    "the {tower} encoder is {width} wide, which is no multiple of {heads} heads"
                )));
            }
        }
        let mut epsilon = [EPSILON; 2];
        if let Some(given) = overrides.epsilon {
            epsilon = [given; 2];
        } else if let [Some(image), Some(text)] = said.epsilon {
            epsilon = [image, text];
        } else {
            assumed.push(Assumption::Epsilon);
        }
        let usual = Preprocess::default();
        let (mean, std) = (overrides.mean.or(said.mean), overrides.std.or(said.std));
        if mean.is_none() || std.is_none() {
            assumed.push(Assumption::Normalisation);
        }
        let network = Network {
            activation: activation.unwrap_or_default(),
            heads,
            epsilon,
            preprocess: Preprocess {
                mean: mean.unwrap_or(usual.mean),
                std: std.unwrap_or(usual.std),
                interpolation: overrides
                    .interpolation
                    .or(said.interpolation)
                    .unwrap_or_default(),
            },
        };
        Ok((network, assumed))
    }

    /// What the configuration says of sizes that the tensors have otherwise.
    fn contradictions(&self, visual: &Visual, text: &Text) -> Option<String> {
        let wrong = self.facts.sizes.iter().filter_map(|(key, size, said)| {
            let found = size.of(visual, text);
            (found != *said).then(|| format!("{key} = {said}, but the tensors have {found}"))
        });
        let wrong: Vec<String> = wrong.collect();
        let source = self.source.as_deref().unwrap_or(Path::new(""));
        (!wrong.is_empty()).then(|| {
            format!(
                "{} is the configuration of other weights: {}",
                source.display(),
                wrong.join("; ")
            )
        })
    }

    /// The sentence that tells the user what was assumed, if anything was.
    pub fn about(&self, assumed: &[Assumption]) -> Option<String> {
        if assumed.is_empty() {
            return None;
        }
        let each: Vec<String> = assumed.iter().map(Assumption::to_string).collect();
        let why = match (&self.source, self.layout) {
            (Some(path), _) => format!("{} does not say everything", path.display()),
            (None, Layout::OpenAi) => {
                "no configuration of these weights was found (open_clip_config.json, or a .json file of the weights' name, beside them; or --clip-config)".into()
            }
            (None, Layout::HuggingFace) => {
                "no configuration of these weights was found (config.json beside them, or --clip-config)".into()
            }
        };
        Some(format!("{why}: assumed {}", each.join(", ")))
    }
}

/// What OpenAI's own CLIPs are.
fn openai() -> Facts {
    let usual = Preprocess::default();
    Facts {
        activation: Some(ActivationKind::QuickGelu),
        heads: [Some(Heads::Width(64)); 2],
        epsilon: [Some(EPSILON); 2],
        mean: Some(usual.mean),
        std: Some(usual.std),
        interpolation: Some(usual.interpolation),
        ..Facts::default()
    }
}

/// What this program wrote into its own file; its older files do not say, and are OpenAI's in everything.
fn own(tensors: &Tensors) -> Result<Option<Facts>, TensorError> {
    if let Some(text) = tensors.note(NETWORK) {
        let network: Network = serde_json::from_str(text)
            .map_err(|e| TensorError::File(format!("metadata `{NETWORK}`: {e}")))?;
        return Ok(Some(Facts {
            activation: Some(network.activation),
            heads: network.heads.map(|n| Some(Heads::Count(n))),
            epsilon: network.epsilon.map(Some),
            mean: Some(network.preprocess.mean),
            std: Some(network.preprocess.std),
            interpolation: Some(network.preprocess.interpolation),
            ..Facts::default()
        }));
    }
    let own = tensors.is_untrained() || tensors.note(VV_LAYERS).is_some();
    Ok(own.then(openai))
}

/// Writes a network into the metadata of a file of this program.
pub fn note(network: &Network, store: &mut Store) {
    let text = serde_json::to_string(network).expect("numbers and names");
    store.note(NETWORK, text);
}

/// A configuration's file, its contents, and whose it is.
type Found = (PathBuf, Map<String, Value>, Layout);

/// The configuration of the weights in `file`: the one that the user names, the one that bears the file's
/// name, the one of the tensors' layout, or, if it is the only one, that of the other layout.
fn configuration(
    file: &Path,
    layout: Layout,
    overrides: &Overrides,
) -> Result<Option<Found>, TensorError> {
    if let Some(path) = &overrides.config {
        let map = object(path)?.ok_or_else(|| file_error(path, "no such file"))?;
        let whose = whose(&map).ok_or_else(|| {
            file_error(
                path,
                "neither open_clip's configuration (model_cfg, or vision_cfg and text_cfg) nor Hugging Face's (vision_config, text_config)",
            )
        })?;
        return Ok(Some((path.clone(), map, whose)));
    }
    let named = |name: &str| file.with_file_name(name);
    let both = [
        (named("open_clip_config.json"), Layout::OpenAi),
        (named("config.json"), Layout::HuggingFace),
    ];
    let (own, other): (Vec<_>, Vec<_>) = both.into_iter().partition(|(_, l)| *l == layout);
    let paths = [(file.with_extension("json"), layout)];
    for (path, wanted) in paths.into_iter().chain(own).chain(other) {
        if let Some(map) = object(&path)?
            && whose(&map) == Some(wanted)
        {
            return Ok(Some((path, map, wanted)));
        }
    }
    Ok(None)
}

/// The normalisation in any of the files beside weights whose own configuration has none: it belongs to
/// the model, whatever its tensors are called.
fn normalisation_beside(file: &Path) -> Result<Facts, TensorError> {
    let mut facts = Facts::default();
    let path = file.with_file_name("open_clip_config.json");
    if let Some(Value::Object(map)) = object(&path)?.and_then(|mut m| m.remove("preprocess_cfg")) {
        open_clip::preprocess(&path, map, &mut facts);
        return Ok(facts);
    }
    hugging_face::preprocess(file.parent().unwrap_or(Path::new("")), &mut facts)?;
    Ok(facts)
}

/// Three numbers.
fn three(value: &Value) -> Option<[f32; 3]> {
    let numbers: Vec<f32> = value
        .as_array()?
        .iter()
        .map(|v| v.as_f64().map(|v| v as f32))
        .collect::<Option<_>>()?;
    let three: [f32; 3] = numbers.try_into().ok()?;
    three.iter().all(|v| v.is_finite()).then_some(three)
}

/// Sorted, for messages that are the same every time.
fn left(map: Map<String, Value>) -> BTreeMap<String, Value> {
    map.into_iter().filter(|(_, v)| !v.is_null()).collect()
}
