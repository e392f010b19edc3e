//! Declarations of `include/mesos_overlay.h`, for tests and fuzz targets that call the library
//! as a C program does.
//!
//! bindgen generates them. The result is committed, so that a build needs no libclang. The
//! test `bindings` generates it again and fails if it is out of date. This updates it:
//!
//! ```text
//! UPDATE_BINDINGS=1 cargo test --test bindings
//! ```
//!
//! A program that calls the functions must link the package `mesos-overlay`, for example with
//! `use mesos_overlay as _;`.
#![no_std]
#![allow(
    missing_docs,
    non_camel_case_types,
    reason = "the names of the header, which documents them"
)]

#[rustfmt::skip]
mod bindings;

pub use bindings::*;
