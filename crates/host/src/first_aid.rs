//! Removal of what cuts the host off, when the agent starts.

use std::net::Ipv4Addr;

use crate::kernel::netlink::Netlink;
use crate::kernel::{observe, request};
use crate::reconcile;
use crate::reconciler::event_loop;

/// Removes addresses and routes of the VXLAN device that no master can have meant, such as a
/// route to half of all addresses, in the network namespace of the calling thread. `own` is the
/// agent's address on the underlay. Returns the number of removed objects.
///
/// # Errors
/// The kernel cannot be read; a sentence for operators.
pub fn first_aid(own: Option<Ipv4Addr>) -> Result<usize, String> {
    let runtime = event_loop().map_err(|error| format!("cannot start an event loop: {error}"))?;
    runtime.block_on(async {
        let netlink =
            Netlink::open().map_err(|error| format!("cannot open a netlink socket: {error}"))?;
        let host = observe::unassigned(&netlink).await?;
        let mut removed = 0;
        for op in reconcile::first_aid(&host, own) {
            let name = op.device().map(|device| device.to_string());
            let index = observe::index_of(&netlink, &name.unwrap_or_default()).await;
            let Some(index) = index.ok().flatten() else {
                continue;
            };
            let request = request::request(&op, index).into_iter().collect();
            for result in netlink.execute(request).await {
                match result {
                    Ok(()) => {
                        removed += 1;
                        log::warn!("found on this host what no overlay can have: {op}");
                    }
                    Err(error) => log::error!("cannot {op}, which no overlay can have: {error}"),
                }
            }
        }
        Ok(removed)
    })
}
