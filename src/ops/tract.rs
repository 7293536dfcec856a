//! The names of tract that other rooms use: tensors, why a computation failed, and on which threads it runs.
//!
//! `ops`, `graph`, `gpu`, and the reader and the exporter of ONNX build tract's graphs and know all of tract. Every other room takes these
//! names from here, so that a new version of tract is met in few places; `tests/modules.rs` holds that.

pub use tract_core::internal::{
    Arc, Datum, IntoTValue, IntoTensor, TValue, TVec, Tensor, TractError, TractErrorContext,
    TractResult, bail, ensure, tvec,
};
pub use tract_linalg::multithread::{Executor, multithread_tract_scope};
