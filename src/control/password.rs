//! Passwords of the access levels: stored as Argon2id hashes, compared in constant time by the crate.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};

/// Characters of the longest password.
pub const LONGEST: usize = 32;

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
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    Random,
}

fn argon2() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
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

/// Whether the text is a hash that [`hash`] makes.
pub fn is_hash(text: &str) -> bool {
    text.starts_with("$argon2id$") && PasswordHash::new(text).is_ok()
}

/// Whether the password has this hash. No password has the empty hash.
pub fn fits(password: &str, hash: &str) -> bool {
    let parsed = PasswordHash::new(hash);
    argon2()
        .zip(parsed.ok())
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
        assert_eq!(hash(""), Ok(String::new()));
        assert_eq!(hash(&"x".repeat(33)), Err(PasswordError::Text));
        assert_eq!(hash("caf\u{e9}"), Err(PasswordError::Text));
    }
}
