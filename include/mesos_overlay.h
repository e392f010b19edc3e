/*
 * mesos_overlay.h: the C ABI of mesos-overlay.
 *
 * The library has two state machines, `overlay-master` and `overlay-agent`. Any
 * program that can deliver messages can drive them through this interface: the
 * shim inside Mesos (cpp_shim/), or a program without Mesos
 * (examples/in_memory.c). The library itself sends and receives nothing. An agent
 * does configure its host, on threads of the library.
 *
 * THE ONE RULE. After every call that takes an input (mo_node_start and all
 * mo_node_* functions below it, up to mo_node_tick), and after every wake:
 *
 *     do {
 *       mo_node_poll(node, &effect);
 *       carry it out;
 *     } while (effect.kind != MO_EFFECT_NONE);
 *     call mo_node_tick no later than effect.as.none.deadline_ms from now;
 *
 * Effects are carried out in the order in which they come.
 *
 * THREADS. Calls on the same node must not overlap, but any thread may make
 * them. (A call that overlaps another, or is made from inside a callback of the
 * same call, changes nothing and returns MO_BUSY.) Different nodes are
 * independent. mo_abi_version, mo_result_text and mo_set_logger may be called
 * from any thread at any time.
 *
 * OWNERSHIP. Data that the caller passes in stays the caller's; the library copies
 * it before the call returns. Pointers that the library returns stay the
 * library's: those in an effect are valid until the next call on the node, those
 * in an endpoint as long as the library is loaded. Neither side frees a pointer
 * that the other side allocated, except that mo_node_free frees the node of
 * mo_master_new or mo_agent_new.
 *
 * TEXT is UTF-8 with a length and without a terminating NUL. Text from the network
 * or an operator may have any bytes; the library checks it.
 *
 * VERSIONS. mo_abi_version() is MO_ABI_VERSION of the library; its upper 16
 * bits (major) must equal those the caller was compiled with. Within a major
 * version functions are only added, and structures that begin with `size` only
 * grow at their end: the caller sets `size` to sizeof the structure as it knows
 * it, and the library reads and writes no more than that. New effects and changed
 * meanings are a new major version.
 *
 * PANICS. A panic in the library does not unwind into the caller and does not end
 * the process: it is logged at ERROR with file and line, open HTTP requests are
 * answered (500) by effects, and the node starts again from its configuration
 * and stored state, after a delay that grows from 100 ms to 30 s. The call in
 * which it happened returns MO_PANIC. The handle stays valid, the rule above
 * still applies, and a caller may treat MO_PANIC like MO_OK.
 */
#ifndef MESOS_OVERLAY_H
#define MESOS_OVERLAY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Major version << 16 | minor version. */
#define MO_ABI_VERSION 0x00010005u

/* ------------------------------------------------------------------ values */

/* Result of a call. A call that returns anything except MO_OK and MO_PANIC changed
 * nothing. */
typedef enum mo_result {
  MO_OK = 0,
  MO_PANIC = 1,   /* a panic was caught; see PANICS above */
  MO_NULL = 2,    /* a pointer that must not be NULL is NULL */
  MO_INVALID = 3, /* an argument is invalid */
  MO_CONFIG = 4,  /* the configuration is invalid; the log has the reason, at ERROR */
  MO_STATE = 5,   /* the node was started before, or was not started */
  MO_BUSY = 6,    /* another call on this node has not returned */
  MO_END = 7      /* the index is behind the last element */
} mo_result;

/* Bytes, or UTF-8 text. `ptr` may be NULL if `len` is 0. */
typedef struct mo_bytes {
  const uint8_t *ptr;
  size_t len;
} mo_bytes;

/* A key and its value: a module parameter, a query parameter, an HTTP header. */
typedef struct mo_pair {
  mo_bytes key;
  mo_bytes value;
} mo_pair;

/* A master or an agent. */
typedef struct mo_node mo_node;

/* Returns the ABI version of the library. */
uint32_t mo_abi_version(void);

/* Returns a description of `result`, NUL-terminated, in static storage. */
const char *mo_result_text(mo_result result);

/* ----------------------------------------------------------------- logging */

typedef enum mo_severity {
  MO_INFO = 0,
  MO_WARNING = 1,
  MO_ERROR = 2
} mo_severity;

/* Receives one line, without line break or control characters. Called from any
 * thread, also from inside calls on nodes; must not call the library. */
typedef void (*mo_log_fn)(void *ctx, mo_severity severity, mo_bytes line);

/* Sends all lines of the process to `fn`, or to standard error if it is NULL, which
 * is the default. Other threads may still be inside the former function when this
 * returns. */
mo_result mo_set_logger(mo_log_fn fn, void *ctx);

/* ---------------------------------------------------------------- creation */

typedef struct mo_options {
  size_t size; /* sizeof(mo_options) */

  /* The module's parameters: `master_config` or `agent_config` with the path of the
   * configuration file. Unknown parameters are logged as warnings. */
  const mo_pair *parameters;
  size_t parameter_count;

  /* Called when the node has effects without an input: take them soon (the one
   * rule). Called from any thread, but not from inside a call on the node; must
   * return quickly and must not call the library. There may be no effects. Not
   * called after mo_node_free has returned. May be NULL if the caller polls
   * regularly. */
  void (*wake)(void *ctx);
  void *wake_ctx;

  /* Returns the milliseconds on a monotonic clock; called from inside calls on the
   * node. NULL: the system's monotonic clock. */
  uint64_t (*now_ms)(void *ctx);
  void *now_ctx;

  /* Seed of all randomness (delays, epochs). 0: a random seed. */
  uint64_t seed;
} mo_options;

/* Creates a master or an agent from its configuration file and the environment
 * (MESOS_ZK, MESOS_QUORUM, MESOS_MASTER). It changes nothing on the network or the
 * host before mo_node_start. On MO_OK the caller owns `*node`; otherwise it is
 * NULL. On MO_CONFIG the log names file, field, value and remedy. */
mo_result mo_master_new(const mo_options *options, mo_node **node);
mo_result mo_agent_new(const mo_options *options, mo_node **node);

/* Frees the node. Waits until the library's threads have finished the change of the
 * host that is under way, normally some milliseconds and never more than 5 seconds: a
 * thread that hangs is left behind, and calls nothing any more. Open requests remain
 * unanswered. `node` may be NULL. */
void mo_node_free(mo_node *node);

/* --------------------------------------------------------------- endpoints */

/* An HTTP endpoint, for drivers that must register them with a server. Requests of
 * any path may be given to mo_node_request. */
typedef struct mo_endpoint {
  size_t size;     /* sizeof(mo_endpoint) */
  mo_bytes path;   /* below the process id, as `/agents/delete` */
  mo_bytes help;   /* Markdown for operators */
  uint64_t flags;  /* MO_ENDPOINT_*; callers ignore unknown ones */
} mo_endpoint;

/* The endpoint changes state, and requires authentication in Mesos's read-write
 * realm if Mesos is configured to authenticate there. */
#define MO_ENDPOINT_WRITES 1u

/* The endpoint reads state, and requires authentication in Mesos's read-only realm if
 * Mesos is configured to authenticate there. At most one of these two is set; without
 * both the endpoint is public. Since version 1.2. */
#define MO_ENDPOINT_READS 2u

/* The endpoint handles paths below `path`, too. Since version 1.2. */
#define MO_ENDPOINT_TREE 4u

/* Fills in the endpoint `index`, counted from 0. MO_END: there are no more. */
mo_result mo_node_endpoint(const mo_node *node, size_t index,
                           mo_endpoint *endpoint);

/* ----------------------------------------------------------------- metrics */

/* A metric: a counter since the node was created (or started again after a panic), or
 * a gauge. */
typedef struct mo_metric {
  size_t size;   /* sizeof(mo_metric) */
  mo_bytes name; /* `overlay/slave/registering` */
  double value;
} mo_metric;

/* Fills in the metric `index`, counted from 0. MO_END: there are no more. Index 0 takes
 * a sample of all metrics, and higher ones read from that sample. The set of metrics
 * depends on the node's overlays. Names are valid until index 0 is read again. Values
 * change with inputs and effects, so the time to read them is after all effects were
 * taken. Filled in on MO_OK and MO_PANIC. Not an input: only after MO_PANIC must the
 * caller take the node's effects. Since version 1.1. */
mo_result mo_node_metric(mo_node *node, size_t index, mo_metric *metric);

/* ------------------------------------------------------------------ inputs */

/* Starts the node as the libprocess process `self`, such as
 * `overlay-master@10.0.0.1:5050`. Must be called once, before any other input. */
mo_result mo_node_start(mo_node *node, mo_bytes self);

/* A libprocess message for this node arrived from the process `from`, `id@ip:port`.
 * MO_INVALID, with a line in the log: libprocess gives no process such an id (letters,
 * digits, `_ - ( ) .`), or the port is 0, so whoever sent it must not be answered. */
mo_result mo_node_message(mo_node *node, mo_bytes from, mo_bytes name,
                          mo_bytes body);

typedef struct mo_request {
  size_t size;          /* sizeof(mo_request) */
  uint64_t id;          /* chosen by the caller; unique among open requests */
  mo_bytes method;      /* `GET` */
  mo_bytes path;        /* full path, not decoded: `/overlay-master/state` */
  const mo_pair *query; /* decoded */
  size_t query_count;
  mo_bytes accept;      /* the Accept header; `ptr` is NULL without one */
  mo_bytes body;

  /* Since version 1.3. Headers; `ptr` is NULL without one. A request that changes
   * something is refused if they show that a web page of another server sent it. */
  mo_bytes host;
  mo_bytes origin;
  mo_bytes sec_fetch_site;
  mo_bytes content_type;

  /* Since version 1.3. Address of the client, `10.0.0.9:40000` or `[fd00::9]:40000`,
   * if a TCP socket of this process is its connection and the caller supports
   * mo_respond.file; `ptr` is NULL otherwise. */
  mo_bytes client;

  /* Since version 1.5. The If-None-Match header; `ptr` is NULL without one. */
  mo_bytes if_none_match;
} mo_request;

/* An HTTP request arrived. If this returns MO_OK or MO_PANIC it is answered by exactly
 * one MO_EFFECT_RESPOND, now or later (unless the node is freed). */
mo_result mo_node_request(mo_node *node, const mo_request *request);

/* The connection to a process of MO_EFFECT_LINK broke. */
mo_result mo_node_exited(mo_node *node, mo_bytes pid);

/* The leading Mesos master changed (after MO_EFFECT_DETECT): a serialized
 * mesos.MasterInfo, or NULL if no master leads. */
mo_result mo_node_leader(mo_node *node, const mo_bytes *master_info);

/* The watch of MO_EFFECT_DETECT failed because of `reason`, and has ended. The node
 * asks for another one after a delay. */
mo_result mo_node_detect_failed(mo_node *node, mo_bytes reason);

/* Answers to MO_EFFECT_FETCH and MO_EFFECT_STORE. `id` is the id of the effect. Answers
 * that the node does not wait for any more are ignored. */
typedef enum mo_outcome {
  MO_DONE = 0,       /* the value was read or written */
  MO_SUPERSEDED = 1, /* store only: another writer took over, nothing was written */
  MO_FAILED = 2      /* `detail` is the reason; the value may have been written */
} mo_outcome;

/* `detail`: the value (empty if none was ever stored), or the reason of a failure. */
mo_result mo_node_fetched(mo_node *node, uint64_t id, mo_outcome outcome,
                          mo_bytes detail);
/* `detail`: the reason of a failure. */
mo_result mo_node_stored(mo_node *node, uint64_t id, mo_outcome outcome,
                         mo_bytes detail);

/* Does what is due by now. May be called at any time. */
mo_result mo_node_tick(mo_node *node);

/* ----------------------------------------------------------------- effects */

typedef enum mo_effect_kind {
  MO_EFFECT_NONE = 0,     /* there are no more effects for now */
  MO_EFFECT_SEND = 1,     /* send a libprocess message */
  MO_EFFECT_LINK = 2,     /* keep a connection; mo_node_exited when it breaks */
  MO_EFFECT_RESPOND = 3,  /* answer an HTTP request */
  MO_EFFECT_DETECT = 4,   /* watch the leader; mo_node_leader at each change */
  MO_EFFECT_OPEN_LOG = 5, /* open the replicated log; once, before any fetch */
  MO_EFFECT_FETCH = 6,    /* read the state; answer with mo_node_fetched */
  MO_EFFECT_STORE = 7     /* write the state; answer with mo_node_stored */
} mo_effect_kind;

/* The `deadline_ms` without a deadline. */
#define MO_NEVER UINT64_MAX

typedef struct mo_none {
  uint64_t deadline_ms; /* from now; 0: at once; MO_NEVER */
} mo_none;

/* Delivered at most once; it may be lost. */
typedef struct mo_send {
  mo_bytes to;   /* `overlay-master@10.0.0.1:5050` */
  mo_bytes name; /* the protobuf type's full name */
  mo_bytes body;
} mo_send;

typedef struct mo_link {
  mo_bytes to;
  uint8_t reconnect; /* 1: replace an existing connection, which may be dead */
} mo_link;

typedef struct mo_respond {
  uint64_t id; /* of the request */
  uint16_t status;
  mo_bytes content_type;
  const mo_pair *headers; /* besides Content-Type and Content-Length */
  size_t header_count;
  mo_bytes body;

  /* Since version 1.3. Path of a file with the body, which is in memory; then `body` is
   * empty. Empty unless mo_request.client was set. The file can be opened as long as the
   * client's connection exists. Many answers share a file. The library ends connections
   * (shutdown(2)) whose clients do not read their answers. */
  mo_bytes file;
} mo_respond;

/* A value as Mesos's agents accept it for `--master`, after reading a `file://`:
 * `host:port` or `zk://[user:password@]host:port[,…]/path`. Replaces a former watch.
 * Must not be logged, because it may have a password. */
typedef struct mo_detect {
  mo_bytes master;
} mo_detect;

/* Mesos's replicated log. Without servers it has only this replica. */
typedef struct mo_open_log {
  uint32_t quorum;
  mo_bytes path;                /* directory of this replica; its parent exists */
  mo_bytes zk_servers;          /* `host:port[,host:port]`; empty: no ZooKeeper */
  mo_bytes zk_path;             /* znode under which the replicas meet */
  uint64_t zk_session_timeout_ms;
  mo_bytes zk_scheme;           /* `digest`, or empty: no authentication */
  mo_bytes zk_credentials;      /* `user:password`; must not be logged */
  mo_bytes metrics_prefix;      /* `overlay/master/` */
} mo_open_log;

/* Must take the log's writer from any other process, and read the log itself, not a
 * copy of an earlier fetch. Replaces a fetch that is under way. */
typedef struct mo_fetch {
  uint64_t id;
  mo_bytes name; /* of the variable: `network-state` */

  /* Since version 1.4. 1: a read or a write failed, has no answer in time or belongs to an
   * earlier term, or the module recovered from a panic. Close the replica and open it anew
   * before anything is read or written: its files may end with a part of a record, and what
   * is written behind that is lost at the next start. */
  uint8_t reopen;
} mo_fetch;

/* Must write only if no other process wrote since the last fetch. */
typedef struct mo_store {
  uint64_t id;
  mo_bytes name;
  mo_bytes value;
} mo_store;

typedef struct mo_effect {
  size_t size; /* sizeof(mo_effect) */
  mo_effect_kind kind;
  union {
    mo_none none;
    mo_send send;
    mo_link link;
    mo_respond respond;
    mo_detect detect;
    mo_open_log open_log;
    mo_fetch fetch;
    mo_store store;
  } as;
} mo_effect;

/* Returns the next effect, which is filled in on MO_OK and MO_PANIC. */
mo_result mo_node_poll(mo_node *node, mo_effect *effect);

#ifdef __cplusplus
}
#endif

#endif /* MESOS_OVERLAY_H */
