//! Distance of patches from the principal components that hold 99 % of good patches' variance: what the components
//! do not explain.

use super::descriptor::Layout;
use super::eigen::eigen;
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
        Components::explain(&Moments::joined(layout.dim, groups.iter()))
    }

    fn explain(moments: &Moments) -> Components {
        let dim = moments.sums.len();
        let (variances, vectors) = eigen(moments.covariance(), dim);
        let total: f64 = variances.iter().map(|v| v.max(0.0)).sum();
        let (mut basis, mut held) = (vec![], 0.0);
        for (variance, vector) in variances.iter().zip(vectors.chunks_exact(dim)) {
            if held >= SHARE * total && !basis.is_empty() {
                break;
            }
            held += variance.max(0.0);
            basis.extend(vector.iter().map(|v| *v as f32));
        }
        let mean = moments.mean().iter().map(|v| *v as f32).collect();
        Components { mean, basis }
    }
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
        let components = Components::explain(&all);
        let mut judged = vec![vec![]; parts.len()];
        for fold in 0..folds {
            let others = groups.iter().enumerate().filter(|(i, _)| *i != fold);
            let others = Moments::joined(layout.dim, others.map(|(_, group)| group));
            let mut memory = Subspace::new(layout, Components::explain(&others))?;
            for i in (fold..parts.len()).step_by(folds) {
                let descriptors = parts[i].numbers(layout.dim);
                judged[i] = vec![0f32; layout.places()];
                memory.judge(&descriptors, &mut judged[i])?;
            }
        }
        Ok((components, judged))
    }
}
