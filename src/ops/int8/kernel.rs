//! The sums of products: u8 activations times int8 weights, accumulated in i32, exact on every processor.
//!
//! The only module of the int8 operators with `unsafe`: instructions for dot products are reached through
//! intrinsics and, where Rust has none yet (SDOT), through `asm!`. [`Kernel::tile`] checks all lengths
//! before a pointer is made.
#![allow(unsafe_code)]

use std::sync::LazyLock;

/// Inputs that one instruction multiplies and adds: weights are packed in groups of as many.
pub const GROUP: usize = 4;

/// Sums a tile: `rows` x `columns` of the kernel, over `groups` groups of inputs. Arguments: groups,
/// activations, bytes between their rows, weights, sums.
type Tile = unsafe fn(usize, *const u8, usize, *const i8, *mut i32);

/// A way to sum tiles on this processor.
#[derive(Clone, Copy)]
pub struct Kernel {
    /// The instructions that it uses.
    pub name: &'static str,
    /// Activation rows of a tile.
    pub rows: usize,
    /// Output columns of a tile: panels are packed for it.
    pub columns: usize,
    /// Whether the kernel reads activations as signed: a byte then stands for `128 + byte`.
    pub signed: bool,
    tile: Tile,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Kernel {
    /// `sums[r * columns + c]` = the sum over inputs i of x[r * stride + i] * weight[c, i], where the
    /// panel holds the weight at `(i / 4 * columns + c) * 4 + i % 4`, and x is signed for a signed kernel.
    ///
    /// # Panics
    /// Slices that are too short for the tile.
    #[inline]
    pub fn tile(&self, x: &[u8], stride: usize, panel: &[i8], sums: &mut [i32]) {
        let groups = panel.len() / (self.columns * GROUP);
        assert!(groups * GROUP <= stride && x.len() >= (self.rows - 1) * stride + groups * GROUP);
        assert!(sums.len() >= self.rows * self.columns);
        // SAFETY: lengths are checked above, the processor's features in `all`, where alone kernels are made.
        unsafe {
            (self.tile)(
                groups,
                x.as_ptr(),
                stride,
                panel.as_ptr(),
                sums.as_mut_ptr(),
            )
        }
    }

    /// The kernels of this processor, quickest first; the last one is plain Rust.
    pub fn all() -> Vec<Kernel> {
        let mut all = vec![];
        #[cfg(target_arch = "x86_64")]
        {
            use std::is_x86_feature_detected as has;
            if has!("avx512f") && has!("avx512vnni") {
                all.push(x86::AVX512_VNNI);
            }
            if has!("avx2") && has!("avxvnni") {
                all.push(x86::AVX_VNNI);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            all.push(aarch64::SDOT);
        }
        all.push(PLAIN);
        all
    }

    /// Whether it uses instructions that multiply and sum bytes: they are quicker than products in f32.
    pub fn has_dot_products(&self) -> bool {
        self.name != PLAIN.name
    }

    /// The first of [`Kernel::all`].
    pub fn best() -> Kernel {
        static BEST: LazyLock<Kernel> = LazyLock::new(|| Kernel::all()[0]);
        *BEST
    }
}

/// Plain Rust: slow, and what the others are tested against.
const PLAIN: Kernel = Kernel {
    name: "plain",
    rows: 4,
    columns: 16,
    signed: false,
    tile: plain,
};

unsafe fn plain(groups: usize, x: *const u8, stride: usize, panel: *const i8, sums: *mut i32) {
    const COLUMNS: usize = PLAIN.columns;
    // SAFETY: `Kernel::tile` checked these lengths.
    let (panel, sums) = unsafe {
        (
            std::slice::from_raw_parts(panel, groups * GROUP * COLUMNS),
            std::slice::from_raw_parts_mut(sums, PLAIN.rows * COLUMNS),
        )
    };
    for (r, sums) in sums.chunks_exact_mut(COLUMNS).enumerate() {
        // SAFETY: as above.
        let x = unsafe { std::slice::from_raw_parts(x.add(r * stride), groups * GROUP) };
        sums.fill(0);
        for (x, weights) in x
            .chunks_exact(GROUP)
            .zip(panel.chunks_exact(GROUP * COLUMNS))
        {
            for (sum, w) in sums.iter_mut().zip(weights.chunks_exact(GROUP)) {
                *sum += x
                    .iter()
                    .zip(w)
                    .map(|(x, w)| i32::from(*x) * i32::from(*w))
                    .sum::<i32>();
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{GROUP, Kernel};
    use std::arch::x86_64::*;

    /// VPDPBUSD on 512 bits: 24 of the 32 registers hold sums.
    pub const AVX512_VNNI: Kernel = Kernel {
        name: "AVX-512 VNNI",
        rows: 6,
        columns: 64,
        signed: false,
        tile: avx512_vnni,
    };

    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn avx512_vnni(
        groups: usize,
        x: *const u8,
        stride: usize,
        panel: *const i8,
        sums: *mut i32,
    ) {
        const ROWS: usize = AVX512_VNNI.rows;
        const VECTORS: usize = AVX512_VNNI.columns / 16;
        let mut acc = [[_mm512_setzero_si512(); VECTORS]; ROWS];
        // SAFETY: `Kernel::tile` checked that groups * 4 activations of each row, groups * 256 weights
        // and ROWS * 64 sums are there.
        unsafe {
            for g in 0..groups {
                let w: [__m512i; VECTORS] = std::array::from_fn(|v| {
                    _mm512_loadu_si512(panel.add((g * VECTORS + v) * 64).cast())
                });
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = _mm512_set1_epi32(
                        x.add(r * stride + g * GROUP).cast::<i32>().read_unaligned(),
                    );
                    for (acc, w) in acc.iter_mut().zip(w) {
                        *acc = _mm512_dpbusd_epi32(*acc, x, w);
                    }
                }
            }
            for (i, acc) in acc.as_flattened().iter().enumerate() {
                _mm512_storeu_si512(sums.add(i * 16).cast(), *acc);
            }
        }
    }

    /// The same on 256 bits, for processors without AVX-512: 12 of the 16 registers hold sums.
    pub const AVX_VNNI: Kernel = Kernel {
        name: "AVX-VNNI",
        rows: 6,
        columns: 16,
        signed: false,
        tile: avx_vnni,
    };

    #[target_feature(enable = "avx2,avxvnni")]
    unsafe fn avx_vnni(
        groups: usize,
        x: *const u8,
        stride: usize,
        panel: *const i8,
        sums: *mut i32,
    ) {
        const ROWS: usize = AVX_VNNI.rows;
        const VECTORS: usize = AVX_VNNI.columns / 8;
        let mut acc = [[_mm256_setzero_si256(); VECTORS]; ROWS];
        // SAFETY: as in `avx512_vnni`, with groups * 64 weights and ROWS * 16 sums.
        unsafe {
            for g in 0..groups {
                let w: [__m256i; VECTORS] = std::array::from_fn(|v| {
                    _mm256_loadu_si256(panel.add((g * VECTORS + v) * 32).cast())
                });
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = _mm256_set1_epi32(
                        x.add(r * stride + g * GROUP).cast::<i32>().read_unaligned(),
                    );
                    for (acc, w) in acc.iter_mut().zip(w) {
                        *acc = _mm256_dpbusd_avx_epi32(*acc, x, w);
                    }
                }
            }
            for (i, acc) in acc.as_flattened().iter().enumerate() {
                _mm256_storeu_si256(sums.add(i * 8).cast(), *acc);
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::{GROUP, Kernel};
    use std::arch::aarch64::*;
    use std::arch::asm;

    /// SDOT of ARMv8.2 (Cortex-A76, A78AE): 16 of the 32 registers hold sums.
    pub const SDOT: Kernel = Kernel {
        name: "SDOT",
        rows: 4,
        columns: 16,
        signed: true,
        tile: sdot,
    };

    /// `acc[l] += dot(w[4 l..4 l + 4], x[4 LANE..4 LANE + 4])`. The intrinsic vdotq_laneq_s32 is not
    /// stable (rust-lang/rust#117224).
    #[target_feature(enable = "neon,dotprod")]
    fn dot<const LANE: i32>(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        let mut acc = acc;
        // SAFETY: registers only; the feature is this function's.
        unsafe {
            asm!(
                "sdot {acc:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
                acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x, lane = const LANE,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        acc
    }

    #[target_feature(enable = "neon,dotprod")]
    unsafe fn sdot(groups: usize, x: *const u8, stride: usize, panel: *const i8, sums: *mut i32) {
        const ROWS: usize = SDOT.rows;
        const VECTORS: usize = SDOT.columns / 4;
        let mut acc = [[vdupq_n_s32(0); VECTORS]; ROWS];
        // SAFETY: `Kernel::tile` checked that groups * 4 activations of each row, groups * 64 weights
        // and ROWS * 16 sums are there.
        unsafe {
            let weights = |g: usize| -> [int8x16_t; VECTORS] {
                std::array::from_fn(|v| vld1q_s8(panel.add((g * VECTORS + v) * 16)))
            };
            // Four groups at a time: one load brings four groups of a row.
            let whole = groups - groups % 4;
            for g in (0..whole).step_by(4) {
                let x: [int8x16_t; ROWS] =
                    std::array::from_fn(|r| vld1q_s8(x.add(r * stride + g * GROUP).cast()));
                macro_rules! lane {
                    ($lane:literal) => {
                        let w = weights(g + $lane);
                        for (acc, x) in acc.iter_mut().zip(x) {
                            for (acc, w) in acc.iter_mut().zip(w) {
                                *acc = dot::<$lane>(*acc, w, x);
                            }
                        }
                    };
                }
                lane!(0);
                lane!(1);
                lane!(2);
                lane!(3);
            }
            for g in whole..groups {
                let w = weights(g);
                for (r, acc) in acc.iter_mut().enumerate() {
                    let four = x.add(r * stride + g * GROUP).cast::<i32>().read_unaligned();
                    let x = vreinterpretq_s8_s32(vdupq_n_s32(four));
                    for (acc, w) in acc.iter_mut().zip(w) {
                        *acc = dot::<0>(*acc, w, x);
                    }
                }
            }
            for (i, acc) in acc.as_flattened().iter().enumerate() {
                vst1q_s32(sums.add(i * 4), *acc);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::product::MAX_TILE;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_kernel_gives_the_exact_sums(
            groups in 1usize..40, extra in 0usize..9, seed in any::<u64>(), extreme in any::<bool>(),
        ) {
            let mut state = seed | 1;
            let mut byte = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let byte = (state >> 56) as u8;
                if extreme { [0, 127, 128, 255][byte as usize % 4] } else { byte }
            };
            for kernel in Kernel::all() {
                let stride = groups * GROUP + extra;
                let x: Vec<u8> = (0..kernel.rows * stride).map(|_| byte()).collect();
                let panel: Vec<i8> = (0..groups * GROUP * kernel.columns).map(|_| byte() as i8).collect();
                let mut sums = vec![i32::MIN; kernel.rows * kernel.columns];
                kernel.tile(&x, stride, &panel, &mut sums);
                for r in 0..kernel.rows {
                    for c in 0..kernel.columns {
                        let want: i32 = (0..groups * GROUP)
                            .map(|i| {
                                let x = x[r * stride + i];
                                let x = if kernel.signed { i32::from(x as i8) } else { i32::from(x) };
                                let w = panel[(i / GROUP * kernel.columns + c) * GROUP + i % GROUP];
                                x * i32::from(w)
                            })
                            .sum();
                        prop_assert_eq!(sums[r * kernel.columns + c], want, "{:?} [{}, {}]", kernel, r, c);
                    }
                }
            }
        }
    }

    #[test]
    fn tiles_fit_the_buffer_and_the_last_kernel_is_plain() {
        let all = Kernel::all();
        assert!(all.iter().all(|k| k.rows * k.columns <= MAX_TILE));
        assert_eq!(all.last().unwrap().name, "plain");
    }
}
