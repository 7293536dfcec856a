//! Dense f32 products on tract-linalg's kernels, behind a safe interface.
//!
//! The only module of the operators with `unsafe`: tract-linalg takes raw output pointers. Every
//! view is bounds-checked when it is made, so what reaches a kernel lies inside its buffer.
#![allow(unsafe_code)]

use super::panels::{Matrix, NarrowPanels};
use tract_core::internal::*;
use tract_linalg::mmm::{AsInputValue, FusedSpec, MMMInputValue, MatMatMul, Query};
use tract_linalg::pack::PackedFormat;
use tract_linalg::{BinOp, MmmDispatch};

/// A matrix inside a tensor: `rows` x `cols`, columns adjacent, rows `stride` elements apart.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    tensor: &'a Tensor,
    offset: usize,
    shape: [usize; 2],
    strides: [isize; 2],
}

impl<'a> Mat<'a> {
    /// The view of `rows` x `cols` that starts at element `offset` of an f32 tensor.
    ///
    /// # Errors
    /// The tensor is not contiguous f32, or the view reaches outside it.
    pub fn new(
        tensor: &'a Tensor,
        offset: usize,
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> TractResult<Self> {
        super::slice(tensor).context("a matrix view of something that is not plain f32")?;
        ensure!(
            rows > 0 && cols > 0 && cols <= stride,
            "a {rows} x {cols} view with rows {stride} apart"
        );
        let end = (rows - 1)
            .checked_mul(stride)
            .and_then(|x| x.checked_add(cols))
            .and_then(|x| x.checked_add(offset));
        ensure!(
            end.is_some_and(|end| end <= tensor.len()),
            "a {rows} x {cols} view at {offset} of {} elements",
            tensor.len()
        );
        Ok(Mat {
            tensor,
            offset,
            shape: [rows, cols],
            strides: [stride as isize, 1],
        })
    }

    /// The whole tensor as rows of its last axis.
    ///
    /// # Errors
    /// As [`Mat::new`].
    pub fn whole(tensor: &'a Tensor) -> TractResult<Self> {
        let cols = tensor.shape().last().copied().unwrap_or(1);
        Mat::new(tensor, 0, tensor.len() / cols.max(1), cols, cols)
    }

    fn view(&'a self) -> TensorView<'a> {
        // SAFETY: `new` checked that every element of shape and strides lies inside the tensor.
        unsafe {
            TensorView::from_bytes(
                self.tensor,
                (self.offset * 4) as isize,
                &self.shape,
                &self.strides,
            )
        }
    }
}

/// One kernel choice for products of a given shape.
#[derive(Clone, Debug)]
struct Kernel {
    mmm: Box<dyn MatMatMul>,
    packing: usize,
}

/// Products of more than one row are asked for as if they had this many. tract's cost model weighs how
/// a tile divides the rows; for the prompt tower's 60 rows on AVX-512 it takes 16 x 12, which runs at
/// 35 of the 56 GMAC/s that its choice for other row counts reaches on the same 60 rows.
const TALL: usize = 1000;

impl Kernel {
    fn pick(m: usize, k: usize, n: usize) -> TractResult<Kernel> {
        let n = if n > 1 { TALL } else { n };
        let query = Query {
            allow_extractor: false,
            ..Query::plain(DatumType::F32, Some(m), Some(k), Some(n))
        };
        let (mmm, packing, _) = MmmDispatch::native()
            .pick(&query)
            .with_context(|| format!("no f32 matrix kernel for {m} x {k} x {n}"))?;
        Ok(Kernel { mmm, packing })
    }

    fn pack_a(&self, a: &Mat) -> TractResult<Box<dyn MMMInputValue>> {
        self.mmm.packings()[self.packing]
            .0
            .prepare_one_view(&a.view(), 1, 0)
    }

    /// Packs `b` given as [n, k] rows (`transposed`) or as [k, n].
    fn pack_b(&self, b: &Mat, transposed: bool) -> TractResult<Box<dyn MMMInputValue>> {
        let (k, n) = if transposed { (1, 0) } else { (0, 1) };
        self.mmm.packings()[self.packing]
            .1
            .prepare_one_view(&b.view(), k, n)
    }
}

/// What happens to a product on its way from the registers to memory, in this order.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Multiplies the product.
    pub scale: Option<f32>,
    /// Added to every output row: one value per output column.
    pub bias: Option<&'a Tensor>,
    /// Multiplies the sum.
    pub rescale: Option<f32>,
    /// Added element by element: as many rows and columns as the output, contiguous.
    pub residual: Option<&'a Tensor>,
}

/// A weight matrix [outputs, inputs], packed once for the kernel that this processor runs best, in the
/// type that it is stored in.
#[derive(Debug)]
pub struct FloatWeights {
    kernel: Kernel,
    packed: Box<dyn MMMInputValue>,
    /// Multiplies each output column: int8's scales.
    scales: Option<Tensor>,
    outputs: usize,
    inputs: usize,
}

impl FloatWeights {
    /// Packs `weights` [outputs, inputs] for products with about `rows` activation rows.
    ///
    /// # Errors
    /// An empty matrix, or one that no kernel takes.
    pub fn pack(weights: &Matrix, rows: usize) -> TractResult<FloatWeights> {
        let [outputs, inputs] = weights.shape();
        let kernel = Kernel::pick(outputs, inputs, rows)?;
        let format = &kernel.mmm.packings()[kernel.packing].0;
        let narrow = format
            .downcast_ref::<PackedFormat>()
            .and_then(|f| NarrowPanels::pack(weights, f));
        let packed: Box<dyn MMMInputValue> = match (narrow, weights) {
            (Some(panels), _) => Box::new(panels),
            (None, Matrix::F32(t)) => kernel.pack_a(&Mat::new(t, 0, outputs, inputs, inputs)?)?,
            (None, _) => bail!("{} takes no plain panels", kernel.mmm.name()),
        };
        let scales = match weights {
            Matrix::Int8 { scales, .. } => Some(tensor1(scales)),
            _ => None,
        };
        Ok(FloatWeights {
            kernel,
            packed,
            scales,
            outputs,
            inputs,
        })
    }

    /// The kernel's name.
    pub fn kernel(&self) -> &str {
        self.kernel.mmm.name()
    }

    /// Output columns.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Input columns.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// `x` [n, inputs] times the transposed weights, written to the rows of `out` [.., outputs] from
    /// row `first_row` on.
    ///
    /// # Errors
    /// Shapes that do not fit each other.
    pub fn product(
        &self,
        x: &Mat,
        epilogue: Epilogue,
        out: &mut Tensor,
        first_row: usize,
    ) -> TractResult<()> {
        let n = x.shape[0];
        ensure!(
            x.shape[1] == self.inputs,
            "{} input columns for weights of {}",
            x.shape[1],
            self.inputs
        );
        let Epilogue {
            scale,
            bias,
            rescale,
            residual,
        } = epilogue;
        ensure!(
            bias.is_none_or(|b| b.len() == self.outputs),
            "a bias of another length than {}",
            self.outputs
        );
        let residual = residual
            .map(|r| Mat::new(r, 0, n, self.outputs, self.outputs))
            .transpose()?;
        let mmm = &self.kernel.mmm;
        let b = self.kernel.pack_b(x, true)?;
        let (scale, rescale) = (scale.map(tensor0), rescale.map(tensor0));
        let target = Mat::new(out, first_row * self.outputs, n, self.outputs, self.outputs)?;
        let (target, residual_view) = (target.view(), residual.as_ref().map(Mat::view));
        // The weights are the kernel's rows and the activations its columns: output row r is column r.
        // SAFETY: `target` lies inside `out`, which is borrowed mutably for the whole call, and
        // `residual` and `bias` were checked against the same shape; the panels come from this kernel.
        unsafe {
            let layout = mmm.c_view(Some(1), Some(0));
            let mut ops: TVec<FusedSpec> = tvec!(FusedSpec::AddMatMul {
                a: AsInputValue::Borrowed(&*self.packed),
                b: AsInputValue::Borrowed(&*b),
                packing: self.kernel.packing,
            });
            ops.extend(
                self.scales
                    .as_ref()
                    .map(|s| FusedSpec::BinPerRow(s.view(), BinOp::Mul)),
            );
            ops.extend(scale.as_ref().map(|s| FusedSpec::BinScalar(s, BinOp::Mul)));
            ops.extend(bias.map(|b| FusedSpec::BinPerRow(b.view(), BinOp::Add)));
            ops.extend(
                rescale
                    .as_ref()
                    .map(|s| FusedSpec::BinScalar(s, BinOp::Mul)),
            );
            ops.extend(
                residual_view
                    .as_ref()
                    .map(|r| FusedSpec::AddUnicast(layout.wrap(r))),
            );
            ops.push(FusedSpec::Store(layout.wrap(&target)));
            mmm.run(self.outputs, n, &ops)
        }
    }
}

/// A contiguous f32 tensor whose contents are about to be overwritten in full.
pub fn buffer(shape: &[usize]) -> TractResult<Tensor> {
    // SAFETY: f32 has no invalid bit pattern, and every caller writes all elements before reading any.
    unsafe { Tensor::uninitialized::<f32>(shape) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::tensor;
    use super::*;
    use half::f16;

    fn naive(x: &[f32], w: &[f32], n: usize, k: usize, m: usize) -> Vec<f64> {
        let mut out = vec![0f64; n * m];
        for r in 0..n {
            for c in 0..m {
                out[r * m + c] = (0..k)
                    .map(|i| x[r * k + i] as f64 * w[c * k + i] as f64)
                    .sum();
            }
        }
        out
    }

    #[test]
    fn products_match_a_naive_sum_with_every_epilogue() {
        for (n, k, m) in [(1, 5, 3), (7, 64, 33), (60, 96, 128), (197, 40, 17)] {
            let (x, w) = (tensor(&[n, k], 1), tensor(&[m, k], 2));
            let (bias, residual) = (tensor(&[m], 3), tensor(&[n, m], 4));
            let weights = FloatWeights::pack(&Matrix::F32(w.clone()), n).unwrap();
            let mut out = Tensor::zero::<f32>(&[n + 2, m]).unwrap();
            let epilogue = Epilogue {
                scale: Some(0.5),
                bias: Some(&bias),
                rescale: Some(3.0),
                residual: Some(&residual),
            };
            weights
                .product(&Mat::whole(&x).unwrap(), epilogue, &mut out, 1)
                .unwrap();
            let slice = |t: &Tensor| {
                t.try_as_plain_ram()
                    .unwrap()
                    .as_slice::<f32>()
                    .unwrap()
                    .to_vec()
            };
            let (xs, ws, bs, rs, os) = (
                slice(&x),
                slice(&w),
                slice(&bias),
                slice(&residual),
                slice(&out),
            );
            let reference = naive(&xs, &ws, n, k, m);
            for r in 0..n {
                for c in 0..m {
                    let want =
                        (0.5 * reference[r * m + c] + bs[c] as f64) * 3.0 + rs[r * m + c] as f64;
                    let got = os[(r + 1) * m + c] as f64;
                    assert!(
                        (want - got).abs() < 1e-4,
                        "{n}x{k}x{m} [{r},{c}]: {got} for {want}"
                    );
                }
            }
            assert!(
                os[..m].iter().chain(&os[(n + 1) * m..]).all(|v| *v == 0.0),
                "rows outside were touched"
            );
        }
    }

    #[test]
    fn narrow_weights_are_what_they_stand_for() {
        for (n, k, m) in [(1, 70, 131), (60, 64, 96), (197, 40, 17)] {
            let (x, w) = (tensor(&[n, k], 1), tensor(&[m, k], 2));
            let (xs, ws) = (
                super::super::slice(&x).unwrap(),
                super::super::slice(&w).unwrap(),
            );
            let values: Vec<f16> = ws.iter().map(|v| f16::from_f32(*v)).collect();
            let half = (
                Matrix::F16 {
                    values: values.clone(),
                    columns: k,
                },
                values.iter().map(|v| v.to_f32()).collect::<Vec<_>>(),
            );
            let values: Vec<i8> = ws.iter().map(|v| (v * 127.0) as i8).collect();
            let scales: Vec<f32> = (0..m).map(|r| 0.01 + r as f32 / 1e4).collect();
            let wide = values
                .iter()
                .enumerate()
                .map(|(i, v)| f32::from(*v) * scales[i / k])
                .collect::<Vec<_>>();
            let int8 = (
                Matrix::Int8 {
                    values,
                    columns: k,
                    scales,
                },
                wide,
            );
            for (matrix, wide) in [half, int8] {
                let mut out = Tensor::zero::<f32>(&[n, m]).unwrap();
                let weights = FloatWeights::pack(&matrix, n).unwrap();
                weights
                    .product(&Mat::whole(&x).unwrap(), Epilogue::default(), &mut out, 0)
                    .unwrap();
                let reference = naive(xs, &wide, n, k, m);
                for (got, want) in super::super::slice(&out).unwrap().iter().zip(&reference) {
                    assert!(
                        (f64::from(*got) - want).abs() < 1e-4,
                        "{n}x{k}x{m} {matrix:.20?}: {got} for {want}"
                    );
                }
                let mut row = vec![0f32; k];
                weights.packed.extract_at_mn_f32(m - 1, &mut row).unwrap();
                let scale = weights
                    .scales
                    .as_ref()
                    .map_or(1.0, |s| super::super::slice(s).unwrap()[m - 1]);
                let far = row
                    .iter()
                    .zip(&wide[(m - 1) * k..])
                    .fold(0f32, |f, (a, b)| f.max((a * scale - b).abs()));
                assert!(far < 1e-6, "the last row is off by {far}");
            }
        }
    }

    #[test]
    fn views_outside_their_tensor_are_refused() {
        let t = tensor(&[4, 4], 7);
        assert!(Mat::new(&t, 0, 4, 4, 4).is_ok());
        assert!(Mat::new(&t, 1, 4, 4, 4).is_err());
        assert!(Mat::new(&t, 0, 5, 4, 4).is_err());
        assert!(Mat::new(&t, 0, 2, 5, 4).is_err());
        assert!(Mat::new(&t, usize::MAX, 2, 2, 4).is_err());
        assert!(Mat::new(&t, 0, usize::MAX, 4, 4).is_err());
    }
}
