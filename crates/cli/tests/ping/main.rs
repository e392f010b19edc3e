//! `mesos-overlay ping` and `trace` on hosts of a real Mesos cluster: nothing is found where all is
//! well, and each fault is named.

mod bed;
mod faults;
mod healthy;
mod trace;
