//! Addresses of the masters that ZooKeeper has, the leading one first.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use overlay_core::config::zk::ZkUrl;
use serde::Deserialize;
use tokio::net::lookup_host;
use tokio::time::timeout;
use zookeeper_async::{WatchedEvent, Watcher, ZkError, ZooKeeper};

/// Beginning of the name of a master's znode. The leading master has the lowest number behind it.
const ZNODE: &str = "json.info_";

/// Interval between attempts to connect.
const RETRY: Duration = Duration::from_millis(200);

/// Content of a master's znode: the part of Mesos's `MasterInfo` that is used.
#[derive(Deserialize)]
struct MasterInfo {
    address: Address,
}

#[derive(Deserialize)]
struct Address {
    ip: String,
    port: u16,
}

/// Watcher that ignores what it is told.
struct Deaf;

impl Watcher for Deaf {
    fn handle(&self, _: WatchedEvent) {}
}

/// Returns the masters, `ip:port`, the leading one first.
///
/// # Errors
/// No server answers in time, or ZooKeeper has no master. The text continues a phrase.
pub fn masters(url: &ZkUrl, limit: Duration) -> Result<Vec<String>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start an event loop: {error}"))?;
    let masters = runtime.block_on(ask_servers(url, limit));
    // A connection that is being made would delay the end of the program.
    runtime.shutdown_background();
    let masters = masters?;
    match masters.is_empty() {
        true => Err(format!(
            "ZooKeeper at {} has no master below {}: none runs, or they use another path",
            url.servers,
            path(url)
        )),
        false => Ok(masters),
    }
}

/// Asks one server after the other, until one answers. A server that is down may not use up the
/// time for the others, as it would if the client had the whole list.
async fn ask_servers(url: &ZkUrl, limit: Duration) -> Result<Vec<String>, String> {
    let servers: Vec<&str> = url.servers.split(',').collect();
    let share = limit / servers.len().max(1) as u32;
    let mut silent = Vec::new();
    for server in servers {
        // The client would resolve it, too, without a time limit.
        let resolved = timeout(share, lookup_host(server)).await;
        let Ok(Some(address)) = resolved.map(|found| found.ok()?.next()) else {
            silent.push(format!("{server} has no address"));
            continue;
        };
        match timeout(share, ask(&address.to_string(), url, share)).await {
            Ok(Ok(masters)) => return Ok(masters),
            Ok(Err(error @ (ZkError::NoNode | ZkError::NoAuth | ZkError::AuthFailed))) => {
                return Err(refused(url, error));
            }
            // A server without a quorum, for example. Others may have one.
            Ok(Err(error)) => silent.push(format!("{server}: {error}")),
            Err(_) => silent.push(format!(
                "{server} does not answer within {} s",
                share.as_secs_f32()
            )),
        }
    }
    Err(format!("ZooKeeper is not reached: {}", silent.join(", ")))
}

async fn ask(server: &str, url: &ZkUrl, limit: Duration) -> Result<Vec<String>, ZkError> {
    let client = ZooKeeper::connect_with_retry_time(server, limit, Deaf, RETRY).await?;
    if let Some(credentials) = &url.credentials {
        client
            .add_auth("digest", credentials.as_bytes().to_vec())
            .await?;
    }
    let directory = path(url);
    let mut names = client.get_children(&directory, false).await?;
    names.retain(|name| name.starts_with(ZNODE));
    names.sort();
    let mut masters = Vec::new();
    for name in names {
        let znode = format!("{}/{name}", directory.trim_end_matches('/'));
        match client.get_data(&znode, false).await {
            // A master that started again can have a second znode, until its former session ends.
            Ok((content, _)) => {
                masters.extend(parse(&content).filter(|master| !masters.contains(master)));
            }
            // A master ended meanwhile.
            Err(ZkError::NoNode) => {}
            Err(error) => return Err(error),
        }
    }
    // Without it the server keeps the session until it expires. Nothing depends on it.
    let _ = client.close().await;
    Ok(masters)
}

/// Returns a sentence about a request that ZooKeeper refused.
fn refused(url: &ZkUrl, error: ZkError) -> String {
    let (servers, path) = (&url.servers, path(url));
    match error {
        ZkError::NoNode => format!(
            "ZooKeeper at {servers} has no znode {path}; give the path that Mesos's --zk has"
        ),
        ZkError::NoAuth | ZkError::AuthFailed => format!(
            "ZooKeeper at {servers} does not let this program read {path}; give user and password as Mesos's --zk has \
             them"
        ),
        error => format!("ZooKeeper at {servers}: {error}"),
    }
}

fn path(url: &ZkUrl) -> String {
    match url.path.as_str() {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}

fn parse(content: &[u8]) -> Option<String> {
    let info: MasterInfo = serde_json::from_slice(content).ok()?;
    let Address { ip, port } = info.address;
    let ip: IpAddr = ip.parse().ok()?;
    Some(SocketAddr::new(ip, port).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masters_znode_has_its_address() {
        let content = br#"{"id": "x", "address": {"hostname": "m", "ip": "10.0.0.1", "port": 5050}, "port": 5050}"#;
        assert_eq!(parse(content).as_deref(), Some("10.0.0.1:5050"));
        assert_eq!(parse(b"{}"), None);
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let url = overlay_core::config::zk::parse("zk://no-such-host.invalid:1,127.0.0.1:1/mesos");
        let error = masters(&url.unwrap(), Duration::from_millis(600)).unwrap_err();
        assert_eq!(
            error,
            "ZooKeeper is not reached: no-such-host.invalid:1 has no address, 127.0.0.1:1 does not answer within 0.3 s"
        );
    }
}
