//! What must come out, said in another way than the program does it. The fuzzer uses it too.

/// How many answers the bytes must have: one per line that is not blank, by the rules in words.
pub fn lines_in(bytes: &[u8]) -> usize {
    let (mut held, mut wrong, mut count) = (Vec::new(), false, 0);
    for byte in bytes {
        match byte {
            b'\r' | b'\n' => {
                count += usize::from(wrong || held.iter().any(|b| !matches!(b, b' ' | b'\t')));
                (held, wrong) = (Vec::new(), false);
            }
            0x1b => (held, wrong) = (Vec::new(), false),
            0x08 | 0x7f => _ = held.pop(),
            b'\t' | b' '..=b'~' if held.len() < 128 => held.push(*byte),
            _ => wrong = true,
        }
    }
    count
}

/// Whether a line of output is an answer, not one that follows it.
pub fn is_answer(line: &str) -> bool {
    let line = match line.strip_prefix('#') {
        Some(numbered) => numbered.split_once(' ').map_or("", |(_, rest)| rest),
        None => line,
    };
    line.starts_with("OK,") || line.starts_with("ER,")
}
