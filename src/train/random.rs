//! Random CLIP weights and prompt learners: for benchmarks at real sizes, and for tests.

use super::TrainError;
use super::clip::VOCABULARY;
use super::tensors::store::Store;
use super::tensors::{Tensors, UNTRAINED};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use std::path::{Path, PathBuf};

/// CLIP's number of the start token.
const START_TOKEN: usize = 49406;

/// A standard normal number.
pub fn normal(rng: &mut ChaCha8Rng) -> f32 {
    StandardNormal.sample(rng)
}

/// Sizes of a network to make up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Architecture {
    /// The smallest that has everything: 8 x 1, patch 4, 8 px. Seeds of the fuzzer.
    Minimal,
    /// 128 x 4, patch 16, 224 px: quick trials.
    Tiny,
    /// ViT-S/16 at 224 px, text encoder of the same width.
    #[value(name = "ViT-S-16")]
    S16,
    /// ViT-B/32 at 224 px.
    #[value(name = "ViT-B-32")]
    B32,
    /// ViT-B/16 at 224 px.
    #[value(name = "ViT-B-16")]
    B16,
    /// ViT-B/16-plus-240.
    #[value(name = "ViT-B-16-plus-240")]
    B16Plus240,
    /// ViT-L/14 at 224 px.
    #[value(name = "ViT-L-14")]
    L14,
    /// ViT-L/14 at 336 px.
    #[value(name = "ViT-L-14-336")]
    L14At336,
}

/// Everything that sets tensor shapes.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Image encoder: width, blocks, patch, pixels.
    pub vision: (usize, usize, usize, usize),
    /// Text encoder: width (= C), blocks.
    pub text: (usize, usize),
    /// The numbers of tokens E and E', and of prompts K.
    pub tokens: (usize, usize, usize),
    /// M and the prior network's hidden width.
    pub prior: (usize, usize),
    /// Deep prompts: D - 1, t.
    pub deep: (usize, usize),
    /// Word rows with the end token: behind normal and abnormal tokens.
    pub words: (usize, usize),
}

impl Architecture {
    /// Its sizes, with the published code's prompts (E = 5, E' = 2, K = M = 10, D = 9, t = 4).
    pub fn sizes(self) -> Sizes {
        let (vision, text) = match self {
            Architecture::Minimal => {
                return Sizes {
                    vision: (8, 1, 4, 8),
                    text: (8, 2),
                    tokens: (2, 1, 2),
                    prior: (2, 3),
                    deep: (1, 1),
                    words: (3, 4),
                };
            }
            Architecture::Tiny => ((128, 4, 16, 224), (128, 4)),
            Architecture::S16 => ((384, 12, 16, 224), (384, 12)),
            Architecture::B32 => ((768, 12, 32, 224), (512, 12)),
            Architecture::B16 => ((768, 12, 16, 224), (512, 12)),
            Architecture::B16Plus240 => ((896, 12, 16, 240), (640, 12)),
            Architecture::L14 => ((1024, 24, 14, 224), (768, 12)),
            Architecture::L14At336 => ((1024, 24, 14, 336), (768, 12)),
        };
        let deep_blocks = 8.min(text.1 - 1);
        Sizes {
            vision,
            text,
            tokens: (5, 2, 10),
            prior: (10, 10 * text.0 / 16),
            deep: (deep_blocks, 4),
            words: (3, 4),
        }
    }
}

struct Maker {
    rng: ChaCha8Rng,
    store: Store,
}

impl Maker {
    fn put(&mut self, name: &str, shape: &[usize], mut value: impl FnMut(&mut ChaCha8Rng) -> f32) {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| value(&mut self.rng)).collect();
        self.store.half(name, shape, &values);
    }

    fn gauss(&mut self, name: &str, shape: &[usize], std: f32) {
        self.put(name, shape, |rng| normal(rng) * std);
    }

    /// A normalisation that is not the identity, so that tests see it.
    fn norm(&mut self, name: &str, width: usize) {
        self.put(&format!("{name}.weight"), &[width], |rng| {
            1.0 + 0.1 * normal(rng)
        });
        self.gauss(&format!("{name}.bias"), &[width], 0.05);
    }

    /// OpenAI's initialisation of a transformer.
    fn blocks(&mut self, prefix: &str, width: usize, layers: usize) {
        let attention = (width as f32).powf(-0.5);
        let residual = attention * (2.0 * layers as f32).powf(-0.5);
        for i in 0..layers {
            let at = |n: &str| format!("{prefix}transformer.resblocks.{i}.{n}");
            self.norm(&at("ln_1"), width);
            self.gauss(&at("attn.in_proj_weight"), &[3 * width, width], attention);
            self.gauss(&at("attn.in_proj_bias"), &[3 * width], 0.02);
            self.gauss(&at("attn.out_proj.weight"), &[width, width], residual);
            self.gauss(&at("attn.out_proj.bias"), &[width], 0.02);
            self.norm(&at("ln_2"), width);
            self.gauss(
                &at("mlp.c_fc.weight"),
                &[4 * width, width],
                (2.0 * width as f32).powf(-0.5),
            );
            self.gauss(&at("mlp.c_fc.bias"), &[4 * width], 0.02);
            self.gauss(&at("mlp.c_proj.weight"), &[width, 4 * width], residual);
            self.gauss(&at("mlp.c_proj.bias"), &[width], 0.02);
        }
    }

    fn write(mut self, path: &Path) -> Result<(), TrainError> {
        // `export` obeys it: a bundle of random numbers cannot claim to be trained.
        self.store.note(UNTRAINED, "true");
        self.store.save(path)
    }
}

/// Writes `clip.safetensors` (OpenAI's names) and `prompts.safetensors` (the
/// published code's names) to `folder`; returns their paths. Only random ones are replaced.
///
/// # Errors
/// [`TrainError::Output`]; [`TrainError::Options`] if there are others.
pub fn write(sizes: &Sizes, seed: u64, folder: &Path) -> Result<(PathBuf, PathBuf), TrainError> {
    use rand_chacha::rand_core::SeedableRng;
    std::fs::create_dir_all(folder).map_err(|source| TrainError::Output {
        path: folder.into(),
        source,
    })?;
    let (clip, prompts) = (
        folder.join("clip.safetensors"),
        folder.join("prompts.safetensors"),
    );
    for path in [&clip, &prompts] {
        if path.exists() && !Tensors::load(path).is_ok_and(|t| t.is_untrained()) {
            return Err(TrainError::Options(format!(
                "{} is there already, and is not random: choose another --out",
                path.display()
            )));
        }
    }
    let ((width, layers, patch, pixels), (text, text_layers)) = (sizes.vision, sizes.text);
    let (e, ea, k) = sizes.tokens;
    let scale = |w: usize| (w as f32).powf(-0.5);
    let start = |stream| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Maker {
            rng,
            store: Store::default(),
        }
    };

    let mut m = start(0);
    m.gauss(
        "visual.conv1.weight",
        &[width, 3, patch, patch],
        ((3 * patch * patch) as f32).powf(-0.5),
    );
    m.gauss("visual.class_embedding", &[width], scale(width));
    m.gauss(
        "visual.positional_embedding",
        &[1 + (pixels / patch).pow(2), width],
        scale(width),
    );
    m.norm("visual.ln_pre", width);
    m.blocks("visual.", width, layers);
    m.norm("visual.ln_post", width);
    m.gauss("visual.proj", &[width, text], scale(width));
    m.gauss("positional_embedding", &[77, text], 0.01);
    m.blocks("", text, text_layers);
    m.norm("ln_final", text);
    m.gauss("text_projection", &[text, text], scale(text));
    // The start token's row is kept: prompts name the weights that they belong to by it.
    let mut start_row = vec![];
    let mut at = 0;
    m.put("token_embedding.weight", &[VOCABULARY, text], |rng| {
        let value = 0.02 * normal(rng);
        if at / text == START_TOKEN {
            start_row.push(value);
        }
        at += 1;
        value
    });
    m.write(&clip)?;

    let mut m = start(1);
    let (prior, hidden) = sizes.prior;
    m.gauss("ctx_pos", &[1, 1, e, text], 0.02);
    m.gauss("ctx_neg", &[1, k, ea, text], 0.02);
    for i in 0..sizes.deep.0 {
        m.gauss(
            &format!("compound_prompts_text.{i}"),
            &[sizes.deep.1, text],
            0.02,
        );
    }
    m.gauss(
        "patch_meta_net.linear1.weight",
        &[hidden, prior * text],
        scale(prior * text),
    );
    m.gauss("patch_meta_net.linear1.bias", &[hidden], 0.02);
    m.gauss(
        "patch_meta_net.linear2.weight",
        &[text, hidden],
        0.1 * scale(hidden),
    );
    m.gauss("patch_meta_net.linear2.bias", &[text], 0.02);
    for (which, count, learned, words) in [
        ("pos", 1, e, sizes.words.0),
        ("neg", k, e + ea, sizes.words.1),
    ] {
        // One row of words serves all prompts, as in the published code.
        let mut row = start_row.iter().copied();
        m.put(&format!("token_prefix_{which}"), &[1, 1, 1, text], |_| {
            row.next().unwrap_or(0.0)
        });
        m.gauss(&format!("token_suffix_{which}"), &[1, 1, words, text], 0.02);
        let end = learned + words;
        let mut at = 0;
        m.put(
            &format!("tokenized_prompts_{which}"),
            &[1, count, 77],
            |_| {
                at += 1;
                if (at - 1) % 77 == end { 2.0 } else { 1.0 }
            },
        );
    }
    m.write(&prompts)?;
    Ok((clip, prompts))
}
