// Subset of libprocess: see ../README.md.
#ifndef MESOS_SUBSET_PROCESS_HTTP_HPP
#define MESOS_SUBSET_PROCESS_HTTP_HPP

#include <ctype.h>
#include <stdint.h>
#include <strings.h>

#include <memory>
#include <string>

#include <process/address.hpp>
#include <process/future.hpp>

#include <stout/hashmap.hpp>
#include <stout/ip.hpp>
#include <stout/option.hpp>

namespace process {
namespace http {

namespace authentication {

// Created and destroyed by libmesos only.
struct Principal
{
  Principal() = delete;

  Option<std::string> value;
  hashmap<std::string, std::string> claims;
};

} // namespace authentication {

// libmesos reads headers that are created here, and the other way round, so the hash must
// be the one of libmesos: boost::hash_combine over the lower-case letters. Must not be
// noexcept, because then the nodes of the table would have no cached hash.
struct CaseInsensitiveHash
{
  size_t operator()(const std::string& key) const
  {
    const uint64_t m = 0xc6a4a7935bd1e995;
    uint64_t hash = 0;
    for (char c : key) {
      uint64_t k = static_cast<uint64_t>(::tolower(c));
      k *= m;
      k ^= k >> 47;
      k *= m;
      hash = (hash ^ k) * m + 0xe6546b64;
    }
    return hash;
  }
};

struct CaseInsensitiveEqual
{
  bool operator()(const std::string& left, const std::string& right) const
  {
    return left.size() == right.size() &&
      strcasecmp(left.c_str(), right.c_str()) == 0;
  }
};

class Headers
  : public hashmap<
        std::string, std::string, CaseInsensitiveHash, CaseInsensitiveEqual> {};

struct URL
{
  Option<std::string> scheme;
  Option<std::string> domain;
  Option<net::IP> ip;
  Option<uint16_t> port;
  std::string path;
  hashmap<std::string, std::string> query;
  Option<std::string> fragment;
};

class Pipe
{
public:
  struct Data;

  // The end of a pipe from which the body of a request is read.
  class Reader
  {
  public:
    // Until the other side closes.
    Future<std::string> readAll();

  private:
    std::shared_ptr<Data> data;
  };
};

// Created and destroyed by libmesos only.
struct Request
{
  Request() = delete;

  std::string method;
  URL url;
  Headers headers;
  bool keepAlive;
  Option<network::Address> client;
  enum { BODY, PIPE } type;
  std::string body;
  Option<Pipe::Reader> reader;
  int64_t received;
};

struct Status
{
  static std::string string(uint16_t code);
};

struct Response
{
  Response(uint16_t _code)
    : status(Status::string(_code)), type(NONE), code(_code) {}

  explicit Response(
      std::string _body,
      uint16_t _code,
      const std::string& contentType = "text/plain; charset=utf-8")
    : status(Status::string(_code)),
      type(BODY),
      body(std::move(_body)),
      code(_code)
  {
    headers["Content-Length"] = std::to_string(body.size());
    headers["Content-Type"] = contentType;
  }

  std::string status;
  Headers headers;
  enum { NONE, BODY, PATH, PIPE } type;
  std::string body;
  std::string path;
  Option<Pipe::Reader> reader;
  uint16_t code;
};

} // namespace http {
} // namespace process {

#endif
