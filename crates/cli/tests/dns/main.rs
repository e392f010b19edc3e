//! `mesos-overlay dns` on clusters of real Mesos: names of tasks while they run, while masters fail
//! over, over restarts, and as containers see them.

mod bed;
mod failover;
mod inside;
mod tasks;
