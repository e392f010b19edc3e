//! Tests of the firewall on a real kernel, by packets: which ones are forwarded, and with
//! which source address they arrive. Hosts, containers and the outside are network
//! namespaces, connected by veth pairs.
mod closed;
mod cpu_time;
mod docker_restart;
mod downgrade;
mod flows;
mod isolation;
mod masters;
mod nat;
mod others;
mod raw;
mod repair;
mod services;
mod tool_set;
mod topology;
