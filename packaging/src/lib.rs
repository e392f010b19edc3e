//! Builds what is released: the module and the program for old and new hosts, the packages, and
//! the SDK for compiling the module against a Mesos of one's own.

pub mod built;
pub mod date;
pub mod floor;
pub mod glibc;
pub mod release;
mod run;
pub mod sdk;
pub mod tarball;
