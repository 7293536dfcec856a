//! What is asked of a camera while it runs: exposure time and gain, agreed or taken back.

use super::mailbox::{Mailbox, Post};
use super::message::SELDOM;
use super::shared::lock;
use crate::capture::Adjustment;
use crate::control::host::Refused;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a camera may take to accept exposure time and gain; longer means that it hangs.
const ANSWER: Duration = Duration::from_secs(2);

/// Exposure time and gain that the camera is to have from now on.
pub struct Adjust {
    /// What it is to have.
    pub adjustment: Adjustment,
    /// Receives whether the camera took them; `None`: nobody waits, and they stay wanted even if the camera
    /// refuses.
    pub answer: Option<SyncSender<Result<(), Refused>>>,
}

/// The way to the camera's exposure time and gain. The last request counts: what was asked for and then taken back
/// is never what the camera is left with.
pub struct CameraLane(Mutex<Asked>);

struct Asked {
    lane: Post<Adjust>,
    /// The exposure time and gain that are in force, and that the camera gets back if a request is dropped.
    agreed: Adjustment,
}

impl CameraLane {
    /// A way to a camera that has this exposure time and gain.
    pub fn new(agreed: Adjustment) -> (Arc<CameraLane>, Mailbox<Adjust>) {
        let mut mailbox = Mailbox::default();
        let lane = mailbox.lane(SELDOM);
        let asked = Asked { lane, agreed };
        (Arc::new(CameraLane(Mutex::new(asked))), mailbox)
    }

    /// The exposure time and gain that are in force.
    pub fn agreed(&self) -> Adjustment {
        lock(&self.0).agreed
    }

    /// Asks the camera to take them, and waits for its answer.
    ///
    /// # Errors
    /// The camera refuses, is down or does not answer: it keeps, or gets back, what was in force.
    pub fn ask(self: &Arc<Self>, adjustment: Adjustment) -> Result<Adjusted, Refused> {
        let (answer, answered) = sync_channel(1);
        let adjust = Adjust {
            adjustment,
            answer: Some(answer),
        };
        let gone = Refused::Hardware("the camera's thread is gone");
        lock(&self.0).lane.try_send(adjust).map_err(|_| gone)?;
        // From here on, whatever happens, it is agreed or taken back.
        let adjusted = Adjusted {
            lane: self.clone(),
            adjustment,
            agreed: false,
        };
        match answered.recv_timeout(ANSWER) {
            Ok(Ok(())) => Ok(adjusted),
            Ok(Err(refused)) => Err(refused),
            Err(_) => Err(Refused::Hardware("the camera does not answer")),
        }
    }

    /// Gives the camera this exposure time and gain without waiting; one that is down gets them when it is opened.
    pub fn tell(&self, adjustment: Adjustment) {
        let mut asked = lock(&self.0);
        asked.agreed = adjustment;
        // Fails only when the camera's thread is gone.
        let answer = None;
        let _ = asked.lane.send(Adjust { adjustment, answer });
    }
}

/// A request that the camera has accepted. Unless [`agree`](Self::agree) is called before it is dropped, the
/// camera gets back what it had.
pub struct Adjusted {
    lane: Arc<CameraLane>,
    adjustment: Adjustment,
    agreed: bool,
}

impl Adjusted {
    /// Puts the request into force.
    pub fn agree(mut self) {
        self.agreed = true;
        lock(&self.lane.0).agreed = self.adjustment;
    }
}

impl Drop for Adjusted {
    fn drop(&mut self) {
        if !self.agreed {
            self.lane.tell(self.lane.agreed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_of_the_camera_and_taken_back_is_never_what_it_is_left_with() {
        let old = Adjustment::default();
        let new = Adjustment {
            exposure_us: Some(5000),
            gain: None,
        };
        let (lane, mut adjusts) = CameraLane::new(old);
        // Nobody answers: given up after some time, and taken back.
        let asked = lane.ask(new);
        assert!(matches!(asked, Err(Refused::Hardware(_))));
        let sent: Vec<Adjust> = std::iter::from_fn(|| adjusts.try_recv()).collect();
        assert_eq!(
            sent.iter().map(|a| a.adjustment).collect::<Vec<_>>(),
            [new, old]
        );
        assert!(sent[1].answer.is_none(), "it must be taken");
        assert_eq!(lane.agreed(), old);
        // Taken, and given up all the same, or agreed.
        for agrees in [false, true] {
            let asking = {
                let lane = lane.clone();
                std::thread::spawn(move || lane.ask(new))
            };
            let adjust = loop {
                if let Some(adjust) = adjusts.try_recv() {
                    break adjust;
                }
                std::thread::yield_now();
            };
            adjust.answer.unwrap().send(Ok(())).unwrap();
            let adjusted = asking.join().unwrap().unwrap();
            assert_eq!(lane.agreed(), old, "not before it is in force");
            if agrees {
                adjusted.agree();
            } else {
                drop(adjusted);
            }
            let back = adjusts.try_recv().map(|a| a.adjustment);
            assert_eq!(back, (!agrees).then_some(old));
        }
        assert_eq!(lane.agreed(), new);
    }
}
