//! An object of a configuration, read key by key; what is left over at the end is not known.

use super::{Facts, Overrides, left};
use serde_json::{Map, Value};

/// A section under way.
pub struct Section<'a> {
    at: &'a str,
    map: Map<String, Value>,
    overrides: &'a Overrides,
    pub facts: &'a mut Facts,
}

impl<'a> Section<'a> {
    /// The object `map`, called `at` in messages.
    pub fn new(
        at: &'a str,
        map: Map<String, Value>,
        overrides: &'a Overrides,
        facts: &'a mut Facts,
    ) -> Self {
        Section {
            at,
            map,
            overrides,
            facts,
        }
    }

    /// The key's full name.
    pub fn name(&self, key: &str) -> String {
        match self.at {
            "" => key.into(),
            at => format!("{at}.{key}"),
        }
    }

    /// A value; `None` if it is null or not there.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|v| !v.is_null())
    }

    /// The same, if it is an array.
    pub fn take_if_array(&mut self, key: &str) -> Option<Value> {
        match self.map.get(key) {
            Some(Value::Array(_)) => self.take(key),
            _ => None,
        }
    }

    /// Notes that the network is another one, unless the user said that this key does not matter.
    pub fn refuse(&mut self, key: &str, what: impl std::fmt::Display) {
        let name = self.name(key);
        match self.overrides.ignores(&name) {
            true => self.facts.ignored.push(name),
            false => self.facts.refused.push(format!("`{name}`{what}")),
        }
    }

    fn odd(&mut self, key: &str, value: &Value, wanted: &str) {
        self.refuse(key, format_args!(" = {value}: {wanted} is wanted"));
    }

    /// A whole number.
    pub fn count(&mut self, key: &str) -> Option<usize> {
        let value = self.take(key)?;
        let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
        if number.is_none() {
            self.odd(key, &value, "a whole number");
        }
        number
    }

    /// A number.
    pub fn number(&mut self, key: &str) -> Option<f64> {
        let value = self.take(key)?;
        let number = value.as_f64();
        if number.is_none() {
            self.odd(key, &value, "a number");
        }
        number
    }

    /// A word.
    pub fn text(&mut self, key: &str) -> Option<String> {
        let value = self.take(key)?;
        let text = value.as_str().map(String::from);
        if text.is_none() {
            self.odd(key, &value, "a word");
        }
        text
    }

    /// Yes or no; no if it is not there.
    pub fn flag(&mut self, key: &str) -> bool {
        match self.take(key) {
            None => false,
            Some(Value::Bool(yes)) => yes,
            Some(value) => {
                self.odd(key, &value, "true or false");
                false
            }
        }
    }

    /// An object; empty if it is not there.
    pub fn object(&mut self, key: &str) -> Map<String, Value> {
        match self.take(key) {
            None => Map::new(),
            Some(Value::Object(map)) => map,
            Some(value) => {
                self.odd(key, &value, "an object");
                Map::new()
            }
        }
    }

    /// Refuses any value that `usual` does not accept; `what` says what it would be.
    pub fn only(&mut self, key: &str, what: &str, usual: impl Fn(&Value) -> bool) {
        if let Some(value) = self.take(key)
            && !usual(&value)
        {
            self.refuse(key, format_args!(" = {value}: {what}"));
        }
    }

    /// Refuses anything but false, 0 or nothing.
    pub fn off(&mut self, key: &str, what: &str) {
        self.only(key, what, |v| {
            v == &Value::Bool(false) || v.as_f64() == Some(0.0) || v.as_str() == Some("")
        });
    }

    /// Keys that change nothing of what the encoders compute.
    pub fn harmless(&mut self, keys: &[&str]) {
        for key in keys {
            self.map.remove(*key);
        }
    }

    /// Refuses what is left.
    pub fn finish(mut self) {
        for (key, value) in left(std::mem::take(&mut self.map)) {
            let mut value = value.to_string();
            if value.len() > 60 {
                value = format!("{}…", value.chars().take(60).collect::<String>());
            }
            self.refuse(
                &key,
                format_args!(
                    " = {value}: a key that this program does not know; it may change what the network computes (if you know that it does not: --ignore {key})"
                ),
            );
        }
    }
}
