//! Distance of patches from the principal components that hold 99 % of good patches' variance: what the components
//! do not explain.

use super::descriptor::Layout;
use super::part::{Learned, Rows};
use crate::ops::simd::vectorised;
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

/// Sums over patches, of which mean and covariance are made.
#[derive(Clone)]
struct Moments {
    patches: usize,
    /// The sum of each number, [dim].
    sums: Vec<f64>,
    /// The sums of the products of each two numbers, [dim, dim]; what lies below the diagonal stays 0.
    products: Vec<f64>,
}

vectorised! {
    /// Adds the products of a row's numbers to `sums` [dim, dim], on the diagonal and above it.
    fn add_products(row: &[f64], sums: &mut [f64]) {
        let dim = row.len();
        for (i, (v, sums)) in row.iter().zip(sums.chunks_exact_mut(dim)).enumerate() {
            let pairs = sums[i..].iter_mut().zip(&row[i..]);
            pairs.for_each(|(sum, w)| *sum += v * w);
        }
    }
}

impl Moments {
    fn new(dim: usize) -> Moments {
        Moments {
            patches: 0,
            sums: vec![0.0; dim],
            products: vec![0.0; dim * dim],
        }
    }

    /// Of the patches of all parts, in as many groups as there are folds: part i is in group i % folds.
    fn of(layout: Layout, learned: &Learned, folds: usize) -> Vec<Moments> {
        let (places, dim) = (layout.places(), layout.dim);
        let all = places * learned.rows().len();
        let step = all.div_ceil(PATCHES).max(1);
        let mut groups = vec![Moments::new(dim); folds];
        let (mut row, mut wide) = (vec![], vec![]);
        for i in (0..all).step_by(step) {
            row.clear();
            learned.rows()[i / places].number(i % places, dim, &mut row);
            wide.clear();
            wide.extend(row.iter().map(|v| f64::from(*v)));
            let group = &mut groups[learned.owners()[i / places] % folds];
            group.patches += 1;
            let pairs = group.sums.iter_mut().zip(&wide);
            pairs.for_each(|(sum, v)| *sum += v);
            add_products(&wide, &mut group.products);
        }
        groups
    }

    fn add(&mut self, other: &Moments) {
        self.patches += other.patches;
        let sums = self.sums.iter_mut().zip(&other.sums);
        let products = self.products.iter_mut().zip(&other.products);
        sums.chain(products).for_each(|(a, b)| *a += b);
    }

    /// The sum of several groups.
    fn joined<'a>(dim: usize, groups: impl Iterator<Item = &'a Moments>) -> Moments {
        groups.fold(Moments::new(dim), |mut all, group| {
            all.add(group);
            all
        })
    }

    fn mean(&self) -> Vec<f64> {
        let n = self.patches.max(1) as f64;
        self.sums.iter().map(|v| v / n).collect()
    }

    /// The covariance times the number of patches, [dim, dim].
    fn covariance(&self) -> Vec<f64> {
        let (dim, mean) = (self.sums.len(), self.mean());
        let mut out = vec![0f64; dim * dim];
        for i in 0..dim {
            for j in i..dim {
                let value = self.products[i * dim + j] - self.sums[i] * mean[j];
                (out[i * dim + j], out[j * dim + i]) = (value, value);
            }
        }
        out
    }
}

impl Components {
    /// Computes mean and components of all patches of these parts, each [places, dim].
    pub fn of(layout: Layout, learned: &Learned) -> Components {
        let groups = Moments::of(layout, learned, 1);
        Components::explain(&Moments::joined(layout.dim, groups.iter()), None).0
    }

    /// The components of these sums, and all eigenvectors in rows. `near` are those of similar sums: it is quicker
    /// with them.
    fn explain(moments: &Moments, near: Option<&[f64]>) -> (Components, Vec<f64>) {
        let dim = moments.sums.len();
        let (variances, vectors) = eigen(moments.covariance(), dim, near);
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
        let mean = moments.mean().iter().map(|v| *v as f32).collect();
        (Components { mean, basis }, vectors)
    }
}

/// The matrix [n, n] that `a` is along other axes, the rows of `axes`: axes a axes^T.
fn along(a: &[f64], axes: &[f64], n: usize) -> Vec<f64> {
    let product = |x: &[f64], y: &[f64]| {
        let mut out = vec![0f64; n * n];
        for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            for (x, y) in x.iter().zip(y.chunks_exact(n)) {
                out.iter_mut().zip(y).for_each(|(out, y)| *out += x * y);
            }
        }
        out
    };
    let turned = |m: &[f64]| -> Vec<f64> { (0..n * n).map(|i| m[i % n * n + i / n]).collect() };
    product(&product(axes, a), &turned(axes))
}

/// Most sweeps of [`eigen`], which has long converged by then.
const SWEEPS: usize = 30;

/// Eigenvalues, and eigenvectors in rows, of a symmetric matrix [n, n]: cyclic Jacobi rotations (Golub and Van
/// Loan, 8.5.5). `near` are the eigenvectors of a similar matrix, from which few rotations are left.
fn eigen(mut a: Vec<f64>, n: usize, near: Option<&[f64]>) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0f64; n * n];
    match near {
        Some(near) => {
            a = along(&a, near, n);
            vectors.copy_from_slice(near);
        }
        None => (0..n).for_each(|i| vectors[i * n + i] = 1.0),
    }
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

    /// The components of all parts, and the residual of each place of each part as if it had not been learned:
    /// [parts][places]. Parts are left out a fold at a time.
    ///
    /// # Errors
    /// A single part, and as [`Subspace::judge`].
    pub fn held_out(layout: Layout, learned: &Learned) -> TractResult<(Components, Vec<Vec<f32>>)> {
        let parts: Vec<&Rows> = learned.own().collect();
        ensure!(parts.len() > 1, "one part alone says nothing of others");
        let folds = FOLDS.min(parts.len());
        let groups = Moments::of(layout, learned, folds);
        let all = Moments::joined(layout.dim, groups.iter());
        let (components, vectors) = Components::explain(&all, None);
        let mut judged = vec![vec![]; parts.len()];
        for fold in 0..folds {
            let others = groups.iter().enumerate().filter(|(i, _)| *i != fold);
            let others = Moments::joined(layout.dim, others.map(|(_, group)| group));
            let (own, _) = Components::explain(&others, Some(&vectors));
            let mut memory = Subspace::new(layout, own)?;
            for i in (fold..parts.len()).step_by(folds) {
                let descriptors = parts[i].numbers(layout.dim);
                judged[i] = vec![0f32; layout.places()];
                memory.judge(&descriptors, &mut judged[i])?;
            }
        }
        Ok((components, judged))
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
        let (values, vectors) = eigen(a.clone(), n, None);
        // From the eigenvectors of a similar matrix it comes to the same.
        let other: Vec<f64> = (0..n * n)
            .map(|i| a[i] + 0.01 * (at(i / n, i % n) + at(i % n, i / n)))
            .collect();
        let (near_values, _) = eigen(a.clone(), n, Some(&eigen(other, n, None).1));
        let sorted = |values: &[f64]| {
            let mut values = values.to_vec();
            values.sort_by(f64::total_cmp);
            values
        };
        for (near, value) in sorted(&near_values).iter().zip(sorted(&values)) {
            assert!((near - value).abs() < 1e-6, "{near} for {value}");
        }
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
