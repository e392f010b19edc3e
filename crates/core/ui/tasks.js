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
const ENDED = ['TASK_FINISHED', 'TASK_FAILED', 'TASK_KILLED', 'TASK_LOST', 'TASK_ERROR', 'TASK_DROPPED', 'TASK_GONE'];

// All containers that are on a network, by framework and task.
export const containers = new Map();
export const frameworks = new Map();
// Agents of Mesos by their ids there: { ip, hostname }.
export const slaves = new Map();
export const progress = { read: 0, sweeping: true, swept: 0, error: '' };

const listeners = new Set();
let summaryAt = 0;

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

// Reads for ever, as long as `mayRead` says so.
export async function follow(mayRead) {
  let fullAt = 0;
  for (;;) {
    if (!mayRead() || document.hidden) {
      await sleep(500);
      continue;
    }
    const start = Date.now();
    try {
      const isFull = start >= fullAt;
      const whole = await sweep(isFull);
      progress.error = '';
      if (isFull || whole) {
        // At most a fifth of the time is spent on reading everything.
        fullAt = Date.now() + 4 * (Date.now() - start);
      }
      await readSummary();
    } catch (error) {
      progress.error = error.message;
    }
    changed();
    await sleep(PAUSE);
  }
}

// Reads the newest tasks, or all. Returns whether these were all.
async function sweep(isFull) {
  const seen = new Set();
  let [offset, size] = [0, FIRST_PART];
  for (;;) {
    const started = Date.now();
    const { data } = await get(`../master/tasks?order=des&limit=${size}&offset=${offset}`);
    const tasks = data.tasks || [];
    tasks.forEach((task) => keep(task, seen));
    const isLast = tasks.length < size;
    if (isLast) {
      for (const key of containers.keys()) {
        if (!seen.has(key)) {
          containers.delete(key);
        }
      }
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

// Keeps what is shown of a task, or forgets a task that has ended.
function keep(task, seen) {
  const key = `${task.framework_id}/${task.id}`;
  const container = ENDED.includes(task.state) ? null : describe(task);
  if (!container) {
    containers.delete(key);
    return;
  }
  seen.add(key);
  const before = containers.get(key);
  if (before && before.version === container.version) {
    return;
  }
  containers.set(key, container);
}

const list = (value) => (Array.isArray(value) ? value : []);

function describe(task) {
  const statuses = list(task.statuses);
  const newest = statuses.reduce((a, b) => ((b.timestamp || 0) >= ((a && a.timestamp) || 0) ? b : a), null);
  const wanted = list(task.container && task.container.network_infos);
  const reported = list(newest && newest.container_status && newest.container_status.network_infos);
  const networks = (reported.length ? reported : wanted).filter((info) => info.name);
  if (!networks.length) {
    return null;
  }
  const running = statuses.filter((status) => status.state === 'TASK_RUNNING' && status.timestamp);
  const start = running.length ? Math.min(...running.map((status) => status.timestamp)) : 0;
  const docker = list(task.container && task.container.docker && task.container.docker.port_mappings);
  return {
    key: `${task.framework_id}/${task.id}`,
    version: `${task.state} ${statuses.length} ${(newest && newest.timestamp) || ''}`,
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
        ...(reported.length ? list((wanted[index] || {}).port_mappings) : []),
        ...(index === 0 ? docker : []),
      ]),
    })),
  };
}

function ports(mappings) {
  const texts = mappings.map((port) => `${port.host_port} → ${port.container_port}/${port.protocol || 'tcp'}`);
  return [...new Set(texts)];
}

// Reads the names of frameworks and agents, if some are not known.
async function readSummary() {
  const isUnknown = (task) => !frameworks.has(task.framework) || !slaves.has(task.slave);
  if (Date.now() < summaryAt + SUMMARY_PAUSE || ![...containers.values()].some(isUnknown)) {
    return;
  }
  summaryAt = Date.now();
  const { data } = await get('../master/state-summary');
  list(data.frameworks).forEach((framework) => frameworks.set(framework.id, framework.name || ''));
  for (const slave of list(data.slaves)) {
    const address = /@\[?([0-9a-fA-F.:]+?)\]?:[0-9]+$/.exec(slave.pid || '');
    slaves.set(slave.id, { ip: address ? address[1] : '', hostname: slave.hostname || '' });
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
// container with addresses of both families counts once.
export function usedAddresses(network, agent) {
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
