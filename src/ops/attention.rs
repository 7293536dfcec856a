//! Multi-head attention over all tokens, and the V-V path that shares its values.

use super::scratch::{Output, Scratch};
use super::softmax::exp_row;
use super::tile::{Kernel, Rows, STEP, pair_columns, pair_neighbours, pair_rows};
use super::{par_rows, slice};
use tract_core::internal::*;
use tract_linalg::routines::softmax_rows_f32;

/// Queries handled at once: bounds the score buffer to `QUERY_BLOCK` x tokens per thread, so that
/// it stays in the cache however large the grid is. A multiple of all kernels' rows.
const QUERY_BLOCK: usize = 48;

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
    /// Whether queries, keys, values and weights may be rounded to 16 bits, which some processors multiply
    /// twice as fast; the softmax but for its result is f32 always.
    pub rounded: bool,
}

/// The instructions of rounded attention, if this processor has any for it.
pub fn rounded_kernel() -> Option<&'static str> {
    Kernel::pairs().map(|k| k.name)
}

/// Turns rows of scores into weights, and writes to `factors` what each row must still be multiplied by.
fn softmax_rows(scores: &mut [f32], row_len: usize, factors: &mut [f32]) {
    // tract-linalg has it for ARM only.
    if let Some(kernel) = softmax_rows_f32().filter(|_| row_len.is_multiple_of(4)) {
        kernel(scores, row_len);
        factors.fill(1.0);
        return;
    }
    for (row, factor) in scores.chunks_exact_mut(row_len).zip(factors) {
        *factor = 1.0 / exp_row(row);
    }
}

/// Keys and values of all heads, as [`tile`] takes them.
struct PackedHeads<'a> {
    kernel: Kernel,
    /// Whether keys, values and what they are multiplied with are pairs: row i holds rows 2 i and 2 i + 1.
    pairs: bool,
    tokens: usize,
    /// Tokens and head width, rounded up to whole steps.
    row_len: usize,
    width: usize,
    d: usize,
    /// Per head [d, row_len], scaled by 1 / sqrt(d).
    keys: Scratch,
    /// Per head [tokens, width].
    values: &'a Scratch,
}

/// Keys of the heads whose columns begin at `first` in rows of `stride`.
fn pack_keys(
    kv: &[f32],
    stride: usize,
    first: usize,
    heads: usize,
    d: usize,
    pairs: bool,
) -> TractResult<Scratch> {
    let tokens = kv.len() / stride;
    let row_len = tokens.next_multiple_of(STEP);
    let mut keys = Scratch::take(heads * d * row_len);
    let scale = 1.0 / (d as f32).sqrt();
    par_rows(&mut keys, d * row_len, 1, |head, all| {
        for (h, panel) in all.chunks_exact_mut(d * row_len).enumerate() {
            let first = first + (head + h) * d;
            transpose(&kv[first..], stride, tokens, scale, panel, row_len);
            if pairs {
                pair_rows(panel, row_len);
            }
        }
        Ok(())
    })?;
    Ok(keys)
}

/// Values of the heads whose columns begin at `first` in rows of `stride`.
fn pack_values(
    kv: &[f32],
    stride: usize,
    first: usize,
    heads: usize,
    d: usize,
    pairs: bool,
) -> TractResult<Scratch> {
    let tokens = kv.len() / stride;
    let width = d.next_multiple_of(STEP);
    let mut values = Scratch::take(heads * tokens * width);
    par_rows(&mut values, tokens * width, 1, |head, all| {
        for (h, panel) in all.chunks_exact_mut(tokens * width).enumerate() {
            let first = first + (head + h) * d;
            for (row, out) in kv.chunks_exact(stride).zip(panel.chunks_exact_mut(width)) {
                out[..d].copy_from_slice(&row[first..first + d]);
                out[d..].fill(0.0);
            }
            if pairs {
                pair_rows(panel, width);
            }
        }
        Ok(())
    })?;
    Ok(values)
}

/// The columns of `x`, rows `stride` apart, as rows of `out`, scaled; what is left of them becomes zero.
fn transpose(
    x: &[f32],
    stride: usize,
    rows: usize,
    scale: f32,
    out: &mut [f32],
    out_stride: usize,
) {
    for (first, block) in (0..rows).step_by(STEP).map(|r| (r, STEP.min(rows - r))) {
        for (column, out) in out.chunks_exact_mut(out_stride).enumerate() {
            let out = &mut out[first..first + STEP];
            for r in 0..block {
                out[r] = x[(first + r) * stride + column] * scale;
            }
            out[block..].fill(0.0);
        }
    }
}

/// Queries of all heads against all keys: [queries, heads * d], `queries` rows `stride` apart.
fn attend(
    q: &[f32],
    stride: usize,
    packed: &PackedHeads,
    out: &mut [f32],
    out_width: usize,
) -> TractResult<()> {
    let PackedHeads {
        kernel,
        pairs,
        tokens,
        row_len,
        width,
        d,
        ..
    } = *packed;
    // Elements of a row of queries, and of weights.
    let (depth, terms) = match pairs {
        true => (d / 2, tokens.div_ceil(2)),
        false => (d, tokens),
    };
    par_rows(out, out_width, kernel.rows, |first, out| {
        let mut paired = Scratch::take(if pairs { QUERY_BLOCK * depth } else { 0 });
        let mut scores = Scratch::take(QUERY_BLOCK * row_len);
        let mut result = Scratch::take(kernel.rows * width);
        for (block, out) in out.chunks_mut(QUERY_BLOCK * out_width).enumerate() {
            let (first, rows) = (first + block * QUERY_BLOCK, out.len() / out_width);
            let scores = &mut scores[..rows * row_len];
            for h in 0..out_width / d {
                let keys = &packed.keys[h * d * row_len..][..d * row_len];
                let mut queries = Rows {
                    values: &q[first * stride + h * d..],
                    stride,
                };
                if pairs {
                    let q = queries.values.chunks(stride).take(rows);
                    for (q, paired) in q.zip(paired.chunks_exact_mut(depth)) {
                        pair_columns(&q[..d], paired);
                    }
                    queries = Rows {
                        values: &paired,
                        stride: depth,
                    };
                }
                for column in (0..row_len).step_by(kernel.columns()) {
                    let columns = kernel.columns().min(row_len - column);
                    let keys = Rows {
                        values: &keys[column..],
                        stride: row_len,
                    };
                    for row in (0..rows).step_by(kernel.rows) {
                        let high = kernel.rows.min(rows - row);
                        let q = Rows {
                            values: &queries.values[row * queries.stride..],
                            ..queries
                        };
                        let scores = &mut scores[row * row_len + column..];
                        kernel.tile([high, depth, columns], q, keys, scores, row_len);
                    }
                }
                for row in scores.chunks_exact_mut(row_len) {
                    row[tokens..].fill(f32::NEG_INFINITY);
                }
                let mut factors = [0f32; QUERY_BLOCK];
                softmax_rows(scores, row_len, &mut factors);
                if pairs {
                    for row in scores.chunks_exact_mut(row_len) {
                        pair_neighbours(row);
                    }
                }
                let values = &packed.values[h * tokens * width..][..tokens * width];
                for row in (0..rows).step_by(kernel.rows) {
                    let high = kernel.rows.min(rows - row);
                    let weights = Rows {
                        values: &scores[row * row_len..],
                        stride: row_len,
                    };
                    for column in (0..width).step_by(kernel.columns()) {
                        let columns = kernel.columns().min(width - column);
                        let values = Rows {
                            values: &values[column..],
                            stride: width,
                        };
                        kernel.tile(
                            [high, terms, columns],
                            weights,
                            values,
                            &mut result[column..],
                            width,
                        );
                    }
                    for (r, result) in result.chunks_exact(width).take(high).enumerate() {
                        let out = &mut out[(row + r) * out_width + h * d..][..d];
                        for (out, v) in out.iter_mut().zip(result) {
                            *out = v * factors[row + r];
                        }
                    }
                }
            }
        }
        Ok(())
    })
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

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (q, kv) = (&*inputs[0], &*inputs[inputs.len() - 1]);
        let stride = kv.shape()[1];
        let (k_column, v_column, width) = self.layout(inputs.len(), stride);
        let d = width / self.heads;
        let kv = slice(kv)?;
        let pairs = Kernel::pairs().filter(|_| self.rounded && d.is_multiple_of(2));
        // Both paths have the same values.
        let mut values = None;
        let mut attention = |q: &[f32], q_stride, k_column| -> TractResult<TValue> {
            let rows = q.len().div_ceil(q_stride);
            let mut out = Output::take(ctx, &[rows, width])?;
            let tokens = kv.len() / stride;
            let packed = PackedHeads {
                kernel: pairs.unwrap_or_else(Kernel::best),
                pairs: pairs.is_some(),
                tokens,
                row_len: tokens.next_multiple_of(STEP),
                width: d.next_multiple_of(STEP),
                d,
                keys: pack_keys(kv, stride, k_column, self.heads, d, pairs.is_some())?,
                values: match &mut values {
                    Some(values) => values,
                    none => none.insert(pack_values(
                        kv,
                        stride,
                        v_column,
                        self.heads,
                        d,
                        pairs.is_some(),
                    )?),
                },
            };
            attend(q, q_stride, &packed, out.slice()?, width)?;
            Ok(out.hand_on())
        };
        let mut outputs = tvec!(attention(slice(q)?, q.shape()[1], k_column)?);
        if self.vv {
            outputs.push(attention(&kv[v_column..], stride, v_column)?);
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
    use tract_linalg::multithread::{Executor, multithread_tract_scope};

    fn check(tokens: usize, width: usize, heads: usize, rounded: bool) {
        // bf16 keeps 8 bits of queries, keys, values and weights, all of them up to 1.
        let bound = if rounded { 1e-2 } else { 1e-4 };
        let d = width / heads;
        let qkv = testing::tensor(&[tokens, 3 * width], 9);
        let got = testing::eval(
            &Attention {
                heads,
                vv: true,
                rounded,
            },
            &[&qkv],
        );
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
                            (got - want).abs() < bound,
                            "{tokens} tokens, head {h} [{r},{c}]: {got} for {want}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn both_paths_match_their_definition() {
        for rounded in [false, true] {
            check(5, 16, 2, rounded);
            check(37, 128, 2, rounded);
            check(200, 64, 1, rounded);
            check(70, 160, 2, rounded);
            check(9, 15, 3, rounded);
        }
    }

    #[test]
    fn a_pool_of_threads_changes_nothing() {
        let qkv = testing::tensor(&[50, 3 * 96], 3);
        let op = Attention {
            heads: 3,
            vv: true,
            rounded: true,
        };
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
        let op = Attention {
            heads: 2,
            vv: true,
            rounded: false,
        };
        let (whole, split) = (testing::eval(&op, &[&qkv]), testing::eval(&op, &[&q, &kv]));
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(
            &slice(&whole[0]).unwrap()[..width],
            slice(&split[0]).unwrap()
        ));
        assert!(close(slice(&whole[1]).unwrap(), slice(&split[1]).unwrap()));
    }
}
