//! A release onto a card that is not in its node.

use super::{FlashError, Ready};
use crate::bundle::Keys;
use crate::release::slots::Slots;
use std::path::Path;

/// A card: a folder where the root file system of a node is mounted.
#[derive(Clone, Copy, Debug)]
pub struct Card<'a>(pub &'a Path);

/// The service, and what `systemctl enable` makes.
const UNIT: &str = "usr/lib/systemd/system/faprompt-edge.service";
const WANTED: &str = "etc/systemd/system/multi-user.target.wants/faprompt-edge.service";

impl Card<'_> {
    /// The keys that its node trusts, if the package is installed there.
    fn keys(self) -> Result<Keys, FlashError> {
        let program = self.0.join("usr/bin/faprompt-edge");
        if !program.is_file() {
            return Err(FlashError::Local(format!(
                "{}: there is none: install the package on this card first, once, over ssh or with `dpkg -i` on the node",
                program.display()
            )));
        }
        let folder = self.0.join(Keys::FOLDER.trim_start_matches('/'));
        Ok(Keys::installed(&folder)?)
    }

    /// Whether the service is there and is not enabled yet.
    fn is_to_be_enabled(self) -> bool {
        self.0.join(UNIT).is_file() && self.0.join(WANTED).symlink_metadata().is_err()
    }

    /// Every step of [`Card::flash`] in words, as this card is now; changes nothing.
    ///
    /// # Errors
    /// The errors of [`Card::flash`] that can be known before.
    pub fn steps(self, ready: &Ready) -> Result<Vec<String>, FlashError> {
        let signature = ready.signature.as_deref();
        let keys = self.keys()?;
        keys.verify(ready.text().as_bytes(), signature, "release.toml")?;
        let slots = Slots::under(self.0);
        let (slot, status) = (slots.idle(ready.size())?, slots.status());
        let held = |slot| match status.of(slot) {
            Some(holds) => format!("release {}", holds.release),
            None => "nothing".into(),
        };
        let runs = match status.active {
            Some(active) => format!("slot {active} ({}), which runs, stays", held(active)),
            None => "what the package installed stays".into(),
        };
        let mut steps = vec![
            format!(
                "put release {} ({:.1} MB{}) into slot {slot}, {}, in place of {}; {runs}",
                ready.id(),
                ready.size() as f64 / 1e6,
                if ready.is_signed() { ", signed" } else { "" },
                self.0.join("opt/faprompt-edge").join(slot.to_string()).display(),
                held(slot),
            ),
            "set it on trial: the node starts it when it boots from this card, and takes what runs now again \
             unless it becomes ready"
                .into(),
        ];
        if self.is_to_be_enabled() {
            let link = self.0.join(WANTED);
            steps.push(format!("enable the service: {}", link.display()));
        }
        Ok(steps)
    }

    /// Puts a release onto it and enables the service; its node starts it, on trial, when it boots.
    ///
    /// # Errors
    /// [`FlashError::Release`]; [`FlashError::Local`] if the package is not installed there.
    pub fn flash(self, ready: &Ready) -> Result<(), FlashError> {
        let keys = self.keys()?;
        let mut package =
            tempfile::tempfile().map_err(|e| FlashError::Local(format!("temporary file: {e}")))?;
        ready.write(&mut package)?;
        std::io::Seek::rewind(&mut package).map_err(|e| FlashError::Local(e.to_string()))?;
        Slots::under(self.0).install(package, &keys, false)?;
        if self.is_to_be_enabled() {
            let link = self.0.join(WANTED);
            let wants = link.parent().unwrap_or(self.0);
            std::fs::create_dir_all(wants)
                .and_then(|()| std::os::unix::fs::symlink(Path::new("/").join(UNIT), &link))
                .map_err(|e| FlashError::Local(format!("{}: {e}", link.display())))?;
        }
        Ok(())
    }
}
