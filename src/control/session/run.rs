//! What each command does: one arm per verb. STATUS and TEACH, the longest, are functions of their own.

use super::answers::{challenge, counters, judging, lesson, taught};
use super::names::mode_name;
use super::result::ResultLine;
use super::{After, Answer, Output, Session, network_types};
use crate::control::command::{Command, VERBS, Verb};
use crate::control::host::{ControlledStation, Order, SelfTest, Teach};
use crate::control::refusal::{Code, Refusal, allowed};
use crate::control::shared::{Committed, Control, Who, alarm_names, self_test_name};
use crate::control::table::{Access, LEVELS, Parameter, Register, TABLE};
use crate::control::values::{Value, quoted};
use crate::line::SettingError;
use crate::line::settings::Pieces;
use std::fmt::Write;
use std::time::Instant;

impl Session {
    pub(super) fn run<H: ControlledStation>(
        &mut self,
        command: Command<'_>,
        now: Instant,
        control: &mut Control<H>,
        out: &mut Output,
        more: &mut Vec<String>,
    ) -> Answer {
        if self.is_locked_out(control) {
            self.logout(control);
        }
        let port = self.port.clone();
        let who = Who {
            session: self.id,
            port: &port,
            access: self.level(control),
        };
        allowed(who.access, command.verb.entry().access)?;
        match command.verb {
            Verb::Idn => {
                let (product, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
                let name = quoted(control.memory().text(Parameter::StationName));
                let level = who.access.name();
                let _ = write!(out, ",{product},{version},{name},{level}");
                let open = control.open_level();
                let _ = match open {
                    Access::Engineer => out.write_str(",no password set"),
                    _ => write!(out, ",{} without password", open.name()),
                };
            }
            Verb::Help => help(command.first, out, more)?,
            Verb::Get => {
                let parameter = parameter(command.first)?;
                let value = control.value(self.id, parameter);
                let shown = parameter.entry().show(value).to_string();
                let _ = write!(out, ",{},{}", parameter.name(), quoted(&shown));
            }
            Verb::Set => {
                let parameter = parameter(command.first)?;
                let text = command.second.unwrap_or_default();
                control.set_text(&who, parameter, text, now)?;
                let value = control.value(self.id, parameter);
                let shown = parameter.entry().show(value).to_string();
                let _ = write!(out, ",{},{}", parameter.name(), quoted(&shown));
            }
            Verb::List => {
                let start = command.first.unwrap_or_default();
                let listed = TABLE.iter().filter(|e| {
                    let begin = e.name.get(..start.len());
                    begin.is_some_and(|b| b.eq_ignore_ascii_case(start))
                });
                more.extend(listed.map(|e| {
                    let value = e.show(control.value(self.id, e.parameter)).to_string();
                    let value = quoted(&value);
                    let (unit, range, level) = (e.unit, e.range(), e.access.name());
                    let default = e.default_value();
                    let default = e.show(&default);
                    let (scope, effect) = (e.scope.name(), e.effect.name());
                    let register = match e.register {
                        None => "-".to_string(),
                        Some(Register::One(at)) => at.to_string(),
                        Some(Register::Two(at)) => format!("{at}+{}", at + 1),
                    };
                    let name = e.name;
                    format!("{name},{value},{unit},{range},{default},{level},{scope},{effect},{register}")
                }));
                if more.is_empty() {
                    return Err(Code::UnknownParameter.into());
                }
            }
            Verb::Commit => {
                let committed = control.commit(&who, now)?;
                self.changed(Verb::Commit, After::Commit, committed, control, out);
            }
            Verb::Revert => control.revert(self.id),
            Verb::Status => {
                match command.first {
                    None => (),
                    Some(word) if word.eq_ignore_ascii_case("clear") => self.power_on = false,
                    Some(_) => return Err(Code::BadArgument.into()),
                }
                self.status(&who, now, control, out);
            }
            Verb::Counters => match command.first {
                None => {
                    let types = network_types(control);
                    counters(&control.snapshot(), &types, more);
                }
                Some(word) if word.eq_ignore_ascii_case("reset") => {
                    control.order(&who, Order::ResetCounters)?;
                    let _ = out.write_str(",reset");
                }
                Some(_) => return Err(Code::BadArgument.into()),
            },
            Verb::Results => {
                match command.first {
                    None => (),
                    Some(word) if word.eq_ignore_ascii_case("on") => {
                        self.results.get_or_insert(control.next_result());
                    }
                    Some(word) if word.eq_ignore_ascii_case("off") => self.results = None,
                    Some(_) => return Err(Code::BadArgument.into()),
                }
                let on = if self.results.is_some() { "on" } else { "off" };
                let _ = write!(out, ",{on}");
            }
            Verb::Last => {
                let last = control.snapshot().last.ok_or_else(|| {
                    Refusal::new(Code::WrongMode, "no part has passed since the start")
                })?;
                let json = control.memory().text(Parameter::ResultFormat) == "json";
                let line = ResultLine {
                    result: last,
                    json,
                    types: &network_types(control),
                };
                let _ = write!(out, ",{line}");
            }
            Verb::Trig => control.order(&who, Order::Trigger)?,
            Verb::Arm => control.order(&who, Order::Arm)?,
            Verb::Disarm => control.order(&who, Order::Disarm)?,
            Verb::Recipe => {
                let committed = match command.first {
                    Some(wanted) => {
                        let found = control.memory().find(wanted).ok_or(Code::NoSuchRecipe)?;
                        control.select_recipe(&who, found, now)?
                    }
                    None => Some(Committed::default()),
                };
                self.changed(Verb::Recipe, After::Recipe, committed, control, out);
            }
            Verb::Teach => {
                let arguments = (command.first, command.second);
                self.teach(arguments, &who, now, control, out, more)?;
            }
            Verb::Challenge => match command.first {
                Some(pieces) => {
                    let pieces: u32 = pieces.parse().map_err(|_| Code::NotANumber)?;
                    let pieces = Pieces::new(pieces).map_err(|e| {
                        let text = match e {
                            SettingError::OutOfRange { low, high, .. } => {
                                format!("{low} to {high} test pieces")
                            }
                            e => e.to_string(),
                        };
                        Refusal::new(Code::OutOfRange, text)
                    })?;
                    control.order(&who, Order::Challenge(pieces))?;
                    let _ = write!(out, ",running,{}", pieces.get());
                }
                None => challenge(&control.snapshot(), out),
            },
            Verb::Alarms => {
                let alarms = control.snapshot().alarms;
                let stop = control.alarms_that_stop();
                let _ = write!(out, ",{}", alarms.bits());
                more.extend(alarm_names(alarms).map(|(number, name)| {
                    let stops = stop.bits() & (1 << number) != 0;
                    format!("{number},{name},{}", if stops { "stop" } else { "tell" })
                }));
            }
            Verb::Ack => {
                control.order(&who, Order::Reset)?;
                let left = control.snapshot().alarms.bits();
                let _ = write!(out, ",{left}");
            }
            Verb::SelfTest => {
                control.order(&who, Order::SelfTest)?;
                let _ = out.write_str(",started");
            }
            Verb::Log => {
                let wanted: usize = match command.first {
                    None => 10,
                    Some(lines) => lines.parse().map_err(|_| Code::NotANumber)?,
                };
                let skip = control.log().len().saturating_sub(wanted);
                more.extend(control.log().skip(skip).map(str::to_string));
                if more.is_empty() {
                    let _ = out.write_str(",lines=0");
                }
            }
            Verb::Login | Verb::Logout if self.afar => {
                let text = "over a network a session has the level that it began with";
                return Err(Refusal::new(Code::WrongMode, text));
            }
            Verb::Login => {
                let wanted = command.first.unwrap_or_default();
                let level = LEVELS
                    .into_iter()
                    .find(|l| l.name().eq_ignore_ascii_case(wanted));
                let level = level.ok_or(Code::BadArgument)?;
                let password = command.second.unwrap_or_default();
                let level = control.login(level, password, now)?;
                self.log_in(level, control);
                let _ = write!(out, ",{}", self.level(control).name());
            }
            Verb::Logout => {
                self.logout(control);
                let _ = write!(out, ",{}", self.level(control).name());
            }
            Verb::Reboot => control.order(&who, Order::Reboot)?,
            Verb::Pause => {
                if let Some(minutes) = command.first {
                    let minutes = minutes.parse().map_err(|_| Code::NotANumber)?;
                    let reason = command.second.unwrap_or_default();
                    control.begin_pause(&who, minutes, reason, now)?;
                }
                let _ = match control.pause() {
                    None => out.write_str(",none"),
                    Some(pause) => {
                        let (left, reason) = (pause.left(now), quoted(&pause.reason));
                        write!(out, ",running,{left},{reason},{}", quoted(&pause.by))
                    }
                };
            }
        }
        Ok(())
    }

    fn status<H: ControlledStation>(
        &self,
        who: &Who<'_>,
        now: Instant,
        control: &mut Control<H>,
        out: &mut Output,
    ) {
        let s = control.snapshot();
        let mode = mode_name(s.mode);
        let outputs = s.outputs;
        let fault = outputs.fault || control.memory_fault();
        let bit = u8::from;
        let _ = write!(
            out,
            ",mode={mode},ready={},busy={},result={},fault={},line_stop={},alarms={},recipe={},level={},\
             pending={},power_on={},memory={},self_test={}",
            bit(outputs.ready),
            bit(outputs.busy),
            bit(outputs.result),
            bit(fault),
            bit(outputs.line_stop),
            s.alarms.bits(),
            control.memory().active(),
            who.access.name(),
            bit(control.has_pending(self.id)),
            bit(self.power_on),
            if control.memory_fault() {
                "fault"
            } else {
                "ok"
            },
            self_test_name(s.self_test),
        );
        if let SelfTest::Failed(what) = s.self_test {
            let _ = write!(out, ":{what}");
        }
        let judges = control.host().judging();
        judging(&judges, out);
        let _ = write!(out, ",ignored={}", self.heard());
        taught(&judges, control.teach_report(), out);
        if let Some(pause) = control.pause() {
            let _ = write!(out, ",pause={}", pause.left(now));
        }
    }

    fn teach<H: ControlledStation>(
        &mut self,
        (first, second): (Option<&str>, Option<&str>),
        who: &Who<'_>,
        now: Instant,
        control: &mut Control<H>,
        out: &mut Output,
        more: &mut Vec<String>,
    ) -> Answer {
        let word = first.unwrap_or_default().to_ascii_uppercase();
        let needed = || second.ok_or(Refusal::from(Code::MissingArgument));
        let takes_one = matches!(
            &*word,
            "ADD" | "DROP" | "FORGET" | "GOOD" | "BAD" | "ACCEPT"
        );
        if second.is_some() && !takes_one {
            return Err(Code::TooManyArguments.into());
        }
        match &*word {
            "" => (),
            "ACCEPT" => {
                let threshold = second.map(|t| Parameter::Threshold.entry().parse(t));
                let threshold = match threshold.transpose()? {
                    Some(Value::Number(steps)) => Some(steps),
                    _ => None,
                };
                let (accepted, committed) = control.accept(who, threshold, now)?;
                self.changed(
                    Verb::Teach,
                    After::Accept(accepted),
                    committed,
                    control,
                    out,
                );
                return Ok(());
            }
            // REJECT was the name when a threshold was all that was taught.
            "CANCEL" | "REJECT" => {
                control.cancel(who)?;
                let _ = out.write_str(",cancelled");
                return Ok(());
            }
            "DROP" => {
                let number = needed()?.parse().map_err(|_| Code::NotANumber)?;
                control.drop_part(who, number)?;
            }
            "ADD" => {
                let parts = needed()?.parse().map_err(|_| Code::NotANumber)?;
                control.teach(who, Teach::Add(parts))?;
            }
            "FORGET" => control.teach(who, Teach::Forget(needed()?))?,
            "GOOD" | "BAD" => {
                let part = second.map(str::parse).transpose();
                let part = part.map_err(|_| Code::NotANumber)?;
                let order = match &*word {
                    "GOOD" => Teach::Good(part),
                    _ => Teach::Bad(part),
                };
                control.teach(who, order)?;
            }
            parts => {
                let parts = parts.parse().map_err(|_| Code::NotANumber)?;
                control.teach(who, Teach::Begin(parts))?;
            }
        }
        let Some(report) = control.teach_report() else {
            return Err(Code::NothingTaught.into());
        };
        lesson(&report, out, more);
        Ok(())
    }
}

pub(super) fn help(of: Option<&str>, out: &mut Output, more: &mut Vec<String>) -> Answer {
    let Some(word) = of else {
        more.extend(VERBS.iter().map(|v| format!("{}: {}", v.usage, v.help)));
        return Ok(());
    };
    if let Some(verb) = Verb::named(word) {
        let v = verb.entry();
        let _ = write!(out, ",{}: {} ({})", v.usage, v.help, v.access.name());
        return Ok(());
    }
    let e = parameter(Some(word))?.entry();
    let unit = if e.unit.is_empty() { "" } else { " " };
    let _ = write!(
        out,
        ",{}: {} ({}{unit}{}; {}; {})",
        e.name,
        e.help,
        e.range(),
        e.unit,
        e.access.name(),
        e.effect.name()
    );
    Ok(())
}

fn parameter(name: Option<&str>) -> Result<Parameter, Refusal> {
    let found = name.and_then(Parameter::named);
    found.ok_or(Code::UnknownParameter.into())
}
