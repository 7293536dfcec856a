//! The lanes to the networks that judge side by side, each in a thread of its own: frames come from the
//! output thread, networks and self-tests from control.

use super::deferred::DeferredDrop;
use super::loadout::Network;
use super::mailbox::{Mailbox, Post};
use super::message::SELDOM;
use crate::line::{FrameId, PartId};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// A job for the thread of a network.
pub enum Job {
    /// Judge a frame.
    Judge {
        /// The part that the frame shows.
        part: PartId,
        /// The place of the frame in memory.
        frame: FrameId,
        /// Generation of the loadout: the network of this generation judges, or of a later one.
        generation: u32,
    },
    /// Report a frame that cannot be judged, and why.
    Damaged {
        /// The part that the frame shows.
        part: PartId,
        /// The place of the frame in memory.
        frame: FrameId,
    },
    /// Judge the known frame, and report whether its score is what it was.
    SelfTest,
    /// Lend a second network that shares the weights of this thread's own; `None` if this thread has none.
    Lend(SyncSender<Option<Box<Network>>>),
    /// Judge with another network from now on.
    Network {
        /// The first generation of the loadout that this network judges for.
        generation: u32,
        /// The network that replaces the present one.
        network: DeferredDrop<Box<Network>>,
    },
}

/// The output thread's lanes to the networks.
pub struct Judges {
    lanes: Vec<Post<Job>>,
    next: usize,
}

/// Control's lanes to the networks.
pub struct Overseer {
    lanes: Vec<Post<Job>>,
}

/// Makes the mailboxes of `count` networks, and the lanes to them. There is room for `frames` frames that wait.
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
    /// Gives a frame to the next network in turn, for frames take equally long. Never waits.
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

    /// Has every network test itself: they share their weights, and nothing else. Returns how many could not be
    /// asked, because there is no room or nobody judges any more.
    pub fn self_test(&mut self) -> usize {
        let asked = self.lanes.iter_mut().map(|l| l.try_send(Job::SelfTest));
        asked.filter(Result::is_err).count()
    }

    /// Asks the first network's thread to lend a second network, which comes between two frames.
    pub fn lend(&mut self) -> Receiver<Option<Box<Network>>> {
        let (to, lent) = sync_channel(1);
        if let Some(lane) = self.lanes.first_mut() {
            // If there is no room, or the thread is gone, the receiver finds its sender dropped.
            let _ = lane.try_send(Job::Lend(to));
        }
        lent
    }

    /// Replaces the network of every thread.
    pub fn replace(&mut self, generation: u32, networks: Vec<DeferredDrop<Box<Network>>>) {
        for (lane, network) in self.lanes.iter_mut().zip(networks) {
            // Fails only when the thread is gone, and the station with it.
            let _ = lane.send(Job::Network {
                generation,
                network,
            });
        }
    }
}
