#include "replica.hpp"

#include <dirent.h>
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <memory>

// LevelDB is linked into libmesos, and its headers are not installed with Mesos. These
// are the declarations that the check needs, with the layout and the order of virtual
// functions of LevelDB 1.18 to 1.23. Functions that are not virtual are looked up at run
// time: without them there is no check, but the module still starts.
namespace leveldb {

class Slice
{
public:
  const char* data;
  size_t size;
};

// A null pointer, or an error: 4 bytes length, 1 byte code, the text.
class Status
{
public:
  Status(Status&& other) : state_(other.state_) { other.state_ = nullptr; }
  ~Status() { delete[] state_; }

  bool ok() const { return state_ == nullptr; }

  std::string text() const
  {
    uint32_t length = 0;
    memcpy(&length, state_, sizeof(length));
    const char* const codes[] = {
      "", "not found: ", "corruption: ", "not implemented: ", "", "I/O error: "};
    const size_t code = static_cast<unsigned char>(state_[4]);
    const char* const kind = code < 6 ? codes[code] : "";
    return kind + std::string(state_ + 5, length);
  }

private:
  const char* state_;
};

// Initialised by LevelDB's own constructor. `reserved` is larger than the options of any
// version.
struct Options
{
  const void* comparator;
  bool create_if_missing;
  bool error_if_exists;
  bool paranoid_checks;
  char reserved[512];
};

struct ReadOptions
{
  bool verify_checksums;
  bool fill_cache;
  const void* snapshot;
};

class Iterator
{
public:
  virtual ~Iterator() = 0;
  virtual bool Valid() const = 0;
  virtual void SeekToFirst() = 0;
  virtual void SeekToLast() = 0;
  virtual void Seek(const Slice& target) = 0;
  virtual void Next() = 0;
  virtual void Prev() = 0;
  virtual Slice key() const = 0;
  virtual Slice value() const = 0;
  virtual Status status() const = 0;
};

class DB
{
public:
  virtual ~DB() = 0;
  virtual Status Put(const void*, const Slice&, const Slice&) = 0;
  virtual Status Delete(const void*, const Slice&) = 0;
  virtual Status Write(const void*, void*) = 0;
  virtual Status Get(const ReadOptions&, const Slice&, std::string*) = 0;
  virtual Iterator* NewIterator(const ReadOptions&) = 0;
};

} // namespace leveldb {

namespace overlay {

typedef void (*Construct)(leveldb::Options*);
typedef leveldb::Status (*Open)(
    const leveldb::Options&, const std::string&, leveldb::DB**);

// The mangled name has that of std::string.
#if defined(_GLIBCXX_USE_CXX11_ABI) && _GLIBCXX_USE_CXX11_ABI
static const char OPEN[] =
  "_ZN7leveldb2DB4OpenERKNS_7OptionsERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
  "PPS0_";
#else
static const char OPEN[] = "_ZN7leveldb2DB4OpenERKNS_7OptionsERKSsPPS0_";
#endif

template <typename F>
static F find(const char* symbol)
{
  return reinterpret_cast<F>(dlsym(RTLD_DEFAULT, symbol));
}

// Returns whether the directory has files of a database, complete or not.
static bool holdsDatabase(const std::string& path)
{
  DIR* const directory = opendir(path.c_str());
  if (directory == nullptr) {
    return false;
  }
  bool found = false;
  while (const dirent* entry = readdir(directory)) {
    const char* const suffix = strrchr(entry->d_name, '.');
    found = found || strncmp(entry->d_name, "MANIFEST-", 9) == 0 ||
      (suffix != nullptr &&
       (strcmp(suffix, ".ldb") == 0 || strcmp(suffix, ".sst") == 0 ||
        strcmp(suffix, ".log") == 0));
  }
  closedir(directory);
  return found;
}

// Reads all entries with checksums. Returns the error; empty if there is none.
static std::string readAll(leveldb::DB* db)
{
  const leveldb::ReadOptions checked{true, false, nullptr};
  const std::unique_ptr<leveldb::Iterator> iterator(db->NewIterator(checked));
  for (iterator->SeekToFirst(); iterator->Valid(); iterator->Next()) {
  }
  const leveldb::Status status = iterator->status();
  return status.ok() ? "" : status.text();
}

std::string replicaProblem(const std::string& path)
{
  const Construct construct = find<Construct>("_ZN7leveldb7OptionsC1Ev");
  const Open open = find<Open>(OPEN);
  if (construct == nullptr || open == nullptr) {
    return "";
  }

  leveldb::Options options;
  construct(&options);
  options.create_if_missing = !holdsDatabase(path);
  options.paranoid_checks = true;
  leveldb::DB* opened = nullptr;
  const leveldb::Status status = open(options, path, &opened);
  if (!status.ok()) {
    return status.text();
  }
  const std::unique_ptr<leveldb::DB> db(opened);
  return readAll(db.get());
}

} // namespace overlay {
