//! The examples for Marathon, run on real Mesos by a stand-in for Marathon; and a framework that is
//! not ours, on an overlay.

mod bed;
mod checks;
mod examples;
mod names;
mod pymesos;
mod readme;
