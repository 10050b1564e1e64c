"""What a number was measured on: without it no number is printed."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...configs.errors import SessionError
from ...configs.systems import memory_bytes, usable_cores
from ...runtime.arrays import Array

_PACKAGES = (
    "sam2rt",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "torch",
    "transformers",
    "SAM-2",
    "triton",
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: rows, inner size and columns of a product
Product = tuple[int, int, int]
#: square, memory attention whole and in blocks of queries, a projection of tokens
_PRODUCTS: tuple[Product, ...] = (
    (2048, 2048, 2048),
    (4096, 256, 7168),
    (512, 256, 28736),
    (512, 28736, 64),
    (4096, 256, 2048),
)
_SECONDS = 0.4


@dataclass(frozen=True)
class Machine:
    """One machine: processor, cores given to this process, memory in GiB, versions."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str
    versions: dict[str, str]
    #: float32 matrix rate with `matrix_threads` threads, GFLOP/s, best of several products
    matrix_gflops: float
    matrix_threads: int
    gpu: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        return f"{self.place()}; {self.rate_line()}"

    def place(self) -> str:
        """The line without what was measured: equal on every run of one machine."""
        versions = ", ".join(f"{k} {v}" for k, v in self.versions.items())
        gpu = f"{self.gpu}, " if self.gpu else ""
        return (
            f"{gpu}{self.processor}, {self.cores} cores, {self.memory_gib:.0f} GiB, {self.system}, "
            f"Python {self.python}; {versions}"
        )

    def rate_line(self) -> str:
        if not self.matrix_gflops:
            return "matrix rate not measured"
        return (
            f"{self.matrix_gflops:.0f} GFLOP/s float32 matrix rate "
            f"({self.matrix_threads} thread{'' if self.matrix_threads == 1 else 's'})"
        )


def this_machine(threads: int | None = None, device: str = "cpu") -> Machine:
    """Describe this machine; measures its matrix rate with that many threads, a few seconds.

    On another device than the CPU its name is noted, and the CPU's rate says nothing about it:
    the rate is 0 there.
    """
    cores = usable_cores()
    on_cpu = device == "cpu"
    return Machine(
        processor=_processor(),
        cores=cores,
        memory_gib=memory_bytes() / 2**30,
        system=f"{platform.system()} {platform.release().split('-')[0]}",
        python=platform.python_version(),
        versions=_versions(),
        matrix_gflops=matrix_rate(threads or cores) if on_cpu else 0.0,
        matrix_threads=threads or cores,
        gpu="" if on_cpu else _gpu(),
    )


def matrix_rate(threads: int) -> float:
    """Best float32 matrix product rate with that many threads, GFLOP/s, of numpy and ONNX Runtime.

    Measured in a process of its own: numpy's library reads its number of threads when it loads.
    """
    limits = dict.fromkeys(_THREAD_VARIABLES, str(threads))
    command = [sys.executable, "-m", __spec__.name, str(threads)]
    done = subprocess.run(
        command, env={**os.environ, **limits}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SessionError(f"cannot measure the matrix rate of this machine ({why})")
    return float(done.stdout)


def best_rate(threads: int, shapes: Sequence[Product], seconds: float) -> float:
    """The best rate over these shapes in this process, each tried for that many seconds."""
    return max(max(_rates(threads, shape, seconds)) for shape in shapes)


def _rates(threads: int, shape: Product, seconds: float) -> Iterator[float]:
    rows, inner, columns = shape
    generator = np.random.default_rng(0)
    a = generator.standard_normal((rows, inner), np.float32)
    b = generator.standard_normal((inner, columns), np.float32)
    out = np.empty((rows, columns), np.float32)
    flop = 2.0 * rows * inner * columns
    yield flop / _fastest(lambda: np.matmul(a, b, out=out), seconds) / 1e9
    for constant in (False, True):
        if (run := _onnx_product(a, b, threads, constant)) is not None:
            yield flop / _fastest(run, seconds) / 1e9


def _fastest(run: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest call, the first not counted."""
    run()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def _onnx_product(a: Array, b: Array, threads: int, constant: bool) -> Callable[[], object] | None:
    """a @ b in ONNX Runtime, b a weight if `constant`; None without the packages."""
    try:
        ort: Any = importlib.import_module("onnxruntime")
        onnx: Any = importlib.import_module("onnx")
    except ImportError:
        return None
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    infos = [make.make_tensor_value_info(n, kind, x.shape) for n, x in (("a", a), ("b", b))]
    result = make.make_tensor_value_info("out", kind, (a.shape[0], b.shape[1]))
    weights = [onnx.numpy_helper.from_array(b, "b")] if constant else []
    node = make.make_node("MatMul", ["a", "b"], ["out"])
    inputs = infos[:1] if constant else infos
    graph = make.make_graph([node], "product", inputs, [result], weights)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {"a": a} if constant else {"a": a, "b": b}
    return lambda: session.run(None, feeds)


def _gpu() -> str:
    """Name, driver and memory of the first GPU."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True)
        return done.stdout.strip().splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "a GPU that nvidia-smi does not name"


def _processor(described: str = "") -> str:
    """Name, family and model: on a virtual machine the name alone is often that of a whole line."""
    try:
        with open(described or "/proc/cpuinfo", encoding="utf-8") as file:
            first = file.read().split("\n\n", 1)[0]
    except OSError:
        first = ""
    fields = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in first.splitlines())
    }
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    numbers = [f"{n.split()[-1]} {fields[n]}" for n in ("cpu family", "model") if n in fields]
    return fields["model name"] + (f" ({', '.join(numbers)})" if numbers else "")


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    print(best_rate(int(sys.argv[1]), _PRODUCTS, _SECONDS))
