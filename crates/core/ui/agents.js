// The agents, and one of them.

import { get, query } from './api.js';
import { age, copyable, el, facts, lines, link, number } from './dom.js';
import { state } from './main.js';
import { agentCell, agentMeter, connection, containersSection, heading } from './networks.js';
import { ROWS, choice, filter, offsetIn, pager, table } from './tables.js';
import * as tasks from './tasks.js';

const STATUSES = [
  ['', 'all'],
  ['connected', 'connected'],
  ['disconnected', 'not connected'],
  ['failing', 'with errors'],
  ['expired', 'with an ended lease'],
];

const overlays = (row) => row.overlays || [];

const vxlan = (row) => {
  const found = overlays(row).find((overlay) => overlay.backend && overlay.backend.vxlan);
  return found ? found.backend.vxlan : {};
};

function vtep(row) {
  const { vtep_ip: ip, vtep_ip6: ip6, vtep_mac: mac } = vxlan(row);
  return lines([ip, ip6, mac].map((text) => copyable(text)));
}

function subnets(row) {
  return overlays(row).map((overlay) =>
    el('div', {}, link(overlay.info.name, 'networks', overlay.info.name), ' ', copyable(overlay.subnet), copyable(overlay.subnet6)),
  );
}

function addresses(row) {
  return lines(overlays(row).map((overlay) => agentMeter(row, overlay)));
}

// Returns when the lease of an agent ends, which the master says.
function lease(row) {
  if (state.overview.lease_seconds === undefined) {
    return 'none';
  }
  const seconds = row.lease_ends_in_seconds;
  if (seconds === undefined) {
    return 'renewed';
  }
  const left = seconds - (Date.now() - row.at) / 1000;
  return seconds === 0 ? 'ended' : `ends in ${age(Math.max(1, left))}`;
}

function errors(row) {
  const own = overlays(row).map(({ info, state: status }) => status && status.error && `${info.name}: ${status.error}`);
  return [...own, ...(row.host_errors || [])].filter(Boolean);
}

function lastError(row) {
  if (!row.last_error) {
    return '';
  }
  const seconds = row.last_error.seconds_ago + (Date.now() - row.at) / 1000;
  return `${age(seconds)} ago: ${row.last_error.error}`;
}

function errorCell(row) {
  const present = errors(row);
  const past = !present.length && row.last_error && el('div', { class: 'faint' }, lastError(row));
  return [el('div', { class: 'bad' }, lines(present)), past];
}

const mtu = (row) => (vxlan(row).vtep_mtu ? String(vxlan(row).vtep_mtu) : 'automatic');

const remove = (row) => link('Delete', 'agents', row.ip, 'delete');

const COLUMNS = [
  { title: 'Agent', cell: agentCell },
  { title: 'State', cell: connection },
  { title: 'Tunnel (VTEP)', cell: vtep },
  { title: 'Subnets', cell: subnets },
  { title: 'Addresses used', cell: addresses },
  { title: 'MTU', cell: mtu },
  { title: 'Lease', cell: lease },
  { title: 'Release', cell: (row) => row.release || 'earlier' },
  { title: 'Errors', cell: errorCell },
  { title: 'Actions', cell: (row) => !row.connected && remove(row) },
];

export function rowsOf(answer) {
  const { agents } = (answer && answer.data) || {};
  return (agents || []).map((agent) => ({ ...agent, key: agent.ip, at: answer.at }));
}

// Number of agents that a request can name.
const MOST_NAMED = 200;

const agentsNamed = (text) => (text ? tasks.agentsNamed(text.toLowerCase()) : []);

// Returns the query of agents with a text, which may be a part of a host name. Mesos knows the host
// names, and the overlay master does not.
export function agentsQuery(text, more) {
  return query('agents', { ...more, q: text, also: agentsNamed(text).slice(0, MOST_NAMED).join(',') });
}

// Returns a sentence if more agents have the text in their host names than a request can name.
export function cutNames(text) {
  const count = agentsNamed(text).length;
  const sentence = `${number(count)} agents have this in their host names, of which ${MOST_NAMED} are among these. Write more of the name.`;
  return count > MOST_NAMED && el('p', {}, sentence);
}

export function agentTable(rows, empty) {
  return table('Agents', COLUMNS, rows, empty);
}

export function agentsView(parameters) {
  const offset = offsetIn(parameters, 'offset');
  const status = parameters.get('status') || '';
  const text = parameters.get('q') || '';
  const request = () => agentsQuery(text, { status, limit: ROWS, offset });
  const render = (answer) => {
    const { matched, total } = (answer && answer.data) || {};
    const hasLease = state.overview.lease_seconds !== undefined;
    const actions = [hasLease && link('Reclaim', 'reclaim')].filter(Boolean);
    return [
      heading('Agents', actions, request()),
      el(
        'div',
        { class: 'fields' },
        filter('q', 'Filter by address, host name, subnet or error', 'offset'),
        choice('status', 'State', 'offset', STATUSES),
      ),
      el('p', { class: 'faint' }, `${number(matched || 0)} of ${number(total || 0)} agents`),
      cutNames(text),
      agentTable(rowsOf(answer), 'No agent.'),
      pager('offset', 'agents', matched || 0, offset),
    ];
  };
  return { title: 'Agents', load: (signal) => get(request(), signal), render };
}

export function agentView(ip, parameters) {
  const request = query('agents', { agent: ip });
  const render = (answer) => {
    const row = rowsOf(answer).find((one) => one.ip === ip);
    if (!row) {
      return [heading(ip, []), el('p', {}, `There is no agent ${ip}.`)];
    }
    const isOn = (container) => tasks.agentOf(container) === ip;
    return [heading(ip, [remove(row)], request), about(row), networks(row), containersSection(ip, isOn, parameters)];
  };
  return { title: ip, load: (signal) => get(request, signal), render };
}

function about(row) {
  return facts([
    ['State', el('span', {}, connection(row))],
    ['Host name', tasks.hostname(row.ip)],
    ['Tunnel (VTEP)', el('span', {}, vtep(row))],
    ['MTU', mtu(row)],
    ['Lease', lease(row)],
    ['Release', row.release || 'earlier'],
    ['Authentication', row.authentication],
    ['Errors of the host', (row.host_errors || []).length ? el('span', { class: 'bad' }, lines(row.host_errors)) : ''],
    ['Last error', lastError(row)],
  ]);
}

function networks(row) {
  const bridge = (one) => one && lines([`${one.name}: ${[one.ip, one.ip6].filter(Boolean).join(', ')}`]);
  const status = ({ state: present }) => (present ? lines([present.status, present.error]) : 'not reported yet');
  const columns = [
    { title: 'Network', cell: (overlay) => link(overlay.info.name, 'networks', overlay.info.name) },
    { title: 'Subnet', cell: (overlay) => lines([copyable(overlay.subnet), copyable(overlay.subnet6)]) },
    { title: 'Bridges', cell: (overlay) => [bridge(overlay.mesos_bridge), bridge(overlay.docker_bridge)] },
    { title: 'Addresses used', cell: (overlay) => agentMeter(row, overlay) },
    { title: 'State', cell: status },
  ];
  const rows = overlays(row).map((overlay) => ({ ...overlay, key: overlay.info.name }));
  return el('section', { 'aria-label': 'Networks' }, el('h2', {}, 'Networks'), table(`Networks of ${row.ip}`, columns, rows, 'None.'));
}
