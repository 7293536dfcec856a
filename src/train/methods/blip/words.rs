//! BERT's uncased WordPiece (Devlin et al. 2018), which numbers BLIP's texts: cut at spaces and punctuation, lower
//! case without accents, each word the longest pieces that the vocabulary has, from its beginning on.

use crate::train::tensors::TensorError;
use std::collections::HashMap;
use std::path::Path;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// BERT takes a longer word for unknown.
const LONGEST: usize = 100;

/// A vocabulary.
pub struct Vocabulary {
    ids: HashMap<String, usize>,
    start: usize,
    end: usize,
    unknown: usize,
}

/// Not printed, and no space: BERT leaves it out.
fn is_hidden(c: char) -> bool {
    c == '\u{fffd}'
        || (c.is_control() && !c.is_whitespace())
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// Chinese characters, each a word.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}'
        | '\u{2a700}'..='\u{2ceaf}' | '\u{f900}'..='\u{faff}' | '\u{2f800}'..='\u{2fa1f}')
}

/// Punctuation, each a word: ASCII's marks and signs, and the punctuation of Latin, General Punctuation, CJK and
/// full-width forms. Of other scripts none.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
        || matches!(c, '¡' | '§' | '«' | '¶' | '·' | '»' | '¿' | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{2043}'
            | '\u{2045}'..='\u{2051}' | '\u{2053}'..='\u{205e}' | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}'
            | '\u{3014}'..='\u{301f}' | '\u{ff01}'..='\u{ff03}' | '\u{ff05}'..='\u{ff0a}' | '\u{ff0c}'..='\u{ff0f}'
            | '\u{ff1a}' | '\u{ff1b}' | '\u{ff1f}' | '\u{ff20}' | '\u{ff3b}'..='\u{ff3d}')
}

/// A text's words: lower case, without accents, punctuation and ideographs apart.
fn words(text: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !is_hidden(*c)) {
        match is_ideograph(c) {
            true => spaced.extend([' ', c, ' ']),
            false => spaced.push(c),
        }
    }
    let bare: String = spaced.nfd().filter(|c| !is_combining_mark(*c)).collect();
    let mut out = String::with_capacity(bare.len());
    for c in bare.to_lowercase().chars() {
        match is_punctuation(c) {
            true => out.extend([' ', c, ' ']),
            false => out.push(c),
        }
    }
    out.split_whitespace().map(String::from).collect()
}

impl Vocabulary {
    /// Reads `vocab.txt` (a token per line) or `tokenizer.json` in a folder.
    ///
    /// # Errors
    /// [`TensorError::File`] if neither is there, or one that is no vocabulary of WordPiece.
    pub fn load(folder: &Path) -> Result<Vocabulary, TensorError> {
        let (plain, json) = (folder.join("vocab.txt"), folder.join("tokenizer.json"));
        let wrong = |path: &Path, what: &dyn std::fmt::Display| {
            TensorError::File(format!("{}: {what}", path.display()))
        };
        if plain.is_file() {
            let text = std::fs::read_to_string(&plain).map_err(|e| wrong(&plain, &e))?;
            let lines = text.lines().enumerate();
            let ids = lines.map(|(i, line)| (line.to_string(), i)).collect();
            return Vocabulary::of(ids).map_err(|e| wrong(&plain, &e));
        }
        if !json.is_file() {
            return Err(wrong(
                folder,
                &"neither vocab.txt nor tokenizer.json is in it: BLIP's texts cannot be numbered",
            ));
        }
        let text = std::fs::read_to_string(&json).map_err(|e| wrong(&json, &e))?;
        let mut value: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| wrong(&json, &e))?;
        if value["model"]["type"] != "WordPiece" {
            return Err(wrong(&json, &"`model.type` is not WordPiece"));
        }
        let ids = serde_json::from_value(value["model"]["vocab"].take());
        Vocabulary::of(ids.map_err(|e| wrong(&json, &e))?).map_err(|e| wrong(&json, &e))
    }

    fn of(ids: HashMap<String, usize>) -> Result<Vocabulary, String> {
        let id = |token: &str| {
            let found = ids.get(token).copied();
            found.ok_or_else(|| format!("token {token} is missing: no vocabulary of WordPiece"))
        };
        let (start, end, unknown) = (id("[CLS]")?, id("[SEP]")?, id("[UNK]")?);
        Ok(Vocabulary {
            ids,
            start,
            end,
            unknown,
        })
    }

    /// The pieces of one word; one unknown token if they do not cover it.
    fn pieces(&self, word: &str) -> Vec<usize> {
        let unknown = vec![self.unknown];
        if word.chars().count() > LONGEST {
            return unknown;
        }
        let (mut out, mut from) = (vec![], 0);
        while from < word.len() {
            let ends = word[from..]
                .char_indices()
                .map(|(i, c)| from + i + c.len_utf8());
            let found = ends.rev().find_map(|to| {
                let joined = if from > 0 { "##" } else { "" };
                let id = self.ids.get(&format!("{joined}{}", &word[from..to]));
                id.map(|id| (*id, to))
            });
            match found {
                Some((id, to)) => {
                    out.push(id);
                    from = to;
                }
                None => return unknown,
            }
        }
        out
    }

    /// A text's tokens, with \[CLS\] before and \[SEP\] behind them.
    pub fn ids(&self, text: &str) -> Vec<usize> {
        let words = words(text);
        let inner = words.iter().flat_map(|w| self.pieces(w));
        std::iter::once(self.start)
            .chain(inner)
            .chain(std::iter::once(self.end))
            .collect()
    }
}
