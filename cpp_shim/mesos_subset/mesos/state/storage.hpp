// Subset of Mesos: see ../../README.md.
#ifndef MESOS_SUBSET_MESOS_STATE_STORAGE_HPP
#define MESOS_SUBSET_MESOS_STATE_STORAGE_HPP

#include <stdint.h>

#include <set>
#include <string>

#include <google/protobuf/message.h>

#include <process/future.hpp>

#include <stout/option.hpp>

namespace id {

class UUID;

} // namespace id {

namespace mesos {
namespace internal {
namespace state {

// A stored variable.
class Entry : public google::protobuf::Message
{
public:
  Entry();
  Entry(const Entry& from);
  ~Entry();
  static const Entry& default_instance();

  const std::string& value() const { return *value_; }

  void set_value(const std::string& value)
  {
    using google::protobuf::internal::fixed_address_empty_string;

    has_bits_ |= 4;
    if (static_cast<void*>(value_) == &fixed_address_empty_string) {
      value_ = new std::string(value);
    } else {
      *value_ = value;
    }
  }

private:
  friend struct subset_layout;

  void* vptr_;
  void* metadata_;
  uint32_t has_bits_;
  int cached_size_;
  std::string* name_;
  std::string* uuid_;
  std::string* value_;
};

} // namespace state {
} // namespace internal {

namespace state {

class Storage
{
public:
  Storage() {}
  virtual ~Storage() {}

  virtual process::Future<Option<internal::state::Entry>> get(
      const std::string& name) = 0;
  virtual process::Future<bool> set(
      const internal::state::Entry& entry, const id::UUID& uuid) = 0;
  virtual process::Future<bool> expunge(const internal::state::Entry& entry) = 0;
  virtual process::Future<std::set<std::string>> names() = 0;
};

} // namespace state {
} // namespace mesos {

#endif
