// Subset of stout: see ../README.md.
#ifndef MESOS_SUBSET_STOUT_ERROR_HPP
#define MESOS_SUBSET_STOUT_ERROR_HPP

#include <string>

struct Error
{
  explicit Error(const std::string& _message) : message(_message) {}
  const std::string message;
};

#endif
