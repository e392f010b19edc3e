//! A JSON object that knows where it is, so that every complaint about it can
//! name file, field, value and remedy in one line.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::duplicate_keys;
use crate::util::line;

/// How alike (Jaro-Winkler, 0 to 1) an unknown key and a known one must be for
/// the one to be taken as a typing error of the other.
const ALIKE: f64 = 0.75;

/// The longest value that is shown whole in a complaint, in characters.
const SHOWN_VALUE: usize = 80;

/// What is wrong with a configuration. Displays as one line:
/// `<file>: <field path>: <value> <what is wrong>; <remedy>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {}{problem}; {remedy}", Prefixed(field))]
pub struct ConfigError {
    /// The file, as the module's parameter names it (or `environment`).
    pub file: String,
    /// The field's path, as `network.overlays[0].prefix`; empty: the whole file.
    pub field: String,
    /// The value and what is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// A field path with its colon, or nothing.
struct Prefixed<'a>(&'a str);

impl fmt::Display for Prefixed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "{}: ", self.0)
        }
    }
}

impl ConfigError {
    /// A complaint about one field.
    pub fn new(
        file: &str,
        field: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        ConfigError {
            file: file.to_owned(),
            field: field.to_owned(),
            problem: one_line(&problem.into()),
            remedy: one_line(&remedy.into()),
        }
    }

    /// The file cannot be read. `parameter` is the module's parameter that names it.
    pub fn unreadable(file: &str, reason: &dyn fmt::Display, parameter: &str) -> ConfigError {
        ConfigError::new(
            file,
            "",
            format!("cannot be read: {reason}"),
            format!("make the file readable, or correct the module's parameter {parameter}"),
        )
    }

    fn syntax(file: &str, error: &serde_json::Error) -> ConfigError {
        // serde_json ends its sentence with the position, which goes in front here.
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text);
        ConfigError::new(
            file,
            &format!("line {}, column {}", error.line(), error.column()),
            format!("not JSON: {what}"),
            "correct the file there or just before",
        )
    }
}

/// A configuration and what its operator should know about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed<T> {
    /// The checked configuration.
    pub config: T,
    /// One line each, to be logged as WARNING.
    pub warnings: Vec<String>,
}

/// The warnings collected while a file is read.
pub(super) type Warnings = Rc<RefCell<Vec<String>>>;

/// Reads a whole file with `read`, which gets its outermost object.
pub(super) fn read<T>(
    file: &str,
    text: &str,
    known: &'static [&'static str],
    read: impl FnOnce(&Object<'_>) -> Result<T, ConfigError>,
) -> Result<Parsed<T>, ConfigError> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| ConfigError::syntax(file, &error))?;
    let Value::Object(map) = &value else {
        let problem = format!("{} is not an object", show(&value));
        return Err(ConfigError::new(
            file,
            "",
            problem,
            "write { … } around the settings",
        ));
    };
    let twice = duplicate_keys::find(text).into_iter();
    let twice = twice.map(|path| {
        format!(
            "{file}: {}: given twice; the last one counts",
            one_line(&path)
        )
    });
    let warnings = Rc::new(RefCell::new(twice.collect()));
    let config = read(&Object::new(file, String::new(), map, known, &warnings))?;
    Ok(Parsed {
        config,
        warnings: warnings.take(),
    })
}

/// A JSON object of a configuration file. `null` counts as absent everywhere.
pub(super) struct Object<'a> {
    file: &'a str,
    path: String,
    map: &'a Map<String, Value>,
    known: &'static [&'static str],
    warnings: Warnings,
}

impl<'a> Object<'a> {
    fn new(
        file: &'a str,
        path: String,
        map: &'a Map<String, Value>,
        known: &'static [&'static str],
        warnings: &Warnings,
    ) -> Object<'a> {
        let object = Object {
            file,
            path,
            map,
            known,
            warnings: warnings.clone(),
        };
        for key in object.unknown() {
            object.warn(key, &object.about_unknown(key));
        }
        object
    }

    fn unknown(&self) -> impl Iterator<Item = &'a str> {
        let known = self.known;
        self.map
            .keys()
            .map(String::as_str)
            .filter(move |key| !known.contains(key))
    }

    fn about_unknown(&self, key: &str) -> String {
        match nearest(key, self.known.iter().copied()) {
            Some(near) => format!("unknown key, ignored; did you mean \"{near}\"?"),
            None => format!(
                "unknown key, ignored; the known ones are {}",
                self.known.join(", ")
            ),
        }
    }

    /// Keeps a warning about the field `key`.
    pub fn warn(&self, key: &str, text: &str) {
        let line = format!("{}: {}: {}", self.file, self.path_of(key), one_line(text));
        self.warnings.borrow_mut().push(line);
    }

    /// The path of a field of this object.
    pub fn path_of(&self, key: &str) -> String {
        let key = one_line(key);
        if self.path.is_empty() {
            key
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn value(&self, key: &'static str) -> Option<&'a Value> {
        debug_assert!(
            self.known.contains(&key),
            "{key} is not among the known keys"
        );
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether `key` has a value.
    pub fn has(&self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    /// The complaint that `key` has no value. A key that looks like a typing error
    /// of it is named.
    pub fn missing(&self, key: &'static str, remedy: &str) -> ConfigError {
        let problem = match nearest(key, self.unknown()) {
            Some(near) => format!("missing (is \"{}\" a typing error?)", one_line(near)),
            None => "missing".to_owned(),
        };
        ConfigError::new(self.file, &self.path_of(key), problem, remedy)
    }

    /// The complaint that the value of `key` is `what`.
    pub fn wrong(&self, key: &'static str, what: &str, remedy: &str) -> ConfigError {
        let value = self.value(key).map_or_else(|| "null".to_owned(), show);
        self.wrong_value(key, &value, what, remedy)
    }

    /// [`wrong`](Self::wrong) for a value that must not be shown as it stands.
    pub fn wrong_value(
        &self,
        key: &'static str,
        value: &str,
        what: &str,
        remedy: &str,
    ) -> ConfigError {
        ConfigError::new(
            self.file,
            &self.path_of(key),
            format!("{value} {what}"),
            remedy,
        )
    }

    /// A string.
    pub fn string(&self, key: &'static str) -> Result<Option<&'a str>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "is not a string", "write it in quotes")),
        }
    }

    /// A string that `parse` understands; its error is what is wrong, and `remedy`
    /// what to write instead.
    pub fn parsed<T>(
        &self,
        key: &'static str,
        remedy: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.string(key)? else {
            return Ok(None);
        };
        parse(text)
            .map(Some)
            .map_err(|what| self.wrong(key, &what, remedy))
    }

    /// A whole number within `range`.
    pub fn number(
        &self,
        key: &'static str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let remedy = format!(
            "give a whole number from {} to {}",
            range.start(),
            range.end()
        );
        let Some(number) = value.as_f64() else {
            return Err(self.wrong(key, "is not a number", &remedy));
        };
        if number.fract() != 0.0 {
            return Err(self.wrong(key, "is not a whole number", &remedy));
        }
        if number < f64::from(*range.start()) || number > f64::from(*range.end()) {
            return Err(self.wrong(key, "is out of range", &remedy));
        }
        // Exact: a whole number that fits into 32 bits.
        Ok(Some(number as u32))
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(yes)) => Ok(Some(*yes)),
            Some(_) => Err(self.wrong(
                key,
                "is neither true nor false",
                "write true or false, without quotes",
            )),
        }
    }

    /// A list of strings that `parse` understands, as [`parsed`](Self::parsed) does.
    pub fn strings<T>(
        &self,
        key: &'static str,
        remedy: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let items = match self.value(key) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(self.wrong(key, "is not a list", remedy)),
        };
        let item = |(index, item): (usize, &Value)| {
            let read = item
                .as_str()
                .ok_or_else(|| "is not a string".to_owned())
                .and_then(&parse);
            read.map_err(|what| {
                let path = format!("{}[{index}]", self.path_of(key));
                ConfigError::new(self.file, &path, format!("{} {what}", show(item)), remedy)
            })
        };
        items
            .iter()
            .enumerate()
            .map(item)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// An object with these known keys.
    pub fn object(
        &self,
        key: &'static str,
        known: &'static [&'static str],
    ) -> Result<Option<Object<'a>>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Object::new(
                self.file,
                self.path_of(key),
                map,
                known,
                &self.warnings,
            ))),
            Some(_) => Err(self.wrong(key, "is not an object", "write { … } around its settings")),
        }
    }

    /// A list of objects with these known keys; absent: empty.
    pub fn objects(
        &self,
        key: &'static str,
        known: &'static [&'static str],
    ) -> Result<Vec<Object<'a>>, ConfigError> {
        let items = match self.value(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => {
                return Err(self.wrong(key, "is not a list", "write [ … ] around its entries"));
            }
        };
        let object = |(index, item): (usize, &'a Value)| {
            let path = format!("{}[{index}]", self.path_of(key));
            match item {
                Value::Object(map) => Ok(Object::new(self.file, path, map, known, &self.warnings)),
                other => {
                    let problem = format!("{} is not an object", show(other));
                    Err(ConfigError::new(
                        self.file,
                        &path,
                        problem,
                        "write { … } around its settings",
                    ))
                }
            }
        };
        items.iter().enumerate().map(object).collect()
    }
}

/// The candidate most like `key`, if any is much like it.
pub fn nearest<'a>(key: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = key.to_lowercase();
    candidates
        .map(|candidate| {
            (
                strsim::jaro_winkler(&lower, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// A value as JSON, shortened.
fn show(value: &Value) -> String {
    line::one_line(&value.to_string(), SHOWN_VALUE).into_owned()
}

/// Control characters would break the one line (or the operator's terminal).
fn one_line(text: &str) -> String {
    line::one_line(text, usize::MAX).into_owned()
}
