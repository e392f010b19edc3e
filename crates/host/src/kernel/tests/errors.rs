//! Errors of requests.

use crate::kernel::netlink::{Error, verdict};
use nix::errno::Errno;

#[test]
fn error_numbers_are_negative_and_zero_is_no_error() {
    assert_eq!(verdict(0, None), Ok(()));
    let refused = |errno| Err(Error::Refused { errno, text: None });
    assert_eq!(verdict(-17, None), refused(Errno::EEXIST));
    assert_eq!(verdict(-2, None), refused(Errno::ENOENT));
    let text = Some("Nexthop has invalid gateway.".to_owned());
    let Err(error) = verdict(-101, text) else {
        panic!()
    };
    assert_eq!(
        error.to_string(),
        "Network is unreachable (Nexthop has invalid gateway)"
    );
}
