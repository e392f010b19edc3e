//! Server: UDP and TCP, zone transfers, forwarding, access, metrics.
