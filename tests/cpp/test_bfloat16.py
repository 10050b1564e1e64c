"""bf16 bundles with variants for CPUs in C++: the bits of Python, and its words of refusal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cpp_cases
import cpu_operators as cpu
import numpy as np
import pytest
from bundles import SharedBundles
from cpp_build import built, program, require_toolchain, run
from cpp_library import Failed, Library

from sam2rt import SessionError
from sam2rt.configs.bundle import Bundle, write_manifest
from sam2rt.configs.graphs import CPU, variant_name
from sam2rt.plugins.cpu import library as operators
from sam2rt.runtime.backends.bfloat16_session import Bfloat16Session
from sam2rt.runtime.backends.open import open_session

pytestmark = pytest.mark.slow

SESSION = -5


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[operators.CpuLibrary]:
    """The operators in a cache of the tests' own."""
    require_toolchain()
    cpu.require_units()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield operators.build()


@pytest.fixture(scope="module")
def variants(shared_bundles: SharedBundles) -> Bundle:
    return shared_bundles.built_in(precision="bf16", seed=1, cpu_variants=True)


def _clip(count: int) -> np.ndarray:
    """[count, 96, 128, 3] uint8: two bright squares that move over noise."""
    frames = np.random.default_rng(5).integers(0, 60, (count, 96, 128, 3), np.uint8)
    for t in range(count):
        frames[t, 20 + t : 50 + t, 10 + 2 * t : 40 + 2 * t] = (200, 40, 40)
        frames[t, 50:80, 90 - t : 115 - t] = (40, 220, 60)
    return frames


#: frame, object, prompt: two objects from the first frame on, one more later
PROMPTS = [
    (0, 1, {"points": [[25, 35]], "labels": [1]}),
    (0, 2, {"box": [88, 48, 117, 82]}),
]


def _replay(kind: str, bundle: Bundle, cases: list[Path], threads: int = 1) -> None:
    command = [str(program(kind, "replay")), str(bundle.path), str(threads), *map(str, cases)]
    cache = os.environ["XDG_CACHE_HOME"]
    assert run(command, XDG_CACHE_HOME=cache).count("ok ") == len(cases)


@pytest.mark.parametrize("kind", ["release", "asan"])
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_it_has_the_bits_of_python(
    kind: str,
    precision: str,
    compiled: operators.CpuLibrary,
    shared_bundles: SharedBundles,
    tmp_path: Path,
) -> None:
    """Memories grow from none to all of them, of two objects; forward, in reverse, and live."""
    variants = shared_bundles.built_in(precision=precision, seed=1, cpu_variants=True)
    frames = _clip(12)
    with open_session(variants, threads=1) as session:
        assert isinstance(session, Bfloat16Session)
        cases = [
            cpp_cases.python_video(
                tmp_path / "video", session, frames, PROMPTS, fill_hole_area=0, reverse_from=6
            ),
            cpp_cases.python_stream(
                tmp_path / "stream", session, frames, PROMPTS, fill_hole_area=0
            ),
            cpp_cases.python_batch(
                tmp_path / "batch", session, [frames[0], frames[5]],
                [[{"points": [[25, 35]], "labels": [1]}]] * 2,
            ),
        ]  # fmt: skip
    _replay(kind, variants, cases)


def test_threads_change_no_bit(
    compiled: operators.CpuLibrary, variants: Bundle, tmp_path: Path
) -> None:
    frames = _clip(4)
    with open_session(variants, threads=1) as session:
        case = cpp_cases.python_stream(
            tmp_path / "stream", session, frames, PROMPTS, fill_hole_area=0
        )
    _replay("release", variants, [case], threads=2)


def test_it_is_bfloat16_and_no_other_precision(
    compiled: operators.CpuLibrary, variants: Bundle, tmp_path: Path, shared_bundles: SharedBundles
) -> None:
    """The same clip through the float32 bundle has other bits."""
    with open_session(variants, threads=1) as session:
        case = cpp_cases.python_stream(
            tmp_path / "stream", session, _clip(4), PROMPTS, fill_hole_area=0
        )
    command = [str(program("release", "replay"))]
    with pytest.raises(pytest.fail.Exception):
        run([*command, str(shared_bundles.built_in(seed=0).path), "1", str(case)])


def test_weights_in_a_store_are_handed_over(
    compiled: operators.CpuLibrary, variants: Bundle, tmp_path: Path
) -> None:
    """Each file a link into a folder of its own: ONNX Runtime opens no such weights itself."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for number, file in enumerate(sorted(variants.path.iterdir())):
        store = tmp_path / "store" / str(number)
        store.mkdir(parents=True)
        shutil.copy(file, store / file.name)
        (linked / file.name).symlink_to(store / file.name)
    with open_session(variants, threads=1) as session:
        case = cpp_cases.python_stream(
            tmp_path / "stream", session, _clip(3), PROMPTS, fill_hole_area=0
        )
    _replay("release", Bundle.load(linked), [case])


def test_int8_is_refused_in_pythons_words(
    library: Library,
    compiled: operators.CpuLibrary,
    shared_bundles: SharedBundles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mixed = shared_bundles.built_in(precision="int8", seed=1, cpu_variants=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert f"cannot run the int8 bundle {mixed.path} on the CPU" in _refused(library, mixed)


def _refused(library: Library, bundle: Bundle) -> str:
    """What both say; the same words."""
    operators._loaded.cache_clear()
    with pytest.raises(SessionError) as expected:
        open_session(bundle)
    with pytest.raises(Failed) as found:
        library.session(library.bundle(bundle.path))
    assert (found.value.status, str(found.value)) == (SESSION, str(expected.value))
    return str(found.value)


def _sealed(content: bytes) -> bytes:
    """The content, ending as a whole library does."""
    return content + operators._sealed(content)


@pytest.mark.parametrize(
    "found",
    ["nothing", "half", "for everybody", "no library", "another library", "other sources"],
)
def test_what_is_missing_is_said_in_pythons_words(
    library: Library,
    compiled: operators.CpuLibrary,
    variants: Bundle,
    found: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = operators.library_path()
    path.parent.mkdir(parents=True)
    whole, wanted = compiled.path.read_bytes(), operators.identity().encode()
    assert whole.count(wanted) == 1
    contents = {
        "half": whole[: len(whole) // 2],
        "for everybody": whole,
        "no library": _sealed(b"no library"),
        "another library": _sealed((built() / "libsam2rt.so").read_bytes()),
        "other sources": _sealed(whole[: -len(_sealed(b""))].replace(wanted, b"f" * 64)),
    }
    if found in contents:
        path.write_bytes(contents[found])
        path.chmod(0o646 if found == "for everybody" else 0o644)
    message = _refused(library, variants)
    said = {
        "nothing": "the operators for bfloat16 are not compiled on this machine",
        "half": f"cannot load the operators {path} (it is not whole)",
        "for everybody": f"(everybody may write to {path}: take that right away)",
        "no library": f"cannot load the operators {path} ({path}: ",
        "another library": "undefined symbol: sam2rt_cpu_identity",
        "other sources": f"expected {operators.identity()[:12]}, found {'f' * 12}",
    }[found]
    assert said in message
    assert message.endswith("): run 'sam2rt plugins --cpu'")


def test_a_bundle_that_lacks_a_variant_runs_none(
    library: Library, variants: Bundle, tmp_path: Path
) -> None:
    shutil.copytree(variants.path, tmp_path / "bundle")
    copy = Bundle.load(tmp_path / "bundle")
    graphs = {k: v for k, v in copy.graphs.items() if k != variant_name("mask_prompt", CPU)}
    write_manifest(replace(copy, graphs=graphs))
    with pytest.raises(Failed, match="has no kernels for it"):
        library.session(library.bundle(copy.path))
