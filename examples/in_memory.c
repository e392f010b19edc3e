/*
 * One overlay master and two overlay agents in one program, without Mesos. Drives
 * them through the C ABI: delivers their messages to each other, keeps the
 * replicated log in a buffer, and the time in a variable.
 *
 *     cc -Iinclude examples/in_memory.c libmesos_overlay.a -lpthread -lm -ldl
 *     ./a.out DIRECTORY      (empty; configurations and CNI files go there)
 *
 * Prints each step. Exits with 1 if a step fails.
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

/* Returns a NUL-terminated copy. */
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

/* -------------------------------------------------------------------- state */

struct message {
  struct message *next;
  int from, to;
  char *name, *body;
  size_t body_len;
};

struct cluster {
  const char *directory;
  mo_node *nodes[NODES];
  uint64_t now;               /* in ms */
  uint64_t deadlines[NODES];  /* on the same clock */
  struct message *first, **last;

  /* The replicated log. It outlives the master. */
  char *log;
  size_t log_len;
  unsigned stores;

  /* The last answer to a request. */
  uint64_t requests, answered;
  uint16_t status;
  char *answer;

  /* Set by the threads of the agents. */
  pthread_mutex_t lock;
  pthread_cond_t woken;
  bool awake;

  /* Whether an agent has reported that its thread is configuring the host. */
  bool configuring;
};

static uint64_t now_ms(void *ctx)
{
  return ((struct cluster *)ctx)->now;
}

static void wake(void *ctx)
{
  struct cluster *cluster = ctx;
  pthread_mutex_lock(&cluster->lock);
  cluster->awake = true;
  pthread_cond_signal(&cluster->woken);
  pthread_mutex_unlock(&cluster->lock);
}

/*
 * Waits shortly for a call of `wake`, or longer if a thread is known to be working:
 * on a busy machine the thread may need long, and moving the clock on meanwhile
 * would skip minutes.
 */
static bool wait_for_wake(struct cluster *cluster)
{
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  if (cluster->configuring) {
    until.tv_sec += 30;
  } else {
    until.tv_nsec += 20 * 1000 * 1000;
  }
  if (until.tv_nsec >= 1000 * 1000 * 1000) {
    until.tv_nsec -= 1000 * 1000 * 1000;
    until.tv_sec += 1;
  }
  pthread_mutex_lock(&cluster->lock);
  while (!cluster->awake &&
         pthread_cond_timedwait(&cluster->woken, &cluster->lock, &until) == 0) {
  }
  const bool awake = cluster->awake;
  cluster->awake = false;
  pthread_mutex_unlock(&cluster->lock);
  return awake;
}

static void print_line(void *ctx, mo_severity severity, mo_bytes line)
{
  static const char letters[] = "IWE";
  (void)ctx;
  printf("%c %.*s\n", letters[severity], (int)line.len, (const char *)line.ptr);
}

/* ------------------------------------------------------------------ effects */

static void post(struct cluster *cluster, int from, const mo_send *send)
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
      *cluster->last = message;
      cluster->last = &message->next;
      return;
    }
  }
  fail("a message for %.*s", (int)send->to.len, (const char *)send->to.ptr);
}

static void store(struct cluster *cluster, const mo_store *effect)
{
  free(cluster->log);
  cluster->log = copy(effect->value);
  cluster->log_len = effect->value.len;
  cluster->stores++;
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

static void drain(struct cluster *cluster, int self);

static void perform(struct cluster *cluster, int self, const mo_effect *effect)
{
  mo_node *node = cluster->nodes[self];
  switch (effect->kind) {
    case MO_EFFECT_NONE: {
      const uint64_t delay = effect->as.none.deadline_ms;
      cluster->deadlines[self] = delay == MO_NEVER ? MO_NEVER : cluster->now + delay;
      break;
    }
    case MO_EFFECT_SEND:
      post(cluster, self, &effect->as.send);
      break;
    case MO_EFFECT_LINK: /* connections never break */
      break;
    case MO_EFFECT_RESPOND:
      free(cluster->answer);
      cluster->answer = copy(effect->as.respond.body);
      cluster->answered = effect->as.respond.id;
      cluster->status = effect->as.respond.status;
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
      const mo_bytes value = {(const uint8_t *)cluster->log, cluster->log_len};
      expect(mo_node_fetched(node, effect->as.fetch.id, MO_DONE, value), "fetched");
      break;
    }
    case MO_EFFECT_STORE: {
      const mo_bytes nothing = {NULL, 0};
      store(cluster, &effect->as.store);
      expect(mo_node_stored(node, effect->as.store.id, MO_DONE, nothing), "stored");
      break;
    }
  }
}

/* The one rule. Answers to an effect are given at once, which invalidates its pointers:
 * they are not used after that. */
static void drain(struct cluster *cluster, int self)
{
  mo_effect effect = {0};
  effect.size = sizeof(effect);
  do {
    expect(mo_node_poll(cluster->nodes[self], &effect), "poll");
    perform(cluster, self, &effect);
  } while (effect.kind != MO_EFFECT_NONE);
}

/* ------------------------------------------------------------------- events */

static bool deliver_one(struct cluster *cluster)
{
  struct message *message = cluster->first;
  if (message == NULL) {
    return false;
  }
  cluster->first = message->next;
  if (cluster->first == NULL) {
    cluster->last = &cluster->first;
  }
  printf("  %6llu ms  %s -> %s  %s\n", (unsigned long long)cluster->now,
         PIDS[message->from], PIDS[message->to], message->name);
  const mo_bytes body = {(const uint8_t *)message->body, message->body_len};
  if (cluster->nodes[message->to] != NULL) {
    expect(mo_node_message(cluster->nodes[message->to], text(PIDS[message->from]),
                           text(message->name), body), "message");
    drain(cluster, message->to);
  }
  free(message->name);
  free(message->body);
  free(message);
  return true;
}

static void advance(struct cluster *cluster)
{
  uint64_t next = MO_NEVER;
  for (int i = 0; i < NODES; i++) {
    if (cluster->nodes[i] != NULL && cluster->deadlines[i] < next) {
      next = cluster->deadlines[i];
    }
  }
  if (next == MO_NEVER) {
    return; /* a thread is at work, or it never ends: the caller counts */
  }
  if (next > cluster->now) {
    cluster->now = next;
  }
  for (int i = 0; i < NODES; i++) {
    if (cluster->nodes[i] != NULL && cluster->deadlines[i] <= cluster->now) {
      expect(mo_node_tick(cluster->nodes[i]), "tick");
      drain(cluster, i);
    }
  }
}

/* Does one step: delivers a message, handles a wake, or moves the clock. */
static void step(struct cluster *cluster)
{
  if (deliver_one(cluster)) {
    return;
  }
  if (wait_for_wake(cluster)) {
    for (int i = 0; i < NODES; i++) {
      if (cluster->nodes[i] != NULL) {
        drain(cluster, i);
      }
    }
    return;
  }
  advance(cluster);
}

/* Sends a request and returns the status; the body is in `answer`. */
static uint16_t ask(struct cluster *cluster, int self, const char *method,
                    const char *path, const char *body)
{
  mo_request request = {0};
  request.size = sizeof(request);
  request.id = ++cluster->requests;
  request.method = text(method);
  request.path = text(path);
  request.body = text(body);
  expect(mo_node_request(cluster->nodes[self], &request), "request");
  drain(cluster, self);
  for (int steps = 0; cluster->answered != request.id; steps++) {
    if (steps > 1000) {
      fail("%s %s is not answered", method, path);
    }
    step(cluster);
  }
  return cluster->status;
}

/* ------------------------------------------------------------------ checks */

static bool registered(struct cluster *cluster)
{
  bool all = true;
  cluster->configuring = false;
  for (int i = 1; i < NODES && all; i++) {
    all = ask(cluster, i, "GET", "/overlay-agent/overlay", "") == 200 &&
          strstr(cluster->answer, "\"registered\":true") != NULL &&
          strstr(cluster->answer, "STATUS_OK") != NULL;
    cluster->configuring = strstr(cluster->answer, "STATUS_CONFIGURING") != NULL;
  }
  return all;
}

static void wait_registered(struct cluster *cluster, const char *when)
{
  const uint64_t limit = cluster->now + 60 * 1000;
  for (int steps = 0; !registered(cluster); steps++) {
    if (cluster->now > limit || steps > 10000) {
      fail("not registered %s: %s", when, cluster->answer);
    }
    step(cluster);
  }
  printf("registered %s, at %llu ms\n", when, (unsigned long long)cluster->now);
}

static void expect_state(struct cluster *cluster, const char *part, const char *when)
{
  const uint16_t status = ask(cluster, MASTER, "GET", "/overlay-master/state", "");
  if (status != 200 || strstr(cluster->answer, part) == NULL) {
    fail("%s the state is %u %s, without %s", when, status, cluster->answer, part);
  }
}

static void expect_file(struct cluster *cluster, int agent)
{
  char path[4096];
  struct stat info;
  snprintf(path, sizeof(path), "%s/cni%d/dcos.conf", cluster->directory, agent);
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

static void create(struct cluster *cluster, int self)
{
  char path[4096];
  const mo_pair parameter = {
      text(self == MASTER ? "master_config" : "agent_config"), {NULL, 0}};
  mo_pair parameters[1] = {parameter};
  snprintf(path, sizeof(path), "%s/%d.json", cluster->directory, self);
  parameters[0].value = text(path);

  mo_options options = {0};
  options.size = sizeof(options);
  options.parameters = parameters;
  options.parameter_count = 1;
  options.wake = wake;
  options.wake_ctx = cluster;
  options.now_ms = now_ms;
  options.now_ctx = cluster;
  options.seed = (uint64_t)self + 1;

  mo_node **node = &cluster->nodes[self];
  if (self == MASTER) {
    write_file(path,
               "{\"replicated_log_dir\": \"%s/log\", \"network\": {\"vtep_subnet\": "
               "\"44.128.0.0/20\", \"vtep_mac_oui\": \"70:B3:D5:00:00:00\", "
               "\"overlays\": [{\"name\": \"dcos\", \"subnet\": \"9.0.0.0/8\", "
               "\"prefix\": 24}]}}", cluster->directory);
    expect(mo_master_new(&options, node), "mo_master_new");
  } else {
    write_file(path,
               "{\"cni_dir\": \"%s/cni%d\", \"master\": \"127.0.0.1:5050\", "
               "\"backend\": \"external\", \"firewall\": \"none\", "
               "\"network_config\": {\"docker_bridge\": false}}", cluster->directory, self);
    expect(mo_agent_new(&options, node), "mo_agent_new");
  }
  expect(mo_node_start(*node, text(PIDS[self])), "start");
  drain(cluster, self);
}

static void make_cni_directories(struct cluster *cluster)
{
  char path[4096];
  for (int i = 1; i < NODES; i++) {
    snprintf(path, sizeof(path), "%s/cni%d", cluster->directory, i);
    if (mkdir(path, 0755) != 0 && errno != EEXIST) {
      fail("%s: %s", path, strerror(errno));
    }
  }
}

static void check_interface(struct cluster *cluster)
{
  mo_endpoint endpoint = {0};
  endpoint.size = sizeof(endpoint);
  size_t index = 0;
  do {
    expect(mo_node_endpoint(cluster->nodes[MASTER], index++, &endpoint), "endpoint");
  } while (!equals(endpoint.path, "/agents/delete"));
  if (endpoint.flags != MO_ENDPOINT_WRITES) {
    fail("%.*s does not write", (int)endpoint.path.len, (const char *)endpoint.path.ptr);
  }
  if (mo_node_endpoint(cluster->nodes[MASTER], 1000, &endpoint) != MO_END ||
      mo_node_start(cluster->nodes[MASTER], text(PIDS[MASTER])) != MO_STATE ||
      mo_node_tick(NULL) != MO_NULL) {
    fail("wrong calls are not refused");
  }
}

static void finish(struct cluster *cluster)
{
  for (int i = 0; i < NODES; i++) {
    mo_node_free(cluster->nodes[i]);
    cluster->nodes[i] = NULL;
  }
  while (deliver_one(cluster)) {
  }
  free(cluster->log);
  free(cluster->answer);
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

  static struct cluster cluster = {.now = 1, .lock = PTHREAD_MUTEX_INITIALIZER,
                               .woken = PTHREAD_COND_INITIALIZER};
  cluster.directory = argv[1];
  cluster.last = &cluster.first;
  make_cni_directories(&cluster);
  for (int i = 0; i < NODES; i++) {
    create(&cluster, i);
  }
  check_interface(&cluster);

  wait_registered(&cluster, "at first");
  expect_state(&cluster, "\"9.0.0.0/24\"", "at first");
  expect_state(&cluster, "\"9.0.1.0/24\"", "at first");
  for (int i = 1; i < NODES; i++) {
    expect_file(&cluster, i);
  }

  /* Failover: another master starts from the log. */
  mo_node_free(cluster.nodes[MASTER]);
  cluster.nodes[MASTER] = NULL;
  const unsigned stores = cluster.stores;
  create(&cluster, MASTER);
  expect_state(&cluster, "\"9.0.1.0/24\"", "after the failover");
  for (int i = 1; i < NODES; i++) {
    expect(mo_node_exited(cluster.nodes[i], text(PIDS[MASTER])), "exited");
    drain(&cluster, i);
  }
  wait_registered(&cluster, "after the failover");
  if (cluster.stores != stores) {
    fail("agents that the log knows were written again");
  }

  /* A connected agent is deleted only with force. It registers again, since it is
     alive. */
  if (ask(&cluster, MASTER, "POST", "/overlay-master/agents/delete",
          "{\"agents\": [\"127.0.0.3\"]}") != 409 ||
      strstr(cluster.answer, "127.0.0.3") == NULL) {
    fail("delete without force: %u %s", cluster.status, cluster.answer);
  }
  if (ask(&cluster, MASTER, "POST", "/overlay-master/agents/delete",
          "{\"agents\": [\"127.0.0.3\"], \"force\": true}") != 200 ||
      strstr(cluster.answer, "127.0.0.3") != NULL) {
    fail("delete: %u %s", cluster.status, cluster.answer);
  }
  if (ask(&cluster, MASTER, "POST", "/overlay-master/agents/delete", "{") != 400) {
    fail("a request that is no JSON: %u %s", cluster.status, cluster.answer);
  }
  for (int steps = 0; registered(&cluster); steps++) {
    if (steps > 1000) {
      fail("the deleted agent was not told");
    }
    step(&cluster);
  }
  wait_registered(&cluster, "after the deletion");
  expect_state(&cluster, "\"127.0.0.3\"", "after the deletion");

  finish(&cluster);
  printf("all is as it should be\n");
  return 0;
}
