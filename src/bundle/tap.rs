//! Taps: which of the image encoder's rows are wanted.
//!
//! The encoder is built from a list of taps, and whatever none of them needs is left out (blocks behind the
//! last tap, queries and MLP of rows that nobody looks at, the V-V stream). Asking for them:
//!
//! ```no_run
//! use faprompt_edge::bundle::tap::{Form, Rows, Stream, Tap};
//! use faprompt_edge::bundle::{Bundle, Keys};
//! use faprompt_edge::ops::weights::Arithmetic;
//! use faprompt_edge::vision::Encoder;
//! # use std::path::Path;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let frame = faprompt_edge::ops::tract::Tensor::zero::<f32>(&[3, 224, 224])?;
//! let bundle = Bundle::open(Path::new("line1.bundle"), &Keys::default())?;
//! let taps = [
//!     // Blocks are counted from 1; 0 is what the first one gets.
//!     Tap { block: 3, stream: Stream::X, form: Form::Raw, rows: Rows::Patches },
//!     // ln_post(x) @ proj of the class row after the last block: CLIP's own image feature.
//!     Tap { block: 12, stream: Stream::X, form: Form::Projected, rows: Rows::Class },
//! ];
//! // No block has the V-V stream here; `bundle.manifest().vv_layers` is the bundle's own number.
//! let mut encoder = Encoder::with_taps(&bundle, &taps, 0, Arithmetic::Auto)?;
//! let rows = encoder.taps(frame)?; // one tensor [rows, width or C] a tap, in the order asked for
//! # Ok(())
//! # }
//! ```

use super::BundleError;
use serde::{Deserialize, Serialize};

/// One of the two streams of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The ordinary stream.
    X,
    /// The V-V stream, which blocks have that the encoder is built to have it in.
    Y,
}

/// What becomes of the rows before they are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The rows as they are: [rows, width].
    Raw,
    /// `ln_post`: [rows, width].
    LnPost,
    /// `ln_post(z) @ proj`: [rows, C].
    Projected,
    /// `z @ proj` without the normalisation: [rows, C]. The published FAPrompt takes its image feature so.
    ProjectedRaw,
}

/// Which rows are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rows {
    /// The class row alone: [1, ..].
    Class,
    /// The patches in raster order: [N, ..].
    Patches,
    /// The class row, then the patches: [1 + N, ..]. Raw, it is handed out without a copy.
    All,
}

/// Rows of the encoder that are wanted. None is of unit length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tap {
    /// The block behind which they are taken, counted from 1; 0 stands for what the first block gets (`ln_pre`'s output).
    pub block: usize,
    /// The stream that they are taken from.
    pub stream: Stream,
    /// What becomes of them before they are handed out.
    pub form: Form,
    /// Which rows these are.
    pub rows: Rows,
}

impl std::fmt::Display for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let stream = match self.stream {
            Stream::X => "x",
            Stream::Y => "y",
        };
        let form = match self.form {
            Form::Raw => "raw",
            Form::LnPost => "ln_post",
            Form::Projected => "projected",
            Form::ProjectedRaw => "projected_raw",
        };
        let rows = match self.rows {
            Rows::Class => "class",
            Rows::Patches => "patches",
            Rows::All => "all",
        };
        write!(f, "{stream}{} {form} {rows}", self.block)
    }
}

impl Tap {
    /// FAPrompt's patch features: the V-V stream after the last of `layers` blocks, projected.
    pub fn faprompt_patches(layers: usize) -> Tap {
        Tap {
            block: layers,
            stream: Stream::Y,
            form: Form::Projected,
            rows: Rows::Patches,
        }
    }

    /// FAPrompt's image feature: the class row of the ordinary stream, projected without `ln_post`.
    pub fn faprompt_image(layers: usize) -> Tap {
        Tap {
            block: layers,
            stream: Stream::X,
            form: Form::ProjectedRaw,
            rows: Rows::Class,
        }
    }

    /// All rows of the ordinary stream after a block, as they are.
    pub fn raw(block: usize) -> Tap {
        Tap {
            block,
            stream: Stream::X,
            form: Form::Raw,
            rows: Rows::All,
        }
    }

    /// Whether an encoder of `layers` blocks, the last `vv_layers` of them with the V-V stream, has it.
    ///
    /// # Errors
    /// [`BundleError::Architecture`] that names the tap.
    pub fn check(&self, layers: usize, vv_layers: usize) -> Result<(), BundleError> {
        let fail = |what: String| {
            Err(BundleError::architecture(
                "encoder",
                format!("tap `{self}`: {what}"),
            ))
        };
        if self.block > layers {
            return fail(format!("the encoder has {layers} blocks"));
        }
        if self.stream == Stream::Y && self.block + vv_layers <= layers {
            return match vv_layers {
                0 => fail("no block has the V-V stream".into()),
                n => fail(format!("only the last {n} blocks have the V-V stream")),
            };
        }
        Ok(())
    }
}

/// Whether anything looks at more rows of the ordinary stream after block `done` than the class row: one of
/// `taps`, or a block behind it.
pub(crate) fn patches_needed(taps: &[Tap], done: usize) -> bool {
    taps.iter().any(|tap| {
        tap.block > done || tap.block == done && tap.stream == Stream::X && tap.rows != Rows::Class
    })
}

/// The blocks that run for `taps`, and those among them whose V-V stream somebody looks at in the end.
pub(crate) fn depths(taps: &[Tap]) -> (usize, usize) {
    let deepest = |taps: &mut dyn Iterator<Item = &Tap>| taps.map(|t| t.block).max().unwrap_or(0);
    let y = deepest(&mut taps.iter().filter(|t| t.stream == Stream::Y));
    (deepest(&mut taps.iter()), y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_that_no_block_has_is_named() {
        let y = |block| Tap {
            stream: Stream::Y,
            ..Tap::raw(block)
        };
        assert!(Tap::raw(0).check(6, 0).is_ok() && Tap::raw(6).check(6, 2).is_ok());
        assert!(y(5).check(6, 2).is_ok() && y(1).check(6, 6).is_ok());
        for (tap, vv, what) in [
            (Tap::raw(7), 2, "tap `x7 raw all`: the encoder has 6 blocks"),
            (y(4), 2, "tap `y4 raw all`: only the last 2 blocks"),
            (y(6), 0, "tap `y6 raw all`: no block has the V-V stream"),
            (y(0), 6, "tap `y0 raw all`: only the last 6 blocks"),
        ] {
            let error = tap.check(6, vv).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn only_what_is_looked_at_is_needed() {
        let faprompt = [Tap::faprompt_patches(6), Tap::faprompt_image(6)];
        assert_eq!(depths(&faprompt), (6, 6));
        assert!(patches_needed(&faprompt, 5) && !patches_needed(&faprompt, 6));
        assert!(patches_needed(&[Tap::raw(6)], 6) && !patches_needed(&[Tap::raw(5)], 6));
        assert_eq!(depths(&[Tap::raw(2)]), (2, 0));
    }
}
