//! The Modbus map. Numbers leave the machine: only append, never change, never reuse. A test pins them.
//!
//! Holding registers below [`FIRST_OWN`] are the parameters', see [`TABLE`](super::super::table::TABLE).

use super::super::host::{GoodParts, Judging, Mode, SelfTest, Snapshot};
use super::super::shared::TeachReport;
use super::super::table::{Access, COUNT, Parameter, STEPS};
use crate::line::{Cause, DefectType, NetworkState, Outcome, Signal, Statistics};

/// Version of this map, which grows when something is added to it.
pub const VERSION: u16 = 6;

/// The first holding register that is no parameter's.
pub const FIRST_OWN: u16 = 200;

/// The value of a 16-bit register whose number does not exist, such as the score of a part that was not judged.
pub const NONE: u64 = 0xffff;
/// The same for 32 bits.
pub const NONE_LONG: u64 = 0xffff_ffff;

/// The state that registers are read from, at one moment.
#[derive(Debug)]
pub struct Picture<'a> {
    /// State of the station.
    pub snapshot: &'a Snapshot,
    /// Number of the recipe in use.
    pub recipe: u8,
    /// The threshold in force, in steps of 0.0001.
    pub threshold: u32,
    /// Code of the last write that was refused; 0 if there was none.
    pub refusal: u16,
    /// Whether this client has pending changes.
    pub pending: bool,
    /// Whether the stored settings have a fault.
    pub memory_fault: bool,
    /// The network that judges.
    pub judging: &'a Judging,
    /// The lesson that is going on, or waits to be accepted.
    pub teach: Option<&'a TeachReport>,
    /// Seconds that are left of a pause; 0 if there is none.
    pub pause: u64,
    /// Whether this client's adapter returns what the station sends.
    pub echoes: bool,
}

/// One, two or four input registers.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Address of the first register.
    pub register: u16,
    /// How many registers; the high word comes first.
    pub words: u16,
    /// Its name.
    pub name: &'static str,
    /// Unit; empty if it has none.
    pub unit: &'static str,
    /// Its meaning, in one line.
    pub help: &'static str,
    read: fn(&Picture<'_>) -> u64,
}

impl Input {
    /// Its value; the largest that fits if it is too large.
    fn number(&self, picture: &Picture<'_>) -> u64 {
        let largest = match self.words {
            1 => NONE,
            2 => NONE_LONG,
            _ => u64::MAX,
        };
        (self.read)(picture).min(largest)
    }
}

macro_rules! inputs {
    ($($register:literal $words:literal $name:literal $unit:literal $help:literal = $read:expr;)*) => {
        /// Every input register.
        pub const INPUTS: &[Input] = &[$(Input {
            register: $register,
            words: $words,
            name: $name,
            unit: $unit,
            help: $help,
            read: $read,
        },)*];
    };
}

/// A part of the version of this program.
fn version(part: usize) -> u64 {
    let mut parts = env!("CARGO_PKG_VERSION").split(['.', '-']);
    parts.nth(part).and_then(|p| p.parse().ok()).unwrap_or(0)
}

fn last_outcome(picture: &Picture<'_>) -> u64 {
    let last = picture.snapshot.last;
    last.map_or(0, |last| outcome_number(last.outcome))
}

/// What `last_outcome` reads after a part with this outcome.
pub fn outcome_number(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Good => 1,
        Outcome::Reject => 2,
        Outcome::RejectBecause(cause) => 10 + cause as u64,
    }
}

/// Steps of 0.0001, rounded down: the score of a good part never reads as one above the threshold.
fn steps(score: f32) -> u64 {
    match score.is_nan() {
        true => NONE,
        false => (f64::from(score) * f64::from(STEPS)) as u64,
    }
}

/// A part's score in steps: whoever compares it with the threshold comes to the verdict that was given. That of a reject
/// is rounded up, and always reads as one above the threshold.
fn judged(outcome: Outcome, score: f32) -> u64 {
    let down = steps(score);
    let whole = f64::from(score) * f64::from(STEPS) <= down as f64;
    down + u64::from(outcome == Outcome::Reject && down != NONE && !whole)
}

fn challenge(picture: &Picture<'_>) -> u64 {
    match picture.snapshot.challenge {
        None => 0,
        Some(report) if !report.is_over() => 1,
        Some(report) if report.passed() => 2,
        Some(_) => 3,
    }
}

fn self_test(picture: &Picture<'_>) -> u64 {
    match picture.snapshot.self_test {
        SelfTest::None => 0,
        SelfTest::Running => 1,
        SelfTest::Passed => 2,
        SelfTest::Failed(_) => 3,
    }
}

/// The last part's type.
fn last_type(picture: &Picture<'_>) -> u64 {
    match picture.snapshot.last.map(|l| l.defect) {
        None | Some(DefectType::None) => NONE,
        Some(DefectType::Unknown) => 0,
        Some(DefectType::Number(number)) => u64::from(number) + 1,
    }
}

/// Rejects of the type with this number, from 1.
macro_rules! of_type {
    ($number:literal) => {
        |p| p.snapshot.statistics.sorted.types[$number - 1]
    };
}

/// Rejects into a lane, from 1.
macro_rules! of_lane {
    ($number:literal) => {
        |p| p.snapshot.statistics.sorted.lanes[$number - 1]
    };
}

fn outputs(picture: &Picture<'_>) -> u64 {
    let bits = (0..8).map(|i| u64::from(DISCRETES[i].1(picture)) << i);
    bits.sum()
}

/// A number of the last challenge; 0 if there was none.
macro_rules! report {
    ($field:ident) => {
        |p| p.snapshot.challenge.map_or(0, |r| u64::from(r.$field))
    };
}

/// A latency; [`NONE_LONG`] if there is none.
fn latency(picture: &Picture<'_>, of: fn(&Statistics) -> Option<u64>) -> u64 {
    let statistics = &picture.snapshot.statistics;
    let some = (statistics.latency.count > 0).then(|| of(statistics));
    some.flatten().unwrap_or(NONE_LONG)
}

/// Rejects for a cause.
fn failed(picture: &Picture<'_>, cause: Cause) -> u64 {
    picture.snapshot.statistics.outcomes.failed[cause as usize]
}

/// Something of the lesson; 0 if there is none.
fn teach(picture: &Picture<'_>, of: fn(&TeachReport) -> u64) -> u64 {
    picture.teach.map_or(0, of)
}

/// 0 nothing, 1 good parts, 2 unusable and the line stops, 3 unusable and FAPrompt judges alone.
fn taught(picture: &Picture<'_>) -> u64 {
    match (picture.judging.state, goods(picture)) {
        (Some(NetworkState::Untaught), _) => 2,
        (Some(NetworkState::ZeroShot), _) => 3,
        (_, Some(_)) => 1,
        (_, None) => 0,
    }
}

fn goods<'a>(picture: &'a Picture<'_>) -> Option<&'a GoodParts> {
    picture.judging.network.as_ref()?.taught.as_ref()
}

/// A field of the statistics.
macro_rules! count {
    ($($field:ident).+) => { |p| p.snapshot.statistics.$($field).+ };
}

/// A counter of a camera, from 1.
macro_rules! count_of {
    ($camera:literal, $field:ident) => {
        |p| p.snapshot.statistics.views[$camera - 1].$field
    };
}

#[rustfmt::skip]
inputs! {
    0 1 "map_version" "" "Version of this map" = |_| u64::from(VERSION);
    1 1 "parameters" "" "Lines of the parameter table; lines are only added, so this is its version" = |_| COUNT as u64;
    2 1 "version_major" "" "First number of the program's version" = |_| version(0);
    3 1 "version_minor" "" "Its second number" = |_| version(1);
    4 1 "version_patch" "" "Its third number" = |_| version(2);
    5 1 "mode" "" "0 starting, 1 running, 2 disarmed, 3 stopped, 4 blind (camera down), 5 halted" = |p| p.snapshot.mode as u64;
    6 1 "recipe" "" "Recipe in use" = |p| u64::from(p.recipe);
    7 1 "self_test" "" "0 not asked for, 1 running, 2 passed, 3 failed" = self_test;
    8 1 "refusal" "" "Code of the last write that was refused with one (a wrong address has none), 0 if there was none: says more than the exception" = |p| u64::from(p.refusal);
    9 1 "outputs" "" "Discrete inputs 0 to 7 as bits" = outputs;
    10 2 "alarms" "" "Latched alarms, bit n for alarm n" = |p| u64::from(p.snapshot.alarms.bits());
    12 4 "last_part" "" "Number of the last part that got its outcome" = |p| p.snapshot.last.map_or(0, |l| l.part.0);
    16 1 "last_outcome" "" "0 no part yet, 1 good, 2 reject, 10 and above reject because: 10 camera fault, 11 inference error, 12 late, 13 queue full, 14 no frame, 15 unknown, 16 not ready, 17 challenge, 18 nothing visible, 19 frozen, 20 overload, 21 light" = last_outcome;
    17 1 "last_score" "0.0001" "Its score, of a reject rounded up, else down; 65535 if it was not judged" = |p| p.snapshot.last.and_then(|l| Some(judged(l.outcome, l.score?))).unwrap_or(NONE);
    18 2 "last_latency" "us" "From its trigger to its verdict; 4294967295 if it was not judged" = |p| p.snapshot.last.and_then(|l| l.latency_us).unwrap_or(NONE_LONG);
    20 1 "challenge" "" "0 none, 1 running, 2 passed, 3 failed" = challenge;
    21 1 "challenge_pieces" "" "Test pieces of the challenge that runs, or the last one" = report!(pieces);
    22 1 "challenge_detected" "" "Rejected by their verdict" = report!(detected);
    23 1 "challenge_missed" "" "Called good" = report!(missed);
    24 1 "challenge_not_judged" "" "Without a verdict in time" = report!(not_judged);
    25 1 "threshold" "0.0001" "Threshold in force" = |p| u64::from(p.threshold);
    26 2 "latency_min" "us" "Shortest time from trigger to verdict; of all four, 4294967295 if there is none" = |p| latency(p, |s| Some(s.latency.min_us));
    28 2 "latency_mean" "us" "Its mean" = |p| latency(p, |s| s.latency.mean_us());
    30 2 "latency_p99" "us" "What 99 % do not exceed, at most 12.5 % too high" = |p| latency(p, |s| s.latency.percentile_us(99));
    32 2 "latency_max" "us" "The longest" = |p| latency(p, |s| Some(s.latency.max_us));
    34 1 "last_type" "" "The last part's type of defect, counted from 1 in its bundle's order; 0 unknown, 65535 none: good, not judged, or a bundle without types" = last_type;
    35 1 "last_type_share" "0.0001" "Share of that type among all types; 65535 if it is unknown or there is none" = |p| p.snapshot.last.and_then(|l| l.share).map_or(NONE, steps);
    36 1 "last_lane" "" "The lane that its reject started in; 0 none" = |p| p.snapshot.last.and_then(|l| l.lane).map_or(0, |l| u64::from(l.get()));
    37 1 "teach_state" "" "The lesson: 0 none, 1 running, 2 preparing, 3 done (look at it, accept or cancel), 4 failed" = |p| teach(p, |t| t.lesson.state as u64);
    38 1 "teach_taken" "" "Good parts that it has" = |p| teach(p, |t| t.lesson.parts as u64);
    39 1 "teach_wanted" "" "Good parts that it is to have" = |p| teach(p, |t| t.lesson.wanted as u64);
    40 1 "teach_bound" "1/1000" "Good parts of 1000 that will be rejected at most (95 %) if it is accepted; 65535 if nothing is promised" = |p| p.teach.and_then(TeachReport::promise).map_or(NONE, |b| b.per_mille().into());
    41 1 "teach_odd" "" "Odd parts among them" = |p| teach(p, |t| t.result().map_or(0, |r| r.odd().count() as u64));
    42 1 "teach_oddest" "" "Number of the oddest part, for teach_number; 0 if none is odd" = |p| teach(p, |t| t.result().and_then(|r| r.odd().next()).map_or(0, |o| o.number as u64));
    43 1 "taught" "" "What judges: 0 FAPrompt alone, 1 with good parts, 2 what was taught is unusable and the line stops, 3 unusable and FAPrompt judges alone" = taught;
    44 1 "taught_parts" "" "Good parts that are compared with" = |p| goods(p).map_or(0, |g| g.parts as u64);
    45 1 "taught_bound" "1/1000" "Good parts of 1000 that will be rejected at most (95 %) at the limit of 0.5; 65535 if nothing is promised" = |p| goods(p).and_then(|g| g.bound_per_mille).map_or(NONE, u64::from);
    46 1 "pause_left" "s" "How long the pause still lasts; 0 if there is none" = |p| p.pause;
    47 1 "cameras" "" "Cameras on the trigger" = |p| p.snapshot.cameras as u64;
    48 1 "cameras_down" "" "Those that are down, bit n for camera n + 1" = |p| (0..).zip(p.snapshot.down).map(|(n, down)| u64::from(down) << n).sum();
    49 1 "last_camera" "" "The camera whose score last_score is; 0 no part yet" = |p| p.snapshot.last.map_or(0, |l| l.view.number().into());
    100 4 "parts" "" "All parts" = count!(outcomes.parts);
    104 4 "good" "" "Good ones" = count!(outcomes.good);
    108 4 "rejects" "" "Rejects by score" = count!(outcomes.rejects);
    112 4 "rejects_camera_fault" "" "Rejects because there was no usable frame" = |p| failed(p, Cause::CameraFault);
    116 4 "rejects_inference_error" "" "Rejects because the network failed" = |p| failed(p, Cause::InferenceError);
    120 4 "rejects_late" "" "Rejects because the verdict came late or never" = |p| failed(p, Cause::Late);
    124 4 "rejects_queue_full" "" "Rejects because too many parts were on the belt" = |p| failed(p, Cause::QueueFull);
    128 4 "rejects_no_frame" "" "Rejects because no frame of the part came" = |p| failed(p, Cause::NoFrame);
    132 4 "rejects_unknown" "" "Rejects because which part it is cannot be told" = |p| failed(p, Cause::Unknown);
    136 4 "rejects_not_ready" "" "Rejects because the station was not inspecting" = |p| failed(p, Cause::NotReady);
    140 4 "rejects_challenge" "" "Test pieces that were called good" = |p| failed(p, Cause::Challenge);
    144 4 "next_part" "" "Number that the next part gets" = |p| p.snapshot.statistics.next_part.0;
    148 4 "triggers_bounced" "" "Bounces: no part" = count!(triggers.bounced);
    152 4 "triggers_too_close" "" "Parts too close to the one before" = count!(triggers.too_close);
    156 4 "triggers_unpaired" "" "Parts of which no frame came" = count!(triggers.unpaired);
    160 4 "triggers_unexpected" "" "Triggers from outside although the station gives its own" = count!(triggers.unexpected);
    164 4 "triggers_skipped" "" "Intervals and pitches that could not be triggered in time" = count!(triggers.skipped);
    168 4 "frames_paired" "" "Frames that found their part" = count!(frames.paired);
    172 4 "frames_damaged" "" "Frames that found it and are damaged" = count!(frames.damaged);
    176 4 "frames_unpaired" "" "Frames that found no part" = count!(frames.unpaired);
    180 4 "frames_ignored" "" "Frames while the station was not inspecting" = count!(frames.ignored);
    184 4 "verdicts_taken" "" "Verdicts in time" = count!(verdicts.taken);
    188 4 "verdicts_late" "" "Verdicts after the deadline" = count!(verdicts.late);
    192 4 "verdicts_duplicate" "" "Verdicts for a part that had one" = count!(verdicts.duplicate);
    196 4 "verdicts_unknown" "" "Verdicts for no part" = count!(verdicts.unknown);
    200 4 "verdicts_ignored" "" "Verdicts for a part whose reject was certain already" = count!(verdicts.ignored);
    204 4 "rejects_confirmed" "" "Rejects seen in the bin" = count!(confirms.confirmed);
    208 4 "rejects_unconfirmed" "" "Rejects not seen there" = count!(confirms.missing);
    212 4 "confirms_unexpected" "" "Parts seen there that should not be" = count!(confirms.unexpected);
    216 4 "encoder_reversals" "" "Times that the encoder stood before where it had been" = count!(encoder_reversals);
    220 4 "actuated_late" "" "Parts for which the reject started when they had passed" = count!(actuated_late);
    224 4 "rejects_nothing_visible" "" "Rejects because nothing could be seen on the frame" = |p| failed(p, Cause::NothingVisible);
    228 4 "rejects_frozen" "" "Rejects because the frame was the one before it once more" = |p| failed(p, Cause::Frozen);
    232 4 "rejects_overload" "" "Rejects because the network was still busy: it is slower than the line" = |p| failed(p, Cause::Overload);
    236 4 "rejects_lane_1" "" "Rejects that started in lane 1" = of_lane!(1);
    240 4 "rejects_lane_2" "" "Rejects that started in lane 2" = of_lane!(2);
    244 4 "rejects_lane_3" "" "Rejects that started in lane 3" = of_lane!(3);
    248 4 "rejects_lane_4" "" "Rejects that started in lane 4" = of_lane!(4);
    252 4 "rejects_lane_5" "" "Rejects that started in lane 5" = of_lane!(5);
    256 4 "rejects_lane_6" "" "Rejects that started in lane 6" = of_lane!(6);
    260 4 "rejects_lane_7" "" "Rejects that started in lane 7" = of_lane!(7);
    264 4 "rejects_lane_8" "" "Rejects that started in lane 8" = of_lane!(8);
    268 4 "rejects_type_unknown" "" "Rejects by score whose type is unknown" = count!(sorted.unknown);
    272 4 "rejects_type_1" "" "Rejects by score of the bundle's type 1" = of_type!(1);
    276 4 "rejects_type_2" "" "Rejects by score of the bundle's type 2" = of_type!(2);
    280 4 "rejects_type_3" "" "Rejects by score of the bundle's type 3" = of_type!(3);
    284 4 "rejects_type_4" "" "Rejects by score of the bundle's type 4" = of_type!(4);
    288 4 "rejects_type_5" "" "Rejects by score of the bundle's type 5" = of_type!(5);
    292 4 "rejects_type_6" "" "Rejects by score of the bundle's type 6" = of_type!(6);
    296 4 "rejects_type_7" "" "Rejects by score of the bundle's type 7" = of_type!(7);
    300 4 "rejects_type_8" "" "Rejects by score of the bundle's type 8" = of_type!(8);
    304 4 "rejects_type_9" "" "Rejects by score of the bundle's type 9" = of_type!(9);
    308 4 "rejects_type_10" "" "Rejects by score of the bundle's type 10" = of_type!(10);
    312 4 "rejects_type_11" "" "Rejects by score of the bundle's type 11" = of_type!(11);
    316 4 "rejects_type_12" "" "Rejects by score of the bundle's type 12" = of_type!(12);
    320 4 "rejects_type_13" "" "Rejects by score of the bundle's type 13" = of_type!(13);
    324 4 "rejects_type_14" "" "Rejects by score of the bundle's type 14" = of_type!(14);
    328 4 "rejects_type_15" "" "Rejects by score of the bundle's type 15" = of_type!(15);
    332 4 "rejects_type_16" "" "Rejects by score of the bundle's type 16" = of_type!(16);
    336 4 "rejects_type_17" "" "Rejects by score of the bundle's type 17" = of_type!(17);
    340 4 "rejects_type_18" "" "Rejects by score of the bundle's type 18" = of_type!(18);
    344 4 "rejects_type_19" "" "Rejects by score of the bundle's type 19" = of_type!(19);
    348 4 "rejects_type_20" "" "Rejects by score of the bundle's type 20" = of_type!(20);
    352 4 "rejects_type_21" "" "Rejects by score of the bundle's type 21" = of_type!(21);
    356 4 "rejects_type_22" "" "Rejects by score of the bundle's type 22" = of_type!(22);
    360 4 "rejects_type_23" "" "Rejects by score of the bundle's type 23" = of_type!(23);
    364 4 "rejects_type_24" "" "Rejects by score of the bundle's type 24" = of_type!(24);
    368 4 "rejects_type_25" "" "Rejects by score of the bundle's type 25" = of_type!(25);
    372 4 "rejects_type_26" "" "Rejects by score of the bundle's type 26" = of_type!(26);
    376 4 "rejects_type_27" "" "Rejects by score of the bundle's type 27" = of_type!(27);
    380 4 "rejects_type_28" "" "Rejects by score of the bundle's type 28" = of_type!(28);
    384 4 "rejects_type_29" "" "Rejects by score of the bundle's type 29" = of_type!(29);
    388 4 "rejects_type_30" "" "Rejects by score of the bundle's type 30" = of_type!(30);
    392 4 "rejects_type_31" "" "Rejects by score of the bundle's type 31" = of_type!(31);
    396 4 "rejects_type_32" "" "Rejects by score of the bundle's type 32" = of_type!(32);
    400 4 "rejects_light" "" "Rejects because the light was not the taught one" = |p| failed(p, Cause::Light);
    404 4 "camera1_good" "" "Views of camera 1 that are good by their score" = count_of!(1, good);
    408 4 "camera1_rejects" "" "Views of camera 1 that their score rejects" = count_of!(1, rejects);
    412 4 "camera1_errors" "" "Views of camera 1 that the network failed on" = count_of!(1, errors);
    416 4 "camera1_damaged" "" "Views of camera 1 whose frame could not be judged" = count_of!(1, damaged);
    420 4 "camera1_missing" "" "Views of camera 1 of which no frame came" = count_of!(1, missing);
    424 4 "camera1_late" "" "Views of camera 1 without a verdict in time" = count_of!(1, late);
    428 4 "camera2_good" "" "Views of camera 2 that are good by their score" = count_of!(2, good);
    432 4 "camera2_rejects" "" "Views of camera 2 that their score rejects" = count_of!(2, rejects);
    436 4 "camera2_errors" "" "Views of camera 2 that the network failed on" = count_of!(2, errors);
    440 4 "camera2_damaged" "" "Views of camera 2 whose frame could not be judged" = count_of!(2, damaged);
    444 4 "camera2_missing" "" "Views of camera 2 of which no frame came" = count_of!(2, missing);
    448 4 "camera2_late" "" "Views of camera 2 without a verdict in time" = count_of!(2, late);
    452 4 "camera3_good" "" "Views of camera 3 that are good by their score" = count_of!(3, good);
    456 4 "camera3_rejects" "" "Views of camera 3 that their score rejects" = count_of!(3, rejects);
    460 4 "camera3_errors" "" "Views of camera 3 that the network failed on" = count_of!(3, errors);
    464 4 "camera3_damaged" "" "Views of camera 3 whose frame could not be judged" = count_of!(3, damaged);
    468 4 "camera3_missing" "" "Views of camera 3 of which no frame came" = count_of!(3, missing);
    472 4 "camera3_late" "" "Views of camera 3 without a verdict in time" = count_of!(3, late);
    476 4 "camera4_good" "" "Views of camera 4 that are good by their score" = count_of!(4, good);
    480 4 "camera4_rejects" "" "Views of camera 4 that their score rejects" = count_of!(4, rejects);
    484 4 "camera4_errors" "" "Views of camera 4 that the network failed on" = count_of!(4, errors);
    488 4 "camera4_damaged" "" "Views of camera 4 whose frame could not be judged" = count_of!(4, damaged);
    492 4 "camera4_missing" "" "Views of camera 4 of which no frame came" = count_of!(4, missing);
    496 4 "camera4_late" "" "Views of camera 4 without a verdict in time" = count_of!(4, late);
    500 4 "result_lines_lost" "" "Lines of results and events that could not be kept since the program's start" = |p| p.snapshot.lost.lines;
    504 4 "pictures_lost" "" "Pictures that could not be kept since the program's start" = |p| p.snapshot.lost.pictures;
}

/// A discrete input: its name, its state and its meaning; its number is its index.
pub type Discrete = (&'static str, fn(&Picture<'_>) -> bool, &'static str);

/// Every discrete input. The first eight are the outputs by their [`Signal`].
#[rustfmt::skip]
pub const DISCRETES: &[Discrete] = &[
    ("good", |p| p.snapshot.outputs.good, "Output good: a part known to be good passes"),
    ("reject", |p| p.snapshot.outputs.reject, "Output reject: a part to be rejected passes"),
    ("ready", |p| p.snapshot.outputs.ready, "Output ready: the station inspects"),
    ("busy", |p| p.snapshot.outputs.busy, "Output busy: a part waits for its frame or verdict"),
    ("result", |p| p.snapshot.outputs.result, "Output result: the last verdict was good, and every part since busy came on"),
    ("fault", |p| p.snapshot.outputs.fault || p.memory_fault, "Output fault: an alarm is latched, the camera is down, or the memory has a fault"),
    ("line_stop", |p| p.snapshot.outputs.line_stop, "Output line stop: the belt must stop"),
    ("strobe", |p| p.snapshot.outputs.strobe, "Output strobe: light or camera trigger"),
    ("changes_pending", |p| p.pending, "Holding registers were written and neither committed nor reverted"),
    ("memory_fault", |p| p.memory_fault, "A damaged file was found at the start, or the memory cannot be written"),
    ("echo", |p| p.echoes, "The adapter gives back what this station sends: it is taken off, and obeyed by nobody"),
    ("lane_1", |p| p.snapshot.outputs.get(Signal::Lane1), "Output lane 1: a part passes that is rejected into lane 1"),
    ("lane_2", |p| p.snapshot.outputs.get(Signal::Lane2), "Output lane 2: a part passes that is rejected into lane 2"),
    ("lane_3", |p| p.snapshot.outputs.get(Signal::Lane3), "Output lane 3: a part passes that is rejected into lane 3"),
    ("lane_4", |p| p.snapshot.outputs.get(Signal::Lane4), "Output lane 4: a part passes that is rejected into lane 4"),
    ("lane_5", |p| p.snapshot.outputs.get(Signal::Lane5), "Output lane 5: a part passes that is rejected into lane 5"),
    ("lane_6", |p| p.snapshot.outputs.get(Signal::Lane6), "Output lane 6: a part passes that is rejected into lane 6"),
    ("lane_7", |p| p.snapshot.outputs.get(Signal::Lane7), "Output lane 7: a part passes that is rejected into lane 7"),
    ("lane_8", |p| p.snapshot.outputs.get(Signal::Lane8), "Output lane 8: a part passes that is rejected into lane 8"),
];

/// Holding registers besides the parameters. Numbers leave the machine: only append.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// The recipe in use; writing another number changes over at once.
    Recipe = FIRST_OWN,
    /// Test pieces of the next challenge.
    ChallengePieces = 201,
    /// Good parts of the next lesson.
    TeachParts = 202,
    /// Number of the part of the lesson that is meant.
    TeachNumber = 203,
    /// The order about a lesson.
    TeachCommand = 204,
    /// Minutes of the next pause.
    PauseMinutes = 205,
}

/// All of them.
pub const OWN: [Own; 6] = [
    Own::Recipe,
    Own::ChallengePieces,
    Own::TeachParts,
    Own::TeachNumber,
    Own::TeachCommand,
    Own::PauseMinutes,
];

impl Own {
    /// Its name, range, default, level and meaning.
    pub const fn text(
        self,
    ) -> (
        &'static str,
        &'static str,
        &'static str,
        Access,
        &'static str,
    ) {
        match self {
            Own::Recipe => (
                "recipe",
                "1..32",
                "1",
                Access::Operator,
                "Recipe in use; another number changes over at once, without COMMIT",
            ),
            Own::ChallengePieces => (
                "challenge_pieces",
                "1..255",
                "5",
                Access::View,
                "Test pieces of the next challenge; kept until the program ends",
            ),
            Own::TeachParts => (
                "teach_parts",
                "1..1000",
                "50",
                Access::View,
                "Good parts of the next lesson, or how many more; kept until the program ends",
            ),
            Own::TeachNumber => (
                "teach_number",
                "0..1000",
                "0",
                Access::View,
                "Which part of the lesson is to be dropped; kept until the program ends",
            ),
            Own::TeachCommand => (
                "teach_command",
                "0..7",
                "0",
                Access::Operator,
                "Does at once, without COMMIT: 1 teach, 2 add parts, 3 drop part teach_number, 4 accept, 5 cancel, 6 the last reject was good, 7 the last good part was bad; reads 0",
            ),
            Own::PauseMinutes => (
                "pause_minutes",
                "1..480",
                "5",
                Access::View,
                "How long the next pause lasts; kept until the program ends",
            ),
        }
    }
}

/// A coil. Numbers leave the machine: only append.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coil {
    /// Arm and disarm.
    Run = 0,
    /// Give one trigger.
    Trigger = 1,
    /// Acknowledge alarms.
    Acknowledge = 2,
    /// Set the counters to zero.
    ResetCounters = 3,
    /// Put pending changes into force.
    Commit = 4,
    /// Drop pending changes.
    Revert = 5,
    /// Start a challenge.
    Challenge = 6,
    /// Start the self-test.
    SelfTest = 7,
    /// Start the program again.
    Reboot = 8,
    /// Set since the program started.
    PowerOn = 9,
    /// Pause, or end this client's pause.
    Pause = 10,
}

/// Every coil, by number.
pub const COILS: [Coil; 11] = [
    Coil::Run,
    Coil::Trigger,
    Coil::Acknowledge,
    Coil::ResetCounters,
    Coil::Commit,
    Coil::Revert,
    Coil::Challenge,
    Coil::SelfTest,
    Coil::Reboot,
    Coil::PowerOn,
    Coil::Pause,
];

impl Coil {
    /// The coil with this number.
    pub fn at(address: u16) -> Option<Coil> {
        COILS.get(usize::from(address)).copied()
    }

    /// Its name, level and meaning.
    #[rustfmt::skip]
    pub const fn text(self) -> (&'static str, Access, &'static str) {
        match self {
            Coil::Run => ("run", Access::Operator, "1 arms, 0 disarms; reads 1 unless disarmed; a pause is no disarming"),
            Coil::Trigger => ("trigger", Access::Operator, "1 triggers one part, with trigger source command"),
            Coil::Acknowledge => ("acknowledge", Access::Operator, "1 clears latched alarms, ends a stop"),
            Coil::ResetCounters => ("reset_counters", Access::Operator, "1 sets all counters to zero"),
            Coil::Commit => ("commit", Access::View, "1 brings pending changes into force, all or none; stored when answered"),
            Coil::Revert => ("revert", Access::View, "1 drops pending changes"),
            Coil::Challenge => ("challenge", Access::Operator, "1 starts a challenge of as many test pieces as holding register 201 says"),
            Coil::SelfTest => ("self_test", Access::Operator, "1 starts the self-test"),
            Coil::Reboot => ("reboot", Access::Engineer, "1 ends in an orderly way and starts again"),
            Coil::PowerOn => ("power_on", Access::View, "Reads 1 from the start of the program until 0 is written; writing 1 does nothing"),
            Coil::Pause => ("pause", Access::Operator, "1 pauses for as many minutes as holding register 205 says, 0 ends a pause that began over Modbus; reads 1 while a pause lasts"),
        }
    }

    /// Whether it reads as on. A coil that only gives an order never does.
    pub fn is_on(self, mode: Mode, paused: bool, power_on: bool) -> bool {
        match self {
            Coil::Run => mode != Mode::Disarmed || paused,
            Coil::Pause => paused,
            Coil::PowerOn => power_on,
            _ => false,
        }
    }
}

/// The word in an input register; `None` if there is no such register.
pub fn input(register: u16, picture: &Picture<'_>) -> Option<u16> {
    let found = INPUTS.iter().rev().find(|i| i.register <= register)?;
    let place = register - found.register;
    let after = found.words.checked_sub(place + 1)?;
    Some(word(found.number(picture), after))
}

/// The word of a number that has `after` words after it.
pub fn word(number: u64, after: u16) -> u16 {
    (number >> (16 * after)) as u16
}

/// The parameter whose first or only register this is, and how many it has.
pub fn parameter(register: u16) -> Option<(Parameter, u16)> {
    let (parameter, place) = Parameter::at(register)?;
    let registers = parameter.entry().register?;
    (place == 0).then_some((parameter, registers.count()))
}

#[cfg(test)]
mod tests;
