//! The watchdogs, fed only while every thread makes progress: systemd's, and the board's own.

use faprompt_edge::board::Board;
use faprompt_edge::control::host::{Mode, Snapshot};
use faprompt_edge::runtime::system;
use sd_notify::NotifyState;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

/// How often they are fed. Every board's time-out is several times longer.
const EVERY: Duration = Duration::from_millis(500);

pub struct Watchdogs {
    board: Option<File>,
    fed: Option<Instant>,
    told: Option<Mode>,
}

impl Watchdogs {
    /// Opens the board's watchdog, if it has one; from then on it must be fed.
    pub fn open(board: &Board) -> Self {
        let mut device = None;
        if let Some(watchdog) = &board.watchdog {
            match OpenOptions::new().write(true).open(&watchdog.device) {
                Ok(file) => {
                    if let Err(e) = system::watchdog_timeout(&file, watchdog.timeout_s) {
                        log::warn!("{}: the time-out stays as it is: {e}", watchdog.device);
                    }
                    device = Some(file);
                }
                // A station without a watchdog still inspects; who runs it must know.
                Err(e) => log::warn!(
                    "{}: no watchdog: {e}; a hang will not restart this board",
                    watchdog.device
                ),
            }
        }
        Watchdogs {
            board: device,
            fed: None,
            told: None,
        }
    }

    /// Everything is alive.
    pub fn feed(&mut self, snapshot: &Snapshot) {
        if self.told != Some(snapshot.mode) {
            self.told = Some(snapshot.mode);
            let status = format!("{:?}", snapshot.mode);
            // Without systemd there is nobody to tell, and that is no error.
            let _ = sd_notify::notify(&[NotifyState::Status(&status), NotifyState::Ready]);
        }
        if self.fed.is_some_and(|fed| fed.elapsed() < EVERY) {
            return;
        }
        self.fed = Some(Instant::now());
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        if let Some(device) = &mut self.board
            && let Err(e) = device.write_all(b".")
        {
            log::error!("the watchdog cannot be fed: {e}");
        }
    }

    /// The station has ended. Only an orderly end keeps the board from being reset.
    pub fn close(mut self, orderly: bool) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        if let (true, Some(device)) = (orderly, &mut self.board) {
            // The "magic close" of the kernel's watchdog API.
            let _ = device.write_all(b"V");
        }
    }
}
