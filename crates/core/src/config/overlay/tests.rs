//! Tests of definitions.

use super::*;

fn parse_definition(
    source: &str,
    text: &str,
    name: Option<&str>,
) -> Result<Definition, ConfigError> {
    parse_request(source, text, name).map(|request| request.definition)
}

#[test]
fn names_are_checked() {
    for name in ["a", "a23456789-123", "9", "A_b.c"] {
        assert!(is_overlay_name(name), "{name}");
    }
    for name in [
        "",
        "a23456789-1234",
        ".a",
        "_a",
        "a/b",
        "ä",
        "host",
        "bridge",
        "default",
        "none",
    ] {
        assert!(!is_overlay_name(name), "{name}");
    }
}

#[test]
fn a_definition_has_one_name() {
    let ranges = r#""subnet": "9.0.0.0/8", "prefix": 24"#;
    let web = |text: &str| parse_definition("body", text, Some("web"));
    let unnamed = web(&format!("{{{ranges}}}")).unwrap();
    assert_eq!(
        (unnamed.config.name.as_str(), unnamed.info.name.as_str()),
        ("web", "web")
    );
    assert_eq!(web(&format!(r#"{{"name": "web", {ranges}}}"#)), Ok(unnamed));
    let error = |text: &str| web(text).unwrap_err().to_string();
    assert_eq!(
        error(&format!(r#"{{"name": "dcos", {ranges}}}"#)),
        "body: name: \"dcos\" is not the name in the path; the name of an overlay is fixed: write \"web\" or nothing"
    );
    let named =
        parse_definition("body", &format!(r#"{{"name": "dcos", {ranges}}}"#), None).unwrap();
    assert_eq!(
        (named.config.name.as_str(), named.info.name.as_str()),
        ("dcos", "dcos")
    );
    let missing = parse_definition("body", &format!("{{{ranges}}}"), None).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("body: name: missing; give a name"),
        "{missing}"
    );
}

#[test]
fn unknown_and_duplicate_keys_of_a_request_are_mistakes() {
    let text = r#"{"prefix": 24, "subnet": "9.0.0.0/8", "enable": true, "prefix": 25}"#;
    let error = parse_definition("body", text, Some("web")).unwrap_err();
    assert_eq!(
        error.lines(),
        [
            "body: enable: unknown key; did you mean \"enabled\"?",
            "body: prefix: given twice; keep one of them",
        ]
    );
}

#[test]
fn all_mistakes_of_a_request_are_reported() {
    let text = r#"{"subnet": "9.0.0.1/8", "prefix": 24, "subnet6": "fd01:b::/64", "prefix6": 10,
                   "enabled": "yes", "name": "a b"}"#;
    let error = parse_definition("body", text, None).unwrap_err();
    let lines = error.lines();
    let fields: Vec<_> = lines.iter().map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(
        fields,
        ["subnet", "prefix6", "enabled", "name"].map(Some),
        "{error}"
    );
    assert_eq!(
        lines[0],
        "body: subnet: \"9.0.0.1/8\" has bits set after its prefix; write \"9.0.0.0/8\" if that is meant"
    );
}

#[test]
fn checks_that_depend_on_a_mistake_are_skipped() {
    for (fields, mistakes) in [
        (r#""subnet": 9, "prefix": 300"#, &["subnet"][..]),
        (r#""subnet": "9.0.0.0", "prefix": 300"#, &["subnet"]),
        (r#""subnet": "9.0.0.0/8", "prefix": "24""#, &["prefix"]),
        (r#""subnet6": 9"#, &["subnet6"]),
        (r#""prefix6": 64"#, &["subnet6"]),
    ] {
        let text = format!(r#"{{"name": "a", {fields}}}"#);
        let error = parse_definition("body", &text, None).unwrap_err();
        let found: Vec<_> = error.mistakes().iter().map(|m| m.field.as_str()).collect();
        assert_eq!(found, mistakes, "{error}");
    }
}

#[test]
fn a_request_for_a_useless_overlay_is_refused() {
    for (fields, says) in [
        (
            r#""subnet": "127.0.0.0/8", "prefix": 24"#,
            "subnet: \"127.0.0.0/8\" overlaps the loopback range",
        ),
        (
            r#""subnet": "224.0.0.0/4", "prefix": 24"#,
            "subnet: \"224.0.0.0/4\" overlaps the multicast range",
        ),
        (
            r#""subnet": "240.0.0.0/4", "prefix": 24"#,
            "subnet: \"240.0.0.0/4\" overlaps the broadcast range",
        ),
        (
            r#""subnet": "0.0.0.0/8", "prefix": 24"#,
            "subnet: \"0.0.0.0/8\" overlaps the unspecified range",
        ),
        (
            r#""subnet": "0.0.0.0/0", "prefix": 24"#,
            "subnet: \"0.0.0.0/0\" overlaps the",
        ),
        (
            r#""subnet": "169.254.0.0/16", "prefix": 24"#,
            "overlaps the link-local range",
        ),
        (
            r#""subnet6": "ff00::/8", "prefix6": 64"#,
            "subnet6: \"ff00::/8\" overlaps the multicast range",
        ),
        (
            r#""subnet6": "::/0", "prefix6": 64"#,
            "subnet6: \"::/0\" overlaps the",
        ),
        (
            r#""subnet6": "fe80::/16", "prefix6": 64"#,
            "overlaps the link-local range",
        ),
        (
            r#""subnet": "9.0.0.0/8", "prefix": 31"#,
            "prefix: 31 leaves no address for a container in an agent's subnet; give a prefix length of at \
             most 30, or 29 where agents have bridges",
        ),
        (
            r#""subnet6": "fd01:b::/64", "prefix6": 127"#,
            "prefix6: 127 leaves no address for a container in an agent's subnet; give a prefix length of at \
             most 126, or 125 where agents have bridges",
        ),
    ] {
        let text = format!(r#"{{"name": "a", {fields}}}"#);
        let error = parse_definition("body", &text, None).unwrap_err();
        assert_eq!(error.mistakes().len(), 1, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        // An overlay that a file has can be turned off.
        let off = format!(r#"{{"name": "a", {fields}, "enabled": false}}"#);
        assert!(parse_definition("body", &off, None).is_ok(), "{fields}");
        // An overlay in the log stays.
        let info = proto::OverlayInfo {
            name: "a".into(),
            subnet: fields.contains("240").then(|| "240.0.0.0/4".into()),
            prefix: fields.contains("240").then_some(31),
            subnet6: (!fields.contains("240")).then(|| "ff00::/8".into()),
            prefix6: (!fields.contains("240")).then_some(127),
            ..proto::OverlayInfo::default()
        };
        assert!(Definition::from_log(info).is_ok());
    }
    for fields in [
        r#""subnet": "9.0.0.0/8", "prefix": 30"#,
        r#""subnet": "250.0.0.0/8", "prefix": 24"#,
        r#""subnet6": "fd01:b::/64", "prefix6": 126"#,
    ] {
        let text = format!(r#"{{"name": "a", {fields}}}"#);
        assert!(parse_definition("body", &text, None).is_ok(), "{fields}");
    }
}

#[test]
fn a_definition_is_read_from_the_log_as_it_was_written() {
    for text in [
        r#"{"name": "a", "subnet": "9.0.0.0/8", "prefix": 24, "enabled": false}"#,
        r#"{"name": "a", "subnet": "9.0.0.0/8", "prefix": 24, "enabled": true}"#,
        r#"{"name": "a", "subnet6": "FD01:B::/64", "prefix6": 80}"#,
        r#"{"name": "a", "subnet": "9.0.0.0/8", "prefix": 24, "subnet6": "fd01:b::/64", "prefix6": 80}"#,
    ] {
        let definition = parse_definition("body", text, None).unwrap();
        assert_eq!(definition.config.enabled, !text.contains("false"));
        let info = definition.info.clone();
        assert_eq!(Definition::from_log(info), Ok(definition), "{text}");
    }
    let invalid = proto::OverlayInfo {
        name: "a".into(),
        subnet: Some("9.0.0.1/8".into()),
        prefix6: Some(64),
        ..proto::OverlayInfo::default()
    };
    assert_eq!(
        Definition::from_log(invalid).unwrap_err(),
        "the definition of overlay \"a\" in the replicated log is invalid: subnet \"9.0.0.1/8\" has bits set \
         after its prefix, subnet6 is missing"
    );
}

#[test]
fn force_is_no_part_of_a_definition() {
    let request = |force: &str| {
        let text = format!(r#"{{"name": "a", "subnet": "9.0.0.0/8", "prefix": 24{force}}}"#);
        parse_request("body", &text, None).map(|request| (request.force, request.definition.info))
    };
    let (_, info) = request("").unwrap();
    assert_eq!(request(r#", "force": true"#), Ok((true, info.clone())));
    assert_eq!(request(r#", "force": false"#), Ok((false, info)));
    let error = request(r#", "force": 1"#).unwrap_err().to_string();
    assert!(error.starts_with("body: force: "), "{error}");
}
