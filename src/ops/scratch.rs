//! Working memory that is handed from operator to operator, so that a frame allocates none of it.
#![allow(unsafe_code)]

use super::slice_mut;
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use tract_core::internal::*;

/// Buffers that are not in use: as many as were ever in use at a time, each as long as it ever had to be.
static FREE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A buffer on loan; goes back when dropped.
pub struct Scratch {
    buffer: Vec<f32>,
    len: usize,
}

impl Scratch {
    /// A buffer of `len` unspecified numbers.
    pub fn take(len: usize) -> Scratch {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        // The shortest that is long enough, else the longest: few grow, and they grow once.
        let index = (0..free.len()).min_by_key(|i| {
            let own = free[*i].len();
            (own < len, own.abs_diff(len))
        });
        let mut buffer = index.map_or_else(Vec::new, |i| free.swap_remove(i));
        drop(free);
        if buffer.len() < len {
            buffer.resize(len, 0.0);
        }
        Scratch { buffer, len }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        FREE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(buffer);
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.buffer[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.len]
    }
}

/// A contiguous f32 tensor whose contents are about to be overwritten in full.
pub fn buffer(shape: &[usize]) -> TractResult<Tensor> {
    // SAFETY: f32 has no invalid bit pattern, and every caller writes all elements before reading any.
    unsafe { Tensor::uninitialized::<f32>(shape) }
}

/// The tensors that operators hand on, kept with a plan's state from frame to frame. One that nobody
/// else holds is free: every value that a plan no longer needs is dropped by it.
#[derive(Default)]
pub struct Pool(RefCell<Vec<Arc<Tensor>>>);

/// A contiguous f32 tensor that an operator fills: all of it, before it is handed on.
pub struct Output<'a> {
    tensor: Arc<Tensor>,
    pool: Option<&'a Pool>,
}

impl<'a> Output<'a> {
    /// A tensor of unspecified numbers: of the pool if the context has one (an operator outside of a
    /// plan has none).
    pub fn take(context: &EvalContext<'a>, shape: &[usize]) -> TractResult<Output<'a>> {
        let pool = context.shared.and_then(|shared| shared.get::<Pool>());
        let free = pool.and_then(|pool| {
            let mut tensors = pool.0.borrow_mut();
            let index = tensors
                .iter_mut()
                .position(|t| t.shape() == shape && Arc::get_mut(t).is_some())?;
            Some(tensors.swap_remove(index))
        });
        let tensor = match free {
            Some(tensor) => tensor,
            None => Arc::new(buffer(shape)?),
        };
        Ok(Output { tensor, pool })
    }

    /// The tensor, to be written.
    pub fn tensor(&mut self) -> TractResult<&mut Tensor> {
        Arc::get_mut(&mut self.tensor).context("a tensor that somebody else holds")
    }

    /// Its elements, to be written.
    pub fn slice(&mut self) -> TractResult<&mut [f32]> {
        slice_mut(self.tensor()?)
    }

    /// Hands the tensor on, once it is written.
    pub fn hand_on(self) -> TValue {
        if let Some(pool) = self.pool {
            pool.0.borrow_mut().push(self.tensor.clone());
        }
        self.tensor.into_tvalue()
    }
}
