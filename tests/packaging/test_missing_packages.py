"""Every command in every set of packages succeeds, or says in one line what to install."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from bundles import SharedBundles
from hidden_modules import Said, hiding, run_commands

from sam2rt.cli.main import command_group
from sam2rt.configs.extras import EXTRAS, missing_extra

ROOT = Path(__file__).resolve().parents[2]
_PROJECT = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text())["project"]
_EXTRAS: dict[str, list[str]] = _PROJECT["optional-dependencies"]


def _distributions(extra: str) -> set[str]:
    """What an extra installs, those that it includes too; names alone."""
    found = set()
    for line in _EXTRAS[extra]:
        name = re.split(r"[\[<>=;~! ]", line)[0].lower().replace("_", "-")
        inner = re.match(r"sam2rt\[([\w,]+)\]", line)
        if inner:
            found |= set().union(*(_distributions(other) for other in inner[1].split(",")))
        else:
            found.add("onnxruntime" if name == "onnxruntime-gpu" else name)
            # a package of no files of its own
            found |= {"cuda-python"} if name == "cuda-bindings" else set()
    return found


def _hidden(*extras: str) -> set[str]:
    """Modules of optional packages that those extras leave out."""
    installed = set().union(*(_distributions(extra) for extra in extras)) if extras else set()
    return {m for m, (name, _) in EXTRAS.items() if name.lower().replace("_", "-") not in installed}


def test_the_table_names_extras_that_install_the_package() -> None:
    for module, (distribution, extra) in EXTRAS.items():
        assert distribution.lower().replace("_", "-") in _distributions(extra), module


def _requirements(extra: str) -> list[str]:
    """The lines of an extra, with those of the extras that it includes."""
    found = []
    for line in _EXTRAS[extra]:
        inner = re.match(r"sam2rt\[([\w,]+)\]", line)
        included = inner[1].split(",") if inner else []
        found += [deep for other in included for deep in _requirements(other)]
        found += [] if inner else [line]
    return found


def _runtimes(*extras: str) -> set[str]:
    lines = [line for extra in extras for line in _requirements(extra)]
    return {name for line in lines if (name := re.split(r"[\[<>=]", line)[0]) in _RUNTIMES}


#: distributions that install a module ``onnxruntime``
_RUNTIMES = {"onnxruntime", "onnxruntime-gpu"}


def test_no_extra_brings_a_second_onnxruntime_beside_cpu_or_gpu() -> None:
    """pip installs both without a word, and the later one's files lie over the other's."""
    assert _runtimes("cpu", "dev") == {"onnxruntime"}
    for extra in set(_EXTRAS) - {"cpu", "gpu", "dev"}:
        assert _runtimes(extra) == set(), extra
        assert _runtimes(extra, "cpu") == {"onnxruntime"}
        assert _runtimes(extra, "gpu") == {"onnxruntime-gpu"}


def test_what_the_extras_promise() -> None:
    gpu = next(line for line in _requirements("gpu") if line.startswith("onnxruntime-gpu"))
    # what our own error asks for; before 1.21 there were no such extras, nor preload_dlls
    assert gpu == "onnxruntime-gpu[cuda,cudnn]>=1.21"
    (native,) = [line for line in _requirements("tensorrt") if line.startswith("tensorrt")]
    from sam2rt.runtime.backends.tensorrt_library import OLDEST

    assert native == f"tensorrt>={OLDEST[0]}.{OLDEST[1]},<12"


def test_install_lines_name_extras_that_go_together() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "".join(page.read_text() for page in pages)
    lines = set(re.findall(r"(?:sam2rt|\.)\[([\w,]+)\]", text))
    assert {"export,cpu", "cpu", "gpu", "tensorrt"} <= lines
    for line in lines:
        extras = line.split(",")
        assert set(extras) <= set(_EXTRAS), line
        assert len(_runtimes(*extras)) <= 1, line
        # an export is proved, which takes a runtime
        assert "export" not in extras or len(_runtimes(*extras)) == 1, line
    assert "Install its CPU build first" in (ROOT / "docs" / "install.md").read_text()


def test_a_package_that_does_not_load_is_not_called_missing() -> None:
    broken = ImportError("libGL.so.1: cannot open shared object file", name="cv2")
    assert str(missing_extra("video", broken)) == (
        "video needs the package 'opencv-python-headless', which is installed and does not load "
        "(libGL.so.1: cannot open shared object file): install what it lacks, or "
        "opencv-python-headless again"
    )
    assert missing_extra("video", ModuleNotFoundError("no", name="sam2rt.none")) is None


def test_public_names_of_the_exporter_name_the_extra(tmp_path: Path) -> None:
    code = (
        "import sam2rt\ntry:\n    sam2rt.bundle_for\n"
        "except sam2rt.MissingExtraError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=hiding({"torch", "onnx"}, tmp_path),
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == (
        "sam2rt.bundle_for needs the package 'onnx': pip install 'sam2rt[export]'\n",
        "",
    )


@pytest.fixture(scope="module")
def files(shared_bundles: SharedBundles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands below take: a bundle, an image, a clip, a dataset."""
    folder = tmp_path_factory.mktemp("files")
    shutil.copytree(shared_bundles.built_in(seed=0, precision="fp32").path, folder / "bundle")
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    pixels = cv2.GaussianBlur(noise, (9, 9), 0)
    cv2.imwrite(str(folder / "p.png"), pixels)
    data = folder / "davis"
    clip, truth = data / "JPEGImages/480p/a", data / "Annotations/480p/a"
    for made in (clip, truth, data / "ImageSets/2017"):
        made.mkdir(parents=True)
    (data / "ImageSets/2017/val.txt").write_text("a\n")
    mask = np.zeros((60, 80), np.uint8)
    mask[10:30, 10:40] = 1
    for t in range(3):
        cv2.imwrite(str(clip / f"{t:05d}.jpg"), np.roll(pixels, t, axis=1))
        cv2.imwrite(str(truth / f"{t:05d}.png"), mask)
    return folder


_BENCH = ("bench", "bundle", "--frames", "1", "--memories", "1", "--pointers", "1")
_POINT = ("--point", "30,30")
_CLIP = "davis/JPEGImages/480p/a"
#: a command line that is right, by the command's name, and the top-level modules that it needs
_MEDIA, _RUN = {"click", "cv2", "PIL"}, {"click", "onnxruntime", "cv2", "PIL", "pycocotools"}
_EXPORT = {"click", "torch", "onnx", "onnx_ir", "onnxscript", "ml_dtypes", "safetensors"}
_SERVE = {"starlette", "uvicorn", "websockets", "python_multipart", "prometheus_client", "graphql"}
_RIGHT: tuple[tuple[tuple[str, ...], set[str]], ...] = (
    (("download", "someone/none"), {"a network"}),
    (("export", "sam2rt_micro", "-o", "made"), _EXPORT | {"onnxruntime"}),
    (("verify", "bundle"), {"click", "onnxruntime", "PIL"}),
    (("verify", "bundle", "--checkpoint", "sam2rt_micro"), {"torch", "safetensors", "onnxruntime"}),
    (("inspect", "bundle"), {"click"}),
    (("build", "bundle"), {"tensorrt"}),
    (("segment", "p.png", "--bundle", "bundle", *_POINT, "-o", "s"), _RUN),
    (("masks", "p.png", "--bundle", "bundle", "-o", "m", "--points-per-side", "2"), _RUN),
    (("track", "davis/JPEGImages/480p/a", "--bundle", "bundle", *_POINT, "-o", "t"), _RUN),
    (("track-many", _CLIP, "--bundle", "bundle", *_POINT, "-o", "tm"), _RUN),
    (("track-many", _CLIP, "--bundle", "bundle", *_POINT, "-o", "r", "--ray", "local"), {"ray"}),
    (("track-many", "davis/JPEGImages/480p/a", "--bundle", "bundle", *_POINT, "-o", "n"), _RUN),
    (("serve", "bundle", "--port", "0"), _SERVE),
    (("triton", "bundle", "-o", "repository"), {"click"}),
    (("train", "trained", "--steps", "1", "--images", "1"), {"torch", "safetensors", "cv2"}),
    (("eval", "davis", "--bundle", "bundle", "--prompt", "click"), {"click", "onnxruntime", "PIL"}),
    (("eval", "synthetic", "--clips", "1", "--frames", "3"), _EXPORT | {"cv2", "onnxruntime"}),
    (
        ("accuracy", "sam2rt_micro", "-o", "a", "--work", "w", "--clips", "1"),
        _EXPORT | {"cv2", "onnxruntime"},
    ),
    ((*_BENCH, "--scored-frames", "0"), {"click", "onnxruntime", "PIL"}),
    ((*_BENCH, "--checkpoint", "sam2rt_micro"), {"torch", "safetensors", "onnxruntime"}),
    ((*_BENCH, "--ablate", "all", "--checkpoint", "sam2rt_micro"), _EXPORT | {"onnxruntime"}),
    ((*_BENCH, "--plot", "plot.png"), {"matplotlib", "onnxruntime"}),
    (("demo", "-o", "d", "--frames", "2"), _EXPORT | {"cv2", "onnxruntime"}),
    (("doctor", "bundle"), {"click"}),
    (("plugins",), {"click"}),
)
#: those that take long; they run where something they need is missing
_LONG = {"export", "train", "accuracy", "bench", "demo", "download", "serve"}


def test_every_command_has_a_line() -> None:
    assert {words[0] for words, _ in _RIGHT} == set(command_group().commands)


def _wrong() -> list[tuple[str, ...]]:
    """Each command with an option it does not have, and with a name that nothing has."""
    group = command_group()
    there = {"-o", "--bundle"}
    lines: list[tuple[str, ...]] = [("--nope",), ("nope",)]
    for name, command in group.commands.items():
        given: tuple[str, ...] = ()
        for option in (o for p in command.params for o in p.opts if p.required):
            given += (option, "none") if option in there else ("none",)
        if name == "train":  # the folder's name is free
            given += ("--model", "none")
        lines += [(name, "--nope"), (name, *given)] if given else [(name, "--nope")]
    return lines


def _one_line_or_success(words: tuple[str, ...], said: Said) -> None:
    assert said.code is not None, f"{words}: {said.err}"
    assert "Traceback" not in said.out + said.err, f"{words}: {said.err}"
    if said.code:
        assert said.err.count("\n") == 1, f"{words}: {said.err}"
        assert said.err.startswith("sam2rt: "), f"{words}: {said.err}"


_SETS = {
    "none": (),
    "media": ("media",),
    "cpu": ("cpu",),
    "tensorrt": ("tensorrt",),
    "export": ("export", "cpu"),
    "export without a runtime": ("export",),
}
#: a set that lost one package, as upgrades leave it
_ONE = {
    f"all but {module}": {module}
    for module in ("torch", "onnx_ir", "safetensors", "websockets", "python_multipart")
}


@pytest.mark.parametrize("hidden", [*_SETS, *_ONE])
def test_commands_say_in_one_line_what_they_lack(hidden: str, files: Path, tmp_path: Path) -> None:
    away = _ONE[hidden] if hidden in _ONE else _hidden(*_SETS[hidden])
    chosen = [
        (words, needs & away)
        for words, needs in _RIGHT
        if needs & away or (words[0] not in _LONG and hidden in _SETS and "tensorrt" not in needs)
    ]
    lines = [words for words, _ in chosen] + (_wrong() if hidden in _SETS else [])
    environment = {**hiding(away, tmp_path), "SAM2RT_CACHE": str(tmp_path / "cache")}
    environment["OMP_NUM_THREADS"] = "1"
    for name in ("bundle", "davis", "p.png"):
        (tmp_path / name).symlink_to(files / name)
    found = run_commands(lines, environment, tmp_path)
    assert len(found) == len(lines)
    for words, said in zip(lines, found, strict=True):
        _one_line_or_success(words, said)
    if "click" in away:
        line = "sam2rt: the command line needs the package 'click': pip install 'sam2rt[media]'\n"
        assert {said.err for said in found} == {line}
        return
    for (words, lacking), said in zip(chosen, found, strict=False):
        names = [f"'{EXTRAS[m][0]}': pip install 'sam2rt[{EXTRAS[m][1]}]'" for m in lacking]
        if names:
            assert said.code == 1, words
            assert any(name in said.err for name in names), f"{words}: {said.err}"
        else:
            assert said.code == 0, f"{words}: {said.err}"
