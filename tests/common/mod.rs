//! What several test files need: the golden data, and bundles made of it.
#![allow(dead_code)]

use faprompt_edge::bundle::manifest::{Precision, ScoreRule, Selection};
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::export::{ExportOptions, Exported, export};
use faprompt_edge::train::prompts::Prompts;
use faprompt_edge::train::tensors::Tensors;
use half::f16;
use indicatif::ProgressBar;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

pub fn expected() -> Tensors {
    Tensors::load(&golden("faprompt-tiny/expected.safetensors")).unwrap()
}

pub fn values(t: &Tensors, name: &str) -> Vec<f32> {
    t.array(name).unwrap().iter().copied().collect()
}

/// Writes the golden CLIP with its token table in full size: the repository keeps only the rows that
/// prompts use, the others are zero.
pub fn golden_clip(folder: &Path) -> PathBuf {
    let bytes = std::fs::read(golden("faprompt-tiny/clip.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let more = std::fs::read(golden("methods/shared/expected.safetensors")).unwrap();
    let more = SafeTensors::deserialize(&more).unwrap();
    let rows = file.tensor("token_rows.weight").unwrap();
    let row = rows.shape()[1] * 2;
    let mut table = vec![0u8; 49408 * row];
    let types = std::fs::read(golden("methods/dapo/expected.safetensors")).unwrap();
    let types = SafeTensors::deserialize(&types).unwrap();
    for file in [&file, &more, &types] {
        let rows = file.tensor("token_rows.weight").unwrap();
        let ids = file.tensor("token_rows.ids").unwrap();
        for (id, values) in ids
            .data()
            .chunks_exact(4)
            .zip(rows.data().chunks_exact(row))
        {
            let id = i32::from_le_bytes(id.try_into().unwrap()) as usize;
            table[id * row..(id + 1) * row].copy_from_slice(values);
        }
    }
    let mut tensors: Vec<(String, TensorView)> = file
        .tensors()
        .into_iter()
        .filter(|(n, _)| !n.starts_with("token_rows"))
        .collect();
    let shape = vec![49408, rows.shape()[1]];
    tensors.push((
        "token_embedding.weight".into(),
        TensorView::new(Dtype::F16, shape, &table).unwrap(),
    ));
    let path = folder.join("clip.safetensors");
    safetensors::serialize_to_file(tensors, None, &path).unwrap();
    path
}

pub fn options(selection: Selection, precision: Precision) -> ExportOptions {
    ExportOptions {
        name: None,
        image_size: Some(84),
        vv_layers: Some(4),
        memory: vec![],
        selection,
        score_rule: ScoreRule::Code,
        precision,
        threshold: 0.5,
        trained: true,
        description: "golden data".into(),
        threads: 2,
    }
}

pub fn export_to(clip: &Path, prompts: &Path, options: &ExportOptions, out: &Path) -> Exported {
    let clip = Clip::load(clip).unwrap();
    let prompts = Prompts::load(prompts, &clip).unwrap();
    export(&clip, &prompts, options, out, &ProgressBar::hidden()).unwrap()
}

pub fn golden_bundle(
    folder: &Path,
    selection: Selection,
    precision: Precision,
) -> (PathBuf, Bundle) {
    let out = folder.join(format!("{selection:?}-{precision:?}.bundle"));
    let prompts = golden("faprompt-tiny/prompt_learner.safetensors");
    export_to(
        &golden_clip(folder),
        &prompts,
        &options(selection, precision),
        &out,
    );
    let bundle = Bundle::open(&out, &Keys::default()).unwrap();
    (out, bundle)
}

/// The largest absolute difference.
pub fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths differ");
    assert!(!a.is_empty() && a.iter().chain(b).all(|v| v.is_finite()));
    a.iter().zip(b).fold(0.0, |m, (a, b)| m.max((a - b).abs()))
}

/// |a - b| / |b| in the Euclidean norm.
pub fn relative(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths differ");
    let (d, n) = a.iter().zip(b).fold((0f64, 0f64), |(d, n), (a, b)| {
        (d + ((a - b) as f64).powi(2), n + (*b as f64).powi(2))
    });
    assert!(n > 0.0);
    (d / n).sqrt() as f32
}

pub fn half(v: f32) -> [u8; 2] {
    f16::from_f32(v).to_le_bytes()
}

/// The device's tower on priors of several lengths against whole prompts in the plain reference.
pub fn tower_matches_reference(clip: &Clip, prompts: &Prompts, bundle: &Bundle) {
    use faprompt_edge::bundle::manifest::Manifest;
    use faprompt_edge::faprompt::{Adaptation, AdaptationMode};
    use faprompt_edge::ops::slice;
    use faprompt_edge::ops::weights::Arithmetic;
    use faprompt_edge::train::reference::Reference;
    use ndarray::{Array1, s};
    use tract_core::prelude::Tensor;

    let manifest: &Manifest = bundle.manifest();
    let width = manifest.text.width;
    let inputs = manifest.prior.selected_patches * width;
    let mut adaptation = Adaptation::load(bundle, AdaptationMode::Exact, Arithmetic::Auto).unwrap();
    let reference = Reference {
        text: &clip.text,
        activation: clip.activation,
        deep: &prompts.deep,
    };
    let (first, count) = (
        manifest.prompts.prefix_rows(),
        manifest.prompts.abnormal_tokens,
    );
    for scale in [0.0f32, 0.05, 1.0] {
        let selected: Vec<f32> = (0..inputs)
            .map(|i| scale * ((i * 37 % 101) as f32 / 50.0 - 1.0))
            .collect();
        let adapted = adaptation
            .run(Tensor::from_shape(&[1, inputs], &selected).unwrap())
            .unwrap()
            .unwrap();
        let prior = slice(&adapted.prior).unwrap();
        let hidden = prompts.fc1.weight.dot(&Array1::from(selected)) + &prompts.fc1.bias;
        let want = prompts.fc2.weight.dot(&hidden.mapv(|v| v.max(0.0))) + &prompts.fc2.bias;
        assert!(
            apart(prior, &want.to_vec()) < 1e-4,
            "the prior is off by {}",
            apart(prior, &want.to_vec())
        );
        let tapes: Vec<_> = (0..prompts.count())
            .map(|k| {
                let mut rows = prompts.abnormal_rows(k);
                let mut shifted = rows.slice_mut(s![first..first + count, ..]);
                shifted += &want;
                reference.encode(&rows)
            })
            .collect();
        let want = reference.mean_feature(&tapes).to_vec();
        let far = relative(slice(&adapted.abnormal).unwrap(), &want);
        assert!(
            far < 1e-3,
            "scale {scale}: the adapted feature is off by {far}"
        );
    }
}
