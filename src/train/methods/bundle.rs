//! A method's bundle: the encoder, what never changes from picture to picture, and the switches.

use super::fit::dapo;
use super::learned::{Learned, Numbers, context_of, flat};
use super::options::{
    ClassPosition, INITIAL, MethodOptions, class, needed, options, record_of, refuse_host_only,
    refuse_otherwise, stages, stages_fit, types,
};
use super::text::{encode, features, fits, mean_of_units, raw_mean};
use super::weights::Weights;
use super::words;
use crate::bundle::BundleWriter;
use crate::bundle::manifest::{Manifest, PriorSpec, PromptSpec, ScoreRule, ScoreSpec, TowerSpec};
use crate::bundle::method::{Method, MethodSpec};
use crate::train::TrainError;
use crate::train::backbone::Backbone;
use crate::train::clip::Clip;
use crate::train::export::{ExportOptions, Exported, Writer, write_encoder};
use crate::train::prompts::{ABNORMAL_WORDS, NORMAL_WORDS, embed};
use crate::train::reference::Reference;
use half::f16;
use ndarray::{Array1, Array2, Axis, concatenate, s};
use std::path::Path;

/// What `write` made beside tensors.
struct Made {
    spec: MethodSpec,
    temperature: f32,
}

/// A learned prompt: the start token, `parts` in their order, the end token; rows without positions.
fn prompt(
    clip: &Clip,
    before: Option<&Array2<f32>>,
    text: &str,
    behind: Option<(&Array2<f32>, &str)>,
) -> Result<Array2<f32>, TrainError> {
    let fail = |e: crate::train::tensors::TensorError| TrainError::Weights {
        path: clip.path.clone(),
        what: e.to_string(),
    };
    let (start, words) = embed(clip, text).map_err(fail)?;
    let start = start.insert_axis(Axis(0));
    let mut parts = vec![start.view()];
    parts.extend(before.map(|b| b.view()));
    let rest;
    match behind {
        None => parts.push(words.view()),
        Some((context, more)) => {
            // The words without their end token, more context, then what is left of the sentence.
            parts.push(words.slice(s![..-1, ..]));
            parts.push(context.view());
            rest = embed(clip, more).map_err(fail)?.1;
            parts.push(rest.view());
        }
    }
    let rows = concatenate(Axis(0), &parts).expect("rows of one width");
    fits(clip, &rows, text)?;
    Ok(rows)
}

/// AnomalyCLIP's two prompts, raw features [2, C].
///
/// # Errors
/// [`TrainError::Weights`], [`TrainError::Options`].
pub fn anomalyclip(
    clip: &Clip,
    normal: &Array2<f32>,
    abnormal: &Array2<f32>,
    deep: &[Array2<f32>],
    threads: usize,
) -> Result<Array2<f32>, TrainError> {
    let rows = [
        prompt(clip, Some(normal), NORMAL_WORDS, None)?,
        prompt(clip, Some(abnormal), ABNORMAL_WORDS, None)?,
    ];
    // The published text tower rounds deep prompts to 16 bits, and checkpoints were learned so.
    let rounded = deep
        .iter()
        .map(|rows| rows.mapv(|v| f16::from_f32(v).to_f32()));
    Ok(encode(clip, &rows, &rounded.collect::<Vec<_>>(), threads))
}

/// CoOp's class words, normal and abnormal.
pub fn coop_words(class: &str) -> [String; 2] {
    [format!("normal {class}"), format!("anomalous {class}")]
}

/// CoOp's two prompts as rows without positions.
///
/// # Errors
/// [`TrainError::Weights`], [`TrainError::Options`].
pub fn coop_rows(
    clip: &Clip,
    context: [&Array2<f32>; 2],
    class: &str,
    position: ClassPosition,
) -> Result<[Array2<f32>; 2], TrainError> {
    let words = coop_words(class);
    let one = |i: usize| {
        let (context, name) = (context[i], &words[i]);
        let sentence = format!("{name}.");
        match position {
            ClassPosition::End => prompt(clip, Some(context), &sentence, None),
            ClassPosition::Middle => {
                let half = context.nrows() / 2;
                let (first, second) = (
                    context.slice(s![..half, ..]).to_owned(),
                    context.slice(s![half.., ..]).to_owned(),
                );
                prompt(clip, Some(&first), name, Some((&second, ".")))
            }
            ClassPosition::Front => prompt(clip, None, name, Some((context, "."))),
        }
    };
    Ok([one(0)?, one(1)?])
}

fn write_prototypes(w: &mut Writer, normal: &Array1<f32>, abnormal: &Array1<f32>) {
    w.vector("prototypes/normal", normal);
    w.vector("prototypes/abnormal", abnormal);
}

/// CoCoOp's prompts, ready for the device: rows with positions, the start token's keys and values.
fn write_tower(w: &mut Writer, clip: &Clip, rows: &[Array2<f32>; 2]) {
    let text = &clip.text;
    let reference = Reference {
        text,
        activation: clip.activation,
        deep: &[],
    };
    let longest = rows[0].nrows().max(rows[1].nrows()) - 1;
    let mut suffix = Array2::zeros((2 * longest, text.width));
    for (i, rows) in rows.iter().enumerate() {
        let n = rows.nrows();
        let placed = rows + &text.positions.slice(s![..n, ..]);
        suffix
            .slice_mut(s![i * longest..i * longest + n - 1, ..])
            .assign(&placed.slice(s![1.., ..]));
    }
    w.table("tower/suffix", &suffix);
    let tape = reference.encode(&rows[0]);
    for (i, block) in text.blocks.iter().enumerate() {
        w.block(&format!("tower/blocks.{i}"), block);
        let (keys, values) = tape.keys_values(i, 1);
        w.table(&format!("tower/blocks.{i}.prefix_keys"), &keys);
        w.table(&format!("tower/blocks.{i}.prefix_values"), &values);
    }
    w.norm("tower/ln_final", &text.ln_final);
    w.matrix("tower/projection", &text.projection);
}

/// What the checkpoint is of another method.
fn mismatch(learned: &Learned, method: Method) -> TrainError {
    TrainError::Prompts {
        path: learned.path.clone(),
        what: format!("not what --method {method} learns"),
    }
}

/// The pairs of vectors of each stage.
fn write_heads(w: &mut Writer, spec: &MethodSpec, learned: &Learned) -> Result<(), TrainError> {
    let Numbers::Heads { patch, image } = &learned.numbers else {
        return Err(mismatch(learned, Method::Heads));
    };
    for (name, cube) in [("patch", patch), ("image", image)] {
        let (stages, _, width) = cube.dim();
        stages_fit(spec, stages)?;
        let flat = Array2::from_shape_vec((2 * stages, width), flat(cube).to_vec());
        let flat = flat.expect("the same number of elements");
        w.table(&format!("method/heads.{name}"), &flat);
    }
    Ok(())
}

/// Writes everything of the method but the encoder.
fn write(
    w: &mut Writer,
    clip: &Clip,
    asked: &MethodOptions,
    learned: Option<&Learned>,
    threads: usize,
) -> Result<Made, TrainError> {
    let method = asked.method;
    let layers = clip.visual.blocks.len();
    let mut spec = MethodSpec::of(method, layers);
    spec.stages = stages(asked, learned, spec.stages)?;
    spec.positions = asked.positions.unwrap_or(spec.positions);
    if method.has_class() {
        spec.class = class(asked, learned)?;
    }
    // Before minutes of encoding words.
    if method == Method::AprilGan {
        let learned = needed(asked, learned)?;
        let Numbers::Linear(all) = &learned.numbers else {
            return Err(mismatch(learned, method));
        };
        stages_fit(&spec, all.len())?;
        for (i, layer) in all.iter().enumerate() {
            w.dense(&format!("method/linear.{i}"), layer);
        }
    }
    match method {
        Method::Clip | Method::ClipAc | Method::Winclip | Method::AprilGan | Method::Anovl => {
            let prompts = words::prompts(method, &spec.class, asked.templates)?;
            spec.templates = prompts.templates;
            let all: Vec<String> = prompts
                .normal
                .iter()
                .chain(&prompts.abnormal)
                .cloned()
                .collect();
            let all = features(clip, &all, threads)?;
            let (normal, abnormal) = all.view().split_at(Axis(0), prompts.normal.len());
            let mean = match method {
                Method::Winclip | Method::Anovl => raw_mean,
                _ => mean_of_units,
            };
            write_prototypes(w, &mean(normal), &mean(abnormal));
        }
        Method::Anomalyclip => {
            let learned = needed(asked, learned)?;
            let Numbers::Prompts {
                normal,
                abnormal,
                deep,
            } = &learned.numbers
            else {
                return Err(mismatch(learned, method));
            };
            let both = anomalyclip(clip, normal, abnormal, deep, threads)?;
            write_prototypes(w, &both.row(0).to_owned(), &both.row(1).to_owned());
        }
        Method::Coop | Method::Cocoop => {
            let learned = needed(asked, learned)?;
            let Numbers::Context { context, network } = &learned.numbers else {
                return Err(mismatch(learned, method));
            };
            let context = [context_of(context, 0), context_of(context, 1)];
            let rows = coop_rows(
                clip,
                [&context[0], &context[1]],
                &spec.class,
                asked.class_position,
            )?;
            match network {
                None => {
                    let both = encode(clip, &rows, &[], threads);
                    write_prototypes(w, &both.row(0).to_owned(), &both.row(1).to_owned());
                }
                Some((fc1, fc2)) => {
                    if asked.class_position != ClassPosition::End {
                        return Err(options(
                            "--class-position: CoCoOp's context stands before the class".into(),
                        ));
                    }
                    spec.hidden = fc1.weight.nrows();
                    spec.context = context[0].nrows();
                    spec.prompt_rows = rows.iter().map(|r| r.nrows() - 1).collect();
                    write_tower(w, clip, &rows);
                    w.dense("method/fc1", fc1);
                    w.dense("method/fc2", fc2);
                }
            }
        }
        Method::Heads => write_heads(w, &spec, needed(asked, learned)?)?,
        Method::Dapo => {
            let learned = needed(asked, learned)?;
            let Numbers::Dapo {
                normal,
                abnormal,
                deep,
                visual,
                adapters,
            } = &learned.numbers
            else {
                return Err(mismatch(learned, method));
            };
            spec.types = types(asked, learned)?;
            spec.visual_tokens = visual[0].nrows();
            stages_fit(&spec, adapters.len())?;
            let rows = dapo::prompts(clip, normal, abnormal, &spec.types)?;
            let features = encode(clip, &rows, deep, threads);
            let groups = normal.len_of(Axis(0));
            let mut prototypes = Array2::zeros((1 + spec.types.len(), clip.text.width));
            let sets = features.axis_chunks_iter(Axis(0), groups);
            for (mut row, set) in prototypes.outer_iter_mut().zip(sets) {
                row.assign(&raw_mean(set));
            }
            w.exact("prototypes/types", &prototypes);
            for (i, rows) in visual.iter().enumerate() {
                w.table(&format!("method/visual.{i}"), rows);
            }
            for (i, layer) in adapters.iter().enumerate() {
                w.dense(&format!("method/linear.{i}"), layer);
            }
        }
        // The encoder is all of it.
        Method::Memory => {}
        Method::Faprompt => {
            return Err(options("--method faprompt is `export::export`'s".into()));
        }
        Method::Filo | Method::Blip => refuse_host_only(method)?,
    }
    Ok(Made {
        temperature: asked.scale(clip),
        spec,
    })
}

/// Smoothing of reported maps in pixels per pixel of the input: AnomalyCLIP's sigma 4 at 518 px; the other
/// codes report maps as they are.
fn smoothing(method: Method) -> f32 {
    match method {
        Method::Anomalyclip | Method::Heads | Method::Dapo => 4.0 / 518.0,
        _ => 0.0,
    }
}

fn manifest(
    clip: &Clip,
    learned: Option<&Learned>,
    made: Made,
    options: &ExportOptions,
) -> Result<Manifest, TrainError> {
    let (visual, text) = (&clip.visual, &clip.text);
    let record = record_of(learned, clip)?;
    refuse_otherwise(record.as_ref(), made.temperature, &made.spec)?;
    let size = options
        .image_size
        .or(record.as_ref().map(|r| r.image_size))
        .unwrap_or(clip.default_image_size());
    let layers = visual.blocks.len();
    let asked = options
        .vv_layers
        .or(record.as_ref().map(|r| r.vv_layers))
        .unwrap_or(clip.default_vv_layers());
    let mut sources = clip.sources.clone();
    sources.insert("clip".into(), clip.digest.clone());
    if let Some(learned) = learned {
        sources.insert("prompts".into(), learned.digest.clone());
    }
    let untrained = clip.untrained || learned.is_some_and(|l| l.untrained);
    let manifest = Manifest {
        name: options.name.clone().unwrap_or(clip.name()),
        created_by: concat!("faprompt-train ", env!("CARGO_PKG_VERSION")).into(),
        trained: options.trained && !untrained,
        description: options.description.clone(),
        image: crate::train::export::image_spec(&clip.preprocess, size, visual.patch),
        activation: clip.activation,
        vision: TowerSpec {
            width: visual.width,
            layers,
            heads: visual.heads,
            epsilon: visual.epsilon,
        },
        vv_layers: made.spec.vv_layers(asked, layers),
        memory: options.memory.clone(),
        registers: 0,
        network: None,
        text: TowerSpec {
            width: text.width,
            layers: text.blocks.len(),
            heads: text.heads,
            epsilon: text.epsilon,
        },
        prompts: PromptSpec::none(),
        prior: PriorSpec::none(),
        scores: ScoreSpec {
            temperature: made.temperature,
            rule: ScoreRule::Code,
            smoothing_sigma: smoothing(made.spec.name) * size as f32,
            threshold: options.threshold,
        },
        precision: options.precision,
        linear_error: vec![],
        known_score: None,
        method: Some(made.spec),
        assumed: clip.assumed.clone(),
        sources,
    };
    manifest
        .check()
        .map_err(|e| TrainError::Options(e.to_string()))?;
    Ok(manifest)
}

/// The bytes of a method's bundle, opened and run by the device's own code.
///
/// # Errors
/// [`TrainError::Options`] if the options do not fit the weights or the method, [`TrainError::Weights`] and
/// [`TrainError::Prompts`] if the files do not.
pub fn bytes(
    clip: &Clip,
    asked: &MethodOptions,
    learned: Option<&Learned>,
    options: &ExportOptions,
) -> Result<(Manifest, Vec<u8>), TrainError> {
    let mut w = Writer::new(BundleWriter::new(options.precision));
    let made = write(&mut w, clip, asked, learned, options.threads)?;
    let positions = made.spec.positions;
    let manifest = manifest(clip, learned, made, options)?;
    write_encoder(&mut w, &clip.visual, manifest.image.grid(), positions);
    w.checked(manifest)
}

/// Makes a bundle of heads on an image encoder without text at `out`: a score from the first part on, and good parts
/// compared once it is taught.
///
/// # Errors
/// [`TrainError::Options`] if the options or what was learned do not fit the weights, [`TrainError::Prompts`] if the
/// file holds something else, [`TrainError::Output`] if the bundle cannot be written.
pub fn export_without_text(
    backbone: &Backbone,
    asked: &MethodOptions,
    learned: &Learned,
    options: &ExportOptions,
    out: &Path,
) -> Result<Exported, TrainError> {
    let record = record_of(Some(learned), backbone)?;
    let weights = Weights::WithoutText(backbone);
    let mut spec = MethodSpec::of(Method::Heads, weights.layers());
    spec.stages = stages(asked, Some(learned), spec.stages)?;
    spec.positions = asked.positions.unwrap_or(backbone.how);
    let temperature = asked.temperature.unwrap_or(INITIAL);
    refuse_otherwise(record.as_ref(), temperature, &spec)?;
    let mut w = Writer::new(BundleWriter::new(options.precision));
    write_heads(&mut w, &spec, learned)?;
    let learned_size = record.map(|r| r.image_size);
    let options = ExportOptions {
        image_size: options.image_size.or(learned_size),
        trained: options.trained && !learned.untrained,
        ..options.clone()
    };
    let mut manifest = backbone.manifest(spec, &options)?;
    let size = manifest.image.size as f32;
    manifest.scores.smoothing_sigma = smoothing(Method::Heads) * size;
    manifest.scores.temperature = temperature;
    let digest = learned.digest.clone();
    manifest.sources.insert("prompts".into(), digest);
    backbone.finish(w, manifest, out)
}

/// Makes a bundle of `clip` for a method at `out`.
///
/// # Errors
/// As [`bytes`], and [`TrainError::Output`] if the file cannot be written.
pub fn export(
    clip: &Clip,
    asked: &MethodOptions,
    learned: Option<&Learned>,
    options: &ExportOptions,
    out: &Path,
) -> Result<Exported, TrainError> {
    let (manifest, bytes) = bytes(clip, asked, learned, options)?;
    let size = bytes.len() as u64;
    crate::bundle::save(&bytes, out).map_err(|source| TrainError::Output {
        path: out.to_path_buf(),
        source,
    })?;
    Ok(Exported {
        manifest,
        bytes: size,
    })
}
