//! Builds what is released: the module and the program for old and new hosts, the packages, and
//! the SDK for compiling the module against a Mesos of one's own.

mod archive;
pub mod built;
pub mod checksums;
pub mod chroots;
pub mod contents;
mod deb;
pub mod floor;
pub mod glibc;
pub mod kept;
pub mod licences;
pub mod links;
pub mod packages;
pub mod release;
pub mod rpm;
mod run;
pub mod sdk;
pub mod tarball;
pub mod tools;
