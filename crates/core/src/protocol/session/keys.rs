//! Keys that masters and agents share: the contents of `auth_key_file`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::secrets::keyed;

/// Shortest key, in bytes: the length of the hash, below which HMAC is weaker (RFC 2104, 3).
const MIN_KEY: usize = 32;
/// Longest key, in bytes.
const MAX_KEY: usize = 1024;
/// Largest number of keys. Two are needed to replace one.
const MAX_KEYS: usize = 8;
/// Bytes of the hash that make up an id.
const ID: usize = 4;

/// One key.
#[derive(Clone)]
pub struct Key {
    /// First 4 bytes of the SHA-256 of the key in hexadecimal digits. Shows operators which key
    /// is in use, and does not help to find it.
    pub id: String,
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.id == other.id
    }
}

impl Eq for Key {}

/// Keys in the order of the file. The first one authenticates what is sent, and each one is
/// accepted. At least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// Reads the text of a file: one key a line, in hexadecimal digits or base64. Empty lines
    /// and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// What is wrong, in which line. The text continues a sentence about the file, and contains
    /// nothing of a key.
    pub fn read(text: &str) -> Result<Keys, String> {
        let mut keys: Vec<Key> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = key(line).map_err(|what| format!("line {number}: {what}"))?;
            if keys.contains(&key) {
                return Err(format!("line {number}: the key occurs twice"));
            }
            keys.push(key);
        }
        match keys.len() {
            0 => Err("it has no key".to_owned()),
            count if count > MAX_KEYS => {
                Err(format!("it has {count} keys; {MAX_KEYS} are allowed"))
            }
            _ => Ok(Keys(keys)),
        }
    }

    /// Returns whether these keys accept what the first key of `others` authenticates.
    pub fn accepts_first_of(&self, others: &Keys) -> bool {
        self.0.contains(others.first())
    }

    /// Returns the key that authenticates what is sent.
    pub fn first(&self) -> &Key {
        &self.0[0]
    }

    /// Returns the key whose code this is; `None` if it is of no key.
    pub fn find(&self, input: &MacInput<'_>, code: &[u8]) -> Option<&Key> {
        self.0.iter().find(|key| {
            let mac = input.update(key.mac.clone());
            mac.verify_slice(code).is_ok()
        })
    }
}

impl Key {
    /// Returns the code of a message.
    pub fn code(&self, input: &MacInput<'_>) -> [u8; 32] {
        input
            .update(self.mac.clone())
            .finalize()
            .into_bytes()
            .into()
    }
}

/// Everything that a message authentication code covers.
#[derive(Clone, Copy, Debug)]
pub struct MacInput<'a> {
    /// Pids of sender and receiver, name of the message, nonce and token of the session, and
    /// SHA-256 of the message without its session.
    pub parts: [&'a [u8]; 6],
    /// The field `session` up to the code.
    pub session: &'a [u8],
}

impl MacInput<'_> {
    fn update(&self, mut mac: Hmac<Sha256>) -> Hmac<Sha256> {
        // Names this use of the key and its version.
        mac.update(b"mesos-overlay message 1");
        for part in self.parts.iter().chain([&self.session]) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

/// Reads one key.
fn key(text: &str) -> Result<Key, String> {
    let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bytes = if is_hex {
        base16ct::mixed::decode_vec(text).ok()
    } else {
        STANDARD.decode(text).ok()
    };
    let remedy = "write at least 32 random bytes, such as the output of `openssl rand -hex 32`";
    let bytes = bytes.ok_or(format!("neither hexadecimal digits nor base64; {remedy}"))?;
    if bytes.len() < MIN_KEY {
        return Err(format!(
            "a key of {} bytes is too short; {remedy}",
            bytes.len()
        ));
    }
    if bytes.len() > MAX_KEY {
        return Err(format!(
            "a key of {} bytes is too long; {MAX_KEY} bytes are the most",
            bytes.len()
        ));
    }
    if bytes.iter().all(|byte| *byte == bytes[0]) {
        return Err(format!("all bytes of the key are the same; {remedy}"));
    }
    let hash = Sha256::digest(&bytes);
    Ok(Key {
        id: base16ct::lower::encode_string(&hash[..ID]),
        mac: keyed(&bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1F";
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn ids(text: &str) -> Vec<String> {
        let keys = Keys::read(text).unwrap();
        keys.0.into_iter().map(|key| key.id).collect()
    }

    #[test]
    fn reads_both_notations() {
        // Of the SHA-256 of the bytes 0 to 31.
        assert_eq!(ids(HEX), ["630dcd29"]);
        assert_eq!(ids(BASE64), ["630dcd29"]);
        let other = HEX.replace('0', "f");
        let text = format!("# keys\n\n  {other}  \r\n{HEX}\n");
        assert_eq!(ids(&text).len(), 2);
        assert_eq!(ids(&text)[1], "630dcd29");
    }

    #[test]
    fn says_what_is_wrong_and_shows_no_key() {
        let secret = "5f0d9c";
        for (text, words) in [
            (String::new(), "no key"),
            ("# only a comment".into(), "no key"),
            (secret.into(), "line 1: a key of 3 bytes is too short"),
            (format!("{HEX}\nnot a key!"), "line 2: neither"),
            (format!("{HEX}\n{BASE64}"), "line 2: the key occurs twice"),
            ("00".repeat(32), "are the same"),
            ("0123456789abcdef".repeat(200), "too long"),
            (
                (0..9).map(|n| format!("{n}{}\n", &HEX[1..])).collect(),
                "it has 9 keys",
            ),
        ] {
            let error = Keys::read(&text).unwrap_err();
            assert!(error.contains(words), "{error}");
            assert!(
                !error.contains(secret) && !error.contains("not a key!"),
                "{error}"
            );
        }
    }

    #[test]
    fn each_part_changes_the_code() {
        let keys = Keys::read(HEX).unwrap();
        let parts: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"f"];
        let input = MacInput {
            parts,
            session: b"g",
        };
        let code = keys.first().code(&input);
        assert!(keys.find(&input, &code).is_some());
        assert!(keys.find(&input, &code[..31]).is_none());
        for part in 0..6 {
            let mut parts = parts;
            parts[part] = b"x";
            assert!(keys.find(&MacInput { parts, ..input }, &code).is_none());
        }
        // Moving a byte from one part to the next is a change, too.
        let shifted: [&[u8]; 6] = [b"ab", b"", b"c", b"d", b"e", b"f"];
        let shifted = MacInput {
            parts: shifted,
            ..input
        };
        assert!(keys.find(&shifted, &code).is_none());
        let session = b"h".as_slice();
        assert!(keys.find(&MacInput { session, ..input }, &code).is_none());
    }
}
