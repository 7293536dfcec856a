//! A part's result as one line of text or as JSON.

use super::names::outcome_words;
use crate::control::host::{Opinions, PartResult};
use std::fmt;

/// A part's result as a report: `part,outcome,cause,score,latency in ms`, or the same as JSON. Where the part has
/// a type or a lane, `,type,share,lane` follow; where good parts were taught, the scores that its score is fused
/// of.
pub(super) struct ResultLine<'a> {
    pub(super) result: PartResult,
    pub(super) json: bool,
    pub(super) types: &'a [String],
}

impl fmt::Display for ResultLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PartResult {
            part,
            outcome,
            score,
            opinions,
            latency_us,
            share,
            lane,
            ..
        } = self.result;
        let kind = self.result.type_name(self.types);
        let (word, cause) = outcome_words(outcome);
        let ms = latency_us.map(|us| us as f64 / 1e3);
        if self.json {
            write!(f, "{{\"part\":{},\"outcome\":\"{word}\"", part.0)?;
            if let Some(cause) = cause {
                write!(f, ",\"cause\":\"{cause}\"")?;
            }
            if let Some(score) = score {
                write!(f, ",\"score\":{score:.6}")?;
            }
            if let Some(ms) = ms {
                write!(f, ",\"latency_ms\":{ms:.1}")?;
            }
            if let Some(kind) = kind {
                write!(f, ",\"type\":\"{kind}\"")?;
            }
            if let Some(share) = share {
                write!(f, ",\"type_share\":{share:.4}")?;
            }
            if let Some(lane) = lane {
                write!(f, ",\"lane\":{}", lane.get())?;
            }
            if let Some(Opinions { zero_shot, memory }) = opinions {
                write!(f, ",\"zero_shot\":{zero_shot:.6},\"memory\":{memory:.6}")?;
            }
            return f.write_str("}");
        }
        write!(f, "{},{word},{}", part.0, cause.unwrap_or("-"))?;
        match score {
            Some(score) => write!(f, ",{score:.6}")?,
            None => f.write_str(",-")?,
        }
        match ms {
            Some(ms) => write!(f, ",{ms:.1}")?,
            None => f.write_str(",-")?,
        }
        if kind.is_some() || lane.is_some() {
            write!(f, ",{}", kind.unwrap_or("-"))?;
            match share {
                Some(share) => write!(f, ",{share:.4}")?,
                None => f.write_str(",-")?,
            }
            match lane {
                Some(lane) => write!(f, ",{}", lane.get())?,
                None => f.write_str(",-")?,
            }
        }
        // Behind everything else: whoever reads so many values still finds them.
        match opinions {
            Some(Opinions { zero_shot, memory }) => {
                write!(f, ",zero_shot={zero_shot:.6},memory={memory:.6}")
            }
            None => Ok(()),
        }
    }
}
