//! Text from outside in one line of bounded length.

use std::borrow::Cow;

/// Returns `text` as one line of at most `limit` characters. Control characters, which could
/// break the line or an operator's terminal, become spaces. A text that is cut ends in `…`.
pub fn one_line(text: &str, limit: usize) -> Cow<'_, str> {
    let mut line = Cow::Borrowed(text);
    if text.contains(char::is_control) {
        line = Cow::Owned(text.replace(char::is_control, " "));
    }
    if line.char_indices().nth(limit).is_some() {
        cut(line.to_mut(), limit);
    }
    line
}

/// Cuts a text that has more than `limit` characters. It ends in `…` then.
pub fn cut(text: &mut String, limit: usize) {
    if let Some((end, _)) = text.char_indices().nth(limit) {
        text.truncate(end);
        text.push('…');
        text.shrink_to_fit();
    }
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

/// Returns the first texts, at most `limit`, separated by commas. If there are more, the end says
/// how many.
pub fn list_first(texts: &[String], limit: usize) -> String {
    let first = &texts[..limit.min(texts.len())];
    let list = first.join(", ");
    match texts.len() - first.len() {
        0 => list,
        more => format!("{list} and {more} more"),
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

    #[test]
    fn a_long_list_says_how_many_more_there_are() {
        let texts: Vec<_> = (1..=5).map(|number| number.to_string()).collect();
        assert_eq!(list_first(&texts, 5), "1, 2, 3, 4, 5");
        assert_eq!(list_first(&texts, 2), "1, 2 and 3 more");
        assert_eq!(list_first(&[], 2), "");
    }
}
