// Requests to the master. Paths are relative, so that the page works below the path of a proxy.

// An answer that is not a success: its status, and the sentence that it has.
export class Refusal extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

// Longest times for an answer, in milliseconds. Mesos needs long for many tasks, and somebody may
// be typing a password for the first answer and for a change.
const LIMIT = 10000;
const LONG_LIMIT = 120000;
let hasAnswered = false;

// The latest version of each answer.
const versions = new Map();
const MAX_VERSIONS = 50;

// Returns the JSON at a path, and when it arrived. An answer that has not changed since is the same
// object as before, with the ages that it had then: `at` is when it was new.
export async function get(path, signal) {
  const known = versions.get(path);
  const headers = known ? { 'If-None-Match': known.tag } : {};
  const limit = hasAnswered && !path.startsWith('../') ? LIMIT : LONG_LIMIT;
  const options = { headers, signal, cache: 'no-store' };
  const { response, body } = await send(path, options, limit, (one) => (one.status === 304 ? null : read(one)));
  hasAnswered = true;
  if (response.status === 304 && known) {
    return known.answer;
  }
  const answer = { data: body, at: Date.now() };
  const tag = response.headers.get('ETag');
  if (tag) {
    versions.delete(path);
    versions.set(path, { tag, answer });
    if (versions.size > MAX_VERSIONS) {
      versions.delete(versions.keys().next().value);
    }
  }
  return answer;
}

// Returns the health of this master, whichever status it has.
export async function health(signal) {
  const { body } = await send('health?standby=ok', { cache: 'no-store', signal }, LIMIT, (response) => response.json());
  return body;
}

// Sends a request that changes something. Returns the JSON of the answer.
export async function change(method, path, body) {
  const headers = { 'Content-Type': 'application/json' };
  const answer = await send(path, { method, headers, body: JSON.stringify(body) }, LONG_LIMIT, read);
  versions.clear();
  return answer.body;
}

// Sends a request, and reads the answer within a time.
async function send(path, options, limit, readBody) {
  const controller = new AbortController();
  const abort = () => controller.abort();
  if (options.signal) {
    options.signal.addEventListener('abort', abort);
  }
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    abort();
  }, limit);
  try {
    const response = await request(path, { ...options, signal: controller.signal });
    return { response, body: await readBody(response) };
  } catch (error) {
    throw isLate ? new Refusal(0, `The master does not answer within ${limit / 1000} s.`) : error;
  } finally {
    clearTimeout(timer);
    if (options.signal) {
      options.signal.removeEventListener('abort', abort);
    }
  }
}

async function request(path, options) {
  try {
    // The address of the page may have a password, which a request must not have.
    const url = new URL(path, location.href);
    url.username = '';
    url.password = '';
    return await fetch(url, options);
  } catch (error) {
    if (error.name === 'AbortError') {
      throw error;
    }
    throw new Refusal(0, 'The master does not answer.');
  }
}

async function read(response) {
  if (response.ok) {
    return response.json();
  }
  const text = (await response.text()).trim();
  const sentences = {
    401: 'Log in to see this: the master asks for a user and a password.',
    403: text || 'This user may not do that.',
  };
  const sentence = sentences[response.status] || text || `The answer is ${response.status}.`;
  throw new Refusal(response.status, sentence);
}

// Returns a path with a query, without what is empty.
export function query(path, parameters) {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== '' && value !== undefined && value !== null) {
      search.set(key, value);
    }
  }
  return `${path}?${search}`;
}
