// Tables, their parts, and the update of what is shown.

import { el, number } from './dom.js';
import { current, go } from './main.js';

// Number of rows that are shown at once.
export const ROWS = 50;

// Returns the offset of a list in the parameters of a view's address.
export function offsetIn(parameters, name) {
  const offset = Number(parameters.get(name));
  return Number.isSafeInteger(offset) && offset > 0 ? offset : 0;
}

// Returns a table. Columns are { title, cell(row) }, rows have keys.
export function table(caption, columns, rows, empty) {
  if (!rows.length) {
    return el('p', { class: 'empty' }, empty);
  }
  const head = el('tr', {}, columns.map(({ title }) => el('th', { scope: 'col' }, title)));
  const cell = (row) => ({ title, cell: content }, place) => {
    const name = place === 0 ? 'th' : 'td';
    const inner = el('div', {}, content(row));
    const attributes = { 'data-title': title, scope: place === 0 && 'row', class: !inner.textContent && 'none' };
    return el(name, attributes, inner);
  };
  const body = rows.map((row) => el('tr', { 'data-key': row.key }, columns.map(cell(row))));
  return el(
    'div',
    { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
    el('table', {}, el('caption', { class: 'hidden' }, caption), el('thead', {}, head), el('tbody', {}, body)),
  );
}

// Returns the buttons that move through a long list. `name` is the parameter with the offset.
export function pager(name, what, matched, offset) {
  if (matched <= ROWS && offset === 0) {
    return '';
  }
  const last = Math.min(matched, offset + ROWS);
  const move = (text, to, label, isPossible) => {
    // A button that is disabled would lose the focus.
    const attributes = { type: 'button', 'aria-label': `${label} ${what}`, 'data-to': to, 'aria-disabled': !isPossible && 'true' };
    return el('button', { ...attributes, onclick: () => isPossible && go({ [name]: to || '' }) }, text);
  };
  const end = Math.max(0, Math.floor((matched - 1) / ROWS) * ROWS);
  return el(
    'nav',
    { class: 'pager', 'aria-label': `Pages of ${what}` },
    move('«', 0, 'First', offset > 0),
    move('‹', Math.max(0, Math.min(offset - ROWS, end)), 'Previous', offset > 0),
    el('span', {}, offset < matched ? `${number(offset + 1)}–${number(last)} of ${number(matched)}` : `none of ${number(matched)}`),
    move('›', offset + ROWS, 'Next', last < matched),
    move('»', end, 'Last', last < matched),
  );
}

// Returns a field that filters a list by a parameter of the view's address.
export function filter(name, title, offsetName) {
  let timer = 0;
  const changed = ({ target }) => {
    clearTimeout(timer);
    // The field is gone if another view is shown meanwhile.
    timer = setTimeout(() => target.isConnected && go({ [name]: target.value.trim(), [offsetName]: '' }), 250);
  };
  const id = `filter-${name}`;
  const value = current().parameters.get(name) || '';
  const attributes = { type: 'search', id, value, maxlength: 200, autocomplete: 'off', spellcheck: 'false' };
  return el('div', { class: 'field' }, el('label', { for: id }, title), el('input', { ...attributes, oninput: changed }));
}

// Returns a choice that filters a list by a parameter of the view's address.
export function choice(name, title, offsetName, options) {
  const id = `choice-${name}`;
  const value = current().parameters.get(name) || '';
  const changed = (event) => go({ [name]: event.target.value, [offsetName]: '' });
  const option = ([key, text]) => el('option', { value: key, selected: key === value }, text);
  const select = el('select', { id, onchange: changed }, options.map(option));
  return el('div', { class: 'field' }, el('label', { for: id }, title), select);
}

// Elements that the reader is using, or whose state is not in their attributes.
const KEPT = ['INPUT', 'SELECT', 'TEXTAREA'];

// Makes the children of an element like the new ones. What is equal stays as it is, with focus and
// selection; a button that differs is replaced, since it may do something else now.
export function update(parent, children) {
  const nodes = children.flat(Infinity).filter((node) => node || node === 0);
  moveRows(parent, nodes);
  nodes.forEach((node, place) => {
    const fresh = typeof node === 'object' ? node : document.createTextNode(node);
    const old = parent.childNodes[place];
    if (!old) {
      parent.append(fresh);
    } else if (!old.isEqualNode(fresh)) {
      change(old, fresh);
    }
  });
  while (parent.childNodes.length > nodes.length) {
    parent.lastChild.remove();
  }
}

// Moves rows to the places of the new ones with the same keys, so that the focus stays in its row.
function moveRows(parent, nodes) {
  const key = (node) => node && node.dataset && node.dataset.key;
  if (parent.nodeName !== 'TBODY' || nodes.every((node, place) => key(node) === key(parent.childNodes[place]))) {
    return;
  }
  const focused = document.activeElement;
  const rows = new Map([...parent.childNodes].map((row) => [key(row), row]));
  nodes.forEach((node, place) => {
    const row = rows.get(key(node)) || node;
    if (row !== parent.childNodes[place]) {
      parent.insertBefore(row, parent.childNodes[place] || null);
    }
  });
  if (focused && focused !== document.activeElement && focused.isConnected) {
    focused.focus({ preventScroll: true });
  }
}

function change(old, fresh) {
  const isSame = old.nodeType === Node.ELEMENT_NODE && old.nodeName === fresh.nodeName && old.id === fresh.id;
  if (isSame && KEPT.includes(old.nodeName)) {
    return;
  }
  const isOther = !isSame || old.nodeName === 'BUTTON' || old.dataset.key !== fresh.dataset.key;
  if (isOther) {
    const hadFocus = old === document.activeElement;
    old.replaceWith(fresh);
    if (hadFocus) {
      fresh.focus();
    }
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) {
      old.removeAttribute(name);
    }
  }
  for (const { name, value } of fresh.attributes) {
    if (name === 'style') {
      old.style.cssText = fresh.style.cssText;
    } else if (old.getAttribute(name) !== value) {
      old.setAttribute(name, value);
    }
  }
  update(old, [...fresh.childNodes]);
}
