/*
 * One overlay master and two overlay agents in one program, without Mesos: drives
 * them against each other through the C ABI, with a router for their messages, a
 * replicated log that is a buffer, and a clock that is a number.
 *
 *     cc -Iinclude examples/in_memory.c libmesos_overlay.a -lpthread -lm -ldl
 *     ./a.out DIRECTORY      (empty; configurations and CNI files go there)
 *
 * Prints what happens. Exits with 1 if it is not what should happen.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "mesos_overlay.h"

#define AGENTS 2
#define NODES (1 + AGENTS)
#define MASTER 0
#define LEADER "master@127.0.0.1:5050"

static const char *const PIDS[NODES] = {
  "overlay-master@127.0.0.1:5050",
  "overlay-agent@127.0.0.2:5051",
  "overlay-agent@127.0.0.3:5051",
};

/* ------------------------------------------------------------------- basics */

static void fail(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  fprintf(stderr, "FAILED: ");
  vfprintf(stderr, format, args);
  fprintf(stderr, "\n");
  va_end(args);
  exit(1);
}

static void expect(mo_result result, const char *what)
{
  if (result != MO_OK) {
    fail("%s: %s", what, mo_result_text(result));
  }
}

static mo_bytes text(const char *s)
{
  mo_bytes bytes = {(const uint8_t *)s, strlen(s)};
  return bytes;
}

/* A copy, with a NUL behind it. */
static char *copy(mo_bytes bytes)
{
  char *s = malloc(bytes.len + 1);
  if (s == NULL) {
    fail("out of memory");
  }
  if (bytes.len > 0) {
    memcpy(s, bytes.ptr, bytes.len);
  }
  s[bytes.len] = '\0';
  return s;
}

static bool equals(mo_bytes bytes, const char *s)
{
  return bytes.len == strlen(s) && memcmp(bytes.ptr, s, bytes.len) == 0;
}

/* ---------------------------------------------------------------- the world */

struct message {
  struct message *next;
  int from, to;
  char *name, *body;
  size_t body_len;
};

struct world {
  const char *directory;
  mo_node *nodes[NODES];
  uint64_t now;               /* of the clock, in ms */
  uint64_t deadlines[NODES];  /* on that clock */
  struct message *first, **last;

  /* The replicated log. It outlives the master. */
  char *log;
  size_t log_len;
  unsigned stores;

  /* The last answer to a request. */
  uint64_t requests, answered;
  uint16_t status;
  char *answer;

  /* Set by the agents' own threads. */
  pthread_mutex_t lock;
  pthread_cond_t woken;
  bool awake;

  /* Whether an agent that was asked says that its thread is at work. */
  bool configuring;
};

static uint64_t now_ms(void *ctx)
{
  return ((struct world *)ctx)->now;
}

static void wake(void *ctx)
{
  struct world *world = ctx;
  pthread_mutex_lock(&world->lock);
  world->awake = true;
  pthread_cond_signal(&world->woken);
  pthread_mutex_unlock(&world->lock);
}

/*
 * Whether a thread has called within a moment. A thread that is known to be at
 * work gets much longer: were the clock moved on meanwhile, minutes of it would
 * be gone before a busy machine has let the thread run.
 */
static bool wait_for_wake(struct world *world)
{
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  if (world->configuring) {
    until.tv_sec += 30;
  } else {
    until.tv_nsec += 20 * 1000 * 1000;
  }
  if (until.tv_nsec >= 1000 * 1000 * 1000) {
    until.tv_nsec -= 1000 * 1000 * 1000;
    until.tv_sec += 1;
  }
  pthread_mutex_lock(&world->lock);
  while (!world->awake &&
         pthread_cond_timedwait(&world->woken, &world->lock, &until) == 0) {
  }
  const bool awake = world->awake;
  world->awake = false;
  pthread_mutex_unlock(&world->lock);
  return awake;
}

static void print_line(void *ctx, mo_severity severity, mo_bytes line)
{
  static const char letters[] = "IWE";
  (void)ctx;
  printf("%c %.*s\n", letters[severity], (int)line.len, (const char *)line.ptr);
}

/* ------------------------------------------------------------------ effects */

static void post(struct world *world, int from, const mo_send *send)
{
  for (int to = 0; to < NODES; to++) {
    if (equals(send->to, PIDS[to])) {
      struct message *message = malloc(sizeof(*message));
      if (message == NULL) {
        fail("out of memory");
      }
      message->next = NULL;
      message->from = from;
      message->to = to;
      message->name = copy(send->name);
      message->body = copy(send->body);
      message->body_len = send->body.len;
      *world->last = message;
      world->last = &message->next;
      return;
    }
  }
  fail("a message for %.*s", (int)send->to.len, (const char *)send->to.ptr);
}

static void store(struct world *world, const mo_store *effect)
{
  free(world->log);
  world->log = copy(effect->value);
  world->log_len = effect->value.len;
  world->stores++;
}

/* A serialized mesos.MasterInfo with a pid (field 4) in it. */
static size_t master_info(uint8_t *buffer)
{
  const size_t len = strlen(LEADER);
  buffer[0] = 4 << 3 | 2;
  buffer[1] = (uint8_t)len;
  memcpy(buffer + 2, LEADER, len);
  return 2 + len;
}

static void drain(struct world *world, int self);

static void perform(struct world *world, int self, const mo_effect *effect)
{
  mo_node *node = world->nodes[self];
  switch (effect->kind) {
    case MO_EFFECT_NONE: {
      const uint64_t delay = effect->as.none.deadline_ms;
      world->deadlines[self] = delay == MO_NEVER ? MO_NEVER : world->now + delay;
      break;
    }
    case MO_EFFECT_SEND:
      post(world, self, &effect->as.send);
      break;
    case MO_EFFECT_LINK: /* connections do not break here */
      break;
    case MO_EFFECT_RESPOND:
      free(world->answer);
      world->answer = copy(effect->as.respond.body);
      world->answered = effect->as.respond.id;
      world->status = effect->as.respond.status;
      break;
    case MO_EFFECT_DETECT: {
      uint8_t info[64];
      const mo_bytes bytes = {info, master_info(info)};
      if (!equals(effect->as.detect.master, "127.0.0.1:5050")) {
        fail("a watch for another master");
      }
      expect(mo_node_leader(node, &bytes), "leader");
      break;
    }
    case MO_EFFECT_OPEN_LOG:
      if (effect->as.open_log.quorum != 1 || effect->as.open_log.zk_servers.len != 0) {
        fail("a log with other replicas");
      }
      break;
    case MO_EFFECT_FETCH: {
      const mo_bytes value = {(const uint8_t *)world->log, world->log_len};
      expect(mo_node_fetched(node, effect->as.fetch.id, MO_DONE, value), "fetched");
      break;
    }
    case MO_EFFECT_STORE: {
      const mo_bytes nothing = {NULL, 0};
      store(world, &effect->as.store);
      expect(mo_node_stored(node, effect->as.store.id, MO_DONE, nothing), "stored");
      break;
    }
  }
}

/* The one rule. (Inputs that answer an effect are given at once: its pointers are
 * not used any more.) */
static void drain(struct world *world, int self)
{
  mo_effect effect = {0};
  effect.size = sizeof(effect);
  do {
    expect(mo_node_poll(world->nodes[self], &effect), "poll");
    perform(world, self, &effect);
  } while (effect.kind != MO_EFFECT_NONE);
}

/* ------------------------------------------------------------------- events */

static bool deliver_one(struct world *world)
{
  struct message *message = world->first;
  if (message == NULL) {
    return false;
  }
  world->first = message->next;
  if (world->first == NULL) {
    world->last = &world->first;
  }
  printf("  %6llu ms  %s -> %s  %s\n", (unsigned long long)world->now,
         PIDS[message->from], PIDS[message->to], message->name);
  const mo_bytes body = {(const uint8_t *)message->body, message->body_len};
  if (world->nodes[message->to] != NULL) {
    expect(mo_node_message(world->nodes[message->to], text(PIDS[message->from]),
                           text(message->name), body), "message");
    drain(world, message->to);
  }
  free(message->name);
  free(message->body);
  free(message);
  return true;
}

static void advance(struct world *world)
{
  uint64_t next = MO_NEVER;
  for (int i = 0; i < NODES; i++) {
    if (world->nodes[i] != NULL && world->deadlines[i] < next) {
      next = world->deadlines[i];
    }
  }
  if (next == MO_NEVER) {
    return; /* a thread is at work, or it never ends: the caller counts */
  }
  if (next > world->now) {
    world->now = next;
  }
  for (int i = 0; i < NODES; i++) {
    if (world->nodes[i] != NULL && world->deadlines[i] <= world->now) {
      expect(mo_node_tick(world->nodes[i]), "tick");
      drain(world, i);
    }
  }
}

/* One step: a message, or what a thread has done, or time. */
static void step(struct world *world)
{
  if (deliver_one(world)) {
    return;
  }
  if (wait_for_wake(world)) {
    for (int i = 0; i < NODES; i++) {
      if (world->nodes[i] != NULL) {
        drain(world, i);
      }
    }
    return;
  }
  advance(world);
}

/* Asks a node, and returns the status; the body is in `answer`. */
static uint16_t ask(struct world *world, int self, const char *method,
                    const char *path, const char *body)
{
  mo_request request = {0};
  request.size = sizeof(request);
  request.id = ++world->requests;
  request.method = text(method);
  request.path = text(path);
  request.body = text(body);
  expect(mo_node_request(world->nodes[self], &request), "request");
  drain(world, self);
  for (int steps = 0; world->answered != request.id; steps++) {
    if (steps > 1000) {
      fail("%s %s is not answered", method, path);
    }
    step(world);
  }
  return world->status;
}

/* ------------------------------------------------------------------ checks */

static bool registered(struct world *world)
{
  bool all = true;
  world->configuring = false;
  for (int i = 1; i < NODES && all; i++) {
    all = ask(world, i, "GET", "/overlay-agent/overlay", "") == 200 &&
          strstr(world->answer, "\"registered\":true") != NULL &&
          strstr(world->answer, "STATUS_OK") != NULL;
    world->configuring = strstr(world->answer, "STATUS_CONFIGURING") != NULL;
  }
  return all;
}

static void wait_registered(struct world *world, const char *when)
{
  const uint64_t limit = world->now + 60 * 1000;
  for (int steps = 0; !registered(world); steps++) {
    if (world->now > limit || steps > 10000) {
      fail("not registered %s: %s", when, world->answer);
    }
    step(world);
  }
  printf("registered %s, at %llu ms\n", when, (unsigned long long)world->now);
}

static void expect_state(struct world *world, const char *part, const char *when)
{
  const uint16_t status = ask(world, MASTER, "GET", "/overlay-master/state", "");
  if (status != 200 || strstr(world->answer, part) == NULL) {
    fail("%s the state is %u %s, without %s", when, status, world->answer, part);
  }
}

static void expect_file(struct world *world, int agent)
{
  char path[4096];
  struct stat info;
  snprintf(path, sizeof(path), "%s/cni%d/dcos.conf", world->directory, agent);
  if (stat(path, &info) != 0 || info.st_size == 0) {
    fail("%s: %s", path, strerror(errno));
  }
}

/* ------------------------------------------------------------------- set-up */

static void write_file(const char *path, const char *format, ...)
{
  FILE *file = fopen(path, "w");
  if (file == NULL) {
    fail("%s: %s", path, strerror(errno));
  }
  va_list args;
  va_start(args, format);
  vfprintf(file, format, args);
  va_end(args);
  if (fclose(file) != 0) {
    fail("%s: %s", path, strerror(errno));
  }
}

static void create(struct world *world, int self)
{
  char path[4096];
  const mo_pair parameter = {
      text(self == MASTER ? "master_config" : "agent_config"), {NULL, 0}};
  mo_pair parameters[1] = {parameter};
  snprintf(path, sizeof(path), "%s/%d.json", world->directory, self);
  parameters[0].value = text(path);

  mo_options options = {0};
  options.size = sizeof(options);
  options.parameters = parameters;
  options.parameter_count = 1;
  options.wake = wake;
  options.wake_ctx = world;
  options.now_ms = now_ms;
  options.now_ctx = world;
  options.seed = (uint64_t)self + 1;

  mo_node **node = &world->nodes[self];
  if (self == MASTER) {
    write_file(path,
               "{\"replicated_log_dir\": \"%s/log\", \"network\": {\"vtep_subnet\": "
               "\"44.128.0.0/20\", \"vtep_mac_oui\": \"70:B3:D5:00:00:00\", "
               "\"overlays\": [{\"name\": \"dcos\", \"subnet\": \"9.0.0.0/8\", "
               "\"prefix\": 24}]}}", world->directory);
    expect(mo_master_new(&options, node), "mo_master_new");
  } else {
    write_file(path,
               "{\"cni_dir\": \"%s/cni%d\", \"master\": \"127.0.0.1:5050\", "
               "\"backend\": \"external\", \"firewall\": \"none\", "
               "\"network_config\": {\"docker_bridge\": false}}", world->directory, self);
    expect(mo_agent_new(&options, node), "mo_agent_new");
  }
  expect(mo_node_start(*node, text(PIDS[self])), "start");
  drain(world, self);
}

static void make_cni_directories(struct world *world)
{
  char path[4096];
  for (int i = 1; i < NODES; i++) {
    snprintf(path, sizeof(path), "%s/cni%d", world->directory, i);
    if (mkdir(path, 0755) != 0 && errno != EEXIST) {
      fail("%s: %s", path, strerror(errno));
    }
  }
}

static void check_interface(struct world *world)
{
  mo_endpoint endpoint = {0};
  endpoint.size = sizeof(endpoint);
  expect(mo_node_endpoint(world->nodes[MASTER], 1, &endpoint), "endpoint");
  if (!equals(endpoint.path, "/agents/delete") || endpoint.flags != MO_ENDPOINT_WRITES) {
    fail("endpoint 1 is %.*s", (int)endpoint.path.len, (const char *)endpoint.path.ptr);
  }
  if (mo_node_endpoint(world->nodes[MASTER], 1000, &endpoint) != MO_END ||
      mo_node_start(world->nodes[MASTER], text(PIDS[MASTER])) != MO_STATE ||
      mo_node_tick(NULL) != MO_NULL) {
    fail("wrong calls are not refused");
  }
}

static void finish(struct world *world)
{
  for (int i = 0; i < NODES; i++) {
    mo_node_free(world->nodes[i]);
    world->nodes[i] = NULL;
  }
  while (deliver_one(world)) {
  }
  free(world->log);
  free(world->answer);
}

int main(int argc, char **argv)
{
  if (argc != 2) {
    fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  if (mo_abi_version() >> 16 != MO_ABI_VERSION >> 16) {
    fail("header and library are of different versions");
  }
  expect(mo_set_logger(print_line, NULL), "mo_set_logger");

  static struct world world = {.now = 1, .lock = PTHREAD_MUTEX_INITIALIZER,
                               .woken = PTHREAD_COND_INITIALIZER};
  world.directory = argv[1];
  world.last = &world.first;
  make_cni_directories(&world);
  for (int i = 0; i < NODES; i++) {
    create(&world, i);
  }
  check_interface(&world);

  wait_registered(&world, "at first");
  expect_state(&world, "\"9.0.0.0/24\"", "at first");
  expect_state(&world, "\"9.0.1.0/24\"", "at first");
  for (int i = 1; i < NODES; i++) {
    expect_file(&world, i);
  }

  /* Another master takes over; it knows what the log knows. */
  mo_node_free(world.nodes[MASTER]);
  world.nodes[MASTER] = NULL;
  const unsigned stores = world.stores;
  create(&world, MASTER);
  expect_state(&world, "\"9.0.1.0/24\"", "after the failover");
  for (int i = 1; i < NODES; i++) {
    expect(mo_node_exited(world.nodes[i], text(PIDS[MASTER])), "exited");
    drain(&world, i);
  }
  wait_registered(&world, "after the failover");
  if (world.stores != stores) {
    fail("agents that the log knows were written again");
  }

  /* An agent that is connected is not given up by mistake; then it is, and since it
     is alive it comes back. */
  if (ask(&world, MASTER, "POST", "/overlay-master/agents/delete",
          "{\"agents\": [\"127.0.0.3\"]}") != 409 ||
      strstr(world.answer, "127.0.0.3") == NULL) {
    fail("delete without force: %u %s", world.status, world.answer);
  }
  if (ask(&world, MASTER, "POST", "/overlay-master/agents/delete",
          "{\"agents\": [\"127.0.0.3\"], \"force\": true}") != 200 ||
      strstr(world.answer, "127.0.0.3") != NULL) {
    fail("delete: %u %s", world.status, world.answer);
  }
  if (ask(&world, MASTER, "POST", "/overlay-master/agents/delete", "{") != 400) {
    fail("a request that is no JSON: %u %s", world.status, world.answer);
  }
  for (int steps = 0; registered(&world); steps++) {
    if (steps > 1000) {
      fail("the deleted agent was not told");
    }
    step(&world);
  }
  wait_registered(&world, "after the deletion");
  expect_state(&world, "\"127.0.0.3\"", "after the deletion");

  finish(&world);
  printf("all is as it should be\n");
  return 0;
}
