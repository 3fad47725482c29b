// Counts from the numbers that the room's events carry whether something is lost, repeated or out of order.
export class Count {
  received = 0; lost = 0; repeated = 0; disorder = 0; told = 0;
  #next = 1; #missing = new Set();

  /** The page was rendered with everything up to n. */
  begin(n) {
    this.#next = n + 1;
    this.#missing.clear();
    this.lost = 0;
  }

  /** The broker said that something may be missing, and the state was fetched again: that is no silent loss. */
  restart(n) {
    this.told += Math.max(0, n + 1 - this.#next) + this.#missing.size;
    this.begin(Math.max(n, this.#next - 1));
  }

  heard(n) {
    if (n < this.#next && !this.#missing.has(n)) { this.repeated++; return false; }
    this.received++;
    if (this.#missing.delete(n)) this.disorder++;
    for (; this.#next < n; this.#next++) this.#missing.add(this.#next);
    this.#next = Math.max(this.#next, n + 1);
    this.lost = this.#missing.size;
    return true;
  }
}
