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
}
