//! What a write does: parameters, numbers of orders, and orders.

use super::map::{self, COILS, Coil, Own};
use super::{ADDRESS, Exception, Slave, VALUE, who};
use crate::control::host::{ControlledStation, Order, Teach};
use crate::control::memory::RecipeNumber;
use crate::control::refusal::{Code, Refusal, allowed};
use crate::control::shared::{Control, MINUTES, Pause, Who};
use crate::control::table::Parameter;
use crate::control::values::Value;
use crate::line::settings::Pieces;
use std::sync::Arc;
use std::time::Instant;

/// Most registers in one write.
const WRITES: usize = 123;

/// Largest number of a part in a lesson.
const MOST_PARTS: u16 = 1000;

impl Slave {
    /// Writes all registers or, if one cannot be written, none.
    pub(super) fn write_holding<H: ControlledStation>(
        &mut self,
        first: u16,
        data: &[u8],
        now: Instant,
        control: &mut Control<H>,
    ) -> Result<(), Exception> {
        let port = Arc::clone(&self.port);
        let who = who(self.session, &port, control);
        let words: heapless::Vec<u16, WRITES> = words(data).collect();
        let mut parameters = heapless::Vec::<(Parameter, u32), WRITES>::new();
        let (mut recipe, mut pieces, mut command) = (None, None, None);
        let (mut teach, mut minutes) = (self.teach, self.pause);
        let mut rest = &words[..];
        while let Some((&word, after)) = rest.split_first() {
            // Never wraps: fewer words than addresses are left.
            let place = (words.len() - rest.len()) as u16;
            let register = first.checked_add(place).ok_or(ADDRESS)?;
            rest = after;
            if let Some((parameter, count)) = map::parameter(register) {
                let mut value = u32::from(word);
                if count == 2 {
                    let (&low, after) = rest.split_first().ok_or(ADDRESS)?;
                    value = value << 16 | u32::from(low);
                    rest = after;
                }
                allowed(who.access, parameter.entry().access)?;
                let checked = parameter.entry().check(&Value::Number(value));
                checked.map_err(Refusal::from)?;
                // Cannot fail: there are no more than words.
                let _ = parameters.push((parameter, value));
                continue;
            }
            match map::OWN.into_iter().find(|o| *o as u16 == register) {
                Some(Own::Recipe) => {
                    let number = RecipeNumber::new(word.into());
                    recipe = Some(number.ok_or(Refusal::from(Code::NoSuchRecipe))?);
                }
                Some(Own::ChallengePieces) => {
                    let number = Pieces::new(word.into());
                    pieces =
                        Some(number.map_err(|e| Refusal::new(Code::OutOfRange, e.to_string()))?);
                }
                Some(Own::TeachParts) if (1..=MOST_PARTS).contains(&word) => teach.0 = word,
                Some(Own::TeachNumber) if word <= MOST_PARTS => teach.1 = word,
                Some(Own::TeachCommand) if word <= 7 => command = Some(word),
                Some(Own::PauseMinutes) if MINUTES.contains(&word.into()) => minutes = word,
                Some(
                    Own::TeachParts | Own::TeachNumber | Own::TeachCommand | Own::PauseMinutes,
                ) => {
                    return Err(Refusal::from(Code::OutOfRange).into());
                }
                // No register, or the second one of two.
                None => return Err(ADDRESS),
            }
        }
        // Access and range are checked: whether it may have changes pending at all, the first one tells.
        for (parameter, value) in parameters {
            control.set(&who, parameter, Value::Number(value))?;
        }
        let before = (self.pieces, self.teach, self.pause);
        self.pieces = pieces.unwrap_or(self.pieces);
        self.teach = teach;
        self.pause = minutes;
        let mut order = || {
            if let Some(command) = command {
                self.teach(command, &who, now, control)?;
            }
            if let Some(recipe) = recipe {
                let committed = control.select_recipe(&who, recipe, now)?;
                committed.ok_or(Exception::Later)?;
            }
            Ok(())
        };
        let done = order();
        // A frame is written whole or not at all; one whose answer comes later is.
        if matches!(done, Err(Exception::Refused(_))) {
            (self.pieces, self.teach, self.pause) = before;
        }
        done
    }

    /// Carries out the order in `teach_command`.
    fn teach<H: ControlledStation>(
        &self,
        command: u16,
        who: &Who<'_>,
        now: Instant,
        control: &mut Control<H>,
    ) -> Result<(), Exception> {
        let parts = u32::from(self.teach.0);
        let order = match command {
            1 => Teach::Begin(parts),
            2 => Teach::Add(parts),
            3 => return Ok(control.drop_part(who, self.teach.1.into())?),
            4 => {
                let (_, committed) = control.accept(who, None, now)?;
                return committed.map(|_| ()).ok_or(Exception::Later);
            }
            5 => Teach::End,
            6 => Teach::Good(None),
            7 => Teach::Bad(None),
            // A PLC that writes its registers in every cycle orders nothing by that.
            _ => return Ok(()),
        };
        Ok(control.teach(who, order)?)
    }

    /// `count` coils from `first` on, or those of them from `next` on: in the order of their numbers, up to
    /// the first that is refused or whose answer comes later.
    pub(super) fn write_coils<H: ControlledStation>(
        &mut self,
        (first, count, next): (u16, u16, u16),
        data: &[u8],
        now: Instant,
        control: &mut Control<H>,
    ) -> Result<(), Exception> {
        let last = first
            .checked_add(count.checked_sub(1).ok_or(VALUE)?)
            .ok_or(ADDRESS)?;
        if usize::from(last) >= COILS.len() {
            return Err(ADDRESS);
        }
        for coil in next..=last {
            self.next_coil = coil + 1;
            let place = usize::from(coil - first);
            let on = data[place / 8] & (1 << (place % 8)) != 0;
            let coil = Coil::at(coil).ok_or(ADDRESS)?;
            self.write_coil(coil, on, now, control)?;
        }
        Ok(())
    }

    fn write_coil<H: ControlledStation>(
        &mut self,
        coil: Coil,
        on: bool,
        now: Instant,
        control: &mut Control<H>,
    ) -> Result<(), Exception> {
        let port = Arc::clone(&self.port);
        let who = who(self.session, &port, control);
        let paused = control.pause().is_some();
        let order = match (coil, on) {
            // A PLC that writes its coils in every cycle orders nothing by that.
            (Coil::Run, on) if on == coil.is_on(control.snapshot().mode, paused, false) => {
                return Ok(());
            }
            (Coil::Pause, true) if paused => return Ok(()),
            (Coil::Pause, true) => {
                control.begin_pause(&who, self.pause.into(), "", now)?;
                return Ok(());
            }
            // What somebody else began is not this client's to end.
            (Coil::Pause, false) => {
                let own = |p: &Pause| p.by.ends_with(&format!("@{port}"));
                if !control.pause().is_some_and(own) {
                    return Ok(());
                }
                Order::Arm
            }
            (Coil::Run, true) => Order::Arm,
            (Coil::Run, false) => Order::Disarm,
            (Coil::PowerOn, on) => {
                self.power_on &= on;
                return Ok(());
            }
            (_, false) => return Ok(()),
            (Coil::Commit, true) => {
                let committed = control.commit(&who, now)?;
                return committed.map(|_| ()).ok_or(Exception::Later);
            }
            (Coil::Revert, true) => {
                control.revert(self.session);
                return Ok(());
            }
            (Coil::Trigger, true) => Order::Trigger,
            (Coil::Acknowledge, true) => Order::Reset,
            (Coil::ResetCounters, true) => Order::ResetCounters,
            (Coil::Challenge, true) => Order::Challenge(self.pieces),
            (Coil::SelfTest, true) => Order::SelfTest,
            (Coil::Reboot, true) => Order::Reboot,
        };
        Ok(control.order(&who, order)?)
    }
}

fn words(data: &[u8]) -> impl Iterator<Item = u16> + '_ {
    data.chunks_exact(2)
        .map(|w| u16::from_be_bytes([w[0], w[1]]))
}
