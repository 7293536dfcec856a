//! What was learned, from files: the published codes' checkpoints, and this program's own.
//!
//! Names are the published ones, below whatever their code wraps them in (`prompt_learner.`,
//! `trainable_linearlayer.`, `state_dict.`).

use crate::bundle::method::Method;
use crate::train::TrainError;
use crate::train::clip::{Clip, Dense};
use crate::train::fit;
use crate::train::methods::weights::Weights;
use crate::train::pull;
use crate::train::tensors::store::Store;
use crate::train::tensors::{TensorError, Tensors};
use ndarray::{Array1, Array2, Array3, s};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Key of the record in the metadata of this program's own files.
pub const RECORD: &str = "faprompt.method";

/// What this program's own file says of who learned it.
#[derive(Deserialize)]
struct Whose {
    method: Method,
}

/// Refuses a file whose record names another method: what it lacks would be called missing, as if it were damaged.
fn refuse_others(t: &Tensors, method: Method) -> Result<(), TensorError> {
    let own = t.note(RECORD);
    // A record that cannot be read is reported by whoever needs more of it.
    let whose = own.and_then(|text| serde_json::from_str::<Whose>(text).ok());
    // AnomalyCLIP's two prompts may be FAPrompt's own variant of them, under its names.
    let faprompts = t.note(fit::checkpoint::RECORD).is_some() && method != Method::Anomalyclip;
    let other = match whose {
        Some(whose) if whose.method != method => whose.method,
        _ if faprompts => Method::Faprompt,
        _ => return Ok(()),
    };
    Err(TensorError::File(format!(
        "it was learned by --method {other}, and --method {method} is asked for"
    )))
}

/// A checkpoint.
pub struct Learned {
    /// Where it was read.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub digest: String,
    /// Whether the file says that its numbers were never trained.
    pub untrained: bool,
    /// What this program learned it with, JSON; only in its own files.
    pub record: Option<String>,
    /// The numbers.
    pub numbers: Numbers,
}

/// The numbers of a checkpoint.
pub enum Numbers {
    /// AnomalyCLIP: two prompts that every picture shares.
    Prompts {
        /// V, the learned tokens of the normal prompt, [n, C].
        normal: Array2<f32>,
        /// W, the learned tokens of the abnormal prompt, [n, C].
        abnormal: Array2<f32>,
        /// Overwrite positions 1..=t before text blocks 2, 3, ...: [t, C] each.
        deep: Vec<Array2<f32>>,
    },
    /// CoOp and CoCoOp: a learned context.
    Context {
        /// Of the normal and of the abnormal prompt, the same twice unless each has its own: [2, n, C].
        context: Array3<f32>,
        /// CoCoOp's network: C to hidden, hidden to C.
        network: Option<(Dense, Dense)>,
    },
    /// APRIL-GAN's layers, [C, width] each.
    Linear(Vec<Dense>),
    /// DAPO: several prompts, and tokens in both encoders.
    Dapo {
        /// V, [E, l, C].
        normal: Array3<f32>,
        /// W, [E, l, C].
        abnormal: Array3<f32>,
        /// Overwrite positions 1..=t before text blocks 2, 3, ...: [t, C] each.
        deep: Vec<Array2<f32>>,
        /// Rows of each image block, [t, width] each.
        visual: Vec<Array2<f32>>,
        /// A layer per stage, [C, width] each.
        adapters: Vec<Dense>,
    },
    /// Pairs of vectors per stage.
    Heads {
        /// [stages, 2, C]: normal, abnormal.
        patch: Array3<f32>,
        /// The same for the class row.
        image: Array3<f32>,
    },
}

impl Numbers {
    /// Under the names that [`Learned::load`] reads.
    pub fn stored(&self) -> Store {
        let mut store = Store::default();
        let mut layer = |name: String, layer: &Dense| {
            store.array(format!("{name}.weight"), &layer.weight);
            store.array(format!("{name}.bias"), &layer.bias);
        };
        match self {
            Numbers::Context {
                network: Some((fc1, fc2)),
                ..
            } => {
                layer("meta_net.linear1".into(), fc1);
                layer("meta_net.linear2".into(), fc2);
            }
            Numbers::Linear(all) => {
                let numbered = all.iter().enumerate();
                numbered.for_each(|(i, l)| layer(format!("fc.{i}"), l));
            }
            Numbers::Dapo { adapters, .. } => {
                let numbered = adapters.iter().enumerate();
                numbered.for_each(|(i, l)| layer(format!("dapo.adapter.{i}"), l));
            }
            Numbers::Context { .. } | Numbers::Prompts { .. } | Numbers::Heads { .. } => (),
        }
        match self {
            Numbers::Prompts {
                normal,
                abnormal,
                deep,
            } => {
                store.array("ctx_pos", normal);
                store.array("ctx_neg", abnormal);
                for (i, rows) in deep.iter().enumerate() {
                    store.array(format!("compound_prompts_text.{i}"), rows);
                }
            }
            Numbers::Context { context, .. } => store.array("ctx", context),
            Numbers::Dapo {
                normal,
                abnormal,
                deep,
                visual,
                ..
            } => {
                store.array("dapo.normal", normal);
                store.array("dapo.abnormal", abnormal);
                for (name, all) in [("deep", deep), ("visual", visual)] {
                    for (i, rows) in all.iter().enumerate() {
                        store.array(format!("dapo.{name}.{i}"), rows);
                    }
                }
            }
            Numbers::Heads { patch, image } => {
                store.array("heads.patch", patch);
                store.array("heads.image", image);
            }
            Numbers::Linear(_) => (),
        }
        store
    }
}

/// The first name that is there.
fn first<'a>(t: &Tensors, names: &[&'a str]) -> Result<&'a str, TensorError> {
    let found = names.iter().find(|n| t.has(n));
    found
        .copied()
        .ok_or_else(|| TensorError::Missing(names[0].into()))
}

/// A tensor of `rank` axes, leading ones of length 1 dropped.
fn squeezed(t: &Tensors, name: &str, rank: usize) -> Result<ndarray::ArrayD<f32>, TensorError> {
    let array = t.array(name)?;
    let found = array.shape().to_vec();
    let mut shape = found.clone();
    while shape.len() > rank && shape.first() == Some(&1) {
        shape.remove(0);
    }
    if shape.len() != rank || shape.contains(&0) {
        return Err(TensorError::Shape {
            name: name.into(),
            found,
            wanted: format!("{rank} axes that are not empty"),
        });
    }
    Ok(array
        .into_shape_with_order(shape)
        .expect("the same number of elements"))
}

/// Rows of the text encoder's width.
fn tokens(t: &Tensors, name: &str, width: usize) -> Result<Array2<f32>, TensorError> {
    let rows: Array2<f32> = squeezed(t, name, 2)?
        .into_dimensionality()
        .expect("two axes");
    match rows.ncols() == width {
        true => Ok(rows),
        false => Err(TensorError::Shape {
            name: name.into(),
            found: rows.shape().to_vec(),
            wanted: format!("[.., {width}] (the text encoder's width)"),
        }),
    }
}

fn dense(t: &Tensors, name: &str) -> Result<Dense, TensorError> {
    let weight = t.matrix(&format!("{name}.weight"), None, None)?;
    let bias = t.vector(&format!("{name}.bias"), weight.nrows())?;
    Ok(Dense { weight, bias })
}

fn prompts(t: &Tensors, clip: &Clip) -> Result<Numbers, TensorError> {
    let width = clip.text.width;
    let stem = ["compound_prompts_text.", "prompts.deep.", "deep."]
        .into_iter()
        .find(|s| t.has(&format!("{s}0")))
        .unwrap_or("compound_prompts_text.");
    let deep = (0..t.count(stem, "")?)
        .map(|i| tokens(t, &format!("{stem}{i}"), width))
        .collect::<Result<Vec<_>, _>>()?;
    if deep.len() >= clip.text.blocks.len() {
        return Err(TensorError::File(format!(
            "{} deep prompts for a text encoder of {} blocks",
            deep.len(),
            clip.text.blocks.len()
        )));
    }
    let normal = tokens(t, first(t, &["ctx_pos", "prompts.normal"])?, width)?;
    let abnormal = tokens(t, first(t, &["ctx_neg", "prompts.abnormal"])?, width)?;
    // Start token, learned tokens, at least one word, end token.
    let shortest = 3 + normal.nrows().min(abnormal.nrows());
    if let Some(long) = deep.iter().find(|d| d.nrows() + 2 > shortest) {
        return Err(TensorError::File(format!(
            "deep prompts of {} tokens in prompts of {shortest}",
            long.nrows()
        )));
    }
    Ok(Numbers::Prompts {
        normal,
        abnormal,
        deep,
    })
}

fn context(t: &Tensors, clip: &Clip, network: bool) -> Result<Numbers, TensorError> {
    let width = clip.text.width;
    let name = "ctx";
    let context = match t.shape(name)? {
        [2, n, c] if *c == width && *n > 0 => squeezed(t, name, 3)?
            .into_dimensionality()
            .expect("three axes"),
        _ => {
            let rows = tokens(t, name, width)?;
            let mut both = Array3::zeros((2, rows.nrows(), width));
            both.outer_iter_mut().for_each(|mut b| b.assign(&rows));
            both
        }
    };
    let network = match network {
        false => None,
        true => {
            let (fc1, fc2) = (dense(t, "meta_net.linear1")?, dense(t, "meta_net.linear2")?);
            if fc1.weight.ncols() != width || fc2.weight.dim() != (width, fc1.weight.nrows()) {
                return Err(TensorError::Shape {
                    name: "meta_net".into(),
                    found: fc1.weight.shape().to_vec(),
                    wanted: format!("two layers from {width} to {width}"),
                });
            }
            Some((fc1, fc2))
        }
    };
    Ok(Numbers::Context { context, network })
}

fn linear(t: &Tensors, clip: &Clip) -> Result<Numbers, TensorError> {
    let stem = ["fc.", "linear."]
        .into_iter()
        .find(|s| t.has(&format!("{s}0.weight")))
        .unwrap_or("fc.");
    let count = t.count(stem, ".weight")?;
    if count == 0 {
        return Err(TensorError::Missing("fc.0.weight".into()));
    }
    let wanted = (clip.text.width, clip.visual.width);
    let layers = (0..count)
        .map(|i| {
            let layer = dense(t, &format!("{stem}{i}"))?;
            match layer.weight.dim() == wanted {
                true => Ok(layer),
                false => Err(TensorError::Shape {
                    name: format!("{stem}{i}.weight"),
                    found: layer.weight.shape().to_vec(),
                    wanted: format!("[{}, {}], as the weights have it", wanted.0, wanted.1),
                }),
            }
        })
        .collect::<Result<_, _>>()?;
    Ok(Numbers::Linear(layers))
}

fn dapo(t: &Tensors, clip: &Clip) -> Result<Numbers, TensorError> {
    let cube = |name: &str| -> Result<Array3<f32>, TensorError> {
        let cube: Array3<f32> = squeezed(t, name, 3)?
            .into_dimensionality()
            .expect("three axes");
        match cube.len_of(ndarray::Axis(2)) == clip.text.width {
            true => Ok(cube),
            false => Err(TensorError::Shape {
                name: name.into(),
                found: cube.shape().to_vec(),
                wanted: format!("[E, l, {}] (the text encoder's width)", clip.text.width),
            }),
        }
    };
    let (normal, abnormal) = (cube("dapo.normal")?, cube("dapo.abnormal")?);
    if normal.dim() != abnormal.dim() {
        return Err(TensorError::File(format!(
            "normal prompts of {:?} and abnormal ones of {:?}",
            normal.dim(),
            abnormal.dim()
        )));
    }
    let all = |stem: &str, width: usize| -> Result<Vec<Array2<f32>>, TensorError> {
        (0..t.count(stem, "")?)
            .map(|i| tokens(t, &format!("{stem}{i}"), width))
            .collect()
    };
    let (text, image) = (clip.text.width, clip.visual.width);
    let deep = all("dapo.deep.", text)?;
    let visual = all("dapo.visual.", image)?;
    if deep.len() >= clip.text.blocks.len() || visual.len() != clip.visual.blocks.len() {
        return Err(TensorError::File(format!(
            "{} deep and {} visual prompts for encoders of {} and {} blocks",
            deep.len(),
            visual.len(),
            clip.text.blocks.len(),
            clip.visual.blocks.len()
        )));
    }
    let rows = |all: &[Array2<f32>]| all.iter().map(|d| d.nrows()).collect::<Vec<_>>();
    let (longest, first) = (normal.len_of(ndarray::Axis(1)), rows(&visual));
    if rows(&deep).iter().any(|n| *n > longest) || first.iter().any(|n| *n != first[0]) {
        return Err(TensorError::File(
            "deep prompts longer than learned tokens, or visual ones of different lengths".into(),
        ));
    }
    let count = t.count("dapo.adapter.", ".weight")?;
    let adapters = (0..count)
        .map(|i| {
            let layer = dense(t, &format!("dapo.adapter.{i}"))?;
            match layer.weight.dim() == (text, image) {
                true => Ok(layer),
                false => Err(TensorError::Shape {
                    name: format!("dapo.adapter.{i}.weight"),
                    found: layer.weight.shape().to_vec(),
                    wanted: format!("[{text}, {image}]"),
                }),
            }
        })
        .collect::<Result<_, _>>()?;
    Ok(Numbers::Dapo {
        normal,
        abnormal,
        deep,
        visual,
        adapters,
    })
}

fn heads(t: &Tensors, width: usize) -> Result<Numbers, TensorError> {
    let cube = |name: &str| -> Result<Array3<f32>, TensorError> {
        let cube: Array3<f32> = squeezed(t, name, 3)?
            .into_dimensionality()
            .expect("three axes");
        match cube.shape()[1..] == [2, width] {
            true => Ok(cube),
            false => Err(TensorError::Shape {
                name: name.into(),
                found: cube.shape().to_vec(),
                wanted: format!("[stages, 2, {width}]"),
            }),
        }
    };
    Ok(Numbers::Heads {
        patch: cube("heads.patch")?,
        image: cube("heads.image")?,
    })
}

impl Learned {
    /// Reads what `method` learned on `weights`, from a file or from what was pulled by that name.
    ///
    /// # Errors
    /// [`TrainError::Prompts`]: the file cannot be read or does not fit the weights; [`TrainError::Options`] for a
    /// method that needs words and weights without them.
    pub fn load<'a>(
        path: &Path,
        method: Method,
        weights: impl Into<Weights<'a>>,
    ) -> Result<Learned, TrainError> {
        let weights = weights.into();
        let path = &pull::resolve(path)?;
        let fail = |e: TensorError| TrainError::Prompts {
            path: path.clone(),
            what: e.to_string(),
        };
        let mut t = Tensors::load(path).map_err(fail)?;
        refuse_others(&t, method).map_err(fail)?;
        for wrapping in [
            "state_dict.",
            "prompt_learner.",
            "trainable_linearlayer.",
            "prompt.",
        ] {
            t = t.without_prefix(wrapping);
        }
        let clip = match method {
            Method::Heads => None,
            _ => Some(weights.clip(method)?),
        };
        let numbers = match (method, clip) {
            (Method::Anomalyclip, Some(clip)) => prompts(&t, clip),
            (Method::Coop, Some(clip)) => context(&t, clip, false),
            (Method::Cocoop, Some(clip)) => context(&t, clip, true),
            (Method::AprilGan, Some(clip)) => linear(&t, clip),
            (Method::Dapo, Some(clip)) => dapo(&t, clip),
            (Method::Heads, _) => heads(&t, weights.features()),
            (other, _) => Err(TensorError::File(format!(
                "--method {other} takes no checkpoint of this kind"
            ))),
        };
        Ok(Learned {
            path: path.to_path_buf(),
            digest: t
                .digest()
                .map_err(|e| fail(TensorError::File(e.to_string())))?,
            untrained: t.is_untrained(),
            record: t.note(RECORD).map(String::from),
            numbers: numbers.map_err(fail)?,
        })
    }
}

/// One of the context's two prompts, [n, C].
pub fn context_of(context: &Array3<f32>, prompt: usize) -> Array2<f32> {
    context.slice(s![prompt, .., ..]).to_owned()
}

/// A vector per row of a cube's last axis.
pub fn flat(cube: &Array3<f32>) -> Array1<f32> {
    cube.iter().copied().collect()
}
