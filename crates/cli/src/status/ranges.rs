//! Use of the ranges of overlays and VTEPs.

use crate::answers::Capacity;
use crate::finding::Finding;
use crate::finding::kinds::cluster;

/// Use of a range of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// `IPv4` or `IPv6`.
    pub family: &'static str,
    /// Number of used subnets or addresses.
    pub used: u128,
    /// Number of free ones.
    pub free: u128,
    /// Number of all.
    pub total: u128,
}

impl Use {
    /// Returns true if at least 90 % are not free.
    fn is_nearly_full(&self) -> bool {
        self.free <= self.total / 10
    }
}

/// Returns the use of the ranges, by family.
pub fn uses(capacity: &Capacity) -> impl Iterator<Item = Use> {
    let Capacity {
        free,
        total,
        used,
        free6,
        total6,
        used6,
    } = *capacity;
    [("IPv4", free, total, used), ("IPv6", free6, total6, used6)]
        .into_iter()
        .filter_map(|(family, free, total, used)| {
            Some(Use {
                family,
                used: used?,
                free: free?,
                total: total?,
            })
        })
}

/// Returns findings about ranges that are full, or nearly so. `subject` is what they are about,
/// `what` the same as a phrase, and `unit` what is used of them.
pub fn examine(
    capacity: &Capacity,
    subject: &str,
    what: &str,
    unit: &str,
) -> impl Iterator<Item = Finding> {
    uses(capacity).filter_map(move |of| {
        let Use {
            family,
            used,
            free,
            total,
        } = of;
        let (kind, message) = match free {
            0 => {
                let message =
                    format!("the {family} range of {what} is full: {used} of {total} used");
                (&cluster::RANGE_FULL, message)
            }
            _ if of.is_nearly_full() => {
                let message = format!(
                    "the {family} range of {what} is nearly full: {free} of {total} {unit} free"
                );
                (&cluster::RANGE_NEARLY_FULL, message)
            }
            _ => return None,
        };
        let remedy =
            "Remove agents that are gone, or give new agents another range or smaller subnets";
        Some(kind.finding(message, remedy).about(subject))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(free: u128, total: u128) -> Vec<&'static str> {
        let capacity = Capacity {
            free: Some(free),
            total: Some(total),
            used: Some(total - free),
            free6: Some(u128::MAX),
            total6: Some(u128::MAX),
            used6: Some(0),
        };
        let findings = examine(&capacity, "dcos", "overlay dcos", "subnets");
        findings.map(|finding| finding.code).collect()
    }

    #[test]
    fn ranges_are_full_or_nearly_so() {
        assert_eq!(codes(0, 4), ["range-full"]);
        assert_eq!(codes(1, 4), [""; 0]);
        assert_eq!(codes(1, 10), ["range-nearly-full"]);
        assert_eq!(codes(2, 10), [""; 0]);
        assert_eq!(codes(6553, 65536), ["range-nearly-full"]);
        assert_eq!(codes(6554, 65536), [""; 0]);
    }
}
