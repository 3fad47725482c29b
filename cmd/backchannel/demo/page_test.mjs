// Checks the page's modules with Node alone; run by TestThePagesModules.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { FrameParser, later, uuid } from './page/client.js';
import { Count } from './page/count.js';

const vectors = JSON.parse(readFileSync(new URL('../../../testdata/vectors/frames.json', import.meta.url), 'utf8'));
for (const c of vectors.streams) {
  const bytes = new TextEncoder().encode(c.wire);
  for (const size of [1, 3, 1000]) {
    const parser = new FrameParser();
    const got = [];
    for (let i = 0; i < bytes.length; i += size) got.push(...parser.push(bytes.slice(i, i + size)));
    const bare = ({ event, data }) => ({ event, data });
    // A lone CR at the very end waits for its LF, so the last frame of such a stream comes with the next byte.
    got.push(...parser.push(new TextEncoder().encode('\n').slice(0, c.wire.endsWith('\r') ? 1 : 0)));
    assert.deepEqual(got.map(bare), c.frames.map(bare), `${c.name}, cut at ${size}`);
    assert.equal(parser.retry, c.retry, c.name);
  }
}

assert.ok(later('x7k2m9qa-10', 'x7k2m9qa-9'));
assert.ok(!later('x7k2m9qa-9', 'x7k2m9qa-10'));
assert.ok(!later('x7k2m9qa-9', 'x7k2m9qa-9'));
assert.ok(later('x7k2m9qa-18446744073709551615', 'x7k2m9qa-18446744073709551614'));
assert.ok(later('aaaaaaaa-1', 'x7k2m9qa-9'), 'another epoch is a new beginning');
assert.ok(later('x7k2m9qa-1', ''));
assert.match(uuid(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);

const figures = ({ received, lost, repeated, disorder, told }) => ({ received, lost, repeated, disorder, told });
const count = (begin, ...heard) => {
  const c = new Count();
  c.begin(begin);
  heard.forEach((n) => c.heard(n));
  return figures(c);
};
assert.deepEqual(count(0, 1, 2, 3), { received: 3, lost: 0, repeated: 0, disorder: 0, told: 0 });
assert.deepEqual(count(5, 6, 7), { received: 2, lost: 0, repeated: 0, disorder: 0, told: 0 });
assert.deepEqual(count(5, 8), { received: 1, lost: 2, repeated: 0, disorder: 0, told: 0 });
assert.deepEqual(count(5, 6, 6), { received: 1, lost: 0, repeated: 1, disorder: 0, told: 0 });
assert.deepEqual(count(5, 5), { received: 0, lost: 0, repeated: 1, disorder: 0, told: 0 });
assert.deepEqual(count(5, 7, 6), { received: 2, lost: 0, repeated: 0, disorder: 1, told: 0 });
assert.deepEqual(count(5, 8, 6), { received: 2, lost: 1, repeated: 0, disorder: 1, told: 0 });
const told = new Count();
told.begin(5);
told.heard(8);
told.restart(20);
told.heard(21);
assert.deepEqual(figures(told), { received: 2, lost: 0, repeated: 0, disorder: 0, told: 14 });
console.log('ok');
