//! Texts of operators: UTF-8, with or without a byte order mark.

/// The mark that some editors put before UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// Returns a text without its byte order mark.
///
/// # Errors
/// A phrase that names the encoding, as the end of a sentence about the text, and the remedy.
pub fn decode(bytes: &[u8]) -> Result<&str, String> {
    if let Some(name) = wide(bytes) {
        return Err(format!("is {name}; save it as UTF-8"));
    }
    let text = bytes.strip_prefix(MARK).unwrap_or(bytes);
    std::str::from_utf8(text).map_err(|error| {
        let (before, after) = text.split_at(error.valid_up_to());
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let byte = after.first().copied().unwrap_or_default();
        format!(
            "is not UTF-8: line {line} has the byte 0x{byte:02x}, as in Latin-1 (ISO 8859-1) or Windows-1252; save it \
             as UTF-8"
        )
    })
}

/// Returns the name of an encoding with more than one byte for each character, with or without
/// its mark: a configuration begins with an ASCII character.
fn wide(bytes: &[u8]) -> Option<&'static str> {
    match *bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [a, b, c, d, ..] if (a == 0) != (d == 0) && b == 0 && c == 0 => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [a, b, ..] if (a == 0) != (b == 0) => Some("UTF-16"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_left_out() {
        assert_eq!(decode(b"\xef\xbb\xbf{}"), Ok("{}"));
        assert_eq!(decode("{\"ä\": 1}".as_bytes()), Ok("{\"ä\": 1}"));
        assert_eq!(decode(b""), Ok(""));
        assert_eq!(decode(b"\xef\xbb\xbf"), Ok(""));
    }

    #[test]
    fn other_encodings_are_named() {
        let utf16 = |text: &str, convert: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(convert).collect()
        };
        for convert in [u16::to_le_bytes, u16::to_be_bytes] {
            for text in ["{}", "\u{feff}{}"] {
                let error = decode(&utf16(text, convert)).unwrap_err();
                assert_eq!(error, "is UTF-16; save it as UTF-8");
            }
        }
        for bytes in [
            &b"{\0\0\0}\0\0\0"[..],
            b"\0\0\0{\0\0\0}",
            b"\xff\xfe\0\0{\0\0\0",
        ] {
            assert_eq!(decode(bytes).unwrap_err(), "is UTF-32; save it as UTF-8");
        }
        assert_eq!(
            decode(b"{\n\"a\": \"M\xfcnchen\"}").unwrap_err(),
            "is not UTF-8: line 2 has the byte 0xfc, as in Latin-1 (ISO 8859-1) or Windows-1252; save it as UTF-8"
        );
    }
}
