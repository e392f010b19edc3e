//! The change to DC/OS's package `mesos-modules`: how it is applied, what is built with it, and that a
//! real Mesos runs from the result. The commands for single nodes.

mod change;
mod checkout;
mod cluster;
mod container;
mod package;
mod steps;
