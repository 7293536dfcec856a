//! What was taught with a recipe, from one station to another: the memory of good parts and the threshold that goes
//! with it, of each camera that has one. Nothing else of the other station changes.
//!
//! It goes the way of a backup that says nothing else: a restored file leaves alone what it does not name, and is in
//! force as a whole or not at all.

use super::{Client, StationError, backup_of};
use crate::control::backup;
use crate::control::memory::{GOOD_PARTS, RecipeNumber};
use crate::control::store::shelf::is_name;
use crate::control::table::{CAMERAS, CameraParameters};
use crate::memory::Taught;
use crate::report::shown;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

/// What must be the same on both stations beside the encoder: the places that are compared.
const SAME: [&str; 3] = ["tile_rows", "tile_columns", "tile_overlap"];

/// What one station was taught with a recipe.
pub struct Lesson {
    /// Whose it is.
    from: String,
    /// The recipe.
    recipe: RecipeNumber,
    /// The recipe's values there.
    values: toml::Table,
    /// The cameras that were taught something: their parameters, and what it is.
    cameras: Vec<(CameraParameters, String)>,
    /// The files of good parts by their names.
    goods: BTreeMap<String, Vec<u8>>,
    /// How many good parts they hold.
    parts: usize,
    /// The encoder that they were taught with.
    encoder: String,
}

/// A recipe's values in a backup.
fn recipe_of(backup: &toml::Table, recipe: RecipeNumber) -> toml::Table {
    let all = backup.get("recipe").and_then(toml::Value::as_table);
    let own = all.and_then(|all| all.get(&recipe.to_string())?.as_table());
    own.cloned().unwrap_or_default()
}

fn text<'a>(values: &'a toml::Table, key: &str) -> &'a str {
    values
        .get(key)
        .and_then(toml::Value::as_str)
        .unwrap_or_default()
}

/// The backup as a table: it was read before.
fn table(backup: &str) -> Result<toml::Table, StationError> {
    backup
        .parse()
        .map_err(|e: toml::de::Error| StationError::Nothing(e.to_string()))
}

/// The recipe in use.
fn active(backup: &toml::Table) -> Option<RecipeNumber> {
    let number = backup.get("active").and_then(toml::Value::as_integer)?;
    RecipeNumber::new(u32::try_from(number).ok()?)
}

/// What a station was taught with a recipe, by default the one in use.
///
/// # Errors
/// [`StationError::Nothing`] if that is nothing, or lies outside the station's folder; and those of a request.
pub fn lesson(client: &Client, recipe: Option<RecipeNumber>) -> Result<Lesson, StationError> {
    let backup = backup_of(&client.log_in()?)?;
    let all = table(&backup)?;
    let recipe = recipe.or_else(|| active(&all));
    let nothing = |what: &str| StationError::Nothing(what.into());
    let recipe = recipe.ok_or_else(|| nothing("its backup names no recipe in use"))?;
    let values = recipe_of(&all, recipe);
    let taught = |camera: CameraParameters| {
        let name = text(&values, camera.taught.entry().name);
        (!name.is_empty()).then(|| (camera, name.to_string()))
    };
    let cameras: Vec<_> = CAMERAS.into_iter().filter_map(taught).collect();
    if cameras.is_empty() {
        return Err(nothing(&format!(
            "recipe {recipe} was taught nothing there: TEACH it first, or name another one with --recipe"
        )));
    }
    let mut goods = backup::goods(&backup).map_err(StationError::Nothing)?;
    if let Some((camera, name)) = cameras.iter().find(|(_, name)| !is_name(name)) {
        return Err(nothing(&format!(
            "recipe {recipe}: {} is {name}, a file outside the station's folder, which no backup holds: copy the file \
             and SET it on the other stations",
            camera.taught.entry().name
        )));
    }
    goods.retain(|name, _| cameras.iter().any(|(_, own)| own == name));
    let (mut parts, mut encoder) = (0, String::new());
    for (name, bytes) in &goods {
        let taught = Taught::from_bytes(bytes);
        let taught = taught.map_err(|e| StationError::Elsewhere(format!("{name}: {e}")))?;
        parts += taught.about().told.len();
        encoder.clone_from(&taught.about().encoder);
    }
    Ok(Lesson {
        from: client.station().name.clone(),
        recipe,
        values,
        cameras,
        goods,
        parts,
        encoder,
    })
}

impl Lesson {
    /// How many good parts it holds.
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// The recipe that it was taught with.
    pub fn recipe(&self) -> RecipeNumber {
        self.recipe
    }

    /// A backup that says this of a recipe's values and nothing else: which of them, and the files that they name.
    fn backup(&self, values: &toml::Table, goods: &BTreeMap<String, Vec<u8>>) -> String {
        let names = |c: &CameraParameters| [c.taught, c.threshold].map(|p| p.entry().name);
        let keys = self.cameras.iter().flat_map(|(camera, _)| names(camera));
        let own: toml::Table = keys
            .filter_map(|key| Some((key.to_string(), values.get(key)?.clone())))
            .collect();
        let goods: toml::Table = (goods.iter())
            .filter(|(name, _)| own.values().any(|v| v.as_str() == Some(name)))
            .map(|(name, bytes)| (name.clone(), STANDARD.encode(bytes).into()))
            .collect();
        let recipe = toml::Table::from_iter([(self.recipe.to_string(), own.into())]);
        toml::Table::from_iter([
            ("recipe".to_string(), toml::Value::Table(recipe)),
            (GOOD_PARTS.to_string(), goods.into()),
        ])
        .to_string()
    }

    /// Puts it into the same recipe of another station. Whether it judges there now: if that recipe is not in use
    /// there, it will when it is.
    ///
    /// # Errors
    /// [`StationError::Elsewhere`]: its encoder or its recipe is another one; nothing has changed then. Those of a
    /// request.
    pub fn copy_to(&self, client: &Client) -> Result<bool, StationError> {
        let session = client.log_in()?;
        let (state, before) = (session.state()?, backup_of(&session)?);
        let there = table(&before)?;
        let values = recipe_of(&there, self.recipe);
        let in_use = active(&there) == Some(self.recipe);
        self.fits(&state, &there, &values)?;
        session.restore(&self.backup(&self.values, &self.goods))?;
        if !in_use {
            return Ok(false);
        }
        // The first camera's, unless only others were taught.
        let (camera, name) = &self.cameras[0];
        let network = &session.state()?["network"];
        let judges = network["taught"]["name"].as_str() == Some(name);
        if judges || camera.taught.entry().name != "taught" {
            return Ok(true);
        }
        // With `taught_unusable` zero_shot the station takes what it cannot use, and judges without it.
        let goods = backup::goods(&before).map_err(StationError::Nothing)?;
        session.restore(&self.backup(&values, &goods))?;
        Err(StationError::Elsewhere(format!(
            "it cannot use what {} was taught (its log says why: other regions, or another arithmetic): recipe {} is as \
             it was",
            self.from, self.recipe
        )))
    }

    /// Whether it can be used with a recipe of another station, as far as that can be known before.
    fn fits(
        &self,
        state: &serde_json::Value,
        there: &toml::Table,
        values: &toml::Table,
    ) -> Result<(), StationError> {
        let recipe = self.recipe;
        let from = &self.from;
        let elsewhere = |what: String| Err(StationError::Elsewhere(what));
        let (own, other) = (
            text(&self.values, "recipe_name"),
            text(values, "recipe_name"),
        );
        if own != other {
            return elsewhere(format!(
                "recipe {recipe} is called `{}` there and `{}` on {from}: another product? Give it the same name first",
                shown(other),
                shown(own)
            ));
        }
        let in_use = active(there).unwrap_or(recipe);
        if text(values, "bundle") != text(&recipe_of(there, in_use), "bundle") {
            return elsewhere(format!(
                "recipe {recipe} is not in use there and names another bundle than recipe {in_use}, which is: whether the \
                 encoder is the same is known when it is in use (RECIPE {recipe})"
            ));
        }
        for key in SAME {
            if self.values.get(key) != values.get(key) {
                let value = |v: Option<&toml::Value>| v.map_or("-".into(), |v| v.to_string());
                return elsewhere(format!(
                    "{key} of recipe {recipe} is {} there and {} on {from}",
                    value(values.get(key)),
                    value(self.values.get(key))
                ));
            }
        }
        match state["network"]["encoder"].as_str() {
            Some(encoder) if encoder == self.encoder => Ok(()),
            Some(encoder) => elsewhere(format!(
                "its encoder is another one ({}, what {from} was taught needs {}): flash the same bundle, or teach it there",
                short(encoder),
                short(&self.encoder)
            )),
            None => elsewhere(
                "it does not say which encoder judges there: nothing judges (`fleet status`), its network cannot be taught, \
                 or its version is too old"
                    .into(),
            ),
        }
    }
}

/// The first digits of a digest.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
