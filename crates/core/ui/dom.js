// Elements of the page. All text becomes text nodes, never HTML: names of tasks come from strangers.

// Returns a new element. Children are elements, texts and lists of them; what is empty is left out.
export function el(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith('on')) {
      element.addEventListener(key.slice(2), value);
    } else if (value !== undefined && value !== null && value !== false) {
      element.setAttribute(key, value === true ? '' : value);
    }
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) {
      append(element, child);
    } else if (child !== null && child !== undefined && child !== false && child !== '') {
      element.append(child);
    }
  }
}

// Returns the link of a view, such as ['networks', 'dcos'].
export function path(...parts) {
  return `#/${parts.map(encodeURIComponent).join('/')}`;
}

export function link(text, ...parts) {
  return el('a', { href: path(...parts) }, text);
}

// Says a sentence to screen readers.
export function announce(text) {
  document.getElementById('live').textContent = text;
}

// Returns a button that copies a text.
export function copyButton(text, what) {
  const copy = async (event) => {
    await copyText(text);
    announce(`Copied ${text}`);
    const button = event.currentTarget;
    if (button) {
      button.dataset.done = 'true';
      setTimeout(() => delete button.dataset.done, 1500);
    }
  };
  const name = `Copy ${what || text}`;
  const run = (event) => copy({ currentTarget: event.currentTarget });
  return el('button', { type: 'button', class: 'copy', title: name, 'aria-label': name, onclick: run });
}

async function copyText(text) {
  try {
    // Browsers have it on pages of https only.
    await navigator.clipboard.writeText(text);
  } catch (_) {
    const focused = document.activeElement;
    const area = el('textarea', { class: 'hidden', 'aria-hidden': 'true', tabindex: '-1' });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
    if (focused) {
      focused.focus();
    }
  }
}

// Returns a value with a button that copies it.
export function copyable(text, what) {
  return text ? el('span', { class: 'copyable' }, el('span', {}, text), copyButton(text, what)) : '';
}

export function number(value) {
  return Number(value).toLocaleString('en');
}

// Returns a bar for `used` of `total`, with the numbers as text.
export function meter(used, total, what) {
  if (total === undefined || total === null) {
    return el('span', { class: 'faint' }, 'unknown');
  }
  if (used === undefined) {
    return el('span', { class: 'faint' }, `unknown of ${large(total)}`);
  }
  const share = total > 0 ? Math.min(1, used / total) : 0;
  const percent = share * 100;
  const text = `${number(used)} of ${large(total)}`;
  const fill = el('span', { class: share >= 0.9 ? 'fill full' : 'fill' });
  fill.style.width = `${used > 0 ? Math.max(percent, 2) : 0}%`;
  const shown = { class: 'meter', role: 'meter', 'aria-label': what, 'aria-valuemin': 0, 'aria-valuemax': total };
  return el(
    'span',
    { ...shown, 'aria-valuenow': used, 'aria-valuetext': `${text} (${percent.toFixed(1)} %)` },
    el('span', { class: 'track' }, fill),
    el('span', { class: 'of' }, text),
  );
}

function large(value) {
  return value > 1e12 ? `2^${Math.round(Math.log2(value))}` : number(value);
}

const UNITS = [
  ['d', 86400],
  ['h', 3600],
  ['min', 60],
  ['s', 1],
];

// Returns an age such as "3 d 4 h".
export function age(seconds) {
  let rest = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, size] of UNITS) {
    if (rest >= size || (unit === 's' && !parts.length)) {
      parts.push(`${Math.floor(rest / size)} ${unit}`);
      rest %= size;
    } else if (parts.length) {
      break;
    }
    if (parts.length === 2) {
      break;
    }
  }
  return parts.join(' ');
}

// Returns an age since a time, which is the title; '' for what is no time.
export function since(milliseconds) {
  const date = new Date(milliseconds);
  if (!milliseconds || Number.isNaN(date.getTime())) {
    return '';
  }
  const text = age((Date.now() - milliseconds) / 1000);
  return el('time', { datetime: date.toISOString(), title: date.toISOString() }, text);
}

// Returns a state with its colour: good, bad, or '' for neither.
export function badge(text, kind) {
  return el('span', { class: `badge ${kind}` }, text);
}

// Returns a list of terms and their values; empty values are left out.
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== '' && value !== null && value !== undefined);
  return el(
    'dl',
    { class: 'facts' },
    shown.map(([term, value]) => el('div', {}, el('dt', {}, term), el('dd', {}, value))),
  );
}

export function lines(values) {
  return values.filter(Boolean).map((value) => el('div', {}, value));
}
