//! What the methods other than FAPrompt learn with.

use crate::fit::{Learning, learned_line, said_encoded};
use burn::tensor::Device;
use faprompt_edge::bundle::method::Method;
use faprompt_edge::report::say;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::backbone::Backbone;
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::datasets::Sample;
use faprompt_edge::train::fit::cache::Cache;
use faprompt_edge::train::methods::fit::pictures::{Pictures, Set};
use faprompt_edge::train::methods::weights::Weights;
use faprompt_edge::train::methods::{self, MethodOptions};
use faprompt_edge::train::progress::{Interrupt, bar};
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Weights that were read.
enum Read {
    Clip(Box<Clip>),
    WithoutText(Box<Backbone>),
}

impl Read {
    fn weights(&self) -> Weights<'_> {
        match self {
            Read::Clip(clip) => Weights::Clip(clip),
            Read::WithoutText(backbone) => Weights::WithoutText(backbone),
        }
    }
}

/// What a method other than FAPrompt learns with: weights, encoder, cache.
pub struct MethodGround {
    weights: Read,
    pub options: methods::fit::Options,
    device: Device,
    stop: Interrupt,
    cache: Cache,
    pictures: Pictures,
}

impl MethodGround {
    /// Of the command line.
    ///
    /// # Errors
    /// [`TrainError`] of weights, options and cache.
    pub fn new(learning: &Learning, asked: MethodOptions) -> Result<MethodGround, TrainError> {
        let (read, options) = match &learning.weights {
            None => {
                let (clip, options) = learning.resolve_method(asked)?;
                (Read::Clip(Box::new(clip)), options)
            }
            Some(path) => {
                let backbone = Box::new(learning.about.load_backbone(path)?);
                let options = learning.method_options(asked, Weights::WithoutText(&backbone))?;
                (Read::WithoutText(backbone), options)
            }
        };
        let weights = read.weights();
        let spec = methods::fit::run::spec(weights, &options)?;
        let taps = methods::fit::run::taps(weights, &spec, &options)?;
        let device = learning.device.open()?;
        let stop = Interrupt::catch()?;
        let key = Pictures::key(weights, &spec, &options, &taps);
        let cache = learning.keyed_cache(&key)?;
        let pictures = Pictures::new(weights, &spec, &options, taps, &device);
        Ok(MethodGround {
            weights: read,
            options,
            device,
            stop,
            cache,
            pictures,
        })
    }

    /// Sees to it that the cache has what the encoder makes of these.
    pub fn encode(&mut self, samples: &[Sample]) -> Result<(), TrainError> {
        let (clock, bar) = (Instant::now(), bar(samples.len(), "encode"));
        Set::encode(&mut self.pictures, &self.cache, samples, self.stop, &bar)?;
        bar.finish_and_clear();
        // DAPO's image encoder learns: nothing of it is kept.
        if self.options.asked.method != Method::Dapo {
            said_encoded(&self.cache, samples.len(), clock);
        }
        Ok(())
    }

    /// Learns; says what became of each epoch, and returns where it is.
    ///
    /// # Errors
    /// As [`methods::fit::run::begin`] and [`methods::fit::run::fit`].
    pub fn learn(
        &mut self,
        samples: &[Sample],
        folder: &Path,
        resume: bool,
        threads: usize,
    ) -> Result<PathBuf, TrainError> {
        let out = methods::fit::run::Out {
            folder,
            resume,
            threads,
        };
        let weights = self.weights.weights();
        let begun = methods::fit::run::begin(weights, &self.options, samples, &out)?;
        self.encode(samples)?;
        let (pictures, cache, stop) = (&mut self.pictures, &self.cache, self.stop);
        // All of it is there.
        let set = Set::encode(pictures, cache, samples, stop, &ProgressBar::hidden())?;
        let bar = bar(0, "fit");
        let path = methods::fit::run::fit(
            self.weights.weights(),
            &self.options,
            begun,
            &set,
            pictures,
            &self.device,
            stop,
            &bar,
            |epoch| bar.suspend(|| say(method_epoch_line(epoch))),
        )?;
        bar.finish_and_clear();
        Ok(path)
    }
}

/// A line per epoch of another method.
fn method_epoch_line(epoch: &methods::fit::run::Epoch) -> String {
    learned_line(epoch.number, &epoch.terms.0, epoch.seconds, epoch.pictures)
}
