// Checks all vectors with nothing but what Node has built in:  node testdata/vectors/check.mjs
// It is written from the contract, not from the broker, and doubles as a reading example for client authors.
import { createDecipheriv, createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';

const load = (name) => JSON.parse(readFileSync(new URL(`${name}.json`, import.meta.url), 'utf8'));
let checked = 0;
const failures = [];
function equal(what, got, want) {
  checked++;
  if (got !== want) failures.push(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
}
const refuses = (what, fn) => {
  let got;
  try { got = fn(); } catch { checked++; return; }
  equal(what, got, 'a refusal');
};

// --- keys and channels -------------------------------------------------------------------------------------------

const b64url = (s) => {
  const b = Buffer.from(s, 'base64url');
  if (b.toString('base64url') !== s) throw new Error('not base64url without padding');
  return b;
};
const mac = (key, text) => createHmac('sha256', key).update(text).digest();
const subkey = (secret, use) => Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), `backchannel/v1/${use}`, 32));
const utf8 = (bytes) => new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);

// JSON.stringify escapes exactly what the contract wants, and lone surrogates, which it forbids.
function channelHash(salt, properties) {
  if (!properties.every((p) => p.isWellFormed())) throw new Error('not Unicode');
  return mac(salt, JSON.stringify(properties)).subarray(0, 16).toString('base64url');
}
function roomChannel(parent, room) {
  const n = Buffer.byteLength(room);
  if (n < 1 || n > 256 || !room.isWellFormed()) throw new Error('want 1 to 256 bytes');
  return mac(parent, room).subarray(0, 16).toString('base64url');
}

for (const c of load('keys').cases) {
  const secret = b64url(c.secret);
  for (const [use, want] of Object.entries(c.subkeys)) equal(`subkey ${use}`, subkey(secret, use).toString('hex'), want);
  equal('bearer', `${c.site}.${c.kid}.${subkey(secret, 'api').toString('base64url')}`, c.bearer);
  equal('webhook secret', 'whsec_' + subkey(secret, 'webhook').toString('base64'), c.webhook_secret);
}

const channels = load('channels');
const salt = b64url(channels.salt);
for (const c of channels.cases) {
  equal('canonical JSON', JSON.stringify(c.properties), c.json);
  equal('channel', channelHash(salt, c.properties), c.channel);
}
for (const c of channels.users) equal('user channel', channelHash(salt, ['', '@user', '', c.id, '']), c.channel);
for (const c of channels.sessions) equal('session channel', channelHash(salt, ['', '@session', '', c.id, '']), c.channel);
for (const p of channels.invalid_properties_base64) {
  refuses('invalid UTF-8', () => channelHash(salt, p.map((s) => utf8(Buffer.from(s, 'base64')))));
}
refuses('a lone surrogate', () => channelHash(salt, ['1', '', '', '', '\ud800']));

const rooms = load('rooms');
for (const c of rooms.cases) equal(`room ${c.room}`, roomChannel(c.parent, c.room), c.channel);
for (const r of rooms.invalid_rooms_base64) refuses('bad room', () => roomChannel('p', utf8(Buffer.from(r, 'base64'))));

// --- DSN and cursor ----------------------------------------------------------------------------------------------

function parseDSN(text) {
  const [, scheme, site, kid, secret, keySalt, host, path, query] =
    /^(https?):\/\/([a-z0-9][a-z0-9-]{0,31}):([a-z0-9]{1,16})\.([\w-]{43})\.([\w-]{43})@([^/?#@]+)([^?#]*)(?:\?([^#]*))?$/.exec(text);
  b64url(secret); b64url(keySalt);
  const params = new URLSearchParams(query ?? '');
  const via = params.get('via') ?? '';
  if ([...params].length > (via ? 1 : 0) || (via && !/^https?:\/\/[^/]+/.test(via))) throw new Error('parameters');
  return { site, kid, secret, salt: keySalt, public: `${scheme}://${host}${path.replace(/\/+$/, '')}`, via: via.replace(/\/+$/, '') };
}
const dsn = load('dsn');
for (const c of dsn.good) {
  const got = parseDSN(c.dsn);
  for (const part of ['site', 'kid', 'secret', 'salt', 'public', 'via']) equal(`${part} of ${c.dsn}`, got[part], c[part]);
  equal('server', got.via || got.public, c.server);
}
for (const c of dsn.bad) refuses(`DSN with ${c.why}`, () => JSON.stringify(parseDSN(c.text)));

function parseCursor(text) {
  const m = /^([0-9a-z]{8})-(0|[1-9][0-9]{0,19})$/.exec(text);
  if (!m || text.endsWith('\n') || BigInt(m[2]) > 0xffffffffffffffffn) throw new Error('cursor');
  return { epoch: m[1], seq: BigInt(m[2]).toString() };
}
const cursors = load('cursors');
for (const c of cursors.good) {
  equal(`epoch of ${c.cursor}`, parseCursor(c.cursor).epoch, c.epoch);
  equal(`seq of ${c.cursor}`, parseCursor(c.cursor).seq, c.seq);
}
for (const c of cursors.bad) refuses(`cursor with ${c.why}`, () => JSON.stringify(parseCursor(c.text)));

// --- grants ------------------------------------------------------------------------------------------------------

const need = (ok, code = 'grant_invalid') => { if (!ok) throw Object.assign(new Error(code), { code }); };
const text = (v, max) => v === undefined || (typeof v === 'string' && v.isWellFormed() && Buffer.byteLength(v) <= max);
const seconds = (v) => v === undefined || (typeof v === 'number' && v > 0);
const scalar = (v) => v === null || typeof v !== 'object';
const isObject = (v) => v !== null && typeof v === 'object' && !Array.isArray(v);

function checkEntry(e) {
  need(isObject(e) && typeof e.h === 'string' && /^[\w-]{1,64}$/.test(e.h));
  need(e.c === undefined || /^[\w.-]{1,64}$/.test(e.c));
  need(text(e.ref, 256) && ['', 'member', 'watch', 'both'].includes(e.p ?? ''));
  need(e.last === undefined || (Number.isInteger(e.last) && e.last >= 0 && e.last <= 100));
  need(e.f === undefined || (isObject(e.f) && Object.values(e.f).every(scalar) && Object.keys(e.f).length <= 16));
}
function verifyGrant(config, token, at) {
  const part = (s) => { try { return JSON.parse(utf8(b64url(s))); } catch { return undefined; } };
  const parts = token.split('.');
  need(parts.length === 3);
  const [header, claims] = [part(parts[0]), part(parts[1])];
  need(isObject(header) && isObject(claims) && header.alg === 'HS256');
  const keys = Object.hasOwn(config.sites, claims.iss ?? '') ? config.sites[claims.iss].keys : {};
  need(Object.hasOwn(keys, header.kid ?? ''));
  const want = mac(subkey(b64url(keys[header.kid]), 'grant'), `${parts[0]}.${parts[1]}`).toString('base64url');
  need(want.length === parts[2].length && timingSafeEqual(Buffer.from(want), Buffer.from(parts[2])));
  need([].concat(claims.aud).length === 1 && [].concat(claims.aud)[0] === 'backchannel');
  const { iat, exp, sub, sid, jti } = claims;
  need(typeof iat === 'number' && typeof exp === 'number' && seconds(claims.until));
  need(iat <= at + config.leeway && exp >= iat);
  need(exp + config.leeway > at, 'grant_expired');
  const until = claims.until ?? Math.max(exp, iat + config.default_life);
  need(until >= exp && until <= iat + config.max_life);
  need([sub, sid, jti].every((v) => text(v, 255)) && (sub || sid || jti));
  need(text(claims.seal, 512));
  need(claims.info === undefined || (isObject(claims.info) && Buffer.byteLength(JSON.stringify(claims.info)) <= 256));
  need(Array.isArray(claims.ch) && (claims.send ?? []).every((c) => /^[\w.-]{1,64}$/.test(c)));
  need(claims.ch.length <= config.max_entries, 'too_large');
  claims.ch.forEach(checkEntry);
  return { until, caller: sid ? `s:${sid}` : sub ? `u:${sub}` : `j:${jti}` };
}
const config = load('grants');
for (const c of config.cases) {
  let got = { code: '' };
  try { got = { code: '', ...verifyGrant(config, c.token, c.at) }; } catch (e) { if (!e.code) throw e; got = { code: e.code }; }
  equal(`grant: ${c.name}`, got.code, c.code);
  if (c.code === '') {
    equal(`until: ${c.name}`, got.until, c.until);
    equal(`caller: ${c.name}`, got.caller, c.caller);
  }
}

// --- webhooks and seal -------------------------------------------------------------------------------------------

function verifyWebhook(c, tolerance) {
  if (!/^[0-9]+$/.test(c.timestamp) || Math.abs(c.at - Number(c.timestamp)) > tolerance) return false;
  return c.secrets.some((secret) => {
    const want = Buffer.from('v1,' + mac(Buffer.from(secret.replace('whsec_', ''), 'base64'), `${c.id}.${c.timestamp}.${c.body}`).toString('base64'));
    return c.signature.split(' ').some((s) => s.length === want.length && timingSafeEqual(Buffer.from(s), want));
  });
}
const webhooks = load('webhooks');
for (const c of webhooks.cases) equal(`webhook: ${c.name}`, verifyWebhook(c, webhooks.tolerance), c.valid);

function unseal(key, sealed) {
  const b = b64url(sealed);
  if (b.length < 28) throw new Error('short');
  const d = createDecipheriv('aes-256-gcm', Buffer.from(key, 'hex'), b.subarray(0, 12), { authTagLength: 16 }).setAuthTag(b.subarray(-16));
  return Buffer.concat([d.update(b.subarray(12, -16)), d.final()]).toString();
}
for (const c of load('seal').cases) {
  if (c.opens) equal(`seal: ${c.name}`, unseal(c.key, c.sealed), c.plain ?? '');
  else refuses(`seal: ${c.name}`, () => unseal(c.key, c.sealed));
}

// --- frames ------------------------------------------------------------------------------------------------------

// A parser of text/event-stream that takes bytes however they are cut.
function parser() {
  const decoder = new TextDecoder('utf-8');
  const frames = [];
  let buffer = '', id = '', last = '', type = '', data = [], retry;
  const line = (text) => {
    if (text === '') {
      last = id;
      if (data.length) frames.push({ id, event: type, data: data.join('\n') });
      [type, data] = ['', []];
      return;
    }
    const [, name, value] = /^([^:]*)(?::\x20?(.*))?$/su.exec(text);
    if (name === 'data') data.push(value ?? '');
    if (name === 'event') type = value ?? '';
    if (name === 'id' && !(value ?? '').includes('\0')) id = value ?? '';
    if (name === 'retry' && /^[0-9]+$/.test(value ?? '')) retry = Number(value);
  };
  return {
    push(bytes) {
      buffer += decoder.decode(bytes, { stream: true });
      for (let m; (m = /\r\n|\n|\r(?=[^])/.exec(buffer)) !== null;) {
        line(buffer.slice(0, m.index));
        buffer = buffer.slice(m.index + m[0].length);
      }
    },
    end() { if (buffer === '\r') line(''); return { frames, last, retry }; },
  };
}
const compact = (json) => json.replace(/("(?:[^"\\]|\\.)*")|[ \t\r\n]+/g, '$1');
function wire(c) {
  const who = c.client ? `"user":${JSON.stringify(c.user)},"client":${JSON.stringify(c.client)},` : '';
  const at = c.replay ? `"replay":true,"at":"${c.cursor}",` : '';
  return (c.replay ? '' : `id: ${c.cursor}\n`) + (c.type ? `event: ${c.type}\n` : '') +
    `data: {"channel":"${c.channel}","time":${c.time},${at}${who}"data":${compact(c.data)}}\n\n`;
}
const frames = load('frames');
for (const c of frames.events) {
  equal(`frame: ${c.name}`, wire(c), c.wire);
  const p = parser();
  p.push(Buffer.from(c.wire));
  const [f] = p.end().frames;
  equal(`frame read: ${c.name}`, JSON.stringify(JSON.parse(f.data).data), JSON.stringify(JSON.parse(c.data)));
}
const control = ['hello', 'heartbeat', 'channels', 'gap', 'presence', 'bye', 'peer', 'open', 'error', 'message'];
for (const t of frames.refused_types) equal(`type ${t}`, /^[\w.-]{1,64}$/.test(t) && !control.includes(t), false);
for (const d of frames.refused_data_base64) refuses(`data ${d}`, () => { JSON.parse(utf8(Buffer.from(d, 'base64'))); return 'data'; });
for (const c of frames.streams) {
  for (const size of [1, 2, 7, 1 << 20]) {
    const p = parser();
    const bytes = Buffer.from(c.wire);
    for (let i = 0; i < bytes.length; i += size) p.push(bytes.subarray(i, i + size));
    const got = p.end();
    equal(`stream: ${c.name} (${size})`, JSON.stringify(got.frames), JSON.stringify(c.frames));
    equal(`last id: ${c.name} (${size})`, got.last, c.last);
    equal(`retry: ${c.name} (${size})`, got.retry, c.retry);
  }
}

// --- filters -----------------------------------------------------------------------------------------------------

function matches(filter, data) {
  const wanted = Object.entries(filter);
  if (!wanted.length) return true;
  if (!isObject(data)) return false;
  return wanted.every(([key, want]) => {
    if (Object.hasOwn(data, key)) return scalar(data[key]) && String(data[key]) === String(want);
    return key === 'id' && Array.isArray(data.ids) && data.ids.some((v) => scalar(v) && String(v) === String(want));
  });
}
for (const c of load('filters').cases) equal(`filter: ${c.name}`, matches(JSON.parse(c.filter), JSON.parse(c.data)), c.matches);

for (const f of failures) console.error(f);
console.log(`${checked} checks, ${failures.length} failed`);
process.exit(failures.length ? 1 : 0);
