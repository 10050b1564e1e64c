"""Manifests that a stranger could write: named ones, and any number from a seed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from sam2rt.configs.formats.manifest import digest_of

#: a value, where it is put (keys from the top), what the readers say of it
Odd = tuple[tuple[str | int, ...], Any, str]
_WHOLE = "expected a whole number from"
CRAFTED: list[Odd] = [
    (("model", "num_maskmem"), 10**9, f"model.num_maskmem is 1000000000: {_WHOLE} 1 to 64"),
    (("model", "num_maskmem"), 0, f"model.num_maskmem is 0: {_WHOLE} 1 to 64"),
    (("model", "num_maskmem"), -1, f"model.num_maskmem is -1: {_WHOLE} 1 to 64"),
    (("model", "num_maskmem"), 7.0, f"model.num_maskmem is 7.0: {_WHOLE} 1 to 64"),
    (("model", "num_maskmem"), True, f"model.num_maskmem is True: {_WHOLE} 1 to 64"),
    (("model", "num_maskmem"), "7", f"model.num_maskmem is '7': {_WHOLE} 1 to 64"),
    (("model", "num_maskmem"), None, f"model.num_maskmem is None: {_WHOLE} 1 to 64"),
    (("model", "max_obj_ptrs"), 0, f"model.max_obj_ptrs is 0: {_WHOLE} 1 to 1024"),
    (("model", "max_obj_ptrs"), 10**12, "model.max_obj_ptrs is 1000000000000: "),
    (("model", "hidden_dim"), 0, f"model.hidden_dim is 0: {_WHOLE} 8 to 65536"),
    (("model", "mem_dim"), 0, f"model.mem_dim is 0: {_WHOLE} 1 to 65536"),
    (("model", "image_size"), 1 << 20, f"model.image_size is 1048576: {_WHOLE} 64 to 4096"),
    (("model", "stages"), [1, 2, 3], "model.stages is a list: expected a list of 4 to 4"),
    (("model", "stages"), [1, 2, 3, [1]], f"model.stages[3] is a list: {_WHOLE} 1 to 256"),
    (("model", "stages"), {}, "model.stages is an object: expected a list of 4 to 4"),
    (("model", "global_att_blocks"), [99], "block 99 is to attend globally, expected one of the 7"),
    (("model", "window_spec"), [0, 0, 0, 0], f"model.window_spec[0] is 0: {_WHOLE} 1 to 4096"),
    (("model", "family"), "3.0", "model.family is '3.0': expected '2.0' or '2.1'"),
    (("model", "name"), "a\x1b[2Jb", r"model.name is 'a\x1b[2Jb': expected one line of text of"),
    (("model", "name"), "x" * 101, f"model.name is '{'x' * 59}: expected one line of text of 1 to"),
    (("model", "stability_delta"), -1, "model.stability_delta is -1: expected a number from 0 to"),
    (("model", "stability_threshold"), 1.5, "model.stability_threshold is 1.5: expected a number"),
    (("model",), [], "model is a list: expected an object"),
    (("opset",), "18", f"opset is '18': {_WHOLE} 7 to 99"),
    (("opset",), 0, f"opset is 0: {_WHOLE} 7 to 99"),
    (("checkpoint_sha256",), "C0" * 32, f"checkpoint_sha256 is '{'C0' * 29}C: expected a sha256"),
    (("generator",), "\u202egnp.exe", r"generator is '\u202egnp.exe': expected one line of text"),
    (("generator",), 7, "generator is 7: expected one line of text of 1 to 200 characters"),
    (("proof",), [["status", "passed"]], "proof is a list: expected an object of at most 64"),
    (("proof", "status"), 1, "proof.status is 1: expected one line of text of 1 to 100"),
    (("proof", "outputs"), {"a": 1}, "proof.outputs['a'] is 1: expected an object"),
    (("proof", "outputs"), {"\x9b": {}}, r"a name in proof.outputs is '\x9b': expected one line"),
    (("proof", "emulated"), 0, "proof.emulated is 0: expected true or false"),
    (("proof_files",), [], "proof_files is a list: expected an object of at most 64"),
    (("proof_files", "clip", "size"), -1, "proof_files['clip'].size is -1: "),
    (("graphs", "mask_prompt", "inputs"), [], "graphs['mask_prompt'].inputs is a list: expected"),
    (
        ("graphs", "mask_prompt", "inputs", 0, "shape", 0),
        -5,
        "graphs['mask_prompt'].inputs[0].shape[0] is -5: expected a whole number from 1 to "
        "1099511627776 or one line of text of 1 to 100 characters",
    ),
    (("graphs", "mask_prompt", "inputs", 0, "dtype"), "float8", ".dtype is 'float8': expected "),
    (("graphs", "mask_prompt", "external"), None, ".external is None: expected a list of 0 to 64"),
    (("graphs", "mask_prompt", "path"), "a\nb", r"path is 'a\nb': expected a path inside the "),
    (("graphs", "x" * 101), {}, f"a name in graphs is '{'x' * 59}: expected one line of text of"),
]

#: texts that are no JSON for both readers, with what they say
UNREADABLE: list[tuple[bytes, str]] = [
    (b"", "empty"),
    (b" \n\t", "empty"),
    (b"\xef\xbb\xbf{}", "a byte order mark"),
    ('{"schema": 1}'.encode("utf-16"), "a NUL byte"),
    (b'{"schema": 1}\0', "a NUL byte"),
    (b'{"a": "\xff"}', "not UTF-8"),
    (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
    (b'{"a": "\\ud800"}', "half of a surrogate pair"),
    (b'{"\\udfff": 1}', "half of a surrogate pair"),
    (b"[" * 992 + b"]" * 992, "nested too deep"),
    (b"[" * 65 + b"]" * 65, "nested too deep"),
    (b"[" * 100_000, "nested too deep"),
    (b'{"a": 1, "a": 1}', "a key twice"),
    (b'{"a": {"b": 1, "\\u0062": 2}}', "a key twice"),
    (b'{"a": NaN}', "NaN, which is no number"),
    (b'{"a": [-Infinity]}', "-Infinity, which is no number"),
    (b'{"a": 1e999}', "a number that is too large"),
    (b'{"a": 9223372036854775808}', "a number that is too large"),
    (b'{"a": -9223372036854775809}', "a number that is too large"),
    (b'{"a": ' + b"9" * 5000 + b"}", "a number that is too large"),
    (b'{"a": 01}', "no JSON from byte 7 on"),
    (b"{} {}", "no JSON from byte 3 on"),
    (b"x" * ((1 << 20) + 1), "more than 1048576 bytes"),
]


def with_value(manifest: dict[str, Any], keys: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The manifest with that value there, its digest made right."""
    changed = copy.deepcopy(manifest)
    place: Any = changed
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return signed(changed)


def signed(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "digest": digest_of(manifest)}


_VALUES: list[Any] = [
    0, 1, -1, 2, 7, 8, 63, 64, 65, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1,
    -(1 << 63), 0.0, -0.0, 0.5, 1.0, 1e-7, 1e22, 1e300, 5e-324, True, False, None, "", "a", "N",
    "float32", "2.1", "fp32", "..", "../a", "a/b", "/", "\x00", "\x7f", "\x9b", "\u00e9", "\u200b",
    "\u4e2d", "\U0001f600", "x" * 100, "x" * 101, "0" * 64, [], {}, [1], [[]], [1, 2, 3, 4],
    {"a": 1}, {"path": "a", "sha256": "0" * 64, "size": 1},
]  # fmt: skip
#: other spellings, some of them of the same value
_TEXTS = [
    (b":", b" :\t\n"), (b"1", b"1.0"), (b"1", b"1e0"), (b"1", b"01"), (b"1", b"-0"), (b"1", b"+1"),
    (b'"', b"'"), (b'"', b'"\\u0041'), (b'"', b'"\\ud83d\\ude00'), (b'"', b'"\\ud83d'), (b",", b""),
    (b",", b",,"), (b"]", b",]"), (b"}", b'}x'), (b"{", b'{"schema": 1,'), (b"[", b"[NaN,"),
    (b"0", b"1e400"), (b"0", b"123456789012345678901"), (b"{", b"\xef\xbb\xbf{"), (b'"', b'"\xff'),
    (b'"', b'"\xc3\xa9'), (b'"', b'"\xf4\x90\x80\x80'), (b'"', b'"\xc0\x80'), (b" ", b"\x0b"),
    (b'"', b'"\\/'), (b'"', b'"\\x'), (b"\n", b"/**/"), (b"1", b"1."), (b"1", b"1E+2"),
]  # fmt: skip


def mutated(manifest: dict[str, Any], seed: int, count: int) -> Iterator[bytes]:
    """Texts one to three changes away from a good manifest, most with the right digest."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        changed = copy.deepcopy(manifest)
        for _ in range(random.integers(0, 3)):
            _change(changed, random)
        text = json.dumps(signed(changed), ensure_ascii=bool(random.integers(2))).encode()
        if random.random() < 0.4:
            text = _respelled(text, random)
        yield text


def _change(manifest: dict[str, Any], random: np.random.Generator) -> None:
    places = [(manifest, key) for key in manifest]
    containers: list[tuple[Any, Any]] = []
    while places:
        container, key = places.pop()
        containers.append((container, key))
        inner = container[key]
        if isinstance(inner, dict):
            places += [(inner, k) for k in inner]
        elif isinstance(inner, list):
            places += [(inner, i) for i in range(len(inner))]
    container, key = containers[random.integers(len(containers))]
    kind = random.integers(5)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[str(_VALUES[random.integers(len(_VALUES))])] = container[key]
    else:
        container[key] = copy.deepcopy(_VALUES[random.integers(len(_VALUES))])


def _respelled(text: bytes, random: np.random.Generator) -> bytes:
    old, new = _TEXTS[random.integers(len(_TEXTS))]
    places = [i for i in range(len(text)) if text.startswith(old, i)]
    if not places or random.random() < 0.2:
        at = int(random.integers(len(text)))
        return text[:at] + bytes([random.integers(256)]) + text[at + 1 :]
    at = places[random.integers(len(places))]
    return text[:at] + new + text[at + len(old) :]
