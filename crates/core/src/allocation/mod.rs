//! Allocation of subnets and VTEP addresses.

pub mod allocator;
pub mod pool;
pub mod prefix;
