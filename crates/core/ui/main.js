// The page: which view is shown, and when it is read again.

import { get, health } from './api.js';
import { el, announce } from './dom.js';
import { update } from './tables.js';
import * as tasks from './tasks.js';
import { agentView, agentsView } from './agents.js';
import { networkView, networksView } from './networks.js';
import { searchView } from './search.js';
import { addView, changeView, deleteView, reclaimView, removeView } from './changes.js';

const PAUSE = 2000;

// The latest overview with its time, and why there is no newer one.
export const state = { overview: null, at: 0, health: null, error: '' };

// The route of the view that is shown, and whether the reader has gone to an address since.
let shown = null;
let arrived = false;
// What was read for which address.
let loaded = { address: null, route: null, data: null };
let reading = null;
let round = 0;
// The master asked for a login, which was refused: browsers would ask again with each request.
let needsLogin = false;

const routeNow = () => location.hash.split('?')[0];

// Returns the address of the view: its parts and parameters.
export function current() {
  const [route, search] = location.hash.replace(/^#\/?/, '').split('?');
  const decode = (part) => {
    try {
      return decodeURIComponent(part);
    } catch (_) {
      return part;
    }
  };
  const parts = route.split('/').filter(Boolean).map(decode);
  return { parts, parameters: new URLSearchParams(search || '') };
}

// Changes parameters of the view's address.
export function go(changes) {
  const { parameters } = current();
  for (const [name, value] of Object.entries(changes)) {
    if (value === '') {
      parameters.delete(name);
    } else {
      parameters.set(name, value);
    }
  }
  const route = routeNow() || '#/networks';
  const search = parameters.toString();
  history.replaceState(null, '', search ? `${route}?${search}` : route);
  read();
}

// Returns the view of an address: { title, load(signal), render(data) }.
function viewOf({ parts, parameters }) {
  const [kind, name, action] = parts;
  switch (kind) {
    case undefined:
    case 'networks':
      if (name === undefined) return networksView();
      if (action === 'change') return changeView(name);
      if (action === 'remove') return removeView(name);
      return networkView(name, parameters);
    case 'add':
      return addView();
    case 'reclaim':
      return reclaimView();
    case 'agents':
      if (name === undefined) return agentsView(parameters);
      return action === 'delete' ? deleteView(name) : agentView(name, parameters);
    case 'search':
      return searchView(name || '', parameters);
    default:
      return { title: 'Not found', render: () => [el('h1', { tabindex: -1 }, 'There is no such view')] };
  }
}

// Reads what the view shows, and shows it.
async function read() {
  const mine = ++round;
  if (reading) {
    reading.abort();
  }
  reading = new AbortController();
  const { signal } = reading;
  const [address, route] = [location.hash, routeNow()];
  const view = viewOf(current());
  try {
    const answer = await get('overview', signal);
    Object.assign(state, { overview: answer.data, at: Date.now(), error: '', health: null });
    const data = view.load ? await view.load(signal) : null;
    if (mine !== round) {
      return;
    }
    loaded = { address, route, data };
    needsLogin = false;
  } catch (error) {
    if (error.name === 'AbortError' || mine !== round) {
      return;
    }
    state.error = error.message;
    needsLogin = error.status === 401;
    // What was read for another address is nothing about this one.
    if (loaded.address !== address) {
      loaded = { address, route, data: null };
    }
    state.health = needsLogin || error.status === 0 ? null : await health(signal).catch(() => null);
    if (mine !== round) {
      return;
    }
  }
  show(view);
}

// Shows a view. What fails there must not end the updates.
function show(view) {
  try {
    banner();
    tryShow(view);
  } catch (error) {
    state.error = `The page failed: ${error.message}`;
    banner();
  }
}

function tryShow(view) {
  const route = routeNow();
  const main = document.getElementById('main');
  const isNew = route !== shown;
  if (state.overview) {
    if (isNew || arrived) {
      main.replaceChildren();
    }
    arrived = false;
    const data = loaded.route === route ? loaded.data : null;
    const isMissing = view.load && !data;
    update(main, isMissing ? [el('h1', { tabindex: -1 }, view.title), el('p', {}, 'This cannot be read now.')] : view.render(data));
  } else {
    update(main, [el('h1', { tabindex: -1 }, view.title), el('p', {}, 'There is nothing to show.')]);
  }
  document.title = `${view.title} – Overlay networks`;
  mark();
  footer();
  if (isNew) {
    const heading = main.querySelector('h1');
    // The first view does not take the focus from the start of the page.
    if (shown !== null && heading) {
      heading.focus({ preventScroll: true });
      scrollTo(0, 0);
      announce(view.title);
    }
    shown = route;
  }
}

// Shows again what was read, after a change of the containers.
function showAgain() {
  if (state.overview && routeNow() === shown && loaded.route === shown) {
    show(viewOf(current()));
  }
}

function mark() {
  const kind = current().parts[0] || 'networks';
  for (const link of document.querySelectorAll('header nav a')) {
    if (link.dataset.view === kind) {
      link.setAttribute('aria-current', 'page');
    } else {
      link.removeAttribute('aria-current');
    }
  }
}

function footer() {
  const { overview } = state;
  const { read: count, sweeping, error } = tasks.progress;
  document.getElementById('release').textContent = overview && overview.release ? `Release ${overview.release}.` : '';
  let text = '';
  if (error) {
    text = `The containers cannot be read: ${error}`;
  } else if (sweeping) {
    text = `Reading the tasks of Mesos: ${count.toLocaleString('en')} …`;
  }
  const again = tasks.progress.needsLogin && el('button', { type: 'button', onclick: tasks.tryAgain }, 'Read the containers');
  const progress = document.getElementById('progress');
  update(progress, [text, again && ' ', again]);
  progress.className = error ? 'bad' : '';
}

function banner() {
  const { overview, error, at } = state;
  const notes = [];
  if (error) {
    notes.push(['bad', unavailable()]);
    if (overview) {
      notes.push(['', `What is shown is of ${new Date(at).toLocaleTimeString()}.`]);
    }
  } else if (overview) {
    for (const overlay of (overview.overlays || []).filter((one) => one.error)) {
      const to = el('a', { href: `#/networks/${encodeURIComponent(overlay.name)}` }, overlay.name);
      notes.push(['bad', ['Network ', to, ` is in conflict and left out: ${overlay.error}.`]]);
    }
    (overview.problems || []).forEach((problem) => notes.push(['bad', problem]));
  }
  const paragraph = ([kind, content]) => el('p', { class: `note ${kind}` }, content);
  update(document.getElementById('banner'), notes.map(paragraph));
}

// Returns why there is nothing new, with a link to the master that leads.
function unavailable() {
  const { health: master, error } = state;
  const reason = (master && master.reason) || error;
  if (needsLogin) {
    return [reason, ' ', el('button', { type: 'button', onclick: read }, 'Log in')];
  }
  const leader = master && master.status === 'standby' && master.leader;
  if (!leader) {
    return [reason];
  }
  // Behind a proxy the other master has another address, or the same one.
  if (location.protocol !== 'http:' || location.pathname !== '/overlay-master/ui') {
    return [reason, ' Reload the page, or open that of the leading master.'];
  }
  const href = `${location.protocol}//${leader}/overlay-master/ui${location.hash}`;
  return [reason, ' ', el('a', { href }, `Show the page of ${leader}`)];
}

function start() {
  document.getElementById('search').addEventListener('submit', (event) => {
    event.preventDefault();
    const text = document.getElementById('query').value.trim();
    if (text) {
      location.hash = `#/search/${encodeURIComponent(text)}`;
    }
  });
  document.getElementById('skip').addEventListener('click', () => document.getElementById('main').focus());
  addEventListener('hashchange', () => {
    arrived = true;
    read();
  });
  document.addEventListener('visibilitychange', () => document.hidden || needsLogin || read());
  document.addEventListener('keydown', (event) => {
    const isField = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.nodeName);
    if (event.key === '/' && !isField && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      document.getElementById('query').focus();
    }
  });
  let timer = 0;
  tasks.onChange(() => {
    timer = timer || setTimeout(() => {
      timer = 0;
      showAgain();
    }, 300);
  });
  tasks.follow(() => state.overview && !state.error);
  poll();
}

async function poll() {
  for (;;) {
    if (!document.hidden && !needsLogin) {
      await read();
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}

start();
