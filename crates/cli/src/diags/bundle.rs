//! Contents of the archive, and its manifest.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::redact::{RULES, Redacted, Redactor};

/// Size limit of one file of the archive, in bytes.
pub const FILE_LIMIT: u64 = 16 << 20;
/// Size limit of all files of the archive, in bytes.
const TOTAL_LIMIT: usize = 96 << 20;
/// Files that describe the archive.
const MANIFEST: &str = "manifest.json";
const MANIFEST_TEXT: &str = "MANIFEST.txt";

/// Form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON, from which secrets are removed by their keys. It is left out if it cannot be parsed.
    Json,
    /// Text.
    Text,
}

/// File that the archive shall have.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Path in the archive.
    pub name: String,
    /// Subject, as a phrase.
    pub what: String,
    /// Form.
    pub form: Form,
}

/// Content of a file before secrets are removed.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Bytes.
    pub bytes: Vec<u8>,
    /// What was cut off, as a phrase.
    pub cut: Option<String>,
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Content {
        Content { bytes, cut: None }
    }
}

impl From<String> for Content {
    fn from(text: String) -> Content {
        Content::from(text.into_bytes())
    }
}

/// File of the archive.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Entry {
    /// Path in the archive.
    pub name: String,
    /// Subject.
    pub what: String,
    /// Size in bytes.
    pub size: usize,
    /// SHA-256 of the content, in hexadecimal digits.
    pub sha256: String,
    /// Number of places where a secret was removed.
    #[serde(skip_serializing_if = "is_zero")]
    #[serde(default)]
    pub redacted: usize,
    /// What was cut off, because it was too large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
    #[serde(skip)]
    text: String,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Something that the archive lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeftOut {
    /// Path that it would have had in the archive.
    pub name: String,
    /// Subject.
    pub what: String,
    /// The reason.
    pub reason: String,
}

/// Contents of the archive.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Bundle {
    /// Name of the host.
    pub host: String,
    /// Time of the collection, in UTC.
    pub created: String,
    /// Version of the program.
    pub program: String,
    /// Files.
    pub entries: Vec<Entry>,
    /// What is not there, and why.
    pub left_out: Vec<LeftOut>,
    /// What was removed from the files.
    pub removed: Vec<&'static str>,
    #[serde(skip)]
    redactor: Redactor,
}

impl Bundle {
    /// Creates an archive without files.
    pub fn new(host: String, created: String, redactor: Redactor) -> Bundle {
        Bundle {
            host,
            created,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            removed: RULES.to_vec(),
            redactor,
            ..Bundle::default()
        }
    }

    /// Adds a file, without secrets, or the reason why it is missing.
    pub fn add(&mut self, wanted: Wanted, content: Result<Content, String>) {
        let Wanted { name, what, form } = wanted;
        let total: usize = self.entries.iter().map(|entry| entry.size).sum();
        let content = content.and_then(|content| match total + content.bytes.len() {
            size if size > TOTAL_LIMIT => Err(format!(
                "all files together would have more than {} MB",
                TOTAL_LIMIT >> 20
            )),
            _ => Ok(content),
        });
        let redacted = content.and_then(|Content { bytes, cut }| {
            let text = String::from_utf8_lossy(&bytes);
            let redacted = match form {
                Form::Json => self.redactor.json(&text)?,
                Form::Text => self.redactor.text(&text),
            };
            Ok((redacted, cut))
        });
        let (Redacted { text, count }, cut) = match redacted {
            Ok(redacted) => redacted,
            Err(reason) => {
                let reason = self.redactor.text(&reason).text;
                return self.left_out.push(LeftOut { name, what, reason });
            }
        };
        self.entries.push(Entry {
            name: self.free_name(self.redactor.text(&name).text),
            what,
            size: text.len(),
            sha256: sha256(text.as_bytes()),
            redacted: count,
            cut,
            text,
        });
    }

    /// Returns a name that no file has: the given one, or that with a number.
    fn free_name(&self, name: String) -> String {
        let is_free = |name: &str| self.entries.iter().all(|entry| entry.name != name);
        if is_free(&name) {
            return name;
        }
        let start = name.rfind('/').map_or(0, |slash| slash + 1);
        let (stem, extension) = match name[start..].rfind('.') {
            Some(dot) => name.split_at(start + dot),
            None => (name.as_str(), ""),
        };
        let mut numbered = (2..).map(|number: usize| format!("{stem}-{number}{extension}"));
        numbered.find(|name| is_free(name)).unwrap_or_default()
    }

    /// Writes the archive into a new file, which only its owner can read. Returns its size.
    ///
    /// # Errors
    /// The file exists already, or cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<u64> {
        let mut options = fs::OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let written = self.fill(&file, &stem(path)).and_then(|()| file.metadata());
        match written {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) => {
                // This call made it.
                let _ = fs::remove_file(path);
                Err(error)
            }
        }
    }

    fn fill(&self, file: &File, directory: &str) -> io::Result<()> {
        let encoder = GzEncoder::new(io::BufWriter::new(file), Compression::default());
        let mut archive = tar::Builder::new(encoder);
        let manifest = serde_json::to_string_pretty(self)? + "\n";
        let text = self.manifest_text();
        let own = [(MANIFEST_TEXT, text.as_str()), (MANIFEST, &manifest)];
        let entries = self.entries.iter();
        let entries = entries.map(|entry| (entry.name.as_str(), entry.text.as_str()));
        for (name, text) in own.into_iter().chain(entries) {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(super::time::now());
            let path = format!("{directory}/{name}");
            archive.append_data(&mut header, path, text.as_bytes())?;
        }
        archive.into_inner()?.finish()?.flush()?;
        file.sync_all()
    }

    /// Returns the manifest for people.
    fn manifest_text(&self) -> String {
        let mut text = format!(
            "mesos-overlay diags {} on {} at {}\n\nFiles:\n",
            self.program, self.host, self.created
        );
        for entry in &self.entries {
            text += &format!(
                "{}  {:>9}  {}: {}\n",
                &entry.sha256, entry.size, entry.name, entry.what
            );
            if entry.redacted > 0 {
                text += &format!("    secrets removed in {} places\n", entry.redacted);
            }
            if let Some(cut) = &entry.cut {
                text += &format!("    {cut}\n");
            }
        }
        text += "\nLeft out:\n";
        for LeftOut { name, what, reason } in &self.left_out {
            text += &format!("{name}: {what}: {reason}\n");
        }
        text += &format!("\nRemoved, and replaced by {}:\n", super::redact::MARK);
        for rule in &self.removed {
            text += &format!("- {rule}\n");
        }
        text
    }
}

/// Returns the directory in the archive: the name of the file without its extension.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.trim_end_matches(".tgz").trim_end_matches(".tar.gz");
    match stem {
        "" | "." | ".." => "mesos-overlay-diags".to_owned(),
        stem => stem.to_owned(),
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(files: &[(&str, Form, &str)]) -> Bundle {
        let mut bundle = Bundle::default();
        for (name, form, text) in files {
            let wanted = Wanted {
                name: (*name).to_owned(),
                what: "a file".to_owned(),
                form: *form,
            };
            bundle.add(wanted, Ok(Content::from((*text).to_owned())));
        }
        bundle
    }

    #[test]
    fn files_with_the_same_name_are_numbered() {
        let bundle = bundle(&[("a.d/x.json", Form::Text, "x"); 3]);
        let names: Vec<_> = bundle.entries.iter().map(|entry| &entry.name).collect();
        assert_eq!(names, ["a.d/x.json", "a.d/x-2.json", "a.d/x-3.json"]);
        let bundle = super::tests::bundle(&[("a.d/x", Form::Text, "x"); 2]);
        assert_eq!(bundle.entries[1].name, "a.d/x-2");
    }

    #[test]
    fn json_that_cannot_be_parsed_is_left_out() {
        let bundle = bundle(&[("x.json", Form::Json, "{\"value\": \"hunter2\"")]);
        assert_eq!(bundle.entries.len(), 0);
        assert!(bundle.left_out[0].reason.starts_with("it is no JSON"));
        assert!(!bundle.manifest_text().contains("hunter2"));
    }
}
