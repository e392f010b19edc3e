// Subset of stout: see ../README.md.
#ifndef MESOS_SUBSET_STOUT_NONE_HPP
#define MESOS_SUBSET_STOUT_NONE_HPP

struct None {};

#endif
