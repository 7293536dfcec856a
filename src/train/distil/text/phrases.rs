//! The texts that a text encoder learns from, and where each of them shall lie.

use super::names::Names;
use ndarray::Array1;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Of a sound thing: `{x}` is what it is called.
const SOUND: [&str; 19] = [
    "a photo of a flawless {x}.",
    "a photo of a normal {x}.",
    "a photo of a perfect {x}.",
    "a photo of a good {x}.",
    "a photo of a {x} without defect.",
    "a close-up photo of a flawless {x}.",
    "a cropped photo of a {x}.",
    "a cropped photo of a perfect {x}.",
    "a photo of the {x} without damage.",
    "flawless {x}.",
    "a good {x}.",
    "a photo of an unblemished {x}.",
    "a {x} in good condition.",
    "a photo of a {x}.",
    "{x}.",
    "perfect {x}.",
    "a cropped photo of a {x}",
    "an inspection picture of a good {x}.",
    "a photo of my new {x}.",
];
/// Of a damaged one; `{d}` and `{e}` are kinds of damage that nothing is known of.
const DAMAGED: [&str; 15] = [
    "a photo of a damaged {x}.",
    "a cropped photo of a damaged {x}.",
    "damaged {x}.",
    "a damaged {x}.",
    "a photo of a defective {x}.",
    "a photo of a {x} with a defect.",
    "a photo of a {x} with damage.",
    "a photo of a flawed {x}.",
    "a close-up photo of a damaged {x}.",
    "a photo of an abnormal {x}.",
    "a broken {x}.",
    "an inspection picture of a defective {x}.",
    "a cropped photo of a {d} {e} damaged {x}.",
    "a cropped photo of a {d} {e} damaged {x}.",
    "a cropped photo of a damaged {x}.",
];
/// Of a damaged one whose damage is called `{d}`.
const OF_KIND: [&str; 10] = [
    "a photo of a {x} with a {d}.",
    "a {x} with {d}.",
    "a close-up photo of a {x} with a {d}.",
    "{d} damaged {x}.",
    "a cropped photo of a {d} {x}.",
    "a photo of {d} on a {x}.",
    "a cropped photo of a {d} damaged {x}.",
    "{d}.",
    "a photo of a damaged {x} with {d}.",
    "a cropped photo of a a photo {d} damaged {x}.",
];
/// Kinds of damage whether the labelled sets show them or not: what people's prompts say.
const OTHER_KINDS: [&str; 21] = [
    "bent",
    "broken",
    "discoloration",
    "compound",
    "contamination",
    "crack",
    "cut",
    "fabric",
    "faulty",
    "imprint",
    "gluing",
    "hole",
    "missing",
    "puncture",
    "rough",
    "scratch",
    "compressed",
    "threading",
    "liquid",
    "misaligned",
    "wear",
];
/// A thing that nothing is known of, and how many times it is named beside each other thing.
const THING: &str = "object";
const THINGS: usize = 3;
/// Part of a direction by which a name moves a text.
const MOVED: f32 = 0.5;

/// Makes texts.
pub struct Phrases<'a> {
    names: &'a Names,
    things: Vec<&'a str>,
    kinds: Vec<&'a str>,
    seed: u64,
}

/// A text, and the direction in which it shall lie, `[C]`, of any length.
pub type Phrase = (String, Array1<f32>);

impl<'a> Phrases<'a> {
    /// Of everything that has a name.
    pub fn new(names: &'a Names, seed: u64) -> Phrases<'a> {
        let mut things = vec![THING; THINGS];
        things.extend(names.things.keys().map(String::as_str));
        let mut kinds: Vec<&str> = names.kinds.keys().map(String::as_str).collect();
        kinds.extend(OTHER_KINDS);
        Phrases {
            names,
            things,
            kinds,
            seed,
        }
    }

    /// The longest name of a thing or of a kind of damage, with its number of tokens.
    pub fn longest(&self) -> (&str, usize) {
        let all = self.things.iter().chain(&self.kinds);
        let sized = all.map(|name| (*name, crate::train::prompts::token_ids(name).len()));
        sized.max_by_key(|s| s.1).unwrap_or((THING, 0))
    }

    /// The texts of a step, which depend on its number and the seed alone.
    pub fn batch(&self, step: usize, count: usize) -> Vec<Phrase> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(2 + step as u64);
        (0..count).map(|_| self.one(&mut rng)).collect()
    }

    fn one(&self, rng: &mut ChaCha8Rng) -> Phrase {
        let thing = *pick(&self.things, rng);
        let mut target = Array1::zeros(self.names.normal.len());
        let mut towards = |direction: Option<&Array1<f32>>| {
            if let Some(direction) = direction {
                target.scaled_add(MOVED, direction);
            }
        };
        towards(self.names.things.get(thing));
        let part = rng.next_u32() as f32 / u32::MAX as f32;
        let (template, kinds) = match part {
            p if p < 0.4 => (*pick(&SOUND, rng), ["", ""]),
            p if p < 0.6 => {
                let template = *pick(&DAMAGED, rng);
                (template, [(); 2].map(|()| *pick(&OTHER_KINDS, rng)))
            }
            _ => {
                let kind = *pick(&self.kinds, rng);
                towards(self.names.kinds.get(kind));
                (*pick(&OF_KIND, rng), [kind, ""])
            }
        };
        target += match part < 0.4 {
            true => &self.names.normal,
            false => &self.names.damaged,
        };
        let text = template
            .replace("{d}", kinds[0])
            .replace("{e}", kinds[1])
            .replace("{x}", thing);
        (text, target)
    }
}

fn pick<'b, T>(all: &'b [T], rng: &mut ChaCha8Rng) -> &'b T {
    &all[(rng.next_u64() % all.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn texts_say_what_their_directions_are() {
        let one = |i: usize| Array1::from_shape_fn(4, |k| f32::from(u8::from(k == i)));
        let names = Names {
            normal: one(0),
            damaged: one(1),
            things: BTreeMap::from([("bottle".into(), one(2))]),
            kinds: BTreeMap::from([("dent".into(), one(3))]),
        };
        let phrases = Phrases::new(&names, 5);
        let batch = phrases.batch(3, 400);
        assert_eq!(batch, phrases.batch(3, 400));
        assert_ne!(batch, phrases.batch(4, 400));
        for (text, target) in &batch {
            assert!(!text.contains('{'), "{text}");
            assert_eq!(target[0] + target[1], 1.0, "{text}");
            if target[2] > 0.0 {
                assert!(target[2] == MOVED && (text.contains("bottle") || target[1] == 1.0));
            } else {
                assert!(!text.contains("bottle"), "{text}");
            }
            assert_eq!(target[3] > 0.0, text.contains("dent"), "{text}");
        }
        let sound = batch.iter().filter(|p| p.1[0] == 1.0).count();
        assert!((120..200).contains(&sound), "{sound} of 400");
    }
}
