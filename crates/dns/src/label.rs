//! Label of a DNS name from any text, as DC/OS makes it.

/// Length of the longest label, in bytes (RFC 1035).
pub const MAX: usize = 63;

/// Returns the label of a text, by DC/OS's rules. It can be empty.
///
/// * Letters become lower case. `a` to `z`, digits and `-` stay, `_` and `.` become `-`, and all other
///   bytes are dropped.
/// * Dashes at the beginning and at the end are dropped.
/// * A label has at most [`MAX`] bytes. Where a longer one would end with dashes, the letters and
///   digits that follow take their places.
pub fn label(text: &[u8]) -> String {
    let mut bytes = text.iter().filter_map(|byte| kept(*byte));
    let mut label = String::with_capacity(text.len().min(MAX));
    for byte in bytes.by_ref() {
        if byte != '-' || !label.is_empty() {
            label.push(byte);
        }
        if label.len() == MAX {
            break;
        }
    }
    label.truncate(label.trim_end_matches('-').len());
    // Nothing is left unless the label was full.
    label.extend(bytes.filter(|byte| *byte != '-').take(MAX - label.len()));
    label
}

/// Returns what a byte of the text is in the label. `None`: nothing.
fn kept(byte: u8) -> Option<char> {
    match byte {
        b'a'..=b'z' | b'0'..=b'9' | b'-' => Some(char::from(byte)),
        b'A'..=b'Z' => Some(char::from(byte.to_ascii_lowercase())),
        b'_' | b'.' => Some('-'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vectors_of_dcos() {
        for (text, expected) in [
            (
                "fd%gsf---gs7-f$gs--d7fddg-123",
                "fdgsf---gs7-fgs--d7fddg-123",
            ),
            ("-4abc123", "4abc123"),
            ("89fdgsf---gs7-fgs--d7fddg-", "89fdgsf---gs7-fgs--d7fddg"),
            (
                "fd%gsf---gs7-f$gs--d7fddg123456789012345678901234567890123456789-123",
                "fdgsf---gs7-fgs--d7fddg1234567890123456789012345678901234567891",
            ),
            ("myapp.subgroup.outergroup", "myapp-subgroup-outergroup"),
            ("dev/marathon", "devmarathon"),
            ("Größe_1", "gre-1"),
            ("__", ""),
            ("", ""),
            ("日本", ""),
        ] {
            assert_eq!(label(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn dashes_at_the_end_of_a_full_label_are_filled() {
        let full = "a".repeat(61);
        assert_eq!(label(format!("{full}--").as_bytes()), full);
        assert_eq!(
            label(format!("{full}----b-c-d").as_bytes()),
            format!("{full}bc")
        );
        assert_eq!(
            label(format!("{full}-b--c").as_bytes()),
            format!("{full}-b")
        );
    }

    proptest! {
        #[test]
        fn a_label_is_one_of_host_names(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let found = label(&text);
            prop_assert!(found.len() <= MAX);
            prop_assert!(!found.starts_with('-') && !found.ends_with('-'));
            prop_assert!(found.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            prop_assert_eq!(label(found.as_bytes()), found.clone(), "it stays when mangled again");
            let has_letter = text.iter().any(u8::is_ascii_alphanumeric);
            prop_assert_eq!(found.is_empty(), !has_letter);
        }
    }
}
