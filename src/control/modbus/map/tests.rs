use super::*;
use std::fmt::Write;

/// Addresses and names are known to machines outside. A line may be added here, never changed.
#[test]
fn what_leaves_the_machine_never_changes() {
    let mut now = format!("version {VERSION}\n");
    for input in INPUTS {
        let _ = writeln!(
            now,
            "input {}+{} {}",
            input.register, input.words, input.name
        );
    }
    for own in OWN {
        let _ = writeln!(now, "holding {} {}", own as u16, own.text().0);
    }
    for (place, coil) in COILS.into_iter().enumerate() {
        assert_eq!(coil as usize, place);
        let _ = writeln!(now, "coil {place} {}", coil.text().0);
    }
    for (place, discrete) in DISCRETES.iter().enumerate() {
        let _ = writeln!(now, "discrete {place} {}", discrete.0);
    }
    assert_eq!(now, include_str!("pinned.txt"));
}

#[test]
fn registers_do_not_overlap_and_own_ones_are_no_parameters() {
    for pair in INPUTS.windows(2) {
        assert!(pair[0].register + pair[0].words <= pair[1].register);
    }
    assert!((FIRST_OWN..=u16::MAX).all(|r| Parameter::at(r).is_none()));
}

#[test]
fn scores_read_as_steps_and_never_above_what_they_are() {
    for (score, read) in [
        (0.0, 0),
        (0.5, 5000),
        (0.500_09, 5000),
        (1.0, 10_000),
        (f32::NAN, NONE),
    ] {
        assert_eq!(steps(score), read);
    }
    // Steps of a threshold, as the parameter makes it, and back.
    for step in 0..=STEPS {
        let threshold = step as f32 / STEPS as f32;
        assert!(judged(Outcome::Good, threshold) <= u64::from(step));
        assert!(judged(Outcome::Reject, threshold.next_up()) > u64::from(step));
    }
}
