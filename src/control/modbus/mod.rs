//! Modbus RTU and TCP: the same parameters, state and orders as the command set, for a PLC.
//!
//! | module | what it does |
//! |---|---|
//! | [`frame`] | bytes to frames, by silence and CRC |
//! | `echo` | what this station sent, given back by its adapter |
//! | [`map`] | what lies where |
//! | [`rtu`] | served on a serial port |
//! | [`tcp`] | served over a network |
//! | `writes` | what a write does |
//! | [`docs`] | the tables of `MODBUS.md` |
//!
//! The crate `rmodbus` takes requests apart and puts answers together. What a frame writes, it writes
//! whole or not at all. Must never answer a frame that is damaged, for another station or for all.

pub mod docs;
mod echo;
pub mod frame;
pub mod map;
pub mod rtu;
pub mod tcp;
mod writes;

use super::host::ControlledStation;
use super::refusal::{Code, Refusal};
use super::session::IDLE;
use super::shared::{Control, SessionId, USUAL, Who};
use super::table::Parameter;
use super::values::Value;
use crate::line::settings::Pieces;
use frame::Adu;
use map::{Coil, DISCRETES, Own, Picture};
use rmodbus::consts::{ModbusErrorCode, ModbusFunction};
use rmodbus::server::{ModbusFrame, Read, Write};
use rmodbus::{ErrorKind, ModbusProto};
use std::sync::Arc;
use std::time::Instant;

/// Test pieces of a challenge, unless another number was written.
const PIECES: Pieces = match Pieces::new(5) {
    Ok(pieces) => pieces,
    Err(_) => panic!("not in its range"),
};

/// Good parts of a lesson, unless another number was written.
const GOOD_PARTS: u16 = 50;

/// Name of the port in the log of changes.
const PORT: &str = "modbus";

/// Why a request is refused.
enum Exception {
    /// A reason that the standard has an exception for.
    Standard(ErrorKind),
    /// Control has refused the change.
    Refused(Refusal),
    /// No refusal: the answer comes when the change is in force.
    Later,
}

impl From<Refusal> for Exception {
    fn from(refusal: Refusal) -> Self {
        Exception::Refused(refusal)
    }
}

const ADDRESS: Exception = Exception::Standard(ErrorKind::IllegalDataAddress);
const VALUE: Exception = Exception::Standard(ErrorKind::IllegalDataValue);

/// The exception that stands for a code.
pub fn exception(code: Code) -> ErrorKind {
    match code.number() / 100 {
        2 => ErrorKind::IllegalDataValue,
        // "Could also indicate that the server is in the wrong state to process a request of this type."
        4 => ErrorKind::IllegalFunction,
        3 | 5 => ErrorKind::SlaveDeviceBusy,
        _ => ErrorKind::SlaveDeviceFailure,
    }
}

/// The station on a Modbus line: one client's session.
#[derive(Debug)]
pub struct Slave {
    address: u8,
    session: SessionId,
    /// Name of the client in the log.
    port: Arc<str>,
    pieces: Pieces,
    /// How many good parts the next lesson takes, and the number of the part that is meant.
    teach: (u16, u16),
    /// Minutes of the next pause.
    pause: u16,
    /// Code of the last write that was refused; 0 if there was none.
    refusal: u16,
    power_on: bool,
    /// Whether the adapter returns what is sent.
    echoes: bool,
    /// When the client last sent something.
    last: Option<Instant>,
    /// A write whose answer comes when its change is in force, and the first coil that is yet to be written.
    waiting: Option<(Adu, u16)>,
    /// The coil after the one that was written last.
    next_coil: u16,
    /// Whether a change of its is being prepared, even if its answer is no longer awaited.
    changing: bool,
}

impl Slave {
    /// The session of the station's own address on the line.
    pub fn new<H: ControlledStation>(control: &mut Control<H>) -> Self {
        Self::named(PORT, control)
    }

    /// The same for a client that has this name in the log.
    fn named<H: ControlledStation>(port: &str, control: &mut Control<H>) -> Self {
        let address = number(control.memory().get(Parameter::ModbusAddress));
        Slave {
            // In range by its type.
            address: u8::try_from(address).unwrap_or(1),
            session: control.open(),
            port: port.into(),
            pieces: PIECES,
            teach: (GOOD_PARTS, 0),
            // At most 480.
            pause: USUAL as u16,
            refusal: 0,
            power_on: true,
            echoes: false,
            last: None,
            waiting: None,
            next_coil: 0,
            changing: false,
        }
    }

    /// Sets whether the line returns what is sent; the first time that it does is reported.
    pub fn echoes<H: ControlledStation>(&mut self, echoes: bool, control: &mut Control<H>) {
        if echoes && !std::mem::replace(&mut self.echoes, echoes) {
            control.heard_itself(&self.port);
        }
        self.echoes = echoes;
    }

    /// Whether the last request is answered by [`Slave::late`].
    fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Answers a frame whose CRC is right. `None`: it is for another station, for all stations, or no request.
    pub fn answer<H: ControlledStation>(
        &mut self,
        request: &Adu,
        now: Instant,
        control: &mut Control<H>,
    ) -> Option<Adu> {
        let function = *request.get(1)?;
        // An answer of another station, or of this one as an echo.
        if function >= 0x80 {
            return None;
        }
        // A client that asks something else no longer waits.
        self.waiting = None;
        let mut answer = Adu::new();
        let mut frame = ModbusFrame::new(self.address, request, ModbusProto::Rtu, &mut answer);
        if !is_sound(request) {
            // The crate does not look at the lengths of a frame before it uses them.
            frame.responding_to_fn = function;
            frame.error = Some(ModbusErrorCode::IllegalDataValue);
            frame.response_required = request[0] == self.address;
        } else {
            frame.parse().ok()?;
        }
        if frame.processing_required {
            self.last = Some(now);
            match self.process(&mut frame, now, control) {
                Ok(None) => (),
                Ok(Some(next_coil)) => {
                    self.changing = true;
                    let answered = frame.response_required;
                    self.waiting = answered.then(|| (request.clone(), next_coil));
                    return None;
                }
                Err(_) => return None,
            }
        }
        if !frame.response_required {
            return None;
        }
        frame.finalize_response().ok()?;
        Some(answer)
    }

    /// The answer of a write whose change is in force now, or was refused.
    pub fn late<H: ControlledStation>(
        &mut self,
        now: Instant,
        control: &mut Control<H>,
    ) -> Option<Adu> {
        if !self.changing {
            return None;
        }
        let result = match control.changed(self.session) {
            Some(result) => result.map(|_| ()).map_err(Exception::Refused),
            None if control.is_changing(self.session) => return None,
            None => Err(Refusal::new(Code::Busy, "the change was given up").into()),
        };
        self.changing = false;
        let (request, next_coil) = match (self.waiting.take(), result) {
            (Some(waiting), Ok(())) => waiting,
            (Some((request, _)), Err(e)) => {
                let kind = self.kind(e);
                return self.written(&request, Err(kind));
            }
            (None, result) => {
                // The client no longer waits for the answer; the register has the code.
                _ = result.map_err(|e| self.kind(e));
                return None;
            }
        };
        let mut unused = Adu::new();
        let mut frame = ModbusFrame::new(self.address, &request, ModbusProto::Rtu, &mut unused);
        frame.parse().ok()?;
        let rest = match frame.get_external_write() {
            Ok(Write::Bits(bits)) => {
                let coils = (bits.address, bits.count, next_coil);
                self.write_coils(coils, bits.data, now, control)
            }
            Ok(Write::Words(_)) => Ok(()),
            Err(kind) => Err(Exception::Standard(kind)),
        };
        let result = rest.map_err(|e| self.kind(e));
        self.written(&request, result)
    }

    /// The answer of a write.
    fn written(&self, request: &Adu, result: Result<(), ErrorKind>) -> Option<Adu> {
        let mut answer = Adu::new();
        let mut frame = ModbusFrame::new(self.address, request, ModbusProto::Rtu, &mut answer);
        frame.parse().ok()?;
        frame.get_external_write().ok()?;
        frame.process_external_write(result).ok()?;
        frame.finalize_response().ok()?;
        Some(answer)
    }

    /// Carries out a request. Returns the first coil that is still to be written, if the answer comes later.
    fn process<H: ControlledStation>(
        &mut self,
        frame: &mut ModbusFrame<'_, Adu>,
        now: Instant,
        control: &mut Control<H>,
    ) -> Result<Option<u16>, ErrorKind> {
        let function = frame.func;
        if frame.readonly {
            let result = match frame.get_external_read()? {
                Read::Bits(bits) if function == ModbusFunction::GetCoils => {
                    let (mode, paused) = (control.snapshot().mode, control.pause().is_some());
                    let coil = |a| Coil::at(a).map(|c| c.is_on(mode, paused, self.power_on));
                    read_bits(bits.address, bits.count, bits.buf, coil)
                }
                Read::Bits(bits) => self.picture(control, |picture| {
                    let discrete = |a| DISCRETES.get(usize::from(a)).map(|d| d.1(picture));
                    read_bits(bits.address, bits.count, bits.buf, discrete)
                }),
                Read::Words(words) if function == ModbusFunction::GetInputs => {
                    self.picture(control, |picture| {
                        let input = |a| map::input(a, picture);
                        read_words(words.address, words.buf, input)
                    })
                }
                Read::Words(words) => {
                    read_words(words.address, words.buf, |a| self.holding(a, control))
                }
            };
            let result = result.map_err(|e| self.kind(e));
            return frame.process_external_read(result).map(|()| None);
        }
        let result = match frame.get_external_write() {
            Ok(Write::Bits(bits)) => {
                let coils = (bits.address, bits.count, bits.address);
                self.write_coils(coils, bits.data, now, control)
            }
            Ok(Write::Words(words)) => self.write_holding(words.address, words.data, now, control),
            Err(kind) => Err(Exception::Standard(kind)),
        };
        if let Err(Exception::Later) = result {
            return Ok(Some(self.next_coil));
        }
        let result = result.map_err(|e| self.kind(e));
        frame.process_external_write(result).map(|()| None)
    }

    /// The exception for an answer; the code of a refusal is remembered.
    fn kind(&mut self, exception: Exception) -> ErrorKind {
        match exception {
            Exception::Standard(kind) => kind,
            // The standard's word for it; answered only if a write waits for a second change.
            Exception::Later => ErrorKind::Acknowledge,
            Exception::Refused(refusal) => {
                log::debug!("{}: {} {refusal}", self.port, refusal.code.number());
                self.refusal = refusal.code.number();
                self::exception(refusal.code)
            }
        }
    }

    fn picture<H: ControlledStation, T>(
        &self,
        control: &mut Control<H>,
        read: impl FnOnce(&Picture<'_>) -> T,
    ) -> T {
        let snapshot = control.snapshot();
        let (judging, teach) = (control.host().judging(), control.teach_report());
        let threshold = control.memory().get(Parameter::Threshold);
        read(&Picture {
            judging: &judging,
            teach: teach.as_ref(),
            snapshot: &snapshot,
            recipe: control.memory().active().get(),
            threshold: number(threshold),
            refusal: self.refusal,
            pending: control.has_pending(self.session),
            memory_fault: control.memory_fault(),
            pause: control.pause().map_or(0, |p| p.left(Instant::now())),
            echoes: self.echoes,
        })
    }

    fn holding<H: ControlledStation>(&self, register: u16, control: &Control<H>) -> Option<u16> {
        if let Some((parameter, place)) = Parameter::at(register) {
            let after = parameter.entry().register?.count() - 1 - place;
            let value = control.value(self.session, parameter);
            return Some(map::word(u64::from(number(value)), after));
        }
        match map::OWN.into_iter().find(|o| *o as u16 == register)? {
            Own::Recipe => Some(control.memory().active().get().into()),
            // At most 255.
            Own::ChallengePieces => Some(self.pieces.get() as u16),
            Own::TeachParts => Some(self.teach.0),
            Own::TeachNumber => Some(self.teach.1),
            Own::TeachCommand => Some(0),
            Own::PauseMinutes => Some(self.pause),
        }
    }

    /// Drops the pending changes of a client that has sent nothing for as long as a session may keep them.
    pub fn idle<H: ControlledStation>(&mut self, now: Instant, control: &mut Control<H>) {
        if self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) >= IDLE)
        {
            self.hang_up(control);
        }
    }

    /// Notes that the port is gone: pending changes are dropped.
    pub fn hang_up<H: ControlledStation>(&mut self, control: &mut Control<H>) {
        self.last = None;
        self.waiting = None;
        control.leave(self.session);
    }
}

fn who<'a, H: ControlledStation>(
    session: SessionId,
    port: &'a str,
    control: &Control<H>,
) -> Who<'a> {
    Who {
        session,
        port,
        access: control.modbus_access(),
    }
}

fn number(value: &Value) -> u32 {
    match value {
        Value::Number(number) => *number,
        Value::Text(_) => 0,
    }
}

/// Whether the lengths in a request are right for its function.
fn is_sound(request: &Adu) -> bool {
    let function = request[1];
    // Others are not known, and the crate says so.
    if !matches!(function, 1..=6 | 15 | 16) {
        return true;
    }
    let Some(&[_, _, _, _, high, low, bytes]) = request.first_chunk() else {
        return false;
    };
    let count = usize::from(u16::from_be_bytes([high, low]));
    let body = match function {
        1..=4 => return request.len() == 8 && count > 0,
        5 | 6 => return request.len() == 8,
        15 => count.div_ceil(8),
        _ => 2 * count,
    };
    count > 0 && body == usize::from(bytes) && request.len() == 9 + body
}

fn read_bits(
    first: u16,
    count: u16,
    bytes: &mut [u8],
    bit: impl Fn(u16) -> Option<bool>,
) -> Result<(), Exception> {
    for place in 0..count {
        let address = first.checked_add(place).ok_or(ADDRESS)?;
        let on = bit(address).ok_or(ADDRESS)?;
        bytes[usize::from(place / 8)] |= u8::from(on) << (place % 8);
    }
    Ok(())
}

fn read_words(
    first: u16,
    bytes: &mut [u8],
    word: impl Fn(u16) -> Option<u16>,
) -> Result<(), Exception> {
    for (place, bytes) in (0..).zip(bytes.chunks_exact_mut(2)) {
        let address = first.checked_add(place).ok_or(ADDRESS)?;
        bytes.copy_from_slice(&word(address).ok_or(ADDRESS)?.to_be_bytes());
    }
    Ok(())
}
