//! Why an order is refused: a number for machines, and a text for people.

use super::host::Refused;
use super::password::PasswordError;
use super::store::StoreError;
use super::table::Access;
use super::values::{Contradiction, ValueError};

macro_rules! codes {
    ($($code:ident = $number:literal, $text:literal;)*) => {
        /// The code of a refusal. Numbers leave the machine: only append.
        #[repr(u16)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $text] $code = $number,)*
        }

        /// Every code, by number.
        pub const CODES: &[Code] = &[$(Code::$code,)*];

        impl Code {
            /// The text that stands for the code.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Code::$code => $text,)*
                }
            }
        }
    };
}

codes! {
    UnknownCommand = 100, "unknown command; HELP lists them";
    LineTooLong = 101, "a line has at most 128 characters";
    TimedOut = 102, "the rest of the line did not come in time";
    MissingArgument = 103, "an argument is missing";
    TooManyArguments = 104, "too many arguments";
    BadCharacter = 105, "a character is not printable ASCII";
    BadLine = 106, "a quote is not closed, or stands inside a word";
    BadSequence = 107, "a sequence number is # and 0 to 65535";
    BadArgument = 108, "not an argument of this command";
    UnknownParameter = 200, "unknown parameter; LIST shows them";
    NotANumber = 201, "not a number";
    OutOfRange = 202, "out of range";
    NoSuchChoice = 203, "none of the choices";
    BadText = 204, "too long, or not printable";
    Contradiction = 205, "the settings contradict one another";
    NoSuchRecipe = 206, "no such recipe";
    TooFine = 207, "finer than the parameter's steps";
    NoSuchPart = 208, "no such part is remembered, or was taught";
    WeakPassword = 209, "a password that is short or easily guessed";
    WrongMode = 300, "not possible in this mode";
    PendingChanges = 301, "COMMIT or REVERT the pending changes first";
    NothingTaught = 302, "no finished TEACH";
    WrongTrigger = 303, "the trigger source is not command";
    PiecePasses = 304, "a test piece would pass";
    NeedsOperator = 400, "needs LOGIN operator";
    NeedsEngineer = 401, "needs LOGIN engineer";
    WrongPassword = 402, "wrong password";
    NoPassword = 403, "no password is set for this level; set one over the serial port";
    NeedsTls = 404, "passwords are taken over HTTPS only, or from the station's own computer";
    Busy = 500, "the station is busy";
    PendingElsewhere = 501, "another session has pending changes";
    TooSoon = 502, "wait a second between passwords";
    WearLimit = 503, "too many changes; the flash memory is spared: wait 5 s";
    Teaching = 504, "TEACH is under way";
    Hardware = 600, "a device failed";
    Memory = 601, "the memory cannot be written";
    Taught = 602, "what was taught cannot be used: teach again";
}

impl Code {
    /// The number.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// The code, for machines.
    pub code: Code,
    /// The text, for people; one line of printable ASCII.
    pub text: String,
}

impl Refusal {
    /// A refusal whose text says more than the code's own.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Refusal {
            code,
            text: text.into(),
        }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Refusal::new(code, code.text())
    }
}

impl From<ValueError> for Refusal {
    fn from(error: ValueError) -> Self {
        let code = match error {
            ValueError::NotANumber(_) => Code::NotANumber,
            ValueError::OutOfRange(_) => Code::OutOfRange,
            ValueError::TooFine(_) => Code::TooFine,
            ValueError::NoSuchChoice(_) => Code::NoSuchChoice,
            ValueError::Text(_) | ValueError::NoHash(_) => Code::BadText,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<PasswordError> for Refusal {
    fn from(error: PasswordError) -> Self {
        let code = match error {
            PasswordError::Text => Code::BadText,
            PasswordError::Short | PasswordError::Common | PasswordError::OwnWords => {
                Code::WeakPassword
            }
            PasswordError::Random => Code::Hardware,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<Contradiction> for Refusal {
    fn from(error: Contradiction) -> Self {
        Refusal::new(Code::Contradiction, error.to_string())
    }
}

impl From<Refused> for Refusal {
    fn from(error: Refused) -> Self {
        let code = match error {
            Refused::Busy(_) => Code::Busy,
            Refused::Mode(_) => Code::WrongMode,
            Refused::Hardware(_) | Refused::Network(_) | Refused::Regions(_) => Code::Hardware,
            Refused::Taught(_) => Code::Taught,
            Refused::NoSuchPart(_) => Code::NoSuchPart,
            Refused::Memory(_) => Code::Memory,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Refusal::new(Code::Memory, error.to_string())
    }
}

/// Checks that `level` includes the level that is `needed`.
///
/// # Errors
/// The code that names the level that is needed.
pub fn allowed(level: Access, needed: Access) -> Result<(), Refusal> {
    if level >= needed {
        return Ok(());
    }
    Err(match needed {
        Access::View | Access::Operator => Code::NeedsOperator.into(),
        Access::Engineer => Code::NeedsEngineer.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_never_change() {
        let numbers: Vec<u16> = CODES.iter().map(|c| c.number()).collect();
        let pinned: [&[u16]; 6] = [
            &[100, 101, 102, 103, 104, 105, 106, 107, 108],
            &[200, 201, 202, 203, 204, 205, 206, 207, 208, 209],
            &[300, 301, 302, 303, 304],
            &[400, 401, 402, 403, 404],
            &[500, 501, 502, 503, 504],
            &[600, 601, 602],
        ];
        assert_eq!(numbers, pinned.concat());
    }
}
