//! Plain scalars by the rules of YAML 1.1, in the order in which PyYAML tries them.

use super::Data;

/// Returns the value of a scalar without quotes.
///
/// # Errors
/// It has the form of a number that has no digits, such as `0x_`.
pub fn resolve(text: &str) -> Result<Data, String> {
    if let Some(value) = boolean(text) {
        return Ok(Data::Bool(value));
    }
    if let Some(value) = float(text) {
        return Ok(Data::Float(value));
    }
    if let Some(value) = integer(text) {
        return value.ok_or_else(|| format!("{text} is a number of YAML 1.1 without digits"));
    }
    Ok(match text {
        "<<" => Data::Merge,
        "=" => Data::Default,
        "" | "~" | "null" | "Null" | "NULL" => Data::Null,
        text if is_date(text) => Data::Date,
        text => Data::Text(text.to_owned()),
    })
}

/// Returns the value of a scalar with the tag `!!bool`, or without quotes.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// Splits the sign from a number.
fn sign(text: &str) -> (f64, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    }
}

fn is_digit_or_line(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'_'
}

/// Returns true if a text is a digit, followed by digits and `_`.
fn is_decimal(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit()) && text.bytes().all(is_digit_or_line)
}

/// Returns the parts of a number of base 60, such as `70:10:20`; `None`: it is none.
fn base_60(text: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_part = |part: &&str| match part.as_bytes() {
        [unit] => unit.is_ascii_digit(),
        [ten, unit] => (b'0'..=b'5').contains(ten) && unit.is_ascii_digit(),
        _ => false,
    };
    let is_number = parts.len() > 1 && is_decimal(parts[0]) && parts[1..].iter().all(is_part);
    is_number.then_some(parts)
}

/// Returns the value of a number with a fraction. Whole numbers have another form.
fn float(text: &str) -> Option<f64> {
    let (sign, rest) = sign(text);
    match rest {
        ".inf" | ".Inf" | ".INF" => return Some(sign * f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" if rest == text => return Some(f64::NAN),
        _ => {}
    }
    let (whole, fraction) = rest.split_once('.')?;
    if let Some(parts) = base_60(whole)
        && fraction.bytes().all(is_digit_or_line)
    {
        let value = |part: &str| part.replace('_', "").parse::<f64>().unwrap_or(0.0);
        let last = parts.len() - 1;
        let digits = |index: usize| match index == last {
            true => value(&format!("{}.{fraction}", parts[index])),
            false => value(parts[index]),
        };
        let sum = (0..parts.len()).fold(0.0, |sum, index| sum * 60.0 + digits(index));
        return Some(sign * sum);
    }
    let (digits, exponent) = match fraction.find(['e', 'E']) {
        Some(at) => (&fraction[..at], Some(&fraction[at + 1..])),
        None => (fraction, None),
    };
    // YAML 1.1 wants the sign of the exponent.
    let is_exponent = exponent.is_none_or(|exponent| {
        exponent.starts_with(['+', '-'])
            && exponent.len() > 1
            && exponent[1..].bytes().all(|byte| byte.is_ascii_digit())
    });
    let is_float = match whole {
        // PyYAML wants no sign before a point.
        "" => rest == text && is_decimal(digits),
        whole => is_decimal(whole) && digits.bytes().all(is_digit_or_line),
    };
    if !is_float || !is_exponent {
        return None;
    }
    rest.replace('_', "")
        .parse()
        .ok()
        .map(|value: f64| sign * value)
}

/// Returns the value of a whole number; `Some(None)`: it has the form of one, and no digits.
fn integer(text: &str) -> Option<Option<Data>> {
    let (sign, rest) = sign(text);
    if let Some(parts) = base_60(rest).filter(|parts| !parts[0].starts_with('0')) {
        let mut parts = parts.iter().map(|part| number(part, 10));
        let sum = parts.try_fold(0.0, |sum, part| Some(sum * 60.0 + part?));
        let exact = rest.split(':').try_fold(0_i128, |sum, part| {
            let part: i128 = part.replace('_', "").parse().ok()?;
            sum.checked_mul(60)?.checked_add(part)
        });
        return Some(sum.map(|sum| whole(sign, exact, sum)));
    }
    let (digits, base) = match rest.as_bytes() {
        [b'0', b'b', ..] => (&rest[2..], 2),
        [b'0', b'x', ..] => (&rest[2..], 16),
        [b'0', _, ..] => (&rest[1..], 8),
        _ => (rest, 10),
    };
    let is_digit = |byte: u8| byte == b'_' || char::from(byte).is_digit(base);
    let is_number = match base {
        10 => is_decimal(digits),
        _ => !digits.is_empty() && digits.bytes().all(is_digit),
    };
    if !is_number {
        return None;
    }
    let plain = digits.replace('_', "");
    // `0_` is 0 for PyYAML; `0x_` is an error.
    if base == 8 && plain.is_empty() {
        return Some(Some(Data::Integer(0)));
    }
    let exact = i128::from_str_radix(&plain, base).ok();
    Some(number(digits, base).map(|rounded| whole(sign, exact, rounded)))
}

fn whole(sign: f64, exact: Option<i128>, rounded: f64) -> Data {
    match exact {
        Some(value) if sign < 0.0 => Data::Integer(-value),
        Some(value) => Data::Integer(value),
        None => Data::Float(sign * rounded),
    }
}

/// Returns the value of digits and `_`, rounded; `None`: there are no digits.
fn number(digits: &str, base: u32) -> Option<f64> {
    if base == 10 {
        return digits.replace('_', "").parse().ok();
    }
    let mut values = digits.chars().filter_map(|digit| digit.to_digit(base));
    let first = values.next()?;
    Some(values.fold(f64::from(first), |sum, digit| {
        sum * f64::from(base) + f64::from(digit)
    }))
}

/// Returns the value of a scalar with the tag `!!int`, quotes or not.
pub fn tagged_integer(text: &str) -> Option<Data> {
    integer(text).flatten()
}

/// Returns the value of a scalar with the tag `!!float`, quotes or not.
pub fn tagged_float(text: &str) -> Option<f64> {
    let whole = || match integer(text)?? {
        Data::Integer(value) => Some(value as f64),
        Data::Float(value) => Some(value),
        _ => None,
    };
    float(text).or_else(whole)
}

/// Returns true for `2020-01-31`, and for a date with a time such as `2020-1-31 1:30:00.5 +1:00`.
fn is_date(text: &str) -> bool {
    let mut rest = Rest(text);
    if text.len() == 10 && rest.digits(4, 4) && rest.one("-") && rest.digits(2, 2) && rest.one("-")
    {
        return rest.digits(2, 2);
    }
    let mut rest = Rest(text);
    let date = rest.digits(4, 4) && rest.one("-") && rest.digits(1, 2);
    if !(date && rest.one("-") && rest.digits(1, 2)) {
        return false;
    }
    if !rest.one("Tt") && rest.skip(" \t") == 0 {
        return false;
    }
    let hour = rest.digits(1, 2) && rest.one(":") && rest.digits(2, 2);
    if !(hour && rest.one(":") && rest.digits(2, 2)) {
        return false;
    }
    if rest.one(".") {
        rest.skip("0123456789");
    }
    if rest.0.is_empty() {
        return true;
    }
    rest.skip(" \t");
    let zone = rest.one("Z") || (rest.one("+-") && rest.digits(1, 2));
    let minutes = rest.0.is_empty() || (rest.one(":") && rest.digits(2, 2));
    zone && minutes && rest.0.is_empty()
}

/// Rest of a text that is compared from its beginning.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    /// Takes one of these ASCII characters.
    fn one(&mut self, characters: &str) -> bool {
        let is_there = self.0.starts_with(|first| characters.contains(first));
        if is_there {
            self.0 = &self.0[1..];
        }
        is_there
    }

    /// Takes these ASCII characters as long as there are any, and returns their number.
    fn skip(&mut self, characters: &str) -> usize {
        let before = self.0.len();
        while self.one(characters) {}
        before - self.0.len()
    }

    /// Takes as many digits as there are, at most `most`.
    fn digits(&mut self, least: usize, most: usize) -> bool {
        (0..most).take_while(|_| self.one("0123456789")).count() >= least
    }
}
