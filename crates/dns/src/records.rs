//! DNS records of tasks and masters.
