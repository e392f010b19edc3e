//! The C ABI of `include/mesos_overlay.h`.
