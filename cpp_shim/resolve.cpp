#include "resolve.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "thread.hpp"

namespace overlay {

std::string serversOf(const std::string& url)
{
  const std::string scheme = "zk://";
  if (url.compare(0, scheme.size(), scheme) != 0) {
    return "";
  }
  const std::string rest = url.substr(scheme.size());
  const std::string authority = rest.substr(0, rest.find('/'));
  const size_t at = authority.rfind('@');
  return at == std::string::npos ? authority : authority.substr(at + 1);
}

static bool isAddress(const std::string& host)
{
  char address[sizeof(in6_addr)];
  return inet_pton(AF_INET, host.c_str(), address) == 1 ||
    inet_pton(AF_INET6, host.c_str(), address) == 1;
}

// Returns the hosts that are names.
static std::vector<std::string> names(const std::string& servers)
{
  std::vector<std::string> found;
  size_t start = 0;
  while (start < servers.size()) {
    const size_t end = std::min(servers.find(',', start), servers.size());
    const std::string server = servers.substr(start, end - start);
    const std::string host = server.substr(0, server.rfind(':'));
    if (!host.empty() && host[0] != '[' && !isAddress(host)) {
      found.push_back(host);
    }
    start = end + 1;
  }
  return found;
}

bool hasNames(const std::string& servers)
{
  return !names(servers).empty();
}

std::string unresolved(const std::string& servers)
{
  for (const std::string& host : names(servers)) {
    addrinfo hints;
    memset(&hints, 0, sizeof(hints));
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* addresses = nullptr;
    const int error = getaddrinfo(host.c_str(), nullptr, &hints, &addresses);
    if (error != 0) {
      return "ZooKeeper's host \"" + host + "\" has no address (" + gai_strerror(error) +
        "); correct the name, or the name servers of this host";
    }
    freeaddrinfo(addresses);
  }
  return "";
}

std::string unresolvedInTime(const std::string& servers)
{
  if (!hasNames(servers)) {
    return "";
  }
  struct Answer
  {
    Flag ready;
    std::string problem;
  };
  const std::shared_ptr<Answer> answer = std::make_shared<Answer>();
  const bool started = runInThread([answer, servers]() {
    answer->problem = unresolved(servers);
    answer->ready.raise();
  });
  if (!started) {
    return "there is no thread to resolve the names of ZooKeeper's hosts";
  }
  if (!answer->ready.wait(5)) {
    return "the name servers of this host do not answer when asked for ZooKeeper's hosts (" +
      servers + ")";
  }
  return answer->problem;
}

} // namespace overlay {
