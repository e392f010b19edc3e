//! Source of the model: the leading master, or this host's kernel if no master can be reached.

use super::local::{self, Local};
use super::model::Model;
use crate::answers::OwnAgent;
use crate::connection::{ConnectionOptions, Http, Master};
use crate::output::Failure;
use crate::this_host::ThisHost;

/// Model and its source.
pub struct Source {
    /// The model.
    pub model: Model,
    /// Master that it is from; `None`: it is from this host's kernel.
    pub master: Option<Master>,
    /// Client for agents' endpoints.
    pub http: Http,
    /// Remarks about the source.
    pub notes: Vec<String>,
}

/// Asks the leading master, or else this host.
///
/// # Errors
/// Neither a master nor this host knows of any agent.
pub fn find(
    options: &ConnectionOptions,
    host: &ThisHost,
    local: &Local,
) -> Result<Source, Failure> {
    let http = Http::new(options)?;
    let asked = Master::find(options, host).and_then(|master| {
        let state = master.state()?;
        Ok((master, state))
    });
    let Failure(reason) = match asked {
        Ok((master, state)) => {
            return Ok(Source {
                model: Model::of_master(state, &local::addresses()),
                master: Some(master),
                http,
                notes: Vec::new(),
            });
        }
        Err(failure) => failure,
    };
    let (Some(device), Some(name)) = (&local.device, &local.vtep) else {
        return Err(Failure(reason));
    };
    let agent = host.agent_address();
    let own: Option<OwnAgent> =
        agent.and_then(|address| http.json(&address, "/overlay-agent/overlay").ok());
    let rules: Vec<_> = local.rules.iter().copied().collect();
    let model = Model::of_kernel(device, name, &rules, own.map(|own| (own.ip, own.overlays)));
    let note = format!(
        "no master was asked ({reason}): the peers are those that this host's kernel has, and its entries cannot be compared"
    );
    Ok(Source {
        model,
        master: None,
        http,
        notes: vec![note],
    })
}
