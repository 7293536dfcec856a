//! f32 products of a few rows with a few columns, without packing the rows.
//!
//! tract-linalg's kernels want both operands packed; in attention, whose operands are small and new for
//! every head, packing takes as long as a third of the arithmetic. `unsafe` because of intrinsics;
//! [`Kernel::tile`] checks all lengths before a pointer is made.
//!
//! Where the processor multiplies 16-bit numbers twice as fast, [`Kernel::pairs`] does the same with elements
//! that hold two of them each, of two neighbours along the depth: bf16 on x86-64, f16 on ARM.
#![allow(unsafe_code)]

use super::simd::vectorised;
use std::sync::LazyLock;

/// Columns come in steps of as many.
pub const STEP: usize = 16;

/// A matrix inside a slice: rows `stride` apart.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The elements, from the first one on.
    pub values: &'a [f32],
    /// Distance of two rows.
    pub stride: usize,
}

/// Arguments: rows, depth, x and its stride, panel and its stride, out and its stride.
type Tile = unsafe fn(usize, usize, *const f32, usize, *const f32, usize, *mut f32, usize);

/// A way to multiply tiles on this processor.
#[derive(Clone, Copy)]
pub struct Kernel {
    /// The instructions that it uses.
    pub name: &'static str,
    /// Rows of a tile, at most.
    pub rows: usize,
    /// Functions for 16, 32, ... columns.
    tiles: &'static [Tile],
}

impl Kernel {
    /// The kernels of this processor, quickest first; the last one is plain Rust.
    pub fn all() -> Vec<Kernel> {
        let mut all = vec![];
        #[cfg(target_arch = "x86_64")]
        {
            use std::is_x86_feature_detected as has;
            if has!("avx512f") {
                all.push(x86::AVX512);
            }
            if super::simd::avx2() {
                all.push(x86::FMA);
            }
        }
        #[cfg(target_arch = "aarch64")]
        all.push(aarch64::NEON);
        all.push(PLAIN);
        all
    }

    /// The quickest kernel: the first of [`Kernel::all`].
    pub fn best() -> Kernel {
        static BEST: LazyLock<Kernel> = LazyLock::new(|| Kernel::all()[0]);
        *BEST
    }

    /// The kernel whose elements are pairs of 16-bit numbers, as [`pair_rows`] and [`pair_columns`] make them,
    /// if this processor has one; sums are f32 (on ARM those of [`RUN`](super::fp16::kernel::RUN) products f16).
    /// `x[r, i] * panel[i, c]` then stands for two products.
    pub fn pairs() -> Option<Kernel> {
        #[cfg(target_arch = "x86_64")]
        {
            use std::is_x86_feature_detected as has;
            if has!("avx512bf16") && super::simd::avx512() {
                return Some(x86::PAIRS);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("fp16") {
            return Some(aarch64::PAIRS);
        }
        None
    }

    /// Columns of a tile, at most.
    pub fn columns(&self) -> usize {
        self.tiles.len() * STEP
    }

    /// `out[r, c] = sum over i < depth of x[r, i] * panel[i, c]` for `rows` rows (at most the kernel's)
    /// and `columns` columns, a multiple of [`STEP`].
    ///
    /// # Panics
    /// Slices that are too short, or a tile that is too large.
    #[inline]
    pub fn tile(
        &self,
        [rows, depth, columns]: [usize; 3],
        x: Rows,
        panel: Rows,
        out: &mut [f32],
        out_stride: usize,
    ) {
        assert!((1..=self.rows).contains(&rows) && columns > 0 && columns.is_multiple_of(STEP));
        let need = |rows: usize, stride: usize, width: usize| (rows - 1) * stride + width;
        assert!(depth > 0 && need(rows, x.stride, depth) <= x.values.len());
        assert!(need(depth, panel.stride, columns) <= panel.values.len());
        assert!(need(rows, out_stride, columns) <= out.len());
        let tile = self.tiles[columns / STEP - 1];
        let (x, panel, out) = (
            (x.values.as_ptr(), x.stride),
            (panel.values.as_ptr(), panel.stride),
            out.as_mut_ptr(),
        );
        // SAFETY: lengths are checked above, the processor's features in `all`, where alone kernels are made.
        unsafe { tile(rows, depth, x.0, x.1, panel.0, panel.1, out, out_stride) }
    }
}

/// Two numbers rounded to 16 bits, to the nearest, ties to even: the first in the low half.
#[cfg(not(target_arch = "aarch64"))]
#[inline(always)]
fn pair(low: f32, high: f32) -> f32 {
    let round = |v: f32| {
        let bits = v.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        // NaN stays NaN, however it is rounded.
        if v.is_nan() {
            bits | 0x40_0000
        } else {
            rounded
        }
    };
    f32::from_bits(round(low) >> 16 | round(high) & 0xffff_0000)
}

/// The same. What f16 cannot hold (more than 65504) becomes infinite.
#[cfg(target_arch = "aarch64")]
fn pair(low: f32, high: f32) -> f32 {
    let bits = |v: f32| u32::from(half::f16::from_f32(v).to_bits());
    f32::from_bits(bits(low) | bits(high) << 16)
}

/// Makes pairs of rows 2 i and 2 i + 1, both `row_len` long, and writes them to row i. The last row of an
/// odd number is paired with zeros. Rows behind the pairs keep what they held.
pub fn pair_rows(rows: &mut [f32], row_len: usize) {
    #[cfg(target_arch = "aarch64")]
    if Kernel::pairs().is_some() {
        // SAFETY: these rows are there; the processor was just asked.
        unsafe { aarch64::pair_rows(rows.as_mut_ptr(), rows.len() / row_len, row_len) };
        return;
    }
    pair_rows_plainly(rows, row_len);
}

vectorised! {
    fn pair_rows_plainly(rows: &mut [f32], row_len: usize) {
        let (first, rest) = rows.split_at_mut(row_len);
        if rest.is_empty() {
            first.iter_mut().for_each(|low| *low = pair(*low, 0.0));
        } else {
            first.iter_mut().zip(&*rest).for_each(|(low, high)| *low = pair(*low, *high));
        }
        for i in 1..(rows.len() / row_len).div_ceil(2) {
            let (done, rest) = rows.split_at_mut(2 * i * row_len);
            let out = &mut done[i * row_len..][..row_len];
            let (low, high) = rest.split_at(row_len);
            if high.is_empty() {
                out.iter_mut().zip(low).for_each(|(out, low)| *out = pair(*low, 0.0));
            } else {
                let both = low.iter().zip(high);
                out.iter_mut().zip(both).for_each(|(out, (low, high))| *out = pair(*low, *high));
            }
        }
    }
}

/// Makes pairs of neighbours in `x`, an even number of them.
pub fn pair_columns(x: &[f32], out: &mut [f32]) {
    let (out, x) = (&mut out[..x.len() / 2], &x[..x.len() / 2 * 2]);
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if Kernel::pairs().is_some() {
        // SAFETY: `out` has room for a pair of each two of `x`; the processor was just asked.
        unsafe { native::pair_neighbours(x.as_ptr(), x.len(), out.as_mut_ptr()) };
        return;
    }
    for (x, out) in x.as_chunks::<2>().0.iter().zip(out) {
        *out = pair(x[0], x[1]);
    }
}

/// Makes pairs of neighbours in `row`, and writes them to its first half.
pub fn pair_neighbours(row: &mut [f32]) {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if Kernel::pairs().is_some() {
        let row_ptr = row.as_mut_ptr();
        // SAFETY: pairs take half the room of what they are made of, and are written behind what is read.
        unsafe { native::pair_neighbours(row_ptr, row.len() / 2 * 2, row_ptr) };
        return;
    }
    for i in 0..row.len() / 2 {
        row[i] = pair(row[2 * i], row[2 * i + 1]);
    }
}

/// Plain Rust: slow, and what the others are tested against.
const PLAIN: Kernel = Kernel {
    name: "plain",
    rows: 4,
    tiles: &[plain],
};

#[allow(clippy::too_many_arguments)]
unsafe fn plain(
    rows: usize,
    depth: usize,
    x: *const f32,
    x_stride: usize,
    panel: *const f32,
    panel_stride: usize,
    out: *mut f32,
    out_stride: usize,
) {
    for r in 0..rows {
        let mut sums = [0f32; STEP];
        // SAFETY: `Kernel::tile` checked that these elements are there.
        unsafe {
            for i in 0..depth {
                let x = *x.add(r * x_stride + i);
                for (c, sum) in sums.iter_mut().enumerate() {
                    *sum += x * *panel.add(i * panel_stride + c);
                }
            }
            out.add(r * out_stride)
                .cast::<[f32; STEP]>()
                .write_unaligned(sums);
        }
    }
}

/// Defines a kernel function: `$rows` x `$vectors` registers of sums. Rows that are not wanted repeat the
/// last one and are not stored.
macro_rules! tile {
    ($name:ident, $features:literal, $rows:expr, $lanes:literal, $zero:expr, $load:expr, $broadcast:expr, $fma:expr, $store:expr) => {
        #[target_feature(enable = $features)]
        #[allow(clippy::too_many_arguments)]
        unsafe fn $name<const VECTORS: usize>(
            rows: usize,
            depth: usize,
            x: *const f32,
            x_stride: usize,
            panel: *const f32,
            panel_stride: usize,
            out: *mut f32,
            out_stride: usize,
        ) {
            // SAFETY: `Kernel::tile` checked `rows` x `depth` elements of x, `depth` x VECTORS registers of
            // the panel and `rows` x VECTORS registers of out.
            unsafe {
                let x: [*const f32; $rows] =
                    std::array::from_fn(|r| x.add(r.min(rows - 1) * x_stride));
                let mut sums = [[$zero; VECTORS]; $rows];
                for i in 0..depth {
                    let w: [_; VECTORS] =
                        std::array::from_fn(|v| $load(panel.add(i * panel_stride + v * $lanes)));
                    for (sums, x) in sums.iter_mut().zip(x) {
                        let x = $broadcast(x.add(i));
                        for (sum, w) in sums.iter_mut().zip(w) {
                            *sum = $fma(*sum, x, w);
                        }
                    }
                }
                for (r, sums) in sums.iter().enumerate().take(rows) {
                    for (v, sum) in sums.iter().enumerate() {
                        $store(out.add(r * out_stride + v * $lanes), *sum);
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "aarch64")]
use aarch64 as native;
#[cfg(target_arch = "x86_64")]
use x86 as native;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Kernel;
    use std::arch::x86_64::*;

    const ROWS: usize = 6;

    pub const AVX512: Kernel = Kernel {
        name: "AVX-512",
        rows: ROWS,
        tiles: &[avx512::<1>, avx512::<2>, avx512::<3>, avx512::<4>],
    };

    tile!(
        avx512,
        "avx512f",
        ROWS,
        16,
        _mm512_setzero_ps(),
        |p| _mm512_loadu_ps(p),
        |p: *const f32| _mm512_set1_ps(*p),
        |s, x, w| _mm512_fmadd_ps(x, w, s),
        |p, s| _mm512_storeu_ps(p, s)
    );

    /// Zen 4, Cooper Lake, Sapphire Rapids and later. The instruction treats numbers below 2^-126 as zero.
    pub const PAIRS: Kernel = Kernel {
        name: "AVX-512 BF16",
        rows: ROWS,
        tiles: &[pairs::<1>, pairs::<2>, pairs::<3>, pairs::<4>],
    };

    tile!(
        pairs,
        "avx512f,avx512bf16",
        ROWS,
        16,
        _mm512_setzero_ps(),
        |p: *const f32| _mm512_loadu_si512(p.cast()),
        |p: *const f32| _mm512_set1_epi32(p.cast::<i32>().read()),
        |s, x: __m512i, w: __m512i| _mm512_dpbf16_ps(s, as_bf16(x), as_bf16(w)),
        |p, s| _mm512_storeu_ps(p, s)
    );

    /// Pairs of the `len` numbers at `x`, an even number of them, to `out`, which may be `x`. Numbers below
    /// 2^-126 become zero.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub unsafe fn pair_neighbours(x: *const f32, len: usize, out: *mut f32) {
        // SAFETY: the caller's; every block is read before it is written, and later ones lie behind it.
        unsafe {
            for i in (0..len / 32 * 32).step_by(32) {
                let (low, high) = (_mm512_loadu_ps(x.add(i)), _mm512_loadu_ps(x.add(i + 16)));
                let both = _mm512_cvtne2ps_pbh(high, low);
                out.add(i / 2).cast::<__m512bh>().write_unaligned(both);
            }
            let mut done = len / 32 * 32;
            if len - done >= 16 {
                let half = _mm512_cvtneps_pbh(_mm512_loadu_ps(x.add(done)));
                out.add(done / 2).cast::<__m256bh>().write_unaligned(half);
                done += 16;
            }
            for i in (done..len).step_by(2) {
                *out.add(i / 2) = super::pair(*x.add(i), *x.add(i + 1));
            }
        }
    }

    /// The same bits.
    #[inline(always)]
    fn as_bf16(x: __m512i) -> __m512bh {
        // SAFETY: both are 512 bits, and every pattern is good for both.
        unsafe { std::mem::transmute(x) }
    }

    pub const FMA: Kernel = Kernel {
        name: "FMA",
        rows: ROWS,
        tiles: &[fma::<2>],
    };

    tile!(
        fma,
        "avx2,fma",
        ROWS,
        8,
        _mm256_setzero_ps(),
        |p| _mm256_loadu_ps(p),
        |p: *const f32| _mm256_set1_ps(*p),
        |s, x, w| _mm256_fmadd_ps(x, w, s),
        |p, s| _mm256_storeu_ps(p, s)
    );
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::Kernel;
    use crate::ops::fp16::kernel::{RUN, widen};
    use std::arch::aarch64::*;
    use std::arch::asm;

    const ROWS: usize = 6;

    /// FMLA of FEAT_FP16: a register holds the pairs of four columns. 24 of the 32 registers hold sums.
    pub const PAIRS: Kernel = Kernel {
        name: "FMLA f16",
        rows: ROWS,
        tiles: &[pairs],
    };

    #[target_feature(enable = "neon,fp16")]
    #[allow(clippy::too_many_arguments)]
    unsafe fn pairs(
        rows: usize,
        depth: usize,
        x: *const f32,
        x_stride: usize,
        panel: *const f32,
        panel_stride: usize,
        out: *mut f32,
        out_stride: usize,
    ) {
        const VECTORS: usize = super::STEP / 4;
        // SAFETY: as in `tile`.
        unsafe {
            let x: [*const f32; ROWS] = std::array::from_fn(|r| x.add(r.min(rows - 1) * x_stride));
            for run in (0..depth).step_by(RUN) {
                let mut sums = [[vdupq_n_u16(0); VECTORS]; ROWS];
                for i in run..depth.min(run + RUN) {
                    let w: [uint16x8_t; VECTORS] = std::array::from_fn(|v| {
                        vld1q_u16(panel.add(i * panel_stride + v * 4).cast())
                    });
                    for (sums, x) in sums.iter_mut().zip(x) {
                        let x = vreinterpretq_u16_u32(vld1q_dup_u32(x.add(i).cast()));
                        for (sum, w) in sums.iter_mut().zip(w) {
                            *sum = multiply_add(*sum, x, w);
                        }
                    }
                }
                for (r, sums) in sums.iter().enumerate().take(rows) {
                    for (v, sum) in sums.iter().enumerate() {
                        let at = out.add(r * out_stride + v * 4);
                        let [low, high] = widen(*sum);
                        let sum = vpaddq_f32(low, high);
                        vst1q_f32(
                            at,
                            if run == 0 {
                                sum
                            } else {
                                vaddq_f32(vld1q_f32(at), sum)
                            },
                        );
                    }
                }
            }
        }
    }

    /// `acc + x * w`, rounded once.
    #[target_feature(enable = "neon,fp16")]
    fn multiply_add(acc: uint16x8_t, x: uint16x8_t, w: uint16x8_t) -> uint16x8_t {
        let mut acc = acc;
        // SAFETY: registers only; the feature is this function's.
        unsafe {
            asm!(
                "fmla {acc:v}.8h, {x:v}.8h, {w:v}.8h",
                acc = inout(vreg) acc, x = in(vreg) x, w = in(vreg) w,
                options(pure, nomem, nostack)
            );
        }
        acc
    }

    /// Eight numbers as f16.
    #[target_feature(enable = "neon")]
    fn narrow(low: float32x4_t, high: float32x4_t) -> uint16x8_t {
        let halves;
        // SAFETY: registers only.
        unsafe {
            asm!(
                "fcvtn {halves:v}.4h, {low:v}.4s",
                "fcvtn2 {halves:v}.8h, {high:v}.4s",
                halves = out(vreg) halves, low = in(vreg) low, high = in(vreg) high,
                options(pure, nomem, nostack)
            );
        }
        halves
    }

    /// Pairs of the `len` numbers at `x`, an even number of them, to `out`, which may be `x`.
    pub unsafe fn pair_neighbours(x: *const f32, len: usize, out: *mut f32) {
        // SAFETY: the caller's; every block is read before it is written, and later ones lie behind it.
        unsafe {
            for i in (0..len / 8 * 8).step_by(8) {
                let halves = narrow(vld1q_f32(x.add(i)), vld1q_f32(x.add(i + 4)));
                vst1q_u16(out.add(i / 2).cast(), halves);
            }
            for i in (len / 8 * 8..len).step_by(2) {
                *out.add(i / 2) = super::pair(*x.add(i), *x.add(i + 1));
            }
        }
    }

    /// What [`super::pair_rows`] says, of `count` rows.
    pub unsafe fn pair_rows(rows: *mut f32, count: usize, len: usize) {
        // SAFETY: the caller's; every block is read before it is written, and later ones lie behind it.
        unsafe {
            for i in 0..count.div_ceil(2) {
                let (low, out) = (rows.add(2 * i * len), rows.add(i * len));
                let high = (2 * i + 1 < count).then(|| low.add(len));
                for c in (0..len / 4 * 4).step_by(4) {
                    let high = high.map_or(vdupq_n_f32(0.0), |high| vld1q_f32(high.add(c)));
                    let halves = narrow(vld1q_f32(low.add(c)), high);
                    let pairs = vzip1q_u16(halves, vextq_u16::<4>(halves, halves));
                    vst1q_u16(out.add(c).cast(), pairs);
                }
                for c in len / 4 * 4..len {
                    *out.add(c) = super::pair(*low.add(c), high.map_or(0.0, |high| *high.add(c)));
                }
            }
        }
    }

    pub const NEON: Kernel = Kernel {
        name: "NEON",
        rows: ROWS,
        tiles: &[neon::<4>],
    };

    tile!(
        neon,
        "neon",
        ROWS,
        4,
        vdupq_n_f32(0.0),
        |p| vld1q_f32(p),
        |p: *const f32| vld1q_dup_f32(p),
        |s, x, w| vfmaq_f32(s, x, w),
        |p, s| vst1q_f32(p, s)
    );
}

#[cfg(test)]
mod tests;
