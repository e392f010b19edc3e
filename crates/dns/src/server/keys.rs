//! Keys that sign zone transfers (TSIG), from a file.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::tsig::{Algorithm, Key, KeyName};

use super::engine::Keys;

/// Most keys of a file.
const MAX_KEYS: usize = 1_000;

/// A line of a file is no key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}: {error}; a line is ALGORITHM:NAME:SECRET, as in dig's option -y, such as \
         hmac-sha256:secondary:c2VjcmV0…"
)]
pub struct KeyError {
    /// Number of the line, from 1 on.
    line: usize,
    /// Fault of the line.
    error: String,
}

/// Reads keys, one a line, in the form of dig's option `-y`. Empty lines and those that begin with `#`
/// are left out.
///
/// # Errors
/// A line is no key; the error does not contain it.
pub fn parse(text: &str) -> Result<Keys, KeyError> {
    let mut keys = HashMap::new();
    let lines = text.lines().map(str::trim).zip(1..);
    for (line, number) in lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')) {
        let fail = |error| KeyError {
            line: number,
            error,
        };
        if keys.len() == MAX_KEYS {
            return Err(fail(format!("there are more than {MAX_KEYS} keys")));
        }
        let (name, algorithm, key) = key(line).map_err(fail)?;
        keys.insert((name, algorithm), key);
    }
    Ok(Arc::new(keys))
}

fn key(line: &str) -> Result<(KeyName, Algorithm, Key), String> {
    let mut parts = line.splitn(3, ':');
    let (Some(algorithm), Some(name), Some(secret)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err("there are fewer than three parts".to_owned());
    };
    let algorithm = Algorithm::from_str(algorithm).map_err(|_| {
        "the algorithm is none of hmac-sha1, hmac-sha256, hmac-sha384, hmac-sha512".to_owned()
    })?;
    let name = KeyName::from_str(name).map_err(|_| "the name is no domain name".to_owned())?;
    let secret = BASE64_STANDARD
        .decode(secret)
        .map_err(|_| "the secret is not base64".to_owned())?;
    if secret.is_empty() {
        return Err("the secret is empty".to_owned());
    }
    let key = Key::new(algorithm, &secret, name.clone(), None, None);
    let key = key.map_err(|error| error.to_string())?;
    Ok((name, algorithm, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_form_of_dig() {
        let text =
            "# secondaries\n\nhmac-sha256:one.example:c2VjcmV0\n hmac-sha512:two:c2VjcmV0 \n";
        let keys = parse(text).unwrap();
        assert_eq!(keys.len(), 2);
        let one = (KeyName::from_str("one.example").unwrap(), Algorithm::Sha256);
        assert!(keys.contains_key(&one));
    }

    #[test]
    fn bad_lines_are_named_without_their_secrets() {
        for (text, expected) in [
            (
                "\nhmac-sha256:one",
                "line 2: there are fewer than three parts",
            ),
            ("md5:one:c2VjcmV0", "line 1: the algorithm is none of"),
            (
                "hmac-sha256:o..ne:c2VjcmV0",
                "line 1: the name is no domain name",
            ),
            ("hmac-sha256:one:%%", "line 1: the secret is not base64"),
            ("hmac-sha256:one:", "line 1: the secret is empty"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("c2VjcmV0\n"), "{error}");
        }
    }
}
