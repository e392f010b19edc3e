// The search: who has an address, a name or a task.

import { get, query } from './api.js';
import { el, link, number, path } from './dom.js';
import { state } from './main.js';
import { agentTable, agentsQuery, cutNames, rowsOf } from './agents.js';
import { contains, parseAddress } from './names.js';
import { containersSection, hasText, heading } from './networks.js';
import { ROWS } from './tables.js';
import * as tasks from './tasks.js';

export function searchView(text, parameters) {
  const small = text.trim().toLowerCase();
  const address = parseAddress(small);
  // An address is that of no host name.
  const load = (signal) => get(address ? query('agents', { q: small, limit: ROWS }) : agentsQuery(small, { limit: ROWS }), signal);
  const render = (answer) => {
    const isIt = address ? (container) => hasAddress(container, small, address) : (container) => hasText(container, small);
    const rows = rowsOf(answer);
    return [
      heading(`Search for ${text}`, []),
      address && el('p', { class: 'answer' }, owner(small, address, rows)),
      networks(small, address),
      el('h2', {}, 'Agents'),
      agentTable(rows, 'No agent has it.'),
      more(small, rows, answer),
      !address && cutNames(small),
      containersSection(text, isIt, parameters),
    ];
  };
  return { title: `Search for ${text}`, load, render };
}

// Returns a sentence if there are more agents than rows.
function more(text, rows, answer) {
  const { matched } = (answer && answer.data) || {};
  const all = el('a', { href: `${path('agents')}?${new URLSearchParams({ q: text })}` }, `all ${number(matched)}`);
  return matched > rows.length && el('p', {}, `These are the first ${number(rows.length)}: `, all, '.');
}

// Returns whether a container has an address. IPv6 addresses can be written in several ways.
function hasAddress(container, text, { bits, value }) {
  const isSame = (own) => (own.includes(':') ? bits === 128 && (parseAddress(own) || {}).value === value : own === text);
  return container.networks.some((network) => network.addresses.some(isSame));
}

function networks(text, address) {
  const has = (overlay) => {
    const { subnet, subnet6 } = overlay.info || {};
    return address ? contains(subnet, address) || contains(subnet6, address) : overlay.name.toLowerCase().includes(text);
  };
  const found = (state.overview.overlays || []).filter(has);
  if (!found.length) {
    return '';
  }
  const items = found.map((overlay) => el('li', {}, link(overlay.name, 'networks', overlay.name)));
  return [el('h2', {}, 'Networks'), el('ul', {}, items)];
}

// Returns a sentence about who has an address.
function owner(text, address, rows) {
  const users = tasks.select((container) => hasAddress(container, text, address));
  if (users.length) {
    const [user] = users;
    const ip = tasks.agentOf(user);
    return [`${text} is the address of the task `, el('strong', {}, user.name), ip && [' on agent ', link(ip, 'agents', ip)], '.'];
  }
  for (const row of rows) {
    if (row.ip === text) {
      return [`${text} is the address of the agent `, link(text, 'agents', text), '.'];
    }
    for (const overlay of row.overlays || []) {
      const subnet = [overlay.subnet, overlay.subnet6].find((net) => contains(net, address));
      if (subnet) {
        const where = [link(row.ip, 'agents', row.ip), ', on network ', link(overlay.info.name, 'networks', overlay.info.name)];
        const { error, sweeping } = tasks.progress;
        const reading = sweeping ? 'The tasks are still being read.' : 'No task of Mesos has it.';
        const nobody = error && !tasks.areKnown() ? 'The tasks cannot be read.' : reading;
        return [`${text} is in the subnet ${subnet} of the agent `, where, `. ${nobody}`];
      }
    }
    return [`${text} is the tunnel address (VTEP) of the agent `, link(row.ip, 'agents', row.ip), '.'];
  }
  return `No agent has ${text}, or a subnet with it.`;
}
