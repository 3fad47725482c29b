// A small client for Backchannel: one stream by fetch, resumed by token and cursor, and messages with one id over all
// retries. It is what a page needs and no more; docs/protocol.md is its specification.
//
//   const client = new Client('/rt', async () => ({ grant, cursor }));
//   client.on('event', ({ type, data, channel, time, late }) => …);
//   client.on('missed', ({ channel }) => …);      // something may be missing: fetch the state again
//   client.on('state', ({ state, wait }) => …);   // connecting, catching up, live, waiting, stopped
//   client.start();
//   const { outcome, reply } = await client.call('mod_x', { answer: 3 });

const CONTROL = new Set(['hello', 'heartbeat', 'channels', 'gap', 'presence', 'bye']);
const FINAL = new Set(['delivered', 'rejected', 'not_delivered']);
const LONGEST_WAIT = 8000;      // ms between two tries; a page that many share should allow 30 s
const FIRST_ANSWER = 20;        // s until an answer must have begun
const ASKING = 75;              // s after its deadline that a call with an unknown outcome is asked about

export class Client {
  cursor = '';
  reconnects = 0;
  dropped = 0;                  // frames that came although they had been handled
  stream = '';
  #base; #join; #handlers = new Map();
  #resume = ''; #key = ''; #grant = '';
  #retry = 1000; #heartbeat = 15; #stopped = false; #wake = () => {};
  #ready; #setReady; #catching = true;

  /** base is where the broker is; join asks the LMS for {grant, cursor}, at first and when a grant is spent. */
  constructor(base, join) {
    [this.#base, this.#join] = [base, join];
    this.#ready = new Promise((resolve) => { this.#setReady = resolve; });
  }

  on(name, handler) { this.#handlers.set(name, handler); return this; }
  #emit(name, detail) { this.#handlers.get(name)?.(detail); }

  start() {
    addEventListener('online', () => this.#wake());
    addEventListener('visibilitychange', () => { if (!document.hidden) this.#wake(); });
    this.#run();
  }

  // --- the stream ------------------------------------------------------------------------------------------------

  async #run() {
    for (let tries = 0; !this.#stopped; tries++) {
      let wait;
      try {
        if (!this.#resume && !this.#grant) await this.#enter();
        wait = await this.#listen(() => { tries = 0; });
      } catch (error) {
        wait = this.#afterFailure(error);
      }
      if (this.#stopped) break;
      wait ??= tries === 0 ? this.#retry : Math.min(LONGEST_WAIT, this.#retry * 2 ** tries) * (0.5 + Math.random() / 2);
      this.#emit('state', { state: 'waiting', wait });
      await new Promise((resolve) => { this.#wake = resolve; setTimeout(resolve, wait); });
      this.reconnects++;
    }
    this.#emit('state', { state: 'stopped' });
  }

  async #enter() {
    const { grant, cursor } = await this.#join();
    [this.#grant, this.cursor] = [grant, cursor];
  }

  #afterFailure(error) {
    if (!(error instanceof Refusal)) return undefined;          // the network; it comes and goes
    if (error.status === 401) this.#resume = this.#grant = '';   // ask the LMS
    if (error.status === 403) this.#stopped = true;
    return error.retryAfter ? error.retryAfter * 1000 * (1 + Math.random() / 2) : undefined;
  }

  // Hears one stream to its end; returns how long the broker asked to wait, if it did.
  async #listen(opened) {
    this.#emit('state', { state: 'connecting' });
    const abort = new AbortController();
    let watchdog;
    const alive = (seconds) => { clearTimeout(watchdog); watchdog = setTimeout(() => abort.abort(), seconds * 1000); };
    alive(FIRST_ANSWER);
    try {
      const credential = this.#resume ? { resume: this.#resume } : { grants: [this.#grant] };
      const body = await this.#post('/v1/stream', { ...credential, cursor: this.cursor || undefined }, abort.signal);
      const reader = body.getReader();
      const parser = new FrameParser();
      for (let bye; ;) {
        const { value, done } = await reader.read();
        alive(this.#heartbeat * 2.5);
        if (done) return bye;
        for (const frame of parser.push(value)) {
          if (frame.event === 'hello') opened();
          if (frame.event === 'bye') bye = this.#bye(JSON.parse(frame.data));
          else this.#frame(frame);
        }
        this.#retry = parser.retry ?? this.#retry;
      }
    } finally {
      clearTimeout(watchdog);
      abort.abort();
    }
  }

  #frame({ id, event, data: text }) {
    const data = JSON.parse(text);
    if (event === 'hello') this.#hello(data);
    if (event === 'channels') this.#channels(data);
    if (event === 'heartbeat') {                // the first one says that nothing more is owed
      this.#catching = false;
      this.#emit('state', { state: 'live' });
    }
    if (event === 'gap') this.#emit('missed', { channel: data.channel, why: 'gap' });
    if (!CONTROL.has(event)) {
      const at = id || data.at;
      if (!later(at, this.cursor)) { this.dropped++; return; }
      this.#emit('event', { type: event, data: data.data, channel: data.channel, time: data.time, at, late: this.#catching && this.reconnects > 0 });
    }
    if (id && later(id, this.cursor)) {
      this.cursor = id;
      this.#emit('cursor', id);
    }
  }

  #hello(data) {
    [this.#resume, this.#key, this.stream, this.#heartbeat] = [data.resume, data.key, data.stream, data.heartbeat];
    this.#setReady();
    this.#catching = true;
    this.#emit('state', { state: 'catching up', time: data.time });
    this.#channels(data);
  }

  #channels(data) {
    if (data.resume) this.#resume = data.resume;
    if (data.key) this.#key = data.key;
    for (const c of data.channels ?? []) {
      if (c.recovered === false) this.#emit('missed', { channel: c.channel, why: 'not recovered' });
    }
  }

  #bye({ reason, retry }) {
    if (reason === 'revoked') this.#stopped = true;
    if (reason === 'expired') this.#resume = this.#grant = '';
    return retry;
  }

  // --- messages --------------------------------------------------------------------------------------------------

  /** Sends a message somebody waits for. The answer's outcome is delivered, rejected, not_delivered or unknown. */
  async call(component, data, { deadline = 10, id = uuid() } = {}) {
    const end = Date.now() + deadline * 1000;
    for (let tries = 1; ; tries++) {
      const left = (end - Date.now()) / 1000;
      // The same id again never runs it twice. After the deadline nothing may start: ask, and settle what never ran.
      const answer = await this.#try(left > 0.1
        ? ['/v1/messages', { id, component, data, kind: 'call', deadline: left }]
        : [`/v1/messages/${id}`, { settle: true }]);
      if (FINAL.has(answer?.outcome) || left < -ASKING) return { outcome: 'unknown', ...answer, id, tries };
      if (answer?.outcome !== 'pending') await sleep(Math.min(3000, 200 * 2 ** tries) * (0.5 + Math.random()));
    }
  }

  /** Hands over a message nobody waits for; returns when the broker has it on disk. */
  async job(component, data, { id = uuid() } = {}) {
    for (let tries = 1; ; tries++) {
      const answer = await this.#try(['/v1/messages', { id, component, data, kind: 'job' }]);
      if (answer) return { ...answer, id, tries };
      await sleep(Math.min(5000, 200 * 2 ** tries) * (0.5 + Math.random()));
    }
  }

  // One request; undefined if the network or a 5xx, 429 or 401 says to try again.
  async #try([path, body]) {
    await this.#ready;
    try {
      const answer = await this.#post(path, { key: this.#key, ...body }, AbortSignal.timeout(30_000));
      return await new Response(answer).json();
    } catch (error) {
      if (error instanceof Refusal && error.status < 500 && ![401, 429].includes(error.status)) throw error;
      return undefined;
    }
  }

  // text/plain spares the browser's preflight.
  async #post(path, body, signal) {
    const response = await fetch(this.#base + path, {
      method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'text/plain' }, cache: 'no-store', signal,
    });
    if (!response.ok) throw await Refusal.of(response);
    return response.body;
  }
}

/** What the broker, or something in between, answered instead. */
export class Refusal extends Error {
  static async of(response) {
    const problem = await response.json().catch(() => ({}));
    const refusal = new Refusal(problem.detail ?? response.statusText);
    return Object.assign(refusal, {
      status: response.status, code: problem.code ?? '', retryAfter: Number(response.headers.get('Retry-After')) || 0,
    });
  }
}

/** Reads text/event-stream from bytes, however they are cut (WHATWG HTML, 9.2.6). */
export class FrameParser {
  retry;
  #decoder = new TextDecoder();
  #buffer = ''; #id = ''; #event = ''; #data = [];

  * push(bytes) {
    this.#buffer += this.#decoder.decode(bytes, { stream: true });
    // A CR at the very end may be half of a CRLF: it waits.
    for (let end; (end = /\r\n|\n|\r(?=[^])/.exec(this.#buffer)) !== null;) {
      const line = this.#buffer.slice(0, end.index);
      this.#buffer = this.#buffer.slice(end.index + end[0].length);
      if (line !== '') { this.#field(line); continue; }
      if (this.#data.length) yield { id: this.#id, event: this.#event, data: this.#data.join('\n') };
      [this.#id, this.#event, this.#data] = ['', '', []];   // ids do not stay: only a frame's own moves the cursor
    }
  }

  #field(line) {
    const [, name, value = ''] = /^([^:]*)(?::\x20?(.*))?$/su.exec(line);
    if (name === 'data') this.#data.push(value);
    if (name === 'event') this.#event = value;
    if (name === 'id' && !value.includes('\0')) this.#id = value;
    if (name === 'retry' && /^[0-9]+$/.test(value)) this.retry = Number(value);
  }
}

/** Tells whether cursor a is later than b. Epochs cannot be compared: another one is a new beginning. */
export function later(a, b) {
  if (!b) return true;
  const [[epochA, seqA], [epochB, seqB]] = [a.split('-'), b.split('-')];
  if (epochA !== epochB || seqA.length !== seqB.length) return epochA !== epochB || seqA.length > seqB.length;
  return seqA > seqB;
}

/** A random UUID, also where the page is not from a secure origin and crypto.randomUUID is missing. */
export function uuid() {
  const b = crypto.getRandomValues(new Uint8Array(16));
  [b[6], b[8]] = [b[6] & 0x0f | 0x40, b[8] & 0x3f | 0x80];
  return [...b].map((x) => x.toString(16).padStart(2, '0')).join('').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

export const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
