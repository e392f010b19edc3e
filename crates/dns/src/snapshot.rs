//! Zones on disk, for the time between a start and the first full state.
