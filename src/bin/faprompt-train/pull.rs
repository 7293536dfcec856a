//! `faprompt-train pull`.

use clap::Args;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::say;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::progress::Interrupt;
use faprompt_edge::train::pull::{self, Client, LOCK, Progress, What};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;

/// Arguments of `pull`.
#[derive(Args)]
pub struct Pull {
    /// What to fetch; --list shows the names
    #[arg(required_unless_present = "list")]
    names: Vec<String>,
    /// Show what can be fetched, with origin, licence and size
    #[arg(long)]
    list: bool,
    /// Folder for a folder per model [default: the user's cache folder]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where digests are kept; under version control it makes everybody fetch the same files [default: pull.lock in the folder]
    #[arg(long)]
    lock: Option<PathBuf>,
    /// Take the files that are published now, though the lock file names others
    #[arg(long)]
    update: bool,
}

/// A bar that counts bytes.
struct Bar(ProgressBar);

impl Progress for Bar {
    fn begin(&self, file: &str, bytes: Option<u64>) {
        self.0.set_prefix(file.to_string());
        match bytes {
            Some(bytes) => self.0.set_length(bytes),
            None => self.0.unset_length(),
        }
    }

    fn at(&self, bytes: u64) {
        self.0.set_position(bytes);
    }
}

impl Pull {
    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        if self.list {
            say("name                    what           licence       about      from");
            for m in pull::table() {
                say(format_args!(
                    "{:23} {:14} {:12} {:>5} MB   {}",
                    m.name,
                    m.what.name(),
                    m.licence,
                    m.megabytes,
                    m.from()
                ));
            }
            return Ok(ExitCode::Good);
        }
        // A mistake in the last name costs no hours.
        let models = self.names.iter().map(|n| {
            let model = pull::find(n)?;
            model.can_be_fetched().map(|()| model)
        });
        let models = models.collect::<Result<Vec<_>, _>>()?;
        let folder = self
            .out
            .clone()
            .unwrap_or_else(|| pull::cache_folder("models"));
        let lock = self.lock.clone().unwrap_or(folder.join(LOCK));
        let client = Client::from_environment();
        let stop = Interrupt::catch()?;
        for model in models {
            say(format_args!(
                "{}: from {}, licence {}, about {} MB",
                model.name,
                model.from(),
                model.licence,
                model.megabytes
            ));
            let style = "{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            let style = ProgressStyle::with_template(style).expect("a constant template");
            let bar = Bar(ProgressBar::new(0).with_style(style));
            let pulled = pull::pull(&client, model, &folder, &lock, self.update, stop, &bar)
                .map_err(TrainError::of_a_command_that_goes_on)?;
            bar.0.finish_and_clear();
            let came = match pulled.fetched {
                0 => "was here already".into(),
                bytes => format!("{:.1} MB came", bytes as f64 / 1e6),
            };
            let place = pulled.path.display();
            let next = match model.what {
                What::Clip => format!("now `export --clip {}`", model.name),
                What::Prompts => format!("now `export --prompts {place}`"),
                What::Encoder => format!("now `export --weights {}`", model.name),
            };
            say(format_args!("{place}: {came}; {next}"));
        }
        Ok(ExitCode::Good)
    }
}
