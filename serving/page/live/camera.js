/** The camera's pictures, as JPEG. */

/** Longer sides are scaled down: the models look at 256 to 1024 pixels. */
const LONGEST = 960;
const QUALITY = 0.85;

export class Camera {
  /** Asks for the camera; an Error says in one line why there is none. */
  static async open() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error(
        "The browser gives the camera to https and localhost only: open this page at one of them.",
      );
    }
    const wanted = { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } };
    const stream = await navigator.mediaDevices
      .getUserMedia({ video: wanted, audio: false })
      .catch((error) => {
        throw new Error(REASONS[error.name] ?? `The camera cannot be used: ${error.message}`);
      });
    const camera = new Camera(stream);
    await camera.video.play();
    return camera;
  }

  constructor(stream) {
    this.stream = stream;
    this.video = document.createElement("video");
    Object.assign(this.video, { srcObject: stream, muted: true, playsInline: true });
  }

  /** [width, height] of the pictures that are taken. */
  get size() {
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, LONGEST / Math.max(videoWidth, videoHeight, 1));
    return [Math.round(videoWidth * scale), Math.round(videoHeight * scale)];
  }

  /** The picture of this moment: {bitmap, blob}. */
  async take() {
    const [width, height] = this.size;
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    canvas.getContext("2d").drawImage(this.video, 0, 0, width, height);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
    return { bitmap: canvas, blob };
  }

  close() {
    for (const track of this.stream.getTracks()) track.stop();
    this.video.srcObject = null;
  }
}

const REASONS = {
  NotAllowedError: "The camera is not allowed: allow it for this page in the browser.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program.",
};
