//! The paths of all keys and list entries of a JSON text, in the order of the text.
//!
//! `serde_json` forgets the order of keys, and takes the last one of equal keys without a word.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Returns the path of the first key that a JSON text has twice in one object.
pub fn repeated_key(json: &str) -> Option<String> {
    Outline::of(json).duplicates.into_iter().next()
}

/// The outline of a JSON text.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// The paths of keys that appear twice in their object, in the order of the text.
    pub duplicates: Vec<String>,
    /// The position of each path; the last one of equal keys counts.
    positions: BTreeMap<String, usize>,
    /// The number of values so far.
    values: usize,
}

impl Outline {
    /// Reads the outline of `json`, which is well-formed.
    pub fn of(json: &str) -> Outline {
        let outline = RefCell::default();
        let seed = Seed {
            path: String::new(),
            outline: &outline,
        };
        _ = seed.deserialize(&mut serde_json::Deserializer::from_str(json));
        outline.into_inner()
    }

    /// Returns the position of a path; the position of its object if the path is not in the text.
    pub fn position(&self, path: &str) -> usize {
        let object = || path.rsplit_once('.').map(|(object, _)| object);
        self.positions
            .get(path)
            .or_else(|| self.positions.get(object()?))
            .copied()
            .unwrap_or(0)
    }

    fn add(&mut self, path: &str) {
        self.positions.insert(path.to_owned(), self.values);
        self.values += 1;
    }
}

/// A visitor of one value.
struct Seed<'a> {
    path: String,
    outline: &'a RefCell<Outline>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.outline.borrow_mut().add(&self.path);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = if self.path.is_empty() {
                key.clone()
            } else {
                format!("{}.{key}", self.path)
            };
            if !keys.insert(key) {
                self.outline.borrow_mut().duplicates.push(path.clone());
            }
            map.next_value_seed(Seed {
                path,
                outline: self.outline,
            })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let entry = |index| Seed {
            path: format!("{}[{index}]", self.path),
            outline: self.outline,
        };
        let mut index = 0;
        while list.next_element_seed(entry(index))?.is_some() {
            index += 1;
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Outline;

    #[test]
    fn duplicate_keys_are_found() {
        for (json, paths) in [
            (
                r#"{"a": [1, -1, 1.5, "a", true, null, {}], "b": {"a": 1}}"#,
                &[][..],
            ),
            (
                r#"{"a": 1, "b": {"c": [{"d": 1}, {"d": 1, "d": 2}]}}"#,
                &["b.c[1].d"],
            ),
            (r#"{"a": 1, "\u0061": {"b": 1, "b": 2}}"#, &["a", "a.b"]),
            (
                r#"{"a": {"b": 1}, "a": {"b": 2}, "c.d": 1, "c": {"d": 1}}"#,
                &["a"],
            ),
            ("[]", &[]),
            ("7", &[]),
        ] {
            assert_eq!(Outline::of(json).duplicates, paths, "{json}");
        }
    }

    #[test]
    fn positions_are_in_the_order_of_the_text() {
        let outline = Outline::of(r#"{"z": 1, "y": {"b": [2, {"a": 3}], "a": 4}, "z": 5}"#);
        let mut paths = ["", "y", "y.b", "y.b[0]", "y.b[1]", "y.b[1].a", "y.a", "z"];
        let sorted = paths;
        paths.reverse();
        paths.sort_by_key(|path| outline.position(path));
        assert_eq!(paths, sorted);
        assert_eq!(outline.position("y.missing"), outline.position("y"));
        assert_eq!(outline.position("missing"), 0);
    }
}
