//! Tests of how file and stored networks meet: the lines of docs/networks.md.
