//! Text from outside in one line of bounded length.

use std::borrow::Cow;

/// Returns `text` as one line of at most `limit` characters. Control characters, which could
/// break the line or an operator's terminal, become spaces. A text that is cut ends in `…`.
pub fn one_line(text: &str, limit: usize) -> Cow<'_, str> {
    let mut line = Cow::Borrowed(text);
    if text.contains(char::is_control) {
        line = Cow::Owned(text.replace(char::is_control, " "));
    }
    if let Some((end, _)) = line.char_indices().nth(limit) {
        let line = line.to_mut();
        line.truncate(end);
        line.push('…');
    }
    line
}

/// Longest text that [`quote`] returns in full, in characters.
const MAX_QUOTED: usize = 64;

/// Returns text from outside in quotes, with control characters and quotes in it escaped, and
/// shortened to 64 characters. A text that is cut ends in `…` behind the quotes.
pub fn quote(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_spaces() {
        assert_eq!(one_line("a\nb\u{1b}[0mc\u{85}", 100), "a b [0mc ");
        assert!(matches!(one_line("clean — “text”", 100), Cow::Borrowed(_)));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(one_line("äöü", 3), "äöü");
        assert_eq!(one_line("äöü", 2), "äö…");
        assert_eq!(one_line("ä\nü", 2), "ä …");
        assert_eq!(one_line("ab", 0), "…");
    }

    #[test]
    fn a_quoted_text_is_short_and_cannot_end_its_quotes() {
        assert_eq!(quote("a\"b\n"), r#""a\"b\n""#);
        assert_eq!(quote(&"ä".repeat(64)), format!("\"{}\"", "ä".repeat(64)));
        assert_eq!(quote(&"ä".repeat(65)), format!("\"{}\"…", "ä".repeat(64)));
    }
}
