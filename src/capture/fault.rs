//! A camera with faults, on schedule: their effect on the line can be tried on the command line.
//!
//! The schedule is a list of `fault@exposure`, separated by commas; exposures count from 1.
//!
//! | fault | what happens |
//! |---|---|
//! | `drop@5` | exposure 5 is lost; the next one says `missed` |
//! | `late@9:200ms` | exposure 9 is handed over 200 ms late |
//! | `damaged@7` | exposure 7 is not whole |
//! | `eio@12` | exposure 12 fails with EIO; the device has to be reopened |
//! | `stall@15:3s` | no exposure for 3 s before exposure 15 |
//! | `disconnect@20:3s` | the device is gone for 3 s before exposure 20, reopening fails as long |

use super::{Adjustment, Camera, CaptureError, Exposure};
use image::RgbImage;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// What happens to one exposure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The frame is lost.
    Drop,
    /// The frame is handed over late, by this time.
    Late(Duration),
    /// Part of the frame is missing.
    Damaged,
    /// The driver reports an input/output error (EIO).
    Eio,
    /// No frame comes for this long.
    Stall(Duration),
    /// The device is gone for this long.
    Disconnect(Duration),
}

/// A schedule: faults, and the exposures that they happen to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan(
    /// Number of the exposure, from 1, and its fault; in order of exposures.
    Vec<(u64, Fault)>,
);

/// Why the text of a schedule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{entry}: {reason}; write e.g. drop@5,late@9:200ms,damaged@7,eio@12,stall@15:3s,disconnect@20:3s"
)]
pub struct FaultPlanError {
    entry: String,
    reason: &'static str,
}

impl FromStr for FaultPlan {
    type Err = FaultPlanError;

    fn from_str(text: &str) -> Result<Self, FaultPlanError> {
        let mut plan = text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                parse(entry).map_err(|reason| FaultPlanError {
                    entry: entry.into(),
                    reason,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        plan.sort_by_key(|(exposure, _)| *exposure);
        if let Some(twice) = plan.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(FaultPlanError {
                entry: format!("exposure {}", twice[0].0),
                reason: "has two faults",
            });
        }
        Ok(FaultPlan(plan))
    }
}

fn parse(entry: &str) -> Result<(u64, Fault), &'static str> {
    let (kind, rest) = entry.split_once('@').ok_or("no @")?;
    let (exposure, time) = match rest.split_once(':') {
        Some((exposure, time)) => (exposure, Some(time)),
        None => (rest, None),
    };
    let exposure = exposure.parse().ok().filter(|&n: &u64| n > 0);
    let exposure = exposure.ok_or("exposures are whole numbers from 1")?;
    let fault = match (kind, time) {
        ("drop", None) => Fault::Drop,
        ("damaged", None) => Fault::Damaged,
        ("eio", None) => Fault::Eio,
        ("late", Some(time)) => Fault::Late(duration(time)?),
        ("stall", Some(time)) => Fault::Stall(duration(time)?),
        ("disconnect", Some(time)) => Fault::Disconnect(duration(time)?),
        ("drop" | "damaged" | "eio", Some(_)) => return Err("takes no time"),
        ("late" | "stall" | "disconnect", None) => {
            return Err("takes a time, such as :200ms or :3s");
        }
        _ => return Err("no such fault"),
    };
    Ok((exposure, fault))
}

/// Parses a time such as `200ms` or `3s`, up to an hour.
fn duration(text: &str) -> Result<Duration, &'static str> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (
            text.strip_suffix('s').ok_or("times end with ms or s")?,
            1000,
        ),
    };
    let number: u64 = number.parse().map_err(|_| "times are whole numbers")?;
    let millis = number.checked_mul(unit).filter(|&ms| ms <= 3_600_000);
    millis
        .map(Duration::from_millis)
        .ok_or("times end at 3600s")
}

/// A camera that adds faults to another camera.
pub struct FaultInjector<C: Camera> {
    inner: C,
    plan: std::iter::Peekable<std::vec::IntoIter<(u64, Fault)>>,
    /// Exposures so far, lost ones included.
    exposures: u64,
    /// Exposures lost since the last one that was handed over.
    lost: u64,
    /// Until when nothing comes, and why; `None`: exposures come.
    until: Option<(Instant, Silence)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Silence {
    Stalled,
    Gone,
}

impl<C: Camera> FaultInjector<C> {
    /// Adds the faults of `plan` to `inner`.
    pub fn new(inner: C, plan: FaultPlan) -> Self {
        FaultInjector {
            inner,
            plan: plan.0.into_iter().peekable(),
            exposures: 0,
            lost: 0,
            until: None,
        }
    }

    fn silence(&mut self) -> Option<(Duration, Silence)> {
        let (until, silence) = self.until?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.until = None;
            return None;
        }
        Some((left, silence))
    }
}

/// The device that errors of this camera name.
fn device() -> PathBuf {
    PathBuf::from("fault injector")
}

impl<C: Camera> Camera for FaultInjector<C> {
    fn capture(
        &mut self,
        image: &mut RgbImage,
        timeout: Duration,
    ) -> Result<Exposure, CaptureError> {
        loop {
            match self.silence() {
                Some((_, Silence::Gone)) => {
                    return Err(CaptureError::Disconnected { device: device() });
                }
                Some((left, Silence::Stalled)) => {
                    std::thread::sleep(left.min(timeout));
                    if left > timeout {
                        return Err(CaptureError::Timeout(timeout));
                    }
                }
                None => (),
            }
            let due = self.plan.next_if(|(at, _)| *at <= self.exposures + 1);
            match due {
                Some((_, Fault::Stall(time))) => {
                    self.until = Some((Instant::now() + time, Silence::Stalled));
                    continue;
                }
                Some((_, Fault::Disconnect(time))) => {
                    self.until = Some((Instant::now() + time, Silence::Gone));
                    continue;
                }
                _ => (),
            }
            let result = self.inner.capture(image, timeout);
            if matches!(result, Err(CaptureError::Timeout(_) | CaptureError::End)) {
                // No exposure, so its fault is still to come.
                if let Some(due) = due {
                    let later: Vec<_> = std::iter::once(due).chain(self.plan.by_ref()).collect();
                    self.plan = later.into_iter().peekable();
                }
                return result;
            }
            self.exposures += 1;
            let mut exposure = result?;
            match due {
                Some((_, Fault::Drop)) => {
                    self.lost += 1 + exposure.missed;
                    continue;
                }
                // A device that was reopened does not know what it missed.
                Some((_, Fault::Eio)) => {
                    return Err(CaptureError::Device {
                        device: device(),
                        action: "taking a frame",
                        source: io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()),
                    });
                }
                Some((_, Fault::Late(time))) => std::thread::sleep(time),
                Some((_, Fault::Damaged)) => exposure.whole = false,
                _ => (),
            }
            exposure.missed += std::mem::take(&mut self.lost);
            return Ok(exposure);
        }
    }

    fn reopen(&mut self) -> Result<(), CaptureError> {
        match self.silence() {
            Some((_, Silence::Gone)) => Err(CaptureError::Disconnected { device: device() }),
            _ => self.inner.reopen(),
        }
    }

    fn frame_time(&self) -> Option<Duration> {
        self.inner.frame_time()
    }

    fn adjust(&mut self, adjustment: Adjustment) -> Result<(), CaptureError> {
        self.inner.adjust(adjustment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::PatternCamera;

    #[test]
    fn faults_happen_on_schedule() {
        let plan = "drop@2, damaged@4,eio@5,disconnect@6:20ms,stall@7:20ms,late@8:1ms";
        let mut camera = FaultInjector::new(PatternCamera::new(1), plan.parse().unwrap());
        let mut image = RgbImage::default();
        let mut log = vec![];
        for _ in 0..1000 {
            match camera.capture(&mut image, Duration::from_millis(1)) {
                Ok(e) => log.push(format!("{} {} {}", e.sequence, e.missed, e.whole)),
                Err(e) => {
                    let line = match e {
                        CaptureError::Device { .. } => "eio",
                        CaptureError::Disconnected { .. } => "gone",
                        CaptureError::Timeout(_) => "timeout",
                        e => panic!("{e}"),
                    };
                    // Reopening fails as long as the device is gone.
                    if camera.reopen().is_err() {
                        assert_eq!(line, "gone");
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    log.push(line.to_string());
                }
            }
            log.dedup();
            if log.last().is_some_and(|l| l.starts_with('8')) {
                break;
            }
        }
        let expected = [
            "0 0 true",
            "2 1 true",
            "3 0 false",
            "eio",
            "gone",
            "5 0 true",
            "timeout",
            "6 0 true",
            "7 0 true",
            "8 0 true",
        ];
        assert_eq!(log, expected);
    }

    #[test]
    fn schedules_that_make_no_sense_are_refused() {
        assert_eq!("".parse(), Ok(FaultPlan::default()));
        for (text, reason) in [
            ("drop", "no @"),
            ("drop@0", "from 1"),
            ("drop@x", "from 1"),
            ("drop@1:3s", "takes no time"),
            ("late@1", "takes a time"),
            ("late@1:3", "ms or s"),
            ("late@1:-3s", "whole numbers"),
            ("stall@1:3601s", "3600s"),
            ("stall@1:99999999999999999999s", "whole numbers"),
            ("melt@1", "no such fault"),
            ("drop@1,eio@1", "two faults"),
        ] {
            let error = text.parse::<FaultPlan>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
