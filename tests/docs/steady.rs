//! Outputs without what varies from run to run and from machine to machine.

/// The values behind these words depend on kernel, tools and chance.
const VARYING: &[&str] = &[
    "numtxqueues",
    "numrxqueues",
    "gso_max_size",
    "gso_max_segs",
    "tso_max_size",
    "tso_max_segs",
    "gro_max_size",
    "gso_ipv4_max_size",
    "gro_ipv4_max_size",
    "qlen",
    "minmtu",
    "maxmtu",
    "Revision:",
    "bucketsize",
    "initval",
    "memory:",
    "took",
    "packets",
    "bytes",
];

/// A text without the times in the lines of logs.
pub fn log(text: &str) -> String {
    text.lines().map(|line| without_time(line) + "\n").collect()
}

/// The output of a kernel's tools and of Mesos without what varies.
pub fn output(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(line).collect();
    // The members of a set come in the order of their hashes.
    for members in lines.chunk_by_mut(|a, b| a.contains(" packets ") && b.contains(" packets ")) {
        members.sort();
    }
    lines.join("\n")
}

/// `I1130 10:15:00.000000  4711 mesos_overlay:0] text` as `I mesos_overlay:0] text`.
fn without_time(line: &str) -> String {
    let mut words = line.splitn(2, char::is_whitespace);
    let first = words.next().unwrap_or_default();
    let is_date = |date: &str| date.len() == 4 && date.bytes().all(|byte| byte.is_ascii_digit());
    let severity = first
        .get(..1)
        .filter(|_| first.get(1..).is_some_and(is_date));
    let rest = words.next().and_then(|rest| {
        let (_time, rest) = rest.trim_start().split_once(' ')?;
        Some(rest.trim_start().split_once(' ')?.1)
    });
    match (severity, rest) {
        (Some(severity), Some(rest)) => format!("{severity} {rest}"),
        _ => line.to_owned(),
    }
}

fn line(line: &str) -> String {
    let line = without_time(line);
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if words.first() == Some(&"Date:") {
        words.truncate(1);
    }
    // The index of a device.
    if words
        .first()
        .and_then(|word| word.strip_suffix(':'))
        .is_some_and(|n| n.parse::<u32>().is_ok())
    {
        words[0] = "N:";
    }
    for index in 0..words.len() {
        let is_number = words[index].parse::<f64>().is_ok();
        let is_time = is_number
            && words
                .get(index + 1)
                .is_some_and(|unit| ["ms", "s"].contains(&unit.trim_end_matches(',')));
        if is_time
            || is_release(words[index])
            || is_duration(words[index])
            || index > 0 && VARYING.contains(&words[index - 1])
        {
            words[index] = "…";
        }
    }
    words.join(" ")
}

/// `0.2.0` and the like.
fn is_release(word: &str) -> bool {
    let numbers: Vec<&str> = word.split('.').collect();
    numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u16>().is_ok())
}

/// `3ms`, `1.5s,` and the like.
fn is_duration(word: &str) -> bool {
    let word = word.trim_end_matches(',');
    let number = word.trim_end_matches(['n', 'm', 's', 'µ']);
    number.len() < word.len() && number.parse::<f64>().is_ok()
}

#[test]
fn only_what_varies_is_left_out() {
    let a = "I1130 10:15:00.000001  4711 mesos_overlay:0] overlay-agent: 14 operations in 3ms, 0 failed";
    let b = "I1201 11:16:00.000002  12 mesos_overlay:0] overlay-agent: 14 operations in 12.5ms, 0 failed";
    assert_eq!(output(a), output(b));
    assert_ne!(log(a), log(b));
    assert_ne!(output(a), output(&b.replace("14", "15")));
    assert_ne!(log(a), log(&a.replacen('I', "E", 1)));
    assert_eq!(
        output("3: vtep1024: <UP> mtu 1450 qlen 1"),
        output("12: vtep1024: <UP> mtu 1450 qlen 9")
    );
    assert_eq!(
        output("vtep answers in 0.10 ms, gateway answers in 2 ms"),
        output("vtep answers in 0.09 ms, gateway answers in 1 ms")
    );
    assert_ne!(
        output("3: vtep1024: <UP> mtu 1450"),
        output("3: vtep1024: <UP> mtu 1449")
    );
    assert_eq!(output("release 0.2.0"), output("release 10.0.1"));
    assert_ne!(output("at 10.0.0.1"), output("at 10.0.0.2"));
    assert_eq!(
        output("9.0.0.0/8 packets 0 bytes 1\n1.0.0.0/8 packets 0 bytes 0"),
        output("1.0.0.0/8 packets 2 bytes 0\n9.0.0.0/8 packets 0 bytes 1")
    );
}
