use super::*;

#[test]
fn maps_are_brought_to_a_grid_as_pillow_resizes() {
    let of = |from, to| {
        let tensor = weights(from, to).unwrap();
        tensor
            .try_as_plain_ram()
            .unwrap()
            .as_slice::<f32>()
            .unwrap()
            .to_vec()
    };
    // Pillow: Image.fromarray([[1, 0]]).resize((4, 1), BILINEAR), and [[1, 0, 0, 0]] to (2, 1).
    assert_eq!(of(2, 4), [1.0, 0.0, 0.75, 0.25, 0.25, 0.75, 0.0, 1.0]);
    let shrunk = of(4, 2);
    let want = [
        3.0 / 7.0,
        3.0 / 7.0,
        1.0 / 7.0,
        0.0,
        0.0,
        1.0 / 7.0,
        3.0 / 7.0,
        3.0 / 7.0,
    ];
    assert!(
        shrunk.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6),
        "{shrunk:?}"
    );
}

#[test]
fn grids_divide_the_picture() {
    assert_eq!(grid(224, 28, None).unwrap(), 28);
    assert_eq!(grid(260, 33, None).unwrap(), 26);
    assert_eq!(grid(224, 28, Some(14)).unwrap(), 14);
    for (side, finest, asked, option) in [
        (251, 32, None, "--image-size"),
        (260, 33, Some(14), "--image-size"),
        (224, 28, Some(0), "--grid 0: "),
        (224, 28, Some(1000), "--grid 1000: "),
    ] {
        let error = grid(side, finest, asked).unwrap_err().to_string();
        assert!(error.contains(option), "{error}");
    }
}

#[test]
fn taps_are_maps_or_rows_of_patches() {
    let side = |shape: &[usize]| kind("t", shape).map(|(_, side)| side).ok();
    assert_eq!(side(&[1, 120, 28, 28]), Some(28));
    assert_eq!(side(&[1, 28, 28, 120]), Some(28));
    assert_eq!(side(&[1, 257, 384]), Some(16));
    assert_eq!(side(&[1, 261, 384]), Some(16));
    assert_eq!(side(&[1, 256, 384]), Some(16));
    for odd in [
        &[1usize, 250, 384][..],
        &[1, 120, 28, 27],
        &[1, 1280],
        &[2, 120, 28, 28],
    ] {
        assert!(kind("t", odd).is_err(), "{odd:?}");
    }
}
