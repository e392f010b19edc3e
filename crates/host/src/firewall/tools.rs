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
        family.pick(v4, v6).as_ref()
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
    use std::path::Path;

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

    /// A tool that keeps what it is told, in this directory.
    fn fake(dir: &Path, name: &str) -> Tool {
        let path = dir.join(name);
        if !path.exists() {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/firewall/tests/tool.sh");
            std::os::unix::fs::symlink(script, &path).unwrap();
        }
        // A tool's name lives for ever.
        Tool::find(path.to_str().unwrap().to_owned().leak()).unwrap()
    }

    /// All tools, in this directory.
    fn tools(dir: &Path) -> Tools {
        let xtables = |save, restore| {
            Some(Xtables {
                save: fake(dir, save),
                restore: fake(dir, restore),
            })
        };
        let xtables = [xtables("save", "restore"), xtables("save6", "restore6")];
        let (ipset, nft) = (Some(fake(dir, "ipset")), Some(fake(dir, "nft")));
        Tools {
            xtables: Some(xtables),
            is_legacy: false,
            waits: true,
            ipset,
            nft,
        }
    }

    fn rule(family: Family, table: &'static str, line: &str) -> Op {
        Op::Rule {
            family,
            table,
            line: line.to_owned(),
        }
    }

    #[test]
    fn rules_go_to_the_tool_of_their_family_table_by_table() {
        let dir = tempfile::tempdir().unwrap();
        let mut tools = tools(dir.path());
        let told = |name: &str| std::fs::read_to_string(dir.path().join(format!("{name}.told")));
        let rules = |family| {
            [("nat", "-A a"), ("nat", "-A b"), ("filter", "-A c")]
                .map(|(table, line)| rule(family, table, line))
        };
        let input = "*nat\n-A a\n-A b\nCOMMIT\n*filter\n-A c\nCOMMIT\n";
        assert_eq!(tools.carry_out(&rules(Family::V6)), Ok(()));
        assert_eq!(told("restore6").unwrap(), format!("-w --noflush\n{input}"));
        assert!(told("restore").is_err(), "nothing of IPv4");
        tools.waits = false;
        assert_eq!(tools.carry_out(&rules(Family::V4)), Ok(()));
        assert_eq!(told("restore").unwrap(), format!("--noflush\n{input}"));
        tools.xtables.as_mut().unwrap()[1] = None;
        assert!(tools.carry_out(&rules(Family::V6)).is_err());
    }

    #[test]
    fn sets_and_tables_go_to_their_tools() {
        let dir = tempfile::tempdir().unwrap();
        let tools = tools(dir.path());
        let told =
            |name: &str| std::fs::read_to_string(dir.path().join(format!("{name}.told"))).unwrap();
        let members = [("fd01:b::/64".parse().unwrap(), true)].into();
        let write = Op::WriteSet {
            family: Family::V6,
            members,
            exists: false,
        };
        assert_eq!(tools.carry_out(&[write]), Ok(()));
        let script =
            "create overlay6 hash:net family inet6 counters\nadd overlay6 fd01:b::/64 nomatch\n";
        assert_eq!(told("ipset"), format!("restore\n{script}"));
        assert_eq!(
            tools.carry_out(&[Op::DestroySet("overlay6".into())]),
            Ok(())
        );
        assert_eq!(told("ipset"), "restore\ndestroy overlay6\n");
        assert_eq!(tools.carry_out(&[Op::DeleteTable]), Ok(()));
        assert_eq!(told("nft"), "-f -\ndelete table inet mesos_overlay\n");
        assert!(Tools::default().carry_out(&[Op::DeleteTable]).is_err());
    }

    #[test]
    fn only_rules_of_one_family_go_together() {
        let [a, b] = [
            rule(Family::V4, "nat", "-A a"),
            rule(Family::V4, "filter", "-A b"),
        ];
        assert!(together(&a, &b));
        assert!(!together(&a, &rule(Family::V6, "nat", "-A a")));
        assert!(!together(&a, &Op::DeleteTable));
        assert!(!together(&Op::DeleteTable, &Op::DeleteTable));
    }

    #[test]
    fn iptables_needs_ipset_and_nftables_needs_neither() {
        use desired::Firewall::{Auto, Iptables, Nftables, None as Nowhere};
        let dir = tempfile::tempdir().unwrap();
        let all = tools(dir.path());
        let no_ipset = Tools {
            ipset: None,
            ..all.clone()
        };
        let no_iptables = Tools {
            xtables: None,
            ..all.clone()
        };
        let no_nft = Tools {
            nft: None,
            ..all.clone()
        };
        let chosen =
            |tools: &Tools| [Auto, Iptables, Nftables, Nowhere].map(|of| tools.choose(of).ok());
        let (iptables, nftables) = (Some(Nat::Iptables), Some(Nat::Nftables));
        assert_eq!(chosen(&all), [iptables, iptables, nftables, None]);
        assert_eq!(chosen(&no_ipset), [nftables, None, nftables, None]);
        assert_eq!(chosen(&no_iptables), [nftables, None, nftables, None]);
        assert_eq!(chosen(&no_nft), [iptables, iptables, None, None]);
        assert_eq!(chosen(&Tools::default()), [None; 4]);
        let only_iptables = Tools {
            nft: None,
            ..no_ipset.clone()
        };
        assert_eq!(
            only_iptables.choose(Auto),
            Err("neither ipset nor nft is installed; install either".to_owned())
        );
        let sentence = no_ipset.choose(Iptables).unwrap_err();
        assert!(
            sentence.contains("but ipset is not installed"),
            "{sentence}"
        );
        let sentence = Tools::default().choose(Iptables).unwrap_err();
        assert!(
            sentence.contains("but iptables and ipset is not installed"),
            "{sentence}"
        );
    }
}
