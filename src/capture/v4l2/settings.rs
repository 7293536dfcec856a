//! What the board file says about a camera.

use crate::capture::format::{Converter, Development, Flat, Layout, PixelFormat, Roi};
use crate::capture::{Orientation, Rotation};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A camera's settings, as they are written; [`check`](Self::check) says whether they make sense.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraSettings {
    /// The device node, or the command of a [`super::super::PipeCamera`]. A link under /dev/v4l/by-id or by-path stays the same after replugging.
    pub device: PathBuf,
    /// Its V4L2 code; without one, the first that both sides know (see [`PixelFormat::all`]).
    #[serde(default)]
    pub format: Option<PixelFormat>,
    /// Pixels per row that the camera delivers.
    pub width: u32,
    /// Rows that the camera delivers.
    pub height: u32,
    /// Frames per second; without it, as the driver has it.
    #[serde(default)]
    pub fps: Option<f64>,
    /// Buffers that the driver fills in turn, 2 to 32.
    #[serde(default = "four")]
    pub buffers: u32,
    /// Control name as v4l2-ctl prints it to value; written in the order booleans and menus first, read
    /// back and compared.
    #[serde(default)]
    pub controls: BTreeMap<String, i64>,
    /// The part of the picture that is inspected; without it, all of it.
    #[serde(default)]
    pub roi: Option<Roi>,
    /// Clockwise, after mirroring.
    #[serde(default)]
    pub rotate: Rotation,
    /// Left and right change places.
    #[serde(default)]
    pub flip_horizontal: bool,
    /// Top and bottom change places.
    #[serde(default)]
    pub flip_vertical: bool,
    /// Bayer only: see [`Development::black_level`].
    #[serde(default)]
    pub black_level: Option<u16>,
    /// Bayer only: see [`Development::white_balance`].
    #[serde(default)]
    pub white_balance: Option<[f32; 3]>,
    /// Bayer only: see [`Development::sample_shift`].
    #[serde(default)]
    pub sample_shift: u8,
    /// Bayer only: see [`Development::srgb_curve`].
    #[serde(default)]
    pub srgb_curve: bool,
    /// Bayer only: a file of the lens's shading, as `faprompt-edge flat` writes it.
    #[serde(default)]
    pub flat: Option<PathBuf>,
}

fn four() -> u32 {
    4
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("camera: {key}: {reason}")]
pub struct SettingsError {
    /// The key.
    pub key: &'static str,
    /// Why, and what would.
    pub reason: String,
}

impl CameraSettings {
    /// Whether the settings make sense before any device is asked.
    ///
    /// # Errors
    /// The first one that does not.
    pub fn check(&self) -> Result<(), SettingsError> {
        let bad = |key, reason: String| Err(SettingsError { key, reason });
        if self.device.as_os_str().is_empty()
            || self.device.as_os_str().as_encoded_bytes().contains(&0)
        {
            return bad("device", "name a device node, such as /dev/video0".into());
        }
        for (key, size) in [("width", self.width), ("height", self.height)] {
            if !(1..=32_768).contains(&size) {
                return bad(key, format!("{size} is not within 1 to 32768"));
            }
        }
        if !(2..=32).contains(&self.buffers) {
            return bad("buffers", format!("{} is not within 2 to 32", self.buffers));
        }
        if let Some(fps) = self.fps
            && !(0.01..=10_000.0).contains(&fps)
        {
            return bad("fps", format!("{fps} is not within 0.01 to 10000"));
        }
        if let Some(roi) = self.roi {
            let end = |start: u32, length: u32| start.saturating_add(length);
            if roi.width == 0
                || roi.height == 0
                || end(roi.x, roi.width) > self.width
                || end(roi.y, roi.height) > self.height
            {
                let all = format!("is not inside {} x {}", self.width, self.height);
                return bad("roi", all);
            }
        }
        self.check_development(self.format)
    }

    /// Whether the Bayer settings make sense for this format, once it is known.
    pub(super) fn check_development(
        &self,
        format: Option<PixelFormat>,
    ) -> Result<(), SettingsError> {
        let bad = |key, reason: String| Err(SettingsError { key, reason });
        let bits = match format {
            Some(PixelFormat::Bayer(_, samples)) => samples.bits(),
            None => 16,
            Some(other) => {
                let given = [
                    ("black_level", self.black_level.is_some()),
                    ("white_balance", self.white_balance.is_some()),
                    ("sample_shift", self.sample_shift != 0),
                    ("srgb_curve", self.srgb_curve),
                    ("flat", self.flat.is_some()),
                ];
                return match given.iter().find(|(_, given)| *given) {
                    Some((key, _)) => bad(key, format!("{other} has no raw samples; leave it out")),
                    None => Ok(()),
                };
            }
        };
        if let Some(black) = self.black_level
            && u32::from(black) >= (1 << bits) / 2
        {
            return bad(
                "black_level",
                format!("{black} is half of {bits} bits or more"),
            );
        }
        if let Some(gains) = self.white_balance
            && !gains.iter().all(|gain| (0.05..=20.0).contains(gain))
        {
            return bad("white_balance", "three factors within 0.05 to 20".into());
        }
        if self.sample_shift > 6 {
            return bad(
                "sample_shift",
                format!("{} is more than 6", self.sample_shift),
            );
        }
        Ok(())
    }

    /// What makes pictures of frames of this layout.
    ///
    /// # Errors
    /// What is wrong with region, development or the file of the lens's shading, for a person.
    pub(in crate::capture) fn converter(&self, layout: Layout) -> Result<Converter, String> {
        let converter = Converter::new(layout, self.roi, &self.development());
        let mut converter = converter.map_err(|e| e.to_string())?;
        if let Some(path) = &self.flat {
            let bad = |e: &dyn std::fmt::Display| format!("flat: {}: {e}", path.display());
            let text = std::fs::read_to_string(path).map_err(|e| bad(&e))?;
            let flat: Flat = serde_json::from_str(&text).map_err(|e| bad(&e))?;
            converter.correct(&flat).map_err(|e| bad(&e))?;
        }
        Ok(converter)
    }

    pub(in crate::capture) fn orientation(&self) -> Orientation {
        Orientation {
            flip_horizontal: self.flip_horizontal,
            flip_vertical: self.flip_vertical,
            rotate: self.rotate,
        }
    }

    pub(in crate::capture) fn development(&self) -> Development {
        Development {
            black_level: self.black_level.unwrap_or(0),
            white_balance: self.white_balance.unwrap_or([1.0; 3]),
            sample_shift: self.sample_shift,
            srgb_curve: self.srgb_curve,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "device = '/dev/video0'\nwidth = 640\nheight = 480\n";

    fn check(more: &str) -> Result<(), SettingsError> {
        let settings: CameraSettings = toml::from_str(&format!("{LEAST}{more}")).unwrap();
        settings.check()
    }

    #[test]
    fn a_full_set_is_taken() {
        check("").unwrap();
        check(
            "format = 'RG10'\nfps = 29.97\nbuffers = 8\nrotate = 90\nflip_vertical = true\n\
             black_level = 60\nwhite_balance = [1.8, 1.0, 1.6]\nsample_shift = 6\nsrgb_curve = true\n\
             controls = { auto_exposure = 1, exposure_time_absolute = 100 }\n\
             roi = { x = 160, y = 120, width = 320, height = 360 }\n",
        )
        .unwrap();
    }

    #[test]
    fn nonsense_is_refused_with_its_key() {
        for (text, key) in [
            ("buffers = 1", "buffers"),
            ("fps = 0.0", "fps"),
            ("fps = nan", "fps"),
            ("roi = { x = 1, y = 0, width = 640, height = 480 }", "roi"),
            (
                "roi = { x = 4294967295, y = 0, width = 2, height = 2 }",
                "roi",
            ),
            ("format = 'YUYV'\nblack_level = 3", "black_level"),
            ("format = 'GREY'\nsrgb_curve = true", "srgb_curve"),
            ("format = 'BA81'\nblack_level = 128", "black_level"),
            ("white_balance = [1.0, nan, 1.0]", "white_balance"),
            ("sample_shift = 7", "sample_shift"),
        ] {
            assert_eq!(check(text).unwrap_err().key, key);
        }
        for text in ["rotate = 45", "format = 'H264'", "gain = 3"] {
            assert!(toml::from_str::<CameraSettings>(&format!("{LEAST}{text}\n")).is_err());
        }
    }
}
