//! Captions in plain lower-case English.

use super::{Defect, Picture};

const NORMAL: &[&str] = &[
    "a photo of a flawless {x}.",
    "a photo of a normal {x}.",
    "a photo of a perfect {x}.",
    "a photo of a good {x}.",
    "a photo of a {x} without defect.",
    "a close-up photo of a flawless {x}.",
    "a close-up photo of a {x} without damage.",
    "a photo of an unblemished {x}.",
    "a cropped photo of a perfect {x}.",
    "an inspection picture of a good {x}.",
    "a {x} in good condition.",
    "a photo of the normal {x}.",
    "a photo of a {x}.",
    "flawless {x}.",
    "a good {y}.",
    "a photo of a flawless {y}.",
];

const ABNORMAL: &[&str] = &[
    "a photo of a {x} with {d}.",
    "a close-up photo of a {x} with {d}.",
    "a {x} with {d}.",
    "a photo of a damaged {x}.",
    "a photo of a defective {x} with {d}.",
    "a photo of a {a} {x}.",
    "a close-up photo of a {a} {x}.",
    "a cropped photo of a {a} {y}.",
    "an inspection picture of a {x} with {d}.",
    "a photo of a {x} with a defect.",
    "damaged {x} with {d}.",
    "a photo of a flawed {x}, {w}.",
    "a {a} {y}.",
    "a photo of {d} on a {x}.",
    "a photo of an abnormal {x} with {d}.",
    "a photo of a {y} with {d}.",
];

/// With an article, and as an adjective.
fn phrases(defect: Defect) -> (&'static [&'static str], &'static str) {
    match defect {
        Defect::Bent => (&["a bent part", "a bend"], "bent"),
        Defect::Broken => (&["a broken part", "a chipped edge"], "broken"),
        Defect::Discoloration => (
            &["a discoloration", "a stain", "a color spot"],
            "discolored",
        ),
        Defect::Compound => (&["compound defects", "several defects"], "damaged"),
        Defect::Contamination => (
            &["a contamination", "foreign matter", "dirt"],
            "contaminated",
        ),
        Defect::Crack => (&["a crack", "cracks"], "cracked"),
        Defect::Cut => (&["a cut", "a slit"], "cut"),
        Defect::Fabric => (&["a fabric defect", "a weaving fault"], "torn"),
        Defect::FaultyImprint => (&["a faulty imprint", "a print defect"], "misprinted"),
        Defect::Gluing => (&["a gluing defect", "glue residue", "glue"], "glued"),
        Defect::Hole => (&["a hole", "holes"], "perforated"),
        Defect::Missing => (&["a missing part", "missing material"], "incomplete"),
        Defect::Puncture => (&["a puncture", "a poke"], "punctured"),
        Defect::Rough => (&["a rough spot", "a rough surface"], "rough"),
        Defect::Scratch => (&["a scratch", "scratches"], "scratched"),
        Defect::Compressed => (
            &["a dent", "a compressed area", "squeezed material"],
            "compressed",
        ),
        Defect::Threading => (&["a loose thread", "a threading defect"], "frayed"),
        Defect::Liquid => (&["a liquid stain", "spilled liquid", "liquid"], "wet"),
        Defect::Misaligned => (&["a misaligned part", "a misplaced part"], "misaligned"),
        Defect::Wear => (&["wear", "worn areas"], "worn"),
    }
}

/// Everything that captions are made of: every text of [`Picture::caption`] has only words of these.
pub fn vocabulary() -> Vec<String> {
    let templates = NORMAL.iter().chain(ABNORMAL).map(|t| {
        let bare = ["{x}", "{y}", "{d}", "{a}", "{w}"]
            .iter()
            .fold(t.to_string(), |t, hole| t.replace(hole, " "));
        format!("{bare} an")
    });
    let defects = Defect::ALL.into_iter().flat_map(|d| {
        let (nouns, adjective) = phrases(d);
        nouns
            .iter()
            .map(|n| n.to_string())
            .chain([adjective.to_string(), d.word().to_string()])
    });
    let things = super::product::names().chain(super::surface::names());
    templates
        .chain(defects)
        .chain(things.map(String::from))
        .collect()
}

impl Picture {
    /// One of several captions; any number is a valid variant.
    pub fn caption(&self, variant: u32) -> String {
        let thing = format!("{} {}", self.surface, self.product);
        let list = if self.defect.is_some() {
            ABNORMAL
        } else {
            NORMAL
        };
        let template = list[variant as usize % list.len()];
        let mut text = template.replace("{x}", &thing).replace("{y}", self.product);
        if let Some(defect) = self.defect {
            let (nouns, adjective) = phrases(defect);
            let noun = nouns[variant as usize / list.len() % nouns.len()];
            text = text.replace("{d}", noun).replace("{a}", adjective);
            text = text.replace("{w}", defect.word());
        }
        // The article before a vowel.
        for vowel in ["a", "e", "i", "o", "u"] {
            text = text.replace(&format!(" a {vowel}"), &format!(" an {vowel}"));
            if text.starts_with(&format!("a {vowel}")) {
                text.insert(1, 'n');
            }
        }
        text
    }
}
