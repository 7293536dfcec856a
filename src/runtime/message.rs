//! The messages to the output thread, and the lanes that bring them.

use super::mailbox::{Mailbox, Post};
use crate::control::host::{Opinions, Order, Refused};
use crate::line::{Frame, FrameId, Input, Micros, NetworkState, PartId, Settings, Verdict, View};
use std::sync::mpsc::SyncSender;

/// The place of a frame that has none: there was an exposure, but no picture of it.
pub const NO_PICTURE: FrameId = FrameId(u64::MAX);

/// Messages that fit into a lane for triggers, frames or verdicts; the reader takes 400,000 a second.
pub const FLOW: usize = 1024;
/// Messages that fit into a lane that is used now and then.
pub const SELDOM: usize = 64;

/// A lane to the output thread.
pub type ToActuator = Post<Message>;

/// A message to the output thread.
pub enum Message {
    /// A camera is ready.
    Start(View),
    /// A trigger of the input `trigger`, at this time.
    Trigger(Micros),
    /// A camera has exposed; the frame says where its picture is, or why there is none.
    Frame(Frame),
    /// A view of a part was judged.
    Verdict {
        /// The part that was judged.
        part: PartId,
        /// The camera whose frame was judged.
        view: View,
        /// Good or reject, and why.
        verdict: Verdict,
        /// The score of this view, 0..=1, for reports; `None` if it could not be judged.
        score: Option<f32>,
        /// Share of its type among all types of defects, 0..=1, for reports.
        share: Option<f32>,
        /// The scores that this one is fused of, where good parts were taught.
        opinions: Option<Opinions>,
    },
    /// An input changed.
    Input {
        /// The input that changed.
        input: Input,
        /// Its state now: `true` is active, whichever level that is on the pin.
        active: bool,
        /// When it changed.
        at: Micros,
    },
    /// The encoder's count now.
    Encoder(u64),
    /// This many edges of trigger or encoder were lost on their way.
    LostEdges(u64),
    /// The lines of the inputs can be read again, or no longer; meanwhile no trigger can be seen.
    Inputs {
        /// Whether they can be read.
        there: bool,
    },
    /// A camera has gone up or down.
    Camera {
        /// The camera.
        view: View,
        /// Whether it delivers frames.
        up: bool,
        /// Whether it is given up until a reset, rather than opened again and again.
        halted: bool,
    },
    /// Results can be written again, or no longer.
    Results {
        /// Whether they are written.
        written: bool,
    },
    /// Parts that pass no longer look as they were taught.
    Drift,
    /// An order, and the channel for its answer.
    Order(Order, SyncSender<Result<(), Refused>>),
    /// Another loadout goes into force. Every judge has been sent its network already.
    Loadout(Box<LineLoadout>),
    /// Nothing can judge any more, for this reason.
    NoNetwork(NetworkState),
    /// Whether FAULT must be on for a reason outside of the station.
    Fault(bool),
    /// There will be no more parts: end when the last one is off the belt.
    Drain,
    /// End now.
    Finish,
}

/// The part of a loadout that the line needs.
pub struct LineLoadout {
    /// Number of the loadout, which goes to the judges with every frame.
    pub generation: u32,
    /// Settings of the station's core.
    pub settings: Settings,
    /// Whether the parts on the belt must be rejected even if the settings are the old ones.
    pub clear: bool,
    /// Which network judges, or why there is none.
    pub network: NetworkState,
    /// Whether the line stays stopped until a reset.
    pub stop: bool,
}

/// The output thread's mailbox, and the lane of the STOP input, which goes before everything else.
pub fn actuator_mailbox() -> (ToActuator, Mailbox<Message>) {
    let mut mailbox = Mailbox::default();
    (mailbox.lane(SELDOM), mailbox)
}
