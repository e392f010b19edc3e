// Subset of stout: see ../README.md.
#ifndef MESOS_SUBSET_STOUT_NOTHING_HPP
#define MESOS_SUBSET_STOUT_NOTHING_HPP

struct Nothing {};

#endif
