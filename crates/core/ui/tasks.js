// The containers, from Mesos's own endpoints: /tasks in parts, and /state-summary for the names of
// frameworks and agents.

import { get } from './api.js';

const FIRST_PART = 200;
const PART = 2000;
// Tasks that start while the parts are read move the others to later parts, and tasks that are
// forgotten move them to earlier ones, so parts overlap.
const OVERLAP = 50;
const PAUSE = 2500;
const SUMMARY_PAUSE = 15000;
// Names are read again after this time, even if all are known.
const SUMMARY_AGE = 300000;
// After an answer that a login would change, a pause; what was read is known for as long.
const LONG_PAUSE = 60000;
const ENDED = ['TASK_FINISHED', 'TASK_FAILED', 'TASK_KILLED', 'TASK_LOST', 'TASK_ERROR', 'TASK_DROPPED', 'TASK_GONE', 'TASK_GONE_BY_OPERATOR'];

// All containers that are on a network, by framework and task.
export const containers = new Map();
export const frameworks = new Map();
// Agents of Mesos by their ids there: { ip, hostname }.
export const slaves = new Map();
export const progress = { read: 0, sweeping: true, swept: 0, error: '', needsLogin: false };

const listeners = new Set();
let summaryAt = 0;
// Ids that the latest summaries did not have.
const tried = new Set();

// Calls a function after each change of the containers.
export function onChange(listener) {
  listeners.add(listener);
}

function changed() {
  index = null;
  sorted = null;
  listeners.forEach((listener) => listener());
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Returns whether the containers are known: all were read, and not long ago.
export function areKnown() {
  return progress.swept > 0 && (!progress.error || Date.now() < progress.swept + LONG_PAUSE);
}

let goOn = () => {};

// Reads again at once, after a login.
export function tryAgain() {
  progress.needsLogin = false;
  goOn();
}

// Waits until the next attempt. Browsers ask for a password after each 401, so only the reader
// begins another attempt then.
function pauseAfter(error) {
  progress.error = error.message;
  progress.needsLogin = error.status === 401 || error.status === 403;
  const pause = error.status === 401 ? null : error.status === 403 ? LONG_PAUSE : PAUSE;
  return new Promise((resolve) => {
    goOn = resolve;
    return pause && setTimeout(resolve, pause);
  });
}

// Reads for ever, as long as `mayRead` says so.
export async function follow(mayRead) {
  let fullAt = 0;
  for (;;) {
    if (!mayRead() || document.hidden) {
      await sleep(500);
      continue;
    }
    const start = Date.now();
    let pause = null;
    try {
      const isFull = start >= fullAt;
      const whole = await sweep(isFull);
      Object.assign(progress, { error: '', needsLogin: false });
      if (isFull || whole) {
        // At most a fifth of the time is spent on reading everything.
        fullAt = Date.now() + 4 * (Date.now() - start);
      }
      await readSummary();
    } catch (error) {
      pause = pauseAfter(error);
    }
    changed();
    await (pause || sleep(PAUSE));
  }
}

// Reads the newest tasks, or all. Returns whether these were all.
async function sweep(isFull) {
  const met = new Set();
  let [offset, size] = [0, FIRST_PART];
  for (;;) {
    const started = Date.now();
    const { data } = await get(`../master/tasks?order=des&limit=${size}&offset=${offset}`);
    const tasks = data.tasks || [];
    tasks.forEach((task) => keep(task, met));
    const isLast = tasks.length < size;
    if (isLast) {
      forgetMissing(met, offset === 0);
      Object.assign(progress, { read: offset + tasks.length, sweeping: false, swept: Date.now() });
      return true;
    }
    if (!isFull) {
      return false;
    }
    offset += size - OVERLAP;
    size = PART;
    progress.read = offset;
    changed();
    if (offset === FIRST_PART - OVERLAP) {
      await readSummary();
    }
    // Half of the time is Mesos's own.
    await sleep(Math.min(2000, Date.now() - started));
  }
}

// Forgets containers that a sweep did not meet. If many tasks are forgotten by Mesos between two
// parts, some are in none of them: so only what two sweeps in parts have missed is gone.
function forgetMissing(met, isWhole) {
  for (const [key, container] of containers) {
    if (met.has(key)) {
      container.isMissing = false;
    } else if (isWhole || container.isMissing) {
      containers.delete(key);
    } else {
      container.isMissing = true;
    }
  }
}

// Keeps what is shown of a task, or forgets a task that has ended. Frameworks may use an id again:
// the newest task counts, which is met first.
function keep(task, met) {
  const key = `${task.framework_id}/${task.id}`;
  if (met.has(key)) {
    return;
  }
  met.add(key);
  const container = ENDED.includes(task.state) ? null : describe(task);
  if (!container) {
    containers.delete(key);
    return;
  }
  const before = containers.get(key);
  if (before && before.version === container.version) {
    return;
  }
  containers.set(key, container);
}

const list = (value) => (Array.isArray(value) ? value : []);

// The longest time that dates have, in seconds.
const MAX_TIME = 8.64e12;

// Returns the time of a status, in seconds; 0: it has none, or a strange one. Executors set it.
const timeOf = ({ timestamp }) => (timestamp > 0 && timestamp < MAX_TIME ? Number(timestamp) : 0);

const namedInfos = (owner) => list(owner && owner.network_infos).filter((info) => info.name);

function describe(task) {
  const statuses = list(task.statuses);
  const newest = (among) => among.reduce((a, b) => (!a || timeOf(b) >= timeOf(a) ? b : a), null);
  const wanted = namedInfos(task.container);
  // Statuses of some executors have no addresses, or only those of the host.
  const withNetworks = newest(statuses.filter((status) => namedInfos(status.container_status).length));
  const networks = withNetworks ? namedInfos(withNetworks.container_status) : wanted;
  const latest = newest(statuses);
  if (!networks.length) {
    return null;
  }
  const running = statuses.filter((status) => status.state === 'TASK_RUNNING' && timeOf(status));
  const start = running.length ? Math.min(...running.map(timeOf)) : 0;
  const wantedPorts = (name) => wanted.filter((info) => info.name === name).flatMap((info) => list(info.port_mappings));
  const docker = list(task.container && task.container.docker && task.container.docker.port_mappings);
  return {
    key: `${task.framework_id}/${task.id}`,
    version: `${task.state} ${statuses.length} ${latest ? timeOf(latest) : ''}`,
    id: task.id,
    name: task.name || task.id,
    dnsName: (task.discovery && task.discovery.name) || task.name || '',
    framework: task.framework_id,
    slave: task.slave_id,
    state: task.state,
    since: start * 1000,
    networks: networks.map((info, index) => ({
      name: info.name,
      addresses: list(info.ip_addresses)
        .map((address) => (address.ip_address || '').split('/')[0])
        .filter(Boolean),
      ports: ports([
        ...list(info.port_mappings),
        ...(withNetworks ? wantedPorts(info.name) : []),
        ...(index === 0 ? docker : []),
      ]),
    })),
  };
}

function ports(mappings) {
  const texts = mappings.map((port) => `${port.host_port} → ${port.container_port}/${port.protocol || 'tcp'}`);
  return [...new Set(texts)];
}

// Reads the names of frameworks and agents: once, from time to time, and if there are new ones.
async function readSummary() {
  const passed = Date.now() - summaryAt;
  const ids = ({ framework, slave }) => [frameworks.has(framework) || framework, slaves.has(slave) || slave];
  const isNew = (task) => ids(task).some((id) => id !== true && !tried.has(id));
  if (passed < SUMMARY_AGE && (passed < SUMMARY_PAUSE || ![...containers.values()].some(isNew))) {
    return;
  }
  if (passed >= SUMMARY_AGE) {
    tried.clear();
  }
  summaryAt = Date.now();
  const { data } = await get('../master/state-summary');
  list(data.frameworks).forEach((framework) => frameworks.set(framework.id, framework.name || ''));
  for (const slave of list(data.slaves)) {
    const address = /@\[?([0-9a-fA-F.:]+?)\]?:[0-9]+$/.exec(slave.pid || '');
    slaves.set(slave.id, { ip: address ? address[1] : '', hostname: slave.hostname || '' });
  }
  for (const container of containers.values()) {
    ids(container).filter((id) => id !== true).forEach((id) => tried.add(id));
  }
  hostnames = null;
  changed();
}

let hostnames = null;

// Returns the host name of an agent by its address; '' if it is not known, or the address.
export function hostname(ip) {
  if (!hostnames) {
    hostnames = new Map([...slaves.values()].map((slave) => [slave.ip, slave.hostname]));
  }
  const name = hostnames.get(ip) || '';
  return name === ip ? '' : name;
}

// Returns the addresses of agents whose host name contains a text.
export function agentsNamed(text) {
  const has = (slave) => slave.ip && slave.hostname.toLowerCase().includes(text);
  return [...slaves.values()].filter(has).map((slave) => slave.ip);
}

export function frameworkName(container) {
  return frameworks.get(container.framework) || '';
}

export function agentOf(container) {
  return (slaves.get(container.slave) || {}).ip || '';
}

// Returns the containers that a function selects, the newest first.
export function select(selects) {
  const isFirst = (a, b) => b.since - a.since || (a.key < b.key ? -1 : 1);
  sorted = sorted || [...containers.values()].sort(isFirst);
  return sorted.filter(selects);
}

let sorted = null;

export const isOn = (network) => (container) => container.networks.some((info) => info.name === network);

let index = null;

// Returns how many different addresses containers have on a network, of one agent or of all. A
// container with addresses of both families counts once. Undefined: they are not known.
export function usedAddresses(network, agent) {
  if (!areKnown()) {
    return undefined;
  }
  index = index || countAddresses();
  return (index.get(`${network} ${agent || ''}`) || new Set()).size;
}

function countAddresses() {
  const used = new Map();
  const add = (key, address) => {
    const addresses = used.get(key) || new Set();
    addresses.add(address);
    used.set(key, addresses);
  };
  for (const container of containers.values()) {
    for (const info of container.networks.filter((network) => network.addresses.length)) {
      add(`${info.name} `, info.addresses[0]);
      add(`${info.name} ${agentOf(container)}`, info.addresses[0]);
    }
  }
  return used;
}
