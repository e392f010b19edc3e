//! What chains of rules do to a packet that starts a flow. Rules that cannot be judged without
//! knowing more of the packet make the result uncertain. Pure.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use ipnet::IpNet;

/// Nesting of chains up to which rules are followed. The kernel's limit is 16.
const MAX_DEPTH: usize = 16;

/// A packet that starts a flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// Device on which it arrives.
    pub from: &'a str,
    /// Device by which it leaves; empty if it is for this host.
    pub to: &'a str,
    /// Destination port of a UDP packet; `None`: a TCP packet to an unknown port.
    pub udp_port: Option<u16>,
    /// Prefixes that have its addresses. If there are none, the addresses are not known.
    pub ranges: &'a [IpNet],
    /// Devices of the overlays.
    pub devices: &'a [&'a str],
    /// Addresses, protocol and port of a particular packet, instead of any packet of the ranges.
    pub particular: Option<&'a Particular>,
}

/// Addresses, protocol and port of a particular packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Particular {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// Name of the protocol, as rules have it.
    pub protocol: &'static str,
    /// Destination port; `None`: the protocol has none, or it is not known.
    pub port: Option<u16>,
}

/// End of a packet's way that a rule names by its address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Source of the packet.
    Source,
    /// Destination of the packet.
    Destination,
}

/// Whether a rule or condition applies to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    /// It depends on more than is known of the packet.
    Maybe,
}

impl Match {
    /// Returns whether both apply.
    pub(super) fn and(self, other: Match) -> Match {
        match (self, other) {
            (Match::No, _) | (_, Match::No) => Match::No,
            (Match::Yes, Match::Yes) => Match::Yes,
            _ => Match::Maybe,
        }
    }

    /// Returns the opposite if `negated`.
    pub(super) fn negated_if(self, negated: bool) -> Match {
        match (self, negated) {
            (Match::Yes, true) => Match::No,
            (Match::No, true) => Match::Yes,
            _ => self,
        }
    }
}

impl From<bool> for Match {
    fn from(is_so: bool) -> Match {
        if is_so { Match::Yes } else { Match::No }
    }
}

/// What a rule does with a packet that it applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Accept,
    /// The packet is dropped or rejected.
    Drop,
    /// The calling chain goes on.
    Return,
    Jump(String),
    /// A jump that does not come back to this chain.
    Goto(String),
    /// The next rule follows.
    Continue,
    Unknown,
}

/// A rule as it concerns one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub applies: Match,
    pub action: Action,
    /// The rule names a device or addresses of the overlays. If it drops them, that is somebody's
    /// intention.
    pub is_deliberate: bool,
    /// The rule as its tool prints it, for operators.
    pub text: String,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Accepted,
    /// It is dropped by a rule.
    Dropped {
        rule: String,
        is_sure: bool,
    },
    /// No rule decides.
    Passed {
        is_sure: bool,
    },
}

/// Returns what a chain does with a packet. `rules` returns the rules of a chain.
pub(super) fn of_chain(chain: &str, rules: &dyn Fn(&str) -> Vec<Judged>) -> Fate {
    walk(chain, &rules(chain), rules, 0)
}

/// Returns what a single rule of a chain does with a packet.
pub(super) fn of_rule(chain: &str, rule: Judged, rules: &dyn Fn(&str) -> Vec<Judged>) -> Fate {
    walk(chain, &[rule], rules, 0)
}

fn walk(chain: &str, found: &[Judged], rules: &dyn Fn(&str) -> Vec<Judged>, depth: usize) -> Fate {
    let mut is_sure = depth < MAX_DEPTH;
    for Judged {
        applies,
        action,
        is_deliberate,
        text,
    } in found
    {
        let applies = match applies {
            Match::No => continue,
            Match::Yes => true,
            Match::Maybe => false,
        };
        match action {
            Action::Continue => {}
            Action::Accept if applies => return Fate::Accepted,
            Action::Drop if applies && !is_deliberate => {
                let rule = format!("{chain} {text}");
                return Fate::Dropped { rule, is_sure };
            }
            Action::Return if applies => return Fate::Passed { is_sure },
            // It drops particular packets.
            Action::Drop => {}
            Action::Accept | Action::Return | Action::Unknown => is_sure = false,
            Action::Jump(to) | Action::Goto(to) if depth < MAX_DEPTH => {
                match walk(to, &rules(to), rules, depth + 1) {
                    Fate::Accepted if applies => return Fate::Accepted,
                    Fate::Accepted => is_sure = false,
                    Fate::Dropped {
                        rule,
                        is_sure: sure,
                    } if applies && !is_deliberate => {
                        let is_sure = is_sure && sure;
                        return Fate::Dropped { rule, is_sure };
                    }
                    Fate::Dropped { .. } => {}
                    Fate::Passed { is_sure: sure } => {
                        is_sure &= sure;
                        if applies && matches!(action, Action::Goto(_)) {
                            return Fate::Passed { is_sure };
                        }
                    }
                }
            }
            Action::Jump(_) | Action::Goto(_) => is_sure = false,
        }
    }
    Fate::Passed { is_sure }
}

impl Packet<'_> {
    /// Returns whether a packet comes from or goes to the device `actual`, if a rule names `named`,
    /// which may end in a wildcard.
    pub(super) fn device(&self, actual: &str, named: &str, wildcard: char) -> Match {
        match named.strip_suffix(wildcard) {
            Some(beginning) => actual.starts_with(beginning).into(),
            None => (actual == named).into(),
        }
    }

    /// Returns the name of the packet's protocol.
    pub(super) fn protocol(&self) -> &'static str {
        if let Some(particular) = self.particular {
            particular.protocol
        } else if self.udp_port.is_some() {
            "udp"
        } else {
            "tcp"
        }
    }

    /// Returns whether the destination port is within these, first and last.
    pub(super) fn port(&self, ports: Option<(u16, u16)>) -> Match {
        let known = self.particular.and_then(|particular| particular.port);
        match (self.udp_port.or(known), ports) {
            (Some(port), Some((first, last))) => (first <= port && port <= last).into(),
            _ => Match::Maybe,
        }
    }

    /// Returns whether the address of one end is in `prefix`.
    pub(super) fn address(&self, end: End, prefix: IpNet) -> Match {
        if let Some(particular) = self.particular {
            let address = match end {
                End::Source => particular.source,
                End::Destination => particular.destination,
            };
            return prefix.contains(&address).into();
        }
        let mut ranges = self.ranges.iter();
        if self.ranges.is_empty() {
            Match::Maybe
        } else if ranges.clone().any(|range| prefix.contains(range)) {
            Match::Yes
        } else if ranges.any(|range| range.contains(&prefix)) {
            Match::Maybe
        } else {
            Match::No
        }
    }
}

/// Returns what a rule of iptables does with a packet.
pub(super) fn judge_iptables(rule: &str, packet: &Packet<'_>) -> Judged {
    let words = words(rule);
    let mut words = words.iter().map(String::as_str).peekable();
    let (mut applies, mut action, mut negated) = (Match::Yes, Action::Continue, false);
    let mut is_deliberate = false;
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        let found = match word {
            "!" => {
                negated = true;
                continue;
            }
            "-j" => {
                action = target(value());
                // What follows are options of the target.
                break;
            }
            "-g" => {
                action = Action::Goto(value().to_owned());
                break;
            }
            "-i" | "-o" => {
                let (named, is_input) = (value(), word == "-i");
                is_deliberate |= !negated && packet.devices.contains(&named);
                let actual = if is_input { packet.from } else { packet.to };
                packet.device(actual, named, '+')
            }
            "-s" | "-d" => {
                is_deliberate |= !negated;
                let end = match word {
                    "-s" => End::Source,
                    _ => End::Destination,
                };
                prefix(value()).map_or(Match::Maybe, |prefix| packet.address(end, prefix))
            }
            "-p" => (value() == packet.protocol()).into(),
            "--dport" | "--dports" => any(value().split(',').map(|port| packet.port(ports(port)))),
            "--ctstate" | "--state" => value().split(',').any(|state| state == "NEW").into(),
            // The kind of a match; its options follow.
            "-m" => match value() {
                "comment" | "conntrack" | "state" | "tcp" | "udp" | "multiport" | "addrtype" => {
                    continue;
                }
                _ => Match::Maybe,
            },
            "--dst-type" => (packet.to.is_empty() == (value() == "LOCAL")).into(),
            "--comment" => {
                value();
                continue;
            }
            _ => Match::Maybe,
        };
        applies = applies.and(found.negated_if(negated));
        negated = false;
    }
    Judged {
        applies,
        action,
        // What becomes of a particular packet is asked whatever the intention is.
        is_deliberate: is_deliberate && packet.particular.is_none(),
        text: rule.to_owned(),
    }
}

/// Returns whether any of several values applies.
pub(super) fn any(found: impl Iterator<Item = Match>) -> Match {
    found.fold(Match::No, |all, one| match (all, one) {
        (Match::Yes, _) | (_, Match::Yes) => Match::Yes,
        (Match::No, Match::No) => Match::No,
        _ => Match::Maybe,
    })
}

/// Parses a port, or first and last port with a colon between them.
fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// Returns what a target of iptables does.
fn target(name: &str) -> Action {
    match name {
        "ACCEPT" => Action::Accept,
        "DROP" | "REJECT" => Action::Drop,
        "RETURN" => Action::Return,
        "LOG" | "NFLOG" | "ULOG" | "MARK" | "CONNMARK" | "TCPMSS" | "CLASSIFY" | "TRACE"
        | "AUDIT" | "SET" | "DSCP" | "TOS" | "TTL" | "HL" | "CONNSECMARK" | "SECMARK" => {
            Action::Continue
        }
        "NFQUEUE" | "QUEUE" | "SYNPROXY" => Action::Unknown,
        chain => Action::Jump(chain.to_owned()),
    }
}

/// Splits a rule into words. A text in quotation marks is one word.
fn words(rule: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted, mut is_escaped) =
        (Vec::new(), String::new(), false, false);
    for character in rule.chars() {
        match character {
            _ if is_escaped => {
                word.push(character);
                is_escaped = false;
            }
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.extend(Some(std::mem::take(&mut word))),
            _ => word.push(character),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// Parses an address or a prefix.
pub(super) fn prefix(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(address)
}
