//! Nothing is hard-coded: other widths, K, M, E, E', t, D, words, grids and V than the golden ones.

mod common;

use faprompt_edge::bundle::Bundle;
use faprompt_edge::bundle::manifest::{Precision, Selection};
use faprompt_edge::faprompt::AdaptationMode;
use faprompt_edge::inspector::{Inspector, Options};
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::export::export;
use faprompt_edge::train::prompts::Prompts;
use faprompt_edge::train::random::{self, Sizes};
use faprompt_edge::train::reference::{Reference, Tape};
use indicatif::ProgressBar;
use ndarray::Array2;

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
        let bundle = Bundle::open(&out, None).unwrap();
        common::tower_matches_reference(&clip, &prompts, &bundle);
        // At a prior of zero the linear map is exact by construction: the unadapted prototype.
        let mut inspector = Inspector::new(
            &bundle,
            Options {
                adaptation: AdaptationMode::Linear,
                threads: 1,
            },
        )
        .unwrap();
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
        let far = common::relative(&got.row(i).to_vec(), &want.to_vec());
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
