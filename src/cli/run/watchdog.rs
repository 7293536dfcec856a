//! The watchdogs, fed only while every thread makes progress: systemd's, and the board's own.

use faprompt_edge::board::Board;
use faprompt_edge::bundle::Manifest;
use faprompt_edge::control::host::{Judging, Mode, Snapshot};
use faprompt_edge::line::NetworkState;
use faprompt_edge::runtime::system;
use sd_notify::NotifyState;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

/// How often they are fed. Every board's time-out is several times longer.
const EVERY: Duration = Duration::from_millis(500);

/// A station whose camera is not there says that it is ready after so long: it rejects every part, with
/// FAULT on, until the camera comes. One on trial never says so: the release before it comes back.
const WITHOUT_CAMERA: Duration = Duration::from_secs(20);

/// While a network is made ready, the service is asked again and again for so much more time.
const LOADING_US: u32 = 30_000_000;

pub struct Watchdogs {
    board: Option<File>,
    fed: Option<Instant>,
    reported: Option<Mode>,
    opened: Instant,
    ready: bool,
    trial: bool,
}

/// Asks systemd for the time that the network takes on the slowest processor for the known frame and two frames,
/// each in so many tiles.
pub fn first_frames(manifest: &Manifest, tiles: usize) {
    /// Products per second of one Cortex-A57 without dot products, a tenth of what it can do.
    const SLOWEST: f64 = 1e9;
    let limit = Duration::from_secs(30)
        + Duration::from_secs_f64((1 + 2 * tiles) as f64 * manifest.encoder_products() / SLOWEST);
    let limit = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
    let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(limit)]);
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
            reported: None,
            opened: Instant::now(),
            ready: false,
            // From `slot choose`.
            trial: std::env::var_os("FAPROMPT_TRIAL").is_some_and(|v| v == "1"),
        }
    }

    /// Whether a station in this state is ready, as the service understands it. One on trial is when it
    /// inspects with what is stored, or without what was taught where that was chosen; any other one also when it has waited long enough for a camera, or
    /// when it is known that nothing can judge: it rejects every part, and says why over its ports.
    fn is_ready(&self, mode: Mode, judging: &Judging) -> bool {
        let blind = matches!(mode, Mode::Starting | Mode::Blind | Mode::Halted);
        match judging.state {
            None => false,
            Some(NetworkState::Stored | NetworkState::ZeroShot) if !blind => true,
            Some(_) => !self.trial && (!blind || self.opened.elapsed() >= WITHOUT_CAMERA),
        }
    }

    /// Whether this release, on trial, can no longer become ready: what judges now is not what is stored, or nothing
    /// does. Waiting for the service's patience would only keep the line stopped.
    pub fn gives_up(&self, judging: &Judging) -> bool {
        use NetworkState::{LastGood, Missing, Untaught};
        self.trial && !self.ready && matches!(judging.state, Some(LastGood | Missing | Untaught))
    }

    /// Everything is alive.
    pub fn feed(&mut self, snapshot: &Snapshot, judging: &Judging) {
        if self.reported != Some(snapshot.mode) {
            self.reported = Some(snapshot.mode);
            let status = format!("{:?}", snapshot.mode);
            // Without systemd there is nobody to tell, and that is no error.
            let _ = sd_notify::notify(&[NotifyState::Status(&status)]);
        }
        if !self.ready && self.is_ready(snapshot.mode, judging) {
            self.ready = true;
            let _ = sd_notify::notify(&[NotifyState::Ready]);
        }
        if self.fed.is_some_and(|fed| fed.elapsed() < EVERY) {
            return;
        }
        self.fed = Some(Instant::now());
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        if judging.state.is_none() {
            // A large network is still being made ready.
            let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(LOADING_US)]);
        }
        if let Some(device) = &mut self.board
            && let Err(e) = device.write_all(b".")
        {
            log::error!("the watchdog cannot be fed: {e}");
        }
    }

    /// The outputs are safe. Only an orderly end keeps the board from being reset.
    pub fn close(&mut self, orderly: bool) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        if orderly && let Some(mut device) = self.board.take() {
            // The "magic close" of the kernel's watchdog API: this, and closing the file.
            let _ = device.write_all(b"V");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn watchdogs(trial: bool, board: Option<File>) -> Watchdogs {
        Watchdogs {
            board,
            fed: None,
            reported: None,
            opened: Instant::now(),
            ready: false,
            trial,
        }
    }

    #[test]
    fn a_release_on_trial_is_ready_only_when_what_is_stored_judges() {
        let judging = |state| Judging {
            state,
            ..Judging::default()
        };
        use NetworkState::{LastGood, Missing, Stored, Untaught, ZeroShot};
        for (state, mode, ready) in [
            (None, Mode::Starting, [false, false]),
            (Some(Stored), Mode::Starting, [false, false]),
            (Some(Stored), Mode::Running, [true, true]),
            (Some(Stored), Mode::Stopped, [true, true]),
            (Some(LastGood), Mode::Running, [true, false]),
            (Some(Missing), Mode::Stopped, [true, false]),
            (Some(Untaught), Mode::Stopped, [true, false]),
            (Some(ZeroShot), Mode::Running, [true, true]),
        ] {
            let found = [false, true].map(|t| watchdogs(t, None).is_ready(mode, &judging(state)));
            assert_eq!(found, ready, "{state:?} {mode:?}");
            // One that judges with what is stored may still wait for its camera.
            let lost = !matches!(state, None | Some(Stored | ZeroShot));
            let gives_up = [false, true].map(|t| watchdogs(t, None).gives_up(&judging(state)));
            assert_eq!(gives_up, [false, lost], "{state:?}");
        }
        let mut kept = watchdogs(true, None);
        kept.ready = true;
        assert!(!kept.gives_up(&judging(Some(LastGood))), "it was confirmed");
        let mut long_ago = watchdogs(false, None);
        long_ago.opened = Instant::now() - WITHOUT_CAMERA;
        assert!(long_ago.is_ready(Mode::Blind, &judging(Some(Stored))));
        assert!(!long_ago.is_ready(Mode::Starting, &judging(None)));
    }

    #[test]
    fn only_an_orderly_end_keeps_the_board_from_being_reset() {
        for (orderly, written) in [(true, "V"), (false, "")] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("watchdog");
            let device = File::create(&path).unwrap();
            watchdogs(false, Some(device)).close(orderly);
            let mut text = String::new();
            File::open(&path)
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, written, "orderly {orderly}");
        }
    }
}
