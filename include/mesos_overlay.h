/*
 * mesos_overlay.h: the C ABI of mesos-overlay.
 *
 * The library is a pair of state machines, `overlay-master` and `overlay-agent`.
 * This interface lets anything that can deliver messages drive them: the shim
 * inside Mesos (cpp_shim/), or a program without Mesos (examples/in_memory.c).
 * It does no networking of its own. (An agent does configure its host; that
 * happens on a thread of the library.)
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
 * THREADS. A node belongs to one thread at a time: calls on the same node must
 * not overlap, but any thread may make them. (A call that overlaps another, or
 * is made from inside a callback of the same call, changes nothing and returns
 * MO_BUSY.) Different nodes are independent. mo_abi_version, mo_result_text and
 * mo_set_logger may be called from any thread at any time.
 *
 * OWNERSHIP. What the caller passes in stays the caller's, and is copied before
 * the call returns. What the library hands out (the pointers in an effect or an
 * endpoint) stays the library's: those of an effect are valid until the next
 * call on the node, those of an endpoint as long as the library is loaded.
 * Nobody frees a pointer that the other side allocated, except that
 * mo_node_free takes back what mo_master_new or mo_agent_new gave.
 *
 * TEXT is UTF-8 with a length and without a terminating NUL. Text that comes
 * from the network or an operator may be anything; the library checks it.
 *
 * VERSIONS. mo_abi_version() is MO_ABI_VERSION of the library; its upper 16
 * bits (major) must equal those the caller was compiled with. Within a major
 * version functions are only added, and structures that begin with `size` only
 * grow at their end: the caller sets `size` to sizeof the structure as it knows
 * it, and the library reads and writes no more than that. New effects, and new
 * meanings of what is there, are a new major version.
 *
 * PANICS. A defect in the library does not unwind into the caller and does not
 * end the process: it is logged at ERROR with its place, open HTTP requests are
 * answered (500) by effects, and the node starts again from its configuration
 * and stored state, after a delay that grows from 100 ms to 30 s. The call in
 * which it happened returns MO_PANIC. The handle stays valid, the rule above
 * stays the same, and a caller need not treat MO_PANIC differently from MO_OK.
 */
#ifndef MESOS_OVERLAY_H
#define MESOS_OVERLAY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Major version << 16 | minor version. */
#define MO_ABI_VERSION 0x00010002u

/* ------------------------------------------------------------------ values */

/* What became of a call. Everything except MO_OK and MO_PANIC means that the
 * call changed nothing. */
typedef enum mo_result {
  MO_OK = 0,
  MO_PANIC = 1,   /* a defect was caught and handled; see PANICS above */
  MO_NULL = 2,    /* a pointer that must not be NULL was */
  MO_INVALID = 3, /* an argument is not what it should be */
  MO_CONFIG = 4,  /* the configuration cannot be used; why was logged, at ERROR */
  MO_STATE = 5,   /* not allowed now: started twice, or not started */
  MO_BUSY = 6,    /* another call on this node has not returned */
  MO_END = 7      /* there is no such element */
} mo_result;

/* Bytes, or UTF-8 text. `ptr` may be NULL if `len` is 0. */
typedef struct mo_bytes {
  const uint8_t *ptr;
  size_t len;
} mo_bytes;

/* A key and its value: a module parameter, a part of a query, an HTTP header. */
typedef struct mo_pair {
  mo_bytes key;
  mo_bytes value;
} mo_pair;

/* A master or an agent. */
typedef struct mo_node mo_node;

/* The ABI version of the library. */
uint32_t mo_abi_version(void);

/* A name for `result`, in static storage, NUL-terminated. */
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

/* Sends all lines of the process to `fn`; NULL: to standard error (which is the
 * case at first). Calls of the former function may still be under way on other
 * threads when this returns. */
mo_result mo_set_logger(mo_log_fn fn, void *ctx);

/* ---------------------------------------------------------------- creation */

typedef struct mo_options {
  size_t size; /* sizeof(mo_options) */

  /* The module's parameters: `master_config` or `agent_config`, the path of the
   * JSON configuration. Unknown ones are warned of. */
  const mo_pair *parameters;
  size_t parameter_count;

  /* Called when the node has something to do without having been asked: drain it
   * (the one rule) soon. Comes from any thread, but never from inside a call on
   * the node; must return quickly and must not call the library. May come when
   * there is nothing to do. Not called any more once mo_node_free has returned.
   * May be NULL for a caller that polls regularly anyway. */
  void (*wake)(void *ctx);
  void *wake_ctx;

  /* Milliseconds on a clock that never goes back; called from inside calls on
   * the node. NULL: the system's monotonic clock. */
  uint64_t (*now_ms)(void *ctx);
  void *now_ctx;

  /* Seed of all randomness (delays, epochs). 0: taken from the system. */
  uint64_t seed;
} mo_options;

/* Makes a master or an agent from its configuration file and from the
 * environment (MESOS_ZK, MESOS_QUORUM, MESOS_MASTER). Nothing happens on the
 * network or the host before mo_node_start. On MO_OK the caller owns `*node`;
 * otherwise it is NULL. MO_CONFIG: one line in the log names file, field, value
 * and remedy. */
mo_result mo_master_new(const mo_options *options, mo_node **node);
mo_result mo_agent_new(const mo_options *options, mo_node **node);

/* Ends the node. Waits for what the library's thread is doing to the host (one
 * pass, normally milliseconds). Open requests remain unanswered. NULL is fine. */
void mo_node_free(mo_node *node);

/* --------------------------------------------------------------- endpoints */

/* An HTTP endpoint. Only for drivers that must know them beforehand: any request
 * may be given to mo_node_request. */
typedef struct mo_endpoint {
  size_t size;     /* sizeof(mo_endpoint) */
  mo_bytes path;   /* below the process id, as `/agents/delete` */
  mo_bytes help;   /* Markdown for operators */
  uint64_t flags;  /* MO_ENDPOINT_*; unknown ones mean nothing to the caller */
} mo_endpoint;

/* It changes state: only requests that Mesos authenticated for that (in its
 * read-write realm) may reach it, where Mesos is set up to authenticate. */
#define MO_ENDPOINT_WRITES 1u

/* It tells of the state, and the operator wants it like that too, in the read-only
 * realm. At most one of these two is set; neither: everybody may use it. Since
 * version 1.2. */
#define MO_ENDPOINT_READS 2u

/* Paths below `path` belong to it, too. Since version 1.2. */
#define MO_ENDPOINT_TREE 4u

/* Fills in endpoint number `index`, counted from 0; MO_END behind the last. */
mo_result mo_node_endpoint(const mo_node *node, size_t index,
                           mo_endpoint *endpoint);

/* ----------------------------------------------------------------- metrics */

/* A number for operators: a count since the node was made (or started again after
 * a panic), or a state. */
typedef struct mo_metric {
  size_t size;   /* sizeof(mo_metric) */
  mo_bytes name; /* `overlay/slave/registering` */
  double value;
} mo_metric;

/* Fills in metric number `index`; MO_END behind the last. Number 0 takes all of
 * them anew, and the following calls read on in what it took, whatever happened to
 * the node meanwhile. Which there are may change with the node's overlays. Their
 * names stay valid until number 0 is asked for again. Values change with what is
 * given to the node and with what it is polled for, so after draining is the time
 * to ask. Filled in if this returns MO_OK or MO_PANIC; not an input, so only the
 * latter makes it necessary to drain the node. Since version 1.1. */
mo_result mo_node_metric(mo_node *node, size_t index, mo_metric *metric);

/* ------------------------------------------------------------------ inputs */

/* Starts the node as libprocess process `self`, as
 * `overlay-master@10.0.0.1:5050`. Once, before any other input. */
mo_result mo_node_start(mo_node *node, mo_bytes self);

/* A libprocess message for this node came from the process `from`. */
mo_result mo_node_message(mo_node *node, mo_bytes from, mo_bytes name,
                          mo_bytes body);

typedef struct mo_request {
  size_t size;          /* sizeof(mo_request) */
  uint64_t id;          /* the caller's; differs from those of all open requests */
  mo_bytes method;      /* `GET` */
  mo_bytes path;        /* whole, undecoded: `/overlay-master/state` */
  const mo_pair *query; /* decoded */
  size_t query_count;
  mo_bytes accept;      /* the Accept header; `ptr` NULL: there is none */
  mo_bytes body;
} mo_request;

/* An HTTP request came. If this returns MO_OK or MO_PANIC it is answered by
 * exactly one MO_EFFECT_RESPOND, now or later (unless the node is freed). */
mo_result mo_node_request(mo_node *node, const mo_request *request);

/* The connection to a process that MO_EFFECT_LINK named is broken. */
mo_result mo_node_exited(mo_node *node, mo_bytes pid);

/* After MO_EFFECT_DETECT: the leading Mesos master, as a serialized
 * mesos.MasterInfo; NULL: nobody leads. */
mo_result mo_node_leader(mo_node *node, const mo_bytes *master_info);

/* MO_EFFECT_DETECT came to nothing, because of `reason`. The watch is over; the
 * node asks for a new one after a delay. */
mo_result mo_node_detect_failed(mo_node *node, mo_bytes reason);

/* Answers to MO_EFFECT_FETCH and MO_EFFECT_STORE. `id` is that of the effect;
 * answers that came too late to matter are ignored. */
typedef enum mo_outcome {
  MO_DONE = 0,       /* it was read, or written */
  MO_SUPERSEDED = 1, /* store only: another writer took over, nothing was written */
  MO_FAILED = 2      /* `detail` says why; a store may or may not have happened */
} mo_outcome;

/* `detail`: the value (empty if there never was one), or the reason. */
mo_result mo_node_fetched(mo_node *node, uint64_t id, mo_outcome outcome,
                          mo_bytes detail);
/* `detail`: the reason, if it failed. */
mo_result mo_node_stored(mo_node *node, uint64_t id, mo_outcome outcome,
                         mo_bytes detail);

/* Time has passed. May be called at any time. */
mo_result mo_node_tick(mo_node *node);

/* ----------------------------------------------------------------- effects */

typedef enum mo_effect_kind {
  MO_EFFECT_NONE = 0,     /* nothing left to do for now */
  MO_EFFECT_SEND = 1,     /* send a libprocess message */
  MO_EFFECT_LINK = 2,     /* hold a connection; mo_node_exited when it breaks */
  MO_EFFECT_RESPOND = 3,  /* answer an HTTP request */
  MO_EFFECT_DETECT = 4,   /* watch who leads; mo_node_leader at each change */
  MO_EFFECT_OPEN_LOG = 5, /* open the replicated log; once, before any fetch */
  MO_EFFECT_FETCH = 6,    /* read the state; answer with mo_node_fetched */
  MO_EFFECT_STORE = 7     /* write the state; answer with mo_node_stored */
} mo_effect_kind;

/* A `deadline_ms` that never comes. */
#define MO_NEVER UINT64_MAX

typedef struct mo_none {
  uint64_t deadline_ms; /* from now; 0: at once; MO_NEVER */
} mo_none;

/* At most once: it may get lost. */
typedef struct mo_send {
  mo_bytes to;   /* `overlay-master@10.0.0.1:5050` */
  mo_bytes name; /* the protobuf type's full name */
  mo_bytes body;
} mo_send;

typedef struct mo_link {
  mo_bytes to;
  uint8_t reconnect; /* 1: drop a connection that is there; it may be dead */
} mo_link;

typedef struct mo_respond {
  uint64_t id; /* of the request */
  uint16_t status;
  mo_bytes content_type;
  const mo_pair *headers; /* besides Content-Type and Content-Length */
  size_t header_count;
  mo_bytes body;
} mo_respond;

/* What Mesos's own agents accept as `--master`, with files already read:
 * `host:port` or `zk://[user:password@]host:port[,…]/path`. Replaces a former
 * watch. Holds a password: not to be logged. */
typedef struct mo_detect {
  mo_bytes master;
} mo_detect;

/* Mesos's replicated log. Without servers it has this one replica only. */
typedef struct mo_open_log {
  uint32_t quorum;
  mo_bytes path;                /* directory of this replica; its parent exists */
  mo_bytes zk_servers;          /* `host:port[,host:port]`; empty: no ZooKeeper */
  mo_bytes zk_path;             /* znode under which the replicas meet */
  uint64_t zk_session_timeout_ms;
  mo_bytes zk_scheme;           /* `digest`, or empty: no authentication */
  mo_bytes zk_credentials;      /* `user:password`; not to be logged */
  mo_bytes metrics_prefix;      /* `overlay/master/` */
} mo_open_log;

/* Must take the log's writer from whoever has it, and read what is really in the
 * log: not a copy from an earlier fetch. If one is under way already, only the
 * newer one matters. */
typedef struct mo_fetch {
  uint64_t id;
  mo_bytes name; /* of the variable: `network-state` */
} mo_fetch;

/* Must write only if nobody else wrote since the last fetch. */
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

/* The next thing to do. The effect is filled in if this returns MO_OK or
 * MO_PANIC. */
mo_result mo_node_poll(mo_node *node, mo_effect *effect);

#ifdef __cplusplus
}
#endif

#endif /* MESOS_OVERLAY_H */
