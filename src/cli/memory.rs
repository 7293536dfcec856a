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
    // SAFETY: only sets two numbers; the documented range is any int.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
