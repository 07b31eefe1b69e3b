// Owns the dialog in which a token is typed in; the token goes to the API and stays in its memory.
// Never writes it anywhere: no storage, no cookie, no address.

const PROBLEMS = {
  0: "The gateway cannot be reached.",
  401: "This gateway does not know that token.",
  403: "That token is known, but may not read. You can keep it for what it may do.",
};

export class Session {
  #api;
  #changed;
  #dialog = document.getElementById("token-dialog");
  #input = document.getElementById("token-input");
  #problem = document.getElementById("token-problem");
  #button = document.getElementById("token");
  isLocked = false;

  constructor(api, changed) {
    this.#api = api;
    this.#changed = changed;
    this.#button.onclick = () => this.ask();
    document.getElementById("token-form").onsubmit = (event) => {
      event.preventDefault();
      this.#use();
    };
    document.getElementById("token-cancel").onclick = () => this.#dialog.close();
    document.getElementById("token-forget").onclick = () => this.#forget();
  }

  ask() {
    this.#problem.textContent = "";
    this.#input.value = "";
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#input.focus();
  }

  /** An answer was 401: nothing more is asked until there is a token. */
  lock() {
    if (this.isLocked) return;
    this.isLocked = true;
    this.ask();
    if (this.#api.hasToken) this.#problem.textContent = PROBLEMS[401];
    this.#changed();
  }

  async #use() {
    this.#api.useToken(this.#input.value.trim());
    const { status } = await this.#api.get("admin/v1/routes");
    if (status === 401 || status === 0) {
      this.#api.useToken("");
      this.#problem.textContent = PROBLEMS[status];
      this.#input.select();
      return;
    }
    this.isLocked = false;
    this.#label();
    if (status === 403) this.#problem.textContent = PROBLEMS[403];
    else this.#dialog.close();
    this.#changed();
  }

  #forget() {
    this.#api.useToken("");
    this.#label();
    this.#dialog.close();
    this.#changed();
  }

  #label() {
    this.#button.textContent = this.#api.hasToken ? "Token: in use" : "Token";
    this.#input.value = "";
  }
}
