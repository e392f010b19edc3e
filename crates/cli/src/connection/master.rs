//! Leading master, and what its overlay module answers.

use std::net::SocketAddr;

use overlay_core::util::line::one_line;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::candidates::{self, Place};
use super::{AskError, ConnectionOptions, Http};
use crate::answers::{MasterState, Overlays};
use crate::output::Failure;
use crate::this_host::ThisHost;

/// Longest reason of a master that is shown, in characters.
const MAX_REASON: usize = 1000;

/// Number of masters that are asked. Each can name another one.
const MAX_ASKED: usize = 32;

/// Leading master whose overlay module serves.
#[derive(Clone, Debug)]
pub struct Master {
    http: Http,
    address: String,
}

/// Reason why no master serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// Address of the master that gave the reason, or of the one that did not answer.
    pub master: String,
    /// Status that the master gave: `standby`, `recovering` or `broken`; `None`: no master
    /// answered.
    pub status: Option<String>,
    /// The reason, one sentence.
    pub reason: String,
    /// True if the Mesos at this address has no overlay-master module.
    pub lacks_module: bool,
}

/// Answer of `/overlay-master/health`.
#[derive(Clone, Debug, Deserialize)]
pub struct Health {
    /// Address of the leading master.
    pub leader: Option<String>,
    /// Reason why the master does not serve.
    pub reason: Option<String>,
    /// `serving`, `standby`, `recovering` or `broken`.
    pub status: String,
}

impl Master {
    /// Finds the leading master.
    ///
    /// # Errors
    /// Nothing says where the masters are, or none of them serves.
    pub fn find(options: &ConnectionOptions, host: &ThisHost) -> Result<Master, Failure> {
        let http = Http::new(options)?;
        let place = candidates::find(options, host)?;
        Master::among(&http, &place).map_err(|unserved| Failure(unserved.to_string()))
    }

    /// Finds the leading master among the given ones.
    ///
    /// # Errors
    /// None of them serves.
    pub fn among(http: &Http, place: &Place) -> Result<Master, Unserved> {
        let mut asked: Vec<String> = Vec::new();
        let mut waiting = place.masters.clone();
        let mut leaders: Vec<String> = Vec::new();
        let mut worst: Option<Unserved> = None;
        while !waiting.is_empty() && asked.len() < MAX_ASKED {
            let address = waiting.remove(0);
            if asked.contains(&address) {
                continue;
            }
            asked.push(address.clone());
            let unserved = match health(http, &address) {
                Ok(health) if health.status == "serving" => {
                    return Ok(Master {
                        http: http.clone(),
                        address,
                    });
                }
                Ok(health) => {
                    let leader = health
                        .leader
                        .clone()
                        .filter(|leader| !asked.contains(leader));
                    // The address becomes a part of a URL, to which the login goes.
                    let is_address = |leader: &String| leader.parse::<SocketAddr>().is_ok();
                    if let Some(leader) = leader.filter(is_address) {
                        leaders.push(leader.clone());
                        waiting.insert(0, leader);
                    }
                    Unserved::from_health(address, health)
                }
                Err(error) => Unserved::silent(address, &error),
            };
            let weight = |unserved: &Unserved| unserved.weight(leaders.contains(&unserved.master));
            if worst
                .as_ref()
                .is_none_or(|worst| weight(&unserved) > weight(worst))
            {
                worst = Some(unserved);
            }
        }
        Err(worst.unwrap_or_else(|| Unserved {
            master: place.origin.clone(),
            status: None,
            reason: "it names no master".to_owned(),
            lacks_module: false,
        }))
    }

    /// Returns `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the client.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Returns `/overlay-master/state`.
    ///
    /// # Errors
    /// The master does not answer it.
    pub fn state(&self) -> Result<MasterState, AskError> {
        self.json("/overlay-master/state")
    }

    /// Returns `/overlay-master/overlays`.
    ///
    /// # Errors
    /// The master does not answer it.
    pub fn overlays(&self) -> Result<Overlays, AskError> {
        self.json("/overlay-master/overlays")
    }

    /// Returns the JSON at a path of the Mesos master.
    ///
    /// # Errors
    /// The master does not answer it.
    pub fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        self.http.json(&self.address, path)
    }
}

impl Unserved {
    fn from_health(master: String, health: Health) -> Unserved {
        let reason = health
            .reason
            .unwrap_or_else(|| format!("it is {}", health.status));
        Unserved {
            master,
            status: Some(health.status),
            reason: one_line(&reason, MAX_REASON).into_owned(),
            lacks_module: false,
        }
    }

    fn silent(master: String, error: &AskError) -> Unserved {
        Unserved {
            master,
            status: None,
            reason: error.to_string(),
            lacks_module: matches!(error, AskError::Refused(404, _)),
        }
    }

    /// Returns how much a reason explains: a leader that cannot serve, or does not answer, is worse
    /// than a standby.
    fn weight(&self, is_leader: bool) -> u8 {
        match self.status.as_deref() {
            None if is_leader => 3,
            None if self.lacks_module => 1,
            None => 0,
            Some("standby") => 2,
            Some("recovering") => 4,
            Some(_) => 5,
        }
    }
}

impl std::fmt::Display for Unserved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.status {
            None if self.lacks_module => write!(
                f,
                "the Mesos at {} has no overlay-master module; load it with --modules, or give another --master",
                self.master
            ),
            None => f.write_str(&self.reason),
            Some(_) => write!(
                f,
                "the overlay master at {} does not serve: {}",
                self.master, self.reason
            ),
        }
    }
}

/// Asks a master for its health. A master that does not serve answers, too, with status 503.
///
/// # Errors
/// There is no answer, or the master has no overlay module.
pub fn health(http: &Http, address: &str) -> Result<Health, AskError> {
    let answer = http.get(address, "/overlay-master/health")?;
    match answer.status {
        404 => Err(AskError::Refused(
            404,
            format!("the Mesos at {address} has no overlay-master module"),
        )),
        _ => serde_json::from_slice(&answer.body).map_err(|_| {
            AskError::Malformed(format!(
                "{address} is no master with the overlay-master module: status {}: {}",
                answer.status,
                answer.sentence()
            ))
        }),
    }
}
