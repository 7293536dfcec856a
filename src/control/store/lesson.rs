//! Lessons that wait to be accepted, by recipe.
//!
//! File `lesson-N` is what TEACH ACCEPT would put into force for recipe N: what was taught, dropped, and said to be
//! good or bad. It is replaced whole with each change of the lesson, and taken away when the lesson is accepted or
//! cancelled, so that a restart or a power cut loses nobody's opinion.

use super::shelf;
use crate::control::memory::{Memory, RecipeNumber};
use crate::control::table::Parameter;
use crate::durable::Files;
use std::io;
use std::sync::Arc;

/// What their names begin with.
const PREFIX: &str = "lesson-";

/// A recipe, and the lesson of it that waits.
pub type Waiting = (RecipeNumber, Arc<[u8]>);

fn name_of(recipe: RecipeNumber) -> String {
    format!("{PREFIX}{}", recipe.get())
}

/// Writes a recipe's lesson, or takes it away: it is safe, or gone, when this returns.
pub(super) fn put(
    files: &mut impl Files,
    recipe: RecipeNumber,
    lesson: Option<&[u8]>,
) -> io::Result<()> {
    let name = name_of(recipe);
    match lesson {
        Some(bytes) => files.replace(&name, bytes),
        None if files.read(&name)?.is_none() => Ok(()),
        None => {
            files.remove(&name)?;
            files.sync_folder()
        }
    }
}

/// The lessons that wait. One that its recipe names was accepted when the power failed: it is taken away, as are
/// halves.
pub(super) fn waiting(files: &mut impl Files, memory: &Memory) -> io::Result<Vec<Waiting>> {
    let (mut found, mut gone) = (vec![], false);
    let names = files.names()?;
    for recipe in RecipeNumber::all() {
        let name = name_of(recipe);
        let half = format!("{name}.new");
        if names.contains(&half) {
            files.remove(&half)?;
            gone = true;
        }
        let Some(bytes) = files.read(&name)? else {
            continue;
        };
        let accepted = memory.text_in(recipe, Parameter::Taught) == shelf::name_of(&bytes);
        match accepted {
            true => {
                files.remove(&name)?;
                gone = true;
            }
            false => found.push((recipe, bytes.into())),
        }
    }
    if gone {
        files.sync_folder()?;
    }
    Ok(found)
}
