// The search: who has an address, a name or a task.

import { get, query } from './api.js';
import { el, link } from './dom.js';
import { state } from './main.js';
import { agentTable, rowsOf } from './agents.js';
import { contains, parseAddress } from './names.js';
import { containersSection, hasText, heading } from './networks.js';
import { ROWS } from './tables.js';
import * as tasks from './tasks.js';

export function searchView(text, parameters) {
  const small = text.trim().toLowerCase();
  const address = parseAddress(small);
  const load = (signal) => load_agents(small, signal);
  const render = (answer) => {
    const isIt = address ? (container) => hasAddress(container, small) : (container) => hasText(container, small);
    const rows = rowsOf(answer);
    return [
      heading(`Search for ${text}`, []),
      address && el('p', { class: 'answer' }, owner(small, address, rows)),
      networks(small, address),
      el('h2', {}, 'Agents'),
      agentTable(rows, 'No agent has it.'),
      containersSection(text, isIt, parameters),
    ];
  };
  return { title: `Search for ${text}`, load, render };
}

// Agents by what the overlay master knows, and by their host names, which Mesos knows.
async function load_agents(text, signal) {
  const found = await get(query('agents', { q: text, limit: ROWS }), signal);
  const named = parseAddress(text) ? [] : tasks.agentsNamed(text).slice(0, ROWS);
  if (!named.length) {
    return found;
  }
  const others = await get(query('agents', { agent: named.join(',') }), signal);
  const known = new Set((found.data.agents || []).map((agent) => agent.ip));
  const more = (others.data.agents || []).filter((agent) => !known.has(agent.ip));
  return { at: found.at, data: { agents: [...(found.data.agents || []), ...more] } };
}

const hasAddress = (container, text) => container.networks.some((network) => network.addresses.includes(text));

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
  const users = tasks.select((container) => hasAddress(container, text));
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
        const nobody = tasks.progress.sweeping ? 'The tasks are still being read.' : 'No task of Mesos has it.';
        return [`${text} is in the subnet ${subnet} of the agent `, where, `. ${nobody}`];
      }
    }
    return [`${text} is the tunnel address (VTEP) of the agent `, link(row.ip, 'agents', row.ip), '.'];
  }
  return `No agent has ${text}, or a subnet with it.`;
}
