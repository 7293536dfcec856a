//! The variants that the paper reports, by name.

use super::fit::Options;
use super::fit::variant::{Aggregation, PriorSource, Variant};

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Name on the command line and of its folder.
    pub name: String,
    /// Its label in the table.
    pub label: String,
    /// The options that it is learned with.
    pub options: Options,
    /// Independent runs, seeds apart, whose scores are averaged.
    pub runs: usize,
}

/// Names of the fixed rows; `k=N` and `m=N` are the sweeps.
pub const NAMES: [&str; 14] = [
    "baseline",
    "cap",
    "cap-without-orth",
    "dap",
    "dap-without-prior-loss",
    "full",
    "image-token",
    "image-token-without-prior-loss",
    "image-token-without-cap",
    "image-token-without-cap-and-prior-loss",
    "best-match",
    "weighted",
    "ensemble-prompts",
    "ensemble-seeds",
];

/// The rows of the paper's main ablation.
pub const MAIN: [&str; 6] = [
    "baseline",
    "cap",
    "cap-without-orth",
    "dap",
    "dap-without-prior-loss",
    "full",
];

/// The row called `name`, on top of `base`.
///
/// # Errors
/// A sentence that names what is known.
pub fn row(name: &str, base: &Options) -> Result<Row, String> {
    let unknown = || {
        format!(
            "no variant `{name}`; known are {}, k=N and m=N",
            NAMES.join(", ")
        )
    };
    let mut options = base.clone();
    options.variant = Variant::default();
    let mut runs = 1;
    let v = &mut options.variant;
    // AnomalyCLIP: one abnormal prompt with tokens of its own, nothing that follows the picture.
    let alone = |v: &mut Variant, k: &mut usize| {
        v.own_tokens = true;
        v.orthogonal_loss = false;
        *k = 1;
    };
    let number = |text: &str| {
        text.parse::<usize>()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(unknown)
    };
    let label = match name {
        "baseline" => {
            alone(v, &mut options.prompts);
            v.prior = PriorSource::Off;
            "baseline (AnomalyCLIP)".into()
        }
        "cap" => {
            v.prior = PriorSource::Off;
            "+ CAP".into()
        }
        "cap-without-orth" => {
            v.prior = PriorSource::Off;
            v.orthogonal_loss = false;
            "+ CAP without L_orth".into()
        }
        "dap" => {
            alone(v, &mut options.prompts);
            "+ DAP".into()
        }
        "dap-without-prior-loss" => {
            alone(v, &mut options.prompts);
            v.prior_loss = false;
            "+ DAP without L_prior".into()
        }
        "full" => "FAPrompt (CAP + DAP)".into(),
        "image-token" => {
            v.prior = PriorSource::ImageToken;
            "CAP + prior from the image token".into()
        }
        "image-token-without-prior-loss" => {
            v.prior = PriorSource::ImageToken;
            v.prior_loss = false;
            "the same without L_prior".into()
        }
        "image-token-without-cap" => {
            alone(v, &mut options.prompts);
            v.prior = PriorSource::ImageToken;
            "prior from the image token".into()
        }
        "image-token-without-cap-and-prior-loss" => {
            alone(v, &mut options.prompts);
            v.prior = PriorSource::ImageToken;
            v.prior_loss = false;
            "the same without L_prior".into()
        }
        "best-match" => {
            v.aggregation = Aggregation::BestMatch;
            "FAPrompt, best match".into()
        }
        "weighted" => {
            v.aggregation = Aggregation::Weighted;
            "FAPrompt, learned weights".into()
        }
        "ensemble-prompts" => {
            v.own_tokens = true;
            v.prior = PriorSource::Off;
            format!("AnomalyCLIP, {} prompts with L_orth", options.prompts)
        }
        "ensemble-seeds" => {
            runs = options.prompts;
            alone(v, &mut options.prompts);
            v.prior = PriorSource::Off;
            format!("AnomalyCLIP, {runs} seeds")
        }
        other => match other.split_once('=') {
            Some(("k", n)) => {
                options.prompts = number(n)?;
                format!("FAPrompt, K = {n}")
            }
            Some(("m", n)) => {
                options.patches = number(n)?;
                format!("FAPrompt, M = {n}")
            }
            _ => return Err(unknown()),
        },
    };
    Ok(Row {
        name: name.into(),
        label,
        options,
        runs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::clip::Clip;
    use crate::train::random::{Architecture, write};

    fn base() -> Options {
        let folder = tempfile::tempdir().unwrap();
        let (clip, _) = write(&Architecture::Minimal.sizes(), 1, folder.path()).unwrap();
        Options::paper(&Clip::load(&clip).unwrap())
    }

    #[test]
    fn every_name_is_a_row_and_no_two_are_the_same() {
        let rows: Vec<Row> = NAMES.iter().map(|n| row(n, &base()).unwrap()).collect();
        for (i, a) in rows.iter().enumerate() {
            for b in &rows[..i] {
                let same = a.options.variant == b.options.variant
                    && a.options.prompts == b.options.prompts
                    && a.runs == b.runs;
                assert!(!same, "{} is {}", a.name, b.name);
            }
        }
    }

    #[test]
    fn sweeps_and_mistakes() {
        assert_eq!(row("k=3", &base()).unwrap().options.prompts, 3);
        assert_eq!(row("m=7", &base()).unwrap().options.patches, 7);
        for wrong in ["k=0", "m=", "k=x", "q=3", "best"] {
            assert!(row(wrong, &base()).unwrap_err().contains("best-match"));
        }
    }
}
