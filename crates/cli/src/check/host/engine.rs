//! Container engine: reachable, and recent enough.

use std::path::PathBuf;
use std::time::Duration;

use overlay_core::host_api::desired::Firewall;
use overlay_core::host_api::engine::DEFAULT_SOCKET;
use overlay_host::docker::{EngineRelease, ProbeError, probe};

use super::Check;
use super::scene::Scene;
use crate::finding::kinds::host;

const ENGINE: &str = "container engine";

/// Timeout of the question for the release, if the agent's `command_timeout` is not shorter.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Oldest release that is supported: major and minor number.
const OLDEST: (u32, u32) = (20, 10);
/// First release that drops packets from other devices than a container's own bridge.
const ISOLATING: (u32, u32) = (28, 0);

/// Asks the engine for its release, if the agent needs one, or one is there.
pub fn engine(scene: &Scene) -> Check {
    if let Some(reason) = scene.without_containers() {
        return Check::skipped(ENGINE, reason);
    }
    let socket = socket(scene);
    let limit = match &scene.agent {
        Some((file, config)) if !config.network.docker_bridge => {
            let reason = format!("docker_bridge is false in {}", file.display());
            return Check::skipped(ENGINE, reason);
        }
        None if !socket.exists() => {
            let reason = format!(
                "{} does not exist; set docker_bridge to false",
                socket.display()
            );
            return Check::skipped(ENGINE, reason);
        }
        Some((_, config)) => config.network.command_timeout.min(TIMEOUT),
        None => TIMEOUT,
    };
    match probe(&socket, limit) {
        Ok(release) => released(scene, &release),
        Err(ProbeError::Forbidden(sentence)) => Check::skipped(ENGINE, sentence),
        Err(ProbeError::Absent(sentence)) => {
            let remedy = "start Docker, or set docker_socket; on agents without Docker set \"docker_bridge\": false";
            let finding = host::ENGINE_ABSENT.finding(sentence, remedy);
            Check::made(ENGINE, "absent", vec![finding.about(socket.display())])
        }
        Err(ProbeError::Silent(sentence)) => {
            let remedy = "restart Docker; its log says why it hangs";
            let finding = host::ENGINE_HUNG.finding(sentence, remedy);
            Check::made(
                ENGINE,
                "does not answer",
                vec![finding.about(socket.display())],
            )
        }
    }
}

/// Returns the socket as the agent module finds it.
fn socket(scene: &Scene) -> PathBuf {
    let configured = scene.agent.as_ref();
    let configured = configured.and_then(|(_, config)| config.docker_socket.clone());
    let of_process = || {
        let (process, _) = scene.mesos.agent_module()?;
        let text = process.variable("DOCKER_HOST")?.strip_prefix("unix://")?;
        Some(PathBuf::from(text))
    };
    configured
        .or_else(of_process)
        .unwrap_or_else(|| DEFAULT_SOCKET.into())
}

fn released(scene: &Scene, release: &EngineRelease) -> Check {
    let version: String = release
        .version
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    let mut findings = Vec::new();
    let numbers = numbers(&version);
    if numbers.is_some_and(|numbers| numbers < OLDEST) {
        let message =
            format!("the container engine is release {version}, and 20.10 or newer is needed");
        findings.push(host::ENGINE_OLD.finding(message, "upgrade Docker"));
    }
    let isolates = numbers.is_some_and(|numbers| numbers >= ISOLATING);
    if isolates && scene.firewall() == Firewall::None {
        let message = format!(
            "Docker {version} drops packets that do not arrive on the bridge of a container, and \"firewall\" is \"none\", so that the agent writes no rules that let those of the overlays pass"
        );
        let remedy = "remove \"firewall\" from agent.json, or accept in the table raw what comes from vtep1024 and the overlays' bridges";
        findings.push(host::ENGINE_ISOLATES.finding(message, remedy));
    }
    Check::made(
        ENGINE,
        format!("release {version}, API {}", release.api),
        findings,
    )
}

/// Returns major and minor number of a version such as `20.10.24+dfsg1`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    let minor = |text: &str| {
        let digits = text.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    Some((parts.next()?.parse().ok()?, minor(parts.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(numbers("20.10.24+dfsg1"), Some((20, 10)));
        assert_eq!(numbers("28.5-rc1"), Some((28, 5)));
        assert!(numbers("19.03.15").unwrap() < OLDEST);
        assert!(numbers("9.10.0").unwrap() < OLDEST);
        assert_eq!(numbers("podman"), None);
    }
}
