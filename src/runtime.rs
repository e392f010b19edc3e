//! Everything the core may not touch: clock, randomness, files, threads.
