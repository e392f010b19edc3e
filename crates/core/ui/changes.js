// Changes: networks are added, changed and removed, agents deleted, and leases reclaimed. What will
// be lost is said first.

import { change, get, query } from './api.js';
import { announce, el, link, number, path } from './dom.js';
import { state } from './main.js';
import { heading, overlayNamed } from './networks.js';
import { rowsOf } from './agents.js';
import { contains, parseAddress } from './names.js';
import { update } from './tables.js';
import * as tasks from './tasks.js';

const NAMED = 10;
const MOST = 1000;

// Returns a form. `send(form)` sends the request and returns where to go then.
function form(children, submit, send) {
  const problem = el('div', { role: 'alert', class: 'problem' });
  const button = el('button', { type: 'submit' }, submit);
  const onsubmit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    update(problem, []);
    try {
      const target = await send(event.target);
      announce(`${submit}: done`);
      location.hash = target;
    } catch (error) {
      const sentences = error.message.split('\n');
      update(problem, sentences.map((sentence) => el('p', { class: 'note bad' }, sentence)));
    }
    button.disabled = false;
  };
  return el('form', { class: 'change', onsubmit }, children, problem, el('p', {}, button));
}

function field(name, title, value, more) {
  const id = `field-${name}`;
  const attributes = { id, name, value, autocomplete: 'off', spellcheck: 'false', ...more };
  return el('div', { class: 'field' }, el('label', { for: id }, title), el('input', attributes));
}

function box(name, title, more) {
  const id = `field-${name}`;
  return el('div', { class: 'box' }, el('input', { type: 'checkbox', id, name, ...more }), el('label', { for: id }, title));
}

// A form is made once for each visit of its view, so that an update does not undo what was typed.
let made = { key: '', element: null };

function once(make) {
  const key = `${location.hash} ${made.visit || 0}`;
  if (made.key !== key || !made.element.isConnected) {
    made = { key, element: make() };
  }
  return made.element;
}

const RANGES = [
  ['subnet', 'IPv4 range, such as 9.64.0.0/16', 'text'],
  ['prefix', 'Prefix length of an agent\'s IPv4 subnet, such as 24', 'number'],
  ['subnet6', 'IPv6 range, such as fd01:c::/64', 'text'],
  ['prefix6', 'Prefix length of an agent\'s IPv6 subnet, such as 80', 'number'],
];

const FORCE = 'Permit a range that contains addresses of hosts: containers and these hosts do not reach each other';

function rangeFields(info) {
  return RANGES.map(([name, title, type]) => field(name, title, info[name], { type, min: type === 'number' && 1, max: type === 'number' && 128 }));
}

// Returns the definition in a form.
function definition(fields) {
  const body = { enabled: fields.enabled.checked };
  for (const [name, , type] of RANGES) {
    const value = fields[name].value.trim();
    if (value) {
      body[name] = type === 'number' ? Number(value) : value;
    }
  }
  return fields.force.checked ? { ...body, force: true } : body;
}

export function addView() {
  const send = async ({ elements }) => {
    const name = elements.name.value.trim();
    await change('POST', 'overlays', { ...definition(elements), name });
    return path('networks', name);
  };
  const make = () =>
    form(
      [
        field('name', 'Name, at most 13 letters, digits, - and _', '', { required: true, maxlength: 100 }),
        rangeFields({}),
        box('enabled', 'Agents get subnets of it', { checked: true }),
        box('force', FORCE),
      ],
      'Add the network',
      send,
    );
  return { title: 'Add a network', render: () => [heading('Add a network', []), once(make)] };
}

const missing = (name) => [heading(name, []), el('p', {}, `There is no network ${name}.`)];

export function changeView(name) {
  const render = () => {
    const overlay = overlayNamed(name);
    if (!overlay) {
      return missing(name);
    }
    return [heading(`Change ${name}`, []), once(() => changeForm(name, overlay)), overlay.file && reset(name, overlay)];
  };
  return { title: `Change ${name}`, render };
}

function changeForm(name, overlay) {
  const from = overlay.info || {};
  const losses = el('div', { 'aria-live': 'polite' });
  const say = (elements) => {
    const list = lossesOfChange(name, from, definition(elements), overlay);
    update(losses, list.length ? [lossList(list), box('sure', `I want to change ${name}`, { required: true })] : []);
  };
  const send = async ({ elements }) => {
    await assertUnchanged(name, overlay);
    await change('PUT', `overlays/${encodeURIComponent(name)}`, definition(elements));
    return path('networks', name);
  };
  const fields = [
    rangeFields(from),
    box('enabled', 'Agents get subnets of it', { checked: from.enabled }),
    box('force', FORCE),
    losses,
  ];
  const element = form(fields, 'Change the network', send);
  element.addEventListener('input', () => say(element.elements));
  return element;
}

// Throws an error if somebody has changed a network since its form was made.
async function assertUnchanged(name, overlay) {
  const { data } = await get(`overlays/${encodeURIComponent(name)}`);
  if (JSON.stringify([data.info, data.source]) !== JSON.stringify([overlay.info, overlay.source])) {
    throw new Error(`${name} was changed meanwhile, and is as in the list of the networks now. Open this form anew.`);
  }
}

function reset(name, overlay) {
  const losses = lossesOfChange(name, overlay.info || {}, overlay.file, overlay);
  const send = async () => {
    await change('PUT', `overlays/${encodeURIComponent(name)}`, { source: 'file' });
    return path('networks', name);
  };
  const key = JSON.stringify([name, losses]);
  if (!reset.element || reset.key !== key || !reset.element.isConnected) {
    reset.key = key;
    const ranges = [overlay.file.subnet, overlay.file.subnet6].filter(Boolean).join(', ');
    const children = [
      el('p', {}, `The configuration of this master has another definition: ${ranges}.`),
      el('div', {}, lossList(losses)),
      losses.length > 0 && box('reset', `I want to change ${name}`, { required: true }),
    ];
    reset.element = form(children, 'Use that of the configuration', send);
  }
  return reset.element;
}

// Returns what is lost when a definition takes the place of another one.
function lossesOfChange(name, from, to, overlay) {
  const losses = [];
  for (const key of ['subnet', 'subnet6']) {
    const [before, after] = [from[key], to[key]];
    if (before && !after) {
      losses.push(`${name} loses its range ${before}.`);
    } else if (before && !isWithin(before, after)) {
      losses.push(`${name} loses the part of ${before} that is not in ${after}.`);
    }
  }
  if (from.enabled && !to.enabled) {
    losses.push(`No container can join ${name} as long as it is disabled.`);
    if (overlay.agents) {
      losses.push(`${holders(overlay.agents)} and keep them. Their hosts remove the network; what running containers need stays until they end.`);
    }
  }
  return losses;
}

// Returns whether a range is in another one. What is no range yet is refused by the master.
function isWithin(inner, outer) {
  const [[base, length], [, shorter]] = [inner.split('/'), outer.split('/')];
  return Number(shorter) <= Number(length) && contains(outer, parseAddress(base));
}

const holders = (count) => (count === 1 ? '1 agent holds a subnet of it' : `${number(count)} agents hold subnets of it`);

function lossList(losses) {
  if (!losses.length) {
    return [];
  }
  return [el('h2', {}, 'What will be lost'), el('ul', {}, losses.map((loss) => el('li', {}, loss)))];
}

// Returns the names of containers that lose something.
function users(containers) {
  if (!containers.length) {
    const { error, sweeping } = tasks.progress;
    if (error && !tasks.areKnown()) {
      return `Which containers are on it is unknown: ${error}`;
    }
    return sweeping ? 'The tasks of Mesos are still being read.' : 'No container of Mesos that you may see is on it now.';
  }
  const names = containers.slice(0, NAMED).map((container) => container.name);
  const more = containers.length > NAMED ? `, and ${number(containers.length - NAMED)} more` : '';
  return `Containers that are on it now: ${names.join(', ')}${more}.`;
}

export function removeView(name) {
  const send = async ({ elements }) => {
    const body = elements.force.checked ? { force: true } : {};
    await change('DELETE', `overlays/${encodeURIComponent(name)}`, body);
    return path('networks');
  };
  const make = () =>
    form(
      [
        box('force', 'Free its ranges at once. Containers that still run on it then have addresses that others can get'),
        box('sure', `I want to remove ${name}`, { required: true }),
      ],
      'Remove the network',
      send,
    );
  const render = () => {
    const overlay = overlayNamed(name);
    if (!overlay) {
      return missing(name);
    }
    const drains = `${holders(overlay.agents)}. It drains: hosts release it when no container uses it, and its ranges are free when all hosts have.`;
    const losses = [
      `No container can join ${name} any more.`,
      overlay.agents ? drains : 'No agent holds a subnet of it; its ranges are free at once.',
      users(tasks.select(tasks.isOn(name))),
    ];
    return [heading(`Remove ${name}`, []), el('div', {}, lossList(losses)), once(make)];
  };
  return { title: `Remove ${name}`, render };
}

export function deleteView(ip) {
  const load = (signal) => get(query('agents', { agent: ip }), signal);
  const send = async ({ elements }) => {
    const body = { agents: [ip] };
    await change('POST', 'agents/delete', elements.force.checked ? { ...body, force: true } : body);
    return path('agents');
  };
  const make = () =>
    form(
      [
        box('force', 'Delete it although it is connected: its running containers lose their network, and it registers again'),
        box('sure', `I want to delete ${ip}`, { required: true }),
      ],
      'Delete the agent',
      send,
    );
  const render = (answer) => {
    const row = rowsOf(answer).find((one) => one.ip === ip);
    if (!row) {
      return [heading(ip, []), el('p', {}, `There is no agent ${ip}.`)];
    }
    const subnets = (row.overlays || []).flatMap((overlay) =>
      [overlay.subnet, overlay.subnet6].filter(Boolean).map((subnet) => `${subnet} of ${overlay.info.name}`),
    );
    const losses = [
      `These become free, and other agents can get them: the tunnel address (VTEP)${subnets.map((text) => `, ${text}`).join('')}.`,
      row.connected ? `${ip} is connected. Stop it first.` : `${ip} is not connected.`,
      users(tasks.select((container) => tasks.agentOf(container) === ip)),
    ];
    return [heading(`Delete agent ${ip}`, []), el('div', {}, lossList(losses)), once(make)];
  };
  return { title: `Delete agent ${ip}`, load, render };
}

export function reclaimView() {
  const load = (signal) => get(query('agents', { status: 'expired', limit: MOST }), signal);
  // The agents that the page counts and the request names.
  let ended = [];
  const send = async () => {
    await change('POST', 'agents/reclaim', { agents: ended });
    return path('agents');
  };
  const make = () => {
    const sure = box('sure', 'I want to reclaim these subnets', { required: true });
    const element = form([sure], 'Reclaim', () => element.send());
    return element;
  };
  const render = (answer) => {
    const { matched } = (answer && answer.data) || {};
    ended = rowsOf(answer).map((row) => row.ip);
    const names = ended.slice(0, NAMED).map((ip) => el('li', {}, link(ip, 'agents', ip)));
    const count = ended.length === 1 ? '1 agent' : `${number(ended.length)} agents`;
    const said = matched > ended.length ? `The leases of ${number(matched)} agents have ended. These are about the first ${count}.` : `The leases of ${count} have ended.`;
    if (!ended.length) {
      return [heading('Reclaim', []), el('p', {}, 'No lease has ended: there is nothing to reclaim.')];
    }
    const element = once(make);
    // The form stays, and the view is made anew with each answer.
    element.send = send;
    return [
      heading('Reclaim', []),
      el('p', {}, `${said} Their tunnel addresses and subnets become free. An agent that returns gets those that are still free.`),
      el('ul', {}, names, ended.length > NAMED && el('li', {}, `and ${number(ended.length - NAMED)} more`)),
      element,
    ];
  };
  return { title: 'Reclaim', load, render };
}
