//! What a child process is before it becomes the command: its own group, nothing of ours open, and an end when
//! the station ends.
//!
//! `unsafe` because it runs between `fork` and `exec`, where only calls that are safe in a signal handler are
//! allowed: these are system calls, and nothing is allocated.
#![allow(unsafe_code)]

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The highest descriptor that is looked at one by one, where the kernel cannot close ranges.
const MOST: libc::rlim_t = 65_536;

/// Puts the command into a process group of its own. When the thread that starts it ends, however it does, the
/// kernel kills the command. Files that this program has open are closed in it.
pub(super) fn confine(command: &mut Command) {
    let parent = rustix::process::getpid();
    command.process_group(0);
    // SAFETY: nothing but system calls, no memory is allocated, no lock taken.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if getppid() != Some(parent) {
                // It ended before that.
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            close_on_exec();
            Ok(())
        });
    }
}

/// Marks all but the three standard streams; std's own pipe, which tells that `exec` failed, is open until then.
fn close_on_exec() {
    const CLOEXEC: libc::c_uint = 4;
    // SAFETY: plain numbers.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOEXEC) };
    if done == 0 {
        return;
    }
    // Before Linux 5.11.
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure lives as long as the call; descriptors that are not open give an error.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        for descriptor in 3..limit.rlim_cur.min(MOST) as libc::c_int {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

/// Asks for a pipe that holds so many bytes: fewer switches between the two programs per frame. What the kernel
/// does not grant stays as it was.
pub(super) fn widen(pipe: &impl std::os::fd::AsRawFd, bytes: libc::c_int) {
    // SAFETY: plain numbers, and a descriptor that lives as long as the borrow.
    let granted = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
    if granted < 0 {
        log::debug!("pipe: {}", io::Error::last_os_error());
    }
}
