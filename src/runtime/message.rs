//! What the output thread is told, and over which lanes.

use super::mailbox::{Mailbox, Post};
use crate::control::host::{Opinions, Order, Refused};
use crate::line::{Frame, FrameId, Input, Micros, NetworkState, PartId, Settings, Verdict, View};
use std::sync::mpsc::SyncSender;

/// The number of a frame that has no place: there was an exposure, but nothing could be kept of it.
pub const NO_PICTURE: FrameId = FrameId(u64::MAX);

/// Room of a lane over which triggers, frames or verdicts come: the reader takes 400,000 a second.
pub const FLOW: usize = 1024;
/// Room of a lane over which something comes now and then.
pub const SELDOM: usize = 64;

/// Tells the actuator.
pub type ToActuator = Post<Message>;

/// What happened.
pub enum Message {
    /// A camera is ready.
    Start(View),
    /// A trigger from outside.
    Trigger(Micros),
    /// An exposure.
    Frame(Frame),
    /// A view of a part was judged.
    Verdict {
        /// Whose.
        part: PartId,
        /// Which.
        view: View,
        /// The result.
        verdict: Verdict,
        /// Its score, for reports.
        score: Option<f32>,
        /// Share of its type among all types of defects, for reports.
        share: Option<f32>,
        /// What it is made of, where good parts were taught.
        opinions: Option<Opinions>,
    },
    /// An input changed.
    Input {
        /// Which.
        input: Input,
        /// Its logical state.
        active: bool,
        /// When.
        at: Micros,
    },
    /// Where the encoder stands.
    Encoder(u64),
    /// Edges of trigger or encoder that were lost on their way.
    LostEdges(u64),
    /// The inputs' lines are there, or away: nothing is known of triggers then.
    Inputs {
        /// Whether they are there.
        there: bool,
    },
    /// A camera is up, down, or down for good.
    Camera {
        /// Which.
        view: View,
        /// Whether it works.
        up: bool,
        /// Whether it is not tried again by itself.
        halted: bool,
    },
    /// Results are written, or lost.
    Results {
        /// Whether they are written.
        written: bool,
    },
    /// Parts that pass no longer look as they were taught.
    Drift,
    /// An order, and where the answer goes.
    Order(Order, SyncSender<Result<(), Refused>>),
    /// Another loadout. Every judge has its network already.
    Loadout(Box<LineLoadout>),
    /// Nothing can judge, and why.
    NoNetwork(NetworkState),
    /// FAULT must be on for a reason outside of the station.
    Fault(bool),
    /// There will be no more parts: end when the last one is off the belt.
    Drain,
    /// End now.
    Finish,
}

/// What of a loadout is the line's.
pub struct LineLoadout {
    /// Its number: frames go to judges with it.
    pub generation: u32,
    /// The core's settings.
    pub settings: Settings,
    /// Whether what is on the belt must be rejected even if they are the old ones.
    pub clear: bool,
    /// What judges.
    pub network: NetworkState,
    /// The line stays stopped until a reset.
    pub stop: bool,
}

/// The output thread's mailbox, and the lane of the STOP input, which goes before everything else.
pub fn actuator_mailbox() -> (ToActuator, Mailbox<Message>) {
    let mut mailbox = Mailbox::default();
    (mailbox.lane(SELDOM), mailbox)
}
