//! Curves with a point per threshold, brought to as many points as a drawing can show.
//!
//! Never moves a point, and never changes a figure: areas are computed before.

/// The most points that are left.
pub const MOST: usize = 300;
/// A step that no drawing of this size shows: a fifth of a pixel at a thousand pixels.
const GRAIN: f64 = 1.0 / 5000.0;

/// At most [`MOST`] of these points of the unit square, the first and the last always among them.
///
/// Points within a grain of the last one kept are passed over as they come, so that a curve of many
/// million pixels needs little memory. Then Ramer, Douglas and Peucker: a point goes if it lies within
/// a tolerance of the line between those that stay. The tolerance begins at zero, which takes only
/// points on a straight line, and grows until few enough are left.
pub fn thin(points: impl IntoIterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let (mut kept, mut last) = (Vec::<(f64, f64)>::new(), None);
    for point in points {
        let far = |k: &(f64, f64)| (point.0 - k.0).abs() >= GRAIN || (point.1 - k.1).abs() >= GRAIN;
        if kept.last().is_none_or(far) {
            kept.push(point);
        }
        last = Some(point);
    }
    kept.extend(last.filter(|l| kept.last() != Some(l)));
    let mut tolerance = 0.0;
    loop {
        let thinned = simplified(&kept, tolerance);
        // Any curve fits in the end: no point of the unit square is further than 2 from a line in it.
        if thinned.len() <= MOST {
            return thinned;
        }
        tolerance = (1.5 * tolerance).max(GRAIN / 4.0);
    }
}

/// How far `p` is from the segment between `a` and `b`.
fn distance(p: (f64, f64), a: (f64, f64), b: (f64, f64)) -> f64 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 {
        (((p.0 - a.0) * dx + (p.1 - a.1) * dy) / length).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (a.0 + along * dx - p.0).hypot(a.1 + along * dy - p.1)
}

fn simplified(points: &[(f64, f64)], tolerance: f64) -> Vec<(f64, f64)> {
    let end = points.len().saturating_sub(1);
    let mut stays = vec![false; points.len()];
    stays.iter_mut().take(1).for_each(|s| *s = true);
    stays.iter_mut().skip(end).for_each(|s| *s = true);
    // A list of spans instead of recursion, which a jagged curve would drive deep.
    let mut spans = vec![(0, end)];
    while let Some((from, to)) = spans.pop() {
        let furthest = (from + 1..to)
            .map(|i| (i, distance(points[i], points[from], points[to])))
            .max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((i, d)) = furthest
            && d > tolerance
        {
            stays[i] = true;
            spans.extend([(from, i), (i, to)]);
        }
    }
    let kept = points.iter().zip(stays).filter(|(_, stays)| *stays);
    kept.map(|(point, _)| *point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::metrics::Ranking;

    fn area(points: &[(f64, f64)]) -> f64 {
        points
            .windows(2)
            .map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0)
            .sum()
    }

    /// Overlapping scores without a pattern, a third of them abnormal.
    fn ranking(n: u32) -> Ranking {
        let noise = |i: u32| f64::from(i.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24);
        Ranking::new((0..n).map(|i| {
            let abnormal = noise(i) < 0.33;
            let spread = noise(i + n) + noise(i + 2 * n) + noise(i + 3 * n);
            ((spread + if abnormal { 0.5 } else { 0.0 }) as f32, abnormal)
        }))
    }

    #[test]
    fn thinned_curves_keep_ends_area_and_shape() {
        for n in [10, 100, 500, 1725, 20_000, 300_000] {
            let ranking = ranking(n);
            let curves: [Vec<(f64, f64)>; 2] = [
                ranking.roc().collect(),
                ranking.precision_recall().collect(),
            ];
            for (whole, name) in curves.iter().zip(["ROC", "precision-recall"]) {
                let thinned = thin(whole.iter().copied());
                assert!((2..=MOST).contains(&thinned.len()), "{name} of {n}");
                assert_eq!(thinned.first(), whole.first());
                assert_eq!(thinned.last(), whole.last());
                let off = (area(&thinned) / area(whole) - 1.0).abs();
                assert!(off < 0.002, "{name} of {n}: area off by {off}");
                let near = |p: &(f64, f64)| {
                    let to = thinned.windows(2).map(|w| distance(*p, w[0], w[1]));
                    to.fold(f64::MAX, f64::min)
                };
                // A third of a percent of the drawing's side: about a pixel as it is shown.
                let moved = whole.iter().step_by(1 + whole.len() / 3000).map(near);
                let moved = moved.fold(0.0, f64::max);
                assert!(moved < 0.0035, "{name} of {n}: moved by {moved}");
            }
        }
    }

    #[test]
    fn few_points_and_straight_lines() {
        assert_eq!(thin([]), []);
        assert_eq!(thin([(0.5, 0.5)]), [(0.5, 0.5)]);
        assert_eq!(thin([(0.5, 0.5), (0.5, 0.5)]), [(0.5, 0.5)]);
        let line = (0..=10_000).map(|i| (f64::from(i) / 1e4, 0.25));
        assert_eq!(thin(line), [(0.0, 0.25), (1.0, 0.25)]);
        let corner = [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)];
        assert_eq!(thin(corner), corner);
    }
}
