//! Patch embedding: conv1 with stride = kernel, the class token and the positional embedding in one step.

use super::scratch::{Output, Scratch};
use super::weights::{Epilogue, Weights};
use tract_core::internal::*;

/// Embeds a frame: [3, side, side] f32 to [1 + patches, width] f32, the class token first.
#[derive(Clone, Debug)]
pub struct PatchEmbed {
    /// conv1 as a matrix [width, 3 * patch * patch], its columns in (channel, y, x) order.
    pub weights: Arc<Weights>,
    /// Class embedding plus its position, [width].
    pub class_row: Arc<Tensor>,
    /// Positions of the patches in raster order, [patches, width].
    pub positions: Arc<Tensor>,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Patches per side.
    pub grid: usize,
}

impl PartialEq for PatchEmbed {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.weights, &other.weights) && Arc::ptr_eq(&self.positions, &other.positions)
    }
}

impl Eq for PatchEmbed {}

impl PatchEmbed {
    /// The patches as rows, each in (channel, y, x) order.
    fn unfold(&self, image: &[f32], rows: &mut [f32]) {
        let (p, grid, side) = (self.patch, self.grid, self.patch * self.grid);
        for (i, row) in rows.chunks_exact_mut(3 * p * p).enumerate() {
            let (top, left) = (i / grid * p, i % grid * p);
            for (j, line) in row.chunks_exact_mut(p).enumerate() {
                let start = (j / p * side + top + j % p) * side + left;
                line.copy_from_slice(&image[start..start + p]);
            }
        }
    }
}

impl Op for PatchEmbed {
    fn name(&self) -> StaticName {
        "PatchEmbed".into()
    }
    op_as_typed_op!();
}

impl EvalOp for PatchEmbed {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (width, patches) = (self.weights.outputs(), self.grid * self.grid);
        let mut rows = Scratch::take(patches * self.weights.inputs());
        self.unfold(super::slice(&inputs[0])?, &mut rows);
        let mut out = Output::take(ctx, &[1 + patches, width])?;
        out.slice()?[..width].copy_from_slice(super::slice(&self.class_row)?);
        let epilogue = Epilogue {
            residual: Some(&self.positions),
            ..Epilogue::default()
        };
        self.weights
            .product(&rows, None, epilogue, out.tensor()?, 1)?;
        Ok(tvec!(out.hand_on()))
    }
}

impl TypedOp for PatchEmbed {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let (side, width, patches) = (
            self.patch * self.grid,
            self.weights.outputs(),
            self.grid * self.grid,
        );
        ensure!(
            *inputs[0].shape == [3.to_dim(), side.to_dim(), side.to_dim()],
            "PatchEmbed of {side} px on {:?}",
            inputs[0]
        );
        ensure!(
            self.weights.inputs() == 3 * self.patch * self.patch
                && self.class_row.len() == width
                && self.positions.shape() == [patches, width],
            "PatchEmbed: weights, class and positions do not fit each other"
        );
        Ok(tvec!(f32::fact([1 + patches, width])))
    }
    as_op!();
}

#[cfg(test)]
mod tests {
    use super::super::weights::{Arithmetic, Matrix};
    use super::super::{slice, testing};
    use super::*;

    #[test]
    fn matches_a_convolution() {
        let (patch, grid, width) = (3, 4, 5);
        let side = patch * grid;
        let image = testing::tensor(&[3, side, side], 1);
        let conv = testing::tensor(&[width, 3 * patch * patch], 2);
        let class_row = testing::tensor(&[width], 3);
        let positions = testing::tensor(&[grid * grid, width], 4);
        let op = PatchEmbed {
            weights: Arc::new(Weights::pack(&Matrix::F32(conv.clone()), Arithmetic::Auto).unwrap()),
            class_row: Arc::new(class_row.clone()),
            positions: Arc::new(positions.clone()),
            patch,
            grid,
        };
        let out = testing::eval(&op, &[&image]);
        let (out, image, conv) = (
            slice(&out[0]).unwrap(),
            slice(&image).unwrap(),
            slice(&conv).unwrap(),
        );
        assert_eq!(&out[..width], slice(&class_row).unwrap());
        for (gy, gx, w) in
            (0..grid).flat_map(|y| (0..grid).flat_map(move |x| (0..width).map(move |w| (y, x, w))))
        {
            let mut want = slice(&positions).unwrap()[(gy * grid + gx) * width + w];
            for c in 0..3 {
                for y in 0..patch {
                    for x in 0..patch {
                        want += image[(c * side + gy * patch + y) * side + gx * patch + x]
                            * conv[((w * 3 + c) * patch + y) * patch + x];
                    }
                }
            }
            let got = out[(1 + gy * grid + gx) * width + w];
            assert!(
                (got - want).abs() < 1e-4,
                "patch ({gy}, {gx}), channel {w}: {got} for {want}"
            );
        }
    }
}
