//! Definition of an overlay, from the options of the command line.

use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::answers::OverlayInfo;
use crate::output::Failure;

/// Ranges of an overlay.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Definition")]
pub struct Ranges {
    /// IPv4 range of the network, such as 10.64.0.0/16.
    #[arg(long, value_name = "CIDR")]
    pub subnet: Option<IpNet>,
    /// Prefix length of the IPv4 subnet that each agent gets, such as 24.
    #[arg(long, value_name = "LENGTH", value_parser = clap::value_parser!(u8).range(0..=32))]
    pub prefix: Option<u8>,
    /// IPv6 range of the network, such as fd01:b::/64.
    #[arg(long, value_name = "CIDR")]
    pub subnet6: Option<IpNet>,
    /// Prefix length of the IPv6 subnet that each agent gets, such as 80.
    #[arg(long, value_name = "LENGTH", value_parser = clap::value_parser!(u8).range(0..=128))]
    pub prefix6: Option<u8>,
}

impl Ranges {
    /// Checks that the ranges are of the families that their options are for.
    ///
    /// # Errors
    /// One is of the other family, or has bits set behind its prefix.
    pub fn check(&self) -> Result<(), Failure> {
        for (option, range, is_v4) in [
            ("--subnet", self.subnet, true),
            ("--subnet6", self.subnet6, false),
        ] {
            let Some(range) = range else { continue };
            if range.addr().is_ipv4() != is_v4 {
                let (family, other) = match is_v4 {
                    true => ("an IPv4", "--subnet6"),
                    false => ("an IPv6", "--subnet"),
                };
                return Err(format!("{option}: {range} is not {family} range; use {other}").into());
            }
            if range.trunc() != range {
                let trunc = range.trunc();
                return Err(format!("{option}: {range} has bits set after its prefix; write {trunc} if that is meant").into());
            }
        }
        Ok(())
    }

    /// Returns the definition with what these options set.
    pub fn onto(&self, mut info: OverlayInfo) -> OverlayInfo {
        info.subnet = self.subnet.or(info.subnet);
        info.prefix = self.prefix.or(info.prefix);
        info.subnet6 = self.subnet6.or(info.subnet6);
        info.prefix6 = self.prefix6.or(info.prefix6);
        info
    }
}

/// Returns the body of a request that defines an overlay.
pub fn body(info: &OverlayInfo, force: bool) -> Value {
    let mut body = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(key.to_owned(), value);
        }
    };
    let text = |range: Option<IpNet>| range.map(|range| range.to_string().into());
    set("name", Some(info.name.as_str().into()));
    set("subnet", text(info.subnet));
    set("prefix", info.prefix.map(Value::from));
    set("subnet6", text(info.subnet6));
    set("prefix6", info.prefix6.map(Value::from));
    set("enabled", (!info.enabled).then_some(false.into()));
    set("force", force.then_some(true.into()));
    Value::Object(body)
}

/// Returns a definition in words, such as `9.0.0.0/8 in /24, fd01:b::/64 in /80, disabled`.
pub fn in_words(info: &OverlayInfo) -> String {
    let range = |range: Option<IpNet>, prefix: Option<u8>| {
        let prefix = prefix.map_or(String::new(), |prefix| format!(" in /{prefix}"));
        range.map(|range| format!("{range}{prefix}"))
    };
    let disabled = (!info.enabled).then(|| "disabled".to_owned());
    let parts = [
        range(info.subnet, info.prefix),
        range(info.subnet6, info.prefix6),
        disabled,
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(", ")
}
