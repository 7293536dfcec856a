//! The frame as one model for GPU runtimes, run here by tract's CPU runtime: the same graph that `--runtime
//! cuda` moves to a card. What a card makes of it is not tried here.

mod common;

use common::{apart, golden, golden_bundle};
use faprompt_edge::bundle::manifest::{ActivationKind, Precision, Selection};
use faprompt_edge::bundle::tap::{Form, Rows, Stream, Tap};
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::capture::known_frame;
use faprompt_edge::faprompt::AdaptationMode;
use faprompt_edge::gpu::{Backend, GpuError, GpuNetwork, graph};
use faprompt_edge::inspector::{Inspector, KNOWN_TOLERANCE, Options};
use faprompt_edge::ops::slice;
use faprompt_edge::ops::weights::Arithmetic;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::export::export;
use faprompt_edge::train::prompts::Prompts;
use faprompt_edge::vision::{Encoder, Preprocessor};
use half::f16;
use image::RgbImage;
use indicatif::ProgressBar;
use std::path::Path;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::einsum::prefix_matmul::rewrite_einsum_to_prefix_matmul;
use tract_core::prelude::{Datum, DatumType};

/// The largest differences between the graph and the device's own path: patch scores (both) and
/// probability, prototype, prior.
fn differences(
    bundle: &Bundle,
    adaptation: AdaptationMode,
    numbers: DatumType,
    frame: &RgbImage,
) -> [f32; 3] {
    let mut inspector = Inspector::new(
        bundle,
        Options {
            adaptation,
            arithmetic: Arithmetic::F32,
            ..Options::default()
        },
    )
    .unwrap();
    let want = inspector.inspect(frame).unwrap();
    let mut graph = GpuNetwork::on("cpu", bundle, adaptation, &[], numbers).unwrap();
    let mut preprocessor = Preprocessor::new(&bundle.manifest().image);
    let got = graph.run(preprocessor.run(frame).unwrap()).unwrap();
    let scores = [
        apart(got.patch_scores().unwrap(), &want.patch_scores),
        apart(
            got.patch_scores_adapted().unwrap(),
            &want.patch_scores_adapted,
        ),
        (got.image_probability().unwrap() - want.image_probability).abs(),
    ];
    let prior = got.prior().unwrap();
    [
        scores.into_iter().fold(0.0, f32::max),
        apart(got.abnormal().unwrap(), &want.abnormal),
        match adaptation {
            AdaptationMode::Off => prior.len() as f32,
            _ => apart(prior, &want.prior),
        },
    ]
}

#[test]
fn the_graph_computes_what_the_fused_operators_compute() {
    let folder = tempfile::tempdir().unwrap();
    for selection in [Selection::Paper, Selection::Upstream] {
        let (_, bundle) = golden_bundle(folder.path(), selection, Precision::F32);
        for adaptation in [
            AdaptationMode::Exact,
            AdaptationMode::Linear,
            AdaptationMode::Off,
        ] {
            for i in 0..3 {
                let photo = image::open(golden(&format!("faprompt-tiny/image{i}.png"))).unwrap();
                let frame = photo.to_rgb8();
                let far = differences(&bundle, adaptation, f32::datum_type(), &frame);
                assert!(
                    far.iter().all(|d| *d < 2e-5),
                    "{selection:?}, {adaptation:?}, image {i}: off by {far:?}"
                );
            }
        }
    }
}

#[test]
fn the_graph_hands_out_the_same_taps() {
    let folder = tempfile::tempdir().unwrap();
    let (_, bundle) = golden_bundle(folder.path(), Selection::Paper, Precision::F32);
    let (layers, vv) = (bundle.manifest().vision.layers, bundle.manifest().vv_layers);
    let tap = |block, stream, form, rows| Tap {
        block,
        stream,
        form,
        rows,
    };
    let taps = [
        Tap::raw(0),
        Tap::raw(2),
        tap(layers, Stream::X, Form::Projected, Rows::Patches),
        tap(1, Stream::X, Form::LnPost, Rows::Class),
        tap(layers, Stream::Y, Form::Raw, Rows::Patches),
        tap(layers - vv + 1, Stream::Y, Form::Projected, Rows::All),
    ];
    let frame = Preprocessor::new(&bundle.manifest().image)
        .run(&known_frame())
        .unwrap();
    let mut encoder = Encoder::with_taps(&bundle, &taps, vv, Arithmetic::F32).unwrap();
    let want = encoder.taps(frame.clone()).unwrap();
    for adaptation in [AdaptationMode::Exact, AdaptationMode::Off] {
        let mut graph =
            GpuNetwork::on("cpu", &bundle, adaptation, &taps, f32::datum_type()).unwrap();
        let got = graph.run(frame.clone()).unwrap();
        assert_eq!(got.taps().len(), taps.len());
        assert_eq!(
            got.prior().unwrap().is_empty(),
            adaptation == AdaptationMode::Off
        );
        for ((got, want), tap) in got.taps().iter().zip(want).zip(&taps) {
            let far = common::relative(slice(got).unwrap(), slice(want).unwrap());
            assert!(far < 2e-5, "{tap}: off by {far}");
        }
    }
}

#[test]
fn half_precision_moves_scores_by_less_than_a_bundle_may_be_off() {
    let path = Path::new(env!("DEFAULT_BUNDLE"));
    let bundle = Bundle::open(path, &Keys::default()).unwrap();
    let exact = AdaptationMode::Exact;
    let far = differences(&bundle, exact, f16::datum_type(), &known_frame());
    println!("{far:?}");
    assert!(far[0] > 0.0 && far[0] < KNOWN_TOLERANCE / 2.0, "{far:?}");
}

/// open_clip's models have the other activation, and some another epsilon.
#[test]
fn the_graph_has_both_activations_and_any_epsilon() {
    let folder = tempfile::tempdir().unwrap();
    let mut clip = Clip::load(&common::golden_clip(folder.path())).unwrap();
    clip.activation = ActivationKind::Gelu;
    (clip.visual.epsilon, clip.text.epsilon) = (1e-2, 3e-2);
    let prompts = golden("faprompt-tiny/prompt_learner.safetensors");
    let prompts = Prompts::load(&prompts, &clip).unwrap();
    let out = folder.path().join("gelu.bundle");
    let options = common::options(Selection::Paper, Precision::F32);
    export(&clip, &prompts, &options, &out, &ProgressBar::hidden()).unwrap();
    let bundle = Bundle::open(&out, &Keys::default()).unwrap();
    let exact = AdaptationMode::Exact;
    let far = differences(&bundle, exact, f32::datum_type(), &known_frame());
    assert!(far.iter().all(|d| *d < 2e-5), "off by {far:?}");
}

/// CUDA's runtime has one way to multiply: what does not become a matrix product stays on the CPU.
#[test]
fn every_sum_of_products_becomes_a_matrix_product() {
    let folder = tempfile::tempdir().unwrap();
    let (_, bundle) = golden_bundle(folder.path(), Selection::Paper, Precision::F32);
    let mut model = graph::frame(&bundle, AdaptationMode::Exact, &[], f16::datum_type()).unwrap();
    let sums = |model: &tract_core::prelude::TypedModel| {
        let nodes = model.nodes().iter();
        nodes.filter(|n| n.op_is::<EinSum>()).count()
    };
    assert!(sums(&model) > 0);
    rewrite_einsum_to_prefix_matmul(&mut model, false).unwrap();
    assert_eq!(sums(&model), 0);
}

/// On a machine without a GPU, or in a program without CUDA, the CPU judges as if it had been asked.
#[test]
fn without_a_gpu_the_cpu_judges() {
    let folder = tempfile::tempdir().unwrap();
    let (_, bundle) = golden_bundle(folder.path(), Selection::Paper, Precision::F32);
    let judge = |runtime| {
        let options = Options {
            runtime,
            ..Options::default()
        };
        let mut inspector = Inspector::new(&bundle, options).unwrap();
        let score = inspector.inspect(&known_frame()).unwrap().score;
        (inspector.runtime(), score)
    };
    let (_, cpu) = judge(Backend::Cpu);
    match (
        judge(Backend::Cuda),
        GpuNetwork::cuda(&bundle, AdaptationMode::Exact, &[]).map(drop),
    ) {
        ((Backend::Cpu, score), Err(e)) => {
            assert_eq!(score, cpu);
            let built = cfg!(feature = "cuda-runtime");
            assert_eq!(matches!(e, GpuError::NotBuilt), !built, "{e}");
        }
        ((Backend::Cuda, score), Ok(())) => assert!((score - cpu).abs() <= KNOWN_TOLERANCE),
        ((runtime, _), loaded) => panic!("{runtime:?} judges, but loading gave {loaded:?}"),
    }
}
