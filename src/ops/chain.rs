//! Convolutions one after another, some rows at a time: what lies between them stays in the nearest caches.
//!
//! A network for phones widens each map six times before a depthwise kernel looks at it: at 112 x 112 places that is five
//! megabytes, written and read again for every layer, where a few of its rows are all that the next layer needs at a time.

use super::conv::{Convolution, Part};
use super::scratch::{Output, Scratch};
use super::{par_rows, slice, threads};
use std::ops::Range;
use tract_core::internal::*;

/// Bytes of rows between layers that a thread keeps at a time: what the second-level cache of a small core has beside
/// weights.
pub const KEPT: usize = 384 << 10;

/// Layers of which each sees nothing but the one before it; the last one may add a residual, which is the second input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    layers: Vec<Convolution>,
    /// Rows of the output at a time.
    band: usize,
}

/// The rows between two layers that there are at the moment.
struct Window {
    rows: Range<usize>,
    /// Numbers of a row.
    line: usize,
    values: Scratch,
}

impl Window {
    /// Forgets the rows before `first`.
    fn begin(&mut self, first: usize) {
        let gone = first.clamp(self.rows.start, self.rows.end) - self.rows.start;
        let kept = gone * self.line..self.rows.len() * self.line;
        self.values.copy_within(kept, 0);
        self.rows.start += gone;
        if self.rows.is_empty() {
            self.rows = first..first;
        }
    }

    fn part(&self) -> Part<'_> {
        Part {
            values: &self.values,
            first: self.rows.start,
        }
    }
}

impl Chain {
    /// Of at least one layer. `None`: one of them does not fit the one before it, adds a residual before the end, or has
    /// a single column, where sums would hang on the number of rows.
    pub fn new(layers: Vec<Convolution>) -> Option<Chain> {
        let fits = |pair: &[Convolution]| {
            pair[0].geometry.output == pair[1].geometry.input
                && pair[0].outputs() == pair[1].inputs()
                && !pair[0].residual
        };
        let wide = layers.iter().all(|layer| layer.geometry.output[1] > 1);
        if layers.is_empty() || !wide || !layers.windows(2).all(fits) {
            return None;
        }
        let mut chain = Chain { layers, band: 1 };
        let all = chain.last().geometry.output[0];
        let kept = (1..=all).rev().find(|rows| chain.bytes(*rows) <= KEPT);
        chain.band = kept.unwrap_or(1);
        Some(chain)
    }

    /// The layers, in order.
    pub fn layers(&self) -> &[Convolution] {
        &self.layers
    }

    fn last(&self) -> &Convolution {
        &self.layers[self.layers.len() - 1]
    }

    /// Rows of each layer's output but the last one's that there may be at a time, for as many rows of the last one's.
    fn room(&self, mut rows: usize) -> Vec<usize> {
        let seen = self.layers.iter().skip(1).rev().map(|layer| {
            let g = &layer.geometry;
            rows = (rows.max(1) - 1) * g.stride[0] + (g.kernel[0] - 1) * g.dilation[0] + 1;
            rows = rows.min(g.input[0]);
            rows
        });
        let mut room: Vec<usize> = seen.collect();
        room.reverse();
        room
    }

    /// What lies between the layers at a time, for as many rows of the output.
    fn bytes(&self, rows: usize) -> usize {
        let lines = self.layers.iter().zip(self.room(rows));
        lines.map(|(layer, rows)| rows * line(layer) * 4).sum()
    }

    /// Whether threads that share the rows would compute many of those between layers twice: more than a quarter of them.
    fn is_torn_by(&self, threads: usize) -> bool {
        if threads == 1 {
            return false;
        }
        let rows = self.last().geometry.output[0].div_ceil(threads);
        let own = self.layers.iter().map(|layer| layer.geometry.output[0]);
        let mut both = own.zip(self.room(rows));
        both.any(|(own, room)| 4 * room > 5 * own.div_ceil(threads))
    }

    /// The whole output, one layer after the other.
    fn one_by_one(&self, x: &[f32], residual: Option<&[f32]>, out: &mut [f32]) -> TractResult<()> {
        let all = |layer: &Convolution| 0..layer.geometry.output[0];
        let mut before: Option<Scratch> = None;
        for layer in &self.layers[..self.layers.len() - 1] {
            let mut next = Scratch::take(layer.geometry.output[0] * line(layer));
            let x = before.as_deref().unwrap_or(x);
            layer.rows(Part::whole(x), all(layer), None, &mut next)?;
            before = Some(next);
        }
        let x = before.as_deref().unwrap_or(x);
        self.last()
            .rows(Part::whole(x), all(self.last()), residual, out)
    }

    /// These rows of the output.
    fn rows(
        &self,
        x: &[f32],
        residual: Option<&[f32]>,
        rows: Range<usize>,
        out: &mut [f32],
    ) -> TractResult<()> {
        let (band, width) = (self.band, line(self.last()));
        let between = self.layers.iter().zip(self.room(band));
        let mut windows: Vec<Window> = between
            .map(|(layer, rows)| Window {
                rows: 0..0,
                line: line(layer),
                values: Scratch::take(rows * line(layer)),
            })
            .collect();
        let mut wanted = vec![0..0; self.layers.len()];
        for (i, out) in out.chunks_mut(band * width).enumerate() {
            let start = rows.start + i * band;
            wanted[self.layers.len() - 1] = start..start + out.len() / width;
            // Backwards: what is seen of each layer, and what of that is not there yet.
            for layer in (1..self.layers.len()).rev() {
                let window = &mut windows[layer - 1];
                if wanted[layer].is_empty() {
                    wanted[layer - 1] = window.rows.end..window.rows.end;
                    continue;
                }
                let seen = self.layers[layer].seen(&wanted[layer]);
                window.begin(seen.start);
                wanted[layer - 1] = window.rows.end..seen.end.max(window.rows.end);
            }
            for (at, layer) in self.layers.iter().enumerate() {
                let (before, after) = windows.split_at_mut(at);
                let x = before.last().map_or(Part::whole(x), Window::part);
                let new = wanted[at].clone();
                match after.first_mut() {
                    None => {
                        let span = new.start * width..new.end * width;
                        layer.rows(x, new, residual.map(|r| &r[span]), out)?;
                    }
                    Some(_) if new.is_empty() => (),
                    Some(window) => {
                        let place = (new.start - window.rows.start) * window.line;
                        let to = &mut window.values[place..][..new.len() * window.line];
                        layer.rows(x, new.clone(), None, to)?;
                        window.rows.end = new.end;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Numbers of a row of a layer's output.
fn line(layer: &Convolution) -> usize {
    layer.geometry.output[1] * layer.outputs()
}

impl Op for Chain {
    fn name(&self) -> StaticName {
        "FusedChain".into()
    }
    fn info(&self) -> TractResult<Vec<String>> {
        self.layers
            .iter()
            .map(|layer| Ok(layer.info()?.join("; ")))
            .collect()
    }
    op_as_typed_op!();
}

impl EvalOp for Chain {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let g = &self.last().geometry;
        let shape = [g.output[0] * g.output[1], self.last().outputs()];
        let mut out = Output::take(ctx, &shape)?;
        let x = slice(&inputs[0])?;
        let residual = inputs.get(1).map(|r| slice(r)).transpose()?;
        if self.is_torn_by(threads()) {
            self.one_by_one(x, residual, out.slice()?)?;
            return Ok(tvec!(out.hand_on()));
        }
        let width = line(self.last());
        par_rows(out.slice()?, width, 1, |first, out| {
            self.rows(x, residual, first..first + out.len() / width, out)
        })?;
        Ok(tvec!(out.hand_on()))
    }
}

impl TypedOp for Chain {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut fact = inputs[0].clone();
        let (last, before) = self
            .layers
            .split_last()
            .context("a chain without a layer")?;
        for layer in before {
            fact = layer.output_facts(&[&fact])?.remove(0);
        }
        let inputs = [&[&fact], &inputs[1..]].concat();
        last.output_facts(&inputs)
    }
    as_op!();
}

#[cfg(test)]
mod tests {
    use super::super::activation::Activation;
    use super::super::conv::{Geometry, Kernel};
    use super::super::testing::{eval, tensor};
    use super::super::weights::{Arithmetic, Matrix, Weights, to_int8};
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;
    use tract_linalg::multithread::{Executor, multithread_tract_scope};

    /// A layer on this picture: kernel, stride, dilation and padding, the same on both axes.
    fn layer(
        input: [usize; 2],
        [kernel, stride, dilation, pad]: [usize; 4],
        [inputs, outputs]: [usize; 2],
        depthwise: bool,
        int8: bool,
        seed: u64,
    ) -> Option<Convolution> {
        let output = input.map(|n| {
            let reach = (kernel - 1) * dilation + 1;
            Some((n + 2 * pad).checked_sub(reach)? / stride + 1)
        });
        let geometry = Geometry {
            input,
            output: [output[0]?, output[1]?],
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [dilation; 2],
            before: [pad; 2],
        };
        let steps = kernel * kernel;
        let outputs = if depthwise { inputs } else { outputs };
        let kernel = if depthwise {
            Kernel::Depthwise(Arc::new(tensor(&[steps, inputs], seed)))
        } else {
            let matrix = tensor(&[outputs, steps * inputs], seed);
            let (values, scales) = to_int8(slice(&matrix).unwrap(), steps * inputs);
            let columns = steps * inputs;
            let (matrix, arithmetic) = match int8 {
                true => (
                    Matrix::Int8 {
                        values,
                        columns,
                        scales,
                    },
                    Arithmetic::Int8,
                ),
                false => (Matrix::F32(matrix), Arithmetic::F32),
            };
            Kernel::Dense(Arc::new(Weights::pack(&matrix, arithmetic).unwrap()))
        };
        geometry.is_covered().then(|| Convolution {
            geometry,
            kernel,
            bias: Some(Arc::new(tensor(&[outputs], seed ^ 1))),
            activation: Activation::Relu6,
            residual: false,
        })
    }

    fn sizes() -> impl Strategy<Value = [usize; 4]> {
        [1usize..5, 1usize..4, 1usize..3, 0usize..3]
    }

    proptest! {
        #[test]
        fn a_chain_gives_its_layers_numbers_whatever_is_kept(
            input in [2usize..15, 2usize..15], first in sizes(), second in sizes(), channels in [1usize..5, 1usize..40, 1usize..20],
            int8 in any::<bool>(), residual in any::<bool>(), seed in any::<u64>(),
        ) {
            let [inputs, wide, outputs] = channels;
            let layers = (|| {
                let a = layer(input, first, [inputs, wide], false, int8, seed)?;
                let b = layer(a.geometry.output, second, [wide, wide], true, int8, seed ^ 2)?;
                let mut c = layer(b.geometry.output, [1, 1, 1, 0], [wide, outputs], false, int8, seed ^ 4)?;
                c.residual = residual;
                c.activation = Activation::None;
                Some(vec![a, b, c])
            })();
            let Some(mut chain) = layers.and_then(Chain::new) else { return Ok(()) };
            let x = tensor(&[input[0] * input[1], inputs], seed ^ 8);
            let g = &chain.last().geometry;
            let (all, places) = (g.output[0], g.output[0] * g.output[1]);
            let other = tensor(&[places, outputs], seed ^ 16);
            let mut want = x.clone();
            for (i, layer) in chain.layers.iter().enumerate() {
                let both = [&want, &other];
                want = eval(layer, &both[..1 + (i == 2 && residual) as usize]).remove(0).into_tensor();
            }
            let both = [&x, &other];
            let inputs = &both[..1 + residual as usize];
            let facts: Vec<TypedFact> = inputs.iter().map(|t| f32::fact(t.shape())).collect();
            let fact = chain.output_facts(&facts.iter().collect::<Vec<_>>()).unwrap().remove(0);
            prop_assert_eq!(fact.shape.as_concrete().unwrap(), want.shape());
            prop_assert_eq!(chain.band, all, "small ones are kept whole");
            for band in 1..=all {
                chain.band = band;
                for threads in [1, 3] {
                    let got = multithread_tract_scope(Executor::multithread(threads), || eval(&chain, inputs).remove(0));
                    prop_assert_eq!(slice(&got).unwrap(), slice(&want).unwrap(), "{} rows, {} threads", band, threads);
                }
            }
        }
    }

    #[test]
    fn what_is_kept_fits_the_cache_of_a_small_core() {
        // EfficientNet-Lite's widest: 112 x 112 places, 96 channels.
        let wide = layer([112; 2], [1, 1, 1, 0], [16, 96], false, false, 1).unwrap();
        let deep = layer([112; 2], [3, 2, 1, 1], [96, 96], true, false, 2).unwrap();
        let narrow = layer([56; 2], [1, 1, 1, 0], [96, 24], false, false, 3).unwrap();
        let chain = Chain::new(vec![wide.clone(), deep.clone(), narrow.clone()]).unwrap();
        assert!(
            chain.band > 1 && chain.bytes(chain.band) <= KEPT && chain.bytes(chain.band + 1) > KEPT
        );
        // Four threads see 29 of 112 rows each, where 28 are their own; 56 threads see three for two.
        assert!(!chain.is_torn_by(1) && !chain.is_torn_by(4) && chain.is_torn_by(56));
        assert!(Chain::new(vec![]).is_none());
        assert!(
            Chain::new(vec![deep.clone(), wide]).is_none(),
            "another picture"
        );
        let summed = Convolution {
            residual: true,
            activation: Activation::None,
            ..deep
        };
        assert!(
            Chain::new(vec![summed, narrow]).is_none(),
            "a residual before the end"
        );
        let column = layer([8, 1], [1, 1, 1, 0], [4, 4], false, false, 4).unwrap();
        assert!(Chain::new(vec![column]).is_none(), "a single column");
    }
}
