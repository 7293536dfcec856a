//! The last network that judged, with its parameters: if the stored one cannot be used at a start, this one is
//! tried.
//!
//! Only parameters that decide a verdict: how and where the ejector is wired stays as it is stored.

use super::memory::{Memory, RecipeNumber, from_toml, to_toml};
use super::table::{CAMERAS, CameraParameters, Parameter};
use super::values::{Value, Values};

/// The parameters that decide a verdict for the whole part, whatever camera saw it.
const OF_THE_PART: [Parameter; 4] = [
    Parameter::Bundle,
    Parameter::TileRows,
    Parameter::TileColumns,
    Parameter::TileOverlap,
];

/// Those that files of every program have; in older ones the others are missing and have their defaults then.
const ALWAYS: [Parameter; 4] = [
    Parameter::Bundle,
    Parameter::Threshold,
    Parameter::CameraExposureUs,
    Parameter::CameraGain,
];

/// The parameters that decide a verdict: the part's, and those of each camera.
fn judged_by() -> impl Iterator<Item = Parameter> {
    let cameras = CAMERAS.iter().flat_map(|camera| {
        let CameraParameters {
            threshold,
            exposure_us,
            gain,
            taught,
            regions,
        } = *camera;
        [threshold, exposure_us, gain, taught, regions]
    });
    OF_THE_PART.into_iter().chain(cameras)
}

/// Whether a parameter chooses the network or what it looks at: another value of it makes what was taught void.
pub fn chooses_network(parameter: Parameter) -> bool {
    OF_THE_PART.contains(&parameter) || CAMERAS.iter().any(|camera| camera.regions == parameter)
}

/// The parameters that decided verdicts then.
#[derive(Clone, Debug, PartialEq)]
pub struct LastGood {
    /// The recipe that was in use.
    pub recipe: RecipeNumber,
    values: Vec<(Parameter, Value)>,
}

impl LastGood {
    /// Takes them from the settings in force.
    pub fn of(memory: &Memory) -> LastGood {
        let value = |p: Parameter| (p, memory.get(p).clone());
        LastGood {
            recipe: memory.active(),
            values: judged_by().map(value).collect(),
        }
    }

    /// The names of the files of taught parts that the cameras compared with, if any.
    pub fn taught(&self) -> impl Iterator<Item = &str> {
        let taught = |p: &Parameter| CAMERAS.iter().any(|camera| camera.taught == *p);
        self.values
            .iter()
            .filter_map(move |(p, value)| match value {
                Value::Text(name) if taught(p) && !name.is_empty() => Some(name.as_str()),
                _ => None,
            })
    }

    /// Sets them in `values`.
    pub fn put_into(&self, values: &mut Values) {
        for (parameter, value) in &self.values {
            // Cannot fail: it was in range where it came from.
            let _ = values.set(*parameter, value.clone());
        }
    }

    pub(super) fn to_toml(&self) -> toml::Table {
        let recipe = ("recipe".to_string(), i64::from(self.recipe.get()).into());
        let values = self.values.iter().map(|(parameter, value)| {
            let entry = parameter.entry();
            (entry.name.to_string(), to_toml(entry, value))
        });
        std::iter::once(recipe).chain(values).collect()
    }

    /// Reads them from a file; `None` if one is missing or wrong: then there is nothing to go back to.
    pub(super) fn from_toml(table: &toml::Table) -> Option<LastGood> {
        let recipe = u32::try_from(table.get("recipe")?.as_integer()?).ok()?;
        let value = |p: Parameter| {
            let value = match table.get(p.name()) {
                None if !ALWAYS.contains(&p) => p.entry().default_value(),
                stored => from_toml(p.entry(), stored?)?.ok()?,
            };
            Some((p, value))
        };
        Some(LastGood {
            recipe: RecipeNumber::new(recipe)?,
            values: judged_by().map(value).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_only_whole() {
        let mut memory = Memory::default();
        memory.select(RecipeNumber::new(7).unwrap());
        let set = [
            (Parameter::Bundle, Value::Text("line 7.bundle".into())),
            (Parameter::Threshold, Value::Number(4321)),
            (Parameter::CameraExposureUs, Value::Number(5000)),
            (Parameter::PulseWidthMs, Value::Number(77)),
        ];
        for (parameter, value) in set {
            memory.set(parameter, value).unwrap();
        }
        let good = LastGood::of(&memory);
        let mut table = good.to_toml();
        assert_eq!(LastGood::from_toml(&table), Some(good.clone()));
        let mut values = Values::default();
        let width = values.number(Parameter::PulseWidthMs);
        good.put_into(&mut values);
        assert_eq!(values.text(Parameter::Bundle), "line 7.bundle");
        assert_eq!(values.number(Parameter::Threshold), 4321);
        assert_eq!(
            values.number(Parameter::PulseWidthMs),
            width,
            "the machine's"
        );
        table.remove("tile_rows");
        assert_eq!(
            LastGood::from_toml(&table),
            Some(good),
            "an older program's"
        );
        table.remove("threshold");
        assert_eq!(LastGood::from_toml(&table), None);
    }
}
