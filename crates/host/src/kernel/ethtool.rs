//! Features of network devices (ethtool's netlink family): place where the checksums of a
//! tunnel's packets are computed. In the network namespace of the calling thread.

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;

use crate::reconcile::ChecksumOffload;

use super::raw::{Attributes, Request, Socket, attributes, find};

/// Feature, as `ethtool -k` names it.
const FEATURE: &str = "tx-checksum-ip-generic";

// From linux/genetlink.h and linux/ethtool_netlink.h.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
/// Attribute of requests: the device.
const HEADER: u16 = 1;
const HEADER_NAME: u16 = 2;
/// Attribute of an answer: the features that are on.
const ACTIVE: u16 = 4;
/// Attribute of a request: the features to be set.
const WANTED: u16 = 3;
/// Attribute of a set of features: the list of features.
const BITS: u16 = 3;
const BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;
/// Attribute of a set of features: the list has only features that are on.
const NO_MASK: u16 = 1;

/// Bytes of the header of a generic message: command, version, padding.
const GENERIC_HEADER: usize = 4;

/// Client of ethtool's netlink family.
pub(crate) struct Ethtool {
    socket: Socket,
    /// Type of the family's messages.
    family: u16,
}

impl Ethtool {
    /// Opens a socket.
    ///
    /// # Errors
    /// The kernel does not know the family (before 5.6).
    pub(crate) fn open() -> io::Result<Ethtool> {
        let socket = Socket::open(NETLINK_GENERIC)?;
        let name = Attributes::default().with_text(FAMILY_NAME, "ethtool");
        let answer = ask(&socket, CONTROL, GET_FAMILY, &name)?;
        let id = find(&answer, FAMILY_ID).and_then(|id| id.try_into().ok());
        let id = id.ok_or_else(|| io::Error::other("the kernel's answer has no family"))?;
        Ok(Ethtool {
            socket,
            family: u16::from_ne_bytes(id),
        })
    }

    /// Returns where the checksums of a device are computed.
    ///
    /// # Errors
    /// The device does not exist, or has no features.
    pub(crate) fn tx_checksum(&self, device: &str) -> io::Result<ChecksumOffload> {
        let answer = ask(&self.socket, self.family, FEATURES_GET, &header(device))?;
        let active = find(&answer, ACTIVE)
            .ok_or_else(|| io::Error::other("the kernel's answer has no features"))?;
        let bits = find(active, BITS).unwrap_or_default();
        let lists_only_active = find(active, NO_MASK).is_some();
        let name = [FEATURE.as_bytes(), b"\0"].concat();
        let is_active = attributes(bits).flatten().any(|bit| {
            let is_on = lists_only_active || find(bit.value, BIT_VALUE).is_some();
            is_on && find(bit.value, BIT_NAME) == Some(&name)
        });
        Ok(match is_active {
            true => ChecksumOffload::On,
            false => ChecksumOffload::Off,
        })
    }

    /// Sets where the checksums of a device are computed.
    ///
    /// # Errors
    /// The device does not have or not change the feature.
    pub(crate) fn set_tx_checksum(&self, device: &str, offload: ChecksumOffload) -> io::Result<()> {
        let mut bit = Attributes::default().with_text(BIT_NAME, FEATURE);
        if offload == ChecksumOffload::On {
            bit = bit.with(BIT_VALUE, &[]);
        }
        let bits = Attributes::default().with_nested(BIT, &bit);
        let wanted = Attributes::default().with_nested(BITS, &bits);
        let request = header(device).with_nested(WANTED, &wanted);
        ask(&self.socket, self.family, FEATURES_SET, &request)?;
        // The kernel reports no error if a device lacks the feature.
        if self.tx_checksum(device)? == offload {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "the device does not take {FEATURE} {offload}"
        )))
    }
}

/// Sends a request of a generic family, and returns the attributes of the answer, if there is
/// one.
fn ask(socket: &Socket, family: u16, command: u8, attributes: &Attributes) -> io::Result<Vec<u8>> {
    let payload = [&[command, 1, 0, 0], attributes.bytes()].concat();
    let mut answer = Vec::new();
    socket.ask(family, Request::Single, &payload, |payload| {
        answer = payload.get(GENERIC_HEADER..).unwrap_or_default().to_vec();
    })?;
    Ok(answer)
}

/// Returns the attribute that names the device of a request.
fn header(device: &str) -> Attributes {
    let name = Attributes::default().with_text(HEADER_NAME, device);
    Attributes::default().with_nested(HEADER, &name)
}
