//! The authentication of messages between agents and masters: `auth_key_file`, `auth_mode`,
//! `agent_confirmation` and `master_confirmation`.

use std::path::PathBuf;

use super::path;
use super::reader::{Field, Object, Reported};
use crate::protocol::session::keys::Keys;

/// The keys of both files.
pub const KEYS: [&str; 2] = ["auth_key_file", "auth_mode"];

/// Treatment of messages without a valid message authentication code: `auth_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// Messages are neither authenticated nor checked.
    #[default]
    Off,
    /// Messages are authenticated. Those of others without a valid code are accepted with a
    /// warning, while keys are being distributed.
    Warn,
    /// Messages are authenticated. Those of others without a valid code are dropped.
    Require,
}

/// Confirmation that processes of the other role must give before they are believed:
/// `agent_confirmation` of a master, `master_confirmation` of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confirmation {
    /// Nobody must, not even those who have confirmed before.
    Optional,
    /// Those who have confirmed before must. Processes of earlier releases cannot.
    #[default]
    Once,
    /// All must. Processes of earlier releases are refused.
    Always,
}

/// The authentication of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authentication {
    /// `auth_key_file`.
    pub key_file: Option<PathBuf>,
    /// `auth_mode`, by default [`AuthMode::Require`] with a key file.
    pub mode: AuthMode,
    /// The keys in the key file, once the caller has read it.
    pub keys: Option<Keys>,
    /// The confirmation that the other role must give.
    pub confirmation: Confirmation,
}

impl Authentication {
    /// Returns the keys to use; `None` if messages are not authenticated.
    pub fn active_keys(&self) -> Option<&Keys> {
        self.keys.as_ref().filter(|_| self.mode != AuthMode::Off)
    }

    /// Reads the settings of a master.
    pub(super) fn read_for_master(top: &Object<'_>) -> Result<Authentication, Reported> {
        const KEY: &str = "agent_confirmation";
        let remedy = "write \"once\" (agents that have confirmed a registration must go on), \
                      \"always\" (all agents must) or \"optional\"";
        let choices = [
            ("optional", Confirmation::Optional),
            ("once", Confirmation::Once),
            ("always", Confirmation::Always),
        ];
        Authentication::read(top, top.choice(KEY, remedy, &choices))
    }

    /// Reads the settings of an agent.
    pub(super) fn read_for_agent(top: &Object<'_>) -> Result<Authentication, Reported> {
        const KEY: &str = "master_confirmation";
        let remedy = "write \"once\" (masters that have confirmed must go on) or \"always\" (all \
                      masters must)";
        let choices = [
            ("once", Confirmation::Once),
            ("always", Confirmation::Always),
        ];
        Authentication::read(top, top.choice(KEY, remedy, &choices))
    }

    fn read(
        top: &Object<'_>,
        confirmation: Field<Confirmation>,
    ) -> Result<Authentication, Reported> {
        let remedy = "write \"require\" (drop messages without a valid code), \"warn\" (accept \
                      them with a warning) or \"off\"";
        let choices = [
            ("off", AuthMode::Off),
            ("warn", AuthMode::Warn),
            ("require", AuthMode::Require),
        ];
        let mode = top.choice("auth_mode", remedy, &choices);
        let (key_file, mode) = (path(top, "auth_key_file")?, mode?);
        if key_file.is_none() && mode.is_some_and(|mode| mode != AuthMode::Off) {
            let remedy = "name a file with a key in auth_key_file, or remove auth_mode";
            return Err(top.wrong(
                "auth_mode",
                "needs a key, and there is no auth_key_file",
                remedy,
            ));
        }
        let default = match &key_file {
            Some(_) => AuthMode::Require,
            None => AuthMode::Off,
        };
        Ok(Authentication {
            key_file,
            mode: mode.unwrap_or(default),
            keys: None,
            confirmation: confirmation?.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{agent, master};

    fn read(settings: &str) -> Result<Authentication, String> {
        let text = format!(r#"{{"cni_dir": "/cni"{settings}}}"#);
        match agent::parse("agent.json", &text) {
            Ok(parsed) => Ok(parsed.config.authentication),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_key_file_is_required_to_be_used() {
        assert_eq!(read("").unwrap(), Authentication::default());
        let with = |mode: &str| {
            read(&format!(r#", "auth_key_file": "/k"{mode}"#))
                .unwrap()
                .mode
        };
        assert_eq!(with(""), AuthMode::Require);
        assert_eq!(with(r#", "auth_mode": "warn""#), AuthMode::Warn);
        assert_eq!(with(r#", "auth_mode": "off""#), AuthMode::Off);
        assert_eq!(read(r#", "auth_mode": "off""#).unwrap().mode, AuthMode::Off);
        for (settings, words) in [
            (r#", "auth_mode": "warn""#, "no auth_key_file"),
            (
                r#", "auth_mode": "on", "auth_key_file": "/k""#,
                "is not one of its values",
            ),
            (r#", "auth_key_file": """#, "is empty"),
            (
                r#", "master_confirmation": "optional""#,
                "is not one of its values",
            ),
        ] {
            let error = read(settings).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn each_role_has_its_setting_of_confirmation() {
        assert_eq!(read("").unwrap().confirmation, Confirmation::Once);
        let always = read(r#", "master_confirmation": "always""#).unwrap();
        assert_eq!(always.confirmation, Confirmation::Always);
        let text = r#"{"agent_confirmation": "optional", "network": {
            "vtep_subnet": "44.128.0.0/20", "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": []}}"#;
        let master = master::parse("master.json", text).unwrap().config;
        assert_eq!(master.authentication.confirmation, Confirmation::Optional);
    }
}
