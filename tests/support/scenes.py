"""Commands with an old result and a new one, and how a reader takes either: for tests of faults."""

from __future__ import annotations

import ctypes
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from fake_bundle import write_bundle
from faulty_commands import Commands, Ran
from hub_server import hub_of

from sam2rt.configs.bundle import Bundle
from sam2rt.plugins.cpu import library
from sam2rt.runtime.backends.engine_record import ENGINES, read_record

#: what a reader finds: every file's name and content, as far as it is one with each run
Found = dict[str, str]


def files_of(folder: Path, hidden: bool = True) -> Found:
    """Each file's hash by its name in the folder; a folder's is empty."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if hidden or not any(part.startswith(".") for part in name.parts):
            content = path.read_bytes() if path.is_file() else b""
            found[str(name)] = hashlib.sha256(content).hexdigest() if content else ""
    return found


def _visible(folder: Path) -> Found:
    return files_of(folder, hidden=False)


@dataclass
class Scene:
    """A command line that replaces a result in a folder."""

    commands: Commands
    #: all that the command writes lies here
    results: Path
    new: list[str | Path]
    #: makes the old result; None where there is none
    old: list[str | Path] | None = None
    #: what a reader finds in the folder; fails where that is not whole
    look: Callable[[Path], Found] = _visible
    #: whether the result is several files that are replaced one after the other
    several: bool = False
    #: the folder as it was, and as a reader finds it before and after
    before: Path = field(init=False)
    found: dict[str, Found] = field(init=False)
    #: every name after the command, hidden ones too
    names: list[str] = field(init=False)
    #: the command where nothing fails
    whole: Ran = field(init=False)

    def prepare(self) -> None:
        """Run both commands to their ends."""
        self.results.mkdir(exist_ok=True)
        if self.old is not None:
            self._succeeds(self.old)
        self.before = self.results.with_name("before")
        shutil.copytree(self.results, self.before, symlinks=True)
        old = self.look(self.results)
        self.whole = self._succeeds(self.new)
        self.found = {"old": old, "new": self.look(self.results)}
        self.names = list(files_of(self.results))
        assert old != self.found["new"]

    def _succeeds(self, arguments: list[str | Path]) -> Ran:
        ran = self.commands.run(arguments, self.results)
        assert (ran.code, ran.left) == (0, False), ran.err
        return ran

    def restore(self, source: Path | None = None) -> None:
        """The folder as it was before the command, or as it is in `source`."""
        shutil.rmtree(self.results)
        shutil.copytree(source or self.before, self.results, symlinks=True)

    def which(self, folder: Path | None = None) -> str:
        """Whether a reader finds the "old" or the "new" result; fails for anything else.

        "between" where several files are replaced, each of which is either.
        """
        seen = self.look(folder or self.results)
        for name, found in self.found.items():
            if found == seen:
                return name
        assert self.several, seen
        assert all(seen[n] in [found[n] for found in self.found.values()] for n in seen), seen
        return "between"

    def again(self) -> None:
        """The command succeeds, and leaves what it leaves where nothing fails."""
        self._succeeds(self.new)
        assert self.which() == "new"
        assert list(files_of(self.results)) == self.names
        temporary = self.commands.cwd / "tmp"
        assert [path.name for path in temporary.glob("*sam2rt*")] == []


def _clip(folder: Path) -> None:
    (folder / "clip").mkdir(parents=True)
    for t in range(2):
        frame = np.full((48, 64, 3), 40, np.uint8)
        frame[10:30, 10 + 4 * t : 34 + 4 * t] = (60, 190, 230)
        cv2.imwrite(str(folder / "clip" / f"{t}.png"), frame)


@contextmanager
def scene_of(name: str, commands: Commands, bundle: Bundle, weights: list[Path]) -> Iterator[Scene]:
    """The scene of a command; `weights`: two checkpoints of the smallest model.

    Everything lies in the folder of `commands`, emptied of other scenes.
    """
    folder = commands.cwd / "scene"
    shutil.rmtree(folder, ignore_errors=True)
    _clip(folder)
    commands.env.clear()
    commands.setup.clear()
    with ExitStack() as stack:
        scene = _SCENES[name](_Place(commands, folder, bundle, weights, stack))
        scene.prepare()
        yield scene


@dataclass
class _Place:
    commands: Commands
    folder: Path
    bundle: Bundle
    weights: list[Path]
    stack: ExitStack

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def scene(
        self,
        new: list[str | Path],
        old: list[str | Path] | None = None,
        look: Callable[[Path], Found] = _visible,
    ) -> Scene:
        return Scene(self.commands, self.results, new, old, look)


def _segment(at: _Place) -> Scene:
    line = ["segment", at.folder / "clip" / "0.png", "--bundle", at.bundle.path, "--threads", "1"]
    line += ["-q", "-o", at.results / "o.png"]
    return at.scene([*line, "--point", "20,20"], [*line, "--point", "50,40"])


def _masks(at: _Place) -> Scene:
    line = ["masks", at.folder / "clip" / "0.png", "--bundle", at.bundle.path, "--threads", "1"]
    line += ["-q", "-o", at.results / "o", "--points-per-side"]
    return at.scene([*line, "2"], [*line, "1"])


def _track(at: _Place) -> Scene:
    line = ["track", at.folder / "clip", "--bundle", at.bundle.path, "--threads", "1"]
    line += ["-q", "-o", at.results / "o"]
    return at.scene([*line, "--point", "20,20"], [*line, "--point", "50,40"])


def _export(at: _Place) -> Scene:
    def look(folder: Path) -> Found:
        return {"weights": Bundle.load(folder / "b").checkpoint_sha256}

    line = ["-o", at.results / "b", "--threads", "1", "-q"]
    return at.scene(["export", at.weights[0], *line], ["export", at.weights[1], *line], look)


def _report(folder: Path) -> Found:
    """A report, without what differs from run to run; records of videos are whole."""
    for part in folder.glob("r.json.videos/*.json"):
        assert json.loads(part.read_text()).keys() == {"key", "sha256", "record"}
    for image in folder.glob("masks/*/[!.]*.png"):
        assert cv2.imread(str(image), cv2.IMREAD_UNCHANGED) is not None
    data = json.loads((folder / "r.json").read_text())
    return {"score": str(data["J&F"]), "videos": str(data["videos"])}


def _eval(at: _Place) -> Scene:
    line = ["eval", "synthetic", "--bundle", at.bundle.path, "--threads", "1", "--processes", "1"]
    line += [
        "--frames",
        "3",
        "--json",
        at.results / "r.json",
        "--masks",
        at.results / "masks",
        "-q",
    ]
    return at.scene([*line, "--clips", "1"], [*line, "--clips", "1", "--seed", "5"], _report)


def _accuracy(at: _Place) -> Scene:
    """Bundles are there from the old run: exporting has a scene of its own."""

    def look(folder: Path) -> Found:
        for bundle in (folder / "work" / "bundles").glob("[!.]*"):
            Bundle.load(bundle)
        for part in folder.glob("work/records/*/[!.]*.json"):
            assert json.loads(part.read_text()).keys() == {"key", "sha256", "record"}
        for image in folder.glob("work/masks/*/*/[!.]*.png"):
            assert cv2.imread(str(image), cv2.IMREAD_UNCHANGED) is not None
        data = json.loads((folder / "work" / "accuracy.json").read_text())
        scores = {name: report["J&F"] for name, report in data["variants"].items()}
        emulated = {f"emulated {k}": v for k, v in _visible(folder / "work" / "emulated").items()}
        return {**_visible(folder / "docs"), **emulated, "scores": json.dumps(scores)}

    at.commands.setup.append(("faulty_setups:accuracy_of_two_precisions", []))
    line: list[str | Path] = ["accuracy", at.weights[0], "-o", at.results / "docs", "-q"]
    line += ["--work", at.results / "work", "--clips", "1", "--frames", "3", "--processes", "1"]
    scene = at.scene([*line, "--seed", "5"], line, look)
    scene.several = True
    return scene


def _build(at: _Place) -> Scene:
    """Engines by the double of TensorRT."""
    write_bundle(at.folder / "bundle")
    engines = at.folder / "bundle" / ENGINES

    def look(folder: Path) -> Found:
        (machine,) = (path for path in folder.iterdir() if not path.name.startswith("."))
        for engine in machine.glob("*.engine"):
            assert read_record(engine).sha256 == hashlib.sha256(engine.read_bytes()).hexdigest()
        return _visible(folder)

    at.commands.setup.append(("faulty_setups:tensorrt_double", [str(at.folder / "bundle")]))
    line = ["build", at.folder / "bundle", "-q", "--attention", "folded"]
    line += ["--max-objects"]
    return Scene(at.commands, engines, [*line, "2"], [*line, "1"], look)


def _fetched(folder: Path) -> Found:
    """What a download left under the names that are looked for."""
    found = {}
    for place in (folder / "hub" / "bundles").glob("[!.]*"):
        found["bundle"] = Bundle.load(place).generator
    for place in [*folder.glob("*.pt"), *folder.rglob("model.safetensors")]:
        found["checkpoint"] = hashlib.sha256(place.read_bytes()).hexdigest()
    return found


def _download(at: _Place) -> Scene:
    """A bundle of the hub."""
    served = at.folder / "served"
    write_bundle(served)
    return _downloaded(at, served, "someone/bundle")


def _download_checkpoint(at: _Place) -> Scene:
    """Weights of a repository without a bundle."""
    served = at.folder / "served"
    served.mkdir()
    (served / "model.safetensors").write_bytes(np.random.default_rng(0).bytes(3 << 20))
    return _downloaded(at, served, "someone/bundle")


def _download_official(at: _Place) -> Scene:
    """An official checkpoint, whose size and hash are known."""
    served = at.folder / "served"
    served.mkdir()
    content = np.random.default_rng(0).bytes(3 << 20)
    (served / "w.pt").write_bytes(content)
    scene = _downloaded(at, served, "sam2.1_hiera_tiny")
    url = f"{at.commands.env['HF_ENDPOINT']}/store/w.pt"
    known = [url, len(content), hashlib.sha256(content).hexdigest()]
    at.commands.setup.append(("faulty_setups:official_checkpoint", known))
    return scene


def _downloaded(at: _Place, served: Path, name: str) -> Scene:
    hub = at.stack.enter_context(hub_of(served))
    no_proxy = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), "")
    at.commands.env.update({"HF_ENDPOINT": hub.url, **no_proxy})
    return at.scene(["download", name, "-o", at.results, "-q"], look=_fetched)


def _train(at: _Place) -> Scene:
    def look(folder: Path) -> Found:
        import torch

        run = folder / "run"
        found: dict[str, Any] = {"state": 0, "weights": "", "recipe": "", "log": ""}
        if (run / "state.pt").exists():
            found["state"] = torch.load(run / "state.pt", weights_only=True)["step"]
        if (run / "recipe.json").exists():
            json.loads((run / "recipe.json").read_text())
        if (run / "weights.safetensors").exists():
            found["weights"] = hashlib.sha256(
                (run / "weights.safetensors").read_bytes()
            ).hexdigest()
        return {"state": str(found["state"]), "weights": found["weights"]}

    line = ["train", at.results / "run", "--model", "micro", "--threads", "1", "--images", "1"]
    line += ["--objects", "1", "-q", "--cool-down", "1", "--steps"]
    scene = at.scene([*line, "2"], [*line, "1"], look)
    scene.several = True
    return scene


def _bench(at: _Place) -> Scene:
    def look(folder: Path) -> Found:
        report = folder / "r.json"
        return {"report": str(json.loads(report.read_text())["schema"])} if report.exists() else {}

    line: list[str | Path] = ["bench", at.bundle.path, "--frames", "1", "--scored-frames", "0"]
    return at.scene([*line, "--threads", "1", "-q", "--json", at.results / "r.json"], None, look)


def _demo(at: _Place) -> Scene:
    def look(folder: Path) -> Found:
        found = {}
        if (folder / "o" / "work" / "bundle").is_dir():
            found["bundle"] = Bundle.load(folder / "o" / "work" / "bundle").checkpoint_sha256
        shown = _visible(folder / "o")
        return {**{k: v for k, v in shown.items() if not k.startswith("work/bundle")}, **found}

    line: list[str | Path] = ["-o", at.results / "o", "--frames", "2", "--threads", "1", "-q"]
    scene = at.scene(["demo", at.weights[0], *line], ["demo", at.weights[1], *line], look)
    scene.several = True
    return scene


def _plugins(at: _Place) -> Scene:
    """The operators for this processor, in the user's cache."""

    def look(folder: Path) -> Found:
        found = {}
        for file in folder.rglob("*.so"):
            if not file.name.startswith("."):
                assert library._refusal(file) == ""
                found["library"] = ctypes.CDLL(str(file)).sam2rt_cpu_identity.__name__
        return found

    at.commands.env["XDG_CACHE_HOME"] = str(at.results)
    return at.scene(["plugins", "--cpu", "-q"], None, look)


def _triton(at: _Place) -> Scene:
    line: list[str | Path] = ["triton", at.bundle.path, "-o", at.results / "r", "-q"]
    return at.scene(line, [*line, "--task", "image"])


_SCENES: dict[str, Callable[[_Place], Scene]] = {
    "segment": _segment, "masks": _masks, "track": _track, "export": _export, "eval": _eval,
    "build": _build, "download": _download, "download of weights": _download_checkpoint,
    "download of an official checkpoint": _download_official, "train": _train, "bench": _bench,
    "accuracy": _accuracy, "demo": _demo, "plugins": _plugins, "triton": _triton,
}  # fmt: skip
#: names of all scenes
SCENES = tuple(_SCENES)
