//! Detached minisign (Ed25519) signatures, checked before anything of a file is parsed.

use super::BundleError;
use std::path::{Path, PathBuf};

/// The minisign public keys that a machine trusts. Without any, nothing needs a signature; with some,
/// everything needs one of any of them. That is how keys are changed: both are trusted for a while.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<(PathBuf, minisign_verify::PublicKey)>);

/// Where a bundle's signature lies: `FILE.minisig`, as `minisign -S` writes it.
pub fn signature_of(bundle: &Path) -> PathBuf {
    let mut name = bundle.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

impl Keys {
    /// The folder of a machine's keys: every `*.pub` in it is trusted.
    pub const FOLDER: &str = "/etc/faprompt-edge/keys";

    /// Reads key files as `minisign -G` writes them.
    ///
    /// # Errors
    /// [`BundleError::Key`].
    pub fn load(files: &[impl AsRef<Path>]) -> Result<Keys, BundleError> {
        let load = |path: &Path| {
            let fail =
                |e: &dyn std::fmt::Display| BundleError::Key(format!("{}: {e}", path.display()));
            let text = std::fs::read_to_string(path).map_err(|e| fail(&e))?;
            let key = minisign_verify::PublicKey::decode(&text)
                .map_err(|e| fail(&format!("not a minisign public key: {e}")))?;
            Ok((path.to_path_buf(), key))
        };
        files
            .iter()
            .map(|f| load(f.as_ref()))
            .collect::<Result<_, _>>()
            .map(Keys)
    }

    /// The keys of a folder. A folder that does not exist has none; one that cannot be read is an error.
    ///
    /// # Errors
    /// [`BundleError::Key`].
    pub fn installed(folder: &Path) -> Result<Keys, BundleError> {
        let fail = |e: std::io::Error| BundleError::Key(format!("{}: {e}", folder.display()));
        let entries = match std::fs::read_dir(folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Keys::default()),
            entries => entries.map_err(fail)?,
        };
        let mut files = entries
            .map(|e| e.map(|e| e.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(fail)?;
        files.retain(|f| f.extension().is_some_and(|e| e == "pub"));
        files.sort();
        Keys::load(&files)
    }

    /// Whether nothing needs a signature.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where they were read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(path, _)| path.as_path())
    }

    /// Checks `bytes` against the text of their signature; `what` names them in the error.
    ///
    /// # Errors
    /// [`BundleError::Signature`].
    pub fn verify(
        &self,
        bytes: &[u8],
        signature: Option<&str>,
        what: &str,
    ) -> Result<(), BundleError> {
        if self.is_empty() {
            return Ok(());
        }
        let fail = |why: String| Err(BundleError::Signature(format!("{what}: {why}")));
        let Some(text) = signature else {
            return fail("there is none, but this machine asks for one".into());
        };
        let decoded = match minisign_verify::Signature::decode(text) {
            Ok(decoded) => decoded,
            Err(e) => return fail(format!("not a minisign signature: {e}")),
        };
        match self
            .0
            .iter()
            .any(|(_, k)| k.verify(bytes, &decoded, false).is_ok())
        {
            true => Ok(()),
            false => {
                let keys: Vec<_> = self.files().map(|f| f.display().to_string()).collect();
                fail(format!("does not match with {}", keys.join(", ")))
            }
        }
    }
}
