/** The start page: a file, a sample, the camera. */

import { byId, icon, make } from "./view/dom.js";
import { notify } from "./view/notices.js";

export class Opener {
  #upload = null;

  /** `opened(source, title, file)` is a promise; `camera()` opens the camera. */
  constructor(api, { opened, camera }) {
    Object.assign(this, { api, opened });
    const input = byId("file");
    input.addEventListener("change", () => {
      if (input.files[0]) this.send(input.files[0]);
      input.value = "";
    });
    byId("upload-cancel").addEventListener("click", () => this.#upload?.abort());
    byId("camera").addEventListener("click", camera);
    this.#takeDrops();
  }

  /** Shows what the server offers; `limits` of /v1/info. */
  async showOffers(limits) {
    this.limits = limits;
    byId("limits").textContent =
      `up to ${size(limits.upload_bytes)}, ${limits.frames.toLocaleString("en")} frames`;
    const samples = await this.api.samples();
    const list = byId("samples");
    list.replaceChildren(...samples.map((sample) => this.#sample(sample)));
    if (!samples.length) list.append(make("li", { class: "muted", text: "This server has none." }));
  }

  showNoOffers() {
    byId("samples").replaceChildren(make("li", { class: "muted", text: "Not available." }));
  }

  /** Uploads a file and opens it. */
  async send(file) {
    const most = this.limits?.upload_bytes ?? Infinity;
    if (file.size > most) {
      notify(`${file.name} has ${size(file.size)}: this server takes at most ${size(most)}.`);
      return;
    }
    this.#upload?.abort();
    const upload = (this.#upload = new AbortController());
    byId("upload").hidden = false;
    this.#progress(file, 0);
    try {
      const progress = (share) => this.#progress(file, share);
      const { media, name } = await this.api.upload(file, progress, upload.signal);
      await this.opened({ media }, name || file.name, file);
    } catch (error) {
      if (error.name !== "AbortError") notify(error.message);
    } finally {
      if (this.#upload === upload) {
        this.#upload = null;
        byId("upload").hidden = true;
      }
    }
  }

  #progress(file, share) {
    byId("upload-bar").value = share;
    byId("upload-text").textContent =
      share < 1
        ? `Sending ${file.name} · ${Math.floor(100 * share)} % of ${size(file.size)}`
        : `Reading ${file.name}`;
  }

  #sample({ sample, kind, title, width, height, num_frames: frames }) {
    const facts =
      kind === "video" ? `${width} × ${height} · ${frames} frames` : `${width} × ${height}`;
    const text = make(
      "span",
      {},
      make("strong", { text: title }),
      make("span", { class: "muted", text: facts }),
    );
    const open = async () => {
      button.disabled = true;
      try {
        await this.opened({ sample }, title, null);
      } catch (error) {
        notify(error.message);
      } finally {
        button.disabled = false;
      }
    };
    const symbol = icon(kind === "video" ? "film" : "image");
    const button = make(
      "button",
      { class: "sample", data: { sample }, onclick: open },
      symbol,
      text,
    );
    return make("li", {}, button);
  }

  /** Files may be dropped anywhere. */
  #takeDrops() {
    const veil = byId("drop-veil");
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      veil.hidden = false;
    });
    document.addEventListener("dragleave", (event) => (veil.hidden ||= !event.relatedTarget));
    document.addEventListener("drop", (event) => {
      veil.hidden = true;
      if (!hasFiles(event)) return;
      event.preventDefault();
      const [file, ...others] = event.dataTransfer.files;
      if (others.length) notify("One file at a time: the first one is opened.", "info");
      if (file) this.dropped(file);
    });
  }
}

/** "2 GB": a number of bytes. */
export function size(bytes) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  const level = Math.min(
    units.length - 1,
    Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)),
  );
  const number = bytes / 1024 ** level;
  return `${number < 10 && level ? Number(number.toFixed(1)) : Math.round(number)} ${units[level]}`;
}
