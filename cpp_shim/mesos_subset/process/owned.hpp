// Subset of libprocess: see ../README.md.
#ifndef MESOS_SUBSET_PROCESS_OWNED_HPP
#define MESOS_SUBSET_PROCESS_OWNED_HPP

#include <atomic>
#include <memory>

namespace process {

// A pointer whose copies share the object, which the last of them deletes.
template <typename T>
class Owned
{
public:
  explicit Owned(T* object) : data(new Data(object)) {}

private:
  friend struct subset_layout;

  struct Data
  {
    explicit Data(T* object) : t(object) {}
    ~Data() { delete t.load(); }

    std::atomic<T*> t;
  };

  std::shared_ptr<Data> data;
};

} // namespace process {

#endif
