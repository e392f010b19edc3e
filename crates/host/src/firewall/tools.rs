//! The firewall's tools on this host, and what they are good for.

use overlay_core::host_api::desired;

use super::command::Tool;
use super::nftables;
use super::plan::{Nat, Op};
use super::ruleset::Ruleset;
use super::sets;
use super::wanted::Family;

/// What is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tools {
    /// iptables, and ip6tables where it is there too.
    xtables: Option<[Option<Xtables>; 2]>,
    /// Whether iptables writes to the old tables of the kernel, whose changes
    /// cannot be noticed without reading them.
    pub is_legacy: bool,
    /// Whether `iptables-restore` can wait for others (`-w`, from 1.6.2 on).
    waits: bool,
    ipset: Option<Tool>,
    nft: Option<Tool>,
}

/// iptables or ip6tables.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Xtables {
    save: Tool,
    restore: Tool,
}

impl Tools {
    /// Looks for them.
    pub(super) fn find() -> Tools {
        let xtables = |save, restore| {
            Some(Xtables {
                save: Tool::find(save)?,
                restore: Tool::find(restore)?,
            })
        };
        let version = Tool::find("iptables").and_then(|tool| tool.run(&["--version"], "").ok());
        let mut tools = Tools {
            ipset: Tool::find("ipset"),
            nft: Tool::find("nft"),
            ..Tools::default()
        };
        if let Some(version) = version {
            tools.is_legacy = !version.contains("nf_tables");
            tools.waits = waits(&version);
            tools.xtables = Some([
                xtables("iptables-save", "iptables-restore"),
                xtables("ip6tables-save", "ip6tables-restore"),
            ]);
        }
        tools
    }

    /// Where masquerading is to be written. The error is a sentence.
    pub(super) fn choose(&self, wanted: desired::Firewall) -> Result<Nat, String> {
        let for_iptables = [
            ("iptables", self.xtables.is_some()),
            ("ipset", self.ipset.is_some()),
        ];
        let missing: Vec<&str> = for_iptables
            .iter()
            .filter(|(_, there)| !there)
            .map(|(name, _)| *name)
            .collect();
        let missing = missing.join(" and ");
        let has_nft = self.nft.is_some();
        match wanted {
            desired::Firewall::Auto | desired::Firewall::Iptables if missing.is_empty() => {
                Ok(Nat::Iptables)
            }
            desired::Firewall::Auto | desired::Firewall::Nftables if has_nft => Ok(Nat::Nftables),
            desired::Firewall::Auto => Err(format!(
                "neither {missing} nor nft is installed; install either"
            )),
            desired::Firewall::Iptables => Err(format!(
                "agent_config has \"firewall\": \"iptables\", but {missing} is not installed; install it"
            )),
            desired::Firewall::Nftables => Err(
                "agent_config has \"firewall\": \"nftables\", but nft is not installed; install it"
                    .to_owned(),
            ),
            // Nobody asks then; it would not be right to write anything.
            desired::Firewall::None => Err("agent_config has \"firewall\": \"none\"".to_owned()),
        }
    }

    pub(super) fn has_ipset(&self) -> bool {
        self.ipset.is_some()
    }

    fn xtables(&self, family: Family) -> Option<&Xtables> {
        let [v4, v6] = self.xtables.as_ref()?;
        family.of(v4, v6).as_ref()
    }

    /// The rules of iptables; `None` where it is not installed.
    pub(super) fn rules(&self, family: Family) -> Option<Result<Ruleset, String>> {
        let text = self.xtables(family)?.save.run(&[], "");
        Some(text.map(|text| Ruleset::parse(&text)))
    }

    /// Our table of nftables, if there is one.
    pub(super) fn table(&self) -> Result<Option<nftables::Table>, String> {
        let Some(nft) = &self.nft else {
            return Ok(None);
        };
        match nft.run(
            &["-j", "list", "table", nftables::FAMILY, nftables::TABLE],
            "",
        ) {
            Ok(text) => match nftables::Table::parse(&text) {
                Some(table) => Ok(Some(table)),
                None => Err("nft says something that cannot be understood".to_owned()),
            },
            Err(error) if error.contains("No such file or directory") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Carries out operations that go together ([`together`]).
    pub(super) fn carry_out(&self, ops: &[Op]) -> Result<(), String> {
        let (tool, arguments, input): (_, &[&str], _) = match ops {
            [
                Op::WriteSet {
                    family,
                    members,
                    exists,
                },
            ] => (
                &self.ipset,
                &["restore"],
                sets::script(*family, members, *exists),
            ),
            [Op::DestroySet(name)] => (&self.ipset, &["restore"], format!("destroy {name}\n")),
            [Op::WriteTable(table)] => (&self.nft, &["-f", "-"], table.script()),
            [Op::DeleteTable] => (
                &self.nft,
                &["-f", "-"],
                format!("delete table {}\n", nftables::NAME),
            ),
            rules => return self.restore(rules),
        };
        let tool = tool.as_ref().ok_or("the tool for it is not installed")?;
        tool.run(arguments, &input).map(drop)
    }

    /// Gives the lines of one family to `iptables-restore`: per table they take
    /// effect all at once or not at all.
    fn restore(&self, rules: &[Op]) -> Result<(), String> {
        let Some(Op::Rule { family, .. }) = rules.first() else {
            return Ok(());
        };
        let mut input = String::new();
        let mut open = None;
        for op in rules {
            let Op::Rule { table, line, .. } = op else {
                continue;
            };
            if open != Some(table) {
                input += &format!("{}*{table}\n", if open.is_some() { "COMMIT\n" } else { "" });
                open = Some(table);
            }
            input += &format!("{line}\n");
        }
        input += "COMMIT\n";
        let xtables = self.xtables(*family).ok_or("it is not installed")?;
        let arguments: &[&str] = if self.waits {
            &["-w", "--noflush"]
        } else {
            &["--noflush"]
        };
        xtables.restore.run(arguments, &input).map(drop)
    }
}

/// Whether two operations that follow each other are carried out by one call.
pub(super) fn together(a: &Op, b: &Op) -> bool {
    matches!((a, b), (Op::Rule { family: a, .. }, Op::Rule { family: b, .. }) if a == b)
}

/// Whether this version of `iptables-restore` knows `-w`. (Earlier ones stop at
/// it; they can get into the way of others, which is why a pass is repeated.)
fn waits(version: &str) -> bool {
    let number = version.split(" v").nth(1).unwrap_or_default();
    let number = number
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()
        .unwrap_or_default();
    let parts: Vec<u32> = number
        .split('.')
        .filter_map(|part| part.parse().ok())
        .collect();
    parts >= vec![1, 6, 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_which_versions_wait() {
        for (version, expected) in [
            ("iptables v1.4.21", false),
            ("iptables v1.6.1", false),
            ("iptables v1.6.2", true),
            ("iptables v1.8.9 (nf_tables)", true),
            ("iptables v1.10.0 (legacy)\n", true),
            ("", false),
        ] {
            assert_eq!(waits(version), expected, "{version}");
        }
    }
}
