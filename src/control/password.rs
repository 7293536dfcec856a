//! Passwords of the access levels: stored as Argon2id hashes, compared in constant time by the crate.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};

/// Characters of the longest password.
pub const LONGEST: usize = 32;

/// Characters of the shortest password that may be set (OWASP ASVS 5.0, 6.2.1). Older ones still open their level.
pub const SHORTEST: usize = 8;

/// The commonest passwords of at least [`SHORTEST`] characters, a line each (OWASP ASVS 5.0, 6.2.4); lines that begin with #
/// say where they are from.
const COMMON: &str = include_str!("common_passwords.txt");

/// What everybody tries first at this product: a password is not made of these alone (OWASP ASVS 5.0, 6.2.11).
const OWN_WORDS: [&str; 7] = [
    "faprompt",
    "edge",
    "operator",
    "engineer",
    "station",
    "inspection",
    "password",
];

/// 1 MiB, 3 passes, 1 lane: some milliseconds on a Cortex-A57. What it guards against is a copy of the
/// memory file; trying over the serial line is held back by waiting.
const MEMORY_KIB: u32 = 1024;
const PASSES: u32 = 3;

/// Why a password was not hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too long, or not printable ASCII without quotes.
    #[error("a password has at most 32 printable characters, no quotes")]
    Text,
    /// Too short for one that is to be set.
    #[error("a password has at least 8 characters")]
    Short,
    /// Among the commonest.
    #[error("this is one of the commonest passwords, which are tried first: take another one")]
    Common,
    /// Made of the product's words, the levels' and the station's name.
    #[error(
        "this is made of words that everybody tries here (level, product, station): take others"
    )]
    OwnWords,
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    Random,
}

fn argon2() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Whether a password may be set at a station of this name: not short, not common, not made of the product's and the
/// station's own words. Capital letters make no difference, nor do digits and marks around own words. The empty password,
/// which means none, may be.
///
/// # Errors
/// [`PasswordError::Short`], [`PasswordError::Common`], [`PasswordError::OwnWords`].
pub fn check(password: &str, station: &str) -> Result<(), PasswordError> {
    if password.is_empty() {
        return Ok(());
    }
    if password.chars().count() < SHORTEST {
        return Err(PasswordError::Short);
    }
    let small = password.to_ascii_lowercase();
    if COMMON.lines().any(|common| common == small) {
        return Err(PasswordError::Common);
    }
    let (letters, station) = (letters(&small), letters(&station.to_ascii_lowercase()));
    // A name of one or two letters would be found in anything.
    let named = (station.len() > 2).then_some(&*station);
    let words: Vec<&str> = OWN_WORDS.into_iter().chain(named).collect();
    match !letters.is_empty() && is_made_of(&letters, &words) {
        true => Err(PasswordError::OwnWords),
        false => Ok(()),
    }
}

fn letters(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphabetic).collect()
}

/// Whether a text of ASCII letters is words one after the other.
fn is_made_of(text: &str, words: &[&str]) -> bool {
    // `ends[i]`: the first i letters are whole words.
    let mut ends = vec![false; text.len() + 1];
    ends[0] = true;
    for i in 1..=text.len() {
        ends[i] = words
            .iter()
            .any(|word| word.len() <= i && ends[i - word.len()] && text[..i].ends_with(word));
    }
    ends[text.len()]
}

/// Hashes a password, as a PHC string; the empty password, which means none, gives the empty string.
///
/// # Errors
/// [`PasswordError`]: it is too long, or has characters that are not allowed.
pub fn hash(password: &str) -> Result<String, PasswordError> {
    let plain = password
        .bytes()
        .all(|b| matches!(b, b' '..=b'~') && b != b'"');
    if password.len() > LONGEST || !plain {
        return Err(PasswordError::Text);
    }
    if password.is_empty() {
        return Ok(String::new());
    }
    let argon2 = argon2().ok_or(PasswordError::Random)?;
    let hash = argon2.hash_password(password.as_bytes());
    hash.map(|h| h.to_string())
        .map_err(|_| PasswordError::Random)
}

/// Whether the text is a hash that [`hash`] makes. One that costs more, which a prepared backup may bring, would keep the
/// control for as long as it takes to compare with it.
pub fn is_hash(text: &str) -> bool {
    parsed(text).is_some()
}

fn parsed(text: &str) -> Option<PasswordHash> {
    let hash = PasswordHash::new(text).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let cost = (params.m_cost(), params.t_cost(), params.p_cost());
    let own = hash.algorithm == Algorithm::Argon2id.ident() && cost == (MEMORY_KIB, PASSES, 1);
    own.then_some(hash)
}

/// Whether the password has this hash. No password has the empty hash.
pub fn fits(password: &str, hash: &str) -> bool {
    argon2()
        .zip(parsed(hash))
        .is_some_and(|(a, h)| a.verify_password(password.as_bytes(), &h).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_password_only_and_is_salted() {
        let (one, other) = (hash("Line 4!").unwrap(), hash("Line 4!").unwrap());
        assert!(is_hash(&one) && fits("Line 4!", &one) && fits("Line 4!", &other));
        assert_ne!(one, other);
        assert!(!fits("line 4!", &one) && !fits("", &one));
        assert!(!fits("", "") && !is_hash("Line 4!"));
        // A hash that takes hours, and one of another kind.
        for other in [
            one.replace("t=3", "t=300000"),
            one.replace("m=1024", "m=4194304"),
            one.replace("argon2id", "argon2i"),
        ] {
            assert!(
                other != one && !is_hash(&other) && !fits("Line 4!", &other),
                "{other}"
            );
        }
        assert_eq!(hash(""), Ok(String::new()));
        assert_eq!(hash(&"x".repeat(33)), Err(PasswordError::Text));
        assert_eq!(hash("caf\u{e9}"), Err(PasswordError::Text));
    }

    #[test]
    fn what_is_short_common_or_ones_own_word_is_not_set() {
        let common: Vec<&str> = COMMON.lines().filter(|l| !l.starts_with('#')).collect();
        assert_eq!(common.len(), 3000);
        for word in common {
            assert!(word.len() >= SHORTEST && word == word.to_ascii_lowercase());
            assert_eq!(check(word, "station"), Err(PasswordError::Common), "{word}");
        }
        for (password, why) in [
            ("x", PasswordError::Short),
            ("Line 4!", PasswordError::Short),
            ("PassWord1", PasswordError::Common),
            ("1234567890", PasswordError::Common),
            ("operator1", PasswordError::OwnWords),
            ("Engineer-2026", PasswordError::OwnWords),
            ("faprompt-edge", PasswordError::OwnWords),
            ("operatoroperator", PasswordError::OwnWords),
            ("!station 4 operator!", PasswordError::OwnWords),
            ("Rim-Press 7", PasswordError::OwnWords),
        ] {
            assert_eq!(check(password, "Rim press"), Err(why), "{password}");
        }
        for password in [
            "",
            "Line 4 b",
            "operators",
            "edge of the belt",
            "8 1 9 5 2 0",
            "caf\u{e9} noir",
            "Rim-Press 7",
        ] {
            assert_eq!(check(password, "R1"), Ok(()), "{password}");
        }
    }
}
