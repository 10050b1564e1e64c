"""Many clips as a step of a Ray Data pipeline: python ray_pipeline.py BUNDLE CLIPS.jsonl OUT"""

import json
import os
import sys
from pathlib import Path

# before Ray reads it: no request leaves the machine
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray

import sam2rt


def main(bundle: str, manifest: str, out: str) -> None:
    ray.init(include_dashboard=False, log_to_driver=False)
    folder = Path(manifest).resolve().parent
    lines = [json.loads(line) for line in Path(manifest).read_text(encoding="utf-8").splitlines()]
    # prompts as text: a column of Ray has one type, and prompts have many forms
    rows = [
        {"clip": str(folder / line["clip"]), "prompts": json.dumps(line["prompts"])}
        for line in lines
    ]
    clips = ray.data.from_items(rows, override_num_blocks=len(rows))
    # one row is one clip: its frames stay in the actor that tracks them
    done = clips.map_batches(
        sam2rt.ray.Tracker,
        batch_size=1,
        concurrency=2,
        fn_constructor_kwargs={
            "bundle": str(Path(bundle).resolve()),
            "out": str(Path(out).resolve()),
            "threads": 1,
        },
    )
    for row in done.iter_rows():
        print(f"{Path(row['clip']).name}: {row['error'] or str(row['frames']) + ' frames'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
