//! Table of frameworks, agents and tasks, built from the events of a master's operator API.
