//! Nothing is hard-coded: other widths, K, M, E, E', t, D, words, grids and V than the golden ones.

mod common;

use common::relative;
use faprompt_edge::bundle::manifest::{Precision, Selection};
use faprompt_edge::bundle::tap::{Form, Rows, Stream, Tap};
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::faprompt::{Adaptation, AdaptationMode};
use faprompt_edge::inspector::{Inspector, Options};
use faprompt_edge::ops::slice;
use faprompt_edge::ops::weights::Arithmetic;
use faprompt_edge::train::clip::{Clip, Dense, Norm};
use faprompt_edge::train::export::export;
use faprompt_edge::train::prompts::Prompts;
use faprompt_edge::train::random::{self, Sizes};
use faprompt_edge::train::reference::{Reference, Tape};
use faprompt_edge::vision::Encoder;
use indicatif::ProgressBar;
use ndarray::{Array1, Array2, Array3, ArrayView2, s};
use tract_core::prelude::Tensor;

fn base() -> Sizes {
    Sizes {
        vision: (128, 3, 8, 48),
        text: (64, 4),
        tokens: (5, 2, 10),
        prior: (10, 20),
        deep: (2, 4),
        words: (3, 4),
    }
}

fn variants() -> Vec<(&'static str, Sizes, Option<usize>, usize)> {
    vec![
        ("as the paper", base(), None, 2),
        (
            "one prompt, one patch",
            Sizes {
                tokens: (5, 2, 1),
                prior: (1, 7),
                ..base()
            },
            None,
            1,
        ),
        (
            "many prompts",
            Sizes {
                tokens: (2, 4, 17),
                prior: (20, 5),
                deep: (3, 1),
                ..base()
            },
            None,
            3,
        ),
        (
            "no deep prompts",
            Sizes {
                deep: (0, 4),
                ..base()
            },
            None,
            2,
        ),
        (
            "deep prompts that reach into the suffix",
            Sizes {
                tokens: (2, 3, 4),
                deep: (3, 4),
                words: (4, 5),
                ..base()
            },
            None,
            2,
        ),
        (
            "deep prompts over all abnormal tokens",
            Sizes {
                tokens: (1, 2, 4),
                deep: (1, 4),
                words: (5, 6),
                ..base()
            },
            None,
            2,
        ),
        ("a larger grid than trained", base(), Some(80), 2),
        ("a smaller grid", base(), Some(32), 3),
        (
            "one block each",
            Sizes {
                vision: (64, 1, 16, 48),
                text: (64, 1),
                prior: (4, 8),
                deep: (0, 1),
                ..base()
            },
            None,
            1,
        ),
    ]
}

/// Softmax attention of `q` over `k` and `v`, all [n, width], head by head.
fn attend(q: ArrayView2<f32>, k: ArrayView2<f32>, v: ArrayView2<f32>, heads: usize) -> Array2<f32> {
    let d = q.ncols() / heads;
    let mut out = Array2::zeros(q.dim());
    for h in 0..heads {
        let part = s![.., h * d..(h + 1) * d];
        let mut w = q.slice(part).dot(&k.slice(part).t()) / (d as f32).sqrt();
        for mut row in w.outer_iter_mut() {
            let max = row.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
            row.mapv_inplace(|v| (v - max).exp());
            let sum = row.sum();
            row /= sum;
        }
        out.slice_mut(part).assign(&w.dot(&v.slice(part)));
    }
    out
}

fn normed(x: &Array2<f32>, n: &Norm) -> Array2<f32> {
    let mut out = x.clone();
    for mut row in out.outer_iter_mut() {
        let mean = row.mean().unwrap();
        row -= mean;
        let var = row.dot(&row) / row.len() as f32;
        row /= (var + 1e-5).sqrt();
    }
    out * &n.weight + &n.bias
}

fn dense(x: &Array2<f32>, d: &Dense) -> Array2<f32> {
    x.dot(&d.weight.t()) + &d.bias
}

/// Both streams of CLIP's image encoder, the last `vv_layers` blocks with the V-V one, written down without
/// a shortcut: x before the first block and after each, and y after those that have it.
fn streams(
    clip: &Clip,
    bundle: &Bundle,
    pixels: &[f32],
    vv_layers: usize,
) -> (Vec<Array2<f32>>, Vec<Option<Array2<f32>>>) {
    let (v, spec) = (&clip.visual, bundle.manifest());
    let (size, patch, grid) = (spec.image.size, v.patch, spec.image.grid());
    let image = Array3::from_shape_vec((3, size, size), pixels.to_vec()).unwrap();
    let mut x = Array2::zeros((1 + grid * grid, v.width));
    x.row_mut(0).assign(&v.class);
    for (p, mut row) in x.outer_iter_mut().skip(1).enumerate() {
        let (top, left) = (p / grid * patch, p % grid * patch);
        let window = image
            .slice(s![.., top..top + patch, left..left + patch])
            .iter()
            .copied()
            .collect::<Array1<f32>>();
        row.assign(&v.conv1.dot(&window));
    }
    x = normed(&(x + v.positions_for(grid)), &v.ln_pre);
    let mut y = x.clone();
    let (mut xs, mut ys) = (vec![x.clone()], vec![None]);
    for (i, block) in v.blocks.iter().enumerate() {
        let vv = i + vv_layers >= v.blocks.len();
        if i + vv_layers == v.blocks.len() {
            y = x.clone();
        }
        let qkv = dense(&normed(&x, &block.ln_1), &block.qkv);
        let part = |p: usize| qkv.slice(s![.., p * v.width..(p + 1) * v.width]);
        if vv {
            y = y + dense(&attend(part(2), part(2), part(2), v.heads), &block.out);
        }
        x = x + dense(&attend(part(0), part(1), part(2), v.heads), &block.out);
        let hidden =
            dense(&normed(&x, &block.ln_2), &block.fc).mapv(|h| h / (1.0 + (-1.702 * h).exp()));
        x = x + dense(&hidden, &block.proj);
        xs.push(x.clone());
        ys.push(vv.then(|| y.clone()));
    }
    (xs, ys)
}

/// Every tap that an encoder can have, one by one and several at once, against the definition.
fn encoder_matches_definition(clip: &Clip, bundle: &Bundle) {
    let (v, spec) = (&clip.visual, bundle.manifest());
    let (size, layers) = (spec.image.size, v.blocks.len());
    let pixels: Vec<f32> = (0..3 * size * size)
        .map(|i| ((i * 7919) % 997) as f32 / 400.0 - 1.2)
        .collect();
    let frame = Tensor::from_shape(&[3, size, size], &pixels).unwrap();
    for vv in [0, spec.vv_layers, layers] {
        let (xs, ys) = streams(clip, bundle, &pixels, vv);
        let want = |tap: &Tap| -> Vec<f32> {
            let rows = match tap.stream {
                Stream::X => &xs[tap.block],
                Stream::Y => ys[tap.block].as_ref().unwrap(),
            };
            let rows = match tap.rows {
                Rows::Class => rows.slice(s![..1, ..]).to_owned(),
                Rows::Patches => rows.slice(s![1.., ..]).to_owned(),
                Rows::All => rows.clone(),
            };
            let rows = match tap.form {
                Form::Raw => rows,
                Form::LnPost => normed(&rows, &v.ln_post),
                Form::Projected => normed(&rows, &v.ln_post).dot(&v.proj.t()),
                Form::ProjectedRaw => rows.dot(&v.proj.t()),
            };
            rows.iter().copied().collect()
        };
        let mut all = vec![];
        for block in 0..=layers {
            for stream in [Stream::X, Stream::Y] {
                for form in [Form::Raw, Form::LnPost, Form::Projected, Form::ProjectedRaw] {
                    for rows in [Rows::Class, Rows::Patches, Rows::All] {
                        let tap = Tap {
                            block,
                            stream,
                            form,
                            rows,
                        };
                        if tap.check(layers, vv).is_ok() {
                            all.push(tap);
                        }
                    }
                }
            }
        }
        assert_eq!(all.len(), 12 * (layers + 1 + vv));
        // One that stands alone is what is pruned most; each kind of rows, and all of them together.
        let alone = all.iter().step_by(5).map(|t| vec![*t]);
        let class: Vec<Tap> = all
            .iter()
            .copied()
            .filter(|t| t.rows == Rows::Class)
            .collect();
        for taps in alone.chain([class, all.clone()]) {
            let mut encoder = Encoder::with_taps(bundle, &taps, vv, Arithmetic::F32).unwrap();
            let got = encoder.taps(frame.clone()).unwrap();
            assert_eq!(got.len(), taps.len());
            for (got, tap) in got.iter().zip(&taps) {
                let far = relative(slice(got).unwrap(), &want(tap));
                assert!(far < 1e-3, "{tap} with V-V in {vv}: off by {far}");
            }
        }
    }
    let taps = [Tap::faprompt_patches(layers), Tap::faprompt_image(layers)];
    let features = Encoder::load(bundle, Arithmetic::F32)
        .unwrap()
        .run(frame.clone())
        .unwrap();
    let mut same = Encoder::with_taps(bundle, &taps, spec.vv_layers, Arithmetic::F32).unwrap();
    let same = same.taps(frame).unwrap();
    assert_eq!(*same[0], *features.patches);
    assert_eq!(*same[1], *features.image);
}

/// `linear` is the stored matrix: F_a + J Omega.
fn linear_matches_matrix(bundle: &Bundle) {
    let width = bundle.manifest().text.width;
    let inputs = bundle.manifest().prior.selected_patches * width;
    let read = |name: &str, shape: &[usize]| {
        slice(&bundle.tensor(name, shape).unwrap())
            .unwrap()
            .to_vec()
    };
    let jacobian =
        Array2::from_shape_vec((width, width), read("linear/jacobian", &[width, width])).unwrap();
    let mean = Array1::from(read("prototypes/abnormal", &[width]));
    let mut adaptation =
        Adaptation::load(bundle, AdaptationMode::Linear, Arithmetic::Auto).unwrap();
    for scale in [0.0f32, 0.5, 2.0] {
        let selected: Vec<f32> = (0..inputs)
            .map(|i| scale * ((i * 31 % 89) as f32 / 44.0 - 1.0))
            .collect();
        let adapted = adaptation
            .run(Tensor::from_shape(&[1, inputs], &selected).unwrap())
            .unwrap()
            .unwrap();
        let prior = Array1::from(slice(&adapted.prior).unwrap().to_vec());
        let want = (&mean + &jacobian.dot(&prior)).to_vec();
        let far = relative(slice(&adapted.abnormal).unwrap(), &want);
        assert!(far < 1e-4, "linear adaptation is off by {far}");
    }
}

#[test]
fn every_size_gives_the_references_adaptation() {
    for (what, sizes, image_size, vv) in variants() {
        println!("{what}");
        let folder = tempfile::tempdir().unwrap();
        let (clip, prompts) = random::write(&sizes, 3, folder.path()).unwrap();
        let clip = Clip::load(&clip).unwrap();
        let prompts = Prompts::load(&prompts, &clip).unwrap();
        let mut options = common::options(Selection::Paper, Precision::F32);
        (options.image_size, options.vv_layers) = (image_size, Some(vv));
        let out = folder.path().join("x.bundle");
        export(&clip, &prompts, &options, &out, &ProgressBar::hidden()).unwrap();
        let bundle = Bundle::open(&out, &Keys::default()).unwrap();
        common::tower_matches_reference(&clip, &prompts, &bundle);
        encoder_matches_definition(&clip, &bundle);
        linear_matches_matrix(&bundle);
        let options = Options::default();
        let mut inspector = Inspector::new(&bundle, options).unwrap();
        let frame = image::RgbImage::from_fn(70, 50, |x, y| {
            image::Rgb([(3 * x) as u8, (5 * y) as u8, 90])
        });
        let inspection = inspector.inspect(&frame).unwrap();
        assert_eq!(inspection.map().side, image_size.unwrap_or(48));
        assert!(inspection.score > 0.0 && inspection.score < 1.0);
        // First order: the error falls with the square of the prior.
        let errors = &bundle.manifest().linear_error;
        assert!(errors[0].mean < 0.25 * errors[1].mean, "{errors:?}");
        assert!(
            errors[0].mean <= 0.35 * errors[0].unadapted + 1e-6,
            "{errors:?}"
        );
    }
}

#[test]
fn the_jacobian_is_the_derivative() {
    let sizes = Sizes {
        tokens: (2, 3, 4),
        deep: (3, 4),
        words: (4, 5),
        ..base()
    };
    let folder = tempfile::tempdir().unwrap();
    let (clip, prompts) = random::write(&sizes, 3, folder.path()).unwrap();
    let clip = Clip::load(&clip).unwrap();
    let prompts = Prompts::load(&prompts, &clip).unwrap();
    let reference = Reference {
        text: &clip.text,
        activation: clip.activation,
        deep: &prompts.deep,
    };
    let directions = Array2::from_shape_fn((3, 64), |(i, j)| {
        ((i * 64 + j) * 29 % 41) as f32 / 41.0 - 0.5
    });
    let feature = |step: f32, i: usize| -> Tape {
        let mut rows = prompts.abnormal_rows(1);
        for r in 3..6 {
            let mut row = rows.row_mut(r);
            row += &(&directions.row(i) * step);
        }
        reference.encode(&rows)
    };
    let got = reference.derivative(&feature(0.0, 0), 3, 3, &directions);
    for i in 0..3 {
        let h = 1e-3;
        let want = (feature(h, i).feature - feature(-h, i).feature) / (2.0 * h);
        let far = relative(&got.row(i).to_vec(), &want.to_vec());
        assert!(far < 0.01, "direction {i}: the derivative is off by {far}");
    }
}

#[test]
fn options_that_cannot_work_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (clip, prompts) = random::write(&base(), 3, folder.path()).unwrap();
    let clip = Clip::load(&clip).unwrap();
    let prompts = Prompts::load(&prompts, &clip).unwrap();
    let out = folder.path().join("x.bundle");
    for (image_size, vv, threshold, word) in [
        (Some(50), 2, 0.5, "image.patch"),
        (Some(8), 2, 0.5, "selected_patches"),
        (Some(8192), 2, 0.5, "image.size"),
        (None, 0, 0.5, "vv_layers"),
        (None, 4, 0.5, "vv_layers"),
        (None, 2, f32::NAN, "threshold"),
        (None, 2, 1.5, "threshold"),
    ] {
        let mut options = common::options(Selection::Paper, Precision::F32);
        (options.image_size, options.vv_layers, options.threshold) =
            (image_size, Some(vv), threshold);
        let error = export(&clip, &prompts, &options, &out, &ProgressBar::hidden())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(word), "{error}");
        assert!(!out.exists());
    }
}

/// Maxima skip NaN, so a frame whose adapted scores are NaN would keep the score of the others.
#[test]
fn a_prior_that_overflows_the_text_tower_makes_no_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let (clip, prompts) = random::write(&base(), 3, folder.path()).unwrap();
    let clip = Clip::load(&clip).unwrap();
    let mut prompts = Prompts::load(&prompts, &clip).unwrap();
    prompts.fc2.bias.fill(f32::MAX);
    let out = folder.path().join("x.bundle");
    let mut options = common::options(Selection::Paper, Precision::F32);
    (options.image_size, options.vv_layers) = (None, Some(2));
    let error = export(&clip, &prompts, &options, &out, &ProgressBar::hidden())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("adapted patch scores hold NaN"), "{error}");
    assert!(!out.exists());
}
