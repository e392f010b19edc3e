// Names of containers in the DNS, as DC/OS made them.

const MAX_LABEL = 63;

// Returns the text as one label: small letters, digits and dashes, at most 63. Empty if nothing is
// left of it.
export function label(text) {
  let kept = '';
  for (const c of text) {
    if (/[a-z0-9]/.test(c)) {
      kept += c;
    } else if (/[A-Z]/.test(c)) {
      kept += c.toLowerCase();
    } else if (kept && /[-_.]/.test(c)) {
      kept += '-';
    }
  }
  let head = kept.slice(0, MAX_LABEL).replace(/-+$/, '');
  if (kept.length > MAX_LABEL && head.length < MAX_LABEL) {
    const rest = kept.slice(MAX_LABEL).replace(/-/g, '');
    head += rest.slice(0, MAX_LABEL - head.length);
  }
  return head;
}

// Returns the name of a task's addresses, or '' if it has none.
export function containerName(task, framework, domain) {
  const labels = [label(task), label(framework)];
  return labels.every(Boolean) ? `${labels.join('.')}.containerip.${domain}` : '';
}

// Returns the name of a task's addresses on one network, or '' if it has none.
export function networkName(task, framework, network, domain) {
  const labels = [label(task), label(framework), label(network)];
  return labels.every(Boolean) ? `${labels.join('.')}.overlay.${domain}` : '';
}

// Returns an address as a number and its family, or null if the text is none.
export function parseAddress(text) {
  return parse4(text) || parse6(text);
}

function parse4(text) {
  const parts = text.split('.');
  const isByte = (part) => /^(0|[1-9][0-9]{0,2})$/.test(part) && Number(part) < 256;
  if (parts.length !== 4 || !parts.every(isByte)) {
    return null;
  }
  return { bits: 32, value: parts.reduce((value, part) => value * 256n + BigInt(part), 0n) };
}

function parse6(text) {
  const halves = text.split('::');
  if (!text.includes(':') || halves.length > 2) {
    return null;
  }
  const [before, after] = [halves[0], halves[1] || ''].map((half) => (half ? half.split(':') : []));
  const missing = 8 - before.length - after.length;
  if (halves.length === 2 ? missing < 0 : missing !== 0) {
    return null;
  }
  const groups = [...before, ...Array(missing).fill('0'), ...after];
  if (!groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) {
    return null;
  }
  const value = groups.reduce((sum, group) => sum * 65536n + BigInt(`0x${group}`), 0n);
  return { bits: 128, value };
}

// Returns whether an address is in a range such as 9.0.0.0/24.
export function contains(range, address) {
  const [base, length] = (range || '').split('/');
  const net = parseAddress(base);
  const isLength = /^[0-9]{1,3}$/.test(length || '') && net && Number(length) <= net.bits;
  if (!isLength || !address || net.bits !== address.bits) {
    return false;
  }
  const shift = BigInt(net.bits - Number(length));
  return net.value >> shift === address.value >> shift;
}
