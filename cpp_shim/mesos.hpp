// The headers of Mesos that the shim uses, of an installed Mesos or of the subset in
// cpp_shim/mesos_subset.
#ifndef OVERLAY_MESOS_HPP
#define OVERLAY_MESOS_HPP

#include <glog/logging.h>

#include <mesos/log/log.hpp>
#include <mesos/master/detector.hpp>
#include <mesos/mesos.hpp>
#include <mesos/module.hpp>
#include <mesos/module/anonymous.hpp>
#include <mesos/state/log.hpp>
#include <mesos/state/state.hpp>
#include <mesos/version.hpp>
#include <mesos/zookeeper/authentication.hpp>

#include <process/clock.hpp>
#include <process/dispatch.hpp>
#include <process/event.hpp>
#include <process/future.hpp>
#include <process/http.hpp>
#include <process/id.hpp>
#include <process/metrics/metrics.hpp>
#include <process/metrics/push_gauge.hpp>
#include <process/pid.hpp>
#include <process/process.hpp>
#include <process/timer.hpp>

#include <stout/duration.hpp>
#include <stout/none.hpp>
#include <stout/option.hpp>
#include <stout/try.hpp>

#ifdef MESOS_OVERLAY_SUBSET

#include <layout.hpp>

// All symbols of Mesos are weak, so that the dynamic linker loads the library even if one
// is missing, and compatible() can log which one. Each file that uses them declares it. The
// list is of the C++11 ABI of libstdc++; with the ABI before it the dynamic linker names the
// missing symbol.
#if defined(_GLIBCXX_USE_CXX11_ABI) && _GLIBCXX_USE_CXX11_ABI
#define MESOS_OVERLAY_WEAK_SYMBOLS
#define SYMBOL(name) asm(".weak " #name);
#include "symbols.inc"
#undef SYMBOL
#endif

#endif

#endif // OVERLAY_MESOS_HPP
