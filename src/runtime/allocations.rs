//! What a part costs in allocations once the first ones are through. On the way from a verdict to a pin:
//! none. On the way from a frame to its verdict: those of the resizing crate, which makes its
//! coefficients anew for every picture, and none if the picture has the network's size.
//!
//! One thread judges. With more of them rayon's queue takes a block of memory now and then.

use super::actuator::{Actuator, Ended, Outlets, RealTime};
use super::deferred::DropThread;
use super::inference::Inference;
use super::judges::{Job, judges};
use super::loadout::{Network, label};
use super::mailbox::Mailbox;
use super::message::{FLOW, LineLoadout, Message, SELDOM};
use super::places::Places;
use super::recent::Recent;
use super::record::Records;
use super::shared::Shared;
use super::system::now;
use super::threads::Sign;
use crate::bundle::{Bundle, Keys};
use crate::capture::known_frame;
use crate::faprompt::AdaptationMode;
use crate::inspector::{Inspector, Options};
use crate::line::settings::{AlarmSettings, PulseWidth, RejectDelay, Threshold};
use crate::line::{
    Active, AlarmSet, Frame, FrameId, NetworkState, PartId, Pins, Settings, Signal, Statistics,
    Trigger, Verdict, View, Wiring,
};
use crate::memory::region::Regions;
use crate::memory::{Fusion, Kind, Lesson};
use crate::ops::weights::Arithmetic;
use crate::tiling::Tiling;
use allocation_counter::measure;
use embedded_hal::digital::{ErrorType, OutputPin};
use image::RgbImage;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What the resizing crate allocates for a picture: its number and bytes.
const RESIZING: (u64, u64) = (6, 60_000);

pub(super) fn settings() -> Settings {
    Settings {
        trigger: Trigger::FreeRun,
        threshold: Threshold::new(1.0).unwrap(),
        further_thresholds: [Threshold::new(1.0).unwrap(); 3],
        delay: RejectDelay::millis(60, 5).unwrap(),
        width: PulseWidth::new(1).unwrap(),
        wiring: Wiring::default(),
        strobe: None,
        default_lane: None,
        alarms: AlarmSettings {
            consecutive: None,
            rate: None,
            latency: None,
            stop_on: AlarmSet::NONE,
        },
    }
}

/// Teaches the picture, with a little noise, as so many good parts.
fn teach(inspector: &mut Inspector, picture: &RgbImage, kind: Kind) {
    let layout = inspector.layout().unwrap();
    let settings = crate::memory::Settings {
        kind: Some(kind),
        fusion: Fusion::default(),
        false_rejects: 0.01,
        regions: Regions::default(),
        views: crate::memory::Views::default(),
    };
    let mut lesson = Lesson::new(layout, settings).unwrap();
    for part in 0..6u8 {
        let mut good = picture.clone();
        good.pixels_mut()
            .for_each(|p| p.0[0] = p.0[0].wrapping_add(part));
        let zero_shot = inspector.inspect(&good).unwrap().as_zero_shot();
        let descriptors = inspector.descriptors().unwrap();
        lesson
            .part(&part.to_string(), descriptors, zero_shot)
            .unwrap();
    }
    let (encoder, arithmetic) = inspector.bound_to().unwrap();
    let taught = lesson.finish(encoder, arithmetic).unwrap();
    inspector
        .teach(Some(taught.bytes().unwrap().into()))
        .unwrap();
}

/// Allocations and bytes of a thread that judges the picture so many times, by a memory of good parts if there is a
/// kind of it.
fn judging(
    options: Options,
    tiles: Tiling,
    picture: &RgbImage,
    taught: Option<Kind>,
    frames: usize,
) -> (u64, u64) {
    let path = Path::new(env!("DEFAULT_BUNDLE"));
    let bundle = Bundle::open(path, &Keys::default()).unwrap();
    let mut inspector = Inspector::new(&bundle, options).unwrap();
    inspector.cut(tiles).unwrap();
    if let Some(kind) = taught {
        teach(&mut inspector, picture, kind);
    }
    // The first frames grow what is used again.
    (0..3).for_each(|_| _ = inspector.inspect(picture).unwrap());
    let recent = inspector.layout().map(|l| Arc::new(Recent::new(l)));
    let network = Network {
        label: Arc::new(label(&bundle, &inspector, path)),
        inspector,
        known: 0.0,
        patience: Duration::ZERO,
        recent,
        further: vec![],
    };
    let nothing = (Statistics::default(), AlarmSet::NONE);
    let shared = Arc::new(Shared::new(&settings(), nothing.0, nothing.1));
    // Nobody reads: what is sent stays in its lane.
    let (_, mut record, _records) = Records::new(1);
    let (places, mut free) = Places::new(1, 1);
    places.at(FrameId(0)).image = picture.clone();
    let mut verdicts = Mailbox::default();
    let messages = verdicts.lane(SELDOM);
    let (mut sender, _, mut jobs) = judges(1, frames);
    for part in 0..frames as u64 {
        let job = Job::Judge {
            part: PartId(part),
            frame: FrameId(0),
            generation: 0,
        };
        sender.try_send(job).ok().unwrap();
    }
    drop(sender);
    let inference = Inference {
        network: Some(DropThread::start().unwrap().takes(Box::new(network))),
        places,
        back: free.giver(),
        messages,
        record: record.remove(0),
        sign: Sign::default(),
        others: vec![],
        shared,
        passed: 0,
        unjudged: Default::default(),
    };
    let counts = measure(|| inference.run(&mut jobs[0]));
    let scored = |m: &Message| matches!(m, Message::Verdict { score: Some(_), .. });
    assert_eq!(
        std::iter::from_fn(|| verdicts.try_recv())
            .filter(scored)
            .count(),
        frames
    );
    (counts.count_total, counts.bytes_total)
}

/// The least of some rounds: what happens once, such as a line of the log about a slow frame, or a buffer that another test of
/// this process has on loan, is not the frame's.
fn least(round: impl Fn() -> (u64, u64)) -> (u64, u64) {
    (0..3).map(|_| round()).min().unwrap()
}

/// Allocations and bytes of a frame.
fn per_frame(options: Options, picture: &RgbImage, taught: Option<Kind>) -> (u64, u64) {
    let judging = |frames| judging(options, Tiling::WHOLE, picture, taught, frames);
    judging(1);
    let [one, five] = [1, 5].map(|frames| least(|| judging(frames)));
    ((five.0 - one.0) / 4, (five.1 - one.1) / 4)
}

#[test]
fn a_frame_that_is_compared_with_good_parts_allocates_nothing_more() {
    let options = Options {
        memory: true,
        ..Options::default()
    };
    let square = RgbImage::from_fn(224, 224, |x, y| image::Rgb([x as u8, y as u8, 90]));
    for taught in [
        None,
        Some(Kind::Position),
        Some(Kind::Anywhere),
        Some(Kind::Combined),
    ] {
        assert_eq!(per_frame(options, &square, taught), (0, 0), "{taught:?}");
    }
}

#[test]
fn a_frame_allocates_what_the_resizing_crate_does() {
    let photo = known_frame();
    let all = [Arithmetic::F32, Arithmetic::Int8, Arithmetic::F16];
    for arithmetic in all.into_iter().filter(|a| a.check().is_ok()) {
        for adaptation in [
            AdaptationMode::Exact,
            AdaptationMode::Linear,
            AdaptationMode::Off,
        ] {
            let options = Options {
                adaptation,
                threads: 1,
                arithmetic,
                ..Options::default()
            };
            let per_frame = |picture: &RgbImage| per_frame(options, picture, None);
            let (number, bytes) = per_frame(&photo);
            assert!(
                number <= RESIZING.0 && bytes <= RESIZING.1,
                "{options:?}: {number} allocations, {bytes} bytes"
            );
            let square = RgbImage::from_pixel(224, 224, image::Rgb([90; 3]));
            assert_eq!(per_frame(&square), (0, 0), "{options:?}");
        }
    }
}

#[test]
fn a_frame_in_tiles_allocates_no_more_per_tile() {
    let tiles: Tiling = "2x2+0".parse().unwrap();
    // Each tile has the network's size.
    let picture = RgbImage::from_fn(448, 448, |x, y| image::Rgb([x as u8, y as u8, 90]));
    let judging = |frames| judging(Options::default(), tiles, &picture, None, frames);
    judging(1);
    let [one, five] = [1, 5].map(|frames| least(|| judging(frames)));
    assert_eq!(one, five, "allocations, bytes");
}

/// A pin that is nowhere.
pub(super) struct Nowhere;

impl ErrorType for Nowhere {
    type Error = Infallible;
}

impl crate::line::Pin for Nowhere {}

impl OutputPin for Nowhere {
    fn set_low(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
    fn set_high(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// It is judged by something, as of now.
pub(super) fn loadout(settings: Settings, network: NetworkState) -> Message {
    Message::Loadout(Box::new(LineLoadout {
        generation: 1,
        settings,
        clear: false,
        network,
        stop: false,
    }))
}

/// Allocations of the thread that drives the pins while so many good parts pass.
fn driving(parts: u64) -> (u64, Ended) {
    let nothing = (Statistics::default(), AlarmSet::NONE);
    let shared = Arc::new(Shared::new(&settings(), nothing.0, nothing.1));
    let (record, _, _records) = Records::new(0);
    let (_places, mut free) = Places::new(1, 1);
    let mut received = Mailbox::default();
    let mut messages = received.lane(FLOW);
    let (judges, _overseer, mut judged) = judges(1, 64);
    let mut triggers = Mailbox::default();
    let outlets = Outlets {
        judges,
        expose: vec![triggers.lane(FLOW)],
        back: free.giver(),
        record,
    };
    let pins = Pins::default().with(Signal::Good, Nowhere, Active::High);
    let actuator = Actuator::new(
        settings(),
        (nothing.0, nothing.1, false),
        pins,
        received,
        outlets,
        (shared, Sign::default()),
        RealTime::default(),
    );
    let camera_and_inference = std::thread::spawn(move || {
        messages
            .send(loadout(settings(), NetworkState::Stored))
            .ok()?;
        messages.send(Message::Start(View::FIRST)).ok()?;
        let mut passed = 0;
        // Some parts may find no frame; that most of them do would be a fault.
        for _ in 0..10 * parts {
            if passed >= parts {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
            let frame = Frame {
                id: FrameId(0),
                view: View::FIRST,
                exposed: now(),
                flaw: None,
            };
            messages.send(Message::Frame(frame)).ok()?;
            while let Some(Job::Judge { part, .. }) = judged[0].try_recv() {
                passed += 1;
                let verdict = Message::Verdict {
                    part,
                    view: View::FIRST,
                    verdict: Verdict::Score(0.0),
                    score: Some(0.0),
                    share: None,
                    opinions: None,
                };
                messages.send(verdict).ok()?;
            }
        }
        messages.send(Message::Drain).ok()
    });
    let mut ended = None;
    let counts = measure(|| ended = Some(actuator.run()));
    camera_and_inference.join().unwrap().unwrap();
    (counts.count_total, ended.unwrap())
}

#[test]
fn from_verdict_to_pin_nothing_is_allocated() {
    // What is on the belt at the start is not known to be good.
    driving(1);
    let (few, many) = (driving(100), driving(300));
    let good = |ended: &Ended| (ended.good_pulses, ended.statistics.outcomes.good);
    let (few_good, many_good) = (good(&few.1), good(&many.1));
    assert!(
        many_good.0 > few_good.0 && many_good.1 > few_good.1,
        "pulses and good parts: {few_good:?}, then {many_good:?}"
    );
    assert_eq!(few.0, many.0, "allocations");
}
