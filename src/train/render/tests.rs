use super::*;
use std::collections::BTreeSet;

#[test]
fn same_arguments_same_bytes() {
    for index in 0..8 {
        let (a, b) = pair(5, index, 96);
        let (c, d) = pair(5, index, 96);
        assert_eq!(a.image, c.image);
        assert_eq!(b.image, d.image);
        assert_eq!(b.mask, d.mask);
        assert_ne!(a.image, b.image);
    }
}

#[test]
fn every_kind_occurs_and_only_the_mask_changes() {
    let mut kinds = BTreeSet::new();
    for index in 0..160 {
        let take = take(11, index, 96);
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
