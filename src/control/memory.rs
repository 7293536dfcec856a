//! The stored settings: values of the station, 32 recipes, and which one is in use; and their form in TOML, which
//! people write and the store keeps.

use super::table::{CAMERAS, Entry, Kind, Parameter, STEPS, Scope, TABLE};
use super::values::{Contradiction, Reason, Value, ValueError, Values};
use crate::line::AlarmSet;
use crate::memory::LIMIT;
use std::fmt;
use std::sync::Arc;

/// Name of the table of a backup that holds the files of taught parts, in base64, by name. They are no parameters.
pub const GOOD_PARTS: &str = "good_parts";

/// How many recipes there are.
pub const RECIPES: u8 = 32;

/// The number of a recipe, 1..=32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecipeNumber(u8);

impl RecipeNumber {
    /// The first recipe, number 1.
    pub const FIRST: RecipeNumber = RecipeNumber(1);

    /// The recipe with this number; `None` if it is not in 1..=32.
    pub fn new(number: u32) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (1..=RECIPES)
            .contains(&number)
            .then_some(RecipeNumber(number))
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = RecipeNumber> {
        (1..=RECIPES).map(RecipeNumber)
    }

    const fn place(self) -> usize {
        self.0 as usize - 1
    }
}

impl fmt::Display for RecipeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a key of a file is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The file is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// There is no such table or parameter, or it stands in the wrong table.
    #[error("unknown key `{0}`")]
    Unknown(String),
    /// The parameter cannot have this value.
    #[error("{place}: {error}")]
    Value {
        /// Table and key.
        place: String,
        /// Why it cannot.
        error: ValueError,
    },
    /// The value is neither a text nor a number nor a truth value.
    #[error("{0} is neither a text nor a number")]
    Type(String),
    /// Recipes are numbered from 1 to 32, and this is not one of those numbers.
    #[error("`{0}` is not a recipe's number, 1 to 32")]
    Recipe(String),
}

/// [`LIMIT`] as a threshold, in steps of 0.0001.
pub const AT_LIMIT: u32 = (LIMIT * STEPS as f32) as u32;

/// Every parameter of the station and of all its recipes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    active: RecipeNumber,
    /// Of these values, those of parameters that belong to the station count.
    station: Values,
    /// Of these values, those of parameters that belong to a recipe count. Shared, because every pending change is
    /// a copy of all.
    recipes: Vec<Arc<Values>>,
}

impl Default for Memory {
    fn default() -> Self {
        Memory {
            active: RecipeNumber::FIRST,
            station: Values::default(),
            recipes: vec![Arc::default(); usize::from(RECIPES)],
        }
    }
}

impl Memory {
    /// The recipe in use.
    pub fn active(&self) -> RecipeNumber {
        self.active
    }

    /// Puts another recipe into use.
    pub fn select(&mut self, recipe: RecipeNumber) {
        self.active = recipe;
    }

    /// The values that hold this parameter, in the recipe in use.
    fn of(&self, parameter: Parameter) -> &Values {
        match parameter.entry().scope {
            Scope::Station => &self.station,
            Scope::Recipe => &self.recipes[self.active.place()],
        }
    }

    /// A parameter's value, in the recipe in use.
    pub fn get(&self, parameter: Parameter) -> &Value {
        self.of(parameter).get(parameter)
    }

    /// See [`Values::number`].
    pub fn number(&self, parameter: Parameter) -> u32 {
        self.of(parameter).number(parameter)
    }

    /// The alarms that are set to stop the line ([`Values::alarms_that_stop`]).
    pub fn alarms_that_stop(&self) -> AlarmSet {
        self.station.alarms_that_stop()
    }

    /// Scores of a camera that compares with other good parts than `before` are scaled so that a threshold of 0.5
    /// ([`LIMIT`]) keeps what teaching promised: its threshold becomes that, unless it was changed as well, or is
    /// `given`.
    ///
    /// # Errors
    /// [`ValueError`], never as long as 0.5 is in a threshold's range.
    pub fn follow_taught(
        &mut self,
        before: &Memory,
        given: impl Fn(Parameter) -> bool,
    ) -> Result<(), ValueError> {
        for camera in CAMERAS {
            let stays = |parameter| self.get(parameter) == before.get(parameter);
            if stays(camera.taught)
                || !stays(camera.threshold)
                || given(camera.threshold)
                || self.text(camera.taught).is_empty()
            {
                continue;
            }
            self.set(camera.threshold, Value::Number(AT_LIMIT))?;
        }
        Ok(())
    }

    /// See [`Values::text`].
    pub fn text(&self, parameter: Parameter) -> &str {
        self.of(parameter).text(parameter)
    }

    /// See [`Values::is_on`].
    pub fn is_on(&self, parameter: Parameter) -> bool {
        self.of(parameter).is_on(parameter)
    }

    /// Sets a parameter, in the recipe in use.
    ///
    /// # Errors
    /// [`ValueError`]: nothing is set.
    pub fn set(&mut self, parameter: Parameter, value: Value) -> Result<(), ValueError> {
        match parameter.entry().scope {
            Scope::Station => self.station.set(parameter, value),
            Scope::Recipe => {
                Arc::make_mut(&mut self.recipes[self.active.place()]).set(parameter, value)
            }
        }
    }

    /// Sets a parameter in all recipes, for values that come from the board or the bundle.
    ///
    /// # Errors
    /// [`ValueError`]: nothing is set.
    pub fn set_everywhere(
        &mut self,
        parameter: Parameter,
        value: &Value,
    ) -> Result<(), ValueError> {
        self.station.set(parameter, value.clone())?;
        for recipe in &mut self.recipes {
            Arc::make_mut(recipe).set(parameter, value.clone())?;
        }
        Ok(())
    }

    /// The values of a text parameter in all recipes, except empty ones.
    pub fn texts(&self, parameter: Parameter) -> impl Iterator<Item = &str> {
        let all = self.recipes.iter().map(move |r| r.text(parameter));
        all.filter(|text| !text.is_empty())
    }

    /// The value of a text parameter in this recipe.
    pub fn text_in(&self, recipe: RecipeNumber, parameter: Parameter) -> &str {
        self.recipes[recipe.place()].text(parameter)
    }

    /// The names of the files of taught parts, of every recipe and camera that has one.
    pub fn taught(&self) -> impl Iterator<Item = &str> {
        CAMERAS.iter().flat_map(|camera| self.texts(camera.taught))
    }

    /// The name of a recipe; empty if it has none.
    pub fn name(&self, recipe: RecipeNumber) -> &str {
        self.text_in(recipe, Parameter::RecipeName)
    }

    /// Finds a recipe by number, or by name in upper or lower case.
    pub fn find(&self, recipe: &str) -> Option<RecipeNumber> {
        let number = recipe.parse().ok().and_then(RecipeNumber::new);
        number.or_else(|| {
            let named = |n: &RecipeNumber| self.name(*n).eq_ignore_ascii_case(recipe);
            RecipeNumber::all()
                .find(named)
                .filter(|_| !recipe.is_empty())
        })
    }

    /// The values of all parameters that are in force with the recipe in use.
    pub fn values(&self) -> Values {
        let mut values = Values::clone(&self.recipes[self.active.place()]);
        for entry in TABLE.iter().filter(|e| e.scope == Scope::Station) {
            // Cannot fail: it was in range where it came from.
            let _ = values.set(entry.parameter, self.station.get(entry.parameter).clone());
        }
        values
    }

    /// Checks that the values in force agree with each other.
    ///
    /// # Errors
    /// [`Contradiction`] names the parameter and the reason.
    pub fn check(&self) -> Result<(), Contradiction> {
        self.values().settings()?;
        let name = self.name(self.active);
        let taken = RecipeNumber::all()
            .filter(|r| *r != self.active && !name.is_empty())
            .find(|r| self.name(*r).eq_ignore_ascii_case(name));
        match taken {
            None => Ok(()),
            Some(other) => Err(Contradiction {
                parameter: Parameter::RecipeName,
                reason: Reason::NameTaken(other.get()),
            }),
        }
    }

    /// Checks that the values of every recipe agree with each other.
    ///
    /// # Errors
    /// [`Contradiction`] of the first recipe that has one.
    pub fn check_all(&self) -> Result<(), Contradiction> {
        RecipeNumber::all().try_for_each(|recipe| {
            let mut memory = self.clone();
            memory.select(recipe);
            memory.check()
        })
    }

    /// A copy without passwords and their hashes.
    #[must_use]
    pub fn without_secrets(mut self) -> Memory {
        for entry in TABLE.iter().filter(|e| matches!(e.kind, Kind::Secret)) {
            // No password is always allowed.
            let _ = self.set_everywhere(entry.parameter, &Value::Text(String::new()));
        }
        self
    }

    /// The settings as TOML: `active`, `[station]`, `[recipe.N]`.
    pub fn to_toml(&self) -> toml::Table {
        let of = |values: &Values, scope| -> toml::Table {
            let entries = TABLE.iter().filter(|e| e.scope == scope);
            entries
                .map(|e| (e.name.to_string(), to_toml(e, values.get(e.parameter))))
                .collect()
        };
        let recipes = RecipeNumber::all().map(|r| {
            let table = of(&self.recipes[r.place()], Scope::Recipe);
            (r.to_string(), toml::Value::Table(table))
        });
        toml::Table::from_iter([
            ("active".to_string(), i64::from(self.active.get()).into()),
            (
                "station".to_string(),
                of(&self.station, Scope::Station).into(),
            ),
            ("recipe".to_string(), toml::Table::from_iter(recipes).into()),
        ])
    }

    /// Takes over what the TOML says; what is wrong in it is left out and reported. A file that a person
    /// wrote is to be refused if there is a report; in one that a newer program wrote, unknown keys are
    /// no damage.
    #[must_use]
    pub fn merge(&mut self, table: &toml::Table) -> Vec<FileError> {
        let mut errors = Vec::new();
        for (key, value) in table {
            match (key.as_str(), value) {
                ("active", value) => {
                    let number = value.as_integer().and_then(|n| u32::try_from(n).ok());
                    match number.and_then(RecipeNumber::new) {
                        Some(recipe) => self.active = recipe,
                        None => errors.push(FileError::Recipe(value.to_string())),
                    }
                }
                ("station", toml::Value::Table(table)) => {
                    merge(
                        &mut self.station,
                        table,
                        Scope::Station,
                        "station",
                        &mut errors,
                    );
                }
                ("recipe", toml::Value::Table(recipes)) => {
                    for (number, table) in recipes {
                        let recipe = number.parse().ok().and_then(RecipeNumber::new);
                        match (recipe, table) {
                            (Some(recipe), toml::Value::Table(table)) => {
                                let place = format!("recipe.{recipe}");
                                let values = Arc::make_mut(&mut self.recipes[recipe.place()]);
                                merge(values, table, Scope::Recipe, &place, &mut errors);
                            }
                            _ => errors.push(FileError::Recipe(number.clone())),
                        }
                    }
                }
                _ => errors.push(FileError::Unknown(key.clone())),
            }
        }
        errors
    }

    /// Reads a file that a person wrote, all of it or nothing. Parameters that it leaves out stay as they are.
    ///
    /// # Errors
    /// The first [`FileError`].
    pub fn read(&mut self, text: &str) -> Result<(), FileError> {
        let mut table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| FileError::Syntax(e.to_string()))?;
        table.remove(GOOD_PARTS);
        let mut memory = self.clone();
        match memory.merge(&table).into_iter().next() {
            Some(error) => Err(error),
            None => {
                *self = memory;
                Ok(())
            }
        }
    }
}

pub(super) fn to_toml(entry: &Entry, value: &Value) -> toml::Value {
    match (entry.kind, value) {
        (Kind::Decimal { .. }, Value::Number(n)) => {
            toml::Value::Float(f64::from(*n) / f64::from(STEPS))
        }
        (Kind::Choice(_), Value::Number(_)) => entry.show(value).to_string().into(),
        (_, Value::Number(n)) => i64::from(*n).into(),
        (_, Value::Text(text)) => text.clone().into(),
    }
}

pub(super) fn from_toml(entry: &Entry, value: &toml::Value) -> Option<Result<Value, ValueError>> {
    Some(match value {
        toml::Value::String(text) => entry.parse(text),
        toml::Value::Integer(n) => entry.parse(&n.to_string()),
        toml::Value::Float(n) => entry.parse(&n.to_string()),
        toml::Value::Boolean(on) => entry.parse(if *on { "on" } else { "off" }),
        _ => return None,
    })
}

fn merge(
    values: &mut Values,
    table: &toml::Table,
    scope: Scope,
    place: &str,
    errors: &mut Vec<FileError>,
) {
    for (key, value) in table {
        let key_of = || format!("{place}.{key}");
        let entry = Parameter::named(key).map(Parameter::entry);
        let Some(entry) = entry.filter(|e| e.scope == scope) else {
            errors.push(FileError::Unknown(key_of()));
            continue;
        };
        let result = match from_toml(entry, value) {
            None => Err(FileError::Type(key_of())),
            Some(value) => value
                .and_then(|v| values.set(entry.parameter, v))
                .map_err(|error| FileError::Value {
                    place: place.to_string(),
                    error,
                }),
        };
        errors.extend(result.err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn recipes_are_found_by_number_and_name() {
        let mut memory = Memory::default();
        let second = RecipeNumber::new(2).unwrap();
        memory.select(second);
        let name = Value::Text("Cap M8".into());
        memory.set(Parameter::RecipeName, name.clone()).unwrap();
        assert_eq!(memory.find("cap m8"), Some(second));
        assert_eq!(memory.find("2"), Some(second));
        for none in ["", "0", "33", "cap"] {
            assert_eq!(memory.find(none), None, "{none}");
        }
        memory.select(RecipeNumber::FIRST);
        assert_eq!(
            memory.get(Parameter::RecipeName),
            &Value::Text(String::new())
        );
        memory.set(Parameter::RecipeName, name).unwrap();
        let error = memory.check().unwrap_err().to_string();
        assert_eq!(error, "recipe_name: recipe 2 has this name");
    }

    #[test]
    fn a_file_is_taken_over_whole_or_not_at_all() {
        let mut memory = Memory::default();
        let good = "active = 3\n[station]\nwiring = \"energise_for_good\"\nconfirm = true\nserial_baud = 9600\n\
                    [recipe.3]\nthreshold = 0.3";
        memory.read(good).unwrap();
        assert_eq!(memory.active().get(), 3);
        assert_eq!(memory.values().decimal(Parameter::Threshold), 0.3);
        assert!(memory.values().is_on(Parameter::Confirm));
        let before = memory.clone();
        for (wrong, word) in [
            ("active = 33", "33"),
            ("[station]\nthreshold = 0.5", "station.threshold"),
            ("[station]\ndebounce_us = 1\npulse = 3", "station.pulse"),
            ("[recipe.0]\nthreshold = 0.5", "`0`"),
            ("[recipe.1]\nthreshold = 1.5", "recipe.1: threshold"),
            ("[recipe.1]\nthreshold = [1]", "recipe.1.threshold"),
            ("[network]\nport = 1", "network"),
            ("threshold", "not TOML"),
        ] {
            let error = memory.read(wrong).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
            assert_eq!(memory, before, "{wrong}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is set is read back from the TOML that is written of it.
        #[test]
        fn toml_holds_everything(sets in prop::collection::vec((0..TABLE.len(), 0u32..70_000, 1u32..33), 0..40)) {
            let mut memory = Memory::default();
            for (place, number, recipe) in sets {
                memory.select(RecipeNumber::new(recipe).unwrap());
                let entry = &TABLE[place];
                let value = match entry.kind {
                    Kind::Text(_) => Value::Text(format!("text {number}, \\ of '{recipe}'")),
                    _ => Value::Number(number % (entry.kind.largest().unwrap_or(0) + 1)),
                };
                let _ = memory.set(entry.parameter, value);
            }
            let mut read = Memory::default();
            read.read(&memory.to_toml().to_string()).unwrap();
            prop_assert_eq!(read, memory);
        }
    }
}
