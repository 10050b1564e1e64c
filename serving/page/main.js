/** The page: what is open, and the way from the start page to it and back. */

import { Editing } from "./editing.js";
import { Camera } from "./live/camera.js";
import { Live } from "./live/mode.js";
import { Project } from "./model/project.js";
import { Opener } from "./opener.js";
import { Api } from "./server/api.js";
import { byId, choice } from "./view/dom.js";
import { dismissAll, notify } from "./view/notices.js";
import { Workspace } from "./workspace.js";

const api = new Api();
const workspace = new Workspace();
const opener = new Opener(api, { opened: openSource, camera: openCamera });
opener.dropped = (file) => {
  leave();
  opener.send(file);
};

const WANTS_TOKEN =
  "This server wants its token: open the page with ?token=TOKEN at the end of its address.";

let info = null;
let current = null;
let direction = "forward";

/** Opens what a source names: {media}, {sample} or {path}. `file`: what was sent, to send again. */
async function openSource(source, title, file) {
  await enter(await api.open(source), { source, title, file });
}

async function enter(session, { source, title, file = null }) {
  leave();
  dismissAll();
  const project = new Project(session, source, title);
  await restoreMasks(project, session);
  project.file = file;
  current = new Editing(
    api,
    workspace,
    project,
    () => byId("expired").open || byId("expired").showModal(),
  );
  remember(project);
}

/** A prompt that is a mask comes without it. */
async function restoreMasks(project, session) {
  const frames = new Set(session.prompts.filter(({ mask }) => mask).map(({ frame }) => frame));
  for (const frame of frames) project.putMasks(await api.masks(project.id, frame));
  if (frames.size) project.describe(session);
}

/** The address keeps the session over a reload. */
function remember(project) {
  const { id, source, title, width, height, numFrames, isVideo } = project;
  sessionStorage.setItem(id, JSON.stringify({ source, title }));
  history.replaceState(null, "", `#${id}`);
  showTitle(title, `${width} × ${height}${isVideo ? ` · ${numFrames} frames` : ""}`);
}

function showTitle(name, facts) {
  byId("name").textContent = name;
  byId("facts").textContent = facts;
  document.title = name ? `${name} – sam2rt` : "sam2rt";
  byId("open-other").hidden = !name;
}

/** Back to the start page; the session is closed. */
function leave() {
  if (!current) return;
  const left = current;
  current = null;
  if (left instanceof Live) left.stop();
  else {
    left.close();
    api.close(left.project.id).catch(() => {});
    sessionStorage.removeItem(left.project.id);
  }
  history.replaceState(null, "", location.pathname + location.search);
  showTitle("", "");
}

async function openCamera() {
  const button = byId("camera");
  button.disabled = true;
  try {
    const camera = await Camera.open();
    leave();
    dismissAll();
    showTitle("Camera", "");
    current = new Live(api, workspace, camera, () => {
      current = null;
      showTitle("", "");
    });
  } catch (error) {
    notify(error.message);
  } finally {
    button.disabled = false;
  }
}

/** The session is gone: the same clip in a new one, with the same clicks. */
async function reopen() {
  byId("expired").close();
  const { project } = current;
  try {
    const session = await openAgain(project);
    dismissAll();
    await current.reopen(session);
    remember(project);
    const rest = project.stale ? " Track again to have all masks." : "";
    notify(`Opened again, with your clicks.${rest}`, "info");
  } catch (error) {
    notify(error.message);
    leave();
  }
}

async function openAgain(project) {
  if (!project.source) throw new Error("This page does not know which clip it was: open it again.");
  try {
    return await api.open(project.source);
  } catch (error) {
    if (error.status !== 404 || !project.file) throw error;
    // the server has forgotten the file, too
    const { media } = await api.upload(project.file, () => {}, new AbortController().signal);
    project.source = { media };
    return api.open(project.source);
  }
}

function startOver() {
  byId("expired").close();
  leave();
}

/** What is looked at does not expire. */
function keepAlive() {
  const seconds = Math.max(5, Math.min(60, info.limits.idle_seconds / 3));
  setInterval(() => {
    const open = current instanceof Editing && !document.hidden && !byId("expired").open;
    if (open)
      api
        .session(current.project.id)
        .catch((error) => error.status === 404 && current?.fail(error));
  }, 1000 * seconds);
}

function wirePanel() {
  const editing = (act) => () => current instanceof Editing && act(current);
  choice(byId("direction"), "direction", (chosen) => (direction = chosen));
  byId("track").addEventListener(
    "click",
    editing((mode) => mode.track(direction, byId("from").value === "frame")),
  );
  byId("track-cancel").addEventListener(
    "click",
    editing((mode) => mode.tracking.cancel().catch((error) => mode.fail(error))),
  );
  byId("find").addEventListener(
    "click",
    editing((mode) => mode.find(byId("density").value)),
  );
  byId("density").addEventListener(
    "change",
    editing((mode) => mode.find(byId("density").value)),
  );
  byId("find-done").addEventListener(
    "click",
    editing((mode) => mode.leaveFind()),
  );
  byId("step-back").addEventListener(
    "click",
    editing((mode) => mode.seek(mode.project.frame - 1)),
  );
  byId("step-next").addEventListener(
    "click",
    editing((mode) => mode.seek(mode.project.frame + 1)),
  );
  byId("play").addEventListener(
    "click",
    editing((mode) => mode.player.toggle()),
  );
  for (const button of byId("downloads").querySelectorAll("button")) {
    button.addEventListener(
      "click",
      editing((mode) => mode.download(button.dataset.file)),
    );
  }
  byId("open-other").addEventListener("click", leave);
  byId("live-stop").addEventListener("click", leave);
  byId("start-over").addEventListener("click", startOver);
  byId("reopen").addEventListener("click", reopen);
  byId("home").addEventListener("click", (event) => {
    event.preventDefault();
    leave();
  });
}

/** What the address asks for: `?path=` below the server's root, or `?sample=`. */
async function openNamed() {
  const asked = new URLSearchParams(location.search);
  for (const kind of ["path", "sample"]) {
    const name = asked.get(kind);
    if (!name) continue;
    const title = name.split("/").at(-1);
    await openSource({ [kind]: name }, title, null).catch((error) => notify(error.message));
    return;
  }
}

async function restore() {
  const id = location.hash.slice(1);
  if (!/^[\w-]+$/.test(id)) return;
  const kept = JSON.parse(sessionStorage.getItem(id) ?? "null");
  try {
    await enter(await api.session(id), kept ?? { source: null, title: "Session" });
  } catch (error) {
    notify(error.status === 404 ? "That session has ended: open the clip again." : error.message);
    history.replaceState(null, "", location.pathname + location.search);
  }
}

async function start() {
  wirePanel();
  try {
    info = await api.info();
    byId("model").textContent = info.model;
    byId("model").title = `${info.model} on ${info.backend}, sam2rt ${info.version}`;
    byId("model").hidden = false;
    keepAlive();
    await opener.showOffers(info.limits);
  } catch (error) {
    notify(error.status === 401 ? WANTS_TOKEN : error.message);
    opener.showNoOffers();
    return;
  }
  if (location.hash) await restore();
  else await openNamed();
}

start();
