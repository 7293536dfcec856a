use super::*;
use std::collections::BTreeSet;

#[test]
fn same_arguments_same_bytes() {
    for part in [Part::Train, Part::Validation] {
        for index in 0..4 {
            let (a, b) = pair(5, index, 96, part);
            let (c, d) = pair(5, index, 96, part);
            assert_eq!(a.image, c.image);
            assert_eq!(b.image, d.image);
            assert_eq!(b.mask, d.mask);
            assert_ne!(a.image, b.image);
        }
    }
}

#[test]
fn varied_pairs_are_the_same_for_a_seed_and_differ_at_the_defect() {
    let (mut inside, mut outside, mut defects) = ((0.0, 0.0), (0.0, 0.0), 0);
    for index in 0..24 {
        let (a, b) = varied_pair(5, index, 96, Part::Train);
        let (c, d) = varied_pair(5, index, 96, Part::Train);
        assert_eq!((&a.image, &b.image), (&c.image, &d.image));
        assert_eq!(b.mask, d.mask);
        assert_eq!(
            (b.image.dimensions(), b.mask.dimensions()),
            ((96, 96), (96, 96))
        );
        assert_eq!(
            b.defect.is_some(),
            b.mask.as_raw().contains(&255),
            "{index}"
        );
        defects += usize::from(b.defect.is_some());
        for ((p, q), m) in a.image.pixels().zip(b.image.pixels()).zip(b.mask.as_raw()) {
            let d: f64 = (0..3).map(|k| f64::from(p.0[k].abs_diff(q.0[k]))).sum();
            let to = if *m > 0 { &mut inside } else { &mut outside };
            *to = (to.0 + d, to.1 + 1.0);
        }
    }
    assert!(defects >= 20, "{defects} defects of 24 are left");
    // Outside only the grain differs.
    let (inside, outside) = (inside.0 / inside.1, outside.0 / outside.1);
    assert!(inside > 2.0 * outside, "{inside} inside, {outside} outside");
}

#[test]
fn every_kind_occurs_and_only_the_mask_changes() {
    let mut kinds = BTreeSet::new();
    for index in 0..160 {
        let part = if index % 3 == 0 {
            Part::Validation
        } else {
            Part::Train
        };
        let take = take(11, index, 96, part);
        kinds.insert(take.defect);
        let size = take.mask.iter().filter(|m| **m).count();
        assert!(size >= 8, "{index}: mask of {size} px");
        let threshold = visible(&take.before, &take.after, &take.camera);
        let inside = (0..96 * 96)
            .filter(|i| take.mask[*i] && change(&take.before[*i], &take.after[*i]) > threshold);
        assert!(inside.count() >= 8, "{index}: nothing changed inside");
        for i in 0..96 * 96 {
            let d = change(&take.before[i], &take.after[i]);
            assert!(take.mask[i] || d <= threshold, "{index}: {d} outside");
        }
    }
    assert_eq!(kinds.len(), Defect::ALL.len());
}

#[test]
fn validation_shares_no_family_with_training() {
    let seen = |part| {
        let mut out = BTreeSet::new();
        for index in 0..60 {
            let mut dice = Dice::new(3, index, 0);
            let scene = Scene::new(&mut dice, 32, part, Defect::ALL[index as usize % 20]);
            out.insert((scene.surface, scene.product));
        }
        out
    };
    assert!(seen(Part::Train).is_disjoint(&seen(Part::Validation)));
}

#[test]
fn captions_are_plain() {
    for index in 0..6 {
        let (normal, abnormal) = pair(2, index, 96, Part::Train);
        for variant in 0..40 {
            for picture in [&normal, &abnormal] {
                let text = picture.caption(variant);
                assert!(!text.contains('{'), "{text}");
                assert_eq!(text, text.to_lowercase());
                assert!(text.split(' ').count() <= 14, "{text}");
            }
        }
    }
}
