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

struct UUID
{
  uint8_t data[16];
};

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
  Entry& operator=(const Entry& from) = delete;
  ~Entry();
  static const Entry& default_instance();

  const std::string& name() const { return *name_; }
  const std::string& uuid() const { return *uuid_; }
  const std::string& value() const { return *value_; }

  void set_name(const std::string& name) { set(1, &name_, name); }
  void set_uuid(const std::string& uuid) { set(2, &uuid_, uuid); }
  void set_value(const std::string& value) { set(4, &value_, value); }

private:
  friend struct subset_layout;

  void set(uint32_t bit, std::string** field, const std::string& value)
  {
    using google::protobuf::internal::fixed_address_empty_string;

    has_bits_ |= bit;
    if (static_cast<void*>(*field) == &fixed_address_empty_string) {
      *field = new std::string(value);
    } else {
      **field = value;
    }
  }

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
