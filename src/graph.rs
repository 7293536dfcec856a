//! Building tract models from a bundle's tensors: what encoder and prompt tower have in common.

pub(crate) mod nnef;
pub(crate) mod rows;

use crate::bundle::manifest::ActivationKind;
use crate::bundle::{Bundle, BundleError, Manifest};
use crate::ops::activation::Activation;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::linear::Linear;
use crate::ops::scratch::Pool;
use crate::ops::weights::{Arithmetic, Matrix, Weights};
use std::sync::Arc;
use tract_core::internal::*;

/// A value of a model under construction.
pub use tract_core::internal::OutletId;

/// A model under construction; tensors come from the part of the bundle that it is in.
pub struct Builder<'a> {
    bundle: &'a Bundle,
    part: &'static str,
    arithmetic: Arithmetic,
    model: TypedModel,
}

impl<'a> Builder<'a> {
    /// An empty model.
    pub fn new(bundle: &'a Bundle, part: &'static str, arithmetic: Arithmetic) -> Self {
        Builder {
            bundle,
            part,
            arithmetic,
            model: TypedModel::default(),
        }
    }

    /// The bundle's manifest.
    pub fn manifest(&self) -> &'a Manifest {
        self.bundle.manifest()
    }

    /// Goes on with tensors of another part of the bundle.
    pub fn enter(&mut self, part: &'static str) {
        self.part = part;
    }

    fn fail(&self, e: impl std::fmt::Display) -> BundleError {
        BundleError::architecture(self.part, e)
    }

    /// The tensor `PART/name`.
    ///
    /// # Errors
    /// As [`Bundle::tensor`].
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Arc<Tensor>, BundleError> {
        self.bundle
            .tensor(&format!("{}/{name}", self.part), shape)
            .map(Arc::new)
    }

    /// The tensor `part/name` of another part.
    ///
    /// # Errors
    /// As [`Bundle::tensor`].
    pub fn tensor_of(
        &self,
        part: &str,
        name: &str,
        shape: &[usize],
    ) -> Result<Arc<Tensor>, BundleError> {
        self.bundle
            .tensor(&format!("{part}/{name}"), shape)
            .map(Arc::new)
    }

    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Matrix, BundleError> {
        self.bundle.matrix(&format!("{}/{name}", self.part), shape)
    }

    /// A single row (the prior, the class row's last steps) is never rounded: its product takes as long as
    /// reading the weights, and the whole image's score hangs on it.
    fn pack(&self, weights: &Matrix, rows: usize) -> Result<Arc<Weights>, BundleError> {
        match rows {
            1 => self.pack_in(weights, Arithmetic::F32),
            _ => self.pack_in(weights, self.arithmetic),
        }
    }

    fn pack_in(
        &self,
        weights: &Matrix,
        arithmetic: Arithmetic,
    ) -> Result<Arc<Weights>, BundleError> {
        Weights::pack(weights, arithmetic)
            .map(Arc::new)
            .map_err(|e| self.fail(e))
    }

    /// The matrix `PART/name`, packed and multiplied in f32: the first
    /// and the last steps of a tower, a fiftieth of the arithmetic, where no later layer averages rounding
    /// errors out.
    ///
    /// # Errors
    /// As [`Bundle::tensor`].
    pub fn weights(&self, name: &str, shape: [usize; 2]) -> Result<Arc<Weights>, BundleError> {
        self.pack_in(&self.matrix(name, shape)?, Arithmetic::F32)
    }

    /// The layer of `name.weight` [outputs, inputs] and `name.bias`.
    ///
    /// # Errors
    /// As [`Bundle::tensor`].
    pub fn linear(
        &self,
        name: &str,
        shape: [usize; 2],
        rows: usize,
    ) -> Result<Linear, BundleError> {
        let weights = self.pack(&self.matrix(&format!("{name}.weight"), shape)?, rows)?;
        Ok(Linear::new(
            weights,
            Some(self.tensor(&format!("{name}.bias"), &shape[..1])?),
        ))
    }

    /// The layer of `name` [outputs, inputs] alone.
    ///
    /// # Errors
    /// As [`Bundle::tensor`].
    pub fn linear_without_bias(
        &self,
        name: &str,
        shape: [usize; 2],
    ) -> Result<Linear, BundleError> {
        Ok(Linear::new(self.weights(name, shape)?, None))
    }

    /// A block's fused projection as two layers, for the last block, where only few rows ask: the
    /// queries for `query_rows` rows, keys and values for `rows`.
    ///
    /// # Errors
    /// As [`Bundle::tensor`].
    pub fn split_qkv(
        &self,
        block: &str,
        width: usize,
        query_rows: usize,
        rows: usize,
    ) -> Result<(Linear, Linear), BundleError> {
        let weight = self.matrix(&format!("{block}.qkv.weight"), [3 * width, width])?;
        let bias = self.tensor(&format!("{block}.qkv.bias"), &[3 * width])?;
        let part = |from: usize, to: usize, rows: usize| {
            let weight = weight.rows(from, to).map_err(|e| self.fail(e))?;
            let bias = bias.slice(0, from, to).map_err(|e| self.fail(e))?;
            Ok(Linear::new(self.pack(&weight, rows)?, Some(Arc::new(bias))))
        };
        Ok((part(0, width, query_rows)?, part(width, 3 * width, rows)?))
    }

    /// The model's input.
    ///
    /// # Errors
    /// None in practice: the model has no node yet.
    pub fn source(&mut self, name: &str, shape: &[usize]) -> Result<OutletId, BundleError> {
        self.model
            .add_source(name, f32::fact(shape))
            .map_err(|e| self.fail(e))
    }

    /// Adds an operator and returns all its outputs.
    ///
    /// # Errors
    /// Inputs that do not fit the operator.
    pub fn wire_all(
        &mut self,
        name: &str,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> Result<TVec<OutletId>, BundleError> {
        self.model
            .wire_node(name, op, inputs)
            .map_err(|e| BundleError::architecture(self.part, format!("{name}: {e:#}")))
    }

    /// Adds an operator and returns its first output.
    ///
    /// # Errors
    /// Inputs that do not fit the operator.
    pub fn wire(
        &mut self,
        name: &str,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> Result<OutletId, BundleError> {
        Ok(self.wire_all(name, op, inputs)?[0])
    }

    /// Adds the normalisation of `name.weight` and `name.bias`.
    ///
    /// # Errors
    /// As [`Bundle::tensor`].
    pub fn layer_norm(
        &mut self,
        name: &str,
        width: usize,
        x: OutletId,
    ) -> Result<OutletId, BundleError> {
        let norm = self.norm(name, width)?;
        self.wire(name, norm, &[x])
    }

    /// The normalisation of `name.weight` and `name.bias`.
    ///
    /// # Errors
    /// As [`Bundle::tensor`].
    pub fn norm(&self, name: &str, width: usize) -> Result<LayerNorm, BundleError> {
        Ok(LayerNorm {
            gamma: self.tensor(&format!("{name}.weight"), &[width])?,
            beta: self.tensor(&format!("{name}.bias"), &[width])?,
            epsilon: self.bundle.manifest().epsilon(self.part),
        })
    }

    /// Adds `x + c_proj(activation(c_fc(ln_2 x)))`.
    ///
    /// # Errors
    /// As [`Bundle::tensor`].
    pub fn mlp(
        &mut self,
        block: &str,
        width: usize,
        rows: usize,
        x: OutletId,
    ) -> Result<OutletId, BundleError> {
        let norm = Arc::new(self.norm(&format!("{block}.ln_2"), width)?);
        let fc = self
            .linear(&format!("{block}.fc"), [4 * width, width], rows)?
            .with_norm(norm);
        let proj = self.linear(&format!("{block}.proj"), [width, 4 * width], rows)?;
        let (fc, proj) = match self.bundle.manifest().activation {
            ActivationKind::QuickGelu => (
                fc.with_activation(Activation::ScaledQuickGelu),
                proj.after_quick_gelu(),
            ),
            ActivationKind::Gelu => (fc.with_activation(Activation::Gelu), proj),
        };
        let hidden = self.wire(&format!("{block}.fc"), fc, &[x])?;
        self.wire(&format!("{block}.proj"), proj.with_residual(), &[hidden, x])
    }

    /// The finished model.
    ///
    /// # Errors
    /// tract's own.
    pub fn finish(mut self, outputs: &[OutletId]) -> Result<Plan, BundleError> {
        let part = self.part;
        self.model
            .select_output_outlets(outputs)
            .and_then(|()| Plan::of(self.model))
            .map_err(|e| BundleError::architecture(part, format!("{e:#}")))
    }
}

/// A model of one input, ready to run, with the memory that it keeps from frame to frame.
pub struct Plan {
    state: TypedSimpleState,
    /// The outputs of the last run: kept here, because a list of more than four made anew for every frame
    /// would be memory allocated for every frame.
    last: Vec<TValue>,
}

impl Plan {
    /// Of a model whose outputs were selected.
    ///
    /// # Errors
    /// tract's own.
    pub fn of(model: TypedModel) -> TractResult<Plan> {
        let plan = model.into_optimized()?.into_runnable()?;
        plan.spawn().map(Plan::new)
    }

    fn new(mut state: TypedSimpleState) -> Plan {
        state.turn_state.shared.insert(Pool::default());
        Plan {
            state,
            last: vec![],
        }
    }

    /// The same model with the same weights, with memory of its own.
    ///
    /// # Errors
    /// tract's own.
    pub fn beside(&self) -> TractResult<Plan> {
        self.state.plan().spawn().map(Plan::new)
    }

    /// Runs it; the outputs stay until the next run, which takes their memory.
    ///
    /// # Errors
    /// tract's own.
    pub fn run(&mut self, input: TValue) -> TractResult<&[TValue]> {
        // What is still held cannot be written again.
        self.last.clear();
        self.state.set_inputs(tvec!(input))?;
        self.state.exec()?;
        for i in 0..self.state.model().outputs.len() {
            self.last.push(self.state.output(i)?.clone());
        }
        self.state.reset_turn()?;
        Ok(&self.last)
    }

    /// Runs it and gives the first two outputs.
    ///
    /// # Errors
    /// tract's own, and a model of fewer outputs.
    pub fn first_two(&mut self, input: TValue) -> TractResult<[TValue; 2]> {
        match self.run(input)? {
            [first, second, ..] => {
                let two = [first.clone(), second.clone()];
                // Whoever has them alone decides when their memory is free.
                self.last.clear();
                Ok(two)
            }
            fewer => bail!("a model of {} outputs", fewer.len()),
        }
    }
}
