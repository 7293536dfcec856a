//! What must come out, said in another way than the program does it. The fuzzer uses it too.

use faprompt_edge::control::command::{VERBS, parse};

/// How many answers the bytes must have: one per line that is neither blank nor an answer, by the rules in words.
pub fn lines_in(bytes: &[u8]) -> usize {
    let (mut held, mut wrong, mut count) = (Vec::new(), false, 0);
    // Lines that belong to an answer, and what they begin with.
    let (mut name, mut left) = (String::new(), 0);
    for byte in bytes {
        match byte {
            b'\r' | b'\n' => {
                let text = String::from_utf8(std::mem::take(&mut held)).unwrap();
                let text = text.trim_start();
                let follows = left > 0 && text.starts_with(&format!("{name},"));
                if text.is_empty() {
                    count += usize::from(wrong);
                } else if is_answer(text) || matches!(bare(text), "OK" | "ER") {
                    let mut parts = bare(text).splitn(3, ',').skip(1);
                    name = parts.next().unwrap_or("").to_ascii_uppercase();
                    let known = VERBS.iter().any(|v| v.name == name);
                    let lines = text.rsplit_once(",lines=").map_or("", |(_, n)| n);
                    left = lines.parse::<u16>().ok().filter(|_| known).unwrap_or(0);
                } else if is_result(text) {
                } else if follows {
                    left -= 1;
                } else if text.contains("ER,?,") && (wrong || parse(text).command.is_err()) {
                    left = 0;
                } else {
                    left = 0;
                    count += 1;
                }
                wrong = false;
            }
            b if is_low_then_high(*b) && held.is_empty() && !wrong => (),
            0x1b => (held, wrong) = (Vec::new(), false),
            0x08 | 0x7f => _ = held.pop(),
            b'\t' | b' '..=b'~' if held.len() < 128 => held.push(*byte),
            _ => wrong = true,
        }
    }
    count
}

/// What the line makes by itself.
fn is_low_then_high(byte: u8) -> bool {
    (0..=8).any(|low| byte == (0xff_u16 << low) as u8)
}

/// A line without its sequence number.
fn bare(line: &str) -> &str {
    let numbered = line.strip_prefix('#').and_then(|l| l.split_once(' '));
    match numbered {
        Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => line,
    }
}

/// Whether a line of output is an answer, not one that follows it.
pub fn is_answer(line: &str) -> bool {
    let line = bare(line);
    line.starts_with("OK,") || line.starts_with("ER,")
}

/// Whether it is a part's result.
fn is_result(line: &str) -> bool {
    let Some(result) = line.strip_prefix("RESULT,") else {
        return false;
    };
    matches!(result.bytes().next(), Some(b'0'..=b'9' | b'{')) || result.starts_with("lost,")
}
