// The networks, and one of them.

import { get, query } from './api.js';
import { badge, copyButton, copyable, el, facts, lines, link, meter, number, path, since } from './dom.js';
import { containerName, networkName } from './names.js';
import { state } from './main.js';
import { ROWS, filter, offsetIn, pager, table } from './tables.js';
import * as tasks from './tasks.js';

const GOOD = ['active'];
const BAD = ['left_out', 'orphaned'];
const WORDS = { left_out: 'in conflict' };

export function overlayNamed(name) {
  return (state.overview.overlays || []).find((overlay) => overlay.name === name);
}

export function stateBadge(overlay) {
  const kind = GOOD.includes(overlay.state) ? 'good' : BAD.includes(overlay.state) ? 'bad' : '';
  return badge(WORDS[overlay.state] || overlay.state, kind);
}

const info = (overlay) => overlay.info || {};

function ranges(overlay) {
  const { subnet, subnet6 } = info(overlay);
  return lines([copyable(subnet), copyable(subnet6)]);
}

function prefixes(overlay) {
  const { prefix, prefix6 } = info(overlay);
  return lines([prefix && `/${prefix}`, prefix6 && `/${prefix6}`]);
}

function agents(overlay) {
  const away = overlay.agents - overlay.connected;
  return lines([number(overlay.agents), away > 0 && badge(`${number(away)} not connected`, 'bad')]);
}

function subnets(overlay) {
  const { used, total, used6, total6 } = overlay.agent_subnets || {};
  const bars = [[used, total], [used6, total6]].filter(([, all]) => all !== undefined);
  return bars.length ? lines(bars.map(([some, all]) => meter(some, all, `Subnets of ${overlay.name}`))) : '';
}

function addresses(overlay) {
  const used = tasks.usedAddresses(overlay.name);
  return meter(used, overlay.container_addresses, `Addresses of ${overlay.name} that containers have`);
}

function problems(overlay) {
  const { free, free6 } = overlay.agent_subnets || {};
  const isFull = free === 0 || free6 === 0;
  const failing = overlay.failing && [
    el('a', { href: `${path('networks', overlay.name)}?status=failing` }, overlay.failing === 1 ? '1 agent reports errors' : `${number(overlay.failing)} agents report errors`),
  ];
  return lines([overlay.error, isFull && 'No subnet is left for another agent', failing]);
}

const COLUMNS = [
  { title: 'Network', cell: (row) => link(row.name, 'networks', row.name) },
  { title: 'State', cell: stateBadge },
  { title: 'Ranges', cell: ranges },
  { title: 'Prefix per agent', cell: prefixes },
  { title: 'Agents', cell: agents },
  { title: 'Subnets used', cell: subnets },
  { title: 'Addresses used', cell: addresses },
  { title: 'Problems', cell: problems },
];

export function networksView() {
  const render = () => {
    const overlays = (state.overview.overlays || []).map((overlay) => ({ ...overlay, key: overlay.name }));
    return [
      heading('Networks', [link('Add a network', 'add')], 'overview'),
      table('Networks', COLUMNS, overlays, 'There are no networks. Add one, or give some in the configuration.'),
      summary(),
    ];
  };
  return { title: 'Networks', render };
}

// Returns the heading of a view with its links and the same as JSON.
export function heading(text, links, json) {
  const items = [...links, json && el('a', { href: json }, 'JSON')].filter(Boolean);
  return el(
    'div',
    { class: 'heading' },
    el('h1', { tabindex: -1 }, text),
    el('ul', { class: 'actions' }, items.map((item) => el('li', {}, item))),
  );
}

function summary() {
  const { agents: all, network } = state.overview;
  const { used, total } = network.vteps || {};
  return [
    el('h2', {}, 'All networks'),
    facts([
      ['Agents', link(`${number(all.connected)} of ${number(all.total)} connected`, 'agents')],
      ['Tunnel addresses (VTEP)', el('span', {}, copyable(network.vtep_subnet), copyable(network.vtep_subnet6))],
      ['Tunnel addresses used', meter(used || 0, total, 'Tunnel addresses')],
      ['MTU of the tunnels', network.vtep_mtu ? String(network.vtep_mtu) : 'automatic'],
      ['Containers', tasks.areKnown() ? number(tasks.containers.size) : 'unknown'],
      ['Changes at run time', number(state.overview.revision)],
    ]),
  ];
}

export function networkView(name, parameters) {
  const offset = offsetIn(parameters, 'agents');
  const search = parameters.get('q') || '';
  const status = parameters.get('status') || '';
  const request = query('agents', { network: name, q: search, status, limit: ROWS, offset });
  const load = (signal) => get(request, signal);
  const render = (answer) => {
    const overlay = overlayNamed(name);
    if (!overlay) {
      return [heading(name, []), el('p', {}, `There is no network ${name}.`)];
    }
    const actions = [link('Change', 'networks', name, 'change'), link('Remove', 'networks', name, 'remove')];
    return [
      heading(name, actions, request),
      overlay.error && el('p', { class: 'note bad' }, `Left out: ${overlay.error}.`),
      about(overlay),
      agentsSection(overlay, answer, offset),
      containersSection(name, tasks.isOn(name), parameters),
    ];
  };
  return { title: name, load, render };
}

const SOURCES = {
  file: 'the configuration of this master',
  stored: 'changed at run time, in the replicated log',
  none: 'nothing defines it, but agents hold subnets of it',
};

function about(overlay) {
  return facts([
    ['State', stateBadge(overlay)],
    ['Ranges', el('span', {}, ranges(overlay))],
    ['Prefix per agent', el('span', {}, prefixes(overlay))],
    ['Definition', SOURCES[overlay.source]],
    ['Agents', el('span', {}, agents(overlay))],
    ['Subnets used', el('span', {}, subnets(overlay))],
    ['Addresses used', addresses(overlay)],
  ]);
}

function agentsSection(overlay, answer, offset) {
  const { agents: shown, matched } = (answer && answer.data) || {};
  const rows = (shown || []).map((agent) => ({ ...agent, key: agent.ip, at: answer.at }));
  const own = (row) => (row.overlays || []).find((one) => one.info.name === overlay.name) || {};
  const columns = [
    { title: 'Agent', cell: agentCell },
    { title: 'State', cell: connection },
    { title: 'Subnet', cell: (row) => lines([copyable(own(row).subnet), copyable(own(row).subnet6)]) },
    { title: 'Addresses used', cell: (row) => agentMeter(row, own(row)) },
    { title: 'Errors', cell: (row) => lines([own(row).state && own(row).state.error, ...(row.host_errors || [])]) },
  ];
  const status = new URLSearchParams(location.hash.split('?')[1]).get('status');
  return el(
    'section',
    { 'aria-label': 'Agents' },
    el('h2', {}, 'Agents'),
    el('div', { class: 'fields' }, filter('q', 'Filter by address, subnet or error', 'agents')),
    status && el('p', {}, `Only those that are ${status}. `, link('All', 'networks', overlay.name)),
    table(`Agents of ${overlay.name}`, columns, rows, 'No agent.'),
    pager('agents', 'agents', matched || 0, offset),
  );
}

export function agentCell(row) {
  return [
    el('span', { class: 'copyable' }, link(row.ip, 'agents', row.ip), copyButton(row.ip)),
    lines([tasks.hostname(row.ip)]),
  ];
}

// Returns whether an agent is connected and since when.
export function connection(row) {
  const text = row.connected ? 'connected' : 'not connected';
  const start = row.since_seconds === undefined ? 0 : row.at - row.since_seconds * 1000;
  const time = start ? el('span', {}, 'for ', since(start)) : el('span', { class: 'faint' }, 'not seen by this master');
  return lines([badge(text, row.connected ? 'good' : 'bad'), time]);
}

// Returns how many addresses the bridges of an agent's overlay have.
function capacity(overlay) {
  const bridges = [overlay.mesos_bridge, overlay.docker_bridge].filter(Boolean);
  const count = (net, bits, reserved) => (net ? Math.max(0, 2 ** (bits - Number(net.split('/')[1])) - reserved) : 0);
  const all = (key, bits, reserved) => bridges.reduce((sum, bridge) => sum + count(bridge[key], bits, reserved), 0);
  return all('ip', 32, 3) || all('ip6', 128, 2);
}

export function agentMeter(row, overlay) {
  const name = overlay.info && overlay.info.name;
  const used = tasks.usedAddresses(name, row.ip);
  return meter(used, capacity(overlay), `Addresses of ${name} on ${row.ip} that containers have`);
}

// Returns the containers that a function selects, with a filter.
export function containersSection(what, selects, parameters) {
  const text = (parameters.get('task') || '').toLowerCase();
  const offset = offsetIn(parameters, 'containers');
  const selected = tasks.select((container) => selects(container) && hasText(container, text));
  const rows = selected.slice(offset, offset + ROWS);
  const { error, sweeping } = tasks.progress;
  const reading = sweeping ? 'Reading the tasks of Mesos …' : 'No container.';
  const empty = error && !tasks.areKnown() ? `The containers cannot be read: ${error}` : reading;
  const count = tasks.areKnown() || selected.length ? ` (${number(selected.length)})` : '';
  return el(
    'section',
    { 'aria-label': 'Containers' },
    el('h2', {}, `Containers${count}`),
    el('div', { class: 'fields' }, filter('task', 'Filter by task, framework, address or port', 'containers')),
    table(`Containers of ${what}`, CONTAINER_COLUMNS, rows, empty),
    pager('containers', 'containers', selected.length, offset),
  );
}

// Returns whether a container has a text, in small letters, in one of its names or addresses.
export function hasText(container, text) {
  if (!text) {
    return true;
  }
  const has = (value) => value.toLowerCase().includes(text);
  const { name, id, networks } = container;
  return (
    has(name) ||
    has(id) ||
    has(tasks.frameworkName(container)) ||
    networks.some((network) => network.addresses.some(has) || network.ports.some(has)) ||
    dnsNames(container).some(has)
  );
}

const names = new WeakMap();

// Returns the names of a container in the DNS; a task that does not run has none.
function dnsNames(container) {
  const framework = tasks.frameworkName(container);
  if (container.state !== 'TASK_RUNNING' || !framework) {
    return [];
  }
  const domain = state.overview.dns_domain;
  const known = names.get(container);
  if (known && known.framework === framework && known.domain === domain) {
    return known.list;
  }
  const list = makeNames(container, framework, domain);
  names.set(container, { framework, domain, list });
  return list;
}

function makeNames(container, framework, domain) {
  const { dnsName, networks } = container;
  const own = networks.length > 1 ? networks : [];
  return [
    containerName(dnsName, framework, domain),
    ...own.map((network) => networkName(dnsName, framework, network.name, domain)),
  ].filter(Boolean);
}

function taskState(container) {
  const word = container.state.replace('TASK_', '').toLowerCase();
  const kind = word === 'running' ? 'good' : word === 'unreachable' ? 'bad' : '';
  return badge(word, kind);
}

function networkLines(container) {
  return container.networks.map((network) =>
    el('div', {}, link(network.name, 'networks', network.name), ' ', network.addresses.map((one) => copyable(one))),
  );
}

const CONTAINER_COLUMNS = [
  {
    title: 'Task',
    cell: (row) => [el('div', { class: 'name' }, row.name), row.id !== row.name && el('div', { class: 'id' }, copyable(row.id))],
  },
  { title: 'Framework', cell: (row) => el('span', {}, tasks.frameworkName(row) || row.framework) },
  {
    title: 'Agent',
    cell: (row) => {
      const ip = tasks.agentOf(row);
      return ip ? lines([link(ip, 'agents', ip), tasks.hostname(ip)]) : row.slave;
    },
  },
  { title: 'Addresses', cell: networkLines },
  { title: 'Ports', cell: (row) => lines(row.networks.flatMap((network) => network.ports)) },
  { title: 'DNS names', cell: (row) => el('div', { class: 'dns' }, lines(dnsNames(row).map((name) => copyable(name)))) },
  { title: 'State', cell: (row) => lines([taskState(row), row.since && el('span', {}, 'for ', since(row.since))]) },
];
