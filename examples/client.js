// Track an object through a video on a server, with Node.js (20.19 or newer), without a library.
//
//   sam2rt serve bundle
//   node examples/client.js clip.mp4 210,350 masks.json
//
// Without a video the server's sample is used. SERVER and TOKEN are read from the environment.

import { readFile, writeFile } from "node:fs/promises";

const [video, click = "128,128", output = "masks.json"] = process.argv.slice(2);
const server = process.env.SERVER ?? "http://127.0.0.1:8765";
const headers = process.env.TOKEN ? { Authorization: `Bearer ${process.env.TOKEN}` } : {};

async function ask(method, path, body) {
  const plain = body === undefined || body instanceof Uint8Array;
  const sent = plain ? body : JSON.stringify(body);
  const answer = await fetch(server + path, { method, headers, body: sent });
  // each error of the server is one line
  if (!answer.ok) throw new Error(`${answer.status}: ${(await answer.json()).error}`);
  return answer;
}

async function* lines(answer) {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const part of answer.body) {
    const found = (rest + decoder.decode(part, { stream: true })).split("\n");
    rest = found.pop();
    yield* found.map((line) => JSON.parse(line));
  }
}

async function main() {
  const source =
    video === undefined || video === "-"
      ? { sample: "shapes" }
      : { media: (await (await ask("POST", "/v1/media?name=clip", await readFile(video))).json()).media };
  const { session } = await (await ask("POST", "/v1/sessions", source)).json();
  const at = `/v1/sessions/${session}`;

  const prompt = { frame: 0, object: 1, points: [click.split(",").map(Number)], labels: [1] };
  const first = await (await ask("POST", `${at}/prompts`, prompt)).json();
  console.log(`frame 0: ${first.objects[0].area} pixels`);

  for await (const line of lines(await ask("POST", `${at}/propagate`, {}))) {
    if ("end" in line) console.log(`${line.end}: ${line.done} of ${line.total} frames`);
    else console.log(`frame ${line.frame}: [${line.objects.map((item) => item.area)}] pixels`);
  }

  const result = await ask("GET", `${at}/masks.json`);
  await writeFile(output, new Uint8Array(await result.arrayBuffer()));
  console.log(`written to ${output}`);
  await ask("DELETE", at);
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
