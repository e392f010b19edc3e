//! The domain of the containers' names: `dns_domain`.

use super::reader::{Object, Reported};

/// The domain of DC/OS.
const DEFAULT: &str = "dcos.thisdcos.directory";

/// Largest number of characters, which leaves a name below the domain two labels of 60.
const MAX: usize = 120;

/// Largest number of characters of a label (RFC 1035).
const MAX_LABEL: usize = 63;

/// Reads `dns_domain`.
pub(super) fn read(top: &Object<'_>) -> Result<String, Reported> {
    let remedy = "give a domain such as \"dcos.thisdcos.directory\"";
    let domain = top.parsed("dns_domain", remedy, parse)?;
    Ok(domain.unwrap_or_else(|| DEFAULT.to_owned()))
}

/// Returns the domain in small letters and without the dot at its end.
fn parse(text: &str) -> Result<String, String> {
    let domain = text.strip_suffix('.').unwrap_or(text);
    if domain.len() > MAX {
        return Err(format!("has more than {MAX} characters"));
    }
    let is_label = |label: &str| {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(is_allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if domain.split('.').all(is_label) {
        Ok(domain.to_ascii_lowercase())
    } else {
        Err("is not a domain".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_checked() {
        for (text, domain) in [
            ("dcos.thisdcos.directory", Some("dcos.thisdcos.directory")),
            ("Example.COM.", Some("example.com")),
            ("a", Some("a")),
            ("", None),
            (".", None),
            ("a..b", None),
            ("-a.b", None),
            ("a b", None),
            ("<b>.example", None),
        ] {
            assert_eq!(parse(text).ok().as_deref(), domain, "{text}");
        }
        assert!(parse(&"a".repeat(64)).is_err());
        assert!(parse(&"a.".repeat(61)).is_err());
    }
}
