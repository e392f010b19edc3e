// Subset of Mesos: see ../README.md.
#ifndef MESOS_SUBSET_MESOS_MODULE_HPP
#define MESOS_SUBSET_MESOS_MODULE_HPP

#include <mesos/module/module.hpp>

#endif
