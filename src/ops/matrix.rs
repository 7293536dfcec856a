//! Weight matrices as they are stored.

use super::slice;
use half::f16;
use tract_core::internal::*;

/// A weight matrix [rows, columns] as a bundle stores it.
#[derive(Clone, Debug)]
pub enum Matrix {
    /// f32, [rows, columns].
    F32(Tensor),
    /// f16, row-major.
    F16 {
        /// `rows * columns` elements.
        values: Vec<f16>,
        /// Row length.
        columns: usize,
    },
    /// int8, row-major; row r is `scales[r]` times its values.
    Int8 {
        /// `rows * columns` elements.
        values: Vec<i8>,
        /// Row length.
        columns: usize,
        /// The scale of each row.
        scales: Vec<f32>,
    },
}

/// Row-major `values` of `columns` columns rounded to int8, and the scale of each row: symmetric, so that its largest
/// weight becomes 127. What was rounded so before stays what it is.
pub fn to_int8(values: &[f32], columns: usize) -> (Vec<i8>, Vec<f32>) {
    let mut scales = Vec::with_capacity(values.len() / columns);
    let mut rounded = Vec::with_capacity(values.len());
    for row in values.chunks_exact(columns) {
        let max = row.iter().fold(0f32, |m, v| m.max(v.abs()));
        let scale = if max > 0.0 { max / 127.0 } else { 1.0 };
        scales.push(scale);
        let steps = row.iter().map(|v| (v / scale).round().clamp(-127.0, 127.0));
        rounded.extend(steps.map(|v| v as i8));
    }
    (rounded, scales)
}

impl Matrix {
    /// Its shape, [rows, columns].
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Matrix::F32(t) => [t.shape()[0], t.len() / t.shape()[0].max(1)],
            Matrix::F16 { values, columns } => [values.len() / columns, *columns],
            Matrix::Int8 {
                values, columns, ..
            } => [values.len() / columns, *columns],
        }
    }

    /// All elements in f32, row-major.
    ///
    /// # Errors
    /// None in practice: a f32 matrix is contiguous.
    pub fn values(&self) -> TractResult<Vec<f32>> {
        Ok(match self {
            Matrix::F32(t) => slice(t)?.to_vec(),
            Matrix::F16 { values, .. } => values.iter().map(|v| v.to_f32()).collect(),
            Matrix::Int8 {
                values,
                columns,
                scales,
            } => values
                .chunks_exact(*columns)
                .zip(scales)
                .flat_map(|(row, scale)| row.iter().map(move |v| f32::from(*v) * scale))
                .collect(),
        })
    }

    /// A copy of the rows `from..to`.
    ///
    /// # Errors
    /// The matrix has fewer rows.
    pub fn rows(&self, from: usize, to: usize) -> TractResult<Matrix> {
        let [rows, columns] = self.shape();
        ensure!(from < to && to <= rows, "rows {from}..{to} of {rows}");
        let span = from * columns..to * columns;
        Ok(match self {
            Matrix::F32(t) => Matrix::F32(t.slice(0, from, to)?),
            Matrix::F16 { values, columns } => Matrix::F16 {
                values: values[span].to_vec(),
                columns: *columns,
            },
            Matrix::Int8 {
                values,
                columns,
                scales,
            } => Matrix::Int8 {
                values: values[span].to_vec(),
                columns: *columns,
                scales: scales[from..to].to_vec(),
            },
        })
    }
}
