//! Which options stand on the command line, whatever their values: one that means nothing is refused, not ignored.

use clap::ArgMatches;
use clap::parser::ValueSource;
use faprompt_edge::bundle::method::Method;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::methods::fit::chooses_vv_layers;

/// The options that the user wrote, by their names without the hyphens before them, with their values as written.
pub struct Given(Vec<(String, Vec<String>)>);

impl Given {
    /// Of the subcommand that was called.
    pub fn of(matches: &ArgMatches) -> Given {
        let called = matches.subcommand().map(|(_, own)| own);
        let written = called.into_iter().flat_map(|own| {
            own.ids()
                .map(|id| id.as_str())
                .filter(|id| own.value_source(id) == Some(ValueSource::CommandLine))
                .map(|id| {
                    let values = own.get_raw(id).into_iter().flatten();
                    let values = values.map(|v| v.to_string_lossy().into_owned());
                    (id.replace('_', "-"), values.collect::<Vec<String>>())
                })
                .collect::<Vec<_>>()
        });
        Given(written.collect())
    }

    /// Refuses those of `options` (as in `--image-size`) that are there; `why` goes on the sentence that begins with
    /// the option.
    ///
    /// # Errors
    /// [`TrainError::Options`] that names the first.
    pub fn refuse(&self, options: &[&str], why: &str) -> Result<(), TrainError> {
        match options.iter().find(|option| self.values(option).is_some()) {
            Some(option) => Err(TrainError::Options(format!("{option} {why}"))),
            None => Ok(()),
        }
    }

    /// The values of an option (as in `--image-size`), if it is there.
    fn values(&self, option: &str) -> Option<&[String]> {
        let name = option.trim_start_matches('-');
        let found = self.0.iter().find(|(id, _)| id == name);
        found.map(|(_, values)| &values[..])
    }

    /// Those of `options` that are there, to be written again for another command, each with a space before it.
    pub fn again(&self, options: &[&str]) -> String {
        let mut all = String::new();
        for option in options {
            for value in self.values(option).unwrap_or_default() {
                all += &match value.contains(char::is_whitespace) {
                    true => format!(" {option} \"{value}\""),
                    false => format!(" {option} {value}"),
                };
            }
        }
        all
    }

    /// Refuses options of learning that mean nothing to any of these methods, none of them FAPrompt.
    ///
    /// # Errors
    /// [`TrainError::Options`] that names the first.
    pub fn refuse_idle_learning(&self, methods: &[Method]) -> Result<(), TrainError> {
        use Method::{Anomalyclip, Cocoop, Coop, Dapo};
        let mut idle = vec![
            "--start",
            "--selection",
            "--score-rule",
            "--k",
            "--m",
            "--ea",
            "--aggregation",
            "--prior",
            "--no-orthogonal-loss",
            "--no-prior-loss",
            "--own-tokens",
        ];
        let none_of = |known: &[Method]| !methods.iter().any(|m| known.contains(m));
        for (option, is_idle) in [
            ("--e", none_of(&[Anomalyclip, Coop, Cocoop, Dapo])),
            ("--deep-blocks", none_of(&[Anomalyclip])),
            ("--deep-length", none_of(&[Anomalyclip, Dapo])),
            (
                "--vv-layers",
                !methods.iter().any(|m| chooses_vv_layers(*m)),
            ),
        ] {
            if is_idle {
                idle.push(option);
            }
        }
        let names: Vec<&str> = methods.iter().map(|m| m.name()).collect();
        let why = format!("means nothing to --method {}", names.join(", "));
        self.refuse(&idle, &why)
    }
}
