"""One object on its own: the bits of a stream, features shared, states saved and loaded."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from colour_model import ColourSession
from square_clip import BOX, CLICK, moving_square

from sam2rt import FrameEncoder, FrameError, InputError, ObjectState, StateError, StreamTracker
from sam2rt.runtime.session import SessionWrapper

MASK = np.zeros((96, 128), bool)
MASK[30:54, 8:32] = True
PROMPTS = [CLICK, BOX, {"mask": MASK}]


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return moving_square(24)


@pytest.fixture
def encoder(session):
    return FrameEncoder(session.bundle, session=session)


def prompted(session, prompt, **options) -> ObjectState:
    state = ObjectState(session.bundle, session=session, **options)
    state.add_mask(prompt["mask"]) if "mask" in prompt else state.add_points(**prompt)
    return state


def alone(session, video, prompt, **options):
    """What a stream gives for each object by itself."""
    tracker = StreamTracker(session.bundle, session=session, **options)
    tracker.add_mask(1, prompt["mask"]) if "mask" in prompt else tracker.add_points(1, **prompt)
    return [tracker.step(frame) for frame in video]


def assert_same(found, expected) -> None:
    assert found.frame_idx == expected.frame_idx
    assert found.obj_ids == expected.obj_ids == [1]
    np.testing.assert_array_equal(found.logits, expected.logits)
    np.testing.assert_array_equal(found.object_scores, expected.object_scores)
    np.testing.assert_array_equal(found.ious, expected.ious)


def test_states_that_share_each_frame_give_what_streams_of_their_own_give(session, encoder, video):
    states = [prompted(session, prompt) for prompt in PROMPTS]
    expected = [alone(session, video, prompt) for prompt in PROMPTS]
    for t, frame in enumerate(video):
        encoded = encoder.encode(frame)
        before = [np.array(part) for part in vars(encoded.features).values()]
        for state, wanted in zip(states, expected, strict=True):
            assert_same(state.step(encoded), wanted[t])
        for part, was in zip(vars(encoded.features).values(), before, strict=True):
            np.testing.assert_array_equal(part, was)


def test_a_frame_is_encoded_once_for_all_states(session, video):
    class Counting(SessionWrapper):
        calls = 0

        def run(self, graph, inputs, into=None):
            self.calls += graph == "image_encoder"
            return super().run(graph, inputs, into)

    counting = Counting(session)
    encoder = FrameEncoder(session.bundle, session=counting)
    states = [prompted(counting, prompt) for prompt in PROMPTS]
    for frame in video[:3]:
        encoded = encoder.encode(frame)
        for state in states:
            state.step(encoded)
    assert counting.calls == 3


def test_a_stream_takes_what_an_encoder_made(session, encoder, video):
    expected = alone(session, video[:5], CLICK)
    tracker = StreamTracker(session.bundle, session=session)
    tracker.add_points(1, **CLICK)
    for t, frame in enumerate(video[:5]):
        assert_same(tracker.step(encoder.encode(frame)), expected[t])


@pytest.mark.parametrize("memory_dtype", [None, "float16", "bfloat16"])
@pytest.mark.parametrize("at", [1, 9, 20])
def test_a_loaded_state_goes_on_with_the_same_bits(
    session, encoder, video, tmp_path, memory_dtype, at
):
    options = {"memory_dtype": memory_dtype, "max_cond_frames_in_attn": 3, "fill_hole_area": 3}
    expected = alone(session, video, CLICK, **options)
    state = prompted(session, CLICK, **options)
    for frame in video[:at]:
        state.step(encoder.encode(frame))
    state.save(tmp_path / "object.npz")
    loaded = ObjectState.load(tmp_path / "object.npz", session.bundle, session=session)
    assert (loaded.frame_idx, loaded.frame_size) == (at, video.shape[1:3])
    for t in range(at, len(video)):
        assert_same(loaded.step(encoder.encode(video[t])), expected[t])


def test_a_state_goes_on_in_another_process(session, encoder, video, tmp_path):
    state = prompted(session, CLICK)
    for frame in video[:4]:
        state.step(encoder.encode(frame))
    state.save(tmp_path / "object.npz")
    np.save(tmp_path / "frame.npy", video[4])
    program = (
        "import sys, numpy as np, sam2rt\n"
        "bundle, folder = sam2rt.Bundle.load(sys.argv[1], check_hashes=False), sys.argv[2]\n"
        "state = sam2rt.ObjectState.load(folder + '/object.npz', bundle, threads=1)\n"
        "encoder = sam2rt.FrameEncoder(bundle, session=state.session)\n"
        "result = state.step(encoder.encode(np.load(folder + '/frame.npy')))\n"
        "np.save(folder + '/out.npy', result.logits)\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(session.bundle.path), str(tmp_path)], check=True
    )
    expected = state.step(encoder.encode(video[4])).logits
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


def test_the_file_holds_plain_arrays_and_the_bundles_digest(session, encoder, video, tmp_path):
    state = prompted(session, CLICK)
    for frame in video[:3]:
        state.step(encoder.encode(frame))
    state.save(tmp_path / "object.npz")
    with np.load(tmp_path / "object.npz", allow_pickle=False) as file:
        header = json.loads(file["header"].tobytes())
        assert header["bundle"] == session.bundle.digest
        assert (header["frame_idx"], header["frame_size"]) == (3, [96, 128])
        assert {name.rsplit(".", 1)[0] for name in file.files if name != "header"} == {
            "prompted.0", "tracked.1", "tracked.2",
        }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["object.npz"]


def test_a_state_of_another_bundle_is_refused(session, micro20_session, encoder, video, tmp_path):
    state = prompted(session, CLICK)
    state.step(encoder.encode(video[0]))
    state.save(tmp_path / "object.npz")
    mine, other = session.bundle.digest, micro20_session.bundle.digest
    with pytest.raises(InputError) as caught:
        ObjectState.load(tmp_path / "object.npz", micro20_session.bundle, session=micro20_session)
    assert str(caught.value) == (
        f"{tmp_path / 'object.npz'} is a state of bundle {mine[:12]}, this is bundle {other[:12]}: "
        "load it with the bundle that made it, or prompt the object again"
    )
    foreign = prompted(micro20_session, CLICK)
    with pytest.raises(InputError, match=f"encoded by bundle {mine[:12]}, this is {other[:12]}"):
        foreign.step(encoder.encode(video[0]))


class TestFilesOfStrangers:
    @pytest.fixture
    def saved(self, session, encoder, video, tmp_path) -> Path:
        state = prompted(session, CLICK)
        for frame in video[:2]:
            state.step(encoder.encode(frame))
        state.save(tmp_path / "object.npz")
        return tmp_path / "object.npz"

    def rewritten(self, saved: Path, **changes) -> Path:
        with np.load(saved) as file:
            arrays = {name: file[name] for name in file.files}
        arrays |= changes
        np.savez(saved, **{k: v for k, v in arrays.items() if v is not None})
        return saved

    def refused(self, path: Path, session) -> str:
        with pytest.raises(InputError) as caught:
            ObjectState.load(path, session.bundle, session=session)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def header(self, session, **changes) -> np.ndarray:
        good = {
            "format": 1, "bundle": session.bundle.digest, "frame_idx": 2, "frame_size": [96, 128],
            "options": {},
        }  # fmt: skip
        return np.frombuffer(json.dumps(good | changes).encode(), np.uint8)

    def test_missing_empty_cut_and_no_archive(self, saved, session, tmp_path):
        assert "No such file" in self.refused(tmp_path / "none.npz", session)
        for content in (b"", b"no archive", saved.read_bytes()[:-40]):
            saved.write_bytes(content)
            assert "no state of an object, or damaged" in self.refused(saved, session)

    @pytest.mark.parametrize(
        ("name", "array"),
        [
            ("tracked.1.memory", np.zeros((2, 2), np.float32)),
            ("tracked.1.memory", np.zeros((64, 16, 16), np.float64)),
            ("tracked.1.obj_ptr", np.zeros(3, np.float32)),
            ("tracked.1.scores", np.array([np.nan, 0])),
            ("tracked.1.scores", None),
            ("tracked.1.obj_ptr", np.array([{}], object)),
            ("../../etc/passwd", np.zeros(1)),
            ("header", np.zeros(1 << 17, np.uint8)),
            ("header", np.frombuffer(b"[1]", np.uint8)),
            ("header", None),
        ],
    )
    def test_arrays_that_no_state_has(self, saved, session, name, array):
        message = self.refused(self.rewritten(saved, **{name: array}), session)
        assert "no state of an object, or damaged" in message

    @pytest.mark.parametrize(
        "changes",
        [
            {"frame_idx": -1}, {"frame_idx": "2"}, {"frame_size": [96]}, {"frame_size": None},
            {"options": {"threads": 3}}, {"options": {"memory_dtype": "int4"}}, {"options": 7},
            {"format": 2},
        ],
    )  # fmt: skip
    def test_headers_that_no_state_has(self, saved, session, changes):
        path = self.rewritten(saved, header=self.header(session, **changes))
        assert "no state of an object, or damaged" in self.refused(path, session)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("memory", np.nan),
            ("obj_ptr", np.inf),
            ("memory", np.uint16(0x7FC0)),
            ("scores", -np.inf),
        ],
    )
    def test_what_is_no_number_gets_into_no_mask(self, saved, session, name, value):
        with np.load(saved) as file:
            array = file[f"tracked.1.{name}"]
        array = array.astype(np.uint16) if isinstance(value, np.uint16) else array.copy()
        array.flat[-1] = value
        message = self.refused(self.rewritten(saved, **{f"tracked.1.{name}": array}), session)
        assert f"(tracked.1.{name} holds what is no number)" in message

    def test_a_state_without_a_prompt_or_of_frames_to_come(self, saved, session):
        with np.load(saved) as file:
            arrays = {name: file[name] for name in file.files}
        prompted = {name: None for name in arrays if name.startswith("prompted.")}
        assert "(no frame with a prompt)" in self.refused(
            self.rewritten(saved, **prompted), session
        )
        later = {f"tracked.2.{n.rpartition('.')[2]}": arrays[n] for n in arrays if "tracked" in n}
        np.savez(saved, **arrays, **later)
        assert "(unknown array tracked.2." in self.refused(saved, session)

    @pytest.mark.parametrize(
        ("frame_idx", "why"),
        [(0, "frame_idx is 0"), (1 << 50, "frame_idx is 1"), (1.5, "frame_idx is 1.5"),
         (True, "frame_idx is True"), (1 << 70, "")],
    )  # fmt: skip
    def test_numbers_of_frames_that_no_video_has(self, saved, session, frame_idx, why):
        path = self.rewritten(saved, header=self.header(session, frame_idx=frame_idx))
        assert f"no state of an object, or damaged ({why}" in self.refused(path, session)

    def test_headers_that_two_readers_could_take_differently(self, saved, session):
        deep = b"[" * 60_000
        text = self.header(session).tobytes()
        for odd in (deep, text[:-1] + b', "format": 1}', text.replace(b"{}", b'{"a": NaN}')):
            message = self.refused(
                self.rewritten(saved, header=np.frombuffer(odd, np.uint8)), session
            )
            assert "no state of an object, or damaged" in message

    def test_a_small_file_takes_little_memory(self, saved, session):
        """A thousandth of what is said to be in it."""
        with np.load(saved) as file:
            arrays = {name: file[name] for name in file.files}
        arrays |= {f"tracked.1.memory{'x' * i}": np.zeros(1 << 20) for i in range(1, 4)}
        np.savez_compressed(saved, **arrays)
        tracemalloc.start()
        assert "arrays or " in self.refused(saved, session)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()

    def test_an_archive_with_a_password_a_name_twice_or_bytes_changed(self, saved, session):
        content = saved.read_bytes()
        flag = content.rindex(b"PK\x01\x02") + 8
        saved.write_bytes(content[:flag] + b"\1" + content[flag + 1 :])
        assert "encrypted" in self.refused(saved, session)
        saved.write_bytes(content)
        with zipfile.ZipFile(saved) as archive:
            pointer = archive.read("tracked.1.obj_ptr.npy")
        with zipfile.ZipFile(saved, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr("tracked.1.obj_ptr.npy", pointer)
        assert "(a name twice)" in self.refused(saved, session)
        with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("header.npy", bytes(range(256)) * 9)
        broken = bytearray(saved.read_bytes())
        broken[60] ^= 255
        saved.write_bytes(broken)
        assert "no state of an object, or damaged" in self.refused(saved, session)

    def test_an_array_that_claims_terabytes_is_not_made(self, saved, session):
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,), }"
        header += b" " * (128 - 11 - len(header)) + b"\n"
        content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        with zipfile.ZipFile(saved, "w") as archive:
            archive.writestr("header.npy", content)
        assert "an array uint8 [1099511627776]" in self.refused(saved, session)


def test_wrong_use_is_refused_and_changes_nothing(session, encoder, video, tmp_path):
    state = ObjectState(session.bundle, session=session)
    encoded = encoder.encode(video[0])
    with pytest.raises(StateError, match="never prompted"):
        state.step(encoded)
    with pytest.raises(StateError, match="saved between frames"):
        state.save(tmp_path / "object.npz")
    state.add_points(**CLICK)
    with pytest.raises(InputError, match="expected what FrameEncoder"):
        state.step(video[0])
    with pytest.raises(StateError, match="saved between frames"):
        state.save(tmp_path / "object.npz")
    state.step(encoded)
    with pytest.raises(FrameError, match="the frame is 50 x 40, earlier ones were 128 x 96"):
        state.step(encoder.encode(np.zeros((40, 50, 3), np.uint8)))
    with pytest.raises(InputError, match="there is no folder"):
        state.save(tmp_path / "none" / "object.npz")
    assert list(tmp_path.iterdir()) == []
    assert_same(state.step(encoder.encode(video[1])), alone(session, video[:2], CLICK)[1])
    with pytest.raises(FrameError):
        encoder.encode(np.zeros((4, 4), np.float32))


def test_an_encoder_and_a_state_lend_a_session(video):
    session = ColourSession()
    with FrameEncoder(session.bundle, session=session) as encoder:
        encoder.encode(video[0])
    with ObjectState(session.bundle, session=session):
        pass
    assert not session.closed
    with pytest.raises(InputError, match="the FrameEncoder is closed"):
        encoder.encode(video[0])
