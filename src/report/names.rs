//! Names of result files.

use std::ffi::{OsStr, OsString};

/// The longest name of a file that file systems take, in bytes.
const LONGEST: usize = 255;

/// `name` with `end` behind it. A name that would become too long is shortened; what makes it different from others
/// stays: a sum of all of it.
pub fn fitting(name: &OsStr, end: &str) -> OsString {
    let mut result = name.to_owned();
    result.push(end);
    if result.len() <= LONGEST {
        return result;
    }
    // FNV-1a.
    let sum = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let sum = name
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, sum);
    let end = format!("~{sum:016x}{end}");
    let text = name.to_string_lossy();
    let start = text.floor_char_boundary(LONGEST.saturating_sub(end.len()));
    format!("{}{end}", &text[..start]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_shortened_and_stay_different() {
        assert_eq!(fitting("a.jpg".as_ref(), ".png"), "a.jpg.png");
        let longest = "é".repeat(125) + "x";
        assert_eq!(
            fitting(longest.as_ref(), ".png"),
            *(longest.clone() + ".png")
        );
        let results = ["1", "2"].map(|n| fitting(("é".repeat(127) + n).as_ref(), ".png"));
        assert!(results[0] != results[1]);
        for result in results {
            let text = result.to_str().unwrap();
            assert!(text.len() <= LONGEST && text.len() > 250 && text.ends_with(".png"));
        }
    }
}
