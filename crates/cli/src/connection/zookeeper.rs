//! Addresses of the masters that ZooKeeper has, the leading one first.

use std::time::Duration;

use overlay_core::config::zk::ZkUrl;
use serde::Deserialize;
use zookeeper_client::{Client, Error};

/// Beginning of the name of a master's znode. The leading master has the lowest number behind it.
const ZNODE: &str = "json.info_";

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

/// Returns the masters, `ip:port`, the leading one first.
///
/// # Errors
/// ZooKeeper does not answer in time, or has no master. The text continues a phrase.
pub fn masters(url: &ZkUrl, limit: Duration) -> Result<Vec<String>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start an event loop: {error}"))?;
    let asked = runtime.block_on(async { tokio::time::timeout(limit, ask(url, limit)).await });
    // A session that is being made would delay the end of the program.
    runtime.shutdown_background();
    let servers = &url.servers;
    let found = asked.map_err(|_| {
        format!(
            "ZooKeeper at {servers} does not answer within {} s",
            limit.as_secs()
        )
    })?;
    found.map_err(|error| match error {
        Error::NoNode => format!("ZooKeeper at {servers} has no znode {}; is the path that of Mesos's --zk?", path(url)),
        Error::NoAuth | Error::AuthFailed => {
            format!("ZooKeeper at {servers} does not let this program read {}; give user and password in the URL as Mesos's --zk has them", path(url))
        }
        error => format!("ZooKeeper at {servers}: {error}"),
    })
    .and_then(|masters| match masters.is_empty() {
        true => Err(format!("ZooKeeper at {servers} has no master below {}: none runs, or they use another path", path(url))),
        false => Ok(masters),
    })
}

async fn ask(url: &ZkUrl, limit: Duration) -> Result<Vec<String>, Error> {
    let mut connector = Client::connector()
        .with_readonly(true)
        .with_session_timeout(limit)
        .with_fail_eagerly();
    if let Some(credentials) = &url.credentials {
        connector = connector.with_auth("digest", credentials.as_bytes());
    }
    let client = connector.connect(&url.servers).await?;
    let directory = path(url);
    let mut names = client.list_children(&directory).await?;
    names.retain(|name| name.starts_with(ZNODE));
    names.sort();
    let mut masters = Vec::new();
    for name in names {
        let znode = format!("{}/{name}", directory.trim_end_matches('/'));
        match client.get_data(&znode).await {
            Ok((content, _)) => masters.extend(parse(&content)),
            // A master ended meanwhile.
            Err(Error::NoNode) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(masters)
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
    Some(match ip.contains(':') {
        true => format!("[{ip}]:{port}"),
        false => format!("{ip}:{port}"),
    })
}
