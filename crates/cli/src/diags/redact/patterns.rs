//! Forms and places of secrets in texts.

use std::borrow::Cow;
use std::path::Path;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::MARK;

/// Words in the names of keys, flags and variables whose values are secrets.
const NAMES: &str = "passw(?:or)?d|passphrase|secret|token|credential|private[ _-]?key|preshared(?:[ _-]?key)?|api[_-]?key|access[_-]?key|auth[_-]?key|encryption[_-]?key|jwt|pass(?-u:\\b)|pwd|dsn|docker_config|executor_environment_variables|default_container_info";
/// Names whose values are secrets, if nothing is before or after them: those of Docker's logins.
const WHOLE_NAMES: &str = "auths?";
/// Ends of the names that can have a path as well as a secret.
const NAMES_OF_FILES: [&str; 8] = [
    "file",
    "path",
    "credential",
    "credentials",
    "secret_key",
    "docker_config",
    "executor_environment_variables",
    "default_container_info",
];

/// Private key in PEM form.
static PEM: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)")
});
/// User and password in a URL: up to the last `@` before its end. Slashes may be escaped.
static URL: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"([A-Za-z][A-Za-z0-9+.-]*:(?:\\?/){2})[^ \t-\r"'<>]*@"#));
/// User and password of a proxy without a scheme.
static PROXY: LazyLock<Regex> = LazyLock::new(|| {
    regex(r#"((?i-u:proxy)[A-Za-z0-9_.-]*\\?["']?[ \t]*[:=][ \t]*\\?["']?)[^ \t-\r"'<>]+@"#)
});
/// Header of HTTP, up to the end of its line or string.
static HEADER: LazyLock<Regex> = LazyLock::new(|| {
    let names = "authorization|cookie|x-[a-z-]*token";
    regex(&format!(
        r#"((?i-u:{names})\\?["']?[ \t]*[:=][ \t]*\\?["']?)[^"'\\\r\n]+"#
    ))
});
/// Scheme of HTTP authentication with its value.
static SCHEME: LazyLock<Regex> =
    LazyLock::new(|| regex(r"((?i-u:basic|bearer)[ \t]+)([A-Za-z0-9+/=._~-]{4,})"));
/// Name and value. The value is a string, or up to the end of the word or line.
static PAIR: LazyLock<Regex> = LazyLock::new(|| {
    let name = format!(
        r"([A-Za-z0-9_.-]*(?i-u:{NAMES})[A-Za-z0-9_.-]*|(?-u:\b)(?i-u:{WHOLE_NAMES})(?-u:\b))"
    );
    let between = r#"(\\?["']?[ \t]*(?::|=)[ \t]*)"#;
    let value = r#"(\\"(?s:.*?)\\"|"(?:[^"\\]|\\(?s:.))*"?|'[^']*'?|[\[{][^\r\n]*|[^ \t-\r,;&"'}\]]+[^\r\n,;&"'}\]]*)"#;
    regex(&format!("{name}{between}{value}"))
});
/// JSON web token.
static JWT: LazyLock<Regex> =
    LazyLock::new(|| regex(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"));
/// Hexadecimal digits of 32 bytes and more: keys, and the ids of Docker.
static HEX: LazyLock<Regex> = LazyLock::new(|| regex(r"([0-9A-Fa-f]{12})[0-9A-Fa-f]{52,}"));
/// Base64 of 32 bytes and more, of both alphabets: keys, and paths.
static BASE64: LazyLock<Regex> = LazyLock::new(|| regex(r"[A-Za-z0-9+/_-]{43,}={0,2}"));

/// Compiles a pattern. Classes of Unicode such as `\s` are not built in.
fn regex(pattern: &str) -> Regex {
    #[allow(
        clippy::expect_used,
        reason = "the patterns are constants, and a test uses all"
    )]
    Regex::new(pattern).expect("a valid pattern")
}

/// Returns a text without what has the form of a secret or stands in the place of one, and the
/// number of places.
pub fn remove(text: &str) -> (String, usize) {
    let mut count = 0;
    let mut text = Cow::Borrowed(text);
    let mut apply = |pattern: &Regex, replace: &dyn Fn(&Captures<'_>) -> Option<String>| {
        let mut found = 0;
        let replaced = pattern.replace_all(&text, |captures: &Captures<'_>| {
            let whole = captures[0].to_owned();
            match replace(captures).filter(|replacement| *replacement != whole) {
                Some(replacement) => {
                    found += 1;
                    replacement
                }
                None => whole,
            }
        });
        if found > 0 {
            count += found;
            text = Cow::Owned(replaced.into_owned());
        }
    };
    apply(&PEM, &|_| Some(MARK.to_owned()));
    apply(&URL, &|found| Some(format!("{}{MARK}@", &found[1])));
    apply(&PROXY, &proxy);
    apply(&HEADER, &|found| Some(format!("{}{MARK}", &found[1])));
    apply(&SCHEME, &scheme);
    apply(&PAIR, &pair);
    apply(&JWT, &|_| Some(MARK.to_owned()));
    apply(&HEX, &|found| Some(format!("{}…", &found[1])));
    apply(&BASE64, &|found| is_key(&found[0]).then(|| MARK.to_owned()));
    (text.into_owned(), count)
}

fn proxy(found: &Captures<'_>) -> Option<String> {
    // A URL has lost its login already.
    let is_done = found[0].ends_with(&format!("/{MARK}@"));
    (!is_done).then(|| format!("{}{MARK}@", &found[1]))
}

fn scheme(found: &Captures<'_>) -> Option<String> {
    // A sentence about "basic authentication" stays.
    let is_word = found[2].len() < 16 && found[2].bytes().all(|byte| byte.is_ascii_lowercase());
    (!is_word).then(|| format!("{}{MARK}", &found[1]))
}

fn pair(found: &Captures<'_>) -> Option<String> {
    let (name, between, value) = (&found[1], &found[2], &found[3]);
    let quote = value
        .chars()
        .find(|c| *c != '\\')
        .filter(|c| matches!(c, '"' | '\''));
    let inner = value.trim_matches(['\\', '"', '\'']);
    if is_harmless(name, inner) {
        return None;
    }
    let quote = match (value.starts_with('\\'), quote) {
        (true, Some(quote)) => format!("\\{quote}"),
        (_, Some(quote)) => quote.to_string(),
        (_, None) => String::new(),
    };
    Some(format!("{name}{between}{quote}{MARK}{quote}"))
}

/// Returns true for the value of a secret's name that is no secret: a file that has it, or a
/// switch.
pub fn is_harmless(name: &str, value: &str) -> bool {
    let name = name.to_lowercase();
    let value = value.replace("\\/", "/");
    let names_file = NAMES_OF_FILES.iter().any(|end| name.ends_with(end));
    matches!(value.as_str(), "" | "true" | "false" | "null" | MARK)
        || (names_file && is_path(&value))
}

/// Returns true for the path of a file, rather than a secret in base64 that begins with a slash.
fn is_path(value: &str) -> bool {
    let path = value.strip_prefix("file://").unwrap_or(value);
    if !path.starts_with('/') || path.contains(char::is_whitespace) {
        return false;
    }
    let parts = path.split('/').filter(|part| !part.is_empty()).count();
    let is_plain = parts >= 2 && !path.contains(['+', '=']) && !is_mixed(path);
    is_plain || Path::new(path).exists()
}

/// Returns true if a name is that of a secret.
pub fn is_secret(name: &str) -> bool {
    static NAME: LazyLock<Regex> = LazyLock::new(|| {
        regex(&format!(
            "(?i-u:{NAMES}|authorization|cookie|registryconfig|^(?:{WHOLE_NAMES})$)"
        ))
    });
    NAME.is_match(name)
}

/// Returns true for what is base64 rather than a path, a name or a number.
fn is_key(text: &str) -> bool {
    if text.len() == 44 && text.ends_with('=') {
        return true;
    }
    let separators = text.matches(['/', '-', '_', '+']).count();
    is_mixed(text) && separators * 8 <= text.len()
}

/// Returns true for a text with small and capital letters and digits.
fn is_mixed(text: &str) -> bool {
    let has = |is: fn(&u8) -> bool| text.as_bytes().iter().any(is);
    has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit)
}
