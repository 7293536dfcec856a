//! Keeps freed memory in the process.
//!
//! A layer's activations are some megabytes, allocated and freed for every frame. glibc maps such blocks
//! afresh each time and gives them back when freed, which costs about 20,000 page faults, 5 % of a
//! frame. With these limits the pages stay. `unsafe` because `mallopt` is C; it is called once,
//! before any thread is started.
#![allow(unsafe_code)]

/// Tells glibc to keep what is freed; does nothing with other C libraries.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: only sets two numbers. The mapping threshold is at its documented maximum of 32 MiB, which
    // no activation of ViT-L/14 at 518 px exceeds.
    let kept = unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20) == 1
            && libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX) == 1
    };
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    log::debug!("freed memory is kept: {kept}");
}
