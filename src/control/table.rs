//! Every parameter of the station, once: from here come the command set, the Modbus map, the TOML file,
//! the range checks and the documents. Adding a parameter is one entry.
//!
//! Names, choices' numbers and registers leave the machine: only append, never change, never reuse. A
//! test pins them.

/// Who may change a parameter or give an order; each level includes those before it. Numbers leave the
/// machine: only append.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// May look at everything.
    View = 0,
    /// Runs the line: changes recipes, teaches, acknowledges alarms.
    Operator = 1,
    /// Sets the station up.
    Engineer = 2,
}

/// Every level, by number.
pub const LEVELS: [Access; 3] = [Access::View, Access::Operator, Access::Engineer];

impl Access {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Access::View => "view",
            Access::Operator => "operator",
            Access::Engineer => "engineer",
        }
    }
}

/// Whether a parameter belongs to the station or to its recipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// It has one value for the station.
    Station,
    /// It has a value in each recipe.
    Recipe,
}

impl Scope {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Station => "station",
            Scope::Recipe => "recipe",
        }
    }
}

/// When a committed change takes effect, from the mildest to the hardest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// At once.
    AtOnce,
    /// With the next part that is judged.
    NextPart,
    /// At once, and the belt is cleared: parts that are on it are rejected.
    BeltCleared,
    /// When the program starts again (`REBOOT`).
    Restart,
    /// At once; parts that are on the belt are rejected, and where they are nobody knows: the line stops until `ACK`.
    LineStops,
}

impl Effect {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Effect::AtOnce => "at once",
            Effect::NextPart => "next part",
            Effect::BeltCleared => "belt is cleared",
            Effect::Restart => "restart",
            Effect::LineStops => "belt is cleared and the line stops until ACK",
        }
    }
}

/// Steps of a decimal per unit: 0.0001.
pub const STEPS: u32 = 10_000;

/// The values that a parameter can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Number {
        /// Smallest value that is allowed.
        low: u32,
        /// Largest value that is allowed.
        high: u32,
        /// Meaning of 0, if it is allowed besides the range.
        zero: Option<&'static str>,
    },
    /// A number in steps of 0.0001; the bounds count steps.
    Decimal {
        /// Smallest value that is allowed, steps of 0.0001.
        low: u32,
        /// Largest value that is allowed, steps of 0.0001.
        high: u32,
    },
    /// One of these words; a word's index is its number.
    Choice(&'static [&'static str]),
    /// A number whose bits are switches; the mask has those that may be set.
    Bits(u32),
    /// Printable ASCII without quotes, at most this many characters.
    Text(usize),
    /// A password, stored as its hash; the text is never shown.
    Secret,
}

/// The default of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// A number, the steps of a decimal, or the number of a choice.
    Number(u32),
    /// A text; for a secret the empty one, which means no password.
    Text(&'static str),
}

/// The place of a parameter among Modbus holding registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// One register.
    One(u16),
    /// Two, the high word first.
    Two(u16),
}

impl Register {
    /// Address of the first register, counted from 0.
    pub const fn address(self) -> u16 {
        match self {
            Register::One(address) | Register::Two(address) => address,
        }
    }

    /// How many registers there are.
    pub const fn count(self) -> u16 {
        match self {
            Register::One(_) => 1,
            Register::Two(_) => 2,
        }
    }
}

/// An entry of the parameter table.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The parameter.
    pub parameter: Parameter,
    /// Its name everywhere: lower case letters, digits, `_`.
    pub name: &'static str,
    /// Unit; empty if it has none.
    pub unit: &'static str,
    /// The values that it can have.
    pub kind: Kind,
    /// Its value unless another is set.
    pub default: Preset,
    /// The level that may change it.
    pub access: Access,
    /// Whether it belongs to the station or to its recipes.
    pub scope: Scope,
    /// When a change takes effect.
    pub effect: Effect,
    /// Its Modbus register. Texts and secrets have none.
    pub register: Option<Register>,
    /// Its meaning, in one line.
    pub help: &'static str,
}

macro_rules! parameters {
    ($($parameter:ident: $name:literal, $unit:literal, $kind:expr, $default:expr, $access:ident, $scope:ident,
       $effect:ident, $register:expr, $help:literal;)*) => {
        /// A parameter; its number is its place in [`TABLE`].
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Parameter {
            $(#[doc = $help] $parameter,)*
        }

        /// Every parameter, in the order in which it is shown.
        pub const TABLE: &[Entry] = &[$(Entry {
            parameter: Parameter::$parameter,
            name: $name,
            unit: $unit,
            kind: $kind,
            default: $default,
            access: Access::$access,
            scope: Scope::$scope,
            effect: Effect::$effect,
            register: $register,
            help: $help,
        },)*];
    };
}

use Kind::{Bits, Choice, Secret, Text};
use Preset::{Number as n, Text as t};

/// A whole number from `low` to `high`.
const fn range(low: u32, high: u32) -> Kind {
    let zero = None;
    Kind::Number { low, high, zero }
}

/// A whole number from `low` to `high`, or 0, which means `zero`.
const fn or_zero(zero: &'static str, low: u32, high: u32) -> Kind {
    let zero = Some(zero);
    Kind::Number { low, high, zero }
}

/// A decimal from `low` to `high` steps of 0.0001.
const fn steps(low: u32, high: u32) -> Kind {
    Kind::Decimal { low, high }
}

/// One register.
const fn one(address: u16) -> Option<Register> {
    Some(Register::One(address))
}

/// Two registers.
const fn two(address: u16) -> Option<Register> {
    Some(Register::Two(address))
}

const SWITCH: Kind = Choice(&["off", "on"]);
const BAUD: Kind = Choice(&[
    "9600", "19200", "38400", "57600", "115200", "230400", "460800", "921600",
]);

/// Every [`Alarm`](crate::line::Alarm), bit n the one with number n. A register has 16 bits, so that two parameters say
/// which of them stop the line.
const ALARM_BITS: u32 = crate::line::AlarmSet::of(&crate::line::alarms::ALARMS).bits();

// The ranges of what the line core is given are its own; a test holds them together.
#[rustfmt::skip]
parameters! {
    // Recipe: registers 0..=99.
    RecipeName: "recipe_name", "", Text(32), t(""), Engineer, Recipe, AtOnce, None,
        "Name of the recipe, by which RECIPE finds it too";
    Bundle: "bundle", "", Text(96), t(""), Engineer, Recipe, BeltCleared, None,
        "Path of the recipe's bundle; empty: the one that the station was started with";
    Threshold: "threshold", "", steps(0, STEPS), n(5000), Operator, Recipe, NextPart, one(0),
        "Scores above it are rejects";
    TriggerIntervalMs: "trigger_interval_ms", "ms", range(1, 60_000), n(500), Engineer, Recipe, BeltCleared, one(1),
        "Time between triggers, with trigger source interval";
    TriggerPitch: "trigger_pitch", "counts", range(1, 1_000_000), n(1000), Engineer, Recipe, BeltCleared, two(2),
        "Belt between triggers, with trigger source encoder";
    ExposureDelayUs: "exposure_delay_us", "us", range(0, 1_000_000), n(1000), Engineer, Recipe, BeltCleared, two(4),
        "From the trigger to the exposure of its frame";
    PairingWindowUs: "pairing_window_us", "us", range(1, 1_000_000), n(5000), Engineer, Recipe, BeltCleared, two(6),
        "How far from there the exposure may lie, either way; the spacing must exceed twice as much";
    PartSpacingUs: "part_spacing_us", "us", range(1, 60_000_000), n(20_000), Engineer, Recipe, BeltCleared, two(8),
        "Least time between two parts; closer ones cannot be told apart and are rejected";
    PulseWidthMs: "pulse_width_ms", "ms", range(1, 10_000), n(40), Engineer, Recipe, BeltCleared, one(10),
        "How long the output is active for one part";
    CameraExposureUs: "camera_exposure_us", "us", or_zero("leave", 1, 1_000_000), n(0), Engineer, Recipe, NextPart, two(11),
        "Exposure time of the camera; 0: as the board file or the driver has it";
    CameraGain: "camera_gain", "", or_zero("leave", 1, 65_535), n(0), Engineer, Recipe, NextPart, one(13),
        "Gain of the camera, in its driver's unit; 0: as the board file or the driver has it";
    StrobeUs: "strobe_us", "us", or_zero("off", 10, 1_000_000), n(0), Engineer, Recipe, BeltCleared, two(14),
        "How long the strobe output is on after a trigger; 0: never";
    Taught: "taught", "", Text(96), t(""), Engineer, Recipe, BeltCleared, None,
        "Good parts that parts are compared with: TEACH sets it; or a file's path; empty: FAPrompt alone";
    TaughtUnusable: "taught_unusable", "", Choice(&["stop", "zero_shot"]), n(0), Engineer, Recipe, BeltCleared, one(16),
        "If what was taught cannot be used (alarm 18): the line stops, or FAPrompt judges alone";
    TileRows: "tile_rows", "", range(1, 8), n(1), Engineer, Recipe, BeltCleared, one(17),
        "Rows of tiles that a frame is cut into, each encoded at full size: small defects, long parts";
    TileColumns: "tile_columns", "", range(1, 8), n(1), Engineer, Recipe, BeltCleared, one(18),
        "Columns of tiles; judging takes rows x columns times as long";
    TileOverlap: "tile_overlap", "%", range(0, 50), n(10), Engineer, Recipe, BeltCleared, one(19),
        "How far neighbouring tiles lie over each other, of a tile's side";
    Regions: "regions", "", Text(96), t(""), Engineer, Recipe, BeltCleared, None,
        "Path of a file of regions, with threshold offsets; empty: all of the frame is looked at";
    Lanes: "lanes", "", Text(160), t(""), Engineer, Recipe, NextPart, None,
        "Lanes of types of defects: TYPE=LANE, with commas between them; all others go to default_lane";
    TypeThresholds: "type_thresholds", "", Text(160), t(""), Engineer, Recipe, NextPart, None,
        "Thresholds of types of defects, TYPE=THRESHOLD with commas; all others go by threshold";
    DefaultLane: "default_lane", "", or_zero("none", 1, 8), n(0), Engineer, Recipe, BeltCleared, one(20),
        "Lane of rejects that have none of their own; 0: no lane output is on for them";
    TypeMargin: "type_margin", "", steps(0, STEPS), n(1000), Engineer, Recipe, NextPart, one(21),
        "A part's type is unknown unless its share exceeds the next one's by so much";
    TeachRotations: "teach_rotations", "", range(1, 36), n(1), Engineer, Recipe, AtOnce, one(22),
        "Directions, evenly over a full turn, in which TEACH learns each part; 1: only as it lies";
    TeachBrightness: "teach_brightness", "%", or_zero("off", 1, 50), n(0), Engineer, Recipe, AtOnce, one(23),
        "By how much TEACH learns each part darker and brighter too; 0: not";

    // The further cameras, where there are some.
    Camera2Threshold: "camera2_threshold", "", steps(0, STEPS), n(5000), Operator, Recipe, NextPart, one(24),
        "Scores of camera 2's view above it are rejects, where there are several cameras";
    Camera2ExposureUs: "camera2_exposure_us", "us", or_zero("leave", 1, 1_000_000), n(0), Engineer, Recipe, NextPart, two(25),
        "Exposure time of camera 2; 0: as the board file or the driver has it";
    Camera2Gain: "camera2_gain", "", or_zero("leave", 1, 65_535), n(0), Engineer, Recipe, NextPart, one(27),
        "Gain of camera 2, in its driver's unit; 0: as the board file or the driver has it";
    Camera2Taught: "camera2_taught", "", Text(96), t(""), Engineer, Recipe, BeltCleared, None,
        "A file of good parts that camera 2's views are compared with; empty: FAPrompt alone";
    Camera2Regions: "camera2_regions", "", Text(96), t(""), Engineer, Recipe, BeltCleared, None,
        "Path of a file of regions of camera 2's view; empty: all of it is looked at";
    Camera3Threshold: "camera3_threshold", "", steps(0, STEPS), n(5000), Operator, Recipe, NextPart, one(28),
        "Scores of camera 3's view above it are rejects, where there are several cameras";
    Camera3ExposureUs: "camera3_exposure_us", "us", or_zero("leave", 1, 1_000_000), n(0), Engineer, Recipe, NextPart, two(29),
        "Exposure time of camera 3; 0: as the board file or the driver has it";
    Camera3Gain: "camera3_gain", "", or_zero("leave", 1, 65_535), n(0), Engineer, Recipe, NextPart, one(31),
        "Gain of camera 3, in its driver's unit; 0: as the board file or the driver has it";
    Camera3Taught: "camera3_taught", "", Text(96), t(""), Engineer, Recipe, BeltCleared, None,
        "A file of good parts that camera 3's views are compared with; empty: FAPrompt alone";
    Camera3Regions: "camera3_regions", "", Text(96), t(""), Engineer, Recipe, BeltCleared, None,
        "Path of a file of regions of camera 3's view; empty: all of it is looked at";
    Camera4Threshold: "camera4_threshold", "", steps(0, STEPS), n(5000), Operator, Recipe, NextPart, one(32),
        "Scores of camera 4's view above it are rejects, where there are several cameras";
    Camera4ExposureUs: "camera4_exposure_us", "us", or_zero("leave", 1, 1_000_000), n(0), Engineer, Recipe, NextPart, two(33),
        "Exposure time of camera 4; 0: as the board file or the driver has it";
    Camera4Gain: "camera4_gain", "", or_zero("leave", 1, 65_535), n(0), Engineer, Recipe, NextPart, one(35),
        "Gain of camera 4, in its driver's unit; 0: as the board file or the driver has it";
    Camera4Taught: "camera4_taught", "", Text(96), t(""), Engineer, Recipe, BeltCleared, None,
        "A file of good parts that camera 4's views are compared with; empty: FAPrompt alone";
    Camera4Regions: "camera4_regions", "", Text(96), t(""), Engineer, Recipe, BeltCleared, None,
        "Path of a file of regions of camera 4's view; empty: all of it is looked at";

    // Station: registers 100..=199.
    StationName: "station_name", "", Text(32), t("station"), Engineer, Station, AtOnce, None,
        "Name of the station, reported by IDN";
    TriggerSource: "trigger_source", "", Choice(&["free_run", "interval", "edge", "encoder", "command"]), n(0),
        Engineer, Station, BeltCleared, one(100),
        "What says that a part is there";
    DebounceUs: "debounce_us", "us", range(0, 1_000_000), n(1000), Engineer, Station, BeltCleared, two(101),
        "Edges closer than this are the same part's, with trigger source edge";
    RejectAxis: "reject_axis", "", Choice(&["time", "counts"]), n(0), Engineer, Station, LineStops, one(103),
        "What the way from trigger to reject station is measured in";
    RejectDelayMs: "reject_delay_ms", "ms", range(0, 10_000), n(1500), Engineer, Station, BeltCleared, one(104),
        "From the trigger to the reject station, with axis time";
    RejectLeadMs: "reject_lead_ms", "ms", range(0, 10_000), n(5), Engineer, Station, BeltCleared, one(105),
        "How long before that the verdict must be there, with axis time";
    RejectDelayCounts: "reject_delay_counts", "counts", range(0, 1_000_000), n(10_000), Engineer, Station, BeltCleared, two(106),
        "From the trigger to the reject station, with axis counts";
    RejectLeadCounts: "reject_lead_counts", "counts", range(0, 1_000_000), n(10), Engineer, Station, BeltCleared, two(108),
        "How far before that the verdict must be there, with axis counts";
    Wiring: "wiring", "", Choice(&["energise_for_good", "energise_to_reject"]), n(0), Engineer, Station, BeltCleared, one(110),
        "Which output the ejector hangs on: good (a broken wire rejects) or reject (needs confirm)";
    Confirm: "confirm", "", SWITCH, n(0), Engineer, Station, BeltCleared, one(111),
        "Whether a sensor in the bin sees rejected parts";
    ConfirmWindowMs: "confirm_window_ms", "ms", range(100, 9_900), n(1000), Engineer, Station, BeltCleared, one(112),
        "How long after the start of its reject a part must be seen in the bin";
    AlarmConsecutive: "alarm_consecutive", "parts", or_zero("off", 1, 100), n(3), Engineer, Station, BeltCleared, one(113),
        "Rejects in a row that raise alarm 1; 0: never";
    AlarmRateWindow: "alarm_rate_window", "parts", or_zero("off", 10, 256), n(0), Engineer, Station, BeltCleared, one(114),
        "Parts among which alarm_rate_percent counts for alarm 2; 0: never";
    AlarmRatePercent: "alarm_rate_percent", "%", range(1, 99), n(20), Engineer, Station, BeltCleared, one(115),
        "Share of rejects that must be exceeded for alarm 2";
    AlarmLatencyMs: "alarm_latency_ms", "ms", or_zero("off", 1, 10_000), n(0), Engineer, Station, BeltCleared, one(116),
        "Time from trigger to verdict that raises alarm 8; 0: never";
    AlarmStop: "alarm_stop", "", Bits(ALARM_BITS & 0xffff), n(3710), Engineer, Station, BeltCleared, one(117),
        "Alarms that stop the line: the sum of 2 to the power of their numbers; alarms 9, 12 and 15 always do";
    AlarmStopFrom16: "alarm_stop_from_16", "", Bits(ALARM_BITS >> 16), n(0), Engineer, Station, BeltCleared, one(153),
        "The same for alarms from number 16 on: the sum of 2 to the power of their numbers less 16";
    TeachQuantile: "teach_quantile", "", steps(5000, STEPS), n(9950), Engineer, Station, AtOnce, one(119),
        "Share of good parts that TEACH's limit lets pass, on average; with too few parts its largest score";
    TeachMargin: "teach_margin", "", steps(0, 5000), n(0), Engineer, Station, AtOnce, one(120),
        "What TEACH ACCEPT adds to the limit, which is 0.5, for the threshold";
    SerialProtocol: "serial_protocol", "", Choice(&["ascii", "modbus"]), n(0), Engineer, Station, Restart, one(121),
        "What is spoken on the serial port, unless the board gives Modbus one of its own";
    SerialBaud: "serial_baud", "baud", BAUD, n(4), Engineer, Station, Restart, one(122),
        "Speed of the serial port, with 8N1";
    SerialTimeoutMs: "serial_timeout_ms", "ms", or_zero("off", 100, 60_000), n(10_000), Engineer, Station, AtOnce, one(123),
        "A line of which nothing more comes for this long is dropped; 0: never";
    ResultFormat: "result_format", "", Choice(&["csv", "json"]), n(0), Engineer, Station, AtOnce, one(124),
        "Format of the lines of RESULT ON";
    ResultAtStart: "result_at_start", "", SWITCH, n(0), Engineer, Station, Restart, one(125),
        "Whether RESULT is ON when the station starts";
    ModbusAddress: "modbus_address", "", range(1, 247), n(1), Engineer, Station, Restart, one(126),
        "Address of the station on Modbus";
    ModbusBaud: "modbus_baud", "baud", BAUD, n(1), Engineer, Station, Restart, one(127),
        "Speed of the Modbus port";
    ModbusParity: "modbus_parity", "", Choice(&["none", "odd", "even"]), n(2), Engineer, Station, Restart, one(128),
        "Parity of the Modbus port: 8E1, 8O1 or 8N2";
    ModbusAccess: "modbus_access", "", Choice(&["view", "operator", "engineer"]), n(2), Engineer, Station, AtOnce, one(129),
        "Access level of the Modbus client";
    Archive: "archive", "", Choice(&["off", "rejects", "all"]), n(1), Engineer, Station, AtOnce, one(130),
        "Which parts' pictures are kept";
    ArchiveLimitMb: "archive_limit_mb", "MB", range(10, 65_535), n(1000), Engineer, Station, AtOnce, one(131),
        "Room for pictures; the oldest make way";
    ArchiveDays: "archive_days", "days", or_zero("any", 1, 3650), n(0), Engineer, Station, AtOnce, one(150),
        "Pictures that are older make way, once as many days before today have later ones; 0: none does";
    ArchiveGoods: "archive_goods", "parts", or_zero("none", 1, 65_535), n(100), Engineer, Station, AtOnce, one(151),
        "Of the parts that pass every so-manieth picture is kept, with archive rejects; 0: none";
    WebView: "web_view", "", Choice(&["nothing", "live", "all"]), n(1), Engineer, Station, AtOnce, one(152),
        "What the page shows without log-in: nothing, live (picture, state, counters), or all of it";
    LogLevel: "log_level", "", Choice(&["error", "warn", "info", "debug"]), n(2), Engineer, Station, AtOnce, one(132),
        "What the program writes to the system's log";
    FrameSpread: "frame_spread", "levels", or_zero("off", 1, 255), n(8), Engineer, Station, NextPart, one(133),
        "Least difference between the brightest and the darkest part of a frame, else alarm 16; 0: any";
    FrameBright: "frame_bright", "levels", or_zero("off", 1, 255), n(24), Engineer, Station, NextPart, one(134),
        "The brightest part of a frame is at least so bright (of 255), else alarm 16; 0: any";
    FrameDark: "frame_dark", "levels", range(1, 255), n(250), Engineer, Station, NextPart, one(135),
        "The darkest part of a frame is at most so bright (of 255), else alarm 16; 255: any";
    FrameIdentical: "frame_identical", "frames", or_zero("off", 2, 100), n(2), Engineer, Station, NextPart, one(136),
        "So many equal frames in a row are a frozen camera: alarm 17, from the last of them on; 0: never";
    LightBrightness: "light_brightness", "%", or_zero("off", 1, 100), n(20), Engineer, Station, NextPart, one(137),
        "A frame may be so much darker or brighter than all taught parts were, else alarm 19; 0: any";
    LightSharpness: "light_sharpness", "%", or_zero("off", 1, 100), n(30), Engineer, Station, NextPart, one(138),
        "A frame may be so much more blurred or noisy than all taught parts were, else alarm 19; 0: any";
    OperatorPassword: "operator_password", "", Secret, t(""), Engineer, Station, AtOnce, None,
        "Password of level operator; none: whoever connects is operator, if engineer has one";
    EngineerPassword: "engineer_password", "", Secret, t(""), Engineer, Station, AtOnce, None,
        "Password of level engineer; none: whoever connects is engineer";
}

/// The parameters that each camera has for itself.
#[derive(Clone, Copy, Debug)]
pub struct CameraParameters {
    /// Its threshold: scores of its views above it are rejects.
    pub threshold: Parameter,
    /// Its exposure time.
    pub exposure_us: Parameter,
    /// Its gain.
    pub gain: Parameter,
    /// Its file of taught parts.
    pub taught: Parameter,
    /// Its file of regions.
    pub regions: Parameter,
}

/// The parameters of every camera that a station can have; the names of the first one's have no digit.
pub const CAMERAS: [CameraParameters; crate::line::VIEWS] = [
    CameraParameters {
        threshold: Parameter::Threshold,
        exposure_us: Parameter::CameraExposureUs,
        gain: Parameter::CameraGain,
        taught: Parameter::Taught,
        regions: Parameter::Regions,
    },
    CameraParameters {
        threshold: Parameter::Camera2Threshold,
        exposure_us: Parameter::Camera2ExposureUs,
        gain: Parameter::Camera2Gain,
        taught: Parameter::Camera2Taught,
        regions: Parameter::Camera2Regions,
    },
    CameraParameters {
        threshold: Parameter::Camera3Threshold,
        exposure_us: Parameter::Camera3ExposureUs,
        gain: Parameter::Camera3Gain,
        taught: Parameter::Camera3Taught,
        regions: Parameter::Camera3Regions,
    },
    CameraParameters {
        threshold: Parameter::Camera4Threshold,
        exposure_us: Parameter::Camera4ExposureUs,
        gain: Parameter::Camera4Gain,
        taught: Parameter::Camera4Taught,
        regions: Parameter::Camera4Regions,
    },
];

/// How many parameters there are.
pub const COUNT: usize = TABLE.len();

impl Parameter {
    /// Its entry in the table.
    pub const fn entry(self) -> &'static Entry {
        &TABLE[self as usize]
    }

    /// What it is called.
    pub const fn name(self) -> &'static str {
        self.entry().name
    }

    /// Finds a parameter by name, in upper or lower case.
    pub fn named(name: &str) -> Option<Parameter> {
        let found = TABLE.iter().find(|e| e.name.eq_ignore_ascii_case(name))?;
        Some(found.parameter)
    }

    /// The parameter that holds a Modbus register, and the register's place in it (0, or 1 for the low
    /// word of two).
    pub fn at(register: u16) -> Option<(Parameter, u16)> {
        TABLE.iter().find_map(|e| {
            let place = register.checked_sub(e.register?.address())?;
            (place < e.register?.count()).then_some((e.parameter, place))
        })
    }

    /// All parameters, in the order of the table.
    pub fn all() -> impl Iterator<Item = Parameter> {
        TABLE.iter().map(|e| e.parameter)
    }
}

impl Kind {
    /// Its largest number; `None` for texts.
    pub fn largest(&self) -> Option<u32> {
        match *self {
            Kind::Number { high, .. } | Kind::Decimal { high, .. } | Kind::Bits(high) => Some(high),
            Kind::Choice(words) => u32::try_from(words.len() - 1).ok(),
            Kind::Text(_) | Kind::Secret => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_entry_is_sound() {
        let (mut names, mut registers) = (HashSet::new(), HashSet::new());
        for (place, entry) in TABLE.iter().enumerate() {
            assert_eq!(entry.parameter as usize, place);
            assert!(names.insert(entry.name), "{} twice", entry.name);
            assert!(
                entry
                    .name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
            assert!(entry.name.len() <= 24 && !entry.help.is_empty() && entry.help.len() <= 100);
            assert_eq!(
                Parameter::named(&entry.name.to_uppercase()),
                Some(entry.parameter)
            );
            assert_eq!(
                entry.register.is_some(),
                entry.kind.largest().is_some(),
                "{}",
                entry.name
            );
            let Some((register, largest)) = entry.register.zip(entry.kind.largest()) else {
                continue;
            };
            assert_eq!(register.count() == 2, largest > 65_535, "{}", entry.name);
            for place in 0..register.count() {
                let address = register.address() + place;
                assert!(registers.insert(address), "register {address} twice");
                assert_eq!(Parameter::at(address), Some((entry.parameter, place)));
            }
            let recipe = entry.scope == Scope::Recipe;
            assert_eq!(recipe, register.address() < 100, "{}", entry.name);
        }
        assert_eq!(Parameter::at(99), None);
    }

    /// Names, registers and the order of choices are known to machines outside. A line may be added here,
    /// never changed.
    #[test]
    fn what_leaves_the_machine_never_changes() {
        let pinned = "\
0 threshold
1 trigger_interval_ms
2 trigger_pitch
4 exposure_delay_us
6 pairing_window_us
8 part_spacing_us
10 pulse_width_ms
11 camera_exposure_us
13 camera_gain
14 strobe_us
16 taught_unusable stop zero_shot
17 tile_rows
18 tile_columns
19 tile_overlap
20 default_lane
21 type_margin
22 teach_rotations
23 teach_brightness
24 camera2_threshold
25 camera2_exposure_us
27 camera2_gain
28 camera3_threshold
29 camera3_exposure_us
31 camera3_gain
32 camera4_threshold
33 camera4_exposure_us
35 camera4_gain
100 trigger_source free_run interval edge encoder command
101 debounce_us
103 reject_axis time counts
104 reject_delay_ms
105 reject_lead_ms
106 reject_delay_counts
108 reject_lead_counts
110 wiring energise_for_good energise_to_reject
111 confirm off on
112 confirm_window_ms
113 alarm_consecutive
114 alarm_rate_window
115 alarm_rate_percent
116 alarm_latency_ms
117 alarm_stop
153 alarm_stop_from_16
119 teach_quantile
120 teach_margin
121 serial_protocol ascii modbus
122 serial_baud 9600 19200 38400 57600 115200 230400 460800 921600
123 serial_timeout_ms
124 result_format csv json
125 result_at_start off on
126 modbus_address
127 modbus_baud 9600 19200 38400 57600 115200 230400 460800 921600
128 modbus_parity none odd even
129 modbus_access view operator engineer
130 archive off rejects all
131 archive_limit_mb
150 archive_days
151 archive_goods
152 web_view nothing live all
132 log_level error warn info debug
133 frame_spread
134 frame_bright
135 frame_dark
136 frame_identical
137 light_brightness
138 light_sharpness
";
        let now: String = TABLE
            .iter()
            .filter_map(|e| {
                let words = match e.kind {
                    Kind::Choice(words) => words.iter().map(|w| format!(" {w}")).collect(),
                    _ => String::new(),
                };
                Some(format!("{} {}{words}\n", e.register?.address(), e.name))
            })
            .collect();
        assert_eq!(now, pinned);
    }
}
