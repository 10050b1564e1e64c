"""The native TensorRT session on a GPU of host memory."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam2rt.configs.bundle import Bundle, file_sha256
from sam2rt.configs.errors import BundleError, InputError, SessionError
from sam2rt.configs.graphs import engine_specs
from sam2rt.runtime.backends import tensorrt_session as trt
from sam2rt.runtime.backends.engine_record import ENGINES, read_record, write_record
from sam2rt.runtime.gpu.tensor import DeviceTensor

pytest.importorskip("cuda.bindings.runtime")

from fake_cuda import FakeCuda
from fake_tensorrt import MACHINE, Context, Engine, Strategy, compute, write_engines
from tensorrt_bindings_stub import VERSIONS, declared_api
from trt_session import assert_same, bundle_with_engines, graph_inputs, stand_in_gpu


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_with_engines(tmp_path)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> FakeCuda:
    return stand_in_gpu(monkeypatch, bundle)


def test_every_graph_gives_what_its_engine_computes(bundle: Bundle, gpu: FakeCuda) -> None:
    with trt.TensorRTSession(bundle) as session:
        for name, spec in engine_specs(bundle.model).items():
            for seed, sizes in enumerate(
                [{}, {"N": 2}, {"N": 2, "I": 2, "G": 2, "M": 1, "K": 0, "P": 0, "B": 2}]
            ):
                inputs = graph_inputs(spec, seed, **sizes)
                assert_same(session.run(name, inputs), compute(spec, inputs))
    assert gpu.allocated == {}


def test_results_do_not_change_when_the_next_frame_runs(bundle: Bundle, gpu: FakeCuda) -> None:
    spec = bundle.graphs["mask_decoder"].spec
    with trt.TensorRTSession(bundle) as session:
        first = session.run("mask_decoder", graph_inputs(spec, 1))
        kept = {name: array.copy() for name, array in first.items()}
        session.run("mask_decoder", graph_inputs(spec, 2))
        assert_same(first, kept)


def test_embeddings_stay_on_the_device(bundle: Bundle, gpu: FakeCuda) -> None:
    encoder, memory = (bundle.graphs[n].spec for n in ("image_encoder", "memory_encoder"))
    with trt.TensorRTSession(bundle) as session:
        images = graph_inputs(encoder, 1)
        expected = compute(encoder, images)["image_embed"]
        embed = session.run("image_encoder", images)["image_embed"]
        assert isinstance(embed, DeviceTensor)
        inputs = graph_inputs(memory)
        uploads = gpu.calls.count("cudaMemcpyAsync")
        found = session.run("memory_encoder", {**inputs, "image_embed": embed})
        assert_same(found, compute(memory, {**inputs, "image_embed": expected}))
        # four inputs in, one output aside, and the download that the comparison asked for
        assert gpu.calls.count("cudaMemcpyAsync") - uploads == 6
        # another frame does not change what is still looked at
        session.run("image_encoder", graph_inputs(encoder, 2))
        np.testing.assert_array_equal(np.asarray(embed), expected)
        with pytest.raises(ValueError, match="read-only"):
            np.asarray(embed)[...] = 0


def test_a_run_whose_outputs_stay_does_not_wait_for_the_gpu(bundle: Bundle, gpu: FakeCuda) -> None:
    encoder, memory = (bundle.graphs[n].spec for n in ("image_encoder", "memory_encoder"))

    def waits() -> int:
        return gpu.calls.count("cudaStreamSynchronize")

    with trt.TensorRTSession(bundle) as session:
        embed = session.run("image_encoder", graph_inputs(encoder))["image_embed"]
        assert waits() == 0
        inputs = {**graph_inputs(memory), "image_embed": embed}
        first = session.run("memory_encoder", inputs)
        assert waits() == 0
        # the pinned arrays that inputs come through may still be read by the copies before
        session.run("memory_encoder", {**inputs, "binarize": ~inputs["binarize"]})
        assert waits() == 1
        expected = compute(memory, {**inputs, "image_embed": np.asarray(embed)})
        assert_same(first, expected)


def test_tensors_of_another_thread_are_waited_for(bundle: Bundle, gpu: FakeCuda) -> None:
    """Its stream makes them, and its pool takes them back when they are let go of."""
    encoder, memory = (bundle.graphs[n].spec for n in ("image_encoder", "memory_encoder"))
    made: list[DeviceTensor] = []
    with trt.TensorRTSession(bundle) as session:

        def encode() -> None:
            made.append(session.run("image_encoder", graph_inputs(encoder))["image_embed"])

        thread = threading.Thread(target=encode)
        thread.start()
        thread.join()
        inputs = {**graph_inputs(memory), "image_embed": made[0]}
        gpu.calls.clear()
        found = session.run("memory_encoder", inputs)
        assert gpu.calls.index("cudaEventRecord") < gpu.calls.index("cudaStreamWaitEvent")
        assert gpu.calls.index("cudaStreamWaitEvent") < gpu.calls.index("cudaMemcpyAsync")
        assert gpu.calls[-1] == "cudaStreamSynchronize"
        assert_same(found, compute(memory, {**inputs, "image_embed": np.asarray(made[0])}))


def test_results_that_are_all_kept_are_copied_out(bundle: Bundle, gpu: FakeCuda) -> None:
    """Places of features come back as a rule; a caller that keeps every frame's has no end."""
    encoder = bundle.graphs["image_encoder"].spec
    with trt.TensorRTSession(bundle) as session:
        kept = []
        for seed in range(12):
            images = graph_inputs(encoder, seed)
            kept.append((session.run("image_encoder", images), compute(encoder, images)))
        captured = gpu.calls.count("cudaGraphInstantiate")
        for found, expected in kept:
            assert_same(found, expected)
        # eight places of their own, then one that the others are copied from
        assert captured == 1
        assert gpu.replays == 3


def test_device_memory_comes_back_when_nobody_looks(bundle: Bundle, gpu: FakeCuda) -> None:
    encoder = bundle.graphs["image_encoder"].spec
    with trt.TensorRTSession(bundle) as session:
        for seed in range(3):
            session.run("image_encoder", graph_inputs(encoder, seed))
        taken = len(gpu.allocated)
        for seed in range(10):
            session.run("image_encoder", graph_inputs(encoder, seed))
        assert len(gpu.allocated) == taken


def test_a_session_stays_closed(bundle: Bundle, gpu: FakeCuda) -> None:
    inputs = graph_inputs(bundle.graphs["image_encoder"].spec)
    with trt.TensorRTSession(bundle) as session:
        session.run("image_encoder", inputs)
    calls = len(gpu.calls)
    for call in (
        lambda: session.run("image_encoder", inputs), session.__enter__, session.slot_buffer,
        session.pixels, lambda: session.max_objects,
    ):  # fmt: skip
        with pytest.raises(InputError, match="the session is closed: make another one"):
            call()
    assert len(gpu.calls) == calls


def test_arrays_of_other_libraries_are_taken_from_the_gpu(bundle: Bundle, gpu: FakeCuda) -> None:
    spec = bundle.graphs["image_encoder"].spec
    inputs = graph_inputs(spec)
    image = inputs["image"]

    class Foreign:
        __cuda_array_interface__ = {  # noqa: RUF012
            "version": 3, "shape": image.shape, "typestr": "<f4", "strides": None,
            "data": (image.ctypes.data, False), "stream": 4242,
        }  # fmt: skip

    with trt.TensorRTSession(bundle) as session:
        found = session.run("image_encoder", {"image": Foreign()})
        assert_same(found, compute(spec, inputs))
        # our stream waits for the one the frame was made on
        assert "cudaStreamWaitEvent" in gpu.calls
        given = found["prompt_embed"].__cuda_array_interface__
        assert (given["shape"], given["typestr"]) == ((1, 64, 16, 16), "<f4")
        assert found["prompt_embed"].__dlpack_device__() == (2, 0)


def test_the_callers_stream_is_used_by_one_thread_and_left_alone(
    bundle: Bundle, gpu: FakeCuda
) -> None:
    spec = bundle.graphs["memory_encoder"].spec
    errors: list[Exception] = []

    def other() -> None:
        try:
            session.run("memory_encoder", graph_inputs(spec))
        except SessionError as error:
            errors.append(error)

    with trt.TensorRTSession(bundle, stream=777) as session:
        for seed in range(3):
            assert_same(session.run("memory_encoder", graph_inputs(spec, seed)),
                  compute(spec, graph_inputs(spec, seed)))  # fmt: skip
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "belongs to one thread" in str(errors[0])
    assert "cudaStreamCreateWithFlags" not in gpu.calls
    assert "cudaStreamDestroy" not in gpu.calls
    # selecting a GPU would leave the context the caller's stream belongs to
    assert "cudaSetDevice" not in gpu.calls


def test_each_thread_has_its_own_contexts_and_buffers(bundle: Bundle, gpu: FakeCuda) -> None:
    spec = bundle.graphs["memory_encoder"].spec
    results: dict[int, dict[str, np.ndarray]] = {}
    with trt.TensorRTSession(bundle) as session:

        def work(seed: int) -> None:
            for _ in range(3):
                results[seed] = session.run("memory_encoder", graph_inputs(spec, seed))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(session._workers) == 3
    for seed, found in results.items():
        assert_same(found, compute(spec, graph_inputs(spec, seed)))


def test_too_many_objects_name_the_option(bundle: Bundle, gpu: FakeCuda) -> None:
    spec = bundle.graphs["memory_encoder"].spec
    session = trt.TensorRTSession(bundle)
    with pytest.raises(InputError, match=r"mask_logits \[3, 1, 64, 64\] \(at most \[2, 1, 64, 64"):
        session.run("memory_encoder", graph_inputs(spec, N=3))
    assert_same(
        session.run("memory_encoder", graph_inputs(spec)), compute(spec, graph_inputs(spec))
    )


@pytest.mark.parametrize("device", ["cpu", "cuda:x", "gpu"])
def test_unknown_devices_are_refused(bundle: Bundle, gpu: FakeCuda, device: str) -> None:
    with pytest.raises(InputError, match="expected 'cuda'"):
        trt.TensorRTSession(bundle, device)


def test_missing_engines_name_what_there_is(bundle: Bundle, gpu: FakeCuda) -> None:
    gpu.arch = 80
    with pytest.raises(BundleError, match=r"engines for sm80-trt10\.16\.1\.11 in .*, found sm90-"):
        trt.TensorRTSession(bundle).run(
            "memory_encoder", graph_inputs(bundle.graphs["memory_encoder"].spec)
        )


def test_engines_for_later_tensorrt_are_found_in_an_older_folder(
    bundle: Bundle, gpu: FakeCuda, tmp_path: Path
) -> None:
    own = bundle.path / ENGINES / MACHINE.folder
    for version in ("10.9.0.3", "10.14.1.48"):
        write_engines(bundle, tensorrt=version, version_compatible=True)
        own.rename(own.with_name(f"sm90-trt{version}"))
    write_engines(bundle, tensorrt="10.15.0.1")
    own.rename(own.with_name("sm90-trt10.15.0.1"))
    inputs = graph_inputs(bundle.graphs["mask_decoder"].spec)
    with trt.TensorRTSession(bundle) as session:
        # the newest that may be loaded
        assert session.engine("mask_decoder")[1].tensorrt == "10.14.1.48"
        assert session.pixels() is None
        session.run("mask_decoder", inputs)
    with pytest.raises(BundleError, match=r"engines for other in .*, found sm90-trt10\.14"):
        trt.TensorRTSession(bundle, engines="other").engine("mask_decoder")
    # of a later TensorRT than this one, of another export, and a record that was not written by us
    for changed in (
        {"tensorrt": "10.17.0.1"},
        {"tensorrt": "10.14.1.48", "onnx": "00"},
        {"tensorrt": "10.next"},
    ):
        for old in (bundle.path / ENGINES).iterdir():
            shutil.rmtree(old)
        write_engines(bundle, version_compatible=True, **changed)
        own.rename(own.with_name("sm90-trt" + changed["tensorrt"]))
        with pytest.raises(BundleError, match=r"engines for sm90-trt10\.16\.1\.11 in "):
            trt.TensorRTSession(bundle).engine("mask_decoder")


def test_only_engines_for_later_tensorrt_may_bring_code_for_the_host(
    bundle: Bundle, gpu: FakeCuda
) -> None:
    folder = write_engines(bundle)
    for graph, compatible in (("mask_decoder", True), ("memory_encoder", False)):
        path = folder / f"{graph}.engine"
        record = read_record(path)
        path.write_bytes(f"portable:{graph}".encode())
        size, digest = path.stat().st_size, file_sha256(path)
        write_record(path, replace(record, size=size, sha256=digest, version_compatible=compatible))
    session = trt.TensorRTSession(bundle)
    assert session.engine("mask_decoder")[1].version_compatible
    with pytest.raises(SessionError, match=r"cannot load .*memory_encoder\.engine"):
        session.engine("memory_encoder")
    session.close()


def test_sessions_of_two_gpus_in_one_thread_keep_apart(bundle: Bundle, gpu: FakeCuda) -> None:
    gpu.gpus = 2
    kept = {"image_encoder": "image_embed", "memory_encoder": "memory"}
    with trt.TensorRTSession(bundle) as first, trt.TensorRTSession(bundle, "cuda:1") as second:
        for graph, name in kept.items():
            for index, session in enumerate((first, second)):
                before = len(gpu.places)
                found = session.run(graph, graph_inputs(bundle.graphs[graph].spec))[name]
                assert set(gpu.places[before:]) == {index}
                assert found.__dlpack_device__() == (2, index)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fake_has_only_what_the_bindings_declare(version: str) -> None:
    api = declared_api(version)["api"]
    for fake, name in ((Context, "IExecutionContext"), (Engine, "ICudaEngine")):
        public = {m for m in vars(fake) if not m.startswith("_")}
        assert public <= set(api[name]["members"]), name
    assert {"deserialize_cuda_engine", "engine_host_code_allowed"} <= set(api["Runtime"]["members"])
    strategies = api["ExecutionContextAllocationStrategy"]["values"]
    assert strategies == {member.name: member.value for member in Strategy}
