// Subset of stout: see ../README.md.
#ifndef MESOS_SUBSET_STOUT_HASHMAP_HPP
#define MESOS_SUBSET_STOUT_HASHMAP_HPP

#include <functional>
#include <unordered_map>

#include <stout/option.hpp>

template <
    typename Key,
    typename Value,
    typename Hash = std::hash<Key>,
    typename Equal = std::equal_to<Key>>
class hashmap : public std::unordered_map<Key, Value, Hash, Equal>
{
public:
  Option<Value> get(const Key& key) const
  {
    auto found = this->find(key);
    return found == this->end() ? Option<Value>() : Option<Value>(found->second);
  }
};

#endif
