//! Patch scores, patch selection and the image score: section by section the paper's formulas.

use crate::bundle::manifest::{ScoreRule, Selection};
use crate::ops::{dot, sum_lanes};

/// Scales each row of `width` values to unit length. A row of zeros stays as it is.
pub fn normalise_rows(rows: &mut [f32], width: usize) {
    for row in rows.chunks_exact_mut(width) {
        let norm = sum_lanes(row, |v| v * v).sqrt();
        if norm > 0.0 {
            row.iter_mut().for_each(|v| *v /= norm);
        }
    }
}

/// Euclidean length.
pub fn norm(v: &[f32]) -> f32 {
    sum_lanes(v, |v| v * v).sqrt()
}

/// `softmax([x . normal, x . abnormal] / T)[1]` for unit vectors: the abnormal probability, 0..=1.
pub fn abnormality(x: &[f32], normal: &[f32], abnormal: &[f32], temperature: f32) -> f32 {
    1.0 / (1.0 + ((dot(x, normal) - dot(x, abnormal)) / temperature).exp())
}

/// The abnormal score of each patch, in place of what `scores` held: `patches` [N, C], unit rows.
pub fn patch_scores(
    patches: &[f32],
    normal: &[f32],
    abnormal: &[f32],
    temperature: f32,
    scores: &mut Vec<f32>,
) {
    let rows = patches.chunks_exact(normal.len());
    scores.clear();
    scores.extend(rows.map(|p| abnormality(p, normal, abnormal, temperature)));
}

/// The indices of the `count` patches that feed the prior, in place of what `chosen` held; ties go to
/// the lower index.
pub fn select(scores: &[f32], count: usize, selection: Selection, chosen: &mut Vec<usize>) {
    chosen.clear();
    chosen.extend(0..scores.len());
    if selection == Selection::Paper {
        // A stable sort would need memory of its own.
        chosen.sort_unstable_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    }
    chosen.truncate(count);
}

/// The largest value.
pub fn max(scores: &[f32]) -> f32 {
    scores.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v))
}

/// 0.5 * (q + m): `q` the image probability, `m` from the maxima of both patch score maps.
pub fn image_score(probability: f32, max_score: f32, max_adapted: f32, rule: ScoreRule) -> f32 {
    let m = match rule {
        ScoreRule::Code => (2.0 * max_score + max_adapted) / 3.0,
        ScoreRule::Paper => (max_score + max_adapted) / 2.0,
    };
    0.5 * (probability + m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection_is_by_score_or_by_raster_order() {
        let scores = [0.1, 0.9, 0.5, 0.9, 0.2];
        let mut chosen = vec![];
        for (selection, want) in [
            (Selection::Paper, [1, 3, 2]),
            (Selection::Upstream, [0, 1, 2]),
        ] {
            select(&scores, 3, selection, &mut chosen);
            assert_eq!(chosen, want);
        }
    }

    #[test]
    fn score_rules() {
        assert!((image_score(0.4, 0.6, 0.9, ScoreRule::Code) - 0.55).abs() < 1e-6);
        assert!((image_score(0.4, 0.6, 0.9, ScoreRule::Paper) - 0.575).abs() < 1e-6);
    }

    #[test]
    fn abnormality_is_a_softmax() {
        let (normal, abnormal) = ([1.0, 0.0], [0.0, 1.0]);
        let x = [0.6, 0.8];
        let (a, b) = ((0.6f64 / 0.07).exp(), (0.8f64 / 0.07).exp());
        assert!((abnormality(&x, &normal, &abnormal, 0.07) as f64 - b / (a + b)).abs() < 1e-6);
        assert_eq!(abnormality(&[1.0, 0.0], &normal, &abnormal, 1e-4), 0.0);
        assert_eq!(abnormality(&[0.0, 1.0], &normal, &abnormal, 1e-4), 1.0);
    }
}
