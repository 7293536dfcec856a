//! The method and its switches on the command line, for every command that has them.

use clap::Args;
use faprompt_edge::bundle::method::{Method, Positions};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::methods::MethodOptions;
use faprompt_edge::train::methods::options::ClassPosition;

/// A method and its switches.
#[derive(Args)]
pub struct MethodArguments {
    /// The method
    #[arg(long, value_enum, default_value = "faprompt")]
    pub method: Method,
    /// What its prompts call the part, as in "metal nut" (clip, clip-ac, winclip, april-gan, anovl, coop, cocoop, filo, blip)
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// Which list of templates, by its length: 80 or 7 (clip-ac), 22 or 21 (winclip) [default: the longer one]
    #[arg(long, value_name = "N")]
    templates: Option<usize>,
    /// Blocks whose tokens make the map, counted from 1 [default: the last; april-gan, heads: four quarters]
    #[arg(long, value_delimiter = ',', value_name = "N,..")]
    stages: Vec<usize>,
    /// T in softmax(cosine / T) [default: as the method's code has it]
    #[arg(long, value_parser = temperature)]
    temperature: Option<f32>,
    /// How the checkpoint's positions are resized to another grid [default: as the method's code does]
    #[arg(long, value_enum)]
    positions: Option<Positions>,
    /// Where coop's class words stand
    #[arg(long, value_enum, default_value = "end")]
    class_position: ClassPosition,
    /// Words for dapo's types of defect, also such as nothing was learned of [default: those it learned from]
    #[arg(long, value_delimiter = ',', value_name = "WORD,..")]
    types: Vec<String>,
}

/// A positive temperature on the command line.
fn temperature(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(t) if (1e-4..=1e4).contains(&t) => Ok(t),
        _ => Err("a number from 0.0001 to 10000".into()),
    }
}

impl MethodArguments {
    /// The options, once every switch that was named means something to the method.
    ///
    /// # Errors
    /// [`TrainError::Options`] for a switch of another method.
    pub fn options(&self) -> Result<MethodOptions, TrainError> {
        let method = self.method;
        let staged = matches!(
            method,
            Method::Anomalyclip | Method::AprilGan | Method::Heads | Method::Dapo | Method::Filo
        );
        let named = [
            ("--class", self.class.is_some(), method.has_class()),
            (
                "--templates",
                self.templates.is_some(),
                matches!(
                    method,
                    Method::Clip
                        | Method::ClipAc
                        | Method::Winclip
                        | Method::AprilGan
                        | Method::Anovl
                ),
            ),
            ("--stages", !self.stages.is_empty(), staged),
            (
                "--temperature",
                self.temperature.is_some(),
                method != Method::Faprompt,
            ),
            (
                "--positions",
                self.positions.is_some(),
                !matches!(method, Method::Faprompt | Method::Blip),
            ),
            (
                "--class-position",
                self.class_position != ClassPosition::End,
                method == Method::Coop,
            ),
            ("--types", !self.types.is_empty(), method == Method::Dapo),
        ];
        if let Some((name, ..)) = named.iter().find(|(_, given, means)| *given && !means) {
            return Err(TrainError::Options(format!(
                "{name} means nothing to --method {method}"
            )));
        }
        Ok(MethodOptions {
            method,
            class: self.class.clone(),
            templates: self.templates,
            stages: self.stages.clone(),
            temperature: self.temperature,
            positions: self.positions,
            class_position: self.class_position,
            types: self.types.clone(),
        })
    }
}
