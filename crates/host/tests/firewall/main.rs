//! Tests of the firewall on a real kernel, by packets: which ones are forwarded, and with
//! which source address they arrive. Hosts, containers and the outside are network
//! namespaces, connected by veth pairs.
mod cpu_time;
mod docker_restart;
mod isolation;
mod nat;
mod repair;
mod tool_set;
mod topology;
