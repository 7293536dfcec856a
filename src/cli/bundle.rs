//! `bundle info` and `bundle verify`.

use super::{CliError, keys, open, open_with};
use clap::Subcommand;
use faprompt_edge::bundle::manifest::PromptSpec;
use faprompt_edge::bundle::method::MethodSpec;
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::shown;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum BundleCommand {
    /// Show the manifest, the parts and their digests
    Info {
        /// The bundle
        file: PathBuf,
        /// The manifest as JSON
        #[arg(long)]
        json: bool,
    },
    /// Check every digest, and, if there are keys, the signature FILE.minisig
    Verify {
        /// The bundle
        file: PathBuf,
        /// minisign public key, several times for several [default: those in /etc/faprompt-edge/keys]
        #[arg(long)]
        key: Vec<PathBuf>,
    },
}

impl BundleCommand {
    pub fn run(&self) -> Result<ExitCode, CliError> {
        let text = match self {
            BundleCommand::Info { file, json } => {
                let bundle = open_with(file, &Keys::default())?;
                if *json {
                    let text = serde_json::to_string_pretty(bundle.manifest());
                    text.map_err(|e| CliError::Internal(e.to_string()))? + "\n"
                } else {
                    info(file, &bundle)
                }
            }
            BundleCommand::Verify { file, key } => {
                let bundle = open(file, key)?;
                let signature = match keys(key)?.is_empty() {
                    false => "signature valid, ",
                    true => "no key given: signature not checked, ",
                };
                let warning = bundle
                    .manifest()
                    .warning()
                    .map_or(String::new(), |w| format!("{w}\n"));
                format!(
                    "{}: {signature}{} parts intact\n{warning}",
                    shown(file.display()),
                    bundle.digests().len()
                )
            }
        };
        super::print(text)?;
        Ok(ExitCode::Good)
    }
}

fn info(file: &Path, bundle: &Bundle) -> String {
    let m = bundle.manifest();
    let p = &m.prompts;
    let mut out = String::new();
    // A value from the file must not look like a row of its own.
    let mut row = |key: &str, value: String| out.push_str(&format!("{key:14}{}\n", shown(value)));
    row(
        "file",
        format!("{} ({:.1} MB)", file.display(), bundle.len() as f64 / 1e6),
    );
    row("name", m.name.clone());
    row("description", m.description.clone());
    row("created by", m.created_by.clone());
    if let Some(warning) = m.warning() {
        row("WARNING", warning.into());
    }
    row("precision", format!("{:?}", m.precision));
    row(
        "image",
        format!(
            "{0} x {0} px ({3:?}), {1} x {1} patches of {2} px",
            m.image.size,
            m.image.grid(),
            m.image.patch,
            m.image.interpolation,
        ),
    );
    let three = |v: [f32; 3]| format!("{} {} {}", v[0], v[1], v[2]);
    row(
        "normalisation",
        format!(
            "mean {}, deviation {}",
            three(m.image.mean),
            three(m.image.std)
        ),
    );
    row("activation", format!("{:?}", m.activation));
    row(
        "image encoder",
        match m.is_network() {
            true => "a network of the user's own".into(),
            false => format!(
                "{} x {}, {} heads, epsilon {:e}, V-V in the last {}",
                m.vision.width, m.vision.layers, m.vision.heads, m.vision.epsilon, m.vv_layers
            ),
        },
    );
    if let Some(network) = &m.network {
        let what = match m.is_network() {
            true => "network",
            false => "for the memory",
        };
        let taps = network
            .taps
            .iter()
            .map(|t| format!("{} ({})", t.name, t.channels));
        row(
            what,
            format!(
                "{0} x {0} px, {1} x {1} places, {2:.0} million products, taps {3}",
                network.image.size,
                network.image.grid(),
                network.products as f64 / 1e6,
                taps.collect::<Vec<_>>().join(", ")
            ),
        );
    }
    if m.registers > 0 {
        row("registers", m.registers.to_string());
    }
    row(
        "text encoder",
        match m.text.is_none() {
            true => "none".into(),
            false => format!(
                "{} x {}, {} heads, epsilon {:e}",
                m.text.width, m.text.layers, m.text.heads, m.text.epsilon
            ),
        },
    );
    for sentence in &m.assumed {
        row("ASSUMED", sentence.clone());
    }
    row("method", m.method_name().to_string());
    match &m.method {
        Some(method) => row("switches", switches(method)),
        None => {
            row("prompts", prompts(p));
            row(
                "prior",
                format!(
                    "from {} patches ({:?} selection), hidden width {}",
                    m.prior.selected_patches, m.prior.selection, m.prior.hidden
                ),
            );
        }
    }
    let rule = match m.method {
        Some(_) => String::new(),
        None => format!(", {:?} rule", m.scores.rule),
    };
    row(
        "scores",
        format!(
            "T = {}{}, threshold {}",
            m.scores.temperature, rule, m.scores.threshold
        ),
    );
    for e in &m.linear_error {
        row(
            "linear",
            format!(
                "prior of length {:.3}: off by {:.5} (max {:.5}); without adaptation {:.5}",
                e.prior_norm, e.mean, e.max, e.unadapted
            ),
        );
    }
    for (what, digest) in &m.sources {
        row("made from", format!("{what} {digest}"));
    }
    let parts = bundle.parts();
    for (part, digest) in bundle.digests() {
        let size = parts.get(part).map_or(String::new(), |(n, bytes)| {
            format!("{n} tensors, {bytes} bytes, ")
        });
        row("part", format!("{part}: {size}sha256 {digest}"));
    }
    out
}

/// FAPrompt's prompts in a line.
fn prompts(p: &PromptSpec) -> String {
    format!(
        "1 normal ({} tokens, \"{}\"), {} abnormal (+ {} tokens, \"{}\"), deep prompts of {} tokens before {} blocks",
        p.normal_tokens,
        p.normal_words,
        p.abnormal_prompts,
        p.abnormal_tokens,
        p.abnormal_words,
        p.deep_length,
        p.deep_blocks
    )
}

/// What another method's manifest says of it in a line.
fn switches(m: &MethodSpec) -> String {
    let stages: Vec<String> = m.stages.iter().map(ToString::to_string).collect();
    let mut out = format!("tokens after blocks {}", stages.join(", "));
    if !m.class.is_empty() {
        out = format!("class \"{}\", {out}", m.class);
    }
    if m.templates > 1 {
        out += &format!(", {} templates", m.templates);
    }
    if !m.types.is_empty() {
        out += &format!(", types {}", m.types.join(", "));
    }
    out + &format!(
        ", positions {:?}, image feature {:?}",
        m.positions, m.image_feature
    )
}
