//! Plain loops, compiled several times: for the vector unit that every processor of the target has, and
//! for the wider ones that this processor may have.
//!
//! The loops add and multiply in the order in which they are written and never contract (Rust does not),
//! so every variant gives the same numbers, but for sums that [`multiply_add`] rounds once instead of
//! twice.

/// Defines a function whose body is compiled for AVX-512, AVX2 with FMA and the base instruction set, and
/// picks one by asking the processor. `FUSED` says in the body whether its instruction set multiplies and
/// adds in one. `unsafe` only in the calls that follow such a question.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            fn plain<const FUSED: bool>($($arg: $type),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $type),*) $(-> $ret)? {
                    plain::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) $(-> $ret)? {
                    plain::<true>($($arg),*)
                }
                if $crate::ops::simd::avx512() {
                    // SAFETY: the processor was just asked.
                    #[allow(unsafe_code)]
                    return unsafe { avx512($($arg),*) };
                }
                if $crate::ops::simd::avx2() {
                    // SAFETY: as above.
                    #[allow(unsafe_code)]
                    return unsafe { avx2($($arg),*) };
                }
            }
            // ARM's base instruction set has it.
            plain::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    };
}
pub(crate) use vectorised;

/// a * b + c, rounded once if `FUSED`: one instruction then, where the two others would be a library call.
#[inline(always)]
pub(crate) fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Whether the processor has what [`vectorised`] calls AVX-512.
#[cfg(target_arch = "x86_64")]
pub(crate) fn avx512() -> bool {
    use std::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl")
}

/// Whether it has AVX2 and, as all since 2013 that have it, FMA.
#[cfg(target_arch = "x86_64")]
pub(crate) fn avx2() -> bool {
    std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
}

/// Asks for the cache lines of `values`; no processor waits for them. Only where it was measured to help.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn fetch(values: &[f32]) {
    /// f32 in a cache line of 64 bytes.
    const LINE: usize = 16;
    for line in values.chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint that reads nothing and cannot fail, of every x86-64.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        }
    }
}
