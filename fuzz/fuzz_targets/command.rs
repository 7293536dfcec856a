//! The command parser: bytes to lines, as many as the rules in words say, and lines to commands; values of
//! SET to what the parameter can hold, and back.
#![no_main]

#[path = "../../tests/control/oracle.rs"]
#[allow(dead_code)]
mod oracle;

use faprompt_edge::control::Parameter;
use faprompt_edge::control::command::{Assembler, LINE, Verb, parse};
use faprompt_edge::control::table::Kind;
use libfuzzer_sys::fuzz_target;
use oracle::lines_in;
use std::time::{Duration, Instant};

fuzz_target!(|bytes: &[u8]| {
    let (mut assembler, now) = (Assembler::default(), Instant::now());
    let mut count = 0;
    for byte in bytes {
        let Some(line) = assembler.push(*byte, now) else {
            continue;
        };
        count += 1;
        let Ok(line) = line else { continue };
        let text = std::str::from_utf8(&line).expect("ASCII");
        assert!(text.len() <= LINE && text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t')));
        let Ok(command) = parse(text).command else {
            continue;
        };
        let arguments = [command.first, command.second].into_iter().flatten();
        assert!(arguments.clone().count() <= command.verb.entry().arguments.1);
        assert!(
            arguments
                .clone()
                .all(|a| text.contains(a) && !a.contains('"'))
        );
        if let (Verb::Set, Some(name), Some(value)) = (command.verb, command.first, command.second)
            && let Some(parameter) = Parameter::named(name)
            && let Ok(parsed) = parameter.entry().parse(value)
        {
            let shown = parameter.entry().show(&parsed).to_string();
            // A password is never shown.
            let secret = parameter.entry().kind == Kind::Secret;
            assert!(
                secret || parameter.entry().parse(&shown) == Ok(parsed),
                "{name} {value}"
            );
        }
    }
    assert_eq!(count, lines_in(bytes));
    assert!(!assembler.time_out(now, Duration::from_secs(1)));
});
