//! Whether other hosts can reach this agent at the address by which it is known.

use std::net::IpAddr;

use super::Agent;
use crate::util::special_purpose;

impl Agent {
    /// Returns why no master serves this agent: the address of its Mesos agent cannot be one of a
    /// host. A sentence.
    pub(super) fn address_fault(&self) -> Option<String> {
        let master = self.registration.master()?.address.ip();
        fault(self.me.address.ip(), master)
    }

    /// Returns the sentences of the master about what it could not assign, after one about this
    /// agent's own address.
    pub(super) fn all_problems(&self) -> Vec<String> {
        let own = self.address_fault().into_iter();
        own.chain(self.problems.iter().cloned()).collect()
    }
}

fn fault(ip: IpAddr, master: IpAddr) -> Option<String> {
    let why = match ip {
        IpAddr::V6(_) => {
            "agents need an IPv4 address; start its Mesos agent with --ip or LIBPROCESS_IP, an \
                          IPv4 address of its host"
                .to_owned()
        }
        IpAddr::V4(_) => {
            let range = special_purpose::of_host(ip, master)?;
            let remedy = range.remedy(ip);
            format!("no other host reaches an address in {range}{remedy}")
        }
    };
    Some(format!(
        "This agent does not register with the master at {master}, since its own address is {ip}: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_knows_whether_others_reach_it() {
        let fault = |ip: &str, master: &str| fault(ip.parse().unwrap(), master.parse().unwrap());
        assert_eq!(fault("10.0.0.2", "10.0.0.1"), None);
        assert_eq!(fault("127.0.0.1", "127.0.0.1"), None, "a test on one host");
        assert_eq!(
            fault("127.0.1.1", "10.0.0.1").unwrap(),
            "This agent does not register with the master at 10.0.0.1, since its own address is 127.0.1.1: no other \
             host reaches an address in the loopback range 127.0.0.0/8; start its Mesos agent with --ip or \
             LIBPROCESS_IP, the address of its host on the network (/etc/hosts may map the name of the host to \
             127.0.1.1)"
        );
        for ip in ["0.0.0.0", "169.254.0.9", "fd01::2"] {
            let fault = fault(ip, "10.0.0.1").expect(ip);
            assert!(fault.contains("LIBPROCESS_IP"), "{fault}");
        }
    }
}
