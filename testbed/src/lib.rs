//! Real Mesos, throw-away hosts and a small framework, for the tests and the demo.
