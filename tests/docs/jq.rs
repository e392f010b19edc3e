//! The part of jq's language that sample outputs use: paths, `[]`, `[n]`, `|`, and at the end of a
//! compact filter `{a, b: .c}`.

use serde_json::Value;

/// Returns the output of `jq FILTER`, or of `jq -c FILTER` if `compact`.
pub fn print(input: &Value, filter: &str, compact: bool) -> String {
    let mut values = vec![input.clone()];
    let mut lines = Vec::new();
    for stage in filter.split(" | ") {
        assert!(lines.is_empty(), "{{…}} comes last: {filter}");
        if let Some(members) = stage
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        {
            assert!(compact, "{{…}} goes with -c: {filter}");
            lines = values.iter().map(|value| object(value, members)).collect();
        } else {
            values = values.iter().flat_map(|value| path(value, stage)).collect();
        }
    }
    if lines.is_empty() {
        let text = |value: &Value| match compact {
            true => value.to_string(),
            false => serde_json::to_string_pretty(value).unwrap(),
        };
        lines = values.iter().map(text).collect();
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// The object `{a, b: .c}` with its members in this order, as jq prints it.
fn object(input: &Value, members: &str) -> String {
    let member = |member: &str| {
        let (key, of) = member.split_once(": ").unwrap_or((member, ""));
        let of = if of.is_empty() {
            format!(".{key}")
        } else {
            of.to_owned()
        };
        let value = path(input, &of).into_iter().next().unwrap_or_default();
        format!("\"{key}\":{value}")
    };
    format!(
        "{{{}}}",
        members
            .split(", ")
            .map(member)
            .collect::<Vec<_>>()
            .join(",")
    )
}

/// `.`, `.a.b`, `.a[].b`, `.a[0]`, `."a/b"`.
fn path(input: &Value, path: &str) -> Vec<Value> {
    let mut values = vec![input.clone()];
    let mut rest = path
        .strip_prefix('.')
        .unwrap_or_else(|| panic!("no path: {path}"));
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some(index) = rest.strip_prefix('[') {
            let (index, after) = index.split_once(']').unwrap();
            let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
            values = values.iter().flat_map(items).collect();
            if let Ok(index) = index.parse::<usize>() {
                values = values.into_iter().skip(index).take(1).collect();
            }
            rest = after;
            continue;
        }
        let (key, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap(),
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        values = values
            .iter()
            .map(|value| value.get(key).cloned().unwrap_or_default())
            .collect();
        rest = after;
    }
    values
}

#[test]
fn understands_what_the_pages_use() {
    let input = serde_json::json!({"agents": [{"ip": "a", "x": [{"y": 1}]}, {"ip": "b", "x": []}], "o/p": 2});
    let lines = "{\"ip\":\"a\",\"a\":1}\n{\"ip\":\"b\",\"a\":null}\n";
    assert_eq!(print(&input, ".agents[] | {ip, a: .x[0].y}", true), lines);
    assert_eq!(print(&input, ".\"o/p\"", false), "2\n");
    assert_eq!(print(&input, ".agents[0].x", true), "[{\"y\":1}]\n");
}
