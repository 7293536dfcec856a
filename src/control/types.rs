//! What the parameters say of types of defects: a lane and a threshold of its own for a type, by its name.

use super::table::Parameter;
use super::values::{Contradiction, Reason, Values};
use crate::line::settings::Threshold;
use crate::line::{DefectType, Lane, Sorting};

/// Lanes, thresholds and the margin of types of defects, as the parameters `lanes`, `type_thresholds` and
/// `type_margin` set them. The names are compared with the network's own when a part is judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TypeRules {
    lanes: Vec<(String, Lane)>,
    thresholds: Vec<(String, Threshold)>,
    margin: f32,
}

/// Parses a list `NAME=VALUE`, separated by commas.
fn list<T>(
    values: &Values,
    parameter: Parameter,
    wrong: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<(String, T)>, Contradiction> {
    let fail = |reason| Contradiction { parameter, reason };
    let mut all: Vec<(String, T)> = Vec::new();
    for item in values.text(parameter).split(',').map(str::trim) {
        if item.is_empty() {
            continue;
        }
        let pair = item.split_once('=');
        let pair = pair.map(|(name, value)| (name.trim(), read(value.trim())));
        let Some((name, Some(value))) = pair.filter(|(name, _)| !name.is_empty()) else {
            return Err(fail(Reason::TypeList(wrong)));
        };
        if all.iter().any(|(other, _)| other == name) {
            return Err(fail(Reason::TypeTwice));
        }
        all.push((name.to_string(), value));
    }
    Ok(all)
}

impl TypeRules {
    /// Reads them from the parameters.
    ///
    /// # Errors
    /// [`Contradiction`] names the parameter whose text is no list, or names a type twice.
    pub fn of(values: &Values) -> Result<TypeRules, Contradiction> {
        let lanes = list(
            values,
            Parameter::Lanes,
            "needs TYPE=LANE, lanes 1 to 8, with commas between them",
            |text| Lane::new(text.parse().ok()?).ok(),
        )?;
        let thresholds = list(
            values,
            Parameter::TypeThresholds,
            "needs TYPE=THRESHOLD, from 0 to 1, with commas between them",
            |text| Threshold::new(text.parse().ok()?).ok(),
        )?;
        Ok(TypeRules {
            lanes,
            thresholds,
            margin: values.decimal(Parameter::TypeMargin),
        })
    }

    /// Whether a type's threshold is 1: no score lies above it.
    pub fn rejects_none(&self) -> bool {
        self.thresholds.iter().any(|(_, t)| t.get() >= 1.0)
    }

    /// The lanes that types have.
    pub fn lanes(&self) -> impl Iterator<Item = Lane> {
        self.lanes.iter().map(|(_, lane)| *lane)
    }

    /// By how much, 0..=1, the largest share must exceed the next one for the type to count as known.
    pub fn margin(&self) -> f32 {
        self.margin
    }

    /// Lane and threshold of each of a network's types, in their order.
    pub fn resolve(&self, types: &[String]) -> Vec<Sorting> {
        fn of<T: Copy>(list: &[(String, T)], name: &str) -> Option<T> {
            list.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
        }
        let sorting = |(number, name): (usize, &String)| Sorting {
            defect: u8::try_from(number).map_or(DefectType::Unknown, DefectType::Number),
            threshold: of(&self.thresholds, name),
            lane: of(&self.lanes, name),
        };
        types.iter().enumerate().map(sorting).collect()
    }

    /// Names in the lists that none of a network's types has, each with the list's parameter: such a name decides
    /// nothing.
    pub fn strangers<'a>(
        &'a self,
        types: &'a [String],
    ) -> impl Iterator<Item = (Parameter, &'a str)> {
        let lane = |(name, _): &'a (String, Lane)| (Parameter::Lanes, name.as_str());
        let threshold =
            |(name, _): &'a (String, Threshold)| (Parameter::TypeThresholds, name.as_str());
        let lanes = self.lanes.iter().map(lane);
        let names = lanes.chain(self.thresholds.iter().map(threshold));
        names.filter(|(_, name)| !types.iter().any(|t| t == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::values::Value;

    fn values(lanes: &str, thresholds: &str) -> Values {
        let mut values = Values::default();
        let set = [
            (Parameter::Lanes, lanes),
            (Parameter::TypeThresholds, thresholds),
        ];
        for (parameter, text) in set {
            values.set(parameter, Value::Text(text.into())).unwrap();
        }
        values
    }

    #[test]
    fn types_get_their_lanes_and_thresholds_by_name() {
        let rules = TypeRules::of(&values(
            " faulty imprint = 2,scratch=1, ",
            "scratch=0.25,dent=1",
        ));
        let rules = rules.unwrap();
        let types = ["scratch", "hole", "faulty imprint"].map(String::from);
        let sortings = rules.resolve(&types);
        let listed = sortings
            .iter()
            .map(|s| (s.lane.map(Lane::get), s.threshold.map(Threshold::get)));
        assert_eq!(
            listed.collect::<Vec<_>>(),
            [(Some(1), Some(0.25)), (None, None), (Some(2), None)]
        );
        assert_eq!(sortings[2].defect, DefectType::Number(2));
        assert_eq!(
            rules.strangers(&types).collect::<Vec<_>>(),
            [(Parameter::TypeThresholds, "dent")]
        );
        assert!(rules.rejects_none());
        assert_eq!(rules.margin(), 0.1);
        assert_eq!(
            TypeRules::of(&Values::default()).unwrap().resolve(&types)[0].lane,
            None
        );
    }

    #[test]
    fn a_text_that_is_no_list_is_refused_with_its_parameter() {
        for (lanes, thresholds, parameter) in [
            ("scratch", "", Parameter::Lanes),
            ("scratch=", "", Parameter::Lanes),
            ("=1", "", Parameter::Lanes),
            ("scratch=0", "", Parameter::Lanes),
            ("scratch=9", "", Parameter::Lanes),
            ("scratch=1,scratch=2", "", Parameter::Lanes),
            ("", "scratch=1.5", Parameter::TypeThresholds),
            ("", "scratch=nan", Parameter::TypeThresholds),
            ("", "a=0.1,a=0.2", Parameter::TypeThresholds),
        ] {
            let values = values(lanes, thresholds);
            assert_eq!(TypeRules::of(&values).unwrap_err().parameter, parameter);
            assert_eq!(values.settings().unwrap_err().parameter, parameter);
        }
    }
}
