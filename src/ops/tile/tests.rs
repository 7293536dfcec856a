use super::super::fp16;
use super::super::testing::numbers;
use super::*;
use half::f16;
use proptest::prelude::*;

#[cfg(not(target_arch = "aarch64"))]
use half::bf16 as Half;
#[cfg(target_arch = "aarch64")]
use half::f16 as Half;

/// Pairs of rows [depth, columns] and of columns of rows [n, depth], and what 16 bits hold of each number.
#[test]
fn pairs_hold_their_numbers_rounded() {
    let halves = |v: f32| {
        let bits = v.to_bits();
        [
            Half::from_bits(bits as u16),
            Half::from_bits((bits >> 16) as u16),
        ]
    };
    let mut x = numbers(5 * 32, 3);
    for (i, v) in [f32::NAN, f32::INFINITY, -0.0, 3.4e38, f32::MAX, 1e-30]
        .into_iter()
        .enumerate()
    {
        x[17 * i] = v;
    }
    let same = |got: Half, want: f32| {
        let want = Half::from_f32(want);
        assert!(
            got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
            "{got} for {want}"
        );
    };
    let mut rows = x.clone();
    pair_rows(&mut rows, 32);
    for (i, got) in rows[..3 * 32].iter().enumerate() {
        let (row, c) = (i / 32, i % 32);
        let [low, high] = halves(*got);
        same(low, x[2 * row * 32 + c]);
        same(
            high,
            if row == 2 {
                0.0
            } else {
                x[(2 * row + 1) * 32 + c]
            },
        );
    }
    let (mut neighbours, mut columns) = (x.clone(), vec![0.0; x.len() / 2]);
    pair_neighbours(&mut neighbours);
    pair_columns(&x, &mut columns);
    for (i, x) in x.as_chunks::<2>().0.iter().enumerate() {
        for got in [neighbours[i], columns[i]] {
            let [low, high] = halves(got);
            same(low, x[0]);
            same(high, x[1]);
        }
    }
}

/// What f16 makes of sums of `products`: those of even and of odd place apart, RUN of them rounded at each
/// step, the runs added in f32.
fn in_runs(products: &[f64]) -> f32 {
    let runs = products.chunks(2 * fp16::kernel::RUN).map(|run| {
        let sum = |first: usize| {
            let each = run[first..].iter().step_by(2);
            each.fold(0.0, |sum, p| f16::from_f64(sum + p).to_f64()) as f32
        };
        sum(0) + sum(1)
    });
    runs.reduce(|a, b| a + b).expect("a run")
}

proptest! {
    /// On processors that have it; on others nothing multiplies pairs.
    #[test]
    fn the_kernel_of_pairs_sums_their_products(
        depth in 1usize..70, rows in 1usize..=6, steps in 1usize..=4, seed in any::<u64>(),
    ) {
        if let Some(kernel) = Kernel::pairs() {
            let columns = steps.min(kernel.columns() / STEP) * STEP;
            let (x, panel) = (numbers(rows * 2 * depth, seed), numbers(2 * depth * columns, seed ^ 1));
            let (mut xs, mut ps) = (vec![0.0; rows * depth], panel.clone());
            pair_columns(&x, &mut xs);
            pair_rows(&mut ps, columns);
            let mut out = vec![0f32; rows * columns];
            let view = |values, stride| Rows { values, stride };
            kernel.tile([rows, depth, columns], view(&xs, depth), view(&ps[..depth * columns], columns), &mut out, columns);
            let rounded = |v: f32| Half::from_f32(v).to_f64();
            for (i, got) in out.iter().enumerate() {
                let (r, c) = (i / columns, i % columns);
                let products: Vec<f64> = (0..2 * depth)
                    .map(|i| rounded(x[r * 2 * depth + i]) * rounded(panel[i * columns + c]))
                    .collect();
                if cfg!(target_arch = "aarch64") {
                    prop_assert_eq!(*got, in_runs(&products), "[{}, {}]", r, c);
                } else {
                    let want: f64 = products.iter().sum();
                    prop_assert!((f64::from(*got) - want).abs() < 1e-4, "[{r}, {c}]: {got} for {want}");
                }
            }
        }
    }

    #[test]
    fn every_kernel_multiplies(
        depth in 1usize..70, gaps in prop::array::uniform3(0usize..5), seed in any::<u64>(),
    ) {
        for kernel in Kernel::all() {
            for rows in 1..=kernel.rows {
                for columns in (STEP..=kernel.columns()).step_by(STEP) {
                    let (xs, ps, os) = (depth + gaps[0], columns + gaps[1], columns + gaps[2]);
                    // Not an element more than what the tile needs.
                    let x = numbers((rows - 1) * xs + depth, seed);
                    let panel = numbers((depth - 1) * ps + columns, seed ^ 1);
                    let mut out = vec![7f32; (rows - 1) * os + columns];
                    let view = |values, stride| Rows { values, stride };
                    kernel.tile([rows, depth, columns], view(&x, xs), view(&panel, ps), &mut out, os);
                    for (i, got) in out.iter().enumerate() {
                        let (r, c) = (i / os, i % os);
                        let want = if c >= columns { 7.0 } else {
                            (0..depth).map(|i| f64::from(x[r * xs + i]) * f64::from(panel[i * ps + c])).sum()
                        };
                        prop_assert!(
                            (f64::from(*got) - want).abs() < 1e-4,
                            "{} {rows} x {depth} x {columns} [{r}, {c}]: {got} for {want}", kernel.name
                        );
                    }
                }
            }
        }
    }
}
