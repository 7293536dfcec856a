//! What becomes a layer: convolutions, and products of rows with a constant matrix.

use super::{Layer, Rewriter, Value};
use crate::ops::activation::Activation;
use crate::ops::conv::{Convolution, Geometry, Kernel};
use crate::ops::slice;
use crate::ops::weights::{Arithmetic, Matrix, Weights, to_int8};
use std::sync::Arc;
use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat};
use tract_core::ops::einsum::EinSum;

/// Products of fewer inputs stay in f32: to round a row takes as long as they do.
const SHORTEST: usize = 32;

impl Rewriter<'_> {
    pub(super) fn convolution(
        &mut self,
        node: &TypedNode,
        conv: &Conv,
    ) -> TractResult<Option<Value>> {
        let [x, kernel, bias] = *node.inputs else {
            return Ok(None);
        };
        let (Some(kernel), Some(bias)) = (self.constant(kernel)?, self.constant(bias)?) else {
            return Ok(None);
        };
        let pool = &conv.pool_spec;
        let shape = self.shape(x)?;
        let data = pool.data_format.shape(shape)?;
        let (&[h, w], 1, None) = (data.hw_dims(), *data.n().unwrap_or(&1), &conv.q_params) else {
            return Ok(None);
        };
        let padding = pool.computed_padding(&[h, w]);
        let geometry = Geometry {
            input: [h, w],
            output: [padding[0].convoluted, padding[1].convoluted],
            kernel: [pool.kernel_shape[0], pool.kernel_shape[1]],
            stride: [pool.stride(0), pool.stride(1)],
            dilation: [pool.dilation(0), pool.dilation(1)],
            before: [padding[0].pad_before, padding[1].pad_before],
        };
        if !geometry.is_covered() {
            return Ok(None);
        }
        let (outputs, steps) = (pool.output_channels, pool.kernel_shape.iter().product());
        let last: &[usize] = match conv.kernel_fmt {
            KernelFormat::OIHW => &[0, 2, 3, 1],
            KernelFormat::HWIO => &[3, 0, 1, 2],
            KernelFormat::OHWI => &[0, 1, 2, 3],
        };
        let kernel = kernel.into_tensor().permute_axes(last)?;
        let kernel = match conv.group {
            1 => self.packed(kernel.into_shape(&[outputs, steps * pool.input_channels])?)?,
            group if group == outputs && group == pool.input_channels => {
                if conv.kernel_fmt == KernelFormat::HWIO {
                    return Ok(None);
                }
                let taps = kernel
                    .into_shape(&[outputs, steps])?
                    .permute_axes(&[1, 0])?;
                Kernel::Depthwise(Arc::new(taps))
            }
            _ => return Ok(None),
        };
        let bias = match bias.len() {
            1 => vec![slice(&bias)?[0]; outputs],
            _ => slice(&bias)?.to_vec(),
        };
        let axis = data.c_axis();
        let layer = Layer {
            name: node.name.clone(),
            op: Convolution {
                geometry,
                kernel,
                bias: Some(Arc::new(Tensor::from_shape(&[outputs], &bias)?)),
                activation: Activation::None,
                residual: false,
            },
            inputs: tvec!(self.rows(x, axis)?),
        };
        Ok(Some(Value::layer(layer, axis)))
    }

    /// A matrix [outputs, inputs] for this network's arithmetic.
    fn packed(&self, matrix: Tensor) -> TractResult<Kernel> {
        let columns = matrix.shape()[1];
        // In int8 one that is NaN would count as 0.
        ensure!(
            slice(&matrix)?.iter().all(|w| w.is_finite()),
            "a weight that is no finite number"
        );
        let matrix = if self.arithmetic == Arithmetic::Int8 && columns >= SHORTEST {
            let (values, scales) = to_int8(slice(&matrix)?, columns);
            Matrix::Int8 {
                values,
                columns,
                scales,
            }
        } else {
            Matrix::F32(matrix)
        };
        let weights = Weights::pack(&matrix, self.arithmetic)?;
        Ok(Kernel::Dense(Arc::new(weights)))
    }

    /// A product of rows with a constant matrix.
    pub(super) fn product(
        &mut self,
        node: &TypedNode,
        einsum: &EinSum,
    ) -> TractResult<Option<Value>> {
        let [a, b] = *node.inputs else {
            return Ok(None);
        };
        let (data, weights, kernel) = match (self.constant(a)?, self.constant(b)?) {
            (None, Some(kernel)) => (0, 1, kernel),
            (Some(kernel), None) => (1, 0, kernel),
            _ => return Ok(None),
        };
        if einsum.q_params.is_some() {
            return Ok(None);
        }
        let x = node.inputs[data];
        let (mut inner, mut outer, mut places) = (vec![], vec![], vec![]);
        for axis in einsum.axes.iter_all_axes() {
            let [of_data, of_weights] = [data, weights].map(|slot| &axis.inputs[slot]);
            match (&**of_data, &**of_weights, &*axis.outputs[0]) {
                ([d], [w], []) => inner.push((*d, *w)),
                ([], [w], [o]) => outer.push((*o, *w)),
                ([d], [], [o]) => places.push((*d, *o)),
                // A batch of one.
                ([d], [w], [o]) if self.shape(x)?[*d] == 1 && kernel.shape()[*w] == 1 => {
                    places.push((*d, *o))
                }
                _ => return Ok(None),
            }
        }
        places.sort();
        let ([(channels, k)], [(axis, n)]) = (&*inner, &*outer) else {
            return Ok(None);
        };
        // Rows are there, or are how the value lies anyway.
        let free = *channels + 1 == self.shape(x)?.len();
        let ordered = places.is_sorted_by(|a, b| a.1 < b.1);
        if !ordered || self.has_rows(x) != Some(*channels) && !free {
            return Ok(None);
        }
        let sizes = [kernel.shape()[*n], kernel.shape()[*k]];
        if sizes[0] * sizes[1] != kernel.len() {
            return Ok(None);
        }
        let order: Vec<usize> = [*n, *k]
            .into_iter()
            .chain((0..kernel.rank()).filter(|i| i != n && i != k))
            .collect();
        let kernel = self.packed(
            kernel
                .into_tensor()
                .permute_axes(&order)?
                .into_shape(&sizes)?,
        )?;
        let rows = self.rows(x, *channels)?;
        let count = self.shape(x)?.iter().product::<usize>() / sizes[1];
        let layer = Layer {
            name: node.name.clone(),
            op: Convolution {
                geometry: Geometry::pointwise([1, count]),
                kernel,
                bias: None,
                activation: Activation::None,
                residual: false,
            },
            inputs: tvec!(rows),
        };
        Ok(Some(Value::layer(layer, *axis)))
    }
}
