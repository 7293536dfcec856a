//! What a checkpoint was learned with.

use super::Options;
use super::run::OBJECT;
use crate::bundle::method::{Method, MethodSpec, Positions};
use crate::train::TrainError;
use crate::train::clip::{Network, Preprocess};
use crate::train::methods::learned::{Learned, RECORD};
use crate::train::methods::weights::Weights;
use crate::train::nn::Products;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What a checkpoint was learned with: `export` takes it as its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Epochs that are done.
    pub epoch: usize,
    /// The method.
    pub method: Method,
    /// Blocks whose tokens it looks at.
    pub stages: Vec<usize>,
    /// The class that every picture was said to be of; empty for each picture's own.
    pub class: String,
    /// Side of the input in pixels.
    pub image_size: usize,
    /// Blocks with the V-V stream.
    pub vv_layers: usize,
    /// SHA-256 of the weights.
    pub clip: String,
    /// What it was learned from, as [`crate::train::datasets::digest`] tells it.
    pub data: String,
    /// Number of pictures per step.
    pub batch: usize,
    /// Learning rate of the optimiser.
    pub lr: f64,
    /// Of the first numbers and the order of pictures.
    pub seed: u64,
    /// DAPO's types of defect.
    #[serde(default)]
    pub types: Vec<String>,
    /// What else changes what is learned; older files do not say it.
    #[serde(default)]
    pub how: Option<How>,
}

/// What changes what is learned beside what `export` takes as its defaults. What means nothing to the method is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct How {
    /// Epochs of the whole run, where the learning rate follows them.
    pub epochs: Option<usize>,
    /// Learned tokens of a prompt.
    pub e: Option<usize>,
    /// Text blocks with a deep prompt.
    pub deep_blocks: Option<usize>,
    /// Tokens of a deep prompt.
    pub deep_length: Option<usize>,
    /// T in softmax(cosine / T), where the user chose it.
    pub temperature: Option<f32>,
    /// How positions are resized.
    pub positions: Positions,
    /// Where the class words of CoOp stand.
    pub class_position: Option<String>,
    /// The numbers of matrix products.
    pub products: Products,
    /// What the weights do not say.
    pub weights: ReadAs,
}

/// What the weights do not say of their network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadAs {
    /// Of a CLIP.
    pub network: Option<Network>,
    /// Attention heads of an image encoder without text.
    pub heads: Option<usize>,
    /// What its normalisations add to the variance.
    pub epsilon: Option<f32>,
    /// What becomes of a frame before it.
    pub preprocess: Option<Preprocess>,
}

impl How {
    /// Of a run that begins.
    pub(super) fn new(weights: Weights<'_>, spec: &MethodSpec, options: &Options) -> How {
        let method = options.asked.method;
        let prompts = matches!(
            method,
            Method::Anomalyclip | Method::Coop | Method::Cocoop | Method::Dapo
        );
        let scheduled = matches!(method, Method::Coop | Method::Cocoop);
        let deep = matches!(method, Method::Anomalyclip | Method::Dapo);
        let position = options.asked.class_position.to_possible_value();
        How {
            epochs: scheduled.then_some(options.epochs),
            e: prompts.then_some(options.tokens),
            deep_blocks: (method == Method::Anomalyclip).then_some(options.deep_blocks),
            deep_length: deep.then_some(options.deep_length),
            temperature: options.asked.temperature,
            positions: spec.positions,
            class_position: position
                .filter(|_| method == Method::Coop)
                .map(|v| v.get_name().to_string()),
            products: options.products,
            weights: How::of_weights(weights),
        }
    }

    /// What the weights do not say of their network.
    pub(in crate::train::methods) fn of_weights(weights: Weights<'_>) -> ReadAs {
        let (network, bare) = match weights {
            // It says what becomes of a frame, too.
            Weights::Clip(clip) => (Some(clip.network()), None),
            Weights::WithoutText(backbone) => (None, Some(backbone)),
        };
        ReadAs {
            network,
            heads: bare.map(|b| b.heads),
            epsilon: bare.map(|b| b.epsilon),
            preprocess: bare.map(|b| b.preprocess),
        }
    }
}

impl Record {
    /// Of a run that begins on pictures of this digest, and has learned nothing yet.
    pub(in crate::train::methods) fn begun(
        weights: Weights<'_>,
        spec: &MethodSpec,
        options: &Options,
        data: String,
        types: Vec<String>,
    ) -> Record {
        let method = options.asked.method;
        Record {
            epoch: 0,
            method,
            stages: spec.stages.clone(),
            class: match (&options.asked.class, method) {
                (Some(class), _) => class.clone(),
                // Their prompts need a class, and pictures have one each: what stands for any.
                (None, Method::Coop | Method::Cocoop) => OBJECT.into(),
                (None, _) => String::new(),
            },
            image_size: options.image_size,
            vv_layers: spec.vv_layers(options.vv_layers, weights.layers()),
            clip: weights.digest().into(),
            data,
            batch: options.batch,
            lr: options.lr,
            seed: options.seed,
            types,
            how: Some(How::new(weights, spec, options)),
        }
    }

    /// Of a file that this program wrote; `None` for checkpoints from elsewhere.
    ///
    /// # Errors
    /// [`TrainError::Prompts`] if the record is malformed.
    pub fn of(learned: &Learned) -> Result<Option<Record>, TrainError> {
        let parse = |text: &String| {
            serde_json::from_str(text).map_err(|e| TrainError::Prompts {
                path: learned.path.clone(),
                what: format!("metadata `{RECORD}`: {e}"),
            })
        };
        learned.record.as_ref().map(parse).transpose()
    }
}
