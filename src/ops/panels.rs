//! Weights that stay small in memory: int8 or f16 panels, widened to f32 one panel at a time while a
//! product runs.
//!
//! A panel is widened once per product and then used for all activation rows, so this costs a few
//! percent of the arithmetic and saves half or three quarters of the memory and of what is read from
//! it: for the prompt tower's 60 rows, reading f32 weights from memory took as long as a third of the
//! arithmetic. `unsafe` because tract-linalg hands out the scratch panel as a raw pointer.
#![allow(unsafe_code)]

use half::f16;
use half::slice::HalfFloatSliceExt;
use std::alloc::Layout;
use std::fmt::{Debug, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use tract_core::internal::*;
use tract_linalg::mmm::{MMMInputFormat, MMMInputValue, PackedExoticFact};
use tract_linalg::pack::PackedFormat;

/// A weight matrix [rows, columns] as a bundle stores it.
#[derive(Clone, Debug)]
pub enum Matrix {
    /// f32, as it is.
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
        /// One per row.
        scales: Vec<f32>,
    },
}

impl Matrix {
    /// [rows, columns].
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Matrix::F32(t) => [t.shape()[0], t.len() / t.shape()[0].max(1)],
            Matrix::F16 { values, columns } => [values.len() / columns, *columns],
            Matrix::Int8 {
                values, columns, ..
            } => [values.len() / columns, *columns],
        }
    }

    /// The rows `from..to`.
    ///
    /// # Errors
    /// There are not as many.
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

/// The panels' elements.
#[derive(Clone, PartialEq)]
enum Elements {
    F16(Arc<Vec<f16>>),
    Int8(Arc<Vec<i8>>),
}

/// Rows packed in panels of `r`, columns outermost, in their stored type.
#[derive(Clone)]
pub struct NarrowPanels {
    elements: Elements,
    format: PackedFormat,
    fact: PackedExoticFact,
    rows: usize,
    columns: usize,
}

/// Row-major to panels: element (row, column) goes to panel row / r, place column * r + row % r. Rows
/// that fill up the last panel stay zero.
fn to_panels<T: Copy + Default>(values: &[T], rows: usize, columns: usize, r: usize) -> Vec<T> {
    let mut out = vec![T::default(); rows.div_ceil(r) * r * columns];
    for (row, line) in values.chunks_exact(columns).enumerate() {
        let panel = &mut out[row / r * r * columns..][..r * columns];
        for (place, v) in panel.iter_mut().skip(row % r).step_by(r).zip(line) {
            *place = *v;
        }
    }
    out
}

#[inline(always)]
fn widen_bytes(from: &[i8], to: &mut [f32]) {
    from.iter().zip(to).for_each(|(v, t)| *t = f32::from(*v));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn widen_bytes_avx2(from: &[i8], to: &mut [f32]) {
    widen_bytes(from, to);
}

/// int8 to f32. The loop is plain; only the instruction set that it is compiled for differs.
fn widen(from: &[i8], to: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was just asked.
        unsafe { widen_bytes_avx2(from, to) };
        return;
    }
    widen_bytes(from, to);
}

impl NarrowPanels {
    /// Packs `matrix` for a kernel that takes `format`; `None` for f32, which needs no widening.
    pub fn pack(matrix: &Matrix, format: &PackedFormat) -> Option<NarrowPanels> {
        let [rows, columns] = matrix.shape();
        let elements = match matrix {
            Matrix::F32(_) => return None,
            Matrix::F16 { values, .. } => {
                Elements::F16(Arc::new(to_panels(values, rows, columns, format.r)))
            }
            Matrix::Int8 { values, .. } => {
                Elements::Int8(Arc::new(to_panels(values, rows, columns, format.r)))
            }
        };
        let fact = PackedExoticFact {
            format: Box::new(format.clone()),
            mn: rows.to_dim(),
            k: columns,
        };
        Some(NarrowPanels {
            elements,
            format: format.clone(),
            fact,
            rows,
            columns,
        })
    }

    fn panel_len(&self) -> usize {
        self.format.r * self.columns
    }

    /// The f32 elements of panel `i`, without padding.
    fn widen_panel(&self, i: usize, out: &mut [f32]) {
        let span = i * self.panel_len()..(i + 1) * self.panel_len();
        match &self.elements {
            Elements::F16(values) => values[span].convert_to_f32_slice(out),
            Elements::Int8(values) => widen(&values[span], out),
        }
    }
}

impl MMMInputValue for NarrowPanels {
    fn format(&self) -> &dyn MMMInputFormat {
        &self.format
    }

    fn scratch_panel_buffer_layout(&self) -> Option<Layout> {
        Some(
            self.format
                .single_panel_layout(self.columns, size_of::<f32>()),
        )
    }

    fn panel_bytes(&self, i: usize, buffer: Option<*mut u8>) -> TractResult<*const u8> {
        let buffer = buffer.context("a narrow panel needs a buffer")?;
        ensure!(
            i < self.rows.div_ceil(self.format.r),
            "panel {i} of a matrix of {} rows",
            self.rows
        );
        let length = self.format.single_panel_len(self.columns);
        // SAFETY: tract-linalg allocates the buffer by `scratch_panel_buffer_layout`, which is `length`
        // aligned f32, and lends it to this call alone; all of it is written before any of it is read.
        let out = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<f32>(), length) };
        let (panel, padding) = out.split_at_mut(self.panel_len());
        self.widen_panel(i, panel);
        padding.fill(0.0);
        Ok(buffer)
    }

    fn mn(&self) -> usize {
        self.rows
    }

    fn k(&self) -> usize {
        self.columns
    }

    fn exotic_fact(&self) -> &dyn ExoticFact {
        &self.fact
    }

    fn extract_at_mn_f16(&self, mn: usize, slice: &mut [f16]) -> TractResult<()> {
        let mut wide = vec![0f32; slice.len()];
        self.extract_at_mn_f32(mn, &mut wide)?;
        slice
            .iter_mut()
            .zip(wide)
            .for_each(|(s, w)| *s = f16::from_f32(w));
        Ok(())
    }

    fn extract_at_mn_f32(&self, mn: usize, slice: &mut [f32]) -> TractResult<()> {
        ensure!(
            mn < self.rows && slice.len() == self.columns,
            "row {mn} of {}",
            self.rows
        );
        let mut panel = vec![0f32; self.panel_len()];
        self.widen_panel(mn / self.format.r, &mut panel);
        let row = panel.iter().skip(mn % self.format.r).step_by(self.format.r);
        slice.iter_mut().zip(row).for_each(|(s, v)| *s = *v);
        Ok(())
    }
}

impl PartialEq for NarrowPanels {
    fn eq(&self, other: &Self) -> bool {
        (self.rows, self.columns) == (other.rows, other.columns)
            && self.format == other.format
            && self.elements == other.elements
    }
}

impl Eq for NarrowPanels {}

impl Hash for NarrowPanels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.rows, self.columns, &self.format).hash(state);
    }
}

impl Debug for NarrowPanels {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Display for NarrowPanels {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        let kind = match self.elements {
            Elements::F16(_) => "f16",
            Elements::Int8(_) => "int8",
        };
        write!(
            f,
            "{kind} panels of {} x {} for {}",
            self.rows, self.columns, self.format
        )
    }
}
