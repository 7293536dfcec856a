//! Prompt learners: the published code's names, and the trainer's own.

use super::TrainError;
use super::clip::{Clip, Dense};
use super::fit;
use super::fit::checkpoint::RECORD;
use super::fit::variant::PriorSource;
use super::pull;
use super::random::normal;
use super::render::Defect;
use super::tensors::{TensorError, Tensors};
use htmlize::unescape;
use instant_clip_tokenizer::{Token, Tokenizer};
use ndarray::{Array1, Array2, Array3, ArrayD, ArrayViewMut1, Axis, concatenate, s};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use unicode_normalization::UnicodeNormalization;

/// The words behind a normal prompt's learned tokens.
pub const NORMAL_WORDS: &str = "object.";
/// The words behind an abnormal prompt's (the paper's text leaves "damaged" out; its code has it).
pub const ABNORMAL_WORDS: &str = "damaged object.";

/// The words that learned tokens may begin with.
const PHRASE: &str = "a cropped photo of a";

/// Stands for words whose embeddings came with the prompts.
pub const FROM_FILE: &str = "(from the checkpoint)";

/// CAP's tokens, the deep prompts and psi.
pub struct Prompts {
    /// Where they were read.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub digest: String,
    /// Whether the file says that its numbers were never trained.
    pub untrained: bool,
    /// V, the learned tokens of the normal prompt, [E, C].
    pub normal: Array2<f32>,
    /// A, [K, E', C].
    pub abnormal: Array3<f32>,
    /// Overwrites positions 1..=t before blocks 1, 2, ...: [t, C] each.
    pub deep: Vec<Array2<f32>>,
    /// psi's first layer, [hidden, M * C].
    pub fc1: Dense,
    /// psi's second layer, [C, hidden].
    pub fc2: Dense,
    /// Embedding of the start token, `[C]`.
    pub start: Array1<f32>,
    /// Embeddings of the words and the end token behind a normal prompt, [n, C].
    pub normal_suffix: Array2<f32>,
    /// The same behind an abnormal prompt.
    pub abnormal_suffix: Array2<f32>,
    /// Whether the published code learned them.
    pub published: bool,
    /// What `fit` learned them with, JSON; only in this program's own files.
    pub record: Option<String>,
    /// Logits of a learned weighting of the K prompts, `[K]`; only in this program's own files.
    pub weights: Option<Array1<f32>>,
    /// The words; "(from the checkpoint)" where the file holds their embeddings instead.
    pub words: (String, String),
}

impl Prompts {
    /// Reads a prompt learner for `clip`, from a file or from what was pulled by that name.
    ///
    /// # Errors
    /// [`TrainError::Prompts`]: the file cannot be read or does not fit the weights.
    pub fn load(path: &Path, clip: &Clip) -> Result<Prompts, TrainError> {
        let path = &pull::resolve(path)?;
        let fail = |e: TensorError| TrainError::Prompts {
            path: path.clone(),
            what: e.to_string(),
        };
        let tensors = Tensors::load(path)
            .map_err(fail)?
            .without_prefix("prompt_learner.");
        let digest = tensors
            .digest()
            .map_err(|e| fail(TensorError::File(e.to_string())))?;
        read(&tensors, clip, digest).map_err(fail)
    }

    /// First numbers: Gaussian tokens as in CoOp, psi as PyTorch initialises dense layers.
    ///
    /// # Errors
    /// [`TrainError::Weights`] if the weights lack the words' embeddings.
    pub fn fresh(clip: &Clip, options: &fit::Options) -> Result<Prompts, TrainError> {
        let fail = |e: TensorError| TrainError::Weights {
            path: clip.path.clone(),
            what: e.to_string(),
        };
        let (start, normal_suffix) = embed(clip, NORMAL_WORDS).map_err(fail)?;
        let (_, abnormal_suffix) = embed(clip, ABNORMAL_WORDS).map_err(fail)?;
        let c = clip.text.width;
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let tokens = |rng: &mut ChaCha8Rng, rows: usize| {
            Array2::from_shape_fn((rows, c), |_| 0.02 * normal(rng))
        };
        let dense = |rng: &mut ChaCha8Rng, outputs: usize, inputs: usize| {
            let bound = (inputs as f32).powf(-0.5);
            let mut next = |_| bound * (2.0 * (rng.next_u32() as f32 / u32::MAX as f32) - 1.0);
            Dense {
                weight: Array2::from_shape_fn((outputs, inputs), |(i, _)| next(i)),
                bias: Array1::from_shape_fn(outputs, &mut next),
            }
        };
        let (k, variant) = (options.prompts, options.variant);
        let each = if variant.own_tokens {
            options.normal_tokens
        } else {
            options.abnormal_tokens
        };
        let inputs = match variant.prior {
            PriorSource::ImageToken => c,
            PriorSource::Off | PriorSource::Patches => options.patches * c,
        };
        let hidden = (inputs / 16).max(1);
        let mut prompts = Prompts {
            path: clip.path.clone(),
            digest: String::new(),
            untrained: false,
            normal: tokens(&mut rng, options.normal_tokens),
            abnormal: tokens(&mut rng, k * each)
                .into_shape_with_order((k, each, c))
                .expect("the same number of elements"),
            deep: (0..options.deep_blocks)
                .map(|_| tokens(&mut rng, options.deep_length))
                .collect(),
            fc1: dense(&mut rng, hidden, inputs),
            fc2: dense(&mut rng, c, hidden),
            published: false,
            record: None,
            weights: None,
            start,
            normal_suffix,
            abnormal_suffix,
            words: (NORMAL_WORDS.into(), ABNORMAL_WORDS.into()),
        };
        if options.start == fit::Start::Words {
            prompts.say(clip, variant.own_tokens).map_err(fail)?;
        }
        Ok(prompts)
    }

    /// Puts words where learned tokens are, and a prior of zero; deep prompts stay.
    fn say(&mut self, clip: &Clip, own_tokens: bool) -> Result<(), TensorError> {
        let tokens = |text: &str| -> Result<Array2<f32>, TensorError> {
            let rows = embed(clip, text)?.1;
            Ok(rows.slice(s![..-1, ..]).to_owned())
        };
        let put = |rows: &mut dyn Iterator<Item = ArrayViewMut1<f32>>, from: &[Array1<f32>]| {
            for (mut row, token) in rows.zip(from.iter().cycle()) {
                row.assign(token);
            }
        };
        let phrase: Vec<_> = tokens(PHRASE)?.outer_iter().map(|r| r.to_owned()).collect();
        put(&mut self.normal.outer_iter_mut(), &phrase);
        // Words of one token only: half a word says little.
        let mut defects = vec![];
        for defect in Defect::ALL {
            let rows = tokens(defect.word())?;
            if rows.nrows() == 1 {
                defects.push(rows.row(0).to_owned());
            }
        }
        let from = if own_tokens { &phrase } else { &defects };
        put(&mut self.abnormal.rows_mut().into_iter(), from);
        self.fc2.weight.fill(0.0);
        self.fc2.bias.fill(0.0);
        Ok(())
    }

    /// K, the number of abnormal prompts.
    pub fn count(&self) -> usize {
        self.abnormal.len_of(Axis(0))
    }

    /// A normal prompt's rows without positions, [1 + E + n, C].
    pub fn normal_rows(&self) -> Array2<f32> {
        self.rows(&self.normal_suffix, None)
    }

    /// Abnormal prompt `k`'s rows without positions, [1 + E + E' + n, C].
    pub fn abnormal_rows(&self, k: usize) -> Array2<f32> {
        self.rows(&self.abnormal_suffix, Some(k))
    }

    fn rows(&self, suffix: &Array2<f32>, k: Option<usize>) -> Array2<f32> {
        let start = self.start.view().insert_axis(Axis(0));
        let mut parts = vec![start, self.normal.view()];
        parts.extend(k.map(|k| self.abnormal.index_axis(Axis(0), k)));
        parts.push(suffix.view());
        concatenate(Axis(0), &parts).expect("rows of one width")
    }
}

/// `shape` without leading ones.
fn squeezed(array: ArrayD<f32>, rank: usize, name: &str) -> Result<ArrayD<f32>, TensorError> {
    let found = array.shape().to_vec();
    let mut shape: Vec<usize> = found.clone();
    while shape.len() > rank && shape.first() == Some(&1) {
        shape.remove(0);
    }
    if shape.len() != rank || shape.contains(&0) {
        return Err(TensorError::Shape {
            name: name.into(),
            found,
            wanted: format!("{rank} axes that are not empty"),
        });
    }
    Ok(array
        .into_shape_with_order(shape)
        .expect("the same number of elements"))
}

fn matrix(t: &Tensors, name: &str) -> Result<Array2<f32>, TensorError> {
    Ok(squeezed(t.array(name)?, 2, name)?
        .into_dimensionality()
        .expect("two axes"))
}

fn cube(t: &Tensors, name: &str) -> Result<Array3<f32>, TensorError> {
    Ok(squeezed(t.array(name)?, 3, name)?
        .into_dimensionality()
        .expect("three axes"))
}

/// CLIP's tokenizer; its tables take a while to make.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::new);

/// A text as CLIP's own code cleans it before it numbers it: what ftfy does to a text that is not garbled (typographic
/// quotes, ligatures, full-width letters become plain ones; composed characters), and HTML's character references
/// resolved, twice. Garbled text (a wrong encoding, seen twice) is not mended.
fn cleaned(text: &str) -> String {
    // ftfy takes a text with `<` for HTML, and leaves it alone.
    let text = match text.contains('<') {
        true => text.into(),
        false => unescape(text),
    };
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{2018}'..='\u{201b}' => plain.push('\''),
            '\u{201c}'..='\u{201f}' => plain.push('"'),
            'ﬀ' => plain.push_str("ff"),
            'ﬁ' => plain.push_str("fi"),
            'ﬂ' => plain.push_str("fl"),
            'ﬃ' => plain.push_str("ffi"),
            'ﬄ' => plain.push_str("ffl"),
            // Full-width forms stand as far from ASCII as their first one does.
            '\u{ff01}'..='\u{ff5e}' => {
                let ascii = u32::from(c) - 0xff01 + u32::from('!');
                plain.extend(char::from_u32(ascii));
            }
            other => plain.push(other),
        }
    }
    let composed: String = plain.nfc().collect();
    let resolved = unescape(unescape(composed).into_owned());
    let words: Vec<&str> = resolved.split_whitespace().collect();
    words.join(" ")
}

/// A text as CLIP's tokenizer numbers it, with start and end token.
pub fn token_ids(text: &str) -> Vec<usize> {
    let mut tokens = vec![TOKENIZER.start_of_text()];
    TOKENIZER.encode(&cleaned(text), &mut tokens);
    tokens.push(TOKENIZER.end_of_text());
    tokens
        .into_iter()
        .map(|t: Token| t.to_u16() as usize)
        .collect()
}

/// Embeddings from CLIP's own table: of the start token, and of a text's words with the end token.
///
/// # Errors
/// [`TensorError`] if the weights have no table, or one that is too small.
pub fn embed(clip: &Clip, text: &str) -> Result<(Array1<f32>, Array2<f32>), TensorError> {
    let table = clip
        .text
        .embedding
        .as_ref()
        .ok_or_else(|| TensorError::Missing("token_embedding.weight".into()))?;
    let ids = token_ids(text);
    if let Some(id) = ids.iter().find(|id| **id >= table.nrows()) {
        return Err(TensorError::File(format!(
            "the weights' vocabulary has {} tokens, but \"{text}\" needs token {id}",
            table.nrows()
        )));
    }
    Ok((
        table.row(ids[0]).to_owned(),
        table.select(Axis(0), &ids[1..]),
    ))
}

fn read(t: &Tensors, clip: &Clip, digest: String) -> Result<Prompts, TensorError> {
    let own = t.has("prompts.normal");
    let name = |own_name: &str, published: &str| {
        if own {
            own_name.to_string()
        } else {
            published.to_string()
        }
    };
    let normal_name = name("prompts.normal", "ctx_pos");
    let abnormal_name = name("prompts.abnormal", "ctx_neg");
    if !t.has(&normal_name) {
        let what = "neither `ctx_pos` (published code) nor `prompts.normal` (faprompt-train) is in it: no prompt learner";
        return Err(TensorError::File(what.into()));
    }
    let (normal, abnormal) = (matrix(t, &normal_name)?, cube(t, &abnormal_name)?);
    let width = clip.text.width;
    for (name, found) in [
        (&normal_name, normal.shape()),
        (&abnormal_name, abnormal.shape()),
    ] {
        if found.last() != Some(&width) {
            let wanted = format!("[.., {width}] (the text encoder's width)");
            return Err(TensorError::Shape {
                name: name.clone(),
                found: found.to_vec(),
                wanted,
            });
        }
    }
    let deep_stem = name("prompts.deep.", "compound_prompts_text.");
    let deep: Vec<Array2<f32>> = (0..t.count(&deep_stem, "")?)
        .map(|i| t.matrix(&format!("{deep_stem}{i}"), None, Some(width)))
        .collect::<Result<_, _>>()?;
    if let Some(odd) = deep.iter().position(|d| d.nrows() != deep[0].nrows()) {
        let wanted = format!("[{}, {width}], as the others", deep[0].nrows());
        return Err(TensorError::Shape {
            name: format!("{deep_stem}{odd}"),
            found: deep[odd].shape().to_vec(),
            wanted,
        });
    }
    if deep.len() >= clip.text.blocks.len() {
        let what = format!(
            "{} deep prompts for a text encoder of {} blocks",
            deep.len(),
            clip.text.blocks.len()
        );
        return Err(TensorError::File(what));
    }
    let layer = |own_name: &str, published: &str| -> Result<Dense, TensorError> {
        let stem = name(own_name, published);
        let weight = t.matrix(&format!("{stem}.weight"), None, None)?;
        let bias = t.vector(&format!("{stem}.bias"), weight.nrows())?;
        Ok(Dense { weight, bias })
    };
    let (fc1, fc2) = (
        layer("prior.fc1", "patch_meta_net.linear1")?,
        layer("prior.fc2", "patch_meta_net.linear2")?,
    );
    if fc1.weight.ncols() % width != 0 {
        let wanted = format!("[.., M * {width}]");
        return Err(TensorError::Shape {
            name: "first layer of the prior network".into(),
            found: fc1.weight.shape().to_vec(),
            wanted,
        });
    }
    if fc2.weight.dim() != (width, fc1.weight.nrows()) {
        let wanted = format!("[{width}, {}]", fc1.weight.nrows());
        return Err(TensorError::Shape {
            name: "second layer of the prior network".into(),
            found: fc2.weight.shape().to_vec(),
            wanted,
        });
    }
    let suffix = |which: &str| -> Result<(Array1<f32>, Array2<f32>), TensorError> {
        let (prefix, suffix) = (
            format!("token_prefix_{which}"),
            format!("token_suffix_{which}"),
        );
        let (start, rows) = (cube(t, &prefix)?, cube(t, &suffix)?);
        let (start, rows) = (
            start.slice(s![0, 0, ..]).to_owned(),
            rows.slice(s![0, .., ..]).to_owned(),
        );
        let length = end_row(t, which)?.checked_sub(
            1 + normal.nrows()
                + if which == "neg" {
                    abnormal.len_of(Axis(1))
                } else {
                    0
                },
        );
        match length {
            Some(n) if n < rows.nrows() && rows.ncols() == width && start.len() == width => {
                Ok((start, rows.slice(s![..=n, ..]).to_owned()))
            }
            _ => Err(TensorError::Shape {
                name: suffix,
                found: rows.shape().to_vec(),
                wanted: format!("[1, K, up to the end token, {width}]"),
            }),
        }
    };
    let weights = if t.has("prompts.weights") {
        Some(t.vector("prompts.weights", abnormal.len_of(Axis(0)))?)
    } else {
        None
    };
    let named = (NORMAL_WORDS.to_string(), ABNORMAL_WORDS.to_string());
    let embedded = !own && t.has("token_suffix_pos") && t.has("tokenized_prompts_pos");
    let (start, normal_suffix, abnormal_suffix) = if !own
        && t.has("token_suffix_pos")
        && t.has("tokenized_prompts_pos")
    {
        let (start, normal_suffix) = suffix("pos")?;
        let (_, abnormal_suffix) = suffix("neg")?;
        if let Some(table) = &clip.text.embedding {
            let known = table
                .outer_iter()
                .any(|row| row.iter().zip(&start).all(|(a, b)| (a - b).abs() < 1e-3));
            if !known {
                return Err(TensorError::File("its start token is in no row of the weights' token embedding: these prompts were learned with another CLIP".into()));
            }
        }
        (start, normal_suffix, abnormal_suffix)
    } else {
        let (start, normal_suffix) = embed(clip, &named.0)?;
        (start, normal_suffix, embed(clip, &named.1)?.1)
    };
    let of_normal = 1 + normal.nrows() + normal_suffix.nrows();
    let of_abnormal = 1 + normal.nrows() + abnormal.len_of(Axis(1)) + abnormal_suffix.nrows();
    let (shortest, longest) = (of_normal.min(of_abnormal), of_normal.max(of_abnormal));
    if longest > clip.text.positions.nrows() {
        return Err(TensorError::File(format!(
            "prompts of {longest} tokens for a context of {}",
            clip.text.positions.nrows()
        )));
    }
    if deep.first().is_some_and(|d| d.nrows() + 2 > shortest) {
        return Err(TensorError::File(format!(
            "deep prompts of {} tokens in prompts of {shortest}",
            deep[0].nrows()
        )));
    }
    Ok(Prompts {
        path: t.path().to_path_buf(),
        digest,
        untrained: t.is_untrained(),
        normal,
        abnormal,
        deep,
        // `random` uses the same names, but nobody learned its numbers.
        published: !own && !t.is_untrained(),
        record: t.note(RECORD).map(String::from),
        weights,
        fc1,
        fc2,
        start,
        normal_suffix,
        abnormal_suffix,
        words: if embedded {
            (FROM_FILE.into(), FROM_FILE.into())
        } else {
            named
        },
    })
}

/// The end token's row: its id is the largest.
fn end_row(t: &Tensors, which: &str) -> Result<usize, TensorError> {
    let name = format!("tokenized_prompts_{which}");
    let ids = cube(t, &name)?;
    let row: Vec<f32> = ids.slice(s![0, 0, ..]).to_vec();
    let max = row.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
    row.iter()
        .position(|v| *v == max)
        .ok_or(TensorError::Missing(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `whitespace_clean(basic_clean(text)).lower()` of CLIP's simple_tokenizer.py makes of them, with ftfy 6.3.1.
    #[test]
    fn texts_are_cleaned_as_clips_own_code_cleans_them() {
        for (text, clean) in [
            ("nut &amp; bolt", "nut & bolt"),
            ("nut &amp;amp; bolt", "nut & bolt"),
            ("M8 &lt; 10 mm", "m8 < 10 mm"),
            ("cafe\u{301}", "caf\u{e9}"),
            ("part \u{2018}A\u{2019} \u{201c}b\u{201d}", "part 'a' \"b\""),
            ("o\u{fb03}ce \u{fb01}ssure", "office fissure"),
            ("\u{ff21}\u{ff22}\u{ff11}", "ab1"),
            ("a&nbsp;b  c", "a b c"),
            ("don&#39;t", "don't"),
            ("don&rsquo;t", "don't"),
            ("&quot;x&quot; <b>&eacute;</b>", "\"x\" <b>\u{e9}</b>"),
            ("&rsquo; <", "\u{2019} <"),
            ("&notit; x", "\u{ac}it; x"),
            ("100 &micro;m", "100 \u{b5}m"),
            ("a\u{3000}b", "a b"),
            ("metal nut", "metal nut"),
        ] {
            assert_eq!(cleaned(text).to_lowercase(), clean, "{text:?}");
        }
        assert_eq!(token_ids("nut &amp; bolt"), token_ids("nut & bolt"));
    }
}
