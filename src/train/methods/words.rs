//! States and templates as data, and the prompts that they make of a class name.
//!
//! A state is put into a template's `{}`, the class into the state's. Sources and licences of the lists
//! stand at the head of `prompts.json`.

use crate::bundle::method::Method;
use crate::train::TrainError;
use serde::Deserialize;
use std::sync::LazyLock;

/// The data.
static LISTS: LazyLock<Lists> = LazyLock::new(|| {
    serde_json::from_str(include_str!("prompts.json")).expect("the program's own list of prompts")
});

/// The contents of `prompts.json`.
#[derive(Deserialize)]
pub struct Lists {
    clip: Plain,
    clip_ac: ClipAc,
    winclip: WinClip,
    april_gan: AprilGan,
    anovl: Anovl,
    /// FiLo's details and positions.
    pub filo: Filo,
    /// DAPO's words.
    pub dapo: Dapo,
}

#[derive(Deserialize)]
struct Plain {
    normal: Vec<String>,
    abnormal: Vec<String>,
}

#[derive(Deserialize)]
struct ClipAc {
    states_normal: Vec<String>,
    states_abnormal: Vec<String>,
    templates_80: Vec<String>,
    templates_7: Vec<String>,
}

#[derive(Deserialize)]
struct WinClip {
    states_normal: Vec<String>,
    states_abnormal: Vec<String>,
    templates_22: Vec<String>,
    templates_21: Vec<String>,
}

#[derive(Deserialize)]
struct AprilGan {
    states_normal: Vec<String>,
    states_abnormal: Vec<String>,
    templates_35: Vec<String>,
}

#[derive(Deserialize)]
struct Anovl {
    states_normal: Vec<String>,
    states_abnormal: Vec<String>,
    templates_object_66: Vec<String>,
    templates_texture_66: Vec<String>,
    texture_classes: Vec<String>,
}

/// The words of FiLo's prompts.
#[derive(Deserialize)]
pub struct Filo {
    /// WinCLIP's seven states of a good object.
    pub states_normal: Vec<String>,
    /// APRIL-GAN's five, of every class.
    pub states_abnormal_general: Vec<String>,
    /// Details of MVTec AD's classes.
    pub details_mvtec: std::collections::BTreeMap<String, Vec<String>>,
    /// Details of the objects of VisA, by object.
    pub details_visa: std::collections::BTreeMap<String, Vec<String>>,
    /// The nine positions, raster order.
    pub positions: Vec<String>,
}

/// The words of DAPO's prompts.
#[derive(Deserialize)]
pub struct Dapo {
    /// Behind a normal prompt's learned tokens.
    pub normal_word: String,
    /// Behind a defect's word.
    pub anomaly_word: String,
    /// The word behind both prompts.
    pub object_word: String,
    /// The types that the paper names.
    pub defects: Vec<String>,
}

/// The lists.
pub fn lists() -> &'static Lists {
    &LISTS
}

/// Every state in every template, of a class: state outer, template inner loop.
fn ensemble(states: &[String], templates: &[String], class: &str) -> Vec<String> {
    let states = states.iter().map(|s| s.replacen("{}", class, 1));
    states
        .flat_map(|s| templates.iter().map(move |t| t.replacen("{}", &s, 1)))
        .collect()
}

/// A method's hand-made prompts of a class.
pub struct Prompts {
    /// Normal ones.
    pub normal: Vec<String>,
    /// Abnormal ones.
    pub abnormal: Vec<String>,
    /// Templates that each state was put into.
    pub templates: usize,
}

/// The class as prompts name it: words instead of a folder's name.
pub fn class_words(class: &str) -> String {
    let class = class.replace('_', " ");
    class.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The hand-made prompts of `method` for `class`; `templates` chooses a list by its length.
///
/// # Errors
/// [`TrainError::Options`] for a list that the method does not have, or a method without such prompts.
pub fn prompts(
    method: Method,
    class: &str,
    templates: Option<usize>,
) -> Result<Prompts, TrainError> {
    let lists = lists();
    let class = class_words(class);
    let one = vec!["{}".to_string()];
    let (normal, abnormal, choices): (&[String], &[String], Vec<&[String]>) = match method {
        Method::Clip | Method::Blip => (&lists.clip.normal, &lists.clip.abnormal, vec![&one]),
        Method::ClipAc => {
            let l = &lists.clip_ac;
            let choices: Vec<&[String]> = vec![&l.templates_80, &l.templates_7];
            (&l.states_normal, &l.states_abnormal, choices)
        }
        Method::Winclip => {
            let l = &lists.winclip;
            let choices: Vec<&[String]> = vec![&l.templates_22, &l.templates_21];
            (&l.states_normal, &l.states_abnormal, choices)
        }
        Method::AprilGan => {
            let l = &lists.april_gan;
            (&l.states_normal, &l.states_abnormal, vec![&l.templates_35])
        }
        Method::Anovl => {
            let l = &lists.anovl;
            let texture = l.texture_classes.contains(&class);
            let list = match texture {
                true => &l.templates_texture_66,
                false => &l.templates_object_66,
            };
            (&l.states_normal, &l.states_abnormal, vec![list])
        }
        other => {
            return Err(TrainError::Options(format!(
                "--method {other} has no hand-made prompts"
            )));
        }
    };
    let chosen = match templates {
        None => choices.first(),
        Some(n) => choices.iter().find(|c| c.len() == n),
    };
    let chosen = chosen.ok_or_else(|| {
        let known: Vec<String> = choices.iter().map(|c| c.len().to_string()).collect();
        TrainError::Options(format!(
            "--templates {}: --method {method} has {}",
            templates.unwrap_or_default(),
            known.join(" or ")
        ))
    })?;
    Ok(Prompts {
        normal: ensemble(normal, chosen, &class),
        abnormal: ensemble(abnormal, chosen, &class),
        templates: chosen.len(),
    })
}
