//! The other agents, as an agent shows them: `/overlay-agent/peers`.

use serde::Serialize;

use super::write;
use crate::proto::internal as proto;

/// Returns the peers of an agent; `None`: no master has sent them yet.
pub fn peers(peers: Option<impl ExactSizeIterator<Item = proto::Peer>>) -> Vec<u8> {
    let Some(peers) = peers else {
        return b"{}".to_vec();
    };
    // A peer with one overlay takes about 140 bytes.
    let mut out = Vec::with_capacity(32 + 160 * peers.len());
    out.extend_from_slice(b"{\"count\":");
    write(&mut out, &peers.len());
    let is_empty = peers.len() == 0;
    for (index, peer) in peers.enumerate() {
        out.extend_from_slice(if index == 0 { b",\"peers\":[" } else { b"," });
        write(&mut out, &Peer::from(&peer));
    }
    out.extend_from_slice(if is_empty { b"}" } else { b"]}" });
    out
}

#[derive(Serialize)]
struct Peer<'a> {
    ip: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subnets: Vec<PeerSubnet<'a>>,
    vtep_ip: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vtep_ip6: Option<&'a str>,
    vtep_mac: &'a str,
}

#[derive(Serialize)]
struct PeerSubnet<'a> {
    overlay: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet6: Option<&'a str>,
}

impl<'a> From<&'a proto::Peer> for Peer<'a> {
    fn from(peer: &'a proto::Peer) -> Self {
        let subnets = peer.subnets.iter().map(|of_overlay| PeerSubnet {
            overlay: &of_overlay.overlay,
            subnet: of_overlay.subnet.as_deref(),
            subnet6: of_overlay.subnet6.as_deref(),
        });
        Peer {
            ip: &peer.ip,
            subnets: subnets.collect(),
            vtep_ip: &peer.vtep_ip,
            vtep_ip6: peer.vtep_ip6.as_deref(),
            vtep_mac: &peer.vtep_mac,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_list_is_not_an_empty_one() {
        let text = |list: Option<Vec<proto::Peer>>| {
            String::from_utf8(peers(list.map(Vec::into_iter))).unwrap()
        };
        assert_eq!(text(None), "{}");
        assert_eq!(text(Some(Vec::new())), r#"{"count":0}"#);
        let peer = proto::Peer {
            ip: "10.0.0.2".into(),
            vtep_ip: "44.128.0.2".into(),
            vtep_mac: "70:b3:d5:80:00:02".into(),
            subnets: vec![proto::PeerSubnet {
                overlay: "dcos".into(),
                subnet: Some("9.0.1.0/24".into()),
                subnet6: None,
            }],
            ..Default::default()
        };
        assert_eq!(
            text(Some(vec![peer])),
            concat!(
                r#"{"count":1,"peers":[{"ip":"10.0.0.2","#,
                r#""subnets":[{"overlay":"dcos","subnet":"9.0.1.0/24"}],"#,
                r#""vtep_ip":"44.128.0.2","vtep_mac":"70:b3:d5:80:00:02"}]}"#
            )
        );
    }
}
