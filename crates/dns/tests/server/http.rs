//! Metrics, health and lookup over HTTP.
