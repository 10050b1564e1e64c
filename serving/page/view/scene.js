/** What the stage shows of a project on the frame that is shown. */

export function sceneOf(project, shown, automatic) {
  const { frame, bitmap } = shown;
  const visible = ({ object }) => !project.hidden.has(object);
  const masks = project.masksShown ? (project.masks.get(frame) ?? []).filter(visible) : [];
  const choosing = automatic.frame === frame && automatic.found.length > 0;
  return {
    bitmap,
    size: [project.width, project.height],
    // the active object lies on top
    masks: masks
      .filter(({ area }) => area !== 0)
      .sort((a, b) => (a.object === project.active) - (b.object === project.active)),
    marks: marksOn(project, frame).filter(visible),
    candidates: choosing ? automatic.found : [],
    hovered: choosing ? automatic.hovered : null,
    active: project.active,
  };
}

function marksOn(project, frame) {
  const marks = project.objects
    .map((object) => ({ object, ...project.prompt(frame, object) }))
    .filter(({ points, box }) => points.length || box);
  const waiting = project.pending.filter((mark) => mark.frame === frame);
  for (const { object, point, label } of waiting) {
    const known = project.prompt(frame, object).points.includes(point);
    if (!known) marks.push({ object, points: [point], labels: [label], box: null, pending: true });
  }
  return marks;
}
