// Subset of Mesos: see ../README.md.
#ifndef MESOS_SUBSET_MESOS_VERSION_HPP
#define MESOS_SUBSET_MESOS_VERSION_HPP

// Oldest version that loads a module built with these headers.
#define MESOS_VERSION "1.11.0"

#endif
