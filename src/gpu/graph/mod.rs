//! The whole frame as one tract model of standard operators, which tract's GPU runtimes know how to move.
//!
//! The order of the steps is `vision::blocks`' and `faprompt::tower`'s, as for a processor, so that the numbers
//! agree; what is fused there for a CPU's caches is written out here, because a GPU runtime fuses by rules of
//! its own. Products are computed in the numbers that the caller names (f16 on a GPU); the
//! residual streams, normalisations, scores and single rows are always f32.

mod encoder;
mod nodes;
mod prompts;

use crate::bundle::tap::Tap;
use crate::bundle::{Bundle, BundleError};
use crate::faprompt::score::normalise_rows;
use crate::faprompt::{AdaptationMode, tower};
use crate::vision::blocks;
use tract_core::internal::*;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math;
use tract_core::ops::nn::{RmsNorm, Sigmoid};

/// The model of a bundle: a normalised frame [3, S, S] f32 to, all f32, patch scores [N, 1], adapted patch
/// scores [N, 1], image probability [1, 1], adapted abnormal prototype [1, C], unit length, unless adaptation
/// is off the prior [1, C], and then each of `taps` as [`Encoder::taps`](crate::vision::Encoder::taps) has it.
///
/// # Errors
/// A tap that the encoder does not have; tensors that are missing or of other shapes than the manifest says.
pub fn frame(
    bundle: &Bundle,
    adaptation: AdaptationMode,
    taps: &[Tap],
    numbers: DatumType,
) -> Result<TypedModel, BundleError> {
    let layers = bundle.manifest().vision.layers;
    let mut all = vec![Tap::faprompt_patches(layers), Tap::faprompt_image(layers)];
    all.extend(taps);
    let graph = Graph::new(bundle, numbers);
    graph
        .build(adaptation, &all)
        .map_err(|e| BundleError::architecture("gpu", format!("{e:#}")))
}

/// The image encoder of a bundle alone: a normalised frame [3, S, S] f32 to each of `taps`, f32.
///
/// # Errors
/// As [`frame`].
pub fn encoder(
    bundle: &Bundle,
    taps: &[Tap],
    numbers: DatumType,
) -> Result<TypedModel, BundleError> {
    let mut graph = Graph::new(bundle, numbers);
    let mut build = || {
        let rows = graph.encoder(taps)?;
        graph.model.select_output_outlets(&rows)
    };
    build().map_err(|e| BundleError::architecture("gpu", format!("{e:#}")))?;
    Ok(graph.model)
}

struct Graph<'a> {
    bundle: &'a Bundle,
    numbers: DatumType,
    /// The part of the bundle whose tensors are wanted, and the names' beginning.
    part: &'static str,
    /// Where the bundle's tensors lie: the output projection of a block is used twice.
    known: HashMap<String, OutletId>,
    model: TypedModel,
}

impl<'a> Graph<'a> {
    fn new(bundle: &'a Bundle, numbers: DatumType) -> Graph<'a> {
        Graph {
            bundle,
            numbers,
            part: "encoder",
            known: HashMap::new(),
            model: TypedModel::default(),
        }
    }

    /// The rows of each tap.
    fn encoder(&mut self, taps: &[Tap]) -> TractResult<Vec<OutletId>> {
        let manifest = self.bundle.manifest();
        blocks::build(self, manifest, taps, manifest.vv_layers)
    }

    /// The whole frame; the first two taps are FAPrompt's.
    fn build(mut self, adaptation: AdaptationMode, taps: &[Tap]) -> TractResult<TypedModel> {
        let manifest = self.bundle.manifest();
        let width = manifest.text.width;
        let rows = self.encoder(taps)?;
        self.part = "scores";
        let patches = self.unit("patches", rows[0], width)?;
        let image = self.unit("image", rows[1], width)?;
        self.part = "prototypes";
        let [normal, abnormal] = [
            self.prototype("normal", width)?,
            self.prototype("abnormal", width)?,
        ];
        self.part = "scores";
        let direction = self.direction("unadapted", normal, abnormal)?;
        let scores = self.abnormality("patch_scores", patches, direction)?;

        let prior = match adaptation {
            AdaptationMode::Off => None,
            _ => {
                let selected = self.select(patches, scores)?;
                Some(self.prior(selected)?)
            }
        };
        let adapted = match (prior, adaptation) {
            (Some(prior), AdaptationMode::Exact) => {
                self.part = "tower";
                tower::build(&mut self, manifest, prior)?
            }
            (Some(prior), _) => {
                self.part = "linear";
                let jacobian = self.weights("jacobian", [width, width], f32::datum_type())?;
                let change = self.product("change", prior, jacobian)?;
                self.part = "prototypes";
                let mean = self.tensor("abnormal", &[1, width])?;
                self.add("adapted", change, mean)?
            }
            (None, _) => abnormal,
        };
        self.part = "adapted";
        let adapted = self.unit("abnormal", adapted, width)?;
        let direction = self.direction("adapted", normal, adapted)?;
        let scores_adapted = self.abnormality("patch_scores", patches, direction)?;
        let probability = self.abnormality("image_probability", image, direction)?;
        let mut outputs = vec![scores, scores_adapted, probability, adapted];
        outputs.extend(prior);
        outputs.extend(&rows[2..]);
        self.model.select_output_outlets(&outputs)?;
        Ok(self.model)
    }
}

/// Scores of rows.
impl Graph<'_> {
    /// A prototype of the bundle, unit length, [1, C].
    fn prototype(&mut self, name: &str, width: usize) -> TractResult<OutletId> {
        let mut values = self.values(name, &[width])?;
        normalise_rows(&mut values, width);
        self.constant(name, Tensor::from_shape(&[1, width], &values)?)
    }

    /// Rows of unit length; a row of zeros stays as it is.
    fn unit(&mut self, name: &str, x: OutletId, width: usize) -> TractResult<OutletId> {
        let norm = RmsNorm {
            axis: 1,
            // So small that only a row of zeros notices.
            eps: tensor0(f32::MIN_POSITIVE).into_arc_tensor(),
        };
        let x = self.wire(&format!("{name}.rms"), norm, &[x])?;
        self.scale(&format!("{name}.unit"), x, 1.0 / (width as f32).sqrt())
    }

    /// abnormal - normal.
    fn direction(
        &mut self,
        name: &str,
        normal: OutletId,
        abnormal: OutletId,
    ) -> TractResult<OutletId> {
        self.wire(
            &format!("{name}.direction"),
            math::sub(),
            &[abnormal, normal],
        )
    }

    /// softmax([x . normal, x . abnormal] / T)[1] of each row: the logistic function of their distance.
    fn abnormality(
        &mut self,
        name: &str,
        x: OutletId,
        direction: OutletId,
    ) -> TractResult<OutletId> {
        let logits = self.product(&format!("{name}.logits"), x, direction)?;
        let temperature = self.bundle.manifest().scores.temperature;
        let logits = self.scale(&format!("{name}.scaled"), logits, 1.0 / temperature)?;
        self.wire(name, ElementWiseOp(Box::new(Sigmoid {}), None), &[logits])
    }
}
