//! What a run is for: a bundle that judges by good parts, or the tower's weights.

use super::Sizes;
use super::student::taps_of;
use crate::bundle::BundleWriter;
use crate::bundle::manifest::{
    ActivationKind, Manifest, PriorSpec, PromptSpec, ScoreRule, ScoreSpec, TowerSpec,
};
use crate::bundle::method::{Method, MethodSpec, Positions};
use crate::bundle::tap::Tap;
use crate::train::TrainError;
use crate::train::clip::{Preprocess, Visual, store_visual};
use crate::train::export::{ExportOptions, Exported, SIGMA_PER_PIXEL, Writer, write_encoder};
use crate::train::tensors::VV_LAYERS;
use crate::train::tensors::store::Store;
use std::collections::BTreeMap;
use std::path::Path;

/// Writes the tower with OpenAI's names: half of a CLIP's file, for whoever teaches a text encoder beside it. `sources`
/// is what it was made from, SHA-256 by what it is of.
///
/// # Errors
/// [`TrainError::Output`].
pub fn save_tower(
    visual: &Visual,
    vv_layers: usize,
    sources: &BTreeMap<String, String>,
    out: &Path,
) -> Result<(), TrainError> {
    let mut store = Store::default();
    store_visual(&mut store, visual);
    store.note(VV_LAYERS, vv_layers.to_string());
    store.sources(sources);
    store.save(out)
}

/// Makes a bundle that judges by good parts, which compares the rows from which the V-V stream starts.
///
/// Its manifest gives a text encoder's size, as that of every bundle of method `memory` that was made of a CLIP does: it
/// says that the image encoder has CLIP's shape and how many numbers its features have. There are no words in it.
///
/// # Errors
/// [`TrainError::Options`] for sizes that a bundle does not hold, [`TrainError::Output`].
pub fn export(
    visual: &Visual,
    sizes: &Sizes,
    sources: BTreeMap<String, String>,
    options: &ExportOptions,
    out: &Path,
) -> Result<Exported, TrainError> {
    let layers = visual.blocks.len();
    let spec = MethodSpec {
        positions: Positions::Bilinear,
        ..MethodSpec::of(Method::Memory, layers)
    };
    let size = options.image_size.unwrap_or(sizes.side);
    let image = crate::train::export::image_spec(&Preprocess::default(), size, visual.patch);
    let last = taps_of(layers, sizes.vv_layers).pop().unwrap_or(layers);
    let manifest = Manifest {
        name: options.name.clone().unwrap_or_else(|| {
            let (width, patch) = (visual.width, visual.patch);
            format!("distilled ViT {width} x {layers}, patch {patch}, {size} px")
        }),
        created_by: concat!("faprompt-train ", env!("CARGO_PKG_VERSION")).into(),
        trained: options.trained,
        description: options.description.clone(),
        image,
        activation: ActivationKind::QuickGelu,
        vision: TowerSpec {
            width: visual.width,
            layers,
            heads: visual.heads,
            epsilon: visual.epsilon,
        },
        vv_layers: sizes.vv_layers,
        memory: match options.memory.is_empty() {
            true => vec![Tap::raw(last)],
            false => options.memory.clone(),
        },
        registers: 0,
        network: None,
        text: TowerSpec {
            width: sizes.joint,
            layers: 1,
            heads: 1,
            epsilon: visual.epsilon,
        },
        prompts: PromptSpec::none(),
        prior: PriorSpec::none(),
        scores: ScoreSpec {
            temperature: 0.07,
            rule: ScoreRule::Code,
            smoothing_sigma: SIGMA_PER_PIXEL * size as f32,
            threshold: options.threshold,
        },
        precision: options.precision,
        linear_error: vec![],
        known_score: None,
        method: Some(spec),
        assumed: vec![],
        sources,
    };
    (manifest.check()).map_err(|e| TrainError::Options(e.to_string()))?;
    let mut w = Writer::new(BundleWriter::new(options.precision));
    write_encoder(&mut w, visual, manifest.image.grid(), Positions::Bilinear);
    let (manifest, bytes) = w.checked(manifest)?;
    crate::bundle::save(&bytes, out).map_err(|source| TrainError::Output {
        path: out.into(),
        source,
    })?;
    Ok(Exported {
        manifest,
        bytes: bytes.len() as u64,
    })
}
