//! Plain loops, compiled several times: for the vector unit that every processor of the target has, and
//! for the wider ones that this processor may have.
//!
//! The loops add and multiply in the order in which they are written and never contract (Rust does not),
//! so every variant gives the same numbers.

/// Defines a function whose body is compiled for AVX-512, AVX2 and the base instruction set, and picks
/// one by asking the processor. `unsafe` only in the calls that follow such a question.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            fn plain($($arg: $type),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $type),*) $(-> $ret)? {
                    plain($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) $(-> $ret)? {
                    plain($($arg),*)
                }
                if $crate::ops::simd::avx512() {
                    // SAFETY: the processor was just asked.
                    #[allow(unsafe_code)]
                    return unsafe { avx512($($arg),*) };
                }
                if std::is_x86_feature_detected!("avx2") {
                    // SAFETY: as above.
                    #[allow(unsafe_code)]
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}
pub(crate) use vectorised;

/// Whether the processor has what [`vectorised`] calls AVX-512.
#[cfg(target_arch = "x86_64")]
pub(crate) fn avx512() -> bool {
    use std::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl")
}
