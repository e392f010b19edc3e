// Layout of the declarations in this directory, as measured with the headers of Apache Mesos
// 1.11.0 (x86-64, libstdc++). Included by every file of the shim that is compiled against the
// subset.
#ifndef MESOS_SUBSET_LAYOUT_HPP
#define MESOS_SUBSET_LAYOUT_HPP

#include <stddef.h>

#include <mesos/log/log.hpp>
#include <mesos/master/detector.hpp>
#include <mesos/mesos.hpp>
#include <mesos/module/anonymous.hpp>
#include <mesos/state/log.hpp>
#include <mesos/state/state.hpp>
#include <process/clock.hpp>
#include <process/event.hpp>
#include <process/future.hpp>
#include <process/http.hpp>
#include <process/metrics/metrics.hpp>
#include <process/metrics/push_gauge.hpp>
#include <process/owned.hpp>
#include <process/process.hpp>
#include <process/timer.hpp>

#if !defined(__x86_64__) || !defined(__LP64__)
#error "The subset of Mesos's headers is for x86-64; set MESOS_PREFIX to an installed Mesos"
#endif

#ifndef __GLIBCXX__
#error "The subset of Mesos's headers is for libstdc++"
#endif

// C++ guarantees offsetof only for classes of standard layout; GCC and Clang support it for
// all classes without virtual bases.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

// Bytes with the C++11 ABI of libstdc++, and with the ABI before it, whose std::string is a
// pointer.
#if defined(_GLIBCXX_USE_CXX11_ABI) && _GLIBCXX_USE_CXX11_ABI
#define MESOS_SUBSET_BYTES(cxx11, before) cxx11
#else
#define MESOS_SUBSET_BYTES(cxx11, before) before
#endif

#define MESOS_SUBSET_SIZE(type, cxx11, before) \
  static_assert(sizeof(type) == MESOS_SUBSET_BYTES(cxx11, before), "size of " #type)
#define MESOS_SUBSET_OFFSET(type, member, cxx11, before) \
  static_assert( \
      offsetof(type, member) == MESOS_SUBSET_BYTES(cxx11, before), \
      "offset of " #type "::" #member)

MESOS_SUBSET_SIZE(Option<std::string>, 40, 16);
MESOS_SUBSET_SIZE(Duration, 8, 8);

MESOS_SUBSET_SIZE(net::IP, 20, 20);
MESOS_SUBSET_SIZE(process::network::inet::Address, 24, 24);
MESOS_SUBSET_OFFSET(process::network::inet::Address, port, 20, 20);
MESOS_SUBSET_SIZE(process::network::Address, 144, 144);
MESOS_SUBSET_SIZE(Option<process::network::Address>, 152, 152);

MESOS_SUBSET_SIZE(process::UPID, 136, 112);
MESOS_SUBSET_OFFSET(process::UPID, id, 0, 0);
MESOS_SUBSET_OFFSET(process::UPID, address, 16, 16);
MESOS_SUBSET_OFFSET(process::UPID, addresses, 40, 40);
MESOS_SUBSET_OFFSET(process::UPID, host, 72, 72);

MESOS_SUBSET_SIZE(process::Message, 336, 240);
MESOS_SUBSET_OFFSET(process::Message, name, 0, 0);
MESOS_SUBSET_OFFSET(process::Message, from, 32, 8);
MESOS_SUBSET_OFFSET(process::Message, to, 168, 120);
MESOS_SUBSET_OFFSET(process::Message, body, 304, 232);

MESOS_SUBSET_SIZE(process::MessageEvent, 344, 248);
MESOS_SUBSET_OFFSET(process::MessageEvent, message, 8, 8);
MESOS_SUBSET_SIZE(process::ExitedEvent, 144, 120);
MESOS_SUBSET_OFFSET(process::ExitedEvent, pid, 8, 8);
MESOS_SUBSET_SIZE(process::HttpEvent, 24, 24);
MESOS_SUBSET_OFFSET(process::HttpEvent, request, 8, 8);
MESOS_SUBSET_OFFSET(process::HttpEvent, response, 16, 16);

MESOS_SUBSET_SIZE(process::http::URL, 240, 144);
MESOS_SUBSET_OFFSET(process::http::URL, path, 112, 64);
MESOS_SUBSET_OFFSET(process::http::URL, query, 144, 72);

MESOS_SUBSET_SIZE(process::http::Request, 560, 416);
MESOS_SUBSET_OFFSET(process::http::Request, method, 0, 0);
MESOS_SUBSET_OFFSET(process::http::Request, url, 32, 8);
MESOS_SUBSET_OFFSET(process::http::Request, headers, 272, 152);
MESOS_SUBSET_OFFSET(process::http::Request, keepAlive, 328, 208);
MESOS_SUBSET_OFFSET(process::http::Request, client, 336, 216);
MESOS_SUBSET_OFFSET(process::http::Request, body, 496, 376);
MESOS_SUBSET_OFFSET(process::http::Request, reader, 528, 384);

MESOS_SUBSET_SIZE(process::http::Pipe::Reader, 16, 16);

MESOS_SUBSET_SIZE(process::http::Response, 192, 120);
MESOS_SUBSET_OFFSET(process::http::Response, status, 0, 0);
MESOS_SUBSET_OFFSET(process::http::Response, headers, 32, 8);
MESOS_SUBSET_OFFSET(process::http::Response, type, 88, 64);
MESOS_SUBSET_OFFSET(process::http::Response, body, 96, 72);
MESOS_SUBSET_OFFSET(process::http::Response, path, 128, 80);
MESOS_SUBSET_OFFSET(process::http::Response, reader, 160, 88);
MESOS_SUBSET_OFFSET(process::http::Response, code, 184, 112);

MESOS_SUBSET_SIZE(process::metrics::Metric, 24, 24);
MESOS_SUBSET_SIZE(process::PID<process::metrics::internal::MetricsProcess>, 136, 112);

MESOS_SUBSET_SIZE(mesos::modules::ModuleBase, 56, 56);
MESOS_SUBSET_SIZE(mesos::modules::Module<mesos::modules::Anonymous>, 64, 64);
MESOS_SUBSET_OFFSET(mesos::modules::Module<mesos::modules::Anonymous>, create, 56, 56);

MESOS_SUBSET_SIZE(mesos::Parameter, 40, 40);
MESOS_SUBSET_SIZE(mesos::Parameters, 48, 48);
MESOS_SUBSET_SIZE(mesos::MasterInfo, 104, 104);
MESOS_SUBSET_SIZE(mesos::internal::state::Entry, 48, 48);
MESOS_SUBSET_SIZE(id::UUID, 16, 16);
MESOS_SUBSET_SIZE(mesos::state::Variable, 48, 48);
MESOS_SUBSET_SIZE(mesos::state::State, 16, 16);
MESOS_SUBSET_SIZE(mesos::state::LogStorage, 16, 16);
MESOS_SUBSET_SIZE(mesos::log::Log, 8, 8);
MESOS_SUBSET_SIZE(zookeeper::Authentication, 64, 16);
MESOS_SUBSET_SIZE(Option<zookeeper::Authentication>, 72, 24);

// The size is a minimum.
static_assert(sizeof(process::ProcessBase) == 1024, "size of process::ProcessBase");

namespace process {

// For members that are not public.
struct subset_layout
{
  template <typename T>
  using Data = typename Future<T>::Data;

  typedef mesos::state::Variable Variable;

  MESOS_SUBSET_OFFSET(UPID, reference, 112, 88);

  MESOS_SUBSET_OFFSET(network::Address, which, 0, 0);
  MESOS_SUBSET_OFFSET(network::Address, inet, 8, 8);

  MESOS_SUBSET_SIZE(Future<Variable>, 16, 16);
  MESOS_SUBSET_SIZE(Promise<Variable>, 24, 24);
  MESOS_SUBSET_OFFSET(Promise<Variable>, f, 8, 8);

  MESOS_SUBSET_SIZE(Data<Variable>, 264, 240);
  MESOS_SUBSET_OFFSET(Data<Variable>, state, 4, 4);
  MESOS_SUBSET_OFFSET(Data<Variable>, result, 16, 16);
  MESOS_SUBSET_OFFSET(Data<Variable>, onAnyCallbacks, 240, 216);

  MESOS_SUBSET_SIZE(Data<Option<Variable>>, 272, 248);
  MESOS_SUBSET_OFFSET(Data<Option<Variable>>, onAnyCallbacks, 248, 224);
  MESOS_SUBSET_SIZE(Data<Option<mesos::internal::state::Entry>>, 272, 248);

  MESOS_SUBSET_SIZE(Data<Option<mesos::MasterInfo>>, 328, 304);
  MESOS_SUBSET_OFFSET(Data<Option<mesos::MasterInfo>>, onAnyCallbacks, 304, 280);

  MESOS_SUBSET_SIZE(Data<bool>, 216, 192);
  MESOS_SUBSET_OFFSET(Data<bool>, onAnyCallbacks, 192, 168);
  MESOS_SUBSET_SIZE(Data<double>, 224, 200);
  MESOS_SUBSET_OFFSET(Data<double>, result, 16, 16);
  MESOS_SUBSET_OFFSET(Data<double>, onAnyCallbacks, 200, 176);
  MESOS_SUBSET_SIZE(Data<http::Response>, 408, 312);
  MESOS_SUBSET_OFFSET(Data<http::Response>, discard, 8, 8);
  MESOS_SUBSET_OFFSET(Data<http::Response>, associated, 9, 9);
  MESOS_SUBSET_OFFSET(Data<http::Response>, abandoned, 10, 10);
  MESOS_SUBSET_OFFSET(Data<http::Response>, onAbandonedCallbacks, 264, 168);
  MESOS_SUBSET_OFFSET(Data<http::Response>, onReadyCallbacks, 312, 216);
  MESOS_SUBSET_OFFSET(Data<http::Response>, onAnyCallbacks, 384, 288);

  MESOS_SUBSET_SIZE(Owned<metrics::Metric>, 16, 16);
  MESOS_SUBSET_SIZE(Owned<metrics::Metric>::Data, 8, 8);
  MESOS_SUBSET_OFFSET(metrics::Metric, data, 8, 8);
  MESOS_SUBSET_SIZE(metrics::Metric::Data, 64, 40);
  MESOS_SUBSET_OFFSET(metrics::Metric::Data, name, 0, 0);
  MESOS_SUBSET_OFFSET(metrics::Metric::Data, lock, 32, 8);
  MESOS_SUBSET_OFFSET(metrics::Metric::Data, history, 40, 16);

  MESOS_SUBSET_SIZE(Timer, 184, 160);
  MESOS_SUBSET_OFFSET(Timer, pid, 16, 16);
  MESOS_SUBSET_OFFSET(Timer, thunk, 152, 128);
};

} // namespace process {

namespace mesos {

struct subset_layout
{
  MESOS_SUBSET_OFFSET(Parameter, key_, 24, 24);
  MESOS_SUBSET_OFFSET(Parameter, value_, 32, 32);
  MESOS_SUBSET_OFFSET(Parameters, parameter_, 24, 24);
};

namespace internal {
namespace state {

struct subset_layout
{
  MESOS_SUBSET_OFFSET(Entry, name_, 24, 24);
  MESOS_SUBSET_OFFSET(Entry, uuid_, 32, 32);
  MESOS_SUBSET_OFFSET(Entry, value_, 40, 40);
};

} // namespace state {
} // namespace internal {
} // namespace mesos {

namespace google {
namespace protobuf {

struct subset_layout
{
  MESOS_SUBSET_OFFSET(RepeatedPtrField<mesos::Parameter>, current_size_, 8, 8);
  MESOS_SUBSET_OFFSET(RepeatedPtrField<mesos::Parameter>, rep_, 16, 16);
};

} // namespace protobuf {
} // namespace google {

#undef MESOS_SUBSET_OFFSET
#undef MESOS_SUBSET_SIZE
#undef MESOS_SUBSET_BYTES
#pragma GCC diagnostic pop

#endif
