// Subset of Mesos's generated messages: see ../README.md.
#ifndef MESOS_SUBSET_MESOS_MESOS_HPP
#define MESOS_SUBSET_MESOS_MESOS_HPP

#include <stdint.h>

#include <string>

#include <google/protobuf/message.h>

namespace mesos {

class Parameter : public google::protobuf::Message
{
public:
  Parameter();
  ~Parameter();
  static const Parameter& default_instance();

  const std::string& key() const { return *key_; }
  const std::string& value() const { return *value_; }

private:
  friend struct subset_layout;

  void* vptr_;
  void* metadata_;
  uint32_t has_bits_;
  int cached_size_;
  std::string* key_;
  std::string* value_;
};

class Parameters : public google::protobuf::Message
{
public:
  Parameters();
  ~Parameters();
  static const Parameters& default_instance();

  int parameter_size() const { return parameter_.size(); }
  const Parameter& parameter(int i) const { return parameter_.Get(i); }

private:
  friend struct subset_layout;

  void* vptr_;
  void* metadata_;
  uint32_t has_bits_;
  int cached_size_;
  google::protobuf::RepeatedPtrField<Parameter> parameter_;
};

class MasterInfo : public google::protobuf::Message
{
public:
  MasterInfo(const MasterInfo& from);
  ~MasterInfo();
  static const MasterInfo& default_instance();

private:
  void* vptr_;
  void* fields_[12];
};

} // namespace mesos {

#endif
