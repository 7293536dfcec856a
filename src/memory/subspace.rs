//! Distance of patches from the principal components that hold 99 % of good patches' variance: what the components
//! do not explain.

use super::descriptor::Layout;
use super::part::{Learned, Rows};
use crate::ops::tract::*;
use crate::ops::weights::{Arithmetic, Epilogue, Matrix, Weights};
use crate::ops::{scratch, slice, sum_lanes};

/// The share of the variance, 0..1, that the components hold.
const SHARE: f64 = 0.99;
/// Most patches that the components are computed from, evenly spread over all.
const PATCHES: usize = 8192;
/// Number of folds in which the learned parts are held out.
const FOLDS: usize = 4;

/// Mean and principal components of good patches.
#[derive(Clone, Debug, PartialEq)]
pub struct Components {
    /// The mean of all patches, [dim].
    pub mean: Vec<f32>,
    /// The components, each of unit length, [components, dim].
    pub basis: Vec<f32>,
}

impl Components {
    /// Computes mean and components of all patches of these parts, each [places, dim].
    pub fn of(layout: Layout, parts: &[&Rows]) -> Components {
        let (places, dim) = (layout.places(), layout.dim);
        let all = places * parts.len();
        let step = all.div_ceil(PATCHES).max(1);
        let mut values = vec![];
        for i in (0..all).step_by(step) {
            parts[i / places].number(i % places, dim, &mut values);
        }
        let rows = values.len() / dim;
        let mut mean = vec![0f32; dim];
        for row in values.chunks_exact(dim) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += v);
        }
        mean.iter_mut().for_each(|m| *m /= rows.max(1) as f32);
        for row in values.chunks_exact_mut(dim) {
            row.iter_mut().zip(&mean).for_each(|(v, m)| *v -= m);
        }
        let mut covariance = vec![0f64; dim * dim];
        for row in values.chunks_exact(dim) {
            for (v, sums) in row.iter().zip(covariance.chunks_exact_mut(dim)) {
                let pairs = sums.iter_mut().zip(row);
                pairs.for_each(|(sum, w)| *sum += f64::from(v * w));
            }
        }
        let (variances, vectors) = eigen(covariance, dim);
        let mut order: Vec<usize> = (0..dim).collect();
        order.sort_by(|a, b| variances[*b].total_cmp(&variances[*a]));
        let total: f64 = variances.iter().map(|v| v.max(0.0)).sum();
        let (mut basis, mut held) = (vec![], 0.0);
        for i in order {
            if held >= SHARE * total && !basis.is_empty() {
                break;
            }
            held += variances[i].max(0.0);
            basis.extend(vectors[i * dim..][..dim].iter().map(|v| *v as f32));
        }
        Components { mean, basis }
    }
}

/// Most sweeps of [`eigen`], which has long converged by then.
const SWEEPS: usize = 30;

/// Eigenvalues, and eigenvectors in rows, of a symmetric matrix [n, n]: cyclic Jacobi rotations (Golub and Van
/// Loan, 8.5.5).
pub(crate) fn eigen(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0f64; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    let rotate = |m: &mut [f64], p: usize, q: usize, (c, s): (f64, f64)| {
        let (head, tail) = m.split_at_mut(q * n);
        let rows = head[p * n..][..n].iter_mut().zip(&mut tail[..n]);
        for (x, y) in rows {
            (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
        }
    };
    for _ in 0..SWEEPS {
        let diagonal: f64 = (0..n).map(|i| a[i * n + i].powi(2)).sum();
        let all: f64 = a.iter().map(|v| v * v).sum();
        if all - diagonal <= 1e-14 * all {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                let off = a[p * n + q];
                if off * off <= 1e-18 * (a[p * n + p] * a[q * n + q]).abs() {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * off);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                rotate(&mut a, p, q, (c, t * c));
                for row in a.chunks_exact_mut(n) {
                    let (x, y) = (row[p], row[q]);
                    (row[p], row[q]) = (c * x - t * c * y, t * c * x + c * y);
                }
                rotate(&mut vectors, p, q, (c, t * c));
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), vectors)
}

/// Principal components, ready to judge.
pub struct Subspace {
    components: Components,
    weights: Weights,
    products: Tensor,
    centred: Vec<f32>,
}

impl Subspace {
    /// Makes components ready to judge.
    ///
    /// # Errors
    /// Components whose length is not the layout's.
    pub fn new(layout: Layout, components: Components) -> TractResult<Subspace> {
        let (dim, places) = (layout.dim, layout.places());
        let count = components.basis.len() / dim;
        ensure!(
            components.mean.len() == dim && count > 0 && components.basis.len() == count * dim,
            "components of another length than {dim}"
        );
        let basis = Tensor::from_shape(&[count, dim], &components.basis)?;
        Ok(Subspace {
            weights: Weights::pack(&Matrix::F32(basis), Arithmetic::F32)?,
            products: scratch::buffer(&[places, count])?,
            centred: vec![],
            components,
        })
    }

    /// Mean and components, to be stored.
    pub fn components(&self) -> &Components {
        &self.components
    }

    /// The length of each place's residual, which the components do not explain; `out` [places].
    ///
    /// # Errors
    /// Descriptors that are NaN or infinite.
    pub fn judge(&mut self, descriptors: &[f32], out: &mut [f32]) -> TractResult<()> {
        let mean = &self.components.mean;
        self.centred.clear();
        for row in descriptors.chunks_exact(mean.len()) {
            self.centred
                .extend(row.iter().zip(mean).map(|(v, m)| v - m));
        }
        self.weights.product(
            &self.centred,
            None,
            Epilogue::default(),
            &mut self.products,
            0,
        )?;
        let products = slice(&self.products)?.chunks_exact(self.weights.outputs());
        let rows = self.centred.chunks_exact(mean.len()).zip(products);
        for (out, (row, products)) in out.iter_mut().zip(rows) {
            let all = sum_lanes(row, |v| v * v);
            ensure!(all.is_finite(), "a descriptor of length {all}");
            *out = (all - sum_lanes(products, |v| v * v)).max(0.0).sqrt();
        }
        Ok(())
    }

    /// The same for each learned part as if it had not been learned: [parts][places]. Parts are left out a fold at
    /// a time.
    ///
    /// # Errors
    /// As [`Subspace::judge`].
    pub fn held_out(layout: Layout, learned: &Learned) -> TractResult<Vec<Vec<f32>>> {
        let parts: Vec<&Rows> = learned.own().collect();
        let folds = FOLDS.min(parts.len());
        let mut judged = vec![vec![]; parts.len()];
        for fold in 0..folds {
            let others = learned.without(|part| part % folds == fold);
            ensure!(others.parts() > 0, "one part alone says nothing of others");
            let mut memory = Subspace::new(layout, Components::of(layout, others.rows()))?;
            for i in (fold..parts.len()).step_by(folds) {
                let descriptors = parts[i].numbers(layout.dim);
                judged[i] = vec![0f32; layout.places()];
                memory.judge(&descriptors, &mut judged[i])?;
            }
        }
        Ok(judged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::numbers;

    #[test]
    fn eigenvectors_are_those_of_the_matrix() {
        let n = 17;
        let x = numbers(n * n, 5);
        let at = |i: usize, j: usize| f64::from(x[i * n + j]);
        // x x^T.
        let a: Vec<f64> = (0..n * n)
            .map(|i| (0..n).map(|k| at(i / n, k) * at(i % n, k)).sum())
            .collect();
        let (values, vectors) = eigen(a.clone(), n);
        for (value, v) in values.iter().zip(vectors.chunks_exact(n)) {
            assert!((v.iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-9);
            for (row, v_i) in a.chunks_exact(n).zip(v) {
                let product: f64 = row.iter().zip(v).map(|(a, v)| a * v).sum();
                assert!(
                    (product - value * v_i).abs() < 1e-6,
                    "{product} for {value} {v_i}"
                );
            }
        }
    }
}
