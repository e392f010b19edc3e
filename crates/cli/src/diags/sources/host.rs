//! System of this host: distribution, kernel, settings.

use std::fs;
use std::path::Path;

use super::Collector;
use crate::diags::bundle::{Content, Form};

/// Files: name in the archive, path.
const FILES: [(&str, &str); 6] = [
    ("os-release.txt", "/etc/os-release"),
    ("kernel.txt", "/proc/version"),
    ("modules.txt", "/proc/modules"),
    ("uptime.txt", "/proc/uptime"),
    ("memory.txt", "/proc/meminfo"),
    ("network-statistics.txt", "/proc/net/netstat"),
];
/// Settings of the kernel below /proc/sys.
const SETTINGS: [&str; 14] = [
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_local_reserved_ports",
    "net/ipv4/neigh/default/gc_thresh1",
    "net/ipv4/neigh/default/gc_thresh2",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv6/neigh/default/gc_thresh3",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
    "net/core/bpf_jit_enable",
    "net/core/netdev_max_backlog",
];
/// Settings of each device.
const OF_DEVICES: [(&str, &[&str]); 2] = [
    (
        "ipv4",
        &[
            "forwarding",
            "rp_filter",
            "proxy_arp",
            "arp_ignore",
            "arp_announce",
        ],
    ),
    (
        "ipv6",
        &["forwarding", "accept_ra", "disable_ipv6", "proxy_ndp"],
    ),
];
/// Words of the kernel's lines that are collected.
const WORDS: [&str; 12] = [
    "vxlan",
    "vtep",
    "bridge",
    "br0",
    "netfilter",
    "nf_",
    "conntrack",
    "iptables",
    "mesos",
    "oom",
    "neighbour",
    "martian",
];
/// Largest number of devices.
const MAX_DEVICES: usize = 500;

impl Collector<'_> {
    /// Adds versions and settings of the system.
    pub(super) fn host(&mut self) {
        self.progress.say("the system");
        for (name, path) in FILES {
            self.file(&format!("system/{name}"), Path::new(path), Form::Text);
        }
        self.tool("system/glibc.txt", &["ldd", "--version"]);
        let what = "settings of the kernel";
        let settings = Content::from(settings());
        self.add("system/sysctl.txt", what, Form::Text, Ok(settings));
        let lines = self
            .run(&["dmesg", "--time-format", "iso"])
            .map(kernel_lines);
        let what = "lines of the kernel about networks";
        self.add("system/dmesg.txt", what, Form::Text, lines);
    }
}

/// Returns the lines of the kernel's log that have one of the words.
fn kernel_lines(content: Content) -> Content {
    let text = String::from_utf8_lossy(&content.bytes);
    let lines = text.lines().filter(|line| {
        let line = line.to_lowercase();
        WORDS.iter().any(|word| line.contains(word))
    });
    let text = lines.map(|line| format!("{line}\n")).collect::<String>();
    Content {
        bytes: text.into_bytes(),
        ..content
    }
}

/// Returns settings, one a line as in sysctl.conf.
fn settings() -> String {
    let mut paths: Vec<String> = SETTINGS.iter().map(ToString::to_string).collect();
    for (family, names) in OF_DEVICES {
        let directory = format!("net/{family}/conf");
        let entries = fs::read_dir(format!("/proc/sys/{directory}"));
        let entries = entries.into_iter().flatten().flatten();
        let devices = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut devices: Vec<String> = devices.collect();
        devices.sort();
        for device in devices.iter().take(MAX_DEVICES) {
            paths.extend(
                names
                    .iter()
                    .map(|name| format!("{directory}/{device}/{name}")),
            );
        }
    }
    let mut lines = String::new();
    for path in paths {
        if let Ok(value) = fs::read_to_string(format!("/proc/sys/{path}")) {
            lines += &format!("{path} = {}\n", value.trim());
        }
    }
    lines
}
