//! Watches whether parts that pass still look as they were taught. All judges feed one watch.

use crate::memory::{Light, LightLimits, Taught, TaughtLight, Watch};
use image::RgbImage;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Seed of the random numbers that break ties; its value does not matter.
const SEED: u64 = 1;

/// Weight of the last part's light in the running average, 0..=1.
const LAST: f32 = 1.0 / 16.0;

/// State of a line whose parts are watched.
struct Watched {
    watch: Watch,
    /// Running average of the light of the parts that passed; `None` before the first.
    light: Option<Light>,
}

impl Watched {
    fn new(taught: &Taught, threshold: f32) -> Watched {
        Watched {
            watch: Watch::new(taught, threshold, SEED),
            light: None,
        }
    }

    fn lit(&mut self, light: Light) {
        let before = self.light.unwrap_or(light);
        let mean = |before: f32, last: f32| before + LAST * (last - before);
        self.light = Some(Light {
            brightness: mean(before.brightness, light.brightness),
            sharpness: mean(before.sharpness, light.sharpness),
        });
    }
}

/// Names the likely cause of a line's drift: its light, if that left the range of the taught parts.
fn cause(taught: Option<TaughtLight>, now: Option<Light>) -> String {
    let strictly = LightLimits {
        brightness: Some(0),
        sharpness: Some(0),
    };
    let flaw = taught.zip(now).and_then(|(t, now)| t.flaw(now, &strictly));
    match flaw {
        Some(flaw) => flaw.to_string(),
        None => "brightness and sharpness are as taught: look at the product, where it lies, and what wears".into(),
    }
}

/// The watch over one camera's parts; without taught parts nothing is watched.
#[derive(Default)]
pub(super) struct DriftWatch(Mutex<Option<Watched>>);

impl DriftWatch {
    fn watched(&self) -> MutexGuard<'_, Option<Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on parts are compared with what was taught.
    pub(super) fn taught(&self, taught: Option<&Taught>, threshold: f32) {
        *self.watched() = taught.map(|taught| Watched::new(taught, threshold));
    }

    /// Takes in the score of a part, as fused of the memory's and FAPrompt's, on a line that rejects scores above
    /// `threshold`. Returns the likely cause if the line no longer looks as taught. Allocates only then, and after
    /// a change of the threshold.
    pub(super) fn part(
        &self,
        taught: &Taught,
        score: f32,
        threshold: f32,
        frame: &RgbImage,
    ) -> Option<String> {
        let mut watched = self.watched();
        let watched = watched.as_mut()?;
        if !watched.watch.is_for(threshold) {
            *watched = Watched::new(taught, threshold);
        }
        let changed = watched.watch.part(score)?;
        watched.lit(Light::of(frame));
        changed.then(|| cause(taught.about().light(), watched.light))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::region::Regions;
    use crate::memory::{Fusion, Kind, LIMIT, Layout, Lesson, Settings, ZeroShot};
    use crate::tiling::Tiling;

    fn taught() -> Taught {
        let layout = Layout {
            grid: 2,
            tiles: Tiling::WHOLE,
            dim: 3,
        };
        let settings = Settings {
            kind: Some(Kind::Position),
            fusion: Fusion::default(),
            false_rejects: 0.01,
            regions: Regions::default(),
            views: crate::memory::Views::default(),
        };
        let mut lesson = Lesson::new(layout, settings).unwrap();
        for part in 0..20 {
            let wave = |i: usize| 1.0 + 0.1 * ((i * (part + 3)) as f32).sin();
            let descriptors: Vec<f32> = (0..12).map(wave).collect();
            let zero_shot = ZeroShot {
                score: 0.5 + 0.01 * (part % 7) as f32,
                highest: 0.5,
            };
            lesson.part("", &descriptors, zero_shot).unwrap();
            lesson.lit(Light {
                brightness: 100.0 + part as f32,
                sharpness: 0.0,
            });
        }
        lesson.finish("e", "f32").unwrap()
    }

    #[test]
    fn parts_that_pass_less_easily_than_those_before_raise_it() {
        let taught = taught();
        let frame = RgbImage::from_pixel(8, 8, image::Rgb([90; 3]));
        let watch = DriftWatch::default();
        let part = |score: f32, threshold: f32| watch.part(&taught, score, threshold, &frame);
        assert_eq!(part(0.49, LIMIT), None, "nothing was taught");
        watch.taught(Some(&taught), LIMIT);
        let parts = |score: fn(u32) -> f32, threshold: f32| {
            (0..300).find_map(|i| part(score(i), threshold))
        };
        let usual = |i: u32| 0.2 + 0.001 * (i * 37 % 100) as f32;
        assert_eq!((parts(usual, LIMIT), parts(|_| 0.9, LIMIT)), (None, None));
        let cause = parts(|_| 0.45, LIMIT).unwrap();
        assert!(
            cause.contains("brightness 90 is below the 100 to 119"),
            "{cause}"
        );
        // Another threshold begins anew.
        assert_eq!((parts(|_| 0.45, 0.3), parts(usual, 0.3)), (None, None));
        assert!(
            parts(|_| 0.1, 0.3).is_some(),
            "all better than those before"
        );
        watch.taught(None, LIMIT);
        assert_eq!(parts(|_| 0.45, LIMIT), None);
    }

    #[test]
    fn the_cause_is_the_light_if_that_left_the_taught_range() {
        let light = |brightness, sharpness| Light {
            brightness,
            sharpness,
        };
        let taught = TaughtLight::of([light(100.0, 0.3), light(110.0, 0.4)]);
        let of = |now| cause(taught, Some(now));
        assert!(of(light(90.0, 0.3)).contains("brightness 90 is below"));
        assert!(of(light(105.0, 0.45)).contains("sharpness 0.450 is above"));
        assert!(of(light(105.0, 0.35)).contains("as taught"));
        assert!(cause(None, None).contains("as taught"));
    }
}
