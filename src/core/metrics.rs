//! Numbers for Mesos's `/metrics/snapshot`. The names without `addresses/` are those
//! that dashboards of existing clusters know.

use std::borrow::Cow;

/// What the names of the master's metrics begin with.
pub const MASTER_PREFIX: &str = "overlay/master/";
/// What the names of the agent's metrics begin with.
pub const AGENT_PREFIX: &str = "overlay/slave/";

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its whole name.
    pub name: Cow<'static, str>,
    /// Its value. A count of something that happened begins at 0 with each machine.
    pub value: f64,
}

impl Metric {
    /// A metric with a name of its own.
    pub fn new(name: impl Into<Cow<'static, str>>, value: f64) -> Metric {
        Metric { name: name.into(), value }
    }

    /// A count. What has more than 53 bits is rounded: metrics of Mesos are floating
    /// point numbers.
    pub fn count(name: impl Into<Cow<'static, str>>, count: u64) -> Metric {
        Metric::new(name, count as f64)
    }

    /// 1 or 0.
    pub fn flag(name: impl Into<Cow<'static, str>>, is: bool) -> Metric {
        Metric::count(name, is.into())
    }
}
