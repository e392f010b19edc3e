//! YAML documents, with the meaning that PyYAML's safe loader gives them.
//!
//! DC/OS reads its configuration with PyYAML, which resolves plain scalars by the rules of
//! YAML 1.1: `no` is false, `010` is 8, and `70:10:20` is a number of base 60. The syntax is that
//! of YAML 1.2, whose parser this is; in configurations of DC/OS both are the same.

mod compose;
mod scalar;

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use serde_json::{Map, Number, Value};

pub use compose::read;

/// Place in a text, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Reason why a text is no document that PyYAML reads, or has no meaning in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Place in the text.
    pub mark: Mark,
    /// What is wrong, one sentence.
    pub what: String,
    /// Instruction, without a full stop.
    pub remedy: &'static str,
}

impl Mistake {
    fn new(mark: Mark, what: impl Into<String>, remedy: &'static str) -> Mistake {
        Mistake {
            mark,
            what: what.into(),
            remedy,
        }
    }
}

/// Document.
#[derive(Clone, Debug)]
pub struct Document {
    /// Outermost value.
    pub root: Rc<Node>,
    /// Keys that a mapping has twice, in the order of the text.
    pub repeated: Vec<Repeated>,
}

/// Key that a mapping has twice. The last one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// Key.
    pub key: String,
    /// Place of the second one.
    pub mark: Mark,
}

/// Value in a document.
#[derive(Clone, Debug)]
pub struct Node {
    /// Place of its beginning.
    pub mark: Mark,
    /// Value.
    pub data: Data,
    /// Text of a scalar without quotes.
    pub plain: Option<String>,
    /// Number of values in it and in what its aliases stand for, itself included.
    size: usize,
}

/// Value of a [`Node`].
#[derive(Clone, Debug)]
pub enum Data {
    /// No value.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Whole number.
    Integer(i128),
    /// Number with a fraction, or a whole one that is larger.
    Float(f64),
    /// Text.
    Text(String),
    /// Date, or date and time.
    Date,
    /// Key `<<` without quotes, which merges another mapping.
    Merge,
    /// `=` without quotes: a type of YAML 1.1 that no configuration has.
    Default,
    /// Sequence.
    List(Vec<Rc<Node>>),
    /// Mapping, by the names that its keys have in JSON.
    Map(BTreeMap<String, Entry>),
}

/// Entry of a mapping.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Key.
    pub key: Rc<Node>,
    /// Value.
    pub value: Rc<Node>,
}

impl Node {
    /// Returns the value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Rc<Node>> {
        match &self.data {
            Data::Map(entries) => entries.get(key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// Returns what the value is, with an article.
    pub fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "no value",
            Data::Bool(true) => "the value true",
            Data::Bool(false) => "the value false",
            Data::Integer(_) | Data::Float(_) => "a number",
            Data::Text(_) => "a text",
            Data::Date => "a date",
            Data::Merge | Data::Default => "a sign of YAML",
            Data::List(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }

    /// Returns the value in JSON.
    ///
    /// # Errors
    /// JSON has no such value: a date, or a number that is infinite or none.
    pub fn json(&self) -> Result<Value, Mistake> {
        const QUOTE: &str = "write it in quotes";
        Ok(match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Integer(value) => integer(*value),
            Data::Float(value) => {
                let number = Number::from_f64(*value);
                let what = "this number is infinite or none, which JSON does not have";
                Value::Number(number.ok_or_else(|| Mistake::new(self.mark, what, QUOTE))?)
            }
            Data::Text(text) => Value::String(text.clone()),
            Data::Date => {
                let plain = self.plain.as_deref().unwrap_or_default();
                let what = format!("{plain} is a date in YAML, which JSON does not have");
                return Err(Mistake::new(self.mark, what, QUOTE));
            }
            // The composer lets them be keys only.
            Data::Merge => Value::String("<<".to_owned()),
            Data::Default => Value::String("=".to_owned()),
            Data::List(nodes) => {
                let values: Result<_, _> = nodes.iter().map(|node| node.json()).collect();
                Value::Array(values?)
            }
            Data::Map(entries) => {
                let pair = |(name, entry): (&String, &Entry)| {
                    entry.value.json().map(|value| (name.clone(), value))
                };
                let map: Result<Map<_, _>, _> = entries.iter().map(pair).collect();
                Value::Object(map?)
            }
        })
    }
}

/// Returns a whole number in JSON, rounded if it has more than 64 bits.
fn integer(value: i128) -> Value {
    if let Ok(value) = u64::try_from(value) {
        return value.into();
    }
    match i64::try_from(value) {
        Ok(value) => value.into(),
        Err(_) => (value as f64).into(),
    }
}

#[cfg(test)]
mod tests;
