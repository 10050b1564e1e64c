/** The server's HTTP interface: one method a route, errors as ApiError with the server's line. */

import { jsonLines } from "./lines.js";

/** What the server, or the way to it, refused: `status` 0 where there was no answer. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
  }
}

const UNREACHABLE = "The server does not answer. Is it still running?";
const BROKEN_OFF = "The server broke off its answer. Is it still running?";

export class Api {
  /** `token` stands in the page's own address where the server was started with one. */
  constructor(token = new URLSearchParams(location.search).get("token")) {
    this.token = token;
  }

  info() {
    return this.#json("GET", "/v1/info");
  }

  async samples() {
    return (await this.#json("GET", "/v1/samples")).samples;
  }

  /** Sends a file; `onProgress` is told the share sent, 0..1. */
  upload(file, onProgress, signal) {
    const request = new XMLHttpRequest();
    request.open("POST", `/v1/media?name=${encodeURIComponent(file.name)}`);
    if (this.token) request.setRequestHeader("Authorization", `Bearer ${this.token}`);
    request.responseType = "text";
    request.upload.onprogress = (event) => onProgress(event.loaded / Math.max(1, event.total));
    signal.addEventListener("abort", () => request.abort());
    return new Promise((resolve, reject) => {
      request.onload = () => {
        if (request.status < 300) resolve(JSON.parse(request.responseText));
        else reject(new ApiError(request.status, lineOf(request.responseText, request.status)));
      };
      request.onerror = () => reject(new ApiError(0, UNREACHABLE));
      request.onabort = () => reject(new DOMException("The upload was cancelled", "AbortError"));
      request.send(file);
    });
  }

  /** Opens {media}, {sample} or {path}. */
  open(source) {
    return this.#json("POST", "/v1/sessions", source);
  }

  session(id) {
    return this.#json("GET", `/v1/sessions/${id}`);
  }

  async close(id) {
    await this.#answer("DELETE", `/v1/sessions/${id}`, undefined, { keepalive: true });
  }

  /** The frame as a Blob; narrower than it is where `width` says so. */
  async frame(id, frame, width, signal) {
    const query = width ? `?width=${width}` : "";
    const path = `/v1/sessions/${id}/frames/${frame}${query}`;
    return (await this.#answer("GET", path, undefined, { signal })).blob();
  }

  masks(id, frame, signal) {
    return this.#json("GET", `/v1/sessions/${id}/masks/${frame}`, undefined, signal);
  }

  prompt(id, prompt) {
    return this.#json("POST", `/v1/sessions/${id}/prompts`, prompt);
  }

  clearPrompt(id, object, frame) {
    return this.#json("DELETE", `/v1/sessions/${id}/objects/${object}/prompts/${frame}`);
  }

  rename(id, object, name) {
    return this.#json("PUT", `/v1/sessions/${id}/objects/${object}`, { name });
  }

  remove(id, object) {
    return this.#json("DELETE", `/v1/sessions/${id}/objects/${object}`);
  }

  /** Yields a line per tracked frame, then one with `end`. */
  propagate(id, options, signal) {
    return this.#lines(`/v1/sessions/${id}/propagate`, options, signal);
  }

  /** Ends a propagation or a search for automatic masks. */
  async cancel(id) {
    await this.#answer("DELETE", `/v1/sessions/${id}/propagate`);
  }

  /** Yields progress, then a line with `end` and the masks. */
  automatic(id, options, signal) {
    return this.#lines(`/v1/sessions/${id}/automatic`, options, signal);
  }

  /** A result file as a Blob. */
  async result(id, file, signal) {
    const path = `/v1/sessions/${id}/${file}`;
    return (await this.#answer("GET", path, undefined, { signal })).blob();
  }

  /** The address of the live stream. */
  liveAddress() {
    const address = new URL("/v1/live", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    if (this.token) address.searchParams.set("token", this.token);
    return address.href;
  }

  async #json(method, path, body, signal) {
    return (await this.#answer(method, path, body, { signal })).json();
  }

  async *#lines(path, options, signal) {
    const answer = await this.#answer("POST", path, options, { signal });
    try {
      yield* jsonLines(answer.body);
    } catch (error) {
      throw error.name === "AbortError" ? error : new ApiError(0, BROKEN_OFF);
    }
  }

  async #answer(method, path, body, options = {}) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const sent = body === undefined ? undefined : JSON.stringify(body);
    let answer;
    try {
      answer = await fetch(path, { method, headers, body: sent, ...options });
    } catch (error) {
      throw error.name === "AbortError" ? error : new ApiError(0, UNREACHABLE);
    }
    if (!answer.ok) throw new ApiError(answer.status, lineOf(await answer.text(), answer.status));
    return answer;
  }
}

function lineOf(text, status) {
  try {
    const { error } = JSON.parse(text);
    if (typeof error === "string") return error;
  } catch {
    // not the server's own answer: a proxy stands between
  }
  return `The server answered ${status}.`;
}
