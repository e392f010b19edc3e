//! The firewall's command-line tools on this host: iptables, ipset and nft.

use overlay_core::host_api::desired;
use overlay_core::util::family::Family;

use super::command::Tool;
use super::nft_rules::{self, NftTable};
use super::op::{NatBackend, Op, Others, RAW};
use super::ruleset::Ruleset;
use super::{nftables, sets};

/// Installed tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tools {
    /// iptables and ip6tables; `None` without iptables.
    xtables: Option<[Option<Xtables>; 2]>,
    /// Set if iptables writes to the legacy tables of the kernel. Their changes do not
    /// change the generation of nf_tables.
    pub is_legacy: bool,
    /// Programs that print the rules of the variant of iptables that is not in use.
    other_save: [Option<Tool>; 2],
    /// Set if `iptables-restore` can wait for the lock (`-w`, since 1.6.2).
    supports_wait: bool,
    ipset: Option<Tool>,
    nft: Option<Tool>,
}

/// The programs of iptables or ip6tables.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Xtables {
    save: Tool,
    restore: Tool,
}

impl Tools {
    /// Looks for the tools and asks for the version of iptables.
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
            tools.supports_wait = supports_wait(&version);
            tools.xtables = Some([
                xtables("iptables-save", "iptables-restore"),
                xtables("ip6tables-save", "ip6tables-restore"),
            ]);
            tools.other_save = match tools.is_legacy {
                true => ["iptables-nft-save", "ip6tables-nft-save"],
                false => ["iptables-legacy-save", "ip6tables-legacy-save"],
            }
            .map(Tool::find);
        }
        tools
    }

    /// Returns the backend for the masquerading rules. The error is a sentence.
    pub(super) fn choose_backend(&self, choice: desired::Firewall) -> Result<NatBackend, String> {
        let for_iptables = [
            ("iptables", self.xtables.is_some()),
            ("ipset", self.ipset.is_some()),
        ];
        let missing: Vec<&str> = for_iptables
            .iter()
            .filter(|(_, is_installed)| !is_installed)
            .map(|(name, _)| *name)
            .collect();
        let (are, them) = match missing.len() {
            1 => ("is", "it"),
            _ => ("are", "them"),
        };
        let (is_complete, missing) = (missing.is_empty(), missing.join(" and "));
        match choice {
            desired::Firewall::Auto | desired::Firewall::Iptables if is_complete => {
                Ok(NatBackend::Iptables)
            }
            desired::Firewall::Auto | desired::Firewall::Nftables if self.nft.is_some() => {
                Ok(NatBackend::Nftables)
            }
            desired::Firewall::Auto => Err(format!(
                "{missing} {are} not installed, and nft is not installed either; install nft, or {missing}"
            )),
            desired::Firewall::Iptables => Err(format!(
                "agent_config has \"firewall\": \"iptables\", but {missing} {are} not installed; install {them}"
            )),
            desired::Firewall::Nftables => Err(
                "agent_config has \"firewall\": \"nftables\", but nft is not installed; install it"
                    .to_owned(),
            ),
            // Callers do not get here with `None`. An error makes sure that nothing is written.
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

    /// Tells if iptables or ip6tables is installed.
    pub(super) fn has_rules(&self, family: Family) -> bool {
        self.xtables(family).is_some()
    }

    /// Reads the rules of iptables or ip6tables; `None` if it is not installed.
    pub(super) fn rules(&self, family: Family) -> Option<Result<Ruleset, String>> {
        let text = self.xtables(family)?.save.run(&[], "");
        Some(text.map(|text| Ruleset::parse(&text)))
    }

    /// Reads the host's other firewalls. What cannot be read is left out.
    pub(super) fn others(&self) -> Others {
        let mut others = Others {
            is_legacy: !self.is_legacy,
            ..Others::default()
        };
        for (family, save) in Family::BOTH.into_iter().zip(&self.other_save) {
            // The program of the legacy variant has the kernel load its tables.
            if let Some(save) = save
                && (self.is_legacy || has_legacy_tables(family))
                && let Ok(text) = save.run(&[], "")
            {
                others.rules.insert(family, Ruleset::parse(&text));
            }
        }
        let chains = self
            .nft
            .as_ref()
            .map(|nft| (nft, nft.run(&["-j", "list", "chains"], "")));
        if let Some((nft, Ok(chains))) = chains {
            for (family, name) in nft_rules::tables_that_filter(&chains) {
                let text = nft.run(&["-j", "list", "table", &family, &name], "");
                let table = text.map(|text| NftTable::parse(&family, &name, &text));
                others.tables.extend(table.ok());
            }
        }
        others
    }

    /// Reads our nftables table; `None` if there is none.
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
                None => Err("nft printed something other than a table in JSON".to_owned()),
            },
            Err(error) if error.contains("No such file or directory") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Applies operations that are in one transaction ([`same_transaction`]).
    pub(super) fn apply(&self, ops: &[Op]) -> Result<(), String> {
        let (tool, arguments, input): (_, &[&str], _) = match ops {
            [
                Op::WriteSet {
                    family,
                    members,
                    write,
                },
            ] => (
                &self.ipset,
                &["restore"],
                sets::script(*family, members, *write),
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
        let tool = tool
            .as_ref()
            .ok_or("the tool that does this is not installed")?;
        tool.run(arguments, &input).map(drop)
    }

    /// Runs `iptables-restore` with the lines of one family. The lines of each table take
    /// effect together or not at all.
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
        let xtables = self
            .xtables(*family)
            .ok_or("the tool that does this is not installed")?;
        let arguments: &[&str] = if self.supports_wait {
            &["-w", "--noflush"]
        } else {
            &["--noflush"]
        };
        xtables.restore.run(arguments, &input).map(drop)
    }
}

/// Tells if two consecutive operations are applied by one call of a tool. The table `raw` has a
/// call of its own, because not every kernel has it.
pub(super) fn same_transaction(a: &Op, b: &Op) -> bool {
    let call = |op: &Op| match op {
        Op::Rule { family, table, .. } => Some((*family, *table == RAW)),
        _ => None,
    };
    call(a).is_some() && call(a) == call(b)
}

/// Tells if the kernel has legacy tables of a family. (`/proc/net` is that of the process's first
/// thread.)
fn has_legacy_tables(family: Family) -> bool {
    let path = family.pick(
        "/proc/thread-self/net/ip_tables_names",
        "/proc/thread-self/net/ip6_tables_names",
    );
    std::fs::read_to_string(path).is_ok_and(|names| names.lines().any(|name| name == "filter"))
}

/// Tells if a version of `iptables-restore` knows `-w`. Earlier versions reject the option;
/// they may collide with other programs, which is why a reconciliation has two attempts.
fn supports_wait(version: &str) -> bool {
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

    use super::super::op::{Membership, SetWrite};
    use super::*;

    #[test]
    fn detects_versions_that_wait_for_the_lock() {
        for (version, expected) in [
            ("iptables v1.4.21", false),
            ("iptables v1.6.1", false),
            ("iptables v1.6.2", true),
            ("iptables v1.8.9 (nf_tables)", true),
            ("iptables v1.10.0 (legacy)\n", true),
            ("", false),
        ] {
            assert_eq!(supports_wait(version), expected, "{version}");
        }
    }

    /// A tool that records its arguments and its input in this directory.
    fn fake(dir: &Path, name: &str) -> Tool {
        let path = dir.join(name);
        if !path.exists() {
            let script = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/src/firewall/tests/fake_tool.sh"
            );
            std::os::unix::fs::symlink(script, &path).unwrap();
        }
        // Names of tools are static.
        Tool::find(path.to_str().unwrap().to_owned().leak()).unwrap()
    }

    /// Fakes of all tools in this directory.
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
            other_save: [None, None],
            supports_wait: true,
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
    fn rules_are_given_to_the_tool_of_their_family_by_table() {
        let dir = tempfile::tempdir().unwrap();
        let mut tools = tools(dir.path());
        let recorded =
            |name: &str| std::fs::read_to_string(dir.path().join(format!("{name}.recorded")));
        let rules = |family| {
            [("nat", "-A a"), ("nat", "-A b"), ("filter", "-A c")]
                .map(|(table, line)| rule(family, table, line))
        };
        let input = "*nat\n-A a\n-A b\nCOMMIT\n*filter\n-A c\nCOMMIT\n";
        assert_eq!(tools.apply(&rules(Family::V6)), Ok(()));
        assert_eq!(
            recorded("restore6").unwrap(),
            format!("-w --noflush\n{input}")
        );
        assert!(recorded("restore").is_err(), "no call for IPv4");
        tools.supports_wait = false;
        assert_eq!(tools.apply(&rules(Family::V4)), Ok(()));
        assert_eq!(recorded("restore").unwrap(), format!("--noflush\n{input}"));
        tools.xtables.as_mut().unwrap()[1] = None;
        assert!(tools.apply(&rules(Family::V6)).is_err());
    }

    #[test]
    fn sets_and_tables_are_given_to_their_tools() {
        let dir = tempfile::tempdir().unwrap();
        let tools = tools(dir.path());
        let recorded = |name: &str| {
            std::fs::read_to_string(dir.path().join(format!("{name}.recorded"))).unwrap()
        };
        let members = [("fd01:b::/64".parse().unwrap(), Membership::NoMatch)].into();
        let write = Op::WriteSet {
            family: Family::V6,
            members,
            write: SetWrite::Create,
        };
        assert_eq!(tools.apply(&[write]), Ok(()));
        let script =
            "create overlay6 hash:net family inet6 counters\nadd overlay6 fd01:b::/64 nomatch\n";
        assert_eq!(recorded("ipset"), format!("restore\n{script}"));
        assert_eq!(tools.apply(&[Op::DestroySet("overlay6".into())]), Ok(()));
        assert_eq!(recorded("ipset"), "restore\ndestroy overlay6\n");
        assert_eq!(tools.apply(&[Op::DeleteTable]), Ok(()));
        assert_eq!(recorded("nft"), "-f -\ndelete table inet mesos_overlay\n");
        assert!(Tools::default().apply(&[Op::DeleteTable]).is_err());
    }

    #[test]
    fn only_rules_of_one_family_are_in_one_transaction() {
        let [a, b] = [
            rule(Family::V4, "nat", "-A a"),
            rule(Family::V4, "filter", "-A b"),
        ];
        assert!(same_transaction(&a, &b));
        assert!(!same_transaction(&a, &rule(Family::V6, "nat", "-A a")));
        assert!(!same_transaction(&a, &Op::DeleteTable));
        assert!(!same_transaction(&Op::DeleteTable, &Op::DeleteTable));
    }

    #[test]
    fn iptables_needs_ipset_and_nftables_needs_neither() {
        use desired::Firewall::{Auto, Iptables, Nftables, None as Disabled};
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
        let backends = |tools: &Tools| {
            [Auto, Iptables, Nftables, Disabled].map(|choice| tools.choose_backend(choice).ok())
        };
        let (iptables, nftables) = (Some(NatBackend::Iptables), Some(NatBackend::Nftables));
        assert_eq!(backends(&all), [iptables, iptables, nftables, None]);
        assert_eq!(backends(&no_ipset), [nftables, None, nftables, None]);
        assert_eq!(backends(&no_iptables), [nftables, None, nftables, None]);
        assert_eq!(backends(&no_nft), [iptables, iptables, None, None]);
        assert_eq!(backends(&Tools::default()), [None; 4]);
    }

    #[test]
    fn error_names_the_missing_tools() {
        use desired::Firewall::{Auto, Iptables};
        let dir = tempfile::tempdir().unwrap();
        let no_ipset = Tools {
            ipset: None,
            nft: None,
            ..tools(dir.path())
        };
        let error = |tools: &Tools, choice| tools.choose_backend(choice).unwrap_err();
        assert_eq!(
            error(&no_ipset, Auto),
            "ipset is not installed, and nft is not installed either; install nft, or ipset"
        );
        assert_eq!(
            error(&no_ipset, Iptables),
            "agent_config has \"firewall\": \"iptables\", but ipset is not installed; install it"
        );
        let nothing = Tools::default();
        assert_eq!(
            error(&nothing, Auto),
            "iptables and ipset are not installed, and nft is not installed either; install nft, \
             or iptables and ipset"
        );
        assert_eq!(
            error(&nothing, Iptables),
            "agent_config has \"firewall\": \"iptables\", but iptables and ipset are not \
             installed; install them"
        );
    }
}
