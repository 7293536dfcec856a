//! Multi-head attention over all tokens, and the V-V path that shares its values.

use super::gemm::{Mat, Right, buffer};
use super::{slice, slice_mut};
use rayon::prelude::*;
use tract_core::internal::*;
use tract_linalg::multithread::{Executor, current_tract_executor, multithread_tract_scope};
use tract_linalg::routines::{Func, softmax_rows_f32};

/// Queries handled at once: bounds the score buffer to `QUERY_BLOCK` x tokens per thread, so that
/// it stays in the cache however large the grid is.
const QUERY_BLOCK: usize = 128;

/// `softmax(q k^T / sqrt(d)) v` per head, heads of `width / heads` side by side.
///
/// Inputs: `q` [queries, width], and `kv` whose rows hold keys and values at the given columns; with
/// one input, q, k and v are its three thirds. Output [queries, width], and with `vv` a second one,
/// [tokens, width]: softmax(v v^T / sqrt(d)) v for all tokens (the V-V stream of AnomalyCLIP's DPAM,
/// which takes the values of the ordinary stream).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Number of heads; the width is a multiple of it.
    pub heads: usize,
    /// Whether the second output is wanted.
    pub vv: bool,
}

/// Softmax over the first `used` columns of each row of `row_len`; the others become zero.
fn softmax_rows(scores: &mut [f32], row_len: usize, used: usize) -> TractResult<()> {
    if used < row_len {
        scores
            .chunks_exact_mut(row_len)
            .for_each(|row| row[used..].fill(f32::NEG_INFINITY));
    }
    if let Some(kernel) = softmax_rows_f32().filter(|_| row_len.is_multiple_of(4)) {
        kernel(scores, row_len);
        return Ok(());
    }
    let exp = Func::Exp.ew_f32()?;
    for row in scores.chunks_exact_mut(row_len) {
        let max = row.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
        row.iter_mut().for_each(|v| *v -= max);
        exp.run(row)?;
        let inverse = 1.0 / super::sum_lanes(row, |v| v);
        row.iter_mut().for_each(|v| *v *= inverse);
    }
    Ok(())
}

/// Where one head's queries, keys and values lie: tensor and first column.
#[derive(Clone, Copy)]
struct Columns<'a> {
    tensor: &'a Tensor,
    column: usize,
}

impl<'a> Columns<'a> {
    /// `rows` rows of the head's `d` columns from row `first` on.
    fn rows(&self, first: usize, rows: usize, d: usize) -> TractResult<Mat<'a>> {
        let stride = self.tensor.shape()[1];
        Mat::new(self.tensor, first * stride + self.column, rows, d, stride)
    }

    fn len(&self) -> usize {
        self.tensor.shape()[0]
    }
}

/// One head's result, [queries, d], contiguous.
fn head(q: Columns, k: Columns, v: Columns, d: usize) -> TractResult<Vec<f32>> {
    let (queries, tokens) = (q.len(), k.len());
    let block = QUERY_BLOCK.min(queries);
    let keys = Right::pack(&k.rows(0, tokens, d)?, true, block)?;
    let values = Right::pack(&v.rows(0, tokens, d)?, false, block)?;
    let row_len = tokens.next_multiple_of(4);
    let scale = 1.0 / (d as f32).sqrt();
    let mut out = Vec::with_capacity(queries * d);
    for first in (0..queries).step_by(block) {
        let rows = block.min(queries - first);
        let mut scores = buffer(&[rows, row_len])?;
        keys.product(&q.rows(first, rows, d)?, Some(scale), &mut scores, row_len)?;
        softmax_rows(slice_mut(&mut scores)?, row_len, tokens)?;
        let mut part = buffer(&[rows, d])?;
        values.product(
            &Mat::new(&scores, 0, rows, tokens, row_len)?,
            None,
            &mut part,
            d,
        )?;
        out.extend_from_slice(slice(&part)?);
    }
    Ok(out)
}

/// Runs `work` for each of `n` heads, over the threads of the executor in force.
fn per_head(
    n: usize,
    work: impl Fn(usize) -> TractResult<Vec<f32>> + Sync,
) -> TractResult<Vec<Vec<f32>>> {
    // A thread that has a head works on it alone: the matrix kernels must not split it again.
    let alone = |h| multithread_tract_scope(Executor::SingleThread, || work(h));
    match current_tract_executor() {
        Executor::SingleThread => (0..n).map(work).collect(),
        Executor::MultiThread(pool) => pool.install(|| (0..n).into_par_iter().map(alone).collect()),
        Executor::RayonGlobal => (0..n).into_par_iter().map(alone).collect(),
    }
}

/// Puts the heads' [rows, d] results side by side.
fn interleave(heads: &[Vec<f32>], rows: usize, d: usize) -> TractResult<Tensor> {
    let width = heads.len() * d;
    let mut out = buffer(&[rows, width])?;
    for (r, row) in slice_mut(&mut out)?.chunks_exact_mut(width).enumerate() {
        for (target, head) in row.chunks_exact_mut(d).zip(heads) {
            target.copy_from_slice(&head[r * d..(r + 1) * d]);
        }
    }
    Ok(out)
}

impl Attention {
    /// The columns at which keys and values begin in the last input, and the width.
    fn layout(&self, inputs: usize, last_width: usize) -> (usize, usize, usize) {
        if inputs == 1 {
            let width = last_width / 3;
            (width, 2 * width, width)
        } else {
            let width = last_width / 2;
            (0, width, width)
        }
    }
}

impl Op for Attention {
    fn name(&self) -> StaticName {
        "FusedAttention".into()
    }
    op_as_typed_op!();
}

impl EvalOp for Attention {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (q, kv) = (&*inputs[0], &*inputs[inputs.len() - 1]);
        let (k_column, v_column, width) = self.layout(inputs.len(), kv.shape()[1]);
        let d = width / self.heads;
        let columns = |tensor, column| Columns { tensor, column };
        let work = |h: usize| {
            let v = columns(kv, v_column + h % self.heads * d);
            if h < self.heads {
                head(columns(q, h * d), columns(kv, k_column + h * d), v, d)
            } else {
                head(v, v, v, d)
            }
        };
        let heads = per_head(self.heads * (1 + self.vv as usize), work)?;
        let mut outputs = tvec!(interleave(&heads[..self.heads], q.shape()[0], d)?.into_tvalue());
        if self.vv {
            outputs.push(interleave(&heads[self.heads..], kv.shape()[0], d)?.into_tvalue());
        }
        Ok(outputs)
    }
}

impl TypedOp for Attention {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(
            matches!(inputs.len(), 1 | 2),
            "FusedAttention: {} inputs",
            inputs.len()
        );
        ensure!(
            inputs.iter().all(|i| i.rank() == 2),
            "FusedAttention wants matrices, not {inputs:?}"
        );
        let (q, kv) = (inputs[0], inputs[inputs.len() - 1]);
        let last_width = kv.shape[1].to_usize()?;
        let (_, _, width) = self.layout(inputs.len(), last_width);
        ensure!(
            self.heads > 0 && width > 0 && width % self.heads == 0 && last_width % width == 0,
            "FusedAttention: {} heads in {kv:?}",
            self.heads
        );
        ensure!(
            inputs.len() == 1 || q.shape[1] == width.to_dim(),
            "FusedAttention: queries {q:?} for a width of {width}"
        );
        let mut facts = tvec!(f32::fact([q.shape[0].clone(), width.to_dim()]));
        if self.vv {
            facts.push(f32::fact([kv.shape[0].clone(), width.to_dim()]));
        }
        Ok(facts)
    }
    as_op!();
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn check(tokens: usize, width: usize, heads: usize) {
        let d = width / heads;
        let qkv = testing::tensor(&[tokens, 3 * width], 9);
        let got = testing::eval(&Attention { heads, vv: true }, &[&qkv]);
        let all = slice(&qkv).unwrap();
        for h in 0..heads {
            let columns = |part: usize| -> Vec<Vec<f32>> {
                all.chunks_exact(3 * width)
                    .map(|r| r[part * width + h * d..part * width + (h + 1) * d].to_vec())
                    .collect()
            };
            let (q, k, v) = (columns(0), columns(1), columns(2));
            let ordinary = testing::attention(&q, &k, &v, |_, _| true);
            let vv = testing::attention(&v, &v, &v, |_, _| true);
            for (got, want) in got.iter().zip([ordinary, vv]) {
                let got = slice(got).unwrap();
                for (r, row) in want.iter().enumerate() {
                    for (c, want) in row.iter().enumerate() {
                        let got = got[r * width + h * d + c] as f64;
                        assert!(
                            (got - want).abs() < 1e-4,
                            "{tokens} tokens, head {h} [{r},{c}]: {got} for {want}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn both_paths_match_their_definition() {
        check(5, 16, 2);
        check(37, 128, 2);
        check(200, 64, 1);
    }

    #[test]
    fn a_pool_of_threads_changes_nothing() {
        let qkv = testing::tensor(&[50, 3 * 96], 3);
        let op = Attention { heads: 3, vv: true };
        let alone = testing::eval(&op, &[&qkv]);
        let pooled =
            multithread_tract_scope(Executor::multithread(3), || testing::eval(&op, &[&qkv]));
        assert_eq!(alone, pooled);
    }

    #[test]
    fn one_query_row_against_separate_keys_and_values() {
        let (tokens, width) = (11, 32);
        let qkv = testing::tensor(&[tokens, 3 * width], 4);
        let all = slice(&qkv).unwrap();
        let q = Tensor::from_shape(&[1, width], &all[..width]).unwrap();
        let kv: Vec<f32> = all
            .chunks_exact(3 * width)
            .flat_map(|r| r[width..].to_vec())
            .collect();
        let kv = Tensor::from_shape(&[tokens, 2 * width], &kv).unwrap();
        let op = Attention { heads: 2, vv: true };
        let (whole, split) = (testing::eval(&op, &[&qkv]), testing::eval(&op, &[&q, &kv]));
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(
            &slice(&whole[0]).unwrap()[..width],
            slice(&split[0]).unwrap()
        ));
        assert!(close(slice(&whole[1]).unwrap(), slice(&split[1]).unwrap()));
    }
}
