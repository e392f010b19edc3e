// Subset of protobuf 3.5: see ../../README.md.
#ifndef MESOS_SUBSET_GOOGLE_PROTOBUF_MESSAGE_H
#define MESOS_SUBSET_GOOGLE_PROTOBUF_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include <string>

namespace google {
namespace protobuf {

// These classes declare no virtual functions: libmesos's own constructors set the vtable
// pointer, which is the first member.
class MessageLite
{
public:
  std::string SerializeAsString() const;
  bool ParseFromString(const std::string& data);
};

class Message : public MessageLite
{
public:
  // In bytes, with everything the message owns. Of a message in which nothing is
  // set that is its own size.
  size_t SpaceUsedLong() const;
};

template <typename T>
class RepeatedPtrField
{
public:
  int size() const { return current_size_; }
  const T& Get(int i) const { return *static_cast<const T*>(rep_->elements[i]); }

private:
  friend struct subset_layout;

  struct Rep
  {
    int allocated_size;
    void* elements[1];
  };

  void* arena_;
  int current_size_;
  int total_size_;
  Rep* rep_;
};

namespace internal {

template <typename T>
class ExplicitlyConstructed
{
  alignas(T) char bytes[sizeof(T)];
};

// Target of string fields that are not set.
extern ExplicitlyConstructed<std::string> fixed_address_empty_string;

} // namespace internal {
} // namespace protobuf {
} // namespace google {

#endif
