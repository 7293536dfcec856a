//! Small row operators that the towers need: picking, overwriting, shifting and averaging rows.

use super::scratch::Output;
use super::slice;
use tract_core::internal::*;

/// Picks the rows `first`, `first + step`, ... of [rows, width]: [count, width].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickRows {
    /// First row.
    pub first: usize,
    /// Distance between rows.
    pub step: usize,
    /// The number of rows to pick.
    pub count: usize,
}

impl Op for PickRows {
    fn name(&self) -> StaticName {
        "PickRows".into()
    }
    op_as_typed_op!();
}

impl EvalOp for PickRows {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let width = inputs[0].shape()[1];
        let source = slice(&inputs[0])?;
        let mut out = Output::take(ctx, &[self.count, width])?;
        for (i, row) in out.slice()?.chunks_exact_mut(width).enumerate() {
            row.copy_from_slice(&source[(self.first + i * self.step) * width..][..width]);
        }
        Ok(tvec!(out.hand_on()))
    }
}

impl TypedOp for PickRows {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs[0].rank() == 2, "PickRows of {:?}", inputs[0]);
        let rows = inputs[0].shape[0].to_usize()?;
        ensure!(
            self.count > 0 && self.first + (self.count - 1) * self.step < rows,
            "PickRows: {self:?} of {rows} rows"
        );
        Ok(tvec!(f32::fact([
            self.count.to_dim(),
            inputs[0].shape[1].clone()
        ])))
    }
    as_op!();
}

/// The mean of all rows: [rows, width] to [1, width].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeanRows;

impl Op for MeanRows {
    fn name(&self) -> StaticName {
        "MeanRows".into()
    }
    op_as_typed_op!();
}

impl EvalOp for MeanRows {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (rows, width) = (inputs[0].shape()[0], inputs[0].shape()[1]);
        let mut out = Output::take(ctx, &[1, width])?;
        let mean = out.slice()?;
        mean.fill(0.0);
        for row in slice(&inputs[0])?.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += v);
        }
        mean.iter_mut().for_each(|m| *m /= rows as f32);
        Ok(tvec!(out.hand_on()))
    }
}

impl TypedOp for MeanRows {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs[0].rank() == 2, "MeanRows of {:?}", inputs[0]);
        Ok(tvec!(f32::fact([1.to_dim(), inputs[0].shape[1].clone()])))
    }
    as_op!();
}

/// The first rows of [rows, width] with the same learned rows behind them, in place of whatever stood there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetTail {
    /// The learned rows, [t, width].
    pub with: Arc<Tensor>,
    /// How many rows are kept.
    pub kept: usize,
}

impl Op for SetTail {
    fn name(&self) -> StaticName {
        "SetTail".into()
    }
    op_as_typed_op!();
}

impl EvalOp for SetTail {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let width = inputs[0].shape()[1];
        let with = slice(&self.with)?;
        let kept = self.kept * width;
        let mut out = Output::take(ctx, &[self.kept + self.with.shape()[0], width])?;
        let rows = out.slice()?;
        rows[..kept].copy_from_slice(&slice(&inputs[0])?[..kept]);
        rows[kept..].copy_from_slice(with);
        Ok(tvec!(out.hand_on()))
    }
}

impl TypedOp for SetTail {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(
            inputs[0].rank() == 2
                && self.with.rank() == 2
                && self.kept <= inputs[0].shape[0].to_usize()?
                && inputs[0].shape[1] == self.with.shape()[1].to_dim(),
            "SetTail: {} rows of {:?}, then {:?}",
            self.kept,
            inputs[0],
            self.with.shape()
        );
        let rows = self.kept + self.with.shape()[0];
        Ok(tvec!(f32::fact([
            rows.to_dim(),
            inputs[0].shape[1].clone()
        ])))
    }
    as_op!();
}

#[cfg(test)]
mod tests {
    use super::super::testing::eval;
    use super::*;

    #[test]
    fn a_tail_is_set_and_set_again() {
        let x = Tensor::from_shape(&[2, 2], &[0f32, 1., 2., 3.]).unwrap();
        let tail = |v: f32| SetTail {
            with: Arc::new(Tensor::from_shape(&[1, 2], &[v, v]).unwrap()),
            kept: 2,
        };
        let once = eval(&tail(7.0), &[&x]);
        assert_eq!(slice(&once[0]).unwrap(), &[0., 1., 2., 3., 7., 7.]);
        let twice = eval(&tail(8.0), &[&once[0]]);
        assert_eq!(slice(&twice[0]).unwrap(), &[0., 1., 2., 3., 8., 8.]);
    }

    #[test]
    fn rows_are_picked_and_averaged() {
        let x = Tensor::from_shape(&[4, 2], &[0f32, 1., 2., 3., 4., 5., 6., 7.]).unwrap();
        let picked = eval(
            &PickRows {
                first: 1,
                step: 2,
                count: 2,
            },
            &[&x],
        );
        assert_eq!(slice(&picked[0]).unwrap(), &[2., 3., 6., 7.]);
        assert_eq!(slice(&eval(&MeanRows, &[&x])[0]).unwrap(), &[3., 4.]);
    }
}
