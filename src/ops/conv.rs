//! Convolutions of a picture that lies channels last: a row of channels for each place, places in raster order.
//!
//! In that order a kernel of 1 x 1 is a dense layer of rows, and a channel's neighbours in memory are other channels
//! of the same place: what a depthwise kernel multiplies fills vectors whatever the picture's width is.

use super::activation::Activation;
use super::scratch::{Output, Scratch};
use super::simd::{multiply_add, vectorised};
use super::weights::{SliceEpilogue, Weights};
use super::{par_rows, slice};
use std::ops::Range;
use tract_core::internal::*;

/// Where a kernel lies on the picture. Pairs are (down, across).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Places of the input.
    pub input: [usize; 2],
    /// Places of the output.
    pub output: [usize; 2],
    /// Places of the kernel.
    pub kernel: [usize; 2],
    /// From one output's places to the next one's.
    pub stride: [usize; 2],
    /// From one place of the kernel to the next.
    pub dilation: [usize; 2],
    /// Rows and columns of zeros before the picture; behind it are as many as the output asks for.
    pub before: [usize; 2],
}

impl Geometry {
    /// Of a kernel that sees each place by itself.
    pub fn pointwise(input: [usize; 2]) -> Geometry {
        Geometry {
            input,
            output: input,
            kernel: [1; 2],
            stride: [1; 2],
            dilation: [1; 2],
            before: [0; 2],
        }
    }

    fn is_pointwise(&self) -> bool {
        *self == Geometry::pointwise(self.input)
    }

    /// Steps of the kernel that lie on the picture for the output's row or column `at`, and the place of step 0, which
    /// may lie before the picture.
    fn steps(&self, axis: usize, at: usize) -> (Range<usize>, isize) {
        let first = (at * self.stride[axis]) as isize - self.before[axis] as isize;
        let (step, end) = (self.dilation[axis] as isize, self.input[axis] as isize);
        let from = (-first).max(0).div_euclid(step) + ((-first).max(0) % step != 0) as isize;
        let to = (end - first + step - 1).max(0).div_euclid(step);
        let to = to.min(self.kernel[axis] as isize).max(0);
        (from.min(to) as usize..to as usize, first)
    }

    /// Whether every output sees a part of the picture, and the next one lies ahead.
    pub fn is_covered(&self) -> bool {
        let seen =
            |axis: usize| (0..self.output[axis]).all(|at| !self.steps(axis, at).0.is_empty());
        self.stride.iter().chain(&self.dilation).all(|n| *n > 0) && seen(0) && seen(1)
    }

    /// Rows or columns of the output whose kernel lies on the picture as a whole.
    fn inside(&self, axis: usize) -> Range<usize> {
        let reach = (self.kernel[axis] - 1) * self.dilation[axis];
        let room = (self.input[axis] + self.before[axis]).checked_sub(reach + 1);
        let end = room.map_or(0, |room| room / self.stride[axis] + 1);
        self.before[axis].div_ceil(self.stride[axis])..end.min(self.output[axis])
    }

    /// The place of the input, in raster order, below a step of the kernel.
    fn place(&self, first: [isize; 2], step: [usize; 2]) -> usize {
        let at = |axis: usize| first[axis] + (step[axis] * self.dilation[axis]) as isize;
        at(0) as usize * self.input[1] + at(1) as usize
    }
}

/// Rows of a picture.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// All channels of all places of these rows.
    pub values: &'a [f32],
    /// The picture's row that they begin with.
    pub first: usize,
}

impl Part<'_> {
    /// A whole picture.
    pub fn whole(values: &[f32]) -> Part<'_> {
        Part { values, first: 0 }
    }
}

/// What a place is multiplied with.
#[derive(Clone, Debug)]
pub enum Kernel {
    /// [outputs, kernel places * inputs]: all channels of a place behind each other, places in raster order.
    Dense(Arc<Weights>),
    /// [kernel places, channels]: every channel by itself.
    Depthwise(Arc<Tensor>),
}

/// `activation(kernel * x + bias) + residual` on [places, inputs] f32, to [places, outputs]; the residual is the second
/// input.
#[derive(Clone, Debug)]
pub struct Convolution {
    /// Where the kernel lies.
    pub geometry: Geometry,
    /// The kernel.
    pub kernel: Kernel,
    /// Added to each output, `[outputs]`.
    pub bias: Option<Arc<Tensor>>,
    /// Applied to the sums.
    pub activation: Activation,
    /// Whether there is a second input; dense kernels only.
    pub residual: bool,
}

impl PartialEq for Convolution {
    fn eq(&self, other: &Self) -> bool {
        let kernels = match (&self.kernel, &other.kernel) {
            (Kernel::Dense(a), Kernel::Dense(b)) => Arc::ptr_eq(a, b),
            (Kernel::Depthwise(a), Kernel::Depthwise(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        kernels
            && self.geometry == other.geometry
            && self.bias == other.bias
            && self.activation == other.activation
            && self.residual == other.residual
    }
}

impl Eq for Convolution {}

impl Convolution {
    /// Channels of the output.
    pub fn outputs(&self) -> usize {
        match &self.kernel {
            Kernel::Dense(weights) => weights.outputs(),
            Kernel::Depthwise(taps) => taps.shape()[1],
        }
    }

    /// Channels of the input.
    pub fn inputs(&self) -> usize {
        match &self.kernel {
            Kernel::Dense(weights) => weights.inputs() / self.kernel_places(),
            Kernel::Depthwise(taps) => taps.shape()[1],
        }
    }

    fn kernel_places(&self) -> usize {
        self.geometry.kernel[0] * self.geometry.kernel[1]
    }

    /// Rows of the input that these rows of the output, at least one, see.
    pub fn seen(&self, rows: &Range<usize>) -> Range<usize> {
        let g = &self.geometry;
        let first = (rows.start * g.stride[0]).saturating_sub(g.before[0]);
        let last = (rows.end - 1) * g.stride[0] + (g.kernel[0] - 1) * g.dilation[0] + 1;
        let end = last.saturating_sub(g.before[0]).min(g.input[0]);
        first.min(end)..end
    }

    /// These rows of the output's picture, from a part of the input that has the rows that they see.
    ///
    /// # Errors
    /// Lengths that do not fit each other.
    pub fn rows(
        &self,
        x: Part,
        rows: Range<usize>,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) -> TractResult<()> {
        let weights = match &self.kernel {
            Kernel::Depthwise(taps) => return self.depthwise(x, slice(taps)?, rows.start, out),
            Kernel::Dense(weights) => weights,
        };
        let epilogue = SliceEpilogue {
            scale: 1.0,
            bias: self.bias.as_deref().map(slice).transpose()?,
            activation: self.activation,
            residual,
        };
        let places = self.geometry.output[1] * rows.len();
        if self.geometry.is_pointwise() {
            let line = self.geometry.input[1] * weights.inputs();
            let x = &x.values[(rows.start - x.first) * line..][..places * weights.inputs()];
            return weights.rows(x, epilogue, out);
        }
        let mut unfolded = Scratch::take(places * weights.inputs());
        self.unfold(x, rows.start, &mut unfolded)?;
        weights.rows(&unfolded, epilogue, out)
    }

    /// What each output's kernel lies on, a row each, from the output's row `top` on; zeros beside the picture.
    fn unfold(&self, x: Part, top: usize, rows: &mut [f32]) -> TractResult<()> {
        let (g, channels) = (&self.geometry, self.inputs());
        let width = self.kernel_places() * channels;
        let missing = x.first * g.input[1];
        par_rows(rows, width, 1, |first, rows| {
            let first = top * g.output[1] + first;
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                let (down, top) = g.steps(0, (first + i) / g.output[1]);
                let (across, left) = g.steps(1, (first + i) % g.output[1]);
                if down.len() * across.len() * channels < width {
                    row.fill(0.0);
                }
                for y in down {
                    // Neighbours of one row lie behind each other.
                    let run = if g.dilation[1] == 1 { across.len() } else { 1 };
                    for step in across.clone().step_by(run) {
                        let from = (g.place([top, left], [y, step]) - missing) * channels;
                        row[(y * g.kernel[1] + step) * channels..][..run * channels]
                            .copy_from_slice(&x.values[from..from + run * channels]);
                    }
                }
            }
            Ok(())
        })
    }

    fn depthwise(&self, x: Part, taps: &[f32], top: usize, out: &mut [f32]) -> TractResult<()> {
        let (g, channels) = (&self.geometry, self.outputs());
        let bias = self.bias.as_deref().map(slice).transpose()?;
        let activation = self.activation.kernel()?;
        let line = g.output[1] * channels;
        par_rows(out, line, 1, |first, lines| {
            for (i, out) in lines.chunks_exact_mut(line).enumerate() {
                depthwise_line(x, taps, bias, out, g, top + first + i, channels);
                if !activation.is_none() {
                    activation.run(out)?;
                }
            }
            Ok(())
        })
    }
}

/// The output's row `at`, `N` channels of every place from `channel` on.
#[inline(always)]
fn depthwise_columns<const N: usize, const FUSED: bool>(
    x: Part,
    taps: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
    g: &Geometry,
    at: usize,
    [channel, channels]: [usize; 2],
) {
    let start = bias.and_then(|b| b[channel..].first_chunk::<N>());
    let start = start.copied().unwrap_or([0.0; N]);
    let (down, top) = g.steps(0, at);
    let inside = g.inside(1);
    let missing = x.first * g.input[1];
    for (column, out) in out.chunks_exact_mut(channels).enumerate() {
        // Most lie inside: no division there.
        let (across, left) = match inside.contains(&column) {
            true => (
                0..g.kernel[1],
                (column * g.stride[1]) as isize - g.before[1] as isize,
            ),
            false => g.steps(1, column),
        };
        let mut sums = start;
        for y in down.clone() {
            let place = g.place([top, left], [y, across.start]) - missing;
            let from = place * channels + channel;
            let step = g.dilation[1] * channels;
            for (i, tap) in across.clone().enumerate() {
                let x = x.values[from + i * step..].first_chunk::<N>();
                let taps = taps[(y * g.kernel[1] + tap) * channels + channel..].first_chunk::<N>();
                let (Some(x), Some(taps)) = (x, taps) else {
                    return;
                };
                for i in 0..N {
                    sums[i] = multiply_add::<FUSED>(x[i], taps[i], sums[i]);
                }
            }
        }
        out[channel..channel + N].copy_from_slice(&sums);
    }
}

vectorised! {
    /// The output's row `at`.
    fn depthwise_line(
        x: Part, taps: &[f32], bias: Option<&[f32]>, out: &mut [f32], g: &Geometry, at: usize, channels: usize,
    ) {
        // Channels outermost: their part of the kernel stays in the nearest cache.
        let mut channel = 0;
        while channel < channels {
            let which = [channel, channels];
            channel += match channels - channel {
                64.. => {
                    depthwise_columns::<64, FUSED>(x, taps, bias, out, g, at, which);
                    64
                }
                32.. => {
                    depthwise_columns::<32, FUSED>(x, taps, bias, out, g, at, which);
                    32
                }
                8.. => {
                    depthwise_columns::<8, FUSED>(x, taps, bias, out, g, at, which);
                    8
                }
                _ => {
                    depthwise_columns::<1, FUSED>(x, taps, bias, out, g, at, which);
                    1
                }
            };
        }
    }
}

impl Op for Convolution {
    fn name(&self) -> StaticName {
        "FusedConvolution".into()
    }
    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!(
            "{:?}, {:?}, {:?}",
            self.geometry, self.kernel, self.activation
        )])
    }
    op_as_typed_op!();
}

impl EvalOp for Convolution {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let places = self.geometry.output[0] * self.geometry.output[1];
        let mut out = Output::take(ctx, &[places, self.outputs()])?;
        let whole = Part::whole(slice(&inputs[0])?);
        let residual = inputs.get(1).map(|r| slice(r)).transpose()?;
        self.rows(whole, 0..self.geometry.output[0], residual, out.slice()?)?;
        Ok(tvec!(out.hand_on()))
    }
}

impl TypedOp for Convolution {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let g = &self.geometry;
        ensure!(
            inputs.len() == 1 + self.residual as usize,
            "FusedConvolution: {} inputs",
            inputs.len()
        );
        let places = [g.input, g.output].map(|p| p[0] * p[1]);
        ensure!(
            *inputs[0].shape == [places[0].to_dim(), self.inputs().to_dim()],
            "FusedConvolution of {:?} places and {} channels on {:?}",
            g.input,
            self.inputs(),
            inputs[0]
        );
        let kernel = match &self.kernel {
            Kernel::Dense(weights) => weights.inputs() == self.kernel_places() * self.inputs(),
            Kernel::Depthwise(taps) => {
                taps.rank() == 2 && taps.shape()[0] == self.kernel_places() && !self.residual
            }
        };
        let bias = self.bias.as_ref();
        ensure!(
            kernel && bias.is_none_or(|b| b.len() == self.outputs()) && g.is_covered(),
            "FusedConvolution: {self:?}"
        );
        ensure!(
            !(self.residual && self.activation != Activation::None),
            "FusedConvolution: a residual is added before the activation"
        );
        let out = f32::fact([places[1], self.outputs()]);
        if let Some(residual) = inputs.get(1) {
            ensure!(
                residual.shape == out.shape,
                "FusedConvolution: a residual of {residual:?} for {out:?}"
            );
        }
        Ok(tvec!(out))
    }
    as_op!();
}

#[cfg(test)]
mod tests {
    use super::super::testing::{numbers, tensor};
    use super::super::weights::{Arithmetic, Matrix};
    use super::*;
    use proptest::prelude::*;
    use tract_linalg::multithread::{Executor, multithread_tract_scope};

    /// What the definition says, in f64; `weight` gives the kernel's number of (output, step, input channel).
    fn expected(
        g: &Geometry,
        x: &[f32],
        inputs: usize,
        outputs: usize,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Vec<f64> {
        let mut out = vec![];
        for (y, x_out) in (0..g.output[0]).flat_map(|y| (0..g.output[1]).map(move |x| (y, x))) {
            for output in 0..outputs {
                let mut sum = 0.0;
                for step in 0..g.kernel[0] * g.kernel[1] {
                    let at = |axis: usize, out: usize, step: usize| {
                        (out * g.stride[axis] + step * g.dilation[axis])
                            .checked_sub(g.before[axis])
                            .filter(|at| *at < g.input[axis])
                    };
                    let places = (
                        at(0, y, step / g.kernel[1]),
                        at(1, x_out, step % g.kernel[1]),
                    );
                    let (Some(down), Some(across)) = places else {
                        continue;
                    };
                    for channel in 0..inputs {
                        let x = x[(down * g.input[1] + across) * inputs + channel];
                        sum += f64::from(x) * f64::from(weight(output, step, channel));
                    }
                }
                out.push(sum);
            }
        }
        out
    }

    fn geometry() -> impl Strategy<Value = Geometry> {
        let axis = (
            1usize..12,
            1usize..6,
            1usize..4,
            1usize..3,
            0usize..3,
            0usize..3,
        );
        [axis.clone(), axis].prop_filter_map("a kernel on the picture", |axes| {
            let output = axes.map(|(input, kernel, stride, dilation, before, behind)| {
                let reach = (kernel - 1) * dilation + 1;
                (input + before + behind)
                    .checked_sub(reach)
                    .map(|n| n / stride + 1)
            });
            let g = Geometry {
                input: axes.map(|a| a.0),
                output: [output[0]?, output[1]?],
                kernel: axes.map(|a| a.1),
                stride: axes.map(|a| a.2),
                dilation: axes.map(|a| a.3),
                before: axes.map(|a| a.4),
            };
            g.is_covered().then_some(g)
        })
    }

    fn run(op: &Convolution, inputs: &[&Tensor], threads: usize) -> Vec<f32> {
        multithread_tract_scope(Executor::multithread(threads), || {
            let facts: Vec<TypedFact> = inputs.iter().map(|t| f32::fact(t.shape())).collect();
            let out = &super::super::testing::eval(op, inputs)[0];
            let fact = &op.output_facts(&facts.iter().collect::<Vec<_>>()).unwrap()[0];
            assert_eq!(fact.shape.as_concrete().unwrap(), out.shape());
            slice(out).unwrap().to_vec()
        })
    }

    proptest! {
        #[test]
        fn every_channel_by_itself(g in geometry(), channels in 1usize..150, seed in any::<u64>()) {
            let x = tensor(&[g.input[0] * g.input[1], channels], seed);
            let taps = tensor(&[g.kernel[0] * g.kernel[1], channels], seed ^ 1);
            let bias = tensor(&[channels], seed ^ 2);
            let op = Convolution {
                geometry: g.clone(),
                kernel: Kernel::Depthwise(Arc::new(taps.clone())),
                bias: Some(Arc::new(bias.clone())),
                activation: Activation::Relu6,
                residual: false,
            };
            let got = run(&op, &[&x], 1);
            prop_assert_eq!(&got, &run(&op, &[&x], 3), "threads change it");
            let (xs, taps) = (slice(&x).unwrap(), slice(&taps).unwrap());
            for (place, row) in got.chunks_exact(channels).enumerate() {
                for (c, got) in row.iter().enumerate().step_by(7) {
                    let own: Vec<f32> = xs.iter().skip(c).step_by(channels).copied().collect();
                    let want = expected(&g, &own, 1, 1, |_, step, _| taps[step * channels + c])[place];
                    let want = (want + f64::from(slice(&bias).unwrap()[c])).clamp(0.0, 6.0);
                    prop_assert!((f64::from(*got) - want).abs() < 1e-5, "place {place}, channel {c}: {got} for {want}");
                }
            }
        }

        #[test]
        fn all_channels_together(
            g in geometry(), inputs in 1usize..9, outputs in 1usize..20, seed in any::<u64>(), residual in any::<bool>(),
        ) {
            let steps = g.kernel[0] * g.kernel[1];
            let x = tensor(&[g.input[0] * g.input[1], inputs], seed);
            let kernel = numbers(outputs * steps * inputs, seed ^ 1);
            let matrix = Tensor::from_shape(&[outputs, steps * inputs], &kernel).unwrap();
            let bias = tensor(&[outputs], seed ^ 2);
            let other = tensor(&[g.output[0] * g.output[1], outputs], seed ^ 3);
            let op = Convolution {
                geometry: g.clone(),
                kernel: Kernel::Dense(Arc::new(Weights::pack(&Matrix::F32(matrix), Arithmetic::F32).unwrap())),
                bias: Some(Arc::new(bias.clone())),
                activation: if residual { Activation::None } else { Activation::Relu },
                residual,
            };
            let both = [&x, &other];
            let got = run(&op, &both[..1 + residual as usize], 1);
            prop_assert_eq!(&got, &run(&op, &both[..1 + residual as usize], 3), "threads change it");
            let want = expected(&g, slice(&x).unwrap(), inputs, outputs, |output, step, channel| {
                kernel[(output * steps + step) * inputs + channel]
            });
            for (i, (got, want)) in got.iter().zip(want).enumerate() {
                let want = want + f64::from(slice(&bias).unwrap()[i % outputs]);
                let want = if residual { want + f64::from(slice(&other).unwrap()[i]) } else { want.max(0.0) };
                prop_assert!((f64::from(*got) - want).abs() < 1e-4, "[{i}]: {got} for {want}");
            }
        }
    }
}
