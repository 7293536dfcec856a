//! Control: the parameter table, the command set on a serial port, and the memory that survives power
//! cuts. See `README.md` beside this file for what an integrator needs to know.
//!
//! Reads the station and gives it orders through [`ControlledStation`]; never touches a pin, a camera or the
//! line's core, and never delays them.
//!
//! | module | what it does |
//! |---|---|
//! | [`table`] | every parameter, once |
//! | [`values`], [`memory`] | values that cannot be out of range; recipes; TOML |
//! | [`store`] | files that survive a power cut, and who writes them |
//! | [`backup`] | all of that as one text |
//! | [`last_good`] | the last network that judged, if the stored one cannot |
//! | [`shared`] | what all ports share: pending changes, COMMIT, log, TEACH (lessons of good parts) |
//! | [`command`], [`session`] | bytes to lines to commands to answers |
//! | [`refusal`] | numbers of all refusals |
//! | [`port`] | the serial port and its thread |
//! | [`modbus`] | Modbus RTU, beside or instead of the command set |
//! | [`password`] | access levels |
//! | [`docs`] | the tables of the README |
//! | [`host`] | the station, as control sees it |

pub mod backup;
pub mod command;
pub mod docs;
pub mod host;
pub mod last_good;
pub mod memory;
pub mod modbus;
pub mod password;
pub mod port;
pub mod refusal;
pub mod session;
pub mod shared;
pub mod store;
pub mod table;
pub mod types;
pub mod values;

pub use host::{
    ControlledStation, Judging, Mode, NetworkLabel, Order, PartResult, Preparing, Refused,
    SelfTest, Snapshot, Wanted,
};
pub use last_good::LastGood;
pub use memory::{Memory, RecipeNumber};
pub use refusal::{Code, Refusal};
pub use session::{Session, cause_name, mode_name, network_name};
#[cfg(feature = "web")]
pub(crate) use shared::pace::network;
pub use shared::{Control, SessionId, Who, alarm_names, alarm_text, self_test_name};
pub use store::writer::Writer;
pub use store::{Restored, Store, StoreError, Stored};
pub use table::{Access, Effect, Parameter};
pub use values::{Value, Values};
