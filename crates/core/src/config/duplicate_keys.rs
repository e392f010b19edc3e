//! Finds keys that stand twice in an object. JSON allows it and parsers take the
//! last one without a word, but whoever writes `overlays` twice means both.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// The paths of the keys of `json`, which is well-formed, that stand twice in their
/// object.
pub(super) fn find(json: &str) -> Vec<String> {
    let found = RefCell::default();
    let seed = Seed {
        path: String::new(),
        found: &found,
    };
    _ = seed.deserialize(&mut serde_json::Deserializer::from_str(json));
    found.into_inner()
}

/// Walks one value.
struct Seed<'a> {
    path: String,
    found: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
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
                self.found.borrow_mut().push(path.clone());
            }
            map.next_value_seed(Seed {
                path,
                found: self.found,
            })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let path = |index| format!("{}[{index}]", self.path);
        let mut index = 0;
        while list
            .next_element_seed(Seed {
                path: path(index),
                found: self.found,
            })?
            .is_some()
        {
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
    use super::find;

    #[test]
    fn finds_the_keys_that_stand_twice() {
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
            ("[]", &[]),
            ("7", &[]),
        ] {
            assert_eq!(find(json), paths, "{json}");
        }
    }
}
