"""What a number was measured on."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sam2rt.benchmarks.speed import machine
from sam2rt.configs.errors import SessionError


@pytest.mark.parametrize("constant", [False, True])
def test_the_product_that_is_timed_is_the_product(constant: bool) -> None:
    generator = np.random.default_rng(0)
    a, b = (
        generator.standard_normal((5, 7), np.float32),
        generator.standard_normal((7, 3), np.float32),
    )
    run = machine._onnx_product(a, b, 1, constant)
    assert run is not None
    np.testing.assert_allclose(run()[0], a @ b, atol=1e-5)  # type: ignore[index]


def test_the_best_of_shapes_and_libraries_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {(1, 2, 3): [5.0, 9.0, 4.0], (4, 5, 6): [7.0, 8.0]}

    def found(threads: int, shape: machine.Product, seconds: float) -> Iterator[float]:
        assert threads == 2
        yield from rates[shape]

    monkeypatch.setattr(machine, "_rates", found)
    assert machine.best_rate(2, tuple(rates), 0.1) == 9.0


def test_rates_count_two_operations_per_multiply_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_fastest", lambda run, seconds: (run(), 1e-3)[1])
    assert list(machine._rates(1, (10, 20, 30), 0.0)) == pytest.approx([12000 / 1e-3 / 1e9] * 3)


def test_a_process_measures_with_the_asked_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    class Done:
        returncode, stdout, stderr = 0, "123.5\n", ""

    def run(command: list[str], **options: dict[str, str]) -> Done:
        seen.update(options["env"], last=command[-1])
        return Done()

    monkeypatch.setattr(machine.subprocess, "run", run)
    assert machine.matrix_rate(3) == 123.5
    assert [seen[v] for v in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "last")] == ["3"] * 3
    Done.returncode, Done.stderr = 1, "a\nMemoryError: no\n"
    with pytest.raises(SessionError, match=r"\(MemoryError: no\)"):
        machine.matrix_rate(3)


def test_a_processor_has_its_family_and_model_beside_its_name(tmp_path: Path) -> None:
    described = tmp_path / "cpuinfo"
    first = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: A CPU\n"
    described.write_text(first + "\n" + first.replace("17", "18"))
    assert machine._processor(str(described)) == "A CPU (family 25, model 17)"
    described.write_text("processor\t: 0\nmodel name\t: B CPU\n")
    assert machine._processor(str(described)) == "B CPU"
    for path in (described, tmp_path / "absent"):
        described.write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")
        assert machine._processor(str(path)) == (platform.processor() or platform.machine())


def test_the_line_names_hardware_versions_and_rate() -> None:
    made = machine.Machine("A CPU", 4, 7.6, "Linux 6", "3.11", {"numpy": "2"}, 99.6, 1, "A GPU")
    assert made.line() == (
        "A GPU, A CPU, 4 cores, 8 GiB, Linux 6, Python 3.11; numpy 2; "
        "100 GFLOP/s float32 matrix rate (1 thread)"
    )
