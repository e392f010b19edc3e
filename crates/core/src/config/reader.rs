//! A JSON object of a configuration, which knows its file and path. Reading a field reports
//! each mistake, with file, field, value and remedy, and goes on.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::error::{ConfigError, Mistake, one_line};
use super::outline::Outline;
use crate::util::line;

/// Similarity (Jaro-Winkler, 0 to 1) from which an unknown key is taken for a misspelt known one.
const SIMILAR: f64 = 0.75;

/// Largest length of a value or key that is shown in full, in characters.
const SHOWN_LENGTH: usize = 80;

/// Marker error: the mistake is already recorded. Callers skip dependent checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reported;

/// An optional field, or `Err` if it has a mistake.
pub(super) type Field<T> = Result<Option<T>, Reported>;

/// A mistake in a value, apart from the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    /// The end of a sentence that begins with the value.
    pub what: String,
    /// The remedy, as an imperative.
    pub remedy: String,
}

/// A configuration, and the warnings about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed<T> {
    /// The checked configuration.
    pub config: T,
    /// Lines for the log, level WARNING.
    pub warnings: Vec<String>,
}

/// The treatment of unknown and duplicate keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// Warnings. An unknown key is ignored, and the last one of duplicate keys is used.
    Lenient,
    /// Mistakes.
    Strict,
}

/// The mistakes and warnings found so far.
struct Report {
    strictness: Strictness,
    mistakes: RefCell<Vec<Mistake>>,
    warnings: RefCell<Vec<String>>,
}

/// Reads a whole text with `read`, which gets the outermost object. `file` is the source of the
/// text, for messages.
///
/// # Errors
/// All mistakes in the text, in the order of the text.
pub(super) fn read<T>(
    file: &str,
    text: &str,
    known: &'static [&'static str],
    strictness: Strictness,
    read: impl FnOnce(&Object<'_>) -> Result<T, Reported>,
) -> Result<Parsed<T>, ConfigError> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| ConfigError::syntax(file, &error))?;
    let Value::Object(map) = &value else {
        return Err(ConfigError::new(
            file,
            "",
            format!("{} is not an object", show(&value)),
            "write { … } around the settings",
        ));
    };
    let report = Rc::new(Report {
        strictness,
        mistakes: RefCell::default(),
        warnings: RefCell::default(),
    });
    let outline = Outline::of(text);
    for path in &outline.duplicates {
        report.duplicate(file, path);
    }
    let config = read(&Object::new(file, String::new(), map, known, &report));
    let mut mistakes = report.mistakes.take();
    // A stable sort: mistakes of one field stay in the order in which they were found.
    mistakes.sort_by_key(|mistake| outline.position(&mistake.field));
    match (config, ConfigError::from_mistakes(mistakes)) {
        (Ok(config), None) => Ok(Parsed {
            config,
            warnings: report.warnings.take(),
        }),
        (_, Some(error)) => Err(error),
        // A `Reported` without a report is a defect of a reading function.
        (Err(Reported), None) => Err(ConfigError::new(file, "", "is invalid", "check all fields")),
    }
}

impl Report {
    fn mistake(&self, file: &str, field: String, problem: &str, remedy: &str) -> Reported {
        self.mistakes.borrow_mut().push(Mistake {
            file: file.to_owned(),
            field,
            problem: one_line(problem),
            remedy: one_line(remedy),
        });
        Reported
    }

    fn warning(&self, file: &str, field: &str, text: &str) {
        let line = format!("{file}: {field}: {}", one_line(text));
        self.warnings.borrow_mut().push(line);
    }

    fn duplicate(&self, file: &str, path: &str) {
        let path = show_key(path);
        match self.strictness {
            Strictness::Lenient => self.warning(file, &path, "given twice; the last one is used"),
            Strictness::Strict => _ = self.mistake(file, path, "given twice", "keep one of them"),
        }
    }

    fn unknown(&self, object: &Object<'_>, key: &str) {
        let path = object.path_of(key);
        let hint = match nearest(key, object.known.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("the known keys are {}", object.known.join(", ")),
        };
        match self.strictness {
            Strictness::Lenient => {
                self.warning(object.file, &path, &format!("unknown key, ignored; {hint}"));
            }
            Strictness::Strict => _ = self.mistake(object.file, path, "unknown key", &hint),
        }
    }
}

/// A JSON object of a configuration. `null` is the same as a missing key.
pub(super) struct Object<'a> {
    file: &'a str,
    path: String,
    map: &'a Map<String, Value>,
    known: &'static [&'static str],
    report: Rc<Report>,
}

impl<'a> Object<'a> {
    fn new(
        file: &'a str,
        path: String,
        map: &'a Map<String, Value>,
        known: &'static [&'static str],
        report: &Rc<Report>,
    ) -> Object<'a> {
        let object = Object {
            file,
            path,
            map,
            known,
            report: report.clone(),
        };
        for key in object.unknown() {
            report.unknown(&object, key);
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

    /// Adds a warning about the field `key`.
    pub fn warn(&self, key: &str, text: &str) {
        self.report.warning(self.file, &self.path_of(key), text);
    }

    /// Reports a value that is valid but of no use: a warning in a file, because a cluster may
    /// have it since long, and a mistake in a request.
    ///
    /// # Errors
    /// The document is a request, in which such a value is a mistake.
    pub fn useless(&self, key: &'static str, what: &str, remedy: &str) -> Result<(), Reported> {
        match self.report.strictness {
            Strictness::Strict => Err(self.wrong(key, what, remedy)),
            Strictness::Lenient => {
                let value = self.value(key).map_or_else(|| "null".to_owned(), show);
                self.warn(key, &format!("{value} {what}; {remedy}"));
                Ok(())
            }
        }
    }

    /// Returns the path of this object. Empty for the outermost object.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the path of a field of this object.
    pub fn path_of(&self, key: &str) -> String {
        let key = show_key(key);
        if self.path.is_empty() {
            key
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn path_of_entry(&self, key: &str, index: usize) -> String {
        format!("{}[{index}]", self.path_of(key))
    }

    fn value(&self, key: &'static str) -> Option<&'a Value> {
        debug_assert!(
            self.known.contains(&key),
            "{key} is not among the known keys"
        );
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Reports that `key` has no value, and names an unknown key that may be a misspelling.
    pub fn missing(&self, key: &'static str, remedy: &str) -> Reported {
        let problem = match nearest(key, self.unknown()) {
            Some(near) => format!("missing (is \"{}\" a typo?)", show_key(near)),
            None => "missing".to_owned(),
        };
        self.report
            .mistake(self.file, self.path_of(key), &problem, remedy)
    }

    /// Reports a mistake in the value of `key`. `what` continues a sentence that begins with
    /// the value.
    pub fn wrong(&self, key: &'static str, what: &str, remedy: &str) -> Reported {
        let value = self.value(key).map_or_else(|| "null".to_owned(), show);
        self.wrong_value(key, &value, what, remedy)
    }

    /// Reports a mistake in the value of `key`, and shows `value` in its place, which has no
    /// password.
    pub fn wrong_value(
        &self,
        key: &'static str,
        value: &str,
        what: &str,
        remedy: &str,
    ) -> Reported {
        let problem = format!("{value} {what}");
        self.report
            .mistake(self.file, self.path_of(key), &problem, remedy)
    }

    fn wrong_entry(
        &self,
        key: &'static str,
        index: usize,
        value: &Value,
        what: &str,
        remedy: &str,
    ) -> Reported {
        let problem = format!("{} {what}", show(value));
        let path = self.path_of_entry(key, index);
        self.report.mistake(self.file, path, &problem, remedy)
    }

    /// Reads a string.
    pub fn string(&self, key: &'static str) -> Field<&'a str> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "is not a string", "write it in quotes")),
        }
    }

    /// Reads a string and parses it. An error of `parse` says what is wrong, as the end of a
    /// sentence that begins with the value.
    pub fn parsed<T>(
        &self,
        key: &'static str,
        remedy: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Field<T> {
        let Some(text) = self.string(key)? else {
            return Ok(None);
        };
        parse(text)
            .map(Some)
            .map_err(|what| self.wrong(key, &what, remedy))
    }

    /// Reads a string that is one of `choices`, each with its value.
    pub fn choice<T: Copy>(
        &self,
        key: &'static str,
        remedy: &str,
        choices: &[(&str, T)],
    ) -> Field<T> {
        self.parsed(key, remedy, |text| {
            let choice = choices.iter().find(|(name, _)| *name == text);
            choice
                .map(|(_, value)| *value)
                .ok_or_else(|| "is not one of its values".to_owned())
        })
    }

    /// Returns the JSON value that a string stands for, with a warning: Mesos reads numbers,
    /// `true` and `false` in quotes, too. In a request they are mistakes.
    fn unquoted(&self, value: &Value) -> Option<Value> {
        let Value::String(text) = value else {
            return None;
        };
        let unquoted: Value = serde_json::from_str(text).ok()?;
        let is_plain = unquoted.is_number() || unquoted.is_boolean();
        if self.report.strictness == Strictness::Strict || !is_plain {
            return None;
        }
        Some(unquoted)
    }

    fn warn_of_quotes(&self, key: &'static str, value: &Value, unquoted: &Value) {
        if value.is_string() {
            let text = format!(
                "{} is a string; write {unquoted}, without quotes",
                show(value)
            );
            self.warn(key, &text);
        }
    }

    /// Reads a whole number within `range`. In a file it may be in quotes.
    pub fn number(&self, key: &'static str, range: RangeInclusive<u32>) -> Field<u32> {
        let Some(written) = self.value(key) else {
            return Ok(None);
        };
        let unquoted = self.unquoted(written).filter(Value::is_number);
        let value = unquoted.as_ref().unwrap_or(written);
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
        self.warn_of_quotes(key, written, value);
        // Exact, because it is a whole number of at most 32 bits.
        Ok(Some(number as u32))
    }

    /// Reads `true` or `false`. In a file it may be in quotes.
    pub fn boolean(&self, key: &'static str) -> Field<bool> {
        let Some(written) = self.value(key) else {
            return Ok(None);
        };
        let unquoted = self.unquoted(written);
        let value = unquoted.as_ref().unwrap_or(written);
        let Some(yes) = value.as_bool() else {
            let remedy = "write true or false, without quotes";
            return Err(self.wrong(key, "is neither true nor false", remedy));
        };
        self.warn_of_quotes(key, written, value);
        Ok(Some(yes))
    }

    /// Reads a list of strings and parses each as [`parsed`](Self::parsed) does.
    pub fn strings<T>(
        &self,
        key: &'static str,
        remedy: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Field<Vec<T>> {
        let entries = match self.value(key) {
            None => return Ok(None),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err(self.wrong(key, "is not a list", remedy)),
        };
        let entry = |(index, entry): (usize, &Value)| {
            let text = entry.as_str().ok_or_else(|| "is not a string".to_owned());
            text.and_then(&parse)
                .map_err(|what| self.wrong_entry(key, index, entry, &what, remedy))
        };
        // The first collection makes sure that every entry is checked.
        let entries: Vec<_> = entries.iter().enumerate().map(entry).collect();
        entries.into_iter().collect::<Result<_, _>>().map(Some)
    }

    /// Reads an object with these known keys.
    pub fn object(&self, key: &'static str, known: &'static [&'static str]) -> Field<Object<'a>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Object(map)) => {
                let path = self.path_of(key);
                Ok(Some(Object::new(self.file, path, map, known, &self.report)))
            }
            Some(_) => Err(self.wrong(key, "is not an object", OBJECT_REMEDY)),
        }
    }

    /// Reads a list of objects with these known keys, which is empty if `key` is missing.
    /// Entries that are no objects are reported and left out. In a file an object may stand for
    /// a list with one entry, as Mesos reads it.
    pub fn objects(&self, key: &'static str, known: &'static [&'static str]) -> Vec<Object<'a>> {
        let entries = match self.value(key) {
            None => return Vec::new(),
            Some(Value::Array(entries)) => entries.as_slice(),
            Some(entry @ Value::Object(_)) if self.report.strictness == Strictness::Lenient => {
                self.warn(key, "is not a list; write [ … ] around its entry");
                std::slice::from_ref(entry)
            }
            Some(_) => {
                self.wrong(key, "is not a list", "write [ … ] around its entries");
                return Vec::new();
            }
        };
        let object = |(index, entry): (usize, &'a Value)| match entry {
            Value::Object(map) => {
                let path = self.path_of_entry(key, index);
                Some(Object::new(self.file, path, map, known, &self.report))
            }
            other => {
                self.wrong_entry(key, index, other, "is not an object", OBJECT_REMEDY);
                None
            }
        };
        entries.iter().enumerate().filter_map(object).collect()
    }
}

const OBJECT_REMEDY: &str = "write { … } around its settings";

/// Returns the candidate that is most similar to `key`, if any is similar enough for a typo.
pub fn nearest<'a>(key: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = key.to_lowercase();
    candidates
        .map(|candidate| {
            let similarity = strsim::jaro_winkler(&lower, &candidate.to_lowercase());
            (similarity, candidate)
        })
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// Returns a value as JSON in one short line.
fn show(value: &Value) -> String {
    line::one_line(&value.to_string(), SHOWN_LENGTH).into_owned()
}

/// Returns a key or path in one short line.
fn show_key(key: &str) -> String {
    line::one_line(key, SHOWN_LENGTH).into_owned()
}
