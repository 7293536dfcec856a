//! The project's own tract operators: what both towers are made of.
//!
//! They know tensors and nothing else; the graphs that use them are built in `vision::encoder` and
//! `faprompt::adaptation`. All work on f32 and use the threads of the tract executor in force.

pub mod activation;
pub mod attention;
pub mod chain;
pub mod conv;
mod float;
pub mod fp16;
pub mod int8;
pub mod layer_norm;
pub mod linear;
mod matrix;
pub mod patch_embed;
mod product;
pub mod rows;
pub(crate) mod scratch;
pub(crate) mod simd;
mod softmax;
pub mod suffix;
mod tile;
pub mod tract;
pub mod weights;
pub mod windows;

use rayon::prelude::*;
use tract_core::internal::*;
use tract_core::ops::change_axes::AxisOp;
use tract_linalg::multithread::{Executor, current_tract_executor};

/// The elements of a contiguous f32 tensor.
///
/// # Errors
/// The tensor holds something else.
pub fn slice(t: &Tensor) -> TractResult<&[f32]> {
    t.try_as_plain_ram()?.as_slice::<f32>()
}

/// The elements of a contiguous f32 tensor, to be written.
///
/// # Errors
/// The tensor holds something else.
pub fn slice_mut(t: &mut Tensor) -> TractResult<&mut [f32]> {
    t.to_plain_array_view_mut::<f32>()?
        .into_slice()
        .context("a tensor that is not contiguous")
}

/// tract's operator that gives the same elements in another shape.
pub(crate) fn reshape(from: &[usize], to: &[usize]) -> AxisOp {
    let dims = |shape: &[usize]| shape.iter().map(|n| n.to_dim()).collect();
    AxisOp::Reshape(0, dims(from), dims(to))
}

/// Threads of the executor in force.
pub(crate) fn threads() -> usize {
    match current_tract_executor() {
        Executor::MultiThread(pool) => pool.current_num_threads(),
        Executor::RayonGlobal => rayon::current_num_threads(),
        _ => 1,
    }
}

/// Runs `work` on the rows of `out`, spread over the threads of the executor in force: each gets the
/// index of its first row and a run of whole rows, whose number is a multiple of `granule` but for the
/// last.
///
/// # Errors
/// The first error of `work`.
pub(crate) fn par_rows<T: Send>(
    out: &mut [T],
    row_len: usize,
    granule: usize,
    work: impl Fn(usize, &mut [T]) -> TractResult<()> + Sync + Send,
) -> TractResult<()> {
    let run = |out: &mut [T]| {
        let rows = (out.len() / row_len).div_ceil(rayon::current_num_threads());
        let rows = rows.next_multiple_of(granule).max(1);
        out.par_chunks_mut(rows * row_len)
            .enumerate()
            .try_for_each(|(i, chunk)| work(i * rows, chunk))
    };
    match current_tract_executor() {
        Executor::MultiThread(pool) if pool.current_num_threads() > 1 => pool.install(|| run(out)),
        Executor::RayonGlobal => run(out),
        _ => work(0, out),
    }
}

/// Sums lanes, a power of two of them, to one number: halves with each other, so that most steps are of
/// whole registers and none waits for more than its two operands.
#[inline(always)]
pub(crate) fn fold_lanes<const N: usize>(mut lanes: [f32; N], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Sums in 16 lanes, so that the compiler can use vector registers without reordering a serial sum.
pub(crate) fn sum_lanes(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut acc = [0f32; 16];
    let chunks = row.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (a, v) in acc.iter_mut().zip(chunk) {
            *a += f(*v);
        }
    }
    acc.iter().sum::<f32>() + rest.iter().map(|v| f(*v)).sum::<f32>()
}

/// The dot product of two slices of one length, summed in 16 lanes.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut acc = [0f32; 16];
    let (ca, cb) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = ca
        .remainder()
        .iter()
        .zip(cb.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in ca.zip(cb) {
        for ((s, x), y) in acc.iter_mut().zip(x).zip(y) {
            *s += x * y;
        }
    }
    acc.iter().sum::<f32>() + rest
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Reproducible numbers in -1..1.
    pub fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut x = seed;
        let mut next = || {
            x = x
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (x >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    /// A tensor of such numbers.
    pub fn tensor(shape: &[usize], seed: u64) -> Tensor {
        Tensor::from_shape(shape, &numbers(shape.iter().product(), seed)).unwrap()
    }

    /// Evaluates an operator outside any model.
    pub fn eval(op: &dyn EvalOp, inputs: &[&Tensor]) -> TVec<TValue> {
        let inputs = inputs.iter().map(|t| (*t).clone().into_tvalue()).collect();
        op.eval(&EvalContext::out_of_plan(), inputs).unwrap()
    }

    /// softmax(scale * q k^T) v in f64; `q` [a, d], `k` and `v` [b, d], keys visible to query `i` by `visible`.
    pub fn attention(
        q: &[Vec<f32>],
        k: &[Vec<f32>],
        v: &[Vec<f32>],
        visible: impl Fn(usize, usize) -> bool,
    ) -> Vec<Vec<f64>> {
        let d = q[0].len();
        let scale = 1.0 / (d as f64).sqrt();
        q.iter()
            .enumerate()
            .map(|(i, q)| {
                let weights: Vec<f64> = k
                    .iter()
                    .enumerate()
                    .map(|(j, k)| {
                        let s: f64 = q.iter().zip(k).map(|(a, b)| *a as f64 * *b as f64).sum();
                        if visible(i, j) {
                            (s * scale).exp()
                        } else {
                            0.0
                        }
                    })
                    .collect();
                let sum: f64 = weights.iter().sum();
                (0..d)
                    .map(|c| {
                        weights
                            .iter()
                            .zip(v)
                            .map(|(w, v)| w / sum * v[c] as f64)
                            .sum()
                    })
                    .collect()
            })
            .collect()
    }
}
