//! The definition of an overlay: as an operator wrote it, and as checked values.
//!
//! A definition comes from three sources, the configuration file, a request and the replicated
//! log, and is checked in the same way for all.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::error::ConfigError;
use super::reader::{Field, Invalid, Object, Parsed, Reported, Strictness, read};
use super::{MAX_OVERLAY_NAME, OverlayConfig, Range};
use crate::proto;
use crate::util::special_purpose;

/// The keys of a definition.
pub(super) const KEYS: &[&str] = &["name", "subnet", "prefix", "subnet6", "prefix6", "enabled"];

/// The keys of a request to add or change an overlay.
const REQUEST_KEYS: &[&str] = &[
    "name", "subnet", "prefix", "subnet6", "prefix6", "enabled", "force",
];

/// Names of networks that Docker creates itself.
const RESERVED_NAMES: [&str; 4] = ["host", "bridge", "default", "none"];

/// The definition of an overlay. The values are those of the wire form, checked.
///
/// A definition is checked alone. The master checks it against other overlays and allocations.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    config: OverlayConfig,
    info: proto::OverlayInfo,
}

/// A mistake in one field of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldMistake {
    /// The field has no value.
    Missing {
        /// The key.
        key: &'static str,
        /// The remedy, as an imperative.
        remedy: String,
    },
    /// The field has a wrong value.
    Wrong {
        /// The key.
        key: &'static str,
        /// The end of a sentence that begins with the value.
        what: String,
        /// The remedy, as an imperative.
        remedy: String,
    },
}

impl Definition {
    /// Checks a definition.
    ///
    /// # Errors
    /// All mistakes in it.
    pub fn new(info: proto::OverlayInfo) -> Result<Definition, Vec<FieldMistake>> {
        let mut mistakes = Vec::new();
        let fields = Fields::of(&info);
        let values = fields.check(&mut |mistake| {
            mistakes.push(mistake);
            Reported
        });
        match values.complete() {
            Ok(config) => Ok(Definition { config, info }),
            Err(Reported) => Err(mistakes),
        }
    }

    /// Checks a definition in the replicated log.
    ///
    /// # Errors
    /// A sentence with all mistakes.
    pub fn from_log(info: proto::OverlayInfo) -> Result<Definition, String> {
        let json = overlay_json(&info);
        Definition::new(info).map_err(|mistakes| {
            let phrase = |mistake: &FieldMistake| match mistake {
                FieldMistake::Missing { key, .. } => format!("{key} is missing"),
                FieldMistake::Wrong { key, what, .. } => format!("{key} {} {what}", json[*key]),
            };
            let phrases: Vec<String> = mistakes.iter().map(phrase).collect();
            format!(
                "the definition of overlay {} in the replicated log is invalid: {}",
                json["name"],
                phrases.join(", ")
            )
        })
    }

    /// Reads the definition at `object`.
    pub(super) fn read(object: &Object<'_>) -> Draft {
        Draft::read(object, object.string("name"))
    }

    /// Returns the checked values.
    pub fn config(&self) -> &OverlayConfig {
        &self.config
    }

    /// Returns the definition as the operator wrote it, which endpoints show and the log stores.
    pub fn info(&self) -> &proto::OverlayInfo {
        &self.info
    }

    /// Returns the name of the overlay.
    pub fn name(&self) -> &str {
        &self.config.name
    }
}

/// Returns a definition with its keys and values as an operator would write them.
fn overlay_json(info: &proto::OverlayInfo) -> serde_json::Value {
    serde_json::json!({
        "name": info.name, "subnet": info.subnet, "prefix": info.prefix,
        "subnet6": info.subnet6, "prefix6": info.prefix6, "enabled": info.enabled,
    })
}

/// A request to add or change an overlay.
#[derive(Clone, Debug, PartialEq)]
pub struct DefinitionRequest {
    /// The definition.
    pub definition: Definition,
    /// `force`: the range may contain hosts.
    pub force: bool,
}

/// Reads a request, an object as in `network.overlays`. `name` is the name in the path of the
/// request; without one, the definition must have a name. `source` stands for the file in errors.
///
/// # Errors
/// All mistakes. Unknown and duplicate keys are mistakes, too.
pub fn parse_request(
    source: &str,
    text: &str,
    name: Option<&str>,
) -> Result<DefinitionRequest, ConfigError> {
    let parsed = read(source, text, REQUEST_KEYS, Strictness::Strict, |object| {
        let written = object.string("name");
        let name = match (name, written) {
            (Some(name), Ok(Some(written))) if name != written => {
                let remedy =
                    format!("the name of an overlay is fixed: write \"{name}\" or nothing");
                Err(object.wrong("name", "is not the name in the path", &remedy))
            }
            (Some(name), Ok(_)) => Ok(Some(name)),
            (_, written) => written,
        };
        let force = object.boolean("force");
        let definition = Draft::read(object, name).complete()?;
        Ok(DefinitionRequest {
            definition,
            force: force?.unwrap_or(false),
        })
    });
    parsed.map(|Parsed { config, .. }| config)
}

/// The fields of a definition before they are checked. `Err` stands for a field whose mistake
/// is reported already.
struct Fields<'a> {
    name: Field<&'a str>,
    subnet: Field<&'a str>,
    prefix: Field<u32>,
    subnet6: Field<&'a str>,
    prefix6: Field<u32>,
    enabled: Field<bool>,
}

/// The checked fields of a definition. `Err` stands for a field with a mistake.
pub(super) struct Values {
    /// The name.
    pub name: Result<String, Reported>,
    /// The IPv4 range.
    pub v4: Field<Range>,
    /// The IPv6 range.
    pub v6: Field<Range>,
    enabled: Result<bool, Reported>,
}

/// A definition that was read and may have mistakes.
pub(super) struct Draft {
    /// The checked fields.
    pub values: Values,
    info: Result<proto::OverlayInfo, Reported>,
}

/// The destination of mistakes.
type Report<'r> = &'r mut dyn FnMut(FieldMistake) -> Reported;

/// The keys of a range, and an example of it.
struct RangeKeys {
    subnet: &'static str,
    prefix: &'static str,
    example: &'static str,
}

const V4: RangeKeys = RangeKeys {
    subnet: "subnet",
    prefix: "prefix",
    example: "such as \"9.0.0.0/8\"",
};
const V6: RangeKeys = RangeKeys {
    subnet: "subnet6",
    prefix: "prefix6",
    example: "such as \"fd01:b::/64\"",
};

impl Draft {
    fn read<'a>(object: &Object<'a>, name: Field<&'a str>) -> Draft {
        let fields = Fields {
            name,
            subnet: object.string("subnet"),
            prefix: object.number("prefix", 0..=u32::MAX),
            subnet6: object.string("subnet6"),
            prefix6: object.number("prefix6", 0..=u32::MAX),
            enabled: object.boolean("enabled"),
        };
        let mut values = fields.check(&mut |mistake| match mistake {
            FieldMistake::Missing { key, remedy } => object.missing(key, &remedy),
            FieldMistake::Wrong { key, what, remedy } => object.wrong(key, &what, &remedy),
        });
        for (keys, range) in [(&V4, &mut values.v4), (&V6, &mut values.v6)] {
            // So the overlay of a file can be turned off as it is.
            if values.enabled != Ok(false)
                && let Ok(Some(found)) = *range
                && let Err(reported) = check_use(object, keys, found)
            {
                *range = Err(reported);
            }
        }
        Draft {
            values,
            info: fields.info(),
        }
    }

    /// Returns the definition if it has no mistake.
    pub fn complete(self) -> Result<Definition, Reported> {
        Ok(Definition {
            config: self.values.complete()?,
            info: self.info?,
        })
    }
}

impl Values {
    fn complete(self) -> Result<OverlayConfig, Reported> {
        Ok(OverlayConfig {
            name: self.name?,
            v4: self.v4?,
            v6: self.v6?,
            enabled: self.enabled?,
        })
    }
}

impl<'a> Fields<'a> {
    fn of(info: &'a proto::OverlayInfo) -> Fields<'a> {
        Fields {
            name: Ok(Some(&info.name)),
            subnet: Ok(info.subnet.as_deref()),
            prefix: Ok(info.prefix),
            subnet6: Ok(info.subnet6.as_deref()),
            prefix6: Ok(info.prefix6),
            enabled: Ok(info.enabled),
        }
    }

    fn info(&self) -> Result<proto::OverlayInfo, Reported> {
        Ok(proto::OverlayInfo {
            name: self.name?.unwrap_or_default().to_owned(),
            subnet: self.subnet?.map(str::to_owned),
            prefix: self.prefix?,
            subnet6: self.subnet6?.map(str::to_owned),
            prefix6: self.prefix6?,
            enabled: self.enabled?,
        })
    }

    fn check(&self, report: Report<'_>) -> Values {
        let name = check_name(self.name, report);
        let mut v4 = check_range::<Ipv4Net>(&V4, self.subnet, self.prefix, report);
        let v6 = check_range::<Ipv6Net>(&V6, self.subnet6, self.prefix6, report);
        if (v4, v6) == (Ok(None), Ok(None)) {
            v4 = Err(report(FieldMistake::Missing {
                key: V4.subnet,
                remedy:
                    "give subnet and prefix for IPv4, subnet6 and prefix6 for IPv6, or all four"
                        .to_owned(),
            }));
        }
        Values {
            name,
            v4,
            v6,
            enabled: self.enabled.map(|enabled| enabled.unwrap_or(true)),
        }
    }
}

/// Checks a name. It becomes part of the names of network devices, of a file, and of a Docker
/// network.
fn check_name(name: Field<&str>, report: Report<'_>) -> Result<String, Reported> {
    const KEY: &str = "name";
    let remedy = format!(
        "give a name of 1 to {MAX_OVERLAY_NAME} letters, digits and _ . - that begins with a letter or digit"
    );
    let Some(name) = name? else {
        return Err(report(FieldMistake::Missing { key: KEY, remedy }));
    };
    let what = if RESERVED_NAMES.contains(&name) {
        "is reserved by Docker".to_owned()
    } else if name.chars().count() > MAX_OVERLAY_NAME {
        format!("has more than {MAX_OVERLAY_NAME} characters")
    } else if !is_overlay_name(name) {
        "is not a valid name of network devices and files".to_owned()
    } else {
        return Ok(name.to_owned());
    };
    Err(report(FieldMistake::Wrong {
        key: KEY,
        what,
        remedy,
    }))
}

/// Returns whether `name` is a valid name of an overlay.
pub fn is_overlay_name(name: &str) -> bool {
    let is_valid = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    name.len() <= MAX_OVERLAY_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(is_valid)
        && !RESERVED_NAMES.contains(&name)
}

/// Checks a range and the prefix length of the subnets in it.
fn check_range<N>(
    keys: &RangeKeys,
    subnet: Field<&str>,
    prefix: Field<u32>,
    report: Report<'_>,
) -> Field<Range>
where
    N: Copy + Into<IpNet> + std::str::FromStr,
{
    let RangeKeys {
        subnet: key,
        prefix: prefix_key,
        example,
    } = *keys;
    let Some(subnet) = subnet? else {
        if prefix?.is_none() {
            return Ok(None);
        }
        let remedy = format!(
            "give the range that is divided into subnets, {example}, or remove {prefix_key}"
        );
        return Err(report(FieldMistake::Missing { key, remedy }));
    };
    let net = parse_net::<N>(subnet, example)
        .map(Into::into)
        .and_then(check_range_length)
        .map_err(|Invalid { what, remedy }| report(FieldMistake::Wrong { key, what, remedy }))?;
    let key = prefix_key;
    let (shortest, longest) = (net.prefix_len(), longest_prefix(net));
    let remedy =
        format!("give the prefix length of each agent's subnet, from {shortest} to {longest}");
    let Some(length) = prefix? else {
        return Err(report(FieldMistake::Missing { key, remedy }));
    };
    let what = match u8::try_from(length) {
        Ok(length) if length < shortest => format!("is shorter than the prefix of {net}"),
        Ok(prefix) if prefix <= longest => return Ok(Some(Range { net, prefix })),
        _ => "is too long to divide the subnet between two bridges".to_owned(),
    };
    Err(report(FieldMistake::Wrong { key, what, remedy }))
}

/// Checks that containers can have addresses of a range.
///
/// # Errors
/// The range is of no use to containers, and the document is a request.
fn check_use(object: &Object<'_>, keys: &RangeKeys, range: Range) -> Result<(), Reported> {
    if let Some(special) = special_purpose::of_network(range.net) {
        let what = format!("overlaps {special}, so agents refuse it");
        let remedy = format!("give a range that containers can have, {}", keys.example);
        object.useless(keys.subnet, &what, &remedy)?;
    }
    let longest = longest_useful_prefix(range.net);
    if range.prefix > longest {
        let what = "leaves no address for a container in an agent's subnet";
        let remedy = format!(
            "give a prefix length of at most {longest}, or {} where agents have bridges",
            longest - 1
        );
        object.useless(keys.prefix, what, &remedy)?;
    }
    Ok(())
}

/// Returns the longest prefix of a network in which a container can have an address: the first
/// address is the network's, the second the bridge's, and the last of IPv4 is not used.
pub fn longest_useful_prefix(net: IpNet) -> u8 {
    net.max_prefix_len() - 2
}

/// Returns the longest prefix of a subnet that can be divided between two bridges.
fn longest_prefix(net: IpNet) -> u8 {
    net.max_prefix_len() - 1
}

fn check_range_length(net: IpNet) -> Result<IpNet, Invalid> {
    let longest = longest_prefix(net);
    if net.prefix_len() <= longest {
        return Ok(net);
    }
    Err(Invalid {
        what: "cannot be divided between two bridges".to_owned(),
        remedy: format!("give a prefix length of at most {longest}"),
    })
}

/// Parses a network of one family, without host bits.
pub(super) fn parse_net<N>(text: &str, example: &str) -> Result<N, Invalid>
where
    N: Copy + Into<IpNet> + std::str::FromStr,
{
    let Ok(net) = text.parse::<N>() else {
        let what = match text.parse::<IpNet>() {
            Ok(IpNet::V4(_)) => "is an IPv4 network, not an IPv6 one",
            Ok(IpNet::V6(_)) => "is an IPv6 network, not an IPv4 one",
            Err(_) => "is not a network",
        };
        return Err(Invalid {
            what: what.to_owned(),
            remedy: format!("write a network address and its prefix length, {example}"),
        });
    };
    let whole: IpNet = net.into();
    if whole.addr() != whole.network() {
        return Err(Invalid {
            what: "has bits set after its prefix".to_owned(),
            remedy: format!("write \"{}\" if that is meant", whole.trunc()),
        });
    }
    Ok(net)
}

#[cfg(test)]
mod tests;
