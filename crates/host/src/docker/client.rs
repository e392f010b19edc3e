//! Client of the engine's API: each call has a timeout, each error is one sentence.

use std::error::Error as _;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{
    EndpointResource, Ipam, IpamConfig, Network, NetworkCreateRequest, NetworkInspect,
};
use bollard::query_parameters::{
    EventsOptionsBuilder, InspectNetworkOptions, ListContainersOptionsBuilder, ListNetworksOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt};
use ipnet::IpNet;
use overlay_core::host_api::engine;

use crate::progress;

use super::observed::{ApiVersion, Endpoint, ExistingNetwork, LABEL, Observed};

// Options of the `bridge` driver.
const BRIDGE: &str = "com.docker.network.bridge.name";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";
const MTU: &str = "com.docker.network.driver.mtu";

/// Failure of a call. Holds one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No process listens on the socket: no engine is running.
    Absent(String),
    /// The engine did not answer in time, or the connection broke. Further calls would
    /// fail as well.
    Silent(String),
    /// The engine answered with an error.
    Refused(String),
}

impl Failure {
    /// Returns the sentence.
    pub fn sentence(&self) -> &str {
        match self {
            Failure::Absent(sentence) | Failure::Silent(sentence) | Failure::Refused(sentence) => {
                sentence
            }
        }
    }
}

/// A client of one engine.
pub(super) struct Client {
    docker: Docker,
    socket: PathBuf,
    timeout: Duration,
}

/// Release of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineRelease {
    /// Version, such as `20.10.24`.
    pub version: String,
    /// Version of its API, such as `1.41`.
    pub api: String,
}

impl Client {
    pub fn new(socket: &Path, timeout: Duration) -> Result<Client, Failure> {
        let absent = |what: &dyn std::fmt::Display| {
            Failure::Absent(format!(
                "cannot reach the container engine at {}: {what}",
                socket.display()
            ))
        };
        let path = socket
            .to_str()
            .ok_or_else(|| absent(&"the path is not UTF-8"))?;
        // A link is usual here: engines other than Docker put one in the place of its socket.
        if let Ok(found) = std::fs::metadata(socket)
            && !found.file_type().is_socket()
        {
            return Err(absent(
                &"it is not a socket; correct docker_socket, or remove what is there",
            ));
        }
        // The timeout of the client library is in whole seconds and ends with the header of
        // a response; `call` has its own timeout for the whole response.
        let docker = Docker::connect_with_unix(path, u64::MAX, API_DEFAULT_VERSION);
        let docker = docker.map_err(|error| match error {
            Error::SocketNotFoundError(_) => absent(&io::Error::from_raw_os_error(libc::ENOENT)),
            error => absent(&error),
        })?;
        Ok(Client {
            docker,
            socket: socket.into(),
            timeout,
        })
    }

    /// Waits for a response, for at most the client's timeout. `what` was asked for.
    async fn call<T>(
        &self,
        what: &str,
        response: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        progress::step_with_timeout(format!("ask the container engine for {what}"), self.timeout);
        match tokio::time::timeout(self.timeout, response).await {
            Ok(result) => result.map_err(|error| self.failure(error)),
            Err(_) => Err(Failure::Silent(format!(
                "the container engine at {} did not answer within {} ms when asked for {what}",
                self.socket.display(),
                self.timeout.as_millis()
            ))),
        }
    }

    fn failure(&self, error: Error) -> Failure {
        if let Error::DockerResponseServerError {
            status_code,
            message,
        } = error
        {
            // The engine's messages may have several lines.
            let message: Vec<&str> = message.split_whitespace().collect();
            return Failure::Refused(format!(
                "the container engine answered \"{}\" (status {status_code})",
                message.join(" ")
            ));
        }
        let socket = self.socket.display();
        let Some(system_error) = system_error(&error) else {
            return Failure::Silent(format!(
                "cannot talk to the container engine at {socket}: {}",
                chain(&error)
            ));
        };
        match system_error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::Absent(format!(
                "cannot reach the container engine at {socket}: {system_error}"
            )),
            _ => Failure::Silent(format!(
                "cannot talk to the container engine at {socket}: {system_error}"
            )),
        }
    }

    /// Reads the engine's release.
    pub async fn release(&self) -> Result<EngineRelease, Failure> {
        let version = self.call("its version", self.docker.version()).await?;
        Ok(EngineRelease {
            version: version.version.unwrap_or_default(),
            api: version.api_version.unwrap_or_default(),
        })
    }

    /// Reads the engine's networks. The endpoints are read of networks that are desired or
    /// were created by this module.
    pub async fn observe(&self, desired: &engine::EngineDesired) -> Result<Observed, Failure> {
        let version = self.call("its version", self.docker.version()).await?;
        let api = version.api_version.unwrap_or_default();
        let api = api.parse::<ApiVersion>().map_err(Failure::Refused)?;
        let networks = self.docker.list_networks(None::<ListNetworksOptions>);
        let networks = self.call("its networks", networks).await?;
        let mut observed = Observed {
            api,
            networks: Vec::with_capacity(networks.len()),
        };
        for network in networks {
            let mut existing = existing_network(network);
            if desired.networks.contains_key(&existing.name) || existing.is_own() {
                match self.endpoints(&existing).await? {
                    Some(endpoints) => existing.endpoints = endpoints,
                    None => continue,
                }
            }
            observed.networks.push(existing);
        }
        Ok(observed)
    }

    /// Reads the endpoints of a network; `None` if the network does not exist any more.
    async fn endpoints(&self, network: &ExistingNetwork) -> Result<Option<Vec<Endpoint>>, Failure> {
        let options = None::<InspectNetworkOptions>;
        let inspect = self.docker.inspect_network(&network.id, options);
        let found = self
            .call(&format!("its network {}", network.name), exists(inspect))
            .await?;
        Ok(found.map(|network: NetworkInspect| {
            let containers = network.containers.unwrap_or_default().into_iter();
            let mut endpoints: Vec<Endpoint> = containers
                .map(|(id, resource)| endpoint(id, resource))
                .collect();
            endpoints.sort_by(|a, b| a.container.cmp(&b.container));
            endpoints
        }))
    }

    /// Reads which containers that do not run would join these networks again.
    pub async fn stopped(&self, networks: &mut [ExistingNetwork]) -> Result<(), Failure> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let containers = self.docker.list_containers(Some(options));
        let containers = self.call("its containers", containers).await?;
        for container in containers {
            let joined = container.network_settings.and_then(|all| all.networks);
            let joined: Vec<String> = joined
                .into_iter()
                .flatten()
                .filter_map(|(_, endpoint)| endpoint.network_id)
                .collect();
            let mut names = container.names.unwrap_or_default().into_iter();
            let name = names.next().or(container.id).unwrap_or_default();
            let name = name.trim_start_matches('/');
            for network in networks.iter_mut() {
                let mut endpoints = network.endpoints.iter();
                let is_running = endpoints.any(|endpoint| endpoint.container == name);
                if joined.contains(&network.id) && !is_running {
                    network.stopped.push(name.to_owned());
                }
            }
        }
        for network in networks {
            network.stopped.sort();
        }
        Ok(())
    }

    /// Removes a network. It is no error if the network does not exist.
    pub async fn remove(&self, id: &str) -> Result<(), Failure> {
        let remove = exists(self.docker.remove_network(id));
        self.call("the removal of a network", remove)
            .await
            .map(|_| ())
    }

    /// Creates a network.
    pub async fn create(
        &self,
        api: ApiVersion,
        name: &str,
        network: &engine::Network,
    ) -> Result<(), Failure> {
        let request = self.docker.create_network(request(api, name, network));
        let response = self.call(&format!("a network {name}"), request).await?;
        match response.warning.as_str() {
            "" => {}
            warning => {
                log::warn!("the container engine created network {name} with a warning: {warning}");
            }
        }
        Ok(())
    }

    /// Returns the events of networks since `since` (Unix time in seconds) and from now on.
    /// The stream ends with the connection.
    pub fn events(&self, since: u64) -> impl Stream<Item = Event> + Send + use<> {
        let filters = [("type", vec!["network"])].into();
        let options = EventsOptionsBuilder::default()
            .since(&since.to_string())
            .filters(&filters)
            .build();
        let events = self.docker.clone().events(Some(options));
        events
            .take_while(|event| std::future::ready(event.is_ok()))
            .filter_map(|event| {
                std::future::ready(match event.ok().and_then(|event| event.action).as_deref() {
                    Some("create" | "destroy" | "remove") => Some(Event::Network),
                    Some("connect" | "disconnect") => Some(Event::Endpoint),
                    _ => None,
                })
            })
    }
}

/// Event of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A network was created or removed.
    Network,
    /// A container joined or left a network.
    Endpoint,
}

/// Returns a response; `None` if the object does not exist (status 404).
async fn exists<T>(response: impl Future<Output = Result<T, Error>>) -> Result<Option<T>, Error> {
    match response.await {
        Err(Error::DockerResponseServerError {
            status_code: 404, ..
        }) => Ok(None),
        other => other.map(Some),
    }
}

/// Returns the innermost error of the operating system in a chain of errors.
fn system_error(error: &Error) -> Option<&io::Error> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut found = None;
    while let Some(error) = source {
        found = error.downcast_ref::<io::Error>().or(found);
        source = error.source();
    }
    found
}

/// Returns the messages of a chain of errors, without repetitions.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

fn existing_network(network: Network) -> ExistingNetwork {
    let mut options = network.options.unwrap_or_default();
    let subnets = network
        .ipam
        .and_then(|ipam| ipam.config)
        .unwrap_or_default();
    let subnets = subnets
        .into_iter()
        .filter_map(|config| config.subnet?.parse::<IpNet>().ok());
    let trusted = options.remove(TRUSTED).unwrap_or_default();
    ExistingNetwork {
        id: network.id.unwrap_or_default(),
        name: network.name.unwrap_or_default(),
        driver: network.driver.unwrap_or_default(),
        bridge: options.remove(BRIDGE),
        labelled: network.labels.unwrap_or_default().contains_key(LABEL),
        subnets: subnets.map(|net| net.trunc()).collect(),
        mtu: options.get(MTU).and_then(|mtu| mtu.parse().ok()),
        masquerade: options.get(MASQUERADE).is_none_or(|value| value != "false"),
        trusted: trusted
            .split(':')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        endpoints: Vec::new(),
        stopped: Vec::new(),
    }
}

fn endpoint(id: String, resource: EndpointResource) -> Endpoint {
    let addresses = [resource.ipv4_address, resource.ipv6_address]
        .into_iter()
        .flatten();
    Endpoint {
        container: resource.name.filter(|name| !name.is_empty()).unwrap_or(id),
        addresses: addresses
            .filter_map(|address| address.parse().ok())
            .collect(),
    }
}

fn request(api: ApiVersion, name: &str, network: &engine::Network) -> NetworkCreateRequest {
    let subnets = network.subnets.iter();
    let subnets = subnets.map(|net| IpamConfig {
        subnet: Some(net.to_string()),
        ..IpamConfig::default()
    });
    let (v4, v6) = (
        network.subnets.iter().any(|net| net.addr().is_ipv4()),
        network.subnets.iter().any(|net| net.addr().is_ipv6()),
    );
    let mut options: std::collections::HashMap<String, String> = [
        (BRIDGE, network.bridge.clone()),
        // The rules of this module masquerade, except between overlays.
        (MASQUERADE, "false".to_owned()),
        (MTU, network.mtu.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if api >= ApiVersion::TRUSTED_INTERFACES {
        options.insert(TRUSTED.to_owned(), network.trusted.join(":"));
    }
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        enable_ipv4: (api >= ApiVersion::V28).then_some(v4),
        enable_ipv6: Some(v6),
        ipam: Some(Ipam {
            config: Some(subnets.collect()),
            ..Ipam::default()
        }),
        options: Some(options),
        labels: Some([(LABEL.to_owned(), name.to_owned())].into()),
        ..NetworkCreateRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(of: &[(&str, &str)]) -> Network {
        let options = of
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Network {
            options: Some(options.collect()),
            ..Network::default()
        }
    }

    #[test]
    fn engine_masquerades_unless_the_option_is_false() {
        assert!(existing_network(Network::default()).masquerade);
        assert!(existing_network(options(&[])).masquerade);
        assert!(existing_network(options(&[(MASQUERADE, "true")])).masquerade);
        assert!(!existing_network(options(&[(MASQUERADE, "false")])).masquerade);
    }

    #[test]
    fn networks_are_read_with_their_options() {
        let found = existing_network(options(&[
            (MTU, "1400"),
            (TRUSTED, "vtep1024:m-dcos"),
            (BRIDGE, "d-dcos"),
        ]));
        assert_eq!(
            (found.mtu, found.bridge.as_deref()),
            (Some(1400), Some("d-dcos"))
        );
        assert_eq!(found.trusted, ["vtep1024", "m-dcos"]);
        let none = existing_network(options(&[(TRUSTED, "")]));
        assert_eq!(
            (none.mtu, none.bridge, none.trusted),
            (None, None, Vec::new())
        );
        let labels = Some([(LABEL.to_owned(), "dcos".to_owned())].into());
        assert!(
            existing_network(Network {
                labels,
                ..Network::default()
            })
            .labelled
        );
        assert!(!existing_network(Network::default()).labelled);
        let subnets = ["9.0.1.129/25", "nonsense", "fd01:b::8000:0:1/81"];
        let config = subnets.map(|subnet| IpamConfig {
            subnet: Some(subnet.into()),
            ..IpamConfig::default()
        });
        let ipam = Some(Ipam {
            config: Some(config.into()),
            ..Ipam::default()
        });
        let found: Vec<String> = existing_network(Network {
            ipam,
            ..Network::default()
        })
        .subnets
        .iter()
        .map(ToString::to_string)
        .collect();
        assert_eq!(found, ["9.0.1.128/25", "fd01:b::8000:0:0/81"]);
    }

    #[test]
    fn request_has_only_options_that_the_engine_supports() {
        let network = |subnets: &[&str]| engine::Network {
            bridge: "d-dcos".into(),
            subnets: subnets
                .iter()
                .map(|subnet| subnet.parse().unwrap())
                .collect(),
            mtu: 1420,
            trusted: vec!["vtep1024".into(), "m-dcos".into()],
        };
        let (four, six) = ("9.0.1.128/25", "fd01:b::8000:0:0/81");
        for (api, subnets, v4, trusts) in [
            (ApiVersion(1, 47), &[four, six][..], None, false),
            (ApiVersion(1, 48), &[four, six], Some(true), false),
            (ApiVersion(1, 49), &[six], Some(false), false),
            (ApiVersion(1, 50), &[four], Some(true), true),
        ] {
            let request = request(api, "dcos", &network(subnets));
            let options = request.options.unwrap();
            assert_eq!(
                (request.enable_ipv4, request.enable_ipv6),
                (v4, Some(subnets.contains(&six)))
            );
            assert_eq!(
                options.get(TRUSTED).map(String::as_str),
                trusts.then_some("vtep1024:m-dcos"),
                "{api}"
            );
            assert_eq!(
                (options[MTU].as_str(), options[MASQUERADE].as_str()),
                ("1420", "false")
            );
            assert_eq!(
                (options[BRIDGE].as_str(), request.driver.as_deref()),
                ("d-dcos", Some("bridge"))
            );
            assert_eq!(request.labels.unwrap()[LABEL], "dcos");
            assert_eq!(request.ipam.unwrap().config.unwrap().len(), subnets.len());
        }
    }

    #[test]
    fn container_without_a_name_is_identified_by_its_id() {
        let resource = |name: Option<&str>| EndpointResource {
            name: name.map(str::to_owned),
            ipv4_address: Some("9.0.1.130/25".into()),
            ipv6_address: Some(String::new()),
            ..EndpointResource::default()
        };
        for (name, expected) in [(Some("web"), "web"), (Some(""), "7f"), (None, "7f")] {
            let endpoint = endpoint("7f".into(), resource(name));
            assert_eq!(
                (endpoint.container.as_str(), endpoint.addresses.len()),
                (expected, 1)
            );
        }
    }

    /// Runs a test with the client of an engine that gives one answer to everything.
    fn with_engine(status: u16, body: &str, test: impl AsyncFnOnce(Client)) {
        let body = body.to_owned();
        let engine = testkit::engine::FakeEngine::new(move |_| Some((status, body.clone())));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            test(Client::new(&engine.socket, Duration::from_secs(10)).unwrap()).await;
        });
    }

    #[test]
    fn removal_of_an_absent_network_is_no_error() {
        let message = r#"{"message": "no such network"}"#;
        with_engine(404, message, async |client| {
            assert_eq!(client.remove("7f").await, Ok(()));
        });
        with_engine(403, message, async |client| {
            let refused = client.remove("7f").await;
            assert!(matches!(refused, Err(Failure::Refused(_))), "{refused:?}");
        });
    }

    /// A link is fine: engines other than Docker put one in the place of its socket.
    #[test]
    fn something_else_in_the_place_of_the_socket_is_named() {
        let engine = testkit::engine::FakeEngine::new(|_| None);
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link.sock");
        std::os::unix::fs::symlink(&engine.socket, &link).unwrap();
        let timeout = Duration::from_secs(10);
        assert!(Client::new(&link, timeout).is_ok());
        let refused = Client::new(dir.path(), timeout).map(|_| ());
        let expected = format!(
            "cannot reach the container engine at {}: it is not a socket; correct docker_socket, \
             or remove what is there",
            dir.path().display()
        );
        assert_eq!(refused, Err(Failure::Absent(expected)));
    }

    #[test]
    fn events_are_of_networks_or_of_endpoints() {
        let actions = [
            "create",
            "connect",
            "prune",
            "disconnect",
            "remove",
            "destroy",
        ];
        let lines: Vec<String> = actions
            .iter()
            .map(|action| format!(r#"{{"Type": "network", "Action": "{action}"}}"#))
            .collect();
        with_engine(200, &(lines.join("\n") + "\n"), async |client| {
            use Event::{Endpoint, Network};
            let events: Vec<Event> = client.events(0).collect().await;
            assert_eq!(events, [Network, Endpoint, Endpoint, Network, Network]);
        });
    }
}
