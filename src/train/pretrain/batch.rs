//! Pictures and captions as the dual encoder takes them, rendered ahead of it on threads of their own.

use crate::train::nn::image::cut;
use crate::train::render::{self, Defect, Part, Picture};
use image::imageops;
use image::{GrayImage, RgbImage};
use instant_clip_tokenizer::Tokenizer;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, sync_channel};

/// Defect words.
pub const CLASSES: usize = Defect::ALL.len();
/// A patch counts as fully abnormal from this part of its area on: a hairline crosses few pixels.
const FULL_COVERAGE: f32 = 1.0 / 12.0;
/// Batches that may wait.
const AHEAD: usize = 3;

/// How "normal" and "damaged" are said; one pair per batch, so that the text tower sees many.
const STATES: [(&str, &str); 8] = [
    ("object.", "damaged object."),
    ("flawless object.", "damaged object."),
    ("normal object.", "abnormal object."),
    (
        "a photo of a flawless object.",
        "a photo of a damaged object.",
    ),
    ("a photo of an object.", "a photo of a damaged object."),
    ("perfect object.", "object with a defect."),
    (
        "a photo of a good object.",
        "a photo of an object with a defect.",
    ),
    ("object.", "defective object."),
];

/// The words that captions use, as rows of a short token table.
pub struct Words {
    tokenizer: Tokenizer,
    /// CLIP's token numbers, ascending.
    pub tokens: Vec<usize>,
    row: BTreeMap<usize, usize>,
}

impl Default for Words {
    /// Of everything that the renderer and this module can say.
    fn default() -> Words {
        let mut words = Words {
            tokenizer: Tokenizer::new(),
            tokens: vec![],
            row: BTreeMap::new(),
        };
        let said = render::vocabulary()
            .into_iter()
            .chain(
                STATES
                    .iter()
                    .flat_map(|(a, b)| [a.to_string(), b.to_string()]),
            )
            .chain(Defect::ALL.map(kind));
        let mut tokens: Vec<usize> = said.flat_map(|text| words.tokens_of(&text)).collect();
        tokens.sort_unstable();
        tokens.dedup();
        words.row = tokens.iter().enumerate().map(|(i, t)| (*t, i)).collect();
        words.tokens = tokens;
        words
    }
}

impl Words {
    fn tokens_of(&self, text: &str) -> Vec<usize> {
        let mut tokens = vec![self.tokenizer.start_of_text()];
        self.tokenizer.encode(text, &mut tokens);
        tokens.push(self.tokenizer.end_of_text());
        tokens.into_iter().map(|t| t.to_u16() as usize).collect()
    }

    /// A text as rows of the table, start and end token included.
    ///
    /// # Panics
    /// If the renderer says a word that its vocabulary does not list.
    pub fn rows(&self, text: &str) -> Vec<usize> {
        let row = |t: usize| {
            *self
                .row
                .get(&t)
                .unwrap_or_else(|| panic!("\"{text}\" has a word that the vocabulary lacks"))
        };
        self.tokens_of(text).into_iter().map(row).collect()
    }
}

fn kind(defect: Defect) -> String {
    format!("object with {}.", defect.word())
}

/// A batch on the host.
pub struct Batch {
    /// Pictures: normal and abnormal ones of the same scenes, alternating.
    pub pictures: usize,
    /// Patches a side.
    pub grid: usize,
    /// Top left cell of the positions.
    pub window: (usize, usize),
    /// [pictures, grid * grid, 3 * patch * patch].
    pub patches: Vec<f32>,
    /// How abnormal each patch is, 0..=1, [pictures, grid * grid].
    pub coverage: Vec<f32>,
    /// 1 for abnormal, [pictures].
    pub labels: Vec<f32>,
    /// One-hot defect of each clearly abnormal patch, else zeros, [pictures, grid * grid, CLASSES].
    pub kind_of: Vec<f32>,
    /// Token rows of (normal, damaged).
    pub states: Vec<Vec<usize>>,
    /// Token rows of the distinct captions.
    pub captions: Vec<Vec<usize>>,
    /// Caption of each picture.
    pub caption_of: Vec<usize>,
    /// Token rows of the defect words.
    pub kinds: Vec<Vec<usize>>,
}

/// Which batches.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Same seed, same pictures.
    pub seed: u64,
    /// Training or validation families.
    pub part: Part,
    /// Side of the pictures in pixels.
    pub side: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Patches a side that the tower has positions for.
    pub positions: usize,
    /// Scenes; twice as many pictures.
    pub pairs: usize,
    /// Whether distance, tone, colour and texture vary beyond what one camera does.
    pub varied: bool,
}

/// CLIP's normalisation of each 8-bit level and channel.
fn normalised(image: &RgbImage) -> Vec<f32> {
    use crate::train::clip::{MEAN, STD};
    let n = (image.width() * image.height()) as usize;
    let mut out = vec![0f32; 3 * n];
    for (i, pixel) in image.pixels().enumerate() {
        for c in 0..3 {
            out[c * n + i] = (f32::from(pixel.0[c]) / 255.0 - MEAN[c]) / STD[c];
        }
    }
    out
}

/// One of the eight ways to lay a square down.
fn turned(image: RgbImage, mask: GrayImage, way: u32) -> (RgbImage, GrayImage) {
    let (image, mask) = match way % 4 {
        0 => (image, mask),
        1 => (imageops::rotate90(&image), imageops::rotate90(&mask)),
        2 => (imageops::rotate180(&image), imageops::rotate180(&mask)),
        _ => (imageops::rotate270(&image), imageops::rotate270(&mask)),
    };
    if way & 4 == 0 {
        (image, mask)
    } else {
        (
            imageops::flip_horizontal(&image),
            imageops::flip_horizontal(&mask),
        )
    }
}

/// How abnormal each patch is.
fn coverage(mask: &GrayImage, patch: usize) -> Vec<f32> {
    let (side, grid) = (mask.width() as usize, mask.width() as usize / patch);
    let full = FULL_COVERAGE * (patch * patch) as f32;
    let mut out = vec![0f32; grid * grid];
    for (i, v) in mask.as_raw().iter().enumerate() {
        let (x, y) = (i % side / patch, i / side / patch);
        if *v > 0 && x < grid && y < grid {
            out[y * grid + x] += 1.0;
        }
    }
    out.iter().map(|v| (v / full).min(1.0)).collect()
}

impl Batch {
    /// Batch `index` of a plan. The same on every machine, whatever the number of threads.
    pub fn make(plan: &Plan, index: u64, words: &Words) -> Batch {
        let mut rng = ChaCha8Rng::seed_from_u64(plan.seed ^ 0xba7c4);
        rng.set_stream(index);
        let first = index * plan.pairs as u64;
        let ways: Vec<u32> = (0..plan.pairs).map(|_| rng.next_u32()).collect();
        let pictures: Vec<Picture> = (0..plan.pairs)
            .into_par_iter()
            .flat_map_iter(|i| {
                let pair = if plan.varied {
                    render::varied_pair
                } else {
                    render::pair
                };
                let (a, b) = pair(plan.seed, first + i as u64, plan.side, plan.part);
                [a, b].map(|p| {
                    let (image, mask) = turned(p.image, p.mask, ways[i]);
                    Picture { image, mask, ..p }
                })
            })
            .collect();
        let grid = plan.side / plan.patch;
        let free = (plan.positions - grid) as u32 + 1;
        let window = (
            (rng.next_u32() % free) as usize,
            (rng.next_u32() % free) as usize,
        );
        let states = STATES[rng.next_u32() as usize % STATES.len()];
        let mut batch = Batch {
            pictures: pictures.len(),
            grid,
            window,
            patches: vec![],
            coverage: vec![],
            labels: vec![],
            kind_of: vec![],
            states: vec![words.rows(states.0), words.rows(states.1)],
            captions: vec![],
            caption_of: vec![],
            kinds: Defect::ALL.iter().map(|d| words.rows(&kind(*d))).collect(),
        };
        let mut said: BTreeMap<String, usize> = BTreeMap::new();
        for picture in &pictures {
            let abnormal = picture.defect.is_some();
            cut(
                &normalised(&picture.image),
                plan.side,
                plan.patch,
                &mut batch.patches,
            );
            let covered = coverage(&picture.mask, plan.patch);
            for c in &covered {
                let mut one_hot = [0f32; CLASSES];
                if let Some(d) = picture.defect.filter(|_| *c >= 0.5) {
                    one_hot[d as usize] = 1.0;
                }
                batch.kind_of.extend(one_hot);
            }
            batch.coverage.extend(covered);
            batch.labels.push(f32::from(abnormal));
            let caption = picture.caption(rng.next_u32());
            let next = said.len();
            let at = *said.entry(caption.clone()).or_insert(next);
            if at == next {
                batch.captions.push(words.rows(&caption));
            }
            batch.caption_of.push(at);
        }
        batch
    }
}

/// Renders batches `from..to` ahead of whoever takes them, in order.
pub fn stream(plan: Plan, from: u64, to: u64) -> Receiver<Batch> {
    let (send, receive) = sync_channel(AHEAD);
    std::thread::spawn(move || {
        let words = Words::default();
        for index in from..to {
            // A closed channel: whoever took them has stopped.
            if send.send(Batch::make(&plan, index, &words)).is_err() {
                return;
            }
        }
    });
    receive
}
