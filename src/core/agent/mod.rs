//! The agent's role: find the leading master, register, make the host match what
//! it answers, report.
