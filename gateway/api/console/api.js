// Asks the admin API of the gateway that served this page, and keeps the token: in memory, nowhere else.
// Never throws for an answer: whatever comes back is { status, data, etag, problem }.

const ROOT = new URL("../", import.meta.url); // works behind a prefix, too
const TIMEOUT_MS = 8000;

export class Api {
  #token = "";

  get hasToken() {
    return this.#token !== "";
  }

  useToken(token) {
    this.#token = token;
  }

  get(path) {
    return this.send("GET", path);
  }

  async send(method, path, body, headers = {}) {
    const request = {
      method,
      headers: { accept: "application/json, application/problem+json", ...headers },
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    };
    if (this.#token) request.headers.authorization = `Bearer ${this.#token}`;
    if (body !== undefined) {
      request.body = JSON.stringify(body);
      request.headers["content-type"] = "application/json";
    }
    try {
      const response = await fetch(new URL(path, ROOT), request);
      const text = await response.text();
      const data = parse(text, response.headers.get("content-type") ?? "");
      return {
        status: response.status,
        data,
        etag: response.headers.get("etag"),
        problem: response.ok ? null : readProblem(response.status, data),
      };
    } catch (error) {
      const title =
        error?.name === "TimeoutError" ? "The gateway did not answer in time" : "The gateway cannot be reached";
      return { status: 0, data: null, etag: null, problem: { status: 0, title, detail: "", errors: [] } };
    }
  }
}

function parse(text, type) {
  if (!type.includes("json")) return text;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Read a problem document, or the { "error": "…" } of the older calls. */
function readProblem(status, data) {
  const body = data && typeof data === "object" ? data : {};
  const errors = Array.isArray(body.errors) ? body.errors : [];
  return {
    status,
    title: String(body.title ?? TITLES[status] ?? `The gateway answered ${status}`),
    detail: String(body.detail ?? body.error ?? ""),
    errors: errors.map(({ pointer, detail }) => ({ pointer: String(pointer ?? ""), detail: String(detail ?? "") })),
    outcome: body.outcome === "unknown" ? "unknown" : "",
  };
}

const TITLES = {
  401: "A token is needed",
  403: "This token may not do that",
  404: "No such thing here",
  409: "Not now",
  412: "Somebody was faster",
  422: "Not a valid route",
  503: "Not available now",
};

/** What a refusal means to the person who asked, in one sentence. */
export function explain(problem) {
  if (problem.outcome === "unknown")
    return "The store gave no answer: whether this was done is not known. Look at the revision before you try again.";
  if (problem.status === 401) return "No token, or none that this gateway knows. Enter one under “Token”.";
  if (problem.status === 403) return `Your token may not do this. ${problem.detail}`.trim();
  if (problem.status === 412)
    return "Somebody changed this route meanwhile, so nothing was done. Look at what it is now, then try again.";
  return problem.detail || problem.title;
}
