// Draws the last minute: a line for each event at the moment it was published, in one colour if it was heard live and
// in another if it came by replay, and a shade where there was no connection. So a break is seen, and seen to fill.
const SPAN = 60_000;   // ms

export class Strip {
  #canvas; #events = []; #breaks = []; #offset = 0; #begun = false; #colours;

  constructor(canvas) {
    this.#canvas = canvas;
    const dark = matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', () => { this.#colours = undefined; });
    const pace = matchMedia('(prefers-reduced-motion: reduce)').matches ? 1000 : 100;
    setInterval(() => this.#draw(), pace);
  }

  /** The broker's clock, in s: events carry its time. */
  clock(time) { this.#offset = Date.now() - time * 1000; }

  heard(time, { tall, late }) { this.#events.push({ at: time * 1000 + this.#offset, tall, late }); }

  connected(yes) {
    const last = this.#breaks.at(-1);
    if (yes && last && !last.end) last.end = Date.now();
    if (!yes && this.#begun && (!last || last.end)) this.#breaks.push({ start: Date.now() });
    this.#begun ||= yes;
  }

  #forget(now) {
    const old = now - SPAN - 2000;
    this.#events = this.#events.filter((e) => e.at > old);
    this.#breaks = this.#breaks.filter((b) => !b.end || b.end > old);
  }

  #draw() {
    const now = Date.now();
    this.#forget(now);
    const [width, height, ratio] = [this.#canvas.clientWidth, this.#canvas.clientHeight, devicePixelRatio || 1];
    if (!width) return;
    if (this.#canvas.width !== Math.round(width * ratio) || this.#canvas.height !== Math.round(height * ratio)) {
      [this.#canvas.width, this.#canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    }
    const css = getComputedStyle(this.#canvas);
    const c = this.#colours ??= Object.fromEntries(['accent', 'replayed', 'danger', 'line'].map((n) => [n, css.getPropertyValue(`--${n}`).trim()]));
    const g = this.#canvas.getContext('2d');
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    const x = (t) => width - 3 - (now - t) / SPAN * (width - 3);
    g.fillStyle = c.danger;
    g.globalAlpha = 0.14;
    for (const b of this.#breaks) g.fillRect(x(b.start), 0, Math.max(2, x(b.end ?? now) - x(b.start)), height - 1);
    g.globalAlpha = 1;
    g.fillStyle = c.line;
    g.fillRect(0, height - 1, width, 1);
    const line = width < 450 ? 1 : 2;
    for (const e of this.#events) {
      g.fillStyle = e.late ? c.replayed : c.accent;
      const h = (e.tall ? 0.95 : 0.5) * (height - 4);
      g.fillRect(x(e.at), height - 1 - h, (e.tall ? 1.5 : 1) * line, h);
    }
  }
}
