//! Figures of merit against scikit-learn's and the published protocol's (tests/golden).

mod common;

use common::{golden, values};
use faprompt_edge::train::metrics::{Ranking, Segmentation, pixel_ranking, pro};
use faprompt_edge::train::tensors::Tensors;
use serde_json::Value;

#[test]
fn golden_metrics() {
    let text = std::fs::read_to_string(golden("faprompt-tiny/metrics.json")).unwrap();
    let want: Value = serde_json::from_str(&text).unwrap();
    let want = |key: &str| want["expected"][key].as_f64().unwrap();
    let inputs = Tensors::load(&golden("faprompt-tiny/metrics.safetensors")).unwrap();
    let (scores, labels) = (values(&inputs, "scores"), values(&inputs, "labels"));
    let (maps, masks) = (values(&inputs, "maps"), values(&inputs, "masks"));
    let image = Ranking::new(scores.iter().copied().zip(labels.iter().map(|l| *l > 0.0)));
    let pictures: Vec<Segmentation> = maps
        .chunks_exact(64 * 64)
        .zip(masks.chunks_exact(64 * 64))
        .map(|(m, k)| Segmentation {
            width: 64,
            scores: m.to_vec(),
            mask: k.iter().map(|v| *v > 0.0).collect(),
        })
        .collect();
    let pixel = pixel_ranking(&pictures);
    let (f1, threshold) = image.f1_max().unwrap();
    // As devices compare: what lies above it comes to that F1.
    let above = image.f1_threshold().unwrap();
    let of = |bad: bool, found: bool| {
        let all = scores.iter().zip(&labels);
        all.filter(|(s, l)| (**l > 0.0) == bad && (**s > above) == found)
            .count() as f64
    };
    let (hit, lost, missed) = (of(true, true), of(false, true), of(true, false));
    assert_eq!(2.0 * hit / (2.0 * hit + lost + missed), f1);
    for (key, got, tolerance) in [
        ("image_auroc", image.auroc().unwrap(), 1e-6),
        ("image_ap", image.average_precision().unwrap(), 1e-6),
        ("image_f1_max", f1, 1e-6),
        ("image_f1_threshold", f64::from(threshold), 1e-6),
        ("pixel_auroc", pixel.auroc().unwrap(), 1e-6),
        ("pixel_ap", pixel.average_precision().unwrap(), 1e-6),
        ("pixel_aupro", pro(&pictures, &pixel).unwrap(), 1e-3),
    ] {
        println!("{key}: {got} (golden {})", want(key));
        assert!(
            (got - want(key)).abs() < tolerance,
            "{key}: {got}, golden {}",
            want(key)
        );
    }
}
