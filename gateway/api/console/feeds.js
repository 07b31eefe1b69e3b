// Asks for what the page shows, each address at its own pace, and keeps the last answer of each.
// Never asks twice at a time for the same thing, and not at all while nobody looks.

export class Feeds {
  #api;
  #changed;
  #answers = new Map();
  #running = new Set();

  constructor(api, changed) {
    this.#api = api;
    this.#changed = changed;
  }

  /** The last answer of an address: { data, problem, at }. What was known stays beside a later problem. */
  get(path) {
    return this.#answers.get(path) ?? { data: null, problem: null, at: 0, asked: -Infinity };
  }

  /** Forget what was answered, so that it is asked for again at once. */
  forget(path) {
    const answer = this.#answers.get(path);
    if (answer) answer.asked = -Infinity;
  }

  forgetAll() {
    for (const path of this.#answers.keys()) this.forget(path);
  }

  /** Ask for what is due: a map from address to seconds between two answers. */
  ask(wanted, now) {
    for (const path of this.#answers.keys())
      if (!wanted.has(path) && !this.#running.has(path)) this.#answers.delete(path);
    for (const [path, seconds] of wanted) {
      if (!this.#running.has(path) && now - this.get(path).asked >= seconds * 1000) this.#fetch(path, now);
    }
  }

  async #fetch(path, now) {
    this.#running.add(path);
    const before = this.get(path);
    this.#answers.set(path, { ...before, asked: now });
    const { status, data, problem } = await this.#api.get(path);
    this.#running.delete(path);
    // Readiness says no with a body of its own: that is an answer, not a problem.
    const isAnswer = problem === null || (status === 503 && path === "readyz");
    const after = this.get(path);
    this.#answers.set(
      path,
      isAnswer ? { ...after, data, status, problem: null, at: Date.now() } : { ...after, status, problem },
    );
    this.#changed(path);
  }
}
