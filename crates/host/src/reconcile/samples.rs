//! Sample operations for unit tests.

use std::net::IpAddr;

use super::{MAIN_TABLE, NewRoute, Op};

/// Returns the operation that sets the route to the `n`th peer's subnet `9.0.<n>.0/24` by a
/// gateway.
pub(crate) fn set_route(n: usize, gateway: &str) -> Op {
    let via: IpAddr = gateway.parse().unwrap();
    let route = NewRoute {
        table: MAIN_TABLE,
        dst: format!("9.0.{n}.0/24").parse().unwrap(),
        via,
        nexthop: None,
        replaces: false,
    };
    Op::SetRoute("vtep1024".into(), route)
}
