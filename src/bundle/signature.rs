//! Detached minisign (Ed25519) signatures, checked before anything of a bundle is parsed.

use super::BundleError;
use std::path::{Path, PathBuf};

/// A minisign public key.
#[derive(Clone, Debug)]
pub struct PublicKey(minisign_verify::PublicKey);

/// Where a bundle's signature lies: `FILE.minisig`, as `minisign -S` writes it.
pub fn path_for(bundle: &Path) -> PathBuf {
    let mut name = bundle.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

impl PublicKey {
    /// Reads a key file as `minisign -G` writes it.
    ///
    /// # Errors
    /// [`BundleError::Key`].
    pub fn load(path: &Path) -> Result<PublicKey, BundleError> {
        let fail = |e: &dyn std::fmt::Display| BundleError::Key(format!("{}: {e}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| fail(&e))?;
        let key = minisign_verify::PublicKey::decode(&text)
            .map_err(|e| fail(&format!("not a minisign public key: {e}")))?;
        Ok(PublicKey(key))
    }

    /// Checks `bytes` against the signature in `signature`.
    ///
    /// # Errors
    /// [`BundleError::Signature`].
    pub fn verify(&self, bytes: &[u8], signature: &Path) -> Result<(), BundleError> {
        let fail =
            |what: String| BundleError::Signature(format!("{}: {what}", signature.display()));
        let text =
            std::fs::read_to_string(signature).map_err(|e| fail(format!("cannot be read: {e}")))?;
        let decoded = minisign_verify::Signature::decode(&text)
            .map_err(|e| fail(format!("not a minisign signature: {e}")))?;
        self.0
            .verify(bytes, &decoded, false)
            .map_err(|e| fail(format!("does not match the bundle and this key: {e}")))
    }
}
