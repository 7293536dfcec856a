//! Decides when a camera counts as stalled, when it is opened again, and when it is given up.
//!
//! Pure logic: time is an argument, in microseconds on one clock that never goes back. It touches no device: its
//! caller reports what happened, and does what [`Watch::step`] says.

use std::collections::VecDeque;

/// Exposures that may be missing before a camera counts as stalled.
const MISSED_FRAMES: u64 = 10;
/// A stall is noticed after this time at the latest, microseconds; a camera also has this time for its first
/// exposure after it was opened.
const LONGEST_STALL_US: u64 = 2_000_000;
/// Most reopenings within [`WINDOW_US`].
const REOPENINGS: usize = 5;
/// More reopenings than [`REOPENINGS`] within this time halt the camera, microseconds.
const WINDOW_US: u64 = 60_000_000;
/// The first reopening comes after this time, each further one within the window after three times
/// as long: 0.25, 0.75, 2.25, 6.75, 20.25 s. A cable that is back within half a minute is found.
const FIRST_BACK_OFF_US: u64 = 250_000;

/// What starts the camera's exposures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The camera exposes by itself.
    FreeRunning {
        /// Microseconds from one exposure to the next, if the camera states them.
        frame_time_us: Option<u64>,
    },
    /// Each trigger starts one exposure.
    Triggered {
        /// Longest time from a trigger until its exposure arrives, microseconds.
        answer_us: u64,
    },
}

/// What the caller has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The camera is up: go on capturing, and ask again at `until_us`.
    Capture {
        /// When a stall is noticed if nothing comes; `None`: nothing is due.
        until_us: Option<u64>,
    },
    /// No exposure can be expected. Wait until `until_us`, and ask again.
    Wait {
        /// When the next reopening is due.
        until_us: u64,
    },
    /// No exposure can be expected. Reopen now, and report the result.
    Reopen,
    /// No exposure can be expected until [`Watch::try_again`].
    Halted,
}

/// Supervises one camera.
#[derive(Clone, Debug)]
pub struct Watch {
    pace: Pace,
    state: State,
    /// When the camera was opened; `None` once it has exposed since then.
    fresh_since: Option<u64>,
    /// Times of the last reopenings, oldest first.
    reopenings: VecDeque<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Up {
        /// When a stall is noticed; `None`: nothing is due.
        deadline: Option<u64>,
    },
    Waiting {
        until: u64,
    },
    Reopening,
    Halted,
}

impl Watch {
    /// Watches a camera that was opened just now.
    pub fn new(pace: Pace, now_us: u64) -> Self {
        let mut watch = Watch {
            pace,
            state: State::Halted,
            fresh_since: None,
            reopenings: VecDeque::with_capacity(REOPENINGS),
        };
        watch.opened(now_us);
        watch
    }

    /// Whether no exposure can be expected: every part that passes is a reject.
    pub fn is_blind(&self) -> bool {
        !matches!(self.state, State::Up { .. })
    }

    /// Reports an exposure, whole or not. It answers all triggers so far: which of them it belongs to is decided
    /// by the pairing.
    pub fn exposure(&mut self, now_us: u64) {
        self.fresh_since = None;
        if let State::Up { deadline } = &mut self.state {
            *deadline = match self.pace {
                Pace::FreeRunning { frame_time_us } => {
                    let frames = frame_time_us.map(|time| time.saturating_mul(MISSED_FRAMES));
                    Some(now_us + frames.map_or(LONGEST_STALL_US, |f| f.min(LONGEST_STALL_US)))
                }
                Pace::Triggered { .. } => None,
            };
        }
    }

    /// Reports a trigger at that time. Does nothing for a free-running camera, for a trigger that came before the
    /// camera was open, or if an answer is due already.
    pub fn triggered(&mut self, at_us: u64) {
        if let (Pace::Triggered { answer_us }, State::Up { deadline }) =
            (self.pace, &mut self.state)
        {
            let opened_us = self.fresh_since.unwrap_or(0);
            if at_us >= opened_us {
                let fresh_until = self
                    .fresh_since
                    .map_or(0, |opened| opened + LONGEST_STALL_US);
                let answer = at_us + answer_us.min(LONGEST_STALL_US);
                deadline.get_or_insert(answer.max(fresh_until));
            }
        }
    }

    /// Whether the camera is up and has exposed, or has had its time for that: one that has not by then waits for
    /// what makes it expose.
    pub fn is_settled(&self, now_us: u64) -> bool {
        let had_time = |opened: u64| now_us >= opened + LONGEST_STALL_US;
        !self.is_blind() && self.fresh_since.is_none_or(had_time)
    }

    /// Reports that capturing failed with an error that needs a reopening, or that a reopening failed.
    pub fn failed(&mut self, now_us: u64) {
        match self.state {
            State::Up { .. } | State::Reopening => self.back_off(now_us),
            State::Waiting { .. } | State::Halted => (),
        }
    }

    /// Reports that a reopening succeeded.
    pub fn opened(&mut self, now_us: u64) {
        self.fresh_since = Some(now_us);
        self.state = State::Up {
            deadline: match self.pace {
                Pace::FreeRunning { .. } => Some(now_us + LONGEST_STALL_US),
                Pace::Triggered { .. } => None,
            },
        };
    }

    /// Reports that somebody looked after the camera: a camera that was given up, or waits, is opened again.
    pub fn try_again(&mut self) {
        if self.is_blind() && self.state != State::Reopening {
            self.reopenings.clear();
            self.state = State::Waiting { until: 0 };
        }
    }

    /// What the caller has to do now.
    pub fn step(&mut self, now_us: u64) -> Step {
        if let State::Up {
            deadline: Some(deadline),
        } = self.state
            && now_us >= deadline
        {
            self.back_off(now_us);
        }
        match self.state {
            State::Up { deadline } => Step::Capture { until_us: deadline },
            State::Waiting { until } if now_us < until => Step::Wait { until_us: until },
            State::Waiting { .. } => {
                if self.reopenings.len() == REOPENINGS {
                    self.reopenings.pop_front();
                }
                self.reopenings.push_back(now_us);
                self.state = State::Reopening;
                Step::Reopen
            }
            State::Reopening => Step::Reopen,
            State::Halted => Step::Halted,
        }
    }

    fn back_off(&mut self, now_us: u64) {
        let recent = self
            .reopenings
            .iter()
            .filter(|&&at| now_us < at.saturating_add(WINDOW_US))
            .count();
        self.state = if recent >= REOPENINGS {
            State::Halted
        } else {
            State::Waiting {
                until: now_us + FIRST_BACK_OFF_US * 3u64.pow(recent as u32),
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FREE: Pace = Pace::FreeRunning {
        frame_time_us: Some(10_000),
    };

    #[test]
    fn a_free_running_camera_stalls_after_ten_frames_or_two_seconds() {
        let mut watch = Watch::new(FREE, 1_000);
        // Two seconds for the first one.
        assert_eq!(
            watch.step(2_000_999),
            Step::Capture {
                until_us: Some(2_001_000)
            }
        );
        watch.exposure(2_000_999);
        assert_eq!(
            watch.step(2_100_998),
            Step::Capture {
                until_us: Some(2_100_999)
            }
        );
        assert!(!watch.is_blind());
        assert_eq!(
            watch.step(2_100_999),
            Step::Wait {
                until_us: 2_350_999
            }
        );
        assert!(watch.is_blind());
        for frame_time_us in [None, Some(500_000)] {
            let mut slow = Watch::new(Pace::FreeRunning { frame_time_us }, 0);
            slow.exposure(5);
            assert_eq!(
                slow.step(6),
                Step::Capture {
                    until_us: Some(2_000_005)
                }
            );
        }
    }

    #[test]
    fn a_triggered_camera_stalls_only_after_a_trigger() {
        let mut watch = Watch::new(Pace::Triggered { answer_us: 300 }, 0);
        assert_eq!(watch.step(1 << 50), Step::Capture { until_us: None });
        watch.triggered(1 << 50);
        watch.triggered((1 << 50) + 200);
        let deadline = (1 << 50) + 300;
        assert_eq!(
            watch.step(deadline - 1),
            Step::Capture {
                until_us: Some(deadline)
            }
        );
        watch.exposure(deadline - 1);
        assert_eq!(watch.step(deadline), Step::Capture { until_us: None });
        watch.triggered(deadline);
        assert!(matches!(watch.step(deadline + 300), Step::Wait { .. }));
    }

    #[test]
    fn a_camera_owes_nothing_to_triggers_before_it_was_open_and_has_two_seconds_for_its_first_exposure()
     {
        let mut watch = Watch::new(Pace::Triggered { answer_us: 300 }, 0);
        watch.exposure(1);
        watch.failed(9_000_000);
        assert_eq!(watch.step(9_250_000), Step::Reopen);
        watch.triggered(9_500_000);
        watch.opened(10_000_000);
        assert!(!watch.is_settled(10_000_000));
        // They waited in the lane while it was opened.
        watch.triggered(9_000_000);
        watch.triggered(9_999_999);
        assert_eq!(watch.step(10_000_001), Step::Capture { until_us: None });
        watch.triggered(10_000_400);
        let until_us = Some(12_000_000);
        assert_eq!(watch.step(10_000_701), Step::Capture { until_us });
        assert!(!watch.is_settled(11_999_999));
        watch.exposure(11_000_000);
        assert!(watch.is_settled(11_000_000));
        // From then on each is due in its own time.
        watch.triggered(11_000_100);
        let until_us = Some(11_000_400);
        assert_eq!(watch.step(11_000_399), Step::Capture { until_us });
        assert!(matches!(watch.step(11_000_400), Step::Wait { .. }));
        assert!(!watch.is_settled(u64::MAX), "it is down");
        // One that exposes only when it is triggered, and was not.
        let quiet = Watch::new(Pace::Triggered { answer_us: 300 }, 5);
        assert!(quiet.is_settled(2_000_005) && !quiet.is_settled(2_000_004));
    }

    #[test]
    fn an_absent_camera_is_sought_five_times_then_halted_until_told() {
        let mut watch = Watch::new(FREE, 0);
        watch.failed(0);
        let mut reopenings = vec![];
        for now in (0..120_000_000).step_by(250_000) {
            match watch.step(now) {
                Step::Reopen => {
                    reopenings.push(now);
                    watch.failed(now);
                }
                Step::Halted => break,
                Step::Wait { .. } => (),
                Step::Capture { .. } => panic!("up"),
            }
        }
        let at = [250_000, 1_000_000, 3_250_000, 10_000_000, 30_250_000];
        assert_eq!(reopenings, at);
        assert_eq!(watch.step(1 << 50), Step::Halted);
        watch.try_again();
        assert_eq!(watch.step(1 << 50), Step::Reopen);
        watch.opened(1 << 50);
        assert!(!watch.is_blind());
    }

    #[test]
    fn failures_far_apart_never_halt() {
        let mut watch = Watch::new(FREE, 0);
        for i in 1..100u64 {
            let now = i * 61_000_000;
            watch.failed(now);
            assert_eq!(watch.step(now + 250_000), Step::Reopen);
            watch.opened(now + 250_000);
        }
    }

    proptest! {
        /// Whatever happens: never more than five reopenings within any minute unless someone said to try again,
        /// blind means not capturing, and a camera that is up never has to be reopened at once.
        #[test]
        fn reopenings_are_bounded(acts in prop::collection::vec((0u8..7, 0u64..3_000_000), 1..400)) {
            let mut watch = Watch::new(FREE, 0);
            let (mut now, mut reopenings) = (0, vec![]);
            let mut asked = false;
            for (act, time) in acts {
                now += time;
                match act {
                    0 => watch.exposure(now),
                    1 => watch.triggered(now),
                    2 => {
                        watch.failed(now);
                        asked = false;
                    }
                    3 if asked => {
                        watch.opened(now);
                        asked = false;
                    }
                    4 if time % 50 == 0 => {
                        watch.try_again();
                        reopenings.clear();
                    }
                    _ => {
                        let blind = watch.is_blind();
                        match watch.step(now) {
                            Step::Reopen => {
                                prop_assert!(blind);
                                if !asked {
                                    reopenings.push(now);
                                }
                                asked = true;
                            }
                            Step::Capture { until_us } => {
                                prop_assert!(!blind);
                                prop_assert!(until_us.is_some_and(|t| t > now && t <= now + 2_000_000));
                            }
                            Step::Wait { until_us } => prop_assert!(until_us > now),
                            Step::Halted => (),
                        }
                    }
                }
            }
            for six in reopenings.windows(6) {
                prop_assert!(six[5] - six[0] >= WINDOW_US, "{six:?}");
            }
        }
    }
}
