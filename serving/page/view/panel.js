/** Shows the state of tracking, searching and downloads, and enables what can be done. */

import { duration } from "../model/tracking.js";
import { byId } from "./dom.js";

/** `searching`: nothing can be tracked meanwhile. */
export function renderTracking(project, running, searching) {
  byId("track-card").hidden = !project.isVideo;
  // what stands below must not move under a pointer that has just pressed a button
  byId("track-options").inert = running !== null;
  byId("track-start").hidden = running !== null;
  byId("track-progress").hidden = running === null;
  byId("track").disabled = searching || !project.objects.length;
  byId("track").textContent = project.wasTracked ? "Track again" : "Track";
  byId("track-note").textContent = trackNote(project);
  byId("track-note").hidden = !trackNote(project);
  if (!running) return;
  const { done, total, rate, left, cancelling } = running;
  byId("track-bar").value = total ? done / total : 0;
  byId("track-cancel").disabled = cancelling;
  const count = total ? `${done} / ${total}` : "Starting";
  const pace = rate ? `${rate < 10 ? rate.toFixed(1) : Math.round(rate)} frames/s` : null;
  const rest = rate && done < total ? `${duration(left)} left` : null;
  byId("track-text").textContent = cancelling
    ? "Cancelling"
    : [count, pace, rest].filter(Boolean).join(" · ");
}

function trackNote(project) {
  if (!project.objects.length) return "Click on an object first.";
  if (project.stale) return "Clicks have changed: track again to update the other frames.";
  if (project.wasTracked) return "Correct any frame with more clicks, then track again.";
  return "";
}

/** `tracking`: nothing can be searched meanwhile. */
export function renderAutomatic(automatic, isVideo, tracking) {
  const { running, choosing, found, progress } = automatic;
  byId("find").hidden = running || choosing;
  byId("find").disabled = tracking;
  byId("density").disabled = tracking;
  byId("find").querySelector("span").textContent = isVideo
    ? "Find everything in this frame"
    : "Find everything";
  byId("find-row").hidden = !running && !choosing;
  byId("find-density").hidden = running;
  byId("find-bar").hidden = !running;
  byId("find-bar").value = progress ?? 0;
  byId("find-done").textContent = running ? "Cancel" : "Done";
  byId("find-text").textContent = running ? "Searching" : `${found.length} found`;
}

export function renderDownloads(project, busyFile) {
  for (const button of byId("downloads").querySelectorAll("button")) {
    const busy = button.dataset.file === busyFile;
    button.disabled = !project.hasMasks || busyFile !== null;
    button.classList.toggle("working", busy);
    button.setAttribute("aria-busy", String(busy));
  }
}

export function renderTools(project, edits, isPlaying) {
  byId("undo").disabled = !edits.history.canUndo;
  byId("redo").disabled = !edits.history.canRedo;
  byId("masks-shown").setAttribute("aria-pressed", String(project.masksShown));
  byId("play").setAttribute("aria-label", isPlaying ? "Pause" : "Play");
  byId("play")
    .querySelector("use")
    .setAttribute("href", isPlaying ? "#i-pause" : "#i-play");
  byId("step-back").disabled = project.frame === 0;
  byId("step-next").disabled = project.frame === project.numFrames - 1;
}

/** What the list says of an object: its prompts, and whether it is out of sight here. */
export function objectText(project, object) {
  const here = project.masks.get(project.frame)?.find((entry) => entry.object === object);
  const parts = [...promptParts(project, object), here?.area === 0 ? "not visible here" : ""];
  return parts.filter(Boolean).join(" · ");
}

function promptParts(project, object) {
  const prompts = project.allPrompts().filter((entry) => entry.object === object);
  const sum = (count) => prompts.reduce((total, { prompt }) => total + count(prompt), 0);
  const parts = [
    counted(
      sum(({ points }) => points.length),
      "click",
      "clicks",
    ),
    counted(
      sum(({ box }) => (box ? 1 : 0)),
      "box",
      "boxes",
    ),
    counted(
      sum(({ mask }) => (mask ? 1 : 0)),
      "mask",
      "masks",
    ),
  ];
  if (prompts.length > 1) parts.push(`${prompts.length} frames`);
  return parts;
}

function counted(number, one, several) {
  if (!number) return "";
  return `${number} ${number === 1 ? one : several}`;
}
