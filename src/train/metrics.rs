//! Figures of merit, as the literature computes them: AUROC, average precision, PRO, F1-max.
//!
//! All take scores where higher means more abnormal, and are exact: equal scores are one threshold.

use std::cmp::Ordering;

/// Scores of both kinds, sorted, highest first.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    positives: Vec<f32>,
    negatives: Vec<f32>,
}

/// A threshold and what it does: everything at or above it is called abnormal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operating {
    /// The lowest score that is called abnormal.
    pub threshold: f32,
    /// The number of abnormal ones that are found.
    pub true_positives: usize,
    /// The number of normal ones that are called abnormal.
    pub false_positives: usize,
}

fn descending(a: &f32, b: &f32) -> Ordering {
    b.total_cmp(a)
}

impl Ranking {
    /// Ranks scores with their labels (`true`: abnormal); NaN counts as the highest score (a reject).
    pub fn new(scores: impl IntoIterator<Item = (f32, bool)>) -> Ranking {
        let mut ranking = Ranking::default();
        for (score, positive) in scores {
            let kind = if positive {
                &mut ranking.positives
            } else {
                &mut ranking.negatives
            };
            kind.push(if score.is_nan() { f32::INFINITY } else { score });
        }
        ranking.positives.sort_unstable_by(descending);
        ranking.negatives.sort_unstable_by(descending);
        ranking
    }

    /// Whether both kinds are there, without which no curve is defined.
    pub fn is_defined(&self) -> bool {
        !self.positives.is_empty() && !self.negatives.is_empty()
    }

    /// Every distinct threshold, from the highest down, without keeping them: pixels make millions.
    fn operating(&self) -> impl Iterator<Item = Operating> {
        let (mut p, mut n) = (0, 0);
        std::iter::from_fn(move || {
            if p >= self.positives.len() && n >= self.negatives.len() {
                return None;
            }
            let next = |v: &[f32], i: usize| v.get(i).copied().unwrap_or(f32::NEG_INFINITY);
            let threshold = next(&self.positives, p).max(next(&self.negatives, n));
            p += self.positives[p..]
                .iter()
                .take_while(|s| **s >= threshold)
                .count();
            n += self.negatives[n..]
                .iter()
                .take_while(|s| **s >= threshold)
                .count();
            Some(Operating {
                threshold,
                true_positives: p,
                false_positives: n,
            })
        })
    }

    /// The ROC curve, false-positive rate and true-positive rate, from (0, 0) to (1, 1). Empty without
    /// both kinds.
    pub fn roc(&self) -> impl Iterator<Item = (f64, f64)> {
        let (all, normal) = (self.positives.len() as f64, self.negatives.len() as f64);
        let rates = move |p: Operating| {
            (
                p.false_positives as f64 / normal,
                p.true_positives as f64 / all,
            )
        };
        std::iter::once((0.0, 0.0))
            .chain(self.operating().map(rates))
            .filter(|_| self.is_defined())
    }

    /// The precision-recall curve, recall and precision, by rising recall. The first threshold's
    /// precision is drawn from recall 0. Empty without both kinds.
    pub fn precision_recall(&self) -> impl Iterator<Item = (f64, f64)> {
        let all = self.positives.len() as f64;
        let rates = move |p: Operating| {
            let found = p.true_positives as f64;
            (found / all, found / (found + p.false_positives as f64))
        };
        let first = self.operating().take(1).map(move |p| (0.0, rates(p).1));
        first
            .chain(self.operating().map(rates))
            .filter(|_| self.is_defined())
    }

    /// Area under the ROC curve: the chance that an abnormal one scores higher than a normal one, ties
    /// counting half. `None` without both kinds.
    pub fn auroc(&self) -> Option<f64> {
        let (mut area, mut before) = (0f64, (0usize, 0usize));
        for point in self.operating() {
            let (p, n) = (point.true_positives, point.false_positives);
            area += (n - before.1) as f64 * (p + before.0) as f64 / 2.0;
            before = (p, n);
        }
        self.is_defined()
            .then(|| area / (self.positives.len() as f64 * self.negatives.len() as f64))
    }

    /// Average precision: the sum over thresholds of precision times the recall gained (scikit-learn's
    /// definition, no interpolation). `None` without both kinds.
    pub fn average_precision(&self) -> Option<f64> {
        let (mut sum, mut before) = (0f64, 0usize);
        for point in self.operating() {
            let found = point.true_positives;
            sum += (found - before) as f64 * found as f64 / (found + point.false_positives) as f64;
            before = found;
        }
        self.is_defined().then(|| sum / self.positives.len() as f64)
    }

    /// The share of the normal ones that pass while at most `share` of the abnormal ones are missed, by the best
    /// threshold for that; whatever is above a threshold is called abnormal. `None` without both kinds.
    pub fn passed_while_missing(&self, share: f64) -> Option<f64> {
        let may_pass = (self.positives.len() as f64 * share) as usize;
        // The lowest abnormal score that has to be found.
        let lowest = self.positives.iter().rev().nth(may_pass)?;
        let passed = self.negatives.iter().filter(|s| *s < lowest).count();
        self.is_defined()
            .then(|| passed as f64 / self.negatives.len() as f64)
    }

    /// The share of the abnormal ones that are found while at most `share` of the normal ones are lost, by the
    /// best threshold for that. `None` without both kinds.
    pub fn found_while_losing(&self, share: f64) -> Option<f64> {
        let may_go = (self.negatives.len() as f64 * share) as usize;
        // The highest normal score that has to pass.
        let highest = self.negatives.get(may_go)?;
        let found = self.positives.iter().filter(|s| *s > highest).count();
        self.is_defined()
            .then(|| found as f64 / self.positives.len() as f64)
    }

    /// A threshold above which lies what [`Ranking::f1_max`] calls abnormal, and nothing else: as devices compare. It
    /// lies near the middle between the lowest score that is above and the highest that is not, with as few decimals,
    /// from three on, as that leaves room for. `None` without both kinds.
    pub fn f1_threshold(&self) -> Option<f32> {
        let (_, above) = self.f1_max()?;
        let scores = || self.positives.iter().chain(&self.negatives).copied();
        let below = scores().filter(|s| *s < above).max_by(f32::total_cmp);
        let separates = |t: &f32| *t < above && below.is_none_or(|b| *t >= b);
        let (low, high) = (below.map_or(0.0, f64::from), f64::from(above));
        // A score that is no number stands for infinity.
        let (low, high) = match (low.is_finite(), high.is_finite()) {
            (true, true) => (low, high),
            (true, false) => (low, low + 1.0),
            _ => (0.0, 0.0),
        };
        let middle = (low + high) / 2.0;
        let rounded = (3..=9).map(|decimals| {
            let unit = 10f64.powi(decimals);
            ((middle * unit).round() / unit) as f32
        });
        let lowest = || below.unwrap_or(above.next_down());
        Some(rounded.into_iter().find(separates).unwrap_or_else(lowest))
    }

    /// The largest F1 = 2 TP / (2 TP + FP + FN) and the lowest score that is then called abnormal (the highest of
    /// equals). `None` without both kinds.
    pub fn f1_max(&self) -> Option<(f64, f32)> {
        let f1 = |p: &Operating| {
            let missed = self.positives.len() - p.true_positives;
            2.0 * p.true_positives as f64
                / (2 * p.true_positives + p.false_positives + missed) as f64
        };
        let mut best: Option<(f64, f32)> = None;
        for point in self.operating() {
            if best.is_none_or(|(value, _)| f1(&point) > value) {
                best = Some((f1(&point), point.threshold));
            }
        }
        best.filter(|_| self.is_defined())
    }
}

/// A threshold with three decimals, or with all that it has: what is read is what was meant.
pub fn threshold_text(threshold: f64) -> String {
    let short = format!("{threshold:.3}");
    let as_short = |t: f64| short.parse::<f32>().is_ok_and(|s| s == t as f32);
    match as_short(threshold) {
        true => short,
        false => (threshold as f32).to_string(),
    }
}

/// A map and its mask, for pixel figures.
#[derive(Clone, Debug)]
pub struct Segmentation {
    /// Pixels per row.
    pub width: usize,
    /// Anomaly scores, row-major.
    pub scores: Vec<f32>,
    /// Whether each pixel is abnormal.
    pub mask: Vec<bool>,
}

/// Connected regions of a mask (8 neighbours): the indices of each one's pixels.
pub fn regions(mask: &[bool], width: usize) -> Vec<Vec<usize>> {
    let height = mask.len() / width.max(1);
    let (mut seen, mut regions) = (vec![false; mask.len()], vec![]);
    for start in 0..mask.len() {
        if !mask[start] || seen[start] {
            continue;
        }
        seen[start] = true;
        let (mut region, mut next) = (vec![start], 0);
        while let Some(&at) = region.get(next) {
            next += 1;
            let (x, y) = (at % width, at / width);
            for ny in y.saturating_sub(1)..=(y + 1).min(height - 1) {
                for nx in x.saturating_sub(1)..=(x + 1).min(width - 1) {
                    let neighbour = ny * width + nx;
                    if mask[neighbour] && !seen[neighbour] {
                        seen[neighbour] = true;
                        region.push(neighbour);
                    }
                }
            }
        }
        regions.push(region);
    }
    regions
}

/// Thresholds of the PRO curve.
const STEPS: usize = 200;
/// The false-positive rate up to which it is integrated.
const MAX_FPR: f64 = 0.3;

/// The pixel ranking of all pictures together.
pub fn pixel_ranking<'a>(pictures: impl IntoIterator<Item = &'a Segmentation>) -> Ranking {
    Ranking::new(
        pictures
            .into_iter()
            .flat_map(|p| p.scores.iter().copied().zip(p.mask.iter().copied())),
    )
}

/// Area under the per-region-overlap curve up to a false-positive rate of 0.3, divided by the range
/// of rates that was met, thresholds in 200 equal steps from the lowest to the highest score (the
/// protocol of AnomalyCLIP and FAPrompt). `None` without abnormal or without normal pixels, or if
/// fewer than two thresholds stay under that rate.
pub fn pro<'a>(
    pictures: impl IntoIterator<Item = &'a Segmentation>,
    pixels: &Ranking,
) -> Option<f64> {
    if !pixels.is_defined() {
        return None;
    }
    let mut overlaps: Vec<Vec<f32>> = vec![];
    for picture in pictures {
        for region in regions(&picture.mask, picture.width) {
            let mut scores: Vec<f32> = region.iter().map(|i| picture.scores[*i]).collect();
            scores.sort_unstable_by(descending);
            overlaps.push(scores);
        }
    }
    let first = pixels.positives[0].max(pixels.negatives[0]);
    let last = pixels.positives[pixels.positives.len() - 1]
        .min(pixels.negatives[pixels.negatives.len() - 1]);
    let (low, high) = (f64::from(last), f64::from(first));
    let above = |sorted: &[f32], t: f64| {
        sorted.partition_point(|s| f64::from(*s) > t) as f64 / sorted.len() as f64
    };
    let mut curve: Vec<(f64, f64)> = (0..STEPS)
        .map(|i| low + (high - low) / STEPS as f64 * i as f64)
        .map(|t| {
            let overlap = overlaps.iter().map(|r| above(r, t)).sum::<f64>() / overlaps.len() as f64;
            (above(&pixels.negatives, t), overlap)
        })
        .filter(|(fpr, _)| *fpr < MAX_FPR)
        .collect();
    curve.reverse();
    let (start, end) = (curve.first()?.0, curve.last()?.0);
    let area: f64 = curve
        .windows(2)
        .map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0)
        .sum();
    (end > start).then(|| area / (end - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separated_reversed_and_tied_scores() {
        let of = |scores: &[(f32, bool)]| Ranking::new(scores.iter().copied());
        let separated = of(&[(0.9, true), (0.8, true), (0.2, false)]);
        assert_eq!(separated.auroc(), Some(1.0));
        assert_eq!(separated.average_precision(), Some(1.0));
        assert_eq!(separated.f1_max(), Some((1.0, 0.8)));
        assert_eq!(of(&[(0.1, true), (0.8, false)]).auroc(), Some(0.0));
        assert_eq!(
            of(&[(0.5, true), (0.5, false), (0.5, false)]).auroc(),
            Some(0.5)
        );
        for one_kind in [of(&[(0.5, true)]), of(&[(0.5, false)]), of(&[])] {
            assert_eq!(
                (
                    one_kind.auroc(),
                    one_kind.average_precision(),
                    one_kind.f1_max()
                ),
                (None, None, None)
            );
        }
        // What devices compare with: above 0.5, found; not above it, passed.
        assert_eq!(separated.f1_threshold(), Some(0.5));
        let close = of(&[(0.123_46, true), (0.123_44, false)]).f1_threshold();
        assert_eq!(close, Some(0.123_45));
        let next = of(&[(0.5f32.next_up(), true), (0.5, false)]);
        assert_eq!(next.f1_threshold(), Some(0.5));
        let all_found = of(&[(0.5, true), (0.5, false)]).f1_threshold().unwrap();
        assert_eq!(all_found, 0.25);
        let zeros = of(&[(0.0, true), (0.0, false)]).f1_threshold().unwrap();
        assert!(zeros < 0.0);
        let odd = of(&[(f32::NAN, true), (0.5, false)])
            .f1_threshold()
            .unwrap();
        assert!((0.5..f32::INFINITY).contains(&odd));
        assert_eq!(of(&[(0.5, true)]).f1_threshold(), None);
        // NaN is a reject: a miss if the part was good.
        assert_eq!(of(&[(f32::NAN, false), (0.5, true)]).auroc(), Some(0.0));
    }

    #[test]
    fn what_two_percent_buy() {
        // 100 abnormal ones from 0.50 up, 50 normal ones from 0.30 up, 0.01 apart.
        let abnormal = (0..100).map(|i| ((50 + i) as f32 / 100.0, true));
        let normal = (0..50).map(|i| ((30 + i) as f32 / 100.0, false));
        let ranking = Ranking::new(abnormal.chain(normal));
        // Two abnormal ones may be missed: those at 0.50 and 0.51; normal ones below 0.52 pass.
        assert_eq!(ranking.passed_while_missing(0.02), Some(22.0 / 50.0));
        // One normal one may be lost: the one at 0.79; abnormal ones above 0.78 are found.
        assert_eq!(ranking.found_while_losing(0.02), Some(71.0 / 100.0));
        let tied = Ranking::new([(0.5, true), (0.5, false)]);
        assert_eq!(tied.passed_while_missing(0.02), Some(0.0));
        assert_eq!(tied.found_while_losing(0.02), Some(0.0));
        let one_kind = Ranking::new([(0.5, true)]);
        assert_eq!(one_kind.passed_while_missing(0.02), None);
        assert_eq!(one_kind.found_while_losing(0.02), None);
    }

    #[test]
    fn curves_enclose_their_figures_and_start_at_the_axis() {
        let ranking = Ranking::new([(0.9, true), (0.7, false), (0.7, true), (0.1, false)]);
        let roc: Vec<_> = ranking.roc().collect();
        assert_eq!(roc, [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]);
        let area: f64 = roc
            .windows(2)
            .map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0)
            .sum();
        assert_eq!(Some(area), ranking.auroc());
        let curve: Vec<_> = ranking.precision_recall().collect();
        assert_eq!(
            curve,
            [(0.0, 1.0), (0.5, 1.0), (1.0, 2.0 / 3.0), (1.0, 0.5)]
        );
        let one_kind = Ranking::new([(0.5, true)]);
        assert_eq!(
            (one_kind.roc().count(), one_kind.precision_recall().count()),
            (0, 0)
        );
    }

    #[test]
    fn diagonal_pixels_are_one_region() {
        let mask = [
            true, false, false, false, true, false, false, false, false, false, false, true,
        ];
        let mut found = regions(&mask, 3);
        found.sort();
        assert_eq!(found, [vec![0, 4], vec![11]]);
        assert!(regions(&[false; 6], 3).is_empty());
    }

    #[test]
    fn pro_of_a_perfect_and_of_a_flat_map() {
        let mask: Vec<bool> = (0..100).map(|i| i % 10 < 2).collect();
        let map = |f: fn(bool, usize) -> f32| {
            let scores = mask.iter().enumerate().map(|(i, m)| f(*m, i)).collect();
            vec![Segmentation {
                width: 10,
                scores,
                mask: mask.clone(),
            }]
        };
        let perfect = map(|m, i| if m { 1.0 } else { 0.001 * i as f32 });
        let value = pro(&perfect, &pixel_ranking(&perfect)).unwrap();
        assert!(value > 0.99, "{value}");
        let flat = map(|_, _| 0.5);
        assert_eq!(pro(&flat, &pixel_ranking(&flat)), None);
    }
}
