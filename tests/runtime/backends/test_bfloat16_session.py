"""bf16 bundles on ONNX Runtime's CPU: the variants with operators of ours, proved as they run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cpu_operators as cpu
import numpy as np
import pytest
from bundles import SharedBundles
from click.testing import CliRunner
from exported import random_inputs

from sam2rt import Bundle, ImagePredictor, InputError, SessionError, StreamTracker
from sam2rt.cli.main import command_group
from sam2rt.configs.graphs import CPU, engine_specs, variant_name
from sam2rt.export.verify import verify_bundle
from sam2rt.plugins.cpu import library
from sam2rt.runtime.backends.bfloat16_session import Bfloat16Session, has_cpu_variants
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession
from sam2rt.runtime.backends.open import open_session
from sam2rt.runtime.backends.usable import usable_backends
from sam2rt.runtime.tasks.doctor import doctor

SIZES = {"M": 7, "K": 16, "N": 3, "I": 1, "G": 1, "B": 1, "P": 3}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[library.CpuLibrary]:
    """The operators in a cache of the tests' own."""
    cpu.require_units()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield library.build()


@pytest.fixture(scope="module")
def variants(shared_bundles: SharedBundles) -> Bundle:
    return shared_bundles.built_in(precision="bf16", seed=1, cpu_variants=True)


def _inputs(bundle: Bundle, graph: str, **sizes: int) -> dict[str, Any]:
    spec = bundle.graphs[graph].spec
    return random_inputs(spec, 3, bundle.model.image_size, **{**SIZES, **sizes})


def test_the_bundle_carries_a_variant_of_each_separate_graph(variants: Bundle) -> None:
    names = {variant_name(graph, CPU) for graph in engine_specs(variants.model)}
    assert names <= set(variants.graphs)
    assert has_cpu_variants(variants)
    # what is proved at export is the graphs that every machine has
    assert variants.proof["emulated"] is True


@pytest.mark.parametrize("graph", ["image_encoder", "memory_attention", "memory_encoder"])
def test_it_answers_in_bfloat16(
    compiled: library.CpuLibrary, variants: Bundle, shared_bundles: SharedBundles, graph: str
) -> None:
    """As near to float32 as eight bits of mantissa are, and no nearer."""
    exact = shared_bundles.built_in(precision="fp32", seed=0)
    inputs = _inputs(variants, graph)
    with (
        OnnxRuntimeSession(exact, threads=1) as one,
        open_session(variants, threads=1) as two,
    ):
        assert isinstance(two, Bfloat16Session)
        expected, found = one.run(graph, inputs), two.run(graph, inputs)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        scale = np.abs(array).max()
        assert 2e-6 * scale < np.abs(found[name] - array).mean() < 5e-3 * scale, name


def test_int8_has_an_encoder_of_its_own(
    compiled: library.CpuLibrary, variants: Bundle, shared_bundles: SharedBundles
) -> None:
    """Its dense layers are int8, attentions bfloat16; every other graph has the bits of bf16's."""
    mixed = shared_bundles.built_in(precision="int8", seed=1, cpu_variants=True)
    plain = shared_bundles.built_in(precision="int8", seed=1)
    exact = shared_bundles.built_in(precision="fp32", seed=0)
    with (
        open_session(variants, threads=1) as bf16,
        open_session(mixed, threads=1) as session,
        open_session(plain, threads=1) as int8,
        open_session(exact, threads=1) as fp32,
    ):
        assert isinstance(session, Bfloat16Session)
        assert not isinstance(int8, Bfloat16Session)
        for graph in ("memory_attention", "memory_encoder", "mask_decoder", "mask_prompt"):
            inputs = _inputs(variants, graph)
            one, two = bf16.run(graph, inputs), session.run(graph, inputs)
            assert all(np.array_equal(one[name], two[name]) for name in one), graph
        inputs = _inputs(variants, "image_encoder")
        of_int8, of_both, of_bf16, of_fp32 = (
            s.run("image_encoder", inputs)["image_embed"] for s in (int8, session, bf16, fp32)
        )

    def mean(array: Any) -> float:
        return float(np.abs(array - of_fp32).mean() / np.abs(of_fp32).max())

    # rounding attentions changes bits, and adds little to what eight bits lose
    assert not np.array_equal(of_both, of_int8)
    assert mean(of_bf16) < 0.5 * mean(of_int8)
    assert 0.5 * mean(of_int8) < mean(of_both) < 2 * mean(of_int8)


def test_int8_is_proved_on_the_arithmetic_that_runs(
    compiled: library.CpuLibrary, shared_bundles: SharedBundles
) -> None:
    mixed = shared_bundles.built_in(precision="int8", seed=1, cpu_variants=True)
    plain = shared_bundles.built_in(precision="int8", seed=1)
    # at export, what other machines run; here, the variants
    assert mixed.proof["outputs"] == plain.proof["outputs"]
    outcome = verify_bundle(mixed.path, threads=1)
    assert outcome["emulated"] is False
    assert outcome["outputs"] != mixed.proof["outputs"]


def test_objects_of_a_call_have_the_bits_they_have_alone(
    compiled: library.CpuLibrary, variants: Bundle
) -> None:
    inputs = _inputs(variants, "memory_attention")
    with open_session(variants, threads=1) as one, open_session(variants, threads=2) as two:
        (together,) = one.run("memory_attention", inputs).values()
        assert len(together) == 3
        for i in range(3):
            own = {k: a if len(a) == 1 else a[i : i + 1] for k, a in inputs.items()}
            (alone,) = two.run("memory_attention", own).values()
            assert np.array_equal(alone, together[i : i + 1])


def test_no_pointer_and_one_memory(compiled: library.CpuLibrary, variants: Bundle) -> None:
    with open_session(variants, threads=1) as session:
        inputs = _inputs(variants, "memory_attention", N=1, M=1, K=0)
        (found,) = session.run("memory_attention", inputs).values()
    assert np.isfinite(found).all()


def test_what_is_proved_is_what_runs(compiled: library.CpuLibrary, variants: Bundle) -> None:
    outcome = verify_bundle(variants.path, threads=1)
    assert outcome["emulated"] is False
    assert (outcome["backend"], outcome["device"]) == ("onnxruntime", "cpu")
    outputs = outcome["outputs"]
    encoder = outputs["image_encoder.image_embed"]
    assert 5e-5 < encoder["max"] / encoder["scale"] < 5e-3
    # the decoder and mask prompts are float32
    logits = outputs["mask_decoder.mask_logits"]
    assert logits["max"] < 1e-5 * logits["scale"]
    assert outputs["mask_prompt.mask_input"]["max"] == 0
    assert outcome["clip"]["lowest_iou"] > 0.97


def test_it_tracks_as_the_proof_says(
    compiled: library.CpuLibrary, variants: Bundle, shared_bundles: SharedBundles
) -> None:
    exact = shared_bundles.built_in(precision="fp32", seed=0)
    frames = np.random.default_rng(0).integers(0, 60, (4, 120, 160, 3)).astype(np.uint8)
    for i, frame in enumerate(frames):
        frame[40:80, 50 + 4 * i : 90 + 4 * i] = (200, 60, 40)
    masks = []
    for bundle in (exact, variants):
        with StreamTracker(bundle, threads=1) as tracker:
            tracker.add_points(obj_id=1, points=[[70, 60]], labels=[1])
            masks.append([tracker.step(frame).masks[0] for frame in frames])
    for one, other in zip(*masks, strict=True):
        assert one.any()
        assert (one & other).sum() > 0.97 * (one | other).sum()


def test_without_the_operators_it_is_refused_in_one_line(
    variants: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "units_here", lambda: ("avx512_bf16",))
    monkeypatch.setattr(library.platform, "system", lambda: "Linux")
    with pytest.raises(SessionError) as refused:
        ImagePredictor(variants)
    import onnxruntime

    assert str(refused.value) == (
        f"onnxruntime {onnxruntime.__version__} cannot run the bf16 bundle {variants.path} on the "
        "CPU (the operators for bfloat16 are not compiled on this machine): run 'sam2rt plugins "
        "--cpu'"
    )
    place = next(iter(usable_backends(variants)))
    assert place.remedy == "run 'sam2rt plugins --cpu'"
    # the proof of the graphs for other machines goes on
    assert verify_bundle(variants.path, threads=1)["emulated"] is True


def test_without_units_it_is_refused(variants: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "units_here", lambda: ())
    monkeypatch.setattr(library.platform, "system", lambda: "Linux")
    with pytest.raises(SessionError, match=r"no units for bfloat16 .*: use an fp32 bundle$"):
        open_session(variants)


def test_the_fused_graph_is_not_of_it(compiled: library.CpuLibrary, variants: Bundle) -> None:
    with open_session(variants, threads=1) as session:
        assert not session.fused
        with pytest.raises(InputError, match="unknown graph 'track_step': expected one of image_"):
            session.run("track_step", {})


def test_doctor_says_which_units_run(compiled: library.CpuLibrary, variants: Bundle) -> None:
    found = {finding.topic: finding for finding in doctor(variants.path)}
    assert (found["bf16 on the CPU"].status, found["runs on onnxruntime cpu"].text) == ("ok", "yes")
    name = library.UNITS[compiled.units]
    text = found["bf16 on the CPU"].text
    assert text.endswith(f"; operators {compiled.identity[:12]} run on {name}")


def test_the_command_compiles_and_says_where(tmp_path: Path) -> None:
    cpu.require_units()
    done = CliRunner(env={"XDG_CACHE_HOME": str(tmp_path)}).invoke(
        command_group(), ["plugins", "--cpu"]
    )
    assert done.exit_code == 0, done.output
    (file,) = tmp_path.rglob("*.so")
    units = library.UNITS[library.units_here()[0]]
    assert done.stdout == f"operators {library.identity()[:12]} run on {units}: {file}\n"
