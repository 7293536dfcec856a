//! What a frame must look like to be judged at all.

use super::recent::Recent;
use crate::capture::{ViewFlaw, ViewLimits, Watchman};
use crate::control::table::Parameter;
use crate::control::values::Values;
use crate::line::Cause;
use crate::memory::{Light, LightLimits, TaughtLight};
use image::RgbImage;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Limits that a frame must keep to be judged; one outside of them rejects its part.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameLimits {
    /// Limits of its brightness.
    pub view: ViewLimits,
    /// This many equal frames in a row mean that the camera is frozen; `None`: never.
    pub identical: Option<u32>,
    /// How far its light may lie outside of the range of the taught parts, if good parts were taught.
    pub light: LightLimits,
}

impl FrameLimits {
    /// Reads the limits from the parameters.
    pub fn of(values: &Values) -> Self {
        // The parameters keep to their ranges, which end at 255.
        let level = |parameter| values.number(parameter).min(255) as u8;
        FrameLimits {
            view: ViewLimits {
                spread: level(Parameter::FrameSpread),
                bright: level(Parameter::FrameBright),
                dark: level(Parameter::FrameDark),
            },
            identical: values.optional(Parameter::FrameIdentical),
            light: LightLimits {
                brightness: values.optional(Parameter::LightBrightness),
                sharpness: values.optional(Parameter::LightSharpness),
            },
        }
    }
}

/// One camera's limits, as its thread and control share them.
#[derive(Default)]
pub(super) struct FrameSetting(Mutex<Wanted>);

#[derive(Default)]
struct Wanted {
    limits: FrameLimits,
    /// The range of light of the good parts that were taught; `None`: nothing was.
    light: Option<TaughtLight>,
    /// Says whether a lesson takes parts: then any light is right, for it may be the new one.
    recent: Option<Arc<Recent>>,
}

impl FrameSetting {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, limits: FrameLimits) {
        self.lock().limits = limits;
    }

    /// From now on frames are compared with the light of what a network was taught.
    pub(super) fn taught(&self, light: Option<TaughtLight>, recent: Option<Arc<Recent>>) {
        self.lit(light);
        self.lock().recent = recent;
    }

    /// From now on frames are compared with this light; `None`: with none.
    pub(super) fn lit(&self, light: Option<TaughtLight>) {
        self.lock().light = light;
    }

    /// Why a frame cannot be judged, if so: the cause of the reject, and a sentence for the records.
    pub(super) fn flaw(
        &self,
        image: &RgbImage,
        watchman: &mut Watchman,
    ) -> Option<(Cause, String)> {
        let (limits, taught) = {
            let wanted = self.lock();
            let taking = wanted.recent.as_ref().is_some_and(|r| r.takes_parts());
            (wanted.limits, wanted.light.filter(|_| !taking))
        };
        if let Some(flaw) = watchman.look(image, &limits.view, limits.identical) {
            let cause = match flaw {
                ViewFlaw::Frozen(_) => Cause::Frozen,
                ViewFlaw::Dark(_) | ViewFlaw::Glaring(_) | ViewFlaw::Even(_) => {
                    Cause::NothingVisible
                }
            };
            return Some((cause, flaw.to_string()));
        }
        let flaw = taught?.flaw(Light::of(image), &limits.light)?;
        Some((Cause::Light, flaw.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Camera, PatternCamera};
    use crate::control::values::Value;
    use crate::memory::Layout;
    use crate::runtime::recent::Lane;
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    #[test]
    fn a_frame_in_another_light_than_the_taught_one_is_a_reject_and_a_dark_one_is_dark() {
        let frames = FrameSetting::default();
        frames.set(FrameLimits::of(&Values::default()));
        let mut camera = PatternCamera::new(3);
        let mut next = |factor: f32| {
            let mut image = RgbImage::default();
            camera.capture(&mut image, Duration::ZERO).unwrap();
            for value in image.iter_mut() {
                *value = (f32::from(*value) * factor) as u8;
            }
            image
        };
        let mut watchman = Watchman::default();
        let mut flaw = |image: &RgbImage| frames.flaw(image, &mut watchman);
        // Nothing taught: any light.
        assert_eq!(flaw(&next(0.6)), None);
        frames.lit(TaughtLight::of((0..8).map(|_| Light::of(&next(1.0)))));
        assert_eq!(flaw(&next(1.0)), None);
        let (cause, said) = flaw(&next(0.6)).unwrap();
        assert!(
            cause == Cause::Light && said.contains("brightness"),
            "{said}"
        );
        assert_eq!(flaw(&next(0.0)).unwrap().0, Cause::NothingVisible);
        // Switched off by its parameters.
        let mut values = Values::default();
        for parameter in [Parameter::LightBrightness, Parameter::LightSharpness] {
            values.set(parameter, Value::Number(0)).unwrap();
        }
        frames.set(FrameLimits::of(&values));
        assert_eq!(flaw(&next(0.6)), None);
        // As before, and nothing is taught any more.
        frames.set(FrameLimits::of(&Values::default()));
        assert_eq!(flaw(&next(0.6)).unwrap().0, Cause::Light);
        // While a lesson takes parts they are taught in whatever light there is.
        let recent = Arc::new(Recent::new(Layout {
            grid: 2,
            tiles: crate::tiling::Tiling::WHOLE,
            dim: 4,
        }));
        frames.lock().recent = Some(recent.clone());
        let (left, pictures) = (1, 0);
        let inbox = sync_channel(1).0;
        recent.teach(Some(Lane {
            inbox,
            left,
            pictures,
        }));
        assert_eq!(flaw(&next(0.6)), None);
        recent.teach(None);
        assert_eq!(flaw(&next(0.6)).unwrap().0, Cause::Light);
        frames.lit(None);
        assert_eq!(flaw(&next(0.6)), None);
    }
}
