use super::*;
use proptest::prelude::*;

fn set(values: &mut Values, name: &str, text: &str) -> Result<(), ValueError> {
    let parameter = Parameter::named(name).expect("a parameter");
    values.set(parameter, parameter.entry().parse(text)?)
}

#[test]
fn the_defaults_are_valid_and_the_line_cores_own() {
    let values = Values::default();
    for entry in TABLE {
        assert_eq!(
            entry.check(&entry.default_value()),
            Ok(()),
            "{}",
            entry.name
        );
    }
    let settings = values.settings().unwrap();
    assert_eq!(settings.alarms, AlarmSettings::default());
    assert_eq!(settings.wiring, Wiring::default());
}

/// No range of the table is wider than what the line core takes: with all ends of all ranges in turn,
/// it never says that a value is out of range.
#[test]
fn the_line_core_takes_every_end_of_every_range() {
    for source in ["free_run", "interval", "edge", "encoder", "command"] {
        for axis in ["time", "counts"] {
            for entry in TABLE {
                let Some(high) = entry.kind.largest() else {
                    continue;
                };
                let low = match entry.kind {
                    Kind::Number { low, .. } | Kind::Decimal { low, .. } => low,
                    _ => 0,
                };
                for end in [0, low, high] {
                    let mut values = Values::default();
                    set(&mut values, "confirm", "on").unwrap();
                    set(&mut values, "alarm_rate_window", "10").unwrap();
                    set(&mut values, "trigger_source", source).unwrap();
                    set(&mut values, "reject_axis", axis).unwrap();
                    if values.set(entry.parameter, Value::Number(end)).is_err() {
                        continue;
                    }
                    if let Err(e) = values.settings() {
                        let range = matches!(
                            e.reason,
                            Reason::Line(SettingError::OutOfRange { .. } | SettingError::Threshold)
                        );
                        assert!(!range, "{e}");
                    }
                }
            }
        }
    }
}

#[test]
fn contradictions_name_the_parameter() {
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[("wiring", "energise_to_reject")], "confirm"),
        (&[("reject_lead_ms", "1501")], "reject_lead_ms"),
        (
            &[("reject_axis", "counts"), ("reject_lead_counts", "10001")],
            "reject_lead_counts",
        ),
        (
            &[("trigger_source", "edge"), ("part_spacing_us", "10000")],
            "part_spacing_us",
        ),
        (
            &[
                ("trigger_source", "interval"),
                ("trigger_interval_ms", "19"),
            ],
            "trigger_interval_ms",
        ),
    ];
    for (changes, name) in cases {
        let mut values = Values::default();
        for (parameter, text) in changes {
            set(&mut values, parameter, text).unwrap();
        }
        let error = values.settings().unwrap_err();
        assert_eq!(error.parameter.name(), name);
        assert!(error.to_string().starts_with(name), "{error}");
    }
}

#[test]
fn mistakes_are_told_apart() {
    use Parameter as P;
    let parse = |p: P, text| p.entry().parse(text).unwrap_err();
    assert_eq!(
        parse(P::PulseWidthMs, "x"),
        ValueError::NotANumber(P::PulseWidthMs)
    );
    assert_eq!(
        parse(P::PulseWidthMs, ""),
        ValueError::NotANumber(P::PulseWidthMs)
    );
    for parameter in [P::PulseWidthMs, P::Threshold] {
        for wrong in ["1e3", "1e-1", "inf", "-inf", "nan", "NaN", "0,42", "."] {
            assert_eq!(
                parse(parameter, wrong),
                ValueError::NotANumber(parameter),
                "{wrong}"
            );
        }
    }
    let fine = parse(P::PulseWidthMs, "0.8");
    assert_eq!(fine, ValueError::TooFine(P::PulseWidthMs));
    assert_eq!(fine.to_string(), "pulse_width_ms has steps of 1");
    assert_eq!(P::PulseWidthMs.entry().parse("80.0"), Ok(Value::Number(80)));
    for wrong in ["0", "10001", "-1", "-1.5", "99999999999999999999"] {
        assert_eq!(
            parse(P::PulseWidthMs, wrong),
            ValueError::OutOfRange(P::PulseWidthMs)
        );
    }
    assert_eq!(
        parse(P::Threshold, "0.00005"),
        ValueError::TooFine(P::Threshold)
    );
    for wrong in ["1.0001", "-0.1"] {
        assert_eq!(
            parse(P::Threshold, wrong),
            ValueError::OutOfRange(P::Threshold)
        );
    }
    assert_eq!(
        parse(P::Wiring, "both"),
        ValueError::NoSuchChoice(P::Wiring)
    );
    assert_eq!(
        parse(P::AlarmStop, "1"),
        ValueError::OutOfRange(P::AlarmStop)
    );
    assert_eq!(
        parse(P::RecipeName, "a\"b"),
        ValueError::Text(P::RecipeName)
    );
    let long = "x".repeat(33);
    assert_eq!(parse(P::RecipeName, &long), ValueError::Text(P::RecipeName));
    assert_eq!(
        parse(P::EngineerPassword, "rim of the cap"),
        ValueError::NoHash(P::EngineerPassword)
    );
    assert_eq!(
        parse(P::AlarmRateWindow, "9"),
        ValueError::OutOfRange(P::AlarmRateWindow)
    );
    assert_eq!(P::AlarmRateWindow.entry().parse("0"), Ok(Value::Number(0)));
    assert_eq!(P::AlarmStop.entry().parse("0x0A"), Ok(Value::Number(10)));
}

#[test]
fn every_alarm_can_stop_the_line() {
    let mut values = Values::default();
    assert_eq!(values.alarms_that_stop(), AlarmSet::DEFAULT_STOP);
    for alarm in crate::line::alarms::ALARMS {
        let bit = 1u32 << alarm as u8;
        set(&mut values, "alarm_stop", &(bit & 0xffff).to_string()).unwrap();
        set(&mut values, "alarm_stop_from_16", &(bit >> 16).to_string()).unwrap();
        assert_eq!(values.alarms_that_stop(), AlarmSet::of(&[alarm]));
        let settings = values.settings().unwrap();
        assert_eq!(settings.alarms.stop_on, AlarmSet::of(&[alarm]));
    }
}

proptest! {
    /// What is shown reads back as the same value, for every parameter and value.
    #[test]
    fn shown_values_read_back(place in 0..COUNT, number: u32, text in "[ -!#-~]{0,40}") {
        let entry = &TABLE[place];
        for value in [Value::Number(number % 70_000), Value::Number(number), Value::Text(text.clone())] {
            if entry.kind != Kind::Secret && entry.check(&value).is_ok() {
                prop_assert_eq!(entry.parse(&entry.show(&value).to_string()), Ok(value));
            }
        }
    }
}
