// The demo's page: what it does as a user goes through the network that can be made hostile; the control panel asks
// the demo itself.
import { Client, Refusal, sleep, uuid } from './client.js';
import { Count } from './count.js';
import { Strip } from './strip.js';

const $ = (id) => document.getElementById(id);
const text = (id, value) => { if ($(id).textContent !== String(value)) $(id).textContent = value; };
const make = (tag, props = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), props);
  element.append(...children);
  return element;
};
const COMPONENT = 'demo_quiz';
const KEPT_LINES = 60;

const count = new Count();
const strip = new Strip($('strip'));
let session = sessionStorage.getItem('session') ?? '';
let run = '';
let me = '';
let room = '';

// Posts to the LMS until it answers: sent again with the same id, nothing happens twice.
async function lms(path, body) {
  for (let tries = 0; ; tries++) {
    try {
      const response = await fetch(path, { method: 'POST', body: JSON.stringify(body), signal: AbortSignal.timeout(10_000) });
      if (!response.ok) throw await Refusal.of(response);
      return await response.json();
    } catch (error) {
      if (error instanceof Refusal && error.status < 500) throw error;
    }
    await sleep(Math.min(3000, 250 * 2 ** tries) * (0.5 + Math.random()));
  }
}

// --- the stream ----------------------------------------------------------------------------------------------------

async function join() {
  const page = await lms('/lms/join', { session });
  const again = run === page.run;
  [session, run, me, room] = [page.session, page.run, page.name, page.channel];
  sessionStorage.setItem('session', session);
  text('name', me);
  document.title = `${me} · Backchannel`;
  if (again) count.restart(page.state.n); else count.begin(page.state.n);
  $('talk').replaceChildren();
  if (!page.state.talk.length) $('talk').append(make('li', { className: 'note', textContent: 'Nobody has said anything yet.' }));
  page.state.talk.forEach(showSaying);
  return { grant: page.grant, cursor: page.state.cursor };
}

const client = new Client('/rt', join)
  .on('cursor', (cursor) => text('cursor', cursor))
  .on('missed', async ({ channel }) => {
    if (channel !== room) return;
    const page = await lms('/lms/join', { session });
    count.restart(page.state.n);
  })
  .on('state', ({ state, wait, time }) => {
    if (time) strip.clock(time);
    strip.connected(state === 'live' || state === 'catching up');
    text('state', state === 'waiting' ? `waiting ${(wait / 1000).toFixed(1)} s` : state);
    $('dot').className = `dot ${state.split(' ')[0]}`;
    text('reconnects', client.reconnects);
    text('transport', state === 'waiting' ? 'none' : 'fetch, streamed');
  })
  .on('event', ({ type, data, time, late }) => {
    if (type === 'report') { showReport(data); return; }
    strip.heard(time, { tall: type === 'say', late });
    if (count.heard(data.n) && type === 'say') showSaying(data);
    showCount();
  });

function showCount() {
  text('received', count.received.toLocaleString('en'));
  // What the client threw away as already handled counts too: the broker should not have sent it.
  const figures = { lost: count.lost, repeated: count.repeated + client.dropped, disorder: count.disorder };
  for (const [name, figure] of Object.entries(figures)) {
    text(name, figure);
    $(name).className = figure ? 'bad' : 'zero';
  }
}

// --- the room ------------------------------------------------------------------------------------------------------

function showSaying({ from, text: words, n }) {
  const list = $('talk');
  list.querySelector('.note')?.remove();
  list.append(make('li', { className: from === me ? 'own' : '' },
    make('b', { textContent: from }), make('i', { textContent: n, title: 'its number in the room' }), make('span', { textContent: words })));
  while (list.children.length > KEPT_LINES) list.firstChild.remove();
  list.scrollTop = list.scrollHeight;
}

$('say').addEventListener('submit', (submit) => {
  submit.preventDefault();
  const words = $('text').value.trim();
  if (!words) return;
  $('text').value = '';
  lms('/lms/say', { session, id: uuid(), text: words }).catch((error) => showNote($('talk'), error.message));
});

function showNote(list, words) {
  list.append(make('li', { className: 'note', textContent: words }));
  list.scrollTop = list.scrollHeight;
}

// --- the component -------------------------------------------------------------------------------------------------

const some = () => 2 + Math.floor(Math.random() * 8);
let question = { a: 7, b: 8 };
function ask() {
  question = { a: some(), b: some() };
  text('question', `${question.a} × ${question.b}`);
}

// A line for each message of this page: what, where it stands, how long it took.
function line(words) {
  const [what, how, ms] = [make('b', { textContent: words }), make('span', { textContent: 'sent' }), make('span', { textContent: '' })];
  const began = performance.now();
  $('mine').prepend(make('li', {}, what, how, ms));
  while ($('mine').children.length > 5) $('mine').lastChild.remove();
  return (outcome, tries, bad) => {
    how.textContent = tries > 1 ? `${outcome}, asked ${tries} times` : outcome;
    how.className = bad ? 'failed' : '';
    ms.textContent = `${((performance.now() - began) / 1000).toFixed(1)} s`;
  };
}

// A message that was certainly not delivered is sent once more, under a new id: that is what the certainty is good for.
async function handIn(a, b, is) {
  const show = line(`${a} × ${b} = ${is}`);
  try {
    for (let tries = 0, anew = 0; ; anew++) {
      const answer = await client.call(COMPONENT, { do: 'mark', a, b, is }, { deadline: 20 });
      tries += answer.tries;
      if (answer.outcome === 'not_delivered' && anew < 3) continue;
      show(answer.outcome.replace('_', ' ') + (anew ? ' when sent anew' : ''), tries, answer.outcome !== 'delivered');
      return answer;
    }
  } catch (error) {
    show(error.message, 1, true);
    return { outcome: 'refused' };
  }
}

function verdict({ outcome, reply }) {
  if (outcome !== 'delivered') {
    $('verdict').replaceChildren(make('b', { textContent: outcome.replace('_', ' ') }), ' – the broker says what it knows, not what it hopes.');
    return;
  }
  const points = reply.points === 1 ? '1 point' : `${reply.points} points`;
  $('verdict').replaceChildren(make('b', { textContent: reply.right ? 'Right.' : `No, ${reply.product}.` }), ` You have ${points}.`);
}

$('quiz').addEventListener('submit', async (submit) => {
  submit.preventDefault();
  if ($('answer').value === '') return;
  const [{ a, b }, is] = [question, Number($('answer').value)];
  $('answer').value = '';
  ask();
  verdict(await handIn(a, b, is));
});

$('ten').addEventListener('click', async () => {
  const answers = await Promise.all(Array.from({ length: 10 }, () => {
    const [a, b] = [some(), some()];
    return handIn(a, b, a * b);
  }));
  const done = answers.filter((answer) => answer.outcome === 'delivered');
  if (done.length) verdict(done.reduce((x, y) => (x.reply.points > y.reply.points ? x : y)));
});

$('report').addEventListener('click', async () => {
  const show = line('report');
  try {
    const { outcome, tries } = await client.job(COMPONENT, { do: 'report' });
    show(outcome === 'queued' ? 'on disk' : outcome, tries);
  } catch (error) { show(error.message, 1, true); }
});

function showReport({ points }) {
  const when = new Date().toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
  $('verdict').replaceChildren(make('b', { textContent: `Report of ${when}: ` }), `${points} ${points === 1 ? 'point' : 'points'}. It came on your session’s own channel.`);
}

// --- the control panel ---------------------------------------------------------------------------------------------

const WHAT = { done: 'done', repeat: 'a repeat: stored reply', lost: 'done, answer lost', busy: 'refused, nothing ran' };

function span(ms) {
  const s = Math.floor(ms / 1000);
  return s < 60 ? `${s} s` : `${Math.floor(s / 60)} min ${s % 60} s`;
}

function showStatus({ run: now, broker, network, webhook }) {
  if (run && now !== run) { location.reload(); return; }   // another demo has taken the address
  text('broker', broker.up
    ? `Running for ${span(broker.since)}, process ${broker.pid}${broker.kills ? `, killed ${broker.kills === 1 ? 'once' : `${broker.kills} times`}` : ''}.`
    : 'Dead. It is being started again.');
  $('kill').disabled = !broker.up;
  if (document.activeElement !== $('hostile') || !switching) $('hostile').checked = network.hostile;
  text('network', network.cuts ? `${network.cuts} cuts, ${network.refused} refused, ${network.doubled} sent twice.` : '');
  for (const name of ['attempts', 'messages', 'effects']) text(name, webhook[name]);
  $('effects').className = webhook.effects > webhook.messages ? 'failed' : '';   // fewer: some are still under way
  $('recent').replaceChildren(...webhook.recent.slice(0, 6).map((a) => make('li', {},
    make('code', { textContent: a.id.slice(0, 8) }),
    make('span', { textContent: WHAT[a.what] ?? a.what, className: a.what }),
    make('span', { textContent: `${a.kind}, attempt ${a.nth}` }))));
}

let switching = false;
async function control(path, body) {
  const response = await fetch(path, body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) });
  showStatus(await response.json());
}

$('kill').addEventListener('click', () => control('/demo/kill', {}));
$('hostile').addEventListener('change', async () => {
  switching = true;
  try { await control('/demo/network', { hostile: $('hostile').checked }); } finally { switching = false; }
});

async function watch() {
  for (; ; await sleep(1000)) {
    try { if (!document.hidden) await control('/demo/status'); } catch { text('broker', 'The demo has ended.'); }
  }
}

ask();
showCount();
client.start();
watch();
