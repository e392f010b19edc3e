//! Values from the events of the parser: aliases, merge keys, tags and limits.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::{Data, Document, Entry, Mark, Mistake, Node, Repeated, scalar};

/// Largest number of values in a document, with everything that aliases stand for. A few lines of
/// aliases to aliases are billions of values.
pub const MAX_VALUES: usize = 100_000;
/// Largest depth of lists and mappings in each other.
pub const MAX_DEPTH: usize = 64;
/// Namespace of YAML's own tags.
const OWN_TAGS: &str = "tag:yaml.org,2002:";

const SYNTAX: &str = "correct the file there or just before";
const SMALLER: &str = "leave out what the overlays do not need";
const NO_TAG: &str = "write the value without the tag";

/// Reads a document.
///
/// # Errors
/// The text is no YAML, has no or several documents, or is too large.
pub fn read(text: &str) -> Result<Document, Mistake> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    check_characters(text)?;
    let mut composer = Composer::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let what = format!("this is no YAML: {}", error.info());
            Mistake::new(mark(error.marker()), what, SYNTAX)
        })?;
        composer.take(event, span)?;
    }
    let root = composer.root.ok_or_else(|| {
        let start = Mark { line: 1, column: 1 };
        Mistake::new(
            start,
            "there is nothing in the file",
            "give the configuration of DC/OS",
        )
    })?;
    Ok(Document {
        root,
        repeated: composer.repeated,
    })
}

/// Checks that a text has no control characters, which PyYAML refuses.
fn check_characters(text: &str) -> Result<(), Mistake> {
    let is_fine = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}')
            || c >= '\u{10000}'
    };
    let Some(at) = text.find(|c| !is_fine(c)) else {
        return Ok(());
    };
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let place = Mark {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    };
    let what = "this is a character that YAML does not permit";
    Err(Mistake::new(
        place,
        what,
        "remove it, or save the file as UTF-8",
    ))
}

/// Converts a place of the parser, whose columns begin at 0.
fn mark(marker: &Marker) -> Mark {
    Mark {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

/// List or mapping whose end has not come.
struct Open {
    mark: Mark,
    anchor: usize,
    children: Children,
}

enum Children {
    List(Vec<Rc<Node>>),
    Map {
        pairs: Vec<(Rc<Node>, Rc<Node>)>,
        /// Key whose value comes next.
        key: Option<Rc<Node>>,
    },
}

/// Composer of values.
#[derive(Default)]
struct Composer {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Rc<Node>>,
    repeated: Vec<Repeated>,
    documents: usize,
    /// Number of entries that merge keys have copied.
    merged: usize,
    root: Option<Rc<Node>>,
}

impl Composer {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Mistake> {
        let mark = mark(&span.start);
        match event {
            Event::DocumentStart(_) => self.start_document(mark),
            Event::Scalar(text, style, anchor, tag) => {
                let node = scalar_node(text, style, tag.as_deref(), mark)?;
                self.add(node, anchor)
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned().ok_or_else(|| {
                    let what = "this alias stands for a value that contains it";
                    Mistake::new(mark, what, "write the value out")
                })?;
                self.attach(node)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq", mark)?;
                self.start(mark, anchor, Children::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map", mark)?;
                let pairs = Vec::new();
                self.start(mark, anchor, Children::Map { pairs, key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn start_document(&mut self, mark: Mark) -> Result<(), Mistake> {
        self.documents += 1;
        if self.documents > 1 {
            let what = "a second document begins here";
            return Err(Mistake::new(mark, what, "give a file with one document"));
        }
        Ok(())
    }

    fn start(&mut self, mark: Mark, anchor: usize, children: Children) -> Result<(), Mistake> {
        if self.open.len() == MAX_DEPTH {
            let what = format!("more than {MAX_DEPTH} lists and mappings are in each other");
            return Err(Mistake::new(mark, what, SMALLER));
        }
        self.open.push(Open {
            mark,
            anchor,
            children,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Mistake> {
        let Some(Open {
            mark,
            anchor,
            children,
        }) = self.open.pop()
        else {
            return Ok(());
        };
        let data = match children {
            Children::List(nodes) => Data::List(nodes),
            Children::Map { pairs, .. } => Data::Map(self.mapping(pairs)?),
        };
        let size = match &data {
            Data::List(nodes) => nodes.iter().map(|node| node.size).sum(),
            Data::Map(entries) => entries.values().map(|entry| 1 + entry.value.size).sum(),
            _ => 0,
        };
        let node = Node {
            mark,
            data,
            plain: None,
            size: 1 + size,
        };
        self.add(node, anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Mistake> {
        let node = Rc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.attach(node)
    }

    /// Puts a value into the list or mapping that is open.
    fn attach(&mut self, node: Rc<Node>) -> Result<(), Mistake> {
        if node.size > MAX_VALUES {
            let what = format!("this stands for more than {MAX_VALUES} values");
            return Err(Mistake::new(node.mark, what, SMALLER));
        }
        let is_key = match self.open.last_mut().map(|open| &mut open.children) {
            None => {
                self.root = Some(node);
                return Ok(());
            }
            Some(Children::Map { pairs, key }) => match key.take() {
                None => {
                    *key = Some(node.clone());
                    true
                }
                Some(key) => {
                    pairs.push((key, node.clone()));
                    false
                }
            },
            Some(Children::List(nodes)) => {
                nodes.push(node.clone());
                false
            }
        };
        match node.data {
            Data::Merge | Data::Default if !is_key => {
                let plain = node.plain.as_deref().unwrap_or_default();
                let what = format!("{plain} without quotes is no value in YAML 1.1");
                Err(Mistake::new(node.mark, what, "write it in quotes"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the entries of a mapping: what `<<` names first, its own over it.
    fn mapping(
        &mut self,
        pairs: Vec<(Rc<Node>, Rc<Node>)>,
    ) -> Result<BTreeMap<String, Entry>, Mistake> {
        let mut entries = BTreeMap::new();
        for (_, value) in pairs.iter().filter(|(key, _)| is_merge(key)) {
            self.merge(&mut entries, value)?;
        }
        let mut own = BTreeMap::new();
        for (key, value) in pairs.into_iter().filter(|(key, _)| !is_merge(key)) {
            let name = name(&key)?;
            let mark = key.mark;
            if own.insert(name.clone(), Entry { key, value }).is_some() {
                self.repeated.push(Repeated { key: name, mark });
            }
        }
        entries.extend(own);
        Ok(entries)
    }

    /// Adds the entries of a mapping, or of a list of mappings of which the first has precedence.
    fn merge(
        &mut self,
        entries: &mut BTreeMap<String, Entry>,
        value: &Node,
    ) -> Result<(), Mistake> {
        match &value.data {
            Data::Map(merged) => {
                self.merged += merged.len();
                if self.merged > MAX_VALUES {
                    let what = format!("<< has copied more than {MAX_VALUES} entries here");
                    return Err(Mistake::new(value.mark, what, SMALLER));
                }
                let copies = merged.iter();
                entries.extend(copies.map(|(name, entry)| (name.clone(), entry.clone())));
                Ok(())
            }
            Data::List(nodes) if nodes.iter().all(|node| matches!(node.data, Data::Map(_))) => {
                let mut nodes = nodes.iter().rev();
                nodes.try_for_each(|node| self.merge(entries, node))
            }
            _ => {
                let what = format!("<< has {} instead of mappings", value.kind());
                let remedy = "name one mapping or a list of them, or write << in quotes";
                Err(Mistake::new(value.mark, what, remedy))
            }
        }
    }
}

fn is_merge(key: &Node) -> bool {
    matches!(key.data, Data::Merge)
}

/// Returns the name that a key has in JSON, as Python's `json.dumps` writes it.
fn name(key: &Node) -> Result<String, Mistake> {
    Ok(match &key.data {
        Data::Text(text) => text.clone(),
        Data::Null => "null".to_owned(),
        Data::Bool(value) => value.to_string(),
        Data::Integer(value) => value.to_string(),
        Data::Default => "=".to_owned(),
        _ => {
            let what = format!("this key is {}", key.kind());
            return Err(Mistake::new(key.mark, what, "write it in quotes"));
        }
    })
}

fn check_tag(tag: Option<&Tag>, own: &str, mark: Mark) -> Result<(), Mistake> {
    match tag {
        Some(tag) if !is_plain_tag(tag) && own_tag(tag) != Some(own) => {
            Err(Mistake::new(mark, unknown_tag(tag), NO_TAG))
        }
        _ => Ok(()),
    }
}

/// Returns true for the tag `!`.
fn is_plain_tag(tag: &Tag) -> bool {
    tag.handle.is_empty() && tag.suffix == "!"
}

/// Returns the name of a tag of YAML's own, such as `str`.
fn own_tag(tag: &Tag) -> Option<&str> {
    match tag.handle.as_str() {
        OWN_TAGS => Some(&tag.suffix),
        "" => tag.suffix.strip_prefix(OWN_TAGS),
        _ => None,
    }
}

fn unknown_tag(tag: &Tag) -> String {
    format!("the tag {}{} is unknown here", tag.handle, tag.suffix)
}

fn scalar_node(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    mark: Mark,
) -> Result<Node, Mistake> {
    let is_plain = style == ScalarStyle::Plain;
    let data = match tag {
        None if is_plain => {
            scalar::resolve(&text).map_err(|what| Mistake::new(mark, what, "write it in quotes"))?
        }
        None => Data::Text(text.to_string()),
        Some(tag) if is_plain_tag(tag) => Data::Text(text.to_string()),
        Some(tag) => tagged(&text, tag, mark)?,
    };
    Ok(Node {
        mark,
        data,
        plain: is_plain.then(|| text.into_owned()),
        size: 1,
    })
}

fn tagged(text: &str, tag: &Tag, mark: Mark) -> Result<Data, Mistake> {
    let data = match own_tag(tag) {
        Some("str") => Some(Data::Text(text.to_owned())),
        Some("null") => Some(Data::Null),
        // PyYAML's `!!bool` knows every case of the words.
        Some("bool") => scalar::boolean(&text.to_lowercase()).map(Data::Bool),
        Some("int") => scalar::tagged_integer(text),
        Some("float") => scalar::tagged_float(text).map(Data::Float),
        _ => return Err(Mistake::new(mark, unknown_tag(tag), NO_TAG)),
    };
    data.ok_or_else(|| {
        let what = format!("\"{text}\" has no value with the tag !!{}", tag.suffix);
        Mistake::new(mark, what, NO_TAG)
    })
}
