//! Leading master, and what its overlay module answers.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::candidates::{self, Place};
use super::{AskError, ConnectionOptions, Http};
use crate::answers::{MasterState, Overlays};
use crate::output::Failure;
use crate::this_host::ThisHost;

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
        let mut worst: Option<Unserved> = None;
        while !waiting.is_empty() {
            let address = waiting.remove(0);
            if asked.contains(&address) {
                continue;
            }
            asked.push(address.clone());
            match health(http, &address) {
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
                    let unserved = Unserved::from_health(address, health);
                    if worst
                        .as_ref()
                        .is_none_or(|worst| unserved.weight() > worst.weight())
                    {
                        worst = Some(unserved);
                    }
                    if let Some(leader) = leader {
                        waiting.insert(0, leader);
                    }
                }
                Err(error) => {
                    worst.get_or_insert(Unserved {
                        master: address,
                        status: None,
                        reason: error.to_string(),
                    });
                }
            }
        }
        Err(worst.unwrap_or_else(|| Unserved {
            master: place.origin.clone(),
            status: None,
            reason: "it names no master".to_owned(),
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
            reason,
        }
    }

    /// Returns how much a reason explains: a leader that cannot serve is worse than a standby.
    fn weight(&self) -> u8 {
        match self.status.as_deref() {
            None => 0,
            Some("standby") => 1,
            Some("recovering") => 2,
            Some(_) => 3,
        }
    }
}

impl std::fmt::Display for Unserved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.status {
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
        404 => Err(AskError::Malformed(format!(
            "the Mesos at {address} has no overlay-master module; load it with --modules, or give another --master"
        ))),
        _ => serde_json::from_slice(&answer.body).map_err(|_| {
            AskError::Malformed(format!(
                "{address} is no master with the overlay-master module: status {}: {}",
                answer.status,
                answer.sentence()
            ))
        }),
    }
}
