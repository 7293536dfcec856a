//! Prompts to features and prototypes.

use crate::train::TrainError;
use crate::train::clip::Clip;
use crate::train::prompts::embed;
use crate::train::reference::{Reference, unit};
use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What weights must not lack here.
fn weights(clip: &Clip, what: impl ToString) -> TrainError {
    TrainError::Weights {
        path: clip.path.clone(),
        what: what.to_string(),
    }
}

/// The rows of a text without positions: the start token, the words, the end token, [n, C].
///
/// # Errors
/// [`TrainError::Weights`] if the weights lack a token's embedding, [`TrainError::Options`] for a text that is
/// longer than their context.
pub fn rows(clip: &Clip, text: &str) -> Result<Array2<f32>, TrainError> {
    let (start, words) = embed(clip, text).map_err(|e| weights(clip, e))?;
    let start = start.insert_axis(Axis(0));
    let rows = concatenate(Axis(0), &[start.view(), words.view()]).expect("rows of one width");
    fits(clip, &rows, text)?;
    Ok(rows)
}

/// Refuses a prompt that is longer than the text encoder's context.
///
/// # Errors
/// [`TrainError::Options`]: the prompt has more tokens than the context.
pub fn fits(clip: &Clip, rows: &Array2<f32>, text: &str) -> Result<(), TrainError> {
    let context = clip.text.positions.nrows();
    if rows.nrows() <= context {
        return Ok(());
    }
    Err(TrainError::Options(format!(
        "the prompt \"{text}\" has {} tokens, the text encoder's context is {context}",
        rows.nrows()
    )))
}

/// Raw features of prompts [P, C], by as many threads.
///
/// # Errors
/// As [`rows`].
pub fn features(clip: &Clip, texts: &[String], threads: usize) -> Result<Array2<f32>, TrainError> {
    let all = texts
        .iter()
        .map(|t| rows(clip, t))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(encode(clip, &all, &[], threads))
}

/// Raw features of prompts given as rows, [P, C], by as many threads.
pub fn encode(
    clip: &Clip,
    all: &[Array2<f32>],
    deep: &[Array2<f32>],
    threads: usize,
) -> Array2<f32> {
    let reference = Reference {
        text: &clip.text,
        activation: clip.activation,
        deep,
    };
    let out = Mutex::new(Array2::zeros((all.len(), clip.text.projection.nrows())));
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((i, rows)) = {
            let i = next.fetch_add(1, Ordering::Relaxed);
            all.get(i).map(|rows| (i, rows))
        } {
            let feature = reference.encode(rows).feature;
            let mut out = out.lock().expect("no thread panics with it");
            out.row_mut(i).assign(&feature);
        }
    };
    std::thread::scope(|scope| {
        (0..threads.max(1)).for_each(|_| {
            scope.spawn(work);
        })
    });
    out.into_inner().expect("all threads are done")
}

/// The mean of features that were each made unit vectors, as a unit vector.
pub fn mean_of_units(features: ArrayView2<f32>) -> Array1<f32> {
    let mut sum = Array1::zeros(features.ncols());
    features.outer_iter().for_each(|f| sum += &unit(f));
    unit((sum / features.nrows().max(1) as f32).view())
}

/// The mean of features as they are; only cosines are made of it.
pub fn raw_mean(features: ArrayView2<f32>) -> Array1<f32> {
    features
        .mean_axis(Axis(0))
        .unwrap_or_else(|| Array1::zeros(features.ncols()))
}
