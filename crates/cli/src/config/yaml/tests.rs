use serde_json::{Value, json};

use super::*;

fn value(text: &str) -> Value {
    read(text)
        .and_then(|document| document.root.json())
        .unwrap_or_else(|mistake| panic!("{text}: {mistake:?}"))
}

fn mistake(text: &str) -> Mistake {
    let read = read(text).and_then(|document| document.root.json());
    read.expect_err(text)
}

/// Values as PyYAML's `safe_load` returns them.
#[test]
fn plain_scalars_are_those_of_yaml_1_1() {
    let table = [
        ("yes", json!(true)),
        ("No", json!(false)),
        ("on", json!(true)),
        ("OFF", json!(false)),
        ("y", json!("y")),
        ("yEs", json!("yEs")),
        ("~", json!(null)),
        ("Null", json!(null)),
        ("nULL", json!("nULL")),
        ("010", json!(8)),
        ("0o10", json!("0o10")),
        ("08", json!("08")),
        ("0", json!(0)),
        ("-0x1F", json!(-31)),
        ("+0b101", json!(5)),
        ("1_420", json!(1420)),
        ("_1", json!("_1")),
        ("0_", json!(0)),
        ("1:30", json!(90)),
        ("-1:30", json!(-90)),
        ("1:60", json!("1:60")),
        ("70:10:20:00:00:00", json!(54_565_920_000_u64)),
        ("70:B3:D5:00:00:00", json!("70:B3:D5:00:00:00")),
        ("02:10:20:00:00:00", json!("02:10:20:00:00:00")),
        ("1.5", json!(1.5)),
        ("1.", json!(1.0)),
        (".5", json!(0.5)),
        ("-.5", json!("-.5")),
        ("1e3", json!("1e3")),
        ("1.0e3", json!("1.0e3")),
        ("1.0e+3", json!(1000.0)),
        ("1:30.5", json!(90.5)),
        ("9.0.0.0/8", json!("9.0.0.0/8")),
        ("fd01:a::/64", json!("fd01:a::/64")),
        ("172.16/12", json!("172.16/12")),
        (
            "18446744073709551615",
            json!(18_446_744_073_709_551_615_u64),
        ),
        ("99999999999999999999999999999999999999999", json!(1e41)),
        ("2020-1-1", json!("2020-1-1")),
    ];
    for (text, expected) in table {
        assert_eq!(value(text), expected, "{text}");
        assert!(value(&format!("'{text}'")).is_string(), "{text} in quotes");
        let tagged = format!("!!str {text}");
        assert_eq!(value(&tagged), json!(text), "{text} as !!str");
    }
    for text in [
        "2020-01-01",
        "2020-1-1 1:30:00",
        "2020-01-01T01:30:00.5Z",
        "0x_",
        "0b_",
    ] {
        assert_eq!(mistake(text).remedy, "write it in quotes", "{text}");
    }
    for text in [".inf", "-.Inf", ".nan"] {
        assert!(mistake(text).what.contains("infinite"), "{text}");
    }
    assert_eq!(value("+.nan"), json!("+.nan"));
}

#[test]
fn tags_choose_the_type() {
    let table = [
        ("!!int '0x10'", json!(16)),
        ("!!float 3", json!(3.0)),
        ("!!bool 'YES'", json!(true)),
        ("!!null ''", json!(null)),
        ("! 12", json!("12")),
        ("!!map {a: 1}", json!({"a": 1})),
        ("!!seq [1]", json!([1])),
    ];
    for (text, expected) in table {
        assert_eq!(value(text), expected, "{text}");
    }
    for text in [
        "!!int x",
        "!!binary aGk=",
        "!mine x",
        "!!set {a}",
        "!!str [1]",
    ] {
        assert_eq!(
            mistake(text).remedy,
            "write the value without the tag",
            "{text}"
        );
    }
}

#[test]
fn aliases_and_merge_keys_are_resolved() {
    let text = "base: &base {mtu: 1420, name: a}\n\
                one: {<<: *base, name: b}\n\
                both: {<<: [{name: c}, *base], x: 1}\n\
                '<<': kept\n\
                list: [*base]\n";
    let expected = json!({
        "base": {"mtu": 1420, "name": "a"},
        "one": {"mtu": 1420, "name": "b"},
        "both": {"mtu": 1420, "name": "c", "x": 1},
        "<<": "kept",
        "list": [{"mtu": 1420, "name": "a"}],
    });
    assert_eq!(value(text), expected);
    assert!(mistake("<<: 5").what.contains("<< has a number"));
    assert!(mistake("a: <<").what.contains("<< without quotes"));
    assert!(mistake("a: =").what.contains("= without quotes"));
    assert_eq!(value("=: a"), json!({"=": "a"}));
}

#[test]
fn keys_get_the_names_of_json() {
    let text = "1: a\nyes: b\n~: c\n";
    assert_eq!(value(text), json!({"1": "a", "true": "b", "null": "c"}));
    assert!(mistake("? [a]\n: b").what.contains("this key is a list"));
    assert!(mistake("1.5: a").what.contains("this key is a number"));
}

#[test]
fn repeated_keys_are_told() {
    let document = read("a: 1\nb: 2\nc:\n  - a: 3\n    a: 4\n").unwrap();
    let mark = Mark { line: 5, column: 5 };
    let key = "a".to_owned();
    assert_eq!(document.repeated, [Repeated { key, mark }]);
    assert_eq!(document.root.json().unwrap()["c"][0]["a"], 4);
}

#[test]
fn mistakes_have_a_place() {
    let table = [
        ("a: 1\nb: [1, 2\nc: 3\n", 3),
        ("a: 1\n---\nb: 2\n", 2),
        ("a: *none\n", 1),
        ("a: &a [*a]\n", 1),
        ("a: 1\nb: \u{1}\n", 2),
        ("a: 1\n b: 2\n", 2),
        ("", 1),
        ("# nothing\n", 1),
    ];
    for (text, line) in table {
        assert_eq!(mistake(text).mark.line, line, "{text}: {:?}", mistake(text));
    }
    assert_eq!(mistake("a: 1\nb: \u{1}\n").mark.column, 4);
}

/// Ten lines of aliases would be ten billion values.
#[test]
fn what_aliases_stand_for_has_a_limit() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let before = format!("*a{}", level - 1);
        let list = vec![before; 10].join(", ");
        text += &format!("a{level}: &a{level} [{list}]\n");
    }
    assert!(mistake(&text).what.contains("more than 100000 values"));

    let keys: Vec<String> = (0..1000).map(|key| format!("k{key}: 1")).collect();
    let mut text = format!("base: &base {{{}}}\nlist:\n", keys.join(", "));
    text += &"- {<<: *base}\n".repeat(1000);
    assert!(mistake(&text).what.contains("<< has copied more than"));

    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    assert!(mistake(&deep).what.contains("in each other"));
}

proptest::proptest! {
    /// The reader ends with a value or a mistake, whatever it is given.
    #[test]
    fn no_text_is_too_strange(text in "[-:\\[\\]{}&*!<'\"|>#,?~=%@ \n\ta-c0-9._x+]{0,60}") {
        if let Ok(document) = read(&text) {
            let _ = document.root.json();
        }
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        if let Ok(document) = read(&String::from_utf8_lossy(&bytes)) {
            let _ = document.root.json();
        }
    }
}
