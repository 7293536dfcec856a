//! Training against the published code's numbers: loss terms, gradients, parameters after three steps.

mod common;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use common::{golden, values};
use faprompt_edge::bundle::manifest::Selection;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::evaluate::mask;
use faprompt_edge::train::fit::learner::Learner;
use faprompt_edge::train::fit::losses::enlargement;
use faprompt_edge::train::fit::{Batch, Options, adam, frozen, loss, step};
use faprompt_edge::train::nn::image::{ImageTower, cut};
use faprompt_edge::train::nn::layers::{unit, values as numbers};
use faprompt_edge::train::nn::{Maker, Products};
use faprompt_edge::train::prompts::Prompts;
use faprompt_edge::train::tensors::Tensors;
use serde_json::Value;

const C: usize = 128;
const N: usize = 36;
const SIDE: usize = 84;

/// The golden batch: three pictures' features as the published code has them.
fn batch(device: &Device) -> Batch {
    let want = common::expected();
    let patches = values(&want, "patch_features_raw");
    let patches: Vec<f32> = (0..3)
        .flat_map(|i| patches[(i * (N + 1) + 1) * C..(i + 1) * (N + 1) * C].to_vec())
        .collect();
    let masks: Vec<f32> = (0..3)
        .flat_map(|i| mask(&golden(&format!("faprompt-tiny/mask{i}.png")).into(), SIDE).unwrap())
        .map(f32::from)
        .collect();
    let put = |v: Vec<f32>, shape: &[usize]| TensorData::new::<f32, _>(v, shape.to_vec());
    let image = values(&want, "image_features_raw");
    Batch {
        patches: unit(Tensor::from_data(put(patches, &[3, N, C]), device)),
        image: unit(Tensor::from_data(put(image, &[3, C]), device)),
        masks: Tensor::from_data(put(masks, &[3, SIDE * SIDE]), device),
        labels: Tensor::from_data(put(vec![0.0, 1.0, 1.0], &[3]), device),
    }
}

/// |a - b| / |b|, Euclidean.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let sum = |f: &dyn Fn(usize) -> f32| (0..b.len()).map(f).sum::<f32>().sqrt();
    sum(&|i| (a[i] - b[i]).powi(2)) / sum(&|i| b[i] * b[i])
}

/// The parameters by the published code's names.
fn named(p: &Prompts) -> Vec<(String, Vec<f32>)> {
    let mut all = vec![
        ("ctx_pos".to_string(), p.normal.iter().copied().collect()),
        ("ctx_neg".to_string(), p.abnormal.iter().copied().collect()),
    ];
    for (i, deep) in p.deep.iter().enumerate() {
        all.push((
            format!("compound_prompts_text.{i}"),
            deep.iter().copied().collect(),
        ));
    }
    for (name, layer) in [("linear1", &p.fc1), ("linear2", &p.fc2)] {
        let at = |what| format!("patch_meta_net.{name}.{what}");
        all.push((at("weight"), layer.weight.iter().copied().collect()));
        all.push((at("bias"), layer.bias.to_vec()));
    }
    all
}

fn three_steps(selection: Selection, key: &str) {
    let folder = tempfile::tempdir().unwrap();
    let clip = Clip::load(&common::golden_clip(folder.path())).unwrap();
    let mut prompts =
        Prompts::load(&golden("faprompt-tiny/prompt_learner.safetensors"), &clip).unwrap();
    let options = Options {
        selection,
        image_size: SIDE,
        vv_layers: 4,
        ..Options::paper(&clip)
    };
    let device = Device::flex().autodiff();
    let frozen = frozen(&clip, &prompts, &options, &device);
    let mut learner = Learner::new(&prompts, &options.variant, &mut Maker::new(&device, true));
    let u = enlargement(6, SIDE, &device);
    let batch = batch(&device);
    let want = Tensors::load(&golden("faprompt-tiny/training.safetensors")).unwrap();
    let meta: Value =
        serde_json::from_slice(&std::fs::read(golden("faprompt-tiny/meta.json")).unwrap()).unwrap();

    // The gradients, as the learner's own parameters would hold them.
    let (total, _) = loss(&learner, &frozen, &batch, &u);
    let gradients = GradientsParams::from_grads(total.backward(), &learner);
    let mut slopes =
        Prompts::load(&golden("faprompt-tiny/prompt_learner.safetensors"), &clip).unwrap();
    gradients_as_learner(&learner, gradients).export(&mut slopes);
    for (name, own) in named(&slopes) {
        let golden = values(&want, &format!("{key}.grad.{name}"));
        let off = apart(&own, &golden);
        assert!(off < 1e-3, "{key}: the gradient of {name} is off by {off}");
    }

    let mut optimizer = adam();
    for i in 0..3 {
        let terms;
        (learner, terms) = step(learner, &mut optimizer, options.lr, &frozen, &batch, &u);
        for (name, own) in terms.named() {
            let golden = meta[format!("{key}_losses")][i][name].as_f64().unwrap();
            let off = (own - golden).abs() / golden.abs();
            assert!(off < 1e-3, "{key}, step {i}: {name} is {own}, not {golden}");
        }
    }
    learner.export(&mut prompts);
    for (name, own) in named(&prompts) {
        let golden = values(&want, &format!("{key}.after3.{name}"));
        let off = apart(&own, &golden);
        assert!(
            off < 1e-3,
            "{key}: {name} is off by {off} after three steps"
        );
    }
}

/// A learner whose parameters are its gradients.
fn gradients_as_learner(learner: &Learner, mut gradients: GradientsParams) -> Learner {
    struct Swap<'a>(&'a mut GradientsParams);
    impl burn::module::ModuleMapper for Swap<'_> {
        fn map_float<const D: usize>(
            &mut self,
            param: burn::module::Param<Tensor<D>>,
        ) -> burn::module::Param<Tensor<D>> {
            let id = param.id;
            let zeros = param.val().inner().zeros_like();
            let gradient = self.0.remove::<D>(id).unwrap_or(zeros);
            burn::module::Param::initialized(id, gradient)
        }
    }
    learner.clone().map(&mut Swap(&mut gradients))
}

#[test]
fn losses_gradients_and_steps_with_the_papers_selection() {
    three_steps(Selection::Paper, "paper");
}

#[test]
fn losses_gradients_and_steps_with_the_published_codes_selection() {
    three_steps(Selection::Upstream, "upstream");
}

#[test]
fn the_trainers_image_tower_is_the_published_one() {
    let folder = tempfile::tempdir().unwrap();
    let clip = Clip::load(&common::golden_clip(folder.path())).unwrap();
    let want = common::expected();
    let device = Device::flex();
    let pixels = values(&want, "preprocessed");
    let mut patches = vec![];
    for picture in pixels.chunks_exact(3 * SIDE * SIDE) {
        cut(picture, SIDE, 14, &mut patches);
    }
    let input = TensorData::new::<f32, _>(patches, vec![3, N, 3 * 14 * 14]);
    let input: Tensor<3> = Tensor::from_data(input, &device);
    for (products, bound) in [(Products::F32, 1e-3), (Products::Bf16, 3e-2)] {
        let mut m = Maker::new(&device, false).with(products);
        let tower = ImageTower::new(&clip.visual, clip.activation, 6, 4, &mut m);
        let (patches, images) = tower.forward(input.clone());
        let golden = values(&want, "patch_features_raw");
        let golden: Vec<f32> = (0..3)
            .flat_map(|i| golden[(i * (N + 1) + 1) * C..(i + 1) * (N + 1) * C].to_vec())
            .collect();
        let off = apart(&numbers(&patches), &golden);
        assert!(off < bound, "{products:?}: patch features are off by {off}");
        let off = apart(&numbers(&images), &values(&want, "image_features_raw"));
        assert!(off < bound, "{products:?}: image features are off by {off}");
    }
}
