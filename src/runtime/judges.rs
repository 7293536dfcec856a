//! The lanes to the networks that judge side by side, each in a thread of its own: frames come from the
//! output thread, networks and self-tests from control.

use super::loadout::Network;
use super::mailbox::{Mailbox, Post};
use super::message::SELDOM;
use crate::line::{FrameId, PartId};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Something to do.
pub enum Job {
    /// Judge a frame.
    Judge {
        /// Whose.
        part: PartId,
        /// Which.
        frame: FrameId,
        /// By the network of this generation, or a later one.
        generation: u32,
    },
    /// A frame that cannot be judged: say why.
    Damaged {
        /// Whose.
        part: PartId,
        /// Which.
        frame: FrameId,
    },
    /// Judge the known frame, and say whether its score is what it was.
    SelfTest,
    /// Lend a network beside the own one, which shares its weights; none if nothing judges.
    Lend(SyncSender<Option<Box<Network>>>),
    /// Judge with another network from now on.
    Network {
        /// The first generation that it belongs to.
        generation: u32,
        /// It.
        network: Box<Network>,
    },
}

/// The output thread's way to the networks.
pub struct Judges {
    lanes: Vec<Post<Job>>,
    next: usize,
}

/// Control's way to the networks.
pub struct Overseer {
    lanes: Vec<Post<Job>>,
}

/// So many networks' mailboxes, and the ways to them. There is room for every frame that may wait.
pub fn judges(count: usize, frames: usize) -> (Judges, Overseer, Vec<Mailbox<Job>>) {
    let mut boxes: Vec<Mailbox<Job>> = (0..count).map(|_| Mailbox::default()).collect();
    // Control's lane is the first.
    let overseer = boxes.iter_mut().map(|b| b.lane(SELDOM)).collect();
    let lanes = boxes.iter_mut().map(|b| b.lane(frames.max(1))).collect();
    (
        Judges { lanes, next: 0 },
        Overseer { lanes: overseer },
        boxes,
    )
}

impl Judges {
    /// Gives a frame to the next network: frames take equally long. Never waits.
    ///
    /// # Errors
    /// The job, if there is no room or nobody judges any more.
    pub fn try_send(&mut self, job: Job) -> Result<(), Job> {
        let lane = self.next;
        self.next = (lane + 1) % self.lanes.len().max(1);
        match self.lanes.get_mut(lane) {
            Some(lane) => lane.try_send(job),
            None => Err(job),
        }
    }
}

impl Overseer {
    /// How many networks there are.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Has every network test itself: they share their weights, and nothing else. Returns how many could not
    /// be asked: there is no room, or nobody judges any more.
    pub fn self_test(&mut self) -> usize {
        let asked = self.lanes.iter_mut().map(|l| l.try_send(Job::SelfTest));
        asked.filter(Result::is_err).count()
    }

    /// Asks the first network's thread for one beside it, which comes between two frames.
    pub fn lend(&mut self) -> Receiver<Option<Box<Network>>> {
        let (to, lent) = sync_channel(1);
        if let Some(lane) = self.lanes.first_mut() {
            // Without room, or a thread, whoever waits for it learns that nobody lends.
            let _ = lane.try_send(Job::Lend(to));
        }
        lent
    }

    /// Puts another network in every place.
    pub fn replace(&mut self, generation: u32, networks: Vec<Network>) {
        for (lane, network) in self.lanes.iter_mut().zip(networks) {
            let network = Box::new(network);
            // Fails only when the thread is gone, and the station with it.
            let _ = lane.send(Job::Network {
                generation,
                network,
            });
        }
    }
}
