/** Pictures of frames, kept while there is room. */

/** Pixels kept at most: 200 MB as the browser holds them. */
const PIXELS = 50e6;

export class Frames {
  #kept = new Map();
  #pixels = 0;
  #closing = new AbortController();

  constructor(api, id) {
    this.api = api;
    this.id = id;
  }

  /** The frame as an ImageBitmap, `width` pixels wide, or as it is where that is null. */
  get(frame, width = null) {
    const key = `${frame}:${width}`;
    let kept = this.#kept.get(key);
    if (kept) this.#kept.delete(key);
    else kept = this.#load(key, frame, width);
    // the newest come last
    this.#kept.set(key, kept);
    return kept.picture;
  }

  /** Gives up what is on its way, too. */
  close() {
    this.#closing.abort();
    for (const key of [...this.#kept.keys()]) this.#drop(key);
  }

  #load(key, frame, width) {
    const kept = { bitmap: null };
    kept.picture = this.api
      .frame(this.id, frame, width, this.#closing.signal)
      .then((blob) => createImageBitmap(blob))
      .then((bitmap) => {
        kept.bitmap = bitmap;
        this.#pixels += bitmap.width * bitmap.height;
        for (const other of this.#kept.keys()) {
          if (this.#pixels <= PIXELS) break;
          if (other !== key) this.#drop(other);
        }
        return bitmap;
      });
    kept.picture.catch(() => this.#kept.delete(key));
    return kept;
  }

  #drop(key) {
    const { bitmap } = this.#kept.get(key);
    // one on its way finds its place later
    if (!bitmap) return;
    this.#kept.delete(key);
    this.#pixels -= bitmap.width * bitmap.height;
  }
}
