//! The sums of products in f16: eight at a time, short runs summed in f16, the runs in f32.
//!
//! `unsafe` because of instructions that Rust has no intrinsics for before 1.94; [`Kernel::tile`] checks all
//! lengths before a pointer is made. There is no plain kernel: a processor without the instructions is not
//! to multiply in f16.
//!
//! FMLAL (FEAT_FHM), which sums f16 products in f32, is not used: it makes four products per instruction, as
//! many as f32's own FMLA, and Cortex-A76 and A78AE do not have it.
#![allow(unsafe_code)]

use half::f16;

/// Inputs come in groups of as many: what a register holds.
pub const GROUP: usize = 8;

/// Inputs whose products are summed in f16. The longer, the fewer sums go to f32 (a sixth of the time at 32,
/// a twelfth at 64), and the coarser: with 384 to 4096 inputs, normalised or behind a QuickGELU, results of
/// runs of 16, 32, 64 and 128 are off by 0.07, 0.09, 0.12 and 0.17 % of their RMS, by 0.03 % from rounding the
/// inputs alone, and by 0.3 to 0.9 % if all is one run.
pub const RUN: usize = 32;

/// Sums a tile: `rows` x `columns` of the kernel, over some inputs. Arguments: inputs, activations, numbers
/// between their rows, weights, sums.
type Tile = unsafe fn(usize, *const f16, usize, *const f16, *mut f32);

/// A way to sum tiles on this processor.
#[derive(Clone, Copy)]
pub struct Kernel {
    /// The instructions that it uses.
    pub name: &'static str,
    /// Activation rows of a tile.
    pub rows: usize,
    /// Output columns of a tile: panels are packed for it.
    pub columns: usize,
    tile: Tile,
}

impl Kernel {
    /// This processor's kernel, if it has one.
    pub fn best() -> Option<Kernel> {
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("fp16") {
            return Some(aarch64::FMLA);
        }
        None
    }

    /// `sums[r * columns + c]` = the sum over inputs i of x[r * stride + i] * weight[c, i], where the panel
    /// holds the weight at `i * columns + c`.
    ///
    /// # Panics
    /// Slices that are too short for the tile, or inputs that are no whole groups.
    #[inline]
    pub fn tile(&self, x: &[f16], stride: usize, panel: &[f16], sums: &mut [f32]) {
        let inputs = panel.len() / self.columns;
        assert!(inputs.is_multiple_of(GROUP) && inputs <= stride);
        assert!(x.len() >= (self.rows - 1) * stride + inputs);
        assert!(sums.len() >= self.rows * self.columns);
        // SAFETY: lengths are checked above, the processor's features in `best`, where alone kernels are made.
        unsafe {
            (self.tile)(
                inputs,
                x.as_ptr(),
                stride,
                panel.as_ptr(),
                sums.as_mut_ptr(),
            )
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(in crate::ops) use aarch64::widen;

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::{GROUP, Kernel, RUN, f16};
    use std::arch::aarch64::*;
    use std::arch::asm;

    /// FMLA of FEAT_FP16 (ARMv8.2: Cortex-A76, A78AE): of the 32 registers 16 hold sums and 8 those of a run.
    pub const FMLA: Kernel = Kernel {
        name: "FMLA f16",
        rows: 4,
        columns: 16,
        tile: fmla,
    };

    /// `acc + w * x[LANE]`, rounded once.
    #[target_feature(enable = "neon,fp16")]
    fn multiply_add<const LANE: i32>(acc: uint16x8_t, w: uint16x8_t, x: uint16x8_t) -> uint16x8_t {
        let mut acc = acc;
        // SAFETY: registers only; the feature is this function's.
        unsafe {
            asm!(
                "fmla {acc:v}.8h, {w:v}.8h, {x:v}.h[{lane}]",
                acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg_low16) x, lane = const LANE,
                options(pure, nomem, nostack)
            );
        }
        acc
    }

    /// Eight numbers as f32.
    #[target_feature(enable = "neon,fp16")]
    pub fn widen(h: uint16x8_t) -> [float32x4_t; 2] {
        let (low, high);
        // SAFETY: registers only.
        unsafe {
            asm!(
                "fcvtl {low:v}.4s, {h:v}.4h",
                "fcvtl2 {high:v}.4s, {h:v}.8h",
                h = in(vreg) h, low = out(vreg) low, high = lateout(vreg) high,
                options(pure, nomem, nostack)
            );
        }
        [low, high]
    }

    #[target_feature(enable = "neon,fp16")]
    unsafe fn fmla(inputs: usize, x: *const f16, stride: usize, panel: *const f16, sums: *mut f32) {
        const ROWS: usize = FMLA.rows;
        const VECTORS: usize = FMLA.columns / GROUP;
        let mut totals = [[[vdupq_n_f32(0.0); 2]; VECTORS]; ROWS];
        // SAFETY: `Kernel::tile` checked that `inputs` activations of each row, inputs * 16 weights and
        // ROWS * 16 sums are there, and that inputs are whole groups.
        unsafe {
            for run in (0..inputs).step_by(RUN) {
                let mut acc = [[vdupq_n_u16(0); VECTORS]; ROWS];
                for i in (run..inputs.min(run + RUN)).step_by(GROUP) {
                    let x: [uint16x8_t; ROWS] =
                        std::array::from_fn(|r| vld1q_u16(x.add(r * stride + i).cast()));
                    macro_rules! lane {
                        ($lane:literal) => {
                            let w: [uint16x8_t; VECTORS] = std::array::from_fn(|v| {
                                vld1q_u16(panel.add(((i + $lane) * VECTORS + v) * GROUP).cast())
                            });
                            for (acc, x) in acc.iter_mut().zip(x) {
                                for (acc, w) in acc.iter_mut().zip(w) {
                                    *acc = multiply_add::<$lane>(*acc, w, x);
                                }
                            }
                        };
                    }
                    lane!(0);
                    lane!(1);
                    lane!(2);
                    lane!(3);
                    lane!(4);
                    lane!(5);
                    lane!(6);
                    lane!(7);
                }
                let acc = acc.as_flattened().iter();
                for (total, acc) in totals.as_flattened_mut().iter_mut().zip(acc) {
                    for (total, wide) in total.iter_mut().zip(widen(*acc)) {
                        *total = vaddq_f32(*total, wide);
                    }
                }
            }
            for (i, total) in totals.as_flattened().as_flattened().iter().enumerate() {
                vst1q_f32(sums.add(i * 4), *total);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ops::testing::numbers;
    use proptest::prelude::*;

    /// What the others must give to the last bit; tests of every processor have it.
    pub const REFERENCE: Kernel = Kernel {
        name: "reference",
        rows: 4,
        columns: 16,
        tile: reference,
    };

    unsafe fn reference(
        inputs: usize,
        x: *const f16,
        stride: usize,
        panel: *const f16,
        sums: *mut f32,
    ) {
        let (rows, columns) = (REFERENCE.rows, REFERENCE.columns);
        for (r, c) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
            let mut total = 0f32;
            for run in (0..inputs).step_by(RUN) {
                let mut sum = 0f64;
                for i in run..inputs.min(run + RUN) {
                    // SAFETY: `Kernel::tile` checked that these elements are there.
                    let (x, w) = unsafe { (*x.add(r * stride + i), *panel.add(i * columns + c)) };
                    sum = f16::from_f64(sum + x.to_f64() * w.to_f64()).to_f64();
                }
                total += sum as f32;
            }
            // SAFETY: as above.
            unsafe { *sums.add(r * columns + c) = total };
        }
    }

    proptest! {
        #[test]
        fn the_kernel_rounds_as_the_reference_does(
            groups in 1usize..30, extra in 0usize..9, seed in any::<u64>(), scale in 1e-3f32..100.0,
        ) {
            let (inputs, stride) = (groups * GROUP, groups * GROUP + extra);
            let halves = |n, seed, scale: f32| -> Vec<f16> {
                numbers(n, seed).iter().map(|v| f16::from_f32(v * scale)).collect()
            };
            let (rows, columns) = (REFERENCE.rows, REFERENCE.columns);
            // Not a number more than what the tile needs.
            let x = halves((rows - 1) * stride + inputs, seed, scale);
            let panel = halves(inputs * columns, seed ^ 1, 1.0);
            let run = |kernel: Kernel| {
                let mut sums = vec![f32::NAN; rows * columns];
                kernel.tile(&x, stride, &panel, &mut sums);
                sums
            };
            let want = run(REFERENCE);
            if let Some(kernel) = Kernel::best() {
                prop_assert_eq!((kernel.rows, kernel.columns), (rows, columns));
                prop_assert_eq!(run(kernel), want.clone(), "{}", kernel.name);
            }
            for (i, got) in want.iter().enumerate() {
                let (r, c) = (i / columns, i % columns);
                let exact: f64 = (0..inputs)
                    .map(|i| x[r * stride + i].to_f64() * panel[i * columns + c].to_f64())
                    .sum();
                // Every step rounds a partial sum of at most RUN products to 11 bits.
                let bound = inputs as f64 * f64::from(scale) * (RUN as f64).sqrt() / 2048.0;
                prop_assert!((f64::from(*got) - exact).abs() < bound, "[{r}, {c}]: {got} for {exact}");
            }
        }
    }

    /// `make arm-check` says what the core that it emulates must be given.
    #[test]
    fn an_emulated_core_gets_its_kernels() {
        if let Ok(want) = std::env::var("FAPROMPT_KERNELS") {
            let int8 = crate::ops::int8::kernel::Kernel::best().name;
            let f16 = Kernel::best().map_or("none", |k| k.name);
            let attention = crate::ops::attention::rounded_kernel().unwrap_or("none");
            assert_eq!(format!("{int8}, {f16}, {attention}"), want);
        }
    }
}
