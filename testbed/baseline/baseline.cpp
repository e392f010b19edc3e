// An overlay master that only answers: what libprocess can do at best with the
// messages of registrations. For `cargo xtask bench master`, which compares the real
// module with it. It has the real one's name, so that Mesos is set up the same way.
//
// It allocates nothing, keeps nothing in a log, reads no message but its name. What it
// sends is canned and as long as what the real module sends (BASELINE_DIR):
//
//   answer   the body of UpdateAgentOverlaysMessage, to each RegisterAgentMessage
//   peer     one peer as it stands in UpdatePeersMessage, tag and length included;
//            empty: messages about peers say the version only
//   packed   all agents, packed: instead of more of them than are sent as they are
//   agent    one agent in the JSON of /overlay-master/state
//
// and an empty AgentRegisteredAcknowledgement to each AgentRegisteredMessage. It holds a
// connection to each agent (link). Once nobody has registered for 50 ms it tells every
// agent of the peers that it has not been told of, with no more than 64 MB on their way.
#include <stdlib.h>

#include <deque>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <mesos/mesos.hpp>
#include <mesos/module.hpp>
#include <mesos/module/anonymous.hpp>
#include <mesos/version.hpp>

#include <process/clock.hpp>
#include <process/dispatch.hpp>
#include <process/event.hpp>
#include <process/http.hpp>
#include <process/pid.hpp>
#include <process/process.hpp>
#include <process/timer.hpp>

#include <stout/duration.hpp>
#include <stout/option.hpp>

using std::string;

using mesos::modules::Anonymous;
using process::UPID;

namespace {

const string PACKAGE = "mesos.modules.overlay.internal.";
const size_t WINDOW = 64 << 20;
const size_t PACK = 1024;

string load(const string& name)
{
  const char* dir = getenv("BASELINE_DIR");
  std::ifstream file(string(dir == nullptr ? "." : dir) + "/" + name, std::ios::binary);
  return string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

void varint(string* out, uint64_t value)
{
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

void field(string* out, uint64_t number, uint64_t value)
{
  varint(out, number << 3);
  varint(out, value);
}

class Baseline : public process::ProcessBase
{
public:
  Baseline()
    : ProcessBase(string("overlay-master")),
      self_(*this),
      answer_(load("answer")),
      peer_(load("peer")),
      packed_(load("packed")),
      agent_(load("agent")) {}

protected:
  void initialize() override
  {
    const HttpRequestHandler handler = [this](const process::http::Request&) {
      process::Promise<process::http::Response> promise;
      promise.set(process::http::Response("{\"agents\":[" + state_ + "]}", 200, "application/json"));
      return promise.future();
    };
    route("/state", Option<string>(None()), handler);
  }

  using ProcessBase::consume;

  void consume(process::MessageEvent&& event) override
  {
    const process::Message& message = event.message;
    if (message.name == PACKAGE + "RegisterAgentMessage") {
      registered(message.from);
    } else if (message.name == PACKAGE + "AgentRegisteredMessage") {
      process::post(self_, message.from, PACKAGE + "AgentRegisteredAcknowledgement");
      wake();
    } else if (message.name == PACKAGE + "PeersReceivedMessage") {
      received(message.from);
    }
  }

private:
  struct Agent
  {
    UPID pid;
    size_t told;
    size_t inFlight;
  };

  static uint64_t key(const UPID& pid)
  {
    const struct in_addr in = pid.address.ip.in().get();
    return (static_cast<uint64_t>(in.s_addr) << 16) | pid.address.port;
  }

  void registered(const UPID& from)
  {
    link(from);
    if (index_.emplace(key(from), agents_.size()).second) {
      agents_.push_back(Agent{from, 0, 0});
      state_ += (state_.empty() ? "" : ",") + agent_;
    }
    process::post(
        self_, from, PACKAGE + "UpdateAgentOverlaysMessage", answer_.data(), answer_.size());
    quiet_ = false;
  }

  void received(const UPID& from)
  {
    const auto found = index_.find(key(from));
    if (found == index_.end()) return;
    inFlight_ -= agents_[found->second].inFlight;
    agents_[found->second].inFlight = 0;
    tell();
  }

  // In 50 ms; again if somebody registers until then.
  void wake()
  {
    if (armed_) return;
    armed_ = true;
    quiet_ = true;
    const UPID self = self_;
    process::Clock::timer(Milliseconds(50), [this, self]() {
      process::dispatch(self, [this]() {
        armed_ = false;
        if (!quiet_) return wake();
        next_ = 0;
        tell();
      });
    });
  }

  void tell()
  {
    const size_t count = agents_.size();
    for (; next_ < count && inFlight_ < WINDOW; next_++) {
      Agent& agent = agents_[next_];
      if (agent.told == count) continue;
      const string& body = message(agent.told, count);
      process::post(self_, agent.pid, PACKAGE + "UpdatePeersMessage", body.data(), body.size());
      inFlight_ += body.size();
      agent.inFlight += body.size();
      agent.told = count;
    }
  }

  const string& message(size_t told, size_t count)
  {
    if (!encoded_.empty() && encodedTold_ == told && encodedCount_ == count) return encoded_;
    string version;
    field(&version, 100, 1);
    field(&version, 101, count);
    encoded_.clear();
    varint(&encoded_, 100 << 3 | 2);
    varint(&encoded_, version.size());
    encoded_ += version;
    if (told > 0) field(&encoded_, 101, told);
    if ((count - told) * peer_.size() > PACK) {
      varint(&encoded_, 105 << 3 | 2);
      varint(&encoded_, packed_.size());
      encoded_ += packed_;
    } else {
      for (size_t i = told; i < count; i++) encoded_ += peer_;
    }
    encodedTold_ = told;
    encodedCount_ = count;
    return encoded_;
  }

  const UPID self_;
  const string answer_;
  const string peer_;
  const string packed_;
  const string agent_;
  std::vector<Agent> agents_;
  std::unordered_map<uint64_t, size_t> index_;
  string state_;
  size_t next_ = 0;
  size_t inFlight_ = 0;
  bool armed_ = false;
  bool quiet_ = true;
  string encoded_;
  size_t encodedTold_ = 0;
  size_t encodedCount_ = 0;
};

Anonymous* create(const mesos::Parameters&)
{
  process::spawn(new Baseline());
  return new Anonymous();
}

bool compatible() { return true; }

} // namespace {

extern "C" {
mesos::modules::Module<Anonymous> com_mesosphere_mesos_OverlayMasterManager(
    MESOS_MODULE_API_VERSION,
    MESOS_VERSION,
    "The mesos-overlay developers",
    "maintainers@mesos-overlay.invalid",
    "Answers, and does nothing else.",
    compatible,
    create);
}
