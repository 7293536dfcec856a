//! The terms of the training loss, each as the published code computes it (checked against its numbers).

use crate::train::nn::layers::{tensor, unit};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// Keeps logarithms finite: the published focal loss's `smooth`.
const SMOOTH: f64 = 1e-5;
/// Weight of the term that keeps the prompts apart (paper, section "CAP").
pub const ORTHOGONAL_WEIGHT: f64 = 0.1;
/// Weight of the second map's terms.
pub const ADAPTED_WEIGHT: f64 = 0.5;

/// The value of each term, as it counts in the total (`orthogonal` excepted, which counts a tenth).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// The sum of all terms.
    pub total: f64,
    /// Focal and dice losses of the first map.
    pub segmentation: f64,
    /// Focal and dice losses of the adapted map, halved.
    pub segmentation_adapted: f64,
    /// Cross-entropy of the image's two logits.
    pub image_cross_entropy: f64,
    /// Binary focal loss of the image score.
    pub image_focal: f64,
    /// L_orth before its weight.
    pub orthogonal: f64,
    /// L_prior: the mean of Omega squared, summed over the normal pictures of a batch.
    pub prior: f64,
}

impl Terms {
    /// Each term with its name, in the order of `meta.json`.
    pub fn named(&self) -> [(&'static str, f64); 7] {
        [
            ("total", self.total),
            ("segmentation", self.segmentation),
            ("segmentation_adapted", self.segmentation_adapted),
            ("image_cross_entropy", self.image_cross_entropy),
            ("image_focal", self.image_focal),
            ("orthogonal", self.orthogonal),
            ("prior", self.prior),
        ]
    }

    /// Adds `weight` times another's terms.
    pub fn add(&mut self, other: &Terms, weight: f64) {
        self.total += weight * other.total;
        self.segmentation += weight * other.segmentation;
        self.segmentation_adapted += weight * other.segmentation_adapted;
        self.image_cross_entropy += weight * other.image_cross_entropy;
        self.image_focal += weight * other.image_focal;
        self.orthogonal += weight * other.orthogonal;
        self.prior += weight * other.prior;
    }

    /// The first term that is NaN or infinite.
    pub fn not_finite(&self) -> Option<&'static str> {
        let found = self
            .named()
            .into_iter()
            .skip(1)
            .find(|(_, v)| !v.is_finite());
        found.map(|(name, _)| name)
    }
}

/// Bilinear enlargement (align_corners = false) from `grid` to `side` as a matrix [side, grid]:
/// a map [grid, grid] becomes U map U^T.
pub fn enlargement(grid: usize, side: usize, device: &Device) -> Tensor<2> {
    let mut u = Array2::<f32>::zeros((side, grid));
    for i in 0..side {
        let at = ((i as f32 + 0.5) * grid as f32 / side as f32 - 0.5).max(0.0);
        let low = (at as usize).min(grid - 1);
        let high = (low + 1).min(grid - 1);
        let part = at - low as f32;
        u[(i, low)] += 1.0 - part;
        u[(i, high)] += part;
    }
    tensor(&u, device)
}

/// Patch scores [B, grid * grid] to maps [B, side * side].
pub fn enlarge(scores: Tensor<2>, u: &Tensor<2>) -> Tensor<2> {
    let [b, n] = scores.dims();
    let [side, grid] = u.dims();
    debug_assert_eq!(n, grid * grid);
    // One axis after the other, each as a single product over the whole batch.
    let rows = scores
        .reshape([b * grid, grid])
        .matmul(u.clone().transpose());
    let rows = rows.reshape([b, grid, side]).swap_dims(1, 2);
    let maps = rows
        .reshape([b * side, grid])
        .matmul(u.clone().transpose())
        .reshape([b, side, side]);
    maps.swap_dims(1, 2).reshape([b, side * side])
}

/// Bilinear enlargement with corners aligned, as a matrix [side, grid].
pub fn enlargement_aligned(grid: usize, side: usize, device: &Device) -> Tensor<2> {
    let mut u = Array2::<f32>::zeros((side, grid));
    let step = (grid - 1) as f32 / side.saturating_sub(1).max(1) as f32;
    for i in 0..side {
        let at = i as f32 * step;
        let low = (at as usize).min(grid - 1);
        let part = at - low as f32;
        u[(i, low)] += 1.0 - part;
        u[(i, (low + 1).min(grid - 1))] += part;
    }
    tensor(&u, device)
}

/// Focal loss (gamma 2) of both channels against the mask, and the dice losses of each: `abnormal` and
/// `masks` [B, pixels], the normal channel being what is left of 1.
pub fn segmentation(abnormal: Tensor<2>, masks: Tensor<2>) -> Tensor<1> {
    let normal = abnormal.clone().neg().add_scalar(1.0);
    let background = masks.clone().neg().add_scalar(1.0);
    focal(abnormal.clone(), masks.clone()) + dice(abnormal, masks) + dice(normal, background)
}

/// Focal loss (gamma 2, smoothed) of both channels against the mask.
pub fn focal(abnormal: Tensor<2>, masks: Tensor<2>) -> Tensor<1> {
    // The mask as a smoothed one-hot key; pt is the probability given to the right answer.
    let key = masks.mul_scalar(1.0 - 2.0 * SMOOTH).add_scalar(SMOOTH);
    let pt = (key.clone() * abnormal.clone()
        + (key.neg().add_scalar(1.0)) * (abnormal.neg().add_scalar(1.0)))
    .add_scalar(SMOOTH);
    (pt.clone().neg().add_scalar(1.0).square() * pt.log())
        .mean()
        .neg()
}

/// 1 - mean over pictures of (2 |x y| + 1) / (|x| + |y| + 1).
pub fn dice(x: Tensor<2>, y: Tensor<2>) -> Tensor<1> {
    let both = (x.clone() * y.clone())
        .sum_dim(1)
        .mul_scalar(2.0)
        .add_scalar(1.0);
    let sizes = (x.sum_dim(1) + y.sum_dim(1)).add_scalar(1.0);
    (both / sizes).mean().neg().add_scalar(1.0)
}

/// Cross-entropy of logits [B, 2] (normal, abnormal); `labels` `[B]`, 1 for abnormal.
pub fn image_cross_entropy(logits: Tensor<2>, labels: Tensor<1>) -> Tensor<1> {
    let [b, _] = logits.dims();
    let log = log_softmax(logits, 1);
    let abnormal = log.clone().narrow(1, 1, 1).reshape([b]);
    let normal = log.narrow(1, 0, 1).reshape([b]);
    (labels.clone() * abnormal + labels.neg().add_scalar(1.0) * normal)
        .mean()
        .neg()
}

/// Binary focal loss (gamma 2) of image scores `[B]`, which the published code takes for logits.
pub fn image_focal(scores: Tensor<1>, labels: Tensor<1>) -> Tensor<1> {
    // log(1 + e^-|s|) + max(s, 0) - s y, stable for both signs.
    let soft = scores.clone().abs().neg().exp().log1p();
    let entropy = soft + scores.clone().clamp_min(0.0) - scores * labels;
    let pt = entropy.clone().neg().exp();
    (pt.neg().add_scalar(1.0).square() * entropy).mean()
}

/// Sum over pairs j < k of |cos(F_j, F_k)|, raw features [K, C]; 0 for a single prompt.
pub fn orthogonal(features: Tensor<2>) -> Tensor<1> {
    let [k, _] = features.dims();
    let f = unit(features);
    let cosines = f.clone().matmul(f.transpose()).abs();
    let pairs = Array2::from_shape_fn((k, k), |(i, j)| if i < j { 1.0f32 } else { 0.0 });
    let pairs = tensor::<2, _>(&pairs, &cosines.device());
    (cosines * pairs).sum()
}

/// Sum over the normal pictures of mean(Omega^2); `priors` [B, C], `labels` `[B]`.
pub fn prior(priors: Tensor<2>, labels: Tensor<1>) -> Tensor<1> {
    let [b, _] = priors.dims();
    let each = priors.square().mean_dim(1).reshape([b]);
    (each * labels.neg().add_scalar(1.0)).sum()
}
