//! The inputs' lines: their states, and every change with the kernel's time of it.
//!
//! Must never lose an edge silently: the kernel numbers them, and every gap is counted. Polarity is the
//! kernel's business (lines are requested active-low where the board says so), so what comes out is
//! logical. Debounce of contacts is the kernel's too; the trigger's is not, because the kernel stamps a
//! debounced edge when it has settled (`debounce_work_func` in drivers/gpio/gpiolib-cdev.c), up to a tick
//! too late for a belt: its edges come as they are, and the station drops the bounces.
//!
//! A chip may go away (a bridge on USB that is unplugged). That is said once, all lines are asked for again until
//! they are there, and what happened meanwhile counts as lost.

use super::BoardError;
use super::gpio::{self, Chips, Place, Wanted};
use super::pins::{Bias, InputPin, InputPins, Level};
use super::quadrature::{Channel, Quadrature};
use super::spec::{Board, Gpio};
use crate::clock::now_us;
use crate::line::Input;
use gpiocdev::Request;
use gpiocdev::line::{
    Config, Direction, EdgeDetection, EdgeEvent, EdgeKind, EventClock, Value, Values,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Edges that the kernel keeps for us, per chip: the most it allows (`GPIO_V2_LINES_MAX` * 16).
const KERNEL_BUFFER: u32 = 1024;

/// Edges taken with one system call.
const BATCH: usize = 64;

/// Lines that are away are asked for again after so long.
const AGAIN: Duration = Duration::from_millis(200);

/// An input that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputLine {
    /// The light barrier. Only changes are reported, never the state at the start.
    Trigger,
    /// A contact or sensor. Its state at the start is reported as its first change.
    Input(Input),
    /// The encoder, and where it stands. Every edge of both channels is a count; it starts at 2^32, so
    /// that a belt may run back. Steps that nothing else happened between are reported as one.
    Encoder {
        /// The count that it stands at.
        count: u64,
    },
}

/// A change of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What changed.
    pub what: InputLine,
    /// Its logical state; always true for the encoder.
    pub active: bool,
    /// The time of the change, us of `CLOCK_MONOTONIC`: the kernel's time stamp of the edge.
    pub at_us: u64,
}

/// What a line is for.
#[derive(Clone, Copy, Debug)]
enum Role {
    Trigger,
    Contact(Input),
    Encoder(Channel),
}

/// A line that is listened to.
#[derive(Debug)]
struct Listened {
    role: Role,
    /// Its last state.
    active: bool,
    /// The kernel's number of its last edge.
    seqno: u32,
}

/// The lines of one chip.
#[derive(Debug)]
struct Bank {
    path: PathBuf,
    request: Request,
    lines: BTreeMap<u32, Listened>,
}

/// All inputs of a board.
#[derive(Debug)]
pub struct Inputs {
    board: Board,
    banks: Vec<Bank>,
    state: State,
    /// When lines that are away were asked for last.
    away: Option<Instant>,
}

/// Turns edges into changes.
#[derive(Debug, Default)]
struct State {
    encoder: Option<Quadrature>,
    changes: VecDeque<Change>,
    lost: u64,
}

impl State {
    fn push(&mut self, change: Change) {
        let steps = |c: &Change| matches!(c.what, InputLine::Encoder { .. });
        match self.changes.back_mut() {
            Some(last) if steps(last) && steps(&change) => *last = change,
            _ => self.changes.push_back(change),
        }
    }

    /// An edge that the kernel reports. It reads the level some time after the edge (`edge_irq_thread`): a
    /// state that comes twice is a pulse that was over by then. A part must not pass for that, so the
    /// pulse is reported; if that is one too many, it is a bounce like any other.
    fn take(&mut self, line: &mut Listened, seqno: u32, active: bool, at_us: u64) {
        self.lost += line.gap(seqno);
        let again = std::mem::replace(&mut line.active, active) == active;
        if again && !matches!(line.role, Role::Encoder(_)) {
            self.edge(line.role, !active, at_us);
        }
        self.edge(line.role, active, at_us);
    }

    /// An edge, in the order of time.
    fn edge(&mut self, role: Role, active: bool, at_us: u64) {
        let what = match role {
            Role::Trigger => InputLine::Trigger,
            Role::Contact(input) => InputLine::Input(input),
            Role::Encoder(channel) => {
                let Some(encoder) = &mut self.encoder else {
                    return;
                };
                if encoder.edge(channel, active).is_err() {
                    self.lost += 1;
                    return;
                }
                let count = encoder.count();
                self.push(Change {
                    what: InputLine::Encoder { count },
                    active: true,
                    at_us,
                });
                return;
            }
        };
        self.push(Change {
            what,
            active,
            at_us,
        });
    }
}

impl Listened {
    /// Edges of this line that are missing before the one with this number.
    fn gap(&mut self, seqno: u32) -> u64 {
        let missing = seqno.wrapping_sub(self.seqno).saturating_sub(1);
        self.seqno = seqno;
        missing.into()
    }
}

fn config(active: Level, bias: Bias, debounce_us: u32) -> Config {
    Config {
        direction: Some(Direction::Input),
        active_low: active == Level::Low,
        bias: gpio::bias(bias),
        edge_detection: Some(EdgeDetection::BothEdges),
        event_clock: Some(EventClock::Monotonic),
        debounce_period: (debounce_us > 0).then(|| Duration::from_micros(debounce_us.into())),
        ..Config::default()
    }
}

/// What a contact's key in the board's file stands for.
fn contact(key: &str) -> Option<Input> {
    match key {
        "reject_confirm" => Some(Input::RejectConfirm),
        "bin_full" => Some(Input::BinFull),
        "bin_open" => Some(Input::BinOpen),
        "low_air" => Some(Input::LowAir),
        "stop" => Some(Input::Stop),
        "reset" => Some(Input::Reset),
        _ => None,
    }
}

/// Every wired line: its key, pin, role and how it is requested.
fn wired(board: &Board) -> Vec<(String, u16, Role, Config)> {
    let contacts = board
        .inputs
        .contacts()
        .into_iter()
        .filter_map(|(key, pin)| {
            let pin: &InputPin = pin?;
            let (role, debounce_us) = match contact(key) {
                Some(input) => (Role::Contact(input), pin.debounce_us),
                // The station's part, see above.
                None => (Role::Trigger, 0),
            };
            Some((
                key,
                pin.pin,
                role,
                config(pin.active, pin.bias, debounce_us),
            ))
        });
    let channels = [Channel::A, Channel::B].into_iter();
    let encoder = board.inputs.encoder().into_iter().zip(channels);
    let encoder = encoder.filter_map(|((key, pin), channel)| {
        let pin = pin?;
        Some((
            key,
            pin.pin,
            Role::Encoder(channel),
            config(Level::High, pin.bias, 0),
        ))
    });
    contacts
        .chain(encoder)
        .map(|(key, pin, role, config)| (format!("inputs.{key}"), pin, role, config))
        .collect()
}

/// Takes the lines of all inputs. A simulated board has none.
///
/// # Errors
/// [`BoardError::Line`], for the first input whose line cannot be had; [`BoardError::Inputs`] if the kernel
/// refuses what the board's file asks of a chip's lines.
pub fn inputs(board: &Board) -> Result<Inputs, BoardError> {
    let mut inputs = Inputs {
        board: board.clone(),
        banks: Vec::new(),
        state: State::default(),
        away: None,
    };
    inputs.take_lines()?;
    Ok(inputs)
}

impl Bank {
    fn failed(&self, what: impl ToString) -> BoardError {
        BoardError::Inputs {
            chip: self.path.clone(),
            what: what.to_string(),
        }
    }

    /// Takes the edges that the kernel has.
    fn read(&self, events: &mut Vec<(usize, EdgeEvent)>, bank: usize) -> Result<(), BoardError> {
        let size = self.request.edge_event_u64_size();
        let mut buffer = vec![0; size * BATCH];
        let read = self.request.read_edge_events_into_slice(&mut buffer);
        let read = read.map_err(|e| self.failed(e))?;
        for event in buffer[..read].chunks_exact(size) {
            let event = self.request.edge_event_from_slice(event);
            events.push((bank, event.map_err(|e| self.failed(e))?));
        }
        Ok(())
    }
}

impl Inputs {
    /// Takes the lines, and what they say now.
    fn take_lines(&mut self) -> Result<(), BoardError> {
        if self.board.gpio != Gpio::Kernel {
            return Ok(());
        }
        let wired = wired(&self.board);
        let chips = Chips::find();
        let mut by_chip: BTreeMap<PathBuf, Vec<(u32, Role, &Config)>> = BTreeMap::new();
        for (key, pin, role, config) in &wired {
            let wanted = Wanted::of(&self.board, key, *pin)?;
            let Place { chip, offset } = chips.place(wanted)?;
            by_chip
                .entry(chip)
                .or_default()
                .push((offset, *role, config));
        }
        let (mut banks, mut channels, mut contacts) = (vec![], [None; 2], vec![]);
        for (path, lines) in by_chip {
            let failed = |e: gpiocdev::Error| BoardError::Inputs {
                chip: path.clone(),
                what: e.to_string(),
            };
            let mut builder = Request::builder();
            builder
                .with_consumer(gpio::CONSUMER)
                .on_chip(&path)
                .with_kernel_event_buffer_size(KERNEL_BUFFER);
            for (offset, _, config) in &lines {
                builder.with_line(*offset).from_line_config(config);
            }
            let request = builder.request().map_err(failed)?;
            // Read after edges are listened to: what changes in between comes as an edge too.
            let offsets: Vec<u32> = lines.iter().map(|(offset, ..)| *offset).collect();
            let mut values = Values::from_offsets(&offsets);
            request.values(&mut values).map_err(failed)?;
            let at_us = now_us();
            let listened = lines.iter().map(|(offset, role, _)| {
                let active = values.get(*offset) == Some(Value::Active);
                match role {
                    Role::Trigger => (),
                    Role::Contact(_) => contacts.push((*role, active, at_us)),
                    Role::Encoder(channel) => channels[*channel as usize] = Some(active),
                }
                let (role, seqno) = (*role, 0);
                let line = Listened {
                    role,
                    active,
                    seqno,
                };
                (*offset, line)
            });
            let lines = listened.collect();
            banks.push(Bank {
                path,
                request,
                lines,
            });
        }
        self.banks = banks;
        for (role, active, at_us) in contacts {
            self.state.edge(role, active, at_us);
        }
        if let [Some(a), Some(b)] = channels {
            match &mut self.state.encoder {
                // Where the belt got to meanwhile nobody knows: it goes on from where it was.
                Some(encoder) => encoder.resume(a, b),
                None => self.state.encoder = Some(Quadrature::new(a, b)),
            }
        }
        Ok(())
    }

    /// A chip is gone: all lines are given back, so that all come back together.
    fn lose(&mut self) {
        self.banks.clear();
        self.away = Some(Instant::now());
        self.state.lost += 1;
    }

    /// Whether lines are away. Nothing is known of any input then.
    pub fn is_lost(&self) -> bool {
        self.away.is_some()
    }

    /// The pins that the board has for inputs.
    pub fn pins(&self) -> &InputPins {
        &self.board.inputs
    }

    /// Whether no input is wired.
    pub fn is_empty(&self) -> bool {
        self.banks.is_empty() && self.away.is_none()
    }

    /// Edges that were lost so far: the kernel's buffer was full, or an encoder's edge was over before the
    /// kernel read its level. The encoder's count may be wrong from then on, and a part may have passed
    /// unseen.
    pub fn lost(&self) -> u64 {
        self.state.lost
    }

    /// The next change; `None` if there was none for so long. The states at the start come first. Changes
    /// come in the order of their times; of several chips, as far as they were there together.
    ///
    /// # Errors
    /// [`BoardError::Inputs`], for example when a chip on USB is gone. [`Inputs::is_lost`] from then on; further
    /// calls ask for the lines again, and return nothing until they are there.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Change>, BoardError> {
        if let Some(change) = self.state.changes.pop_front() {
            return Ok(Some(change));
        }
        if let Some(asked) = self.away {
            if asked.elapsed() < AGAIN {
                std::thread::sleep(timeout.min(AGAIN));
                return Ok(None);
            }
            self.away = Some(Instant::now());
            match self.take_lines() {
                Ok(()) => self.away = None,
                Err(e) => log::debug!("inputs: {e}"),
            }
            return Ok(None);
        }
        let mut fds: Vec<PollFd> = self
            .banks
            .iter()
            .map(|bank| PollFd::new(&bank.request, PollFlags::IN))
            .collect();
        let timeout = Timespec::try_from(timeout).ok();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => (),
            Err(e) => {
                return Err(BoardError::Inputs {
                    chip: PathBuf::from("/dev"),
                    what: e.to_string(),
                });
            }
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        // What the other chips have is reported before the chip that failed.
        let (mut events, mut failed) = (Vec::new(), None);
        for (number, bank) in self.banks.iter().enumerate().filter(|(n, _)| ready[*n]) {
            if let Err(e) = bank.read(&mut events, number) {
                failed = Some(e);
            }
        }
        events.sort_by_key(|(_, event)| event.timestamp_ns);
        for (bank, event) in events {
            if let Some(line) = self.banks[bank].lines.get_mut(&event.offset) {
                let active = event.kind == EdgeKind::Rising;
                let at_us = event.timestamp_ns / 1000;
                self.state.take(line, event.line_seqno, active, at_us);
            }
        }
        if failed.is_some() {
            self.lose();
        }
        match (failed, self.state.changes.pop_front()) {
            (Some(e), change) => {
                // What was there before is reported after it.
                if let Some(change) = change {
                    self.state.changes.push_front(change);
                }
                Err(e)
            }
            (None, change) => Ok(change),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            encoder: Some(Quadrature::new(false, false)),
            ..State::default()
        }
    }

    #[test]
    fn steps_are_reported_as_one_but_never_across_another_change() {
        let mut state = state();
        state.edge(Role::Encoder(Channel::A), true, 10);
        state.edge(Role::Encoder(Channel::B), true, 20);
        state.edge(Role::Trigger, true, 25);
        state.edge(Role::Encoder(Channel::A), false, 30);
        let count = |n| InputLine::Encoder {
            count: Quadrature::START + n,
        };
        let reported: Vec<_> = state.changes.iter().map(|c| (c.what, c.at_us)).collect();
        assert_eq!(
            reported,
            [(count(2), 20), (InputLine::Trigger, 25), (count(3), 30)]
        );
        assert_eq!(state.lost, 0);
        state.edge(Role::Encoder(Channel::A), false, 40);
        assert_eq!((state.lost, state.changes.len()), (1, 3));
    }

    #[test]
    fn gaps_are_counted_and_pulses_too_short_to_be_read_are_reported() {
        let mut line = Listened {
            role: Role::Trigger,
            active: false,
            seqno: 0,
        };
        let mut state = state();
        for (seqno, active, at_us) in [(1, true, 10), (2, false, 20), (3, false, 30), (6, true, 40)]
        {
            state.take(&mut line, seqno, active, at_us);
        }
        let reported: Vec<_> = state.changes.iter().map(|c| (c.active, c.at_us)).collect();
        assert_eq!(
            reported,
            [(true, 10), (false, 20), (true, 30), (false, 30), (true, 40)]
        );
        assert_eq!(state.lost, 2);
    }

    #[test]
    fn every_contact_but_the_trigger_is_an_input_of_the_station() {
        let board = Board::named("sim").unwrap();
        let unknown = board.inputs.contacts().into_iter();
        let unknown = unknown.filter(|(key, _)| contact(key).is_none());
        assert_eq!(unknown.map(|(key, _)| key).collect::<Vec<_>>(), ["trigger"]);
    }
}
