//! What a user may choose of a method, what it is set to if nobody chooses, and whether it fits what was learned.

use super::fit::record::{How, Record};
use super::learned::Learned;
use super::weights::Weights;
use super::words;
use crate::bundle::method::{Method, MethodSpec, Positions};
use crate::train::TrainError;
use crate::train::clip::Clip;
use crate::train::resume::differences;
use clap::ValueEnum;

/// Where CoOp's class words stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ClassPosition {
    /// Behind the context.
    #[default]
    End,
    /// After half of it.
    Middle,
    /// Before it.
    Front,
}

/// What the user chose of a method; `None` takes what its code was published with.
#[derive(Clone, Debug, Default)]
pub struct MethodOptions {
    /// Which one.
    pub method: Method,
    /// The class in its prompts.
    pub class: Option<String>,
    /// Which list of templates, by its length.
    pub templates: Option<usize>,
    /// Blocks whose tokens make the map, counted from 1.
    pub stages: Vec<usize>,
    /// T in softmax(cosine / T).
    pub temperature: Option<f32>,
    /// How positions are resized.
    pub positions: Option<Positions>,
    /// Where CoOp's class words stand.
    pub class_position: ClassPosition,
    /// DAPO's types of defect, in words.
    pub types: Vec<String>,
}

pub(super) fn options(what: String) -> TrainError {
    TrainError::Options(what)
}

/// The learned numbers, or what is missing.
pub(super) fn needed<'a>(
    asked: &MethodOptions,
    learned: Option<&'a Learned>,
) -> Result<&'a Learned, TrainError> {
    learned.ok_or_else(|| {
        options(format!(
            "--method {} needs --prompts: the file that was learned",
            asked.method
        ))
    })
}

pub(super) fn class(
    asked: &MethodOptions,
    learned: Option<&Learned>,
) -> Result<String, TrainError> {
    let record = learned.map(Record::of).transpose()?.flatten();
    let known = record.map(|r| r.class).unwrap_or_default();
    let class = words::class_words(asked.class.as_deref().unwrap_or(&known));
    match class.is_empty() {
        false => Ok(class),
        true => Err(options(format!(
            "--method {} needs --class: what its prompts call the part, as in --class \"metal nut\"",
            asked.method
        ))),
    }
}

/// The T that CLIP's training begins with.
pub(super) const INITIAL: f32 = 0.07;

impl MethodOptions {
    /// The T in softmax(cosine / T): the user's, else that of the method's published code. CoOp's and CoCoOp's is the
    /// weights' own; weights that do not say it get `INITIAL`.
    pub fn scale(&self, clip: &Clip) -> f32 {
        let published = match self.method {
            Method::AprilGan => 0.01,
            Method::Anovl => 1.0,
            Method::Coop | Method::Cocoop => clip.logit_scale.map_or(INITIAL, |s| (-s).exp()),
            _ => 0.07,
        };
        self.temperature.unwrap_or(published)
    }

    /// What has to be assumed of these weights, a sentence for the user.
    pub fn assumed(&self, clip: &Clip) -> Option<String> {
        let own = matches!(self.method, Method::Coop | Method::Cocoop);
        let nobody = self.temperature.is_none() && clip.logit_scale.is_none();
        (own && nobody).then(|| {
            format!(
                "{}: tensor `logit_scale` is missing, by which --method {} multiplies cosines: assumed: CLIP's first one, T = {INITIAL} (--temperature)",
                clip.path.display(),
                self.method
            )
        })
    }
}

/// Refuses methods that only `evaluate` runs, with the reason.
///
/// # Errors
/// [`TrainError::Options`]: the method runs on the host only; the error says why.
pub fn refuse_host_only(method: Method) -> Result<(), TrainError> {
    let why = match method {
        Method::Filo => {
            "it encodes about 140 prompts again for each picture (4 times FAPrompt's work at ViT-B/16)"
        }
        Method::Blip => "its encoders are not CLIP's: BERT, and a ViT of another layout",
        _ => return Ok(()),
    };
    Err(options(format!(
        "--method {method}: no bundle holds it and no device runs it, because {why}; `evaluate --method {method} --clip ...` judges a set by it on the host"
    )))
}

/// DAPO's types: the user's, else those that it learned from.
///
/// # Errors
/// [`TrainError::Options`] if nobody names any, or one twice.
pub fn types(asked: &MethodOptions, learned: &Learned) -> Result<Vec<String>, TrainError> {
    let types: Vec<String> = match asked.types.is_empty() {
        false => asked.types.iter().map(|t| words::class_words(t)).collect(),
        true => Record::of(learned)?.map(|r| r.types).unwrap_or_default(),
    };
    if types.is_empty() || types.iter().any(|t| t.is_empty()) {
        return Err(options(
            "--method dapo needs --types: words for the defects, as in --types scratch,hole".into(),
        ));
    }
    match types
        .iter()
        .enumerate()
        .find(|(i, t)| types[..*i].contains(t))
    {
        Some((_, twice)) => Err(options(format!("--types names \"{twice}\" twice"))),
        None => Ok(types),
    }
}

/// Refuses a number of stages other than the checkpoint has learned.
pub(super) fn stages_fit(spec: &MethodSpec, learned: usize) -> Result<(), TrainError> {
    if learned == spec.stages.len() {
        return Ok(());
    }
    Err(options(format!(
        "--stages {:?}: the checkpoint was learned on {learned} stages",
        spec.stages
    )))
}

/// The user's stages, else those that it was learned on, else the method's.
pub(super) fn stages(
    asked: &MethodOptions,
    learned: Option<&Learned>,
    usual: Vec<usize>,
) -> Result<Vec<usize>, TrainError> {
    if !asked.stages.is_empty() {
        return Ok(asked.stages.clone());
    }
    let record = learned.map(Record::of).transpose()?.flatten();
    Ok(record.map_or(usual, |r| r.stages))
}

/// What it was learned with, once it is known that it was on these weights.
pub(super) fn record_of<'a>(
    learned: Option<&Learned>,
    weights: impl Into<Weights<'a>>,
) -> Result<Option<Record>, TrainError> {
    let weights = weights.into();
    let record = learned.map(Record::of).transpose()?.flatten();
    match record {
        Some(odd) if odd.clip != weights.digest() => Err(options(format!(
            "these {} numbers were learned on other weights than {}",
            odd.method,
            weights.path().display()
        ))),
        Some(record) => {
            let here = How::of_weights(weights);
            let there = record.how.as_ref().map(|how| &how.weights);
            let apart = there.map(|there| differences(there, &here, &[], |_| None));
            match apart.filter(|apart| !apart.is_empty()) {
                Some(apart) => Err(options(format!(
                    "these {} numbers were learned on these weights read as another network:\n  {}",
                    record.method,
                    apart.join("\n  ")
                ))),
                None => Ok(Some(record)),
            }
        }
        None => Ok(None),
    }
}

/// Refuses to judge by another temperature or other positions than what was learned was learned with.
pub(super) fn refuse_otherwise(
    record: Option<&Record>,
    temperature: f32,
    spec: &MethodSpec,
) -> Result<(), TrainError> {
    let Some(how) = record.and_then(|r| r.how.as_ref()) else {
        return Ok(());
    };
    if let Some(there) = how.temperature.filter(|t| *t != temperature) {
        return Err(options(format!(
            "--temperature: it was learned with {there}, here {temperature}"
        )));
    }
    if how.positions != spec.positions {
        let name = |p: Positions| p.to_possible_value().map(|v| v.get_name().to_string());
        let (there, here) = (name(how.positions), name(spec.positions));
        return Err(options(format!(
            "--positions: it was learned with {}, here {}",
            there.unwrap_or_default(),
            here.unwrap_or_default()
        )));
    }
    Ok(())
}
