// Subset of libprocess: see ../README.md.
#ifndef MESOS_SUBSET_PROCESS_PID_HPP
#define MESOS_SUBSET_PROCESS_PID_HPP

#include <memory>
#include <string>

#include <process/address.hpp>

#include <stout/option.hpp>

namespace process {

class ProcessBase;

struct UPID
{
  UPID() = default;
  UPID(const std::string& text);
  UPID(const ProcessBase& process);

  // std::set<UPID> names it; the only such set here is empty.
  bool operator<(const UPID& that) const;

  // Interned: copies share the string.
  struct ID
  {
    operator const std::string&() const
    {
      static const std::string empty;
      return id ? *id : empty;
    }

  private:
    std::shared_ptr<std::string> id;
  } id;

  network::inet::Address address = {net::IPv4(INADDR_ANY), 0};

  struct
  {
    Option<network::inet::Address> v6;
  } addresses = {None()};

  Option<std::string> host;

protected:
  friend struct subset_layout;

  Option<std::weak_ptr<ProcessBase*>> reference = None();
};

// The pid of a process of class `T`.
template <typename T>
struct PID : UPID {};

} // namespace process {

#endif
