"""Fuzzes one target with coverage guidance: python tests/fuzz/fuzz.py TARGET SECONDS [CORPUS].

Needs atheris. A finding ends with its traceback, and the input lies in the working folder. CORPUS
keeps what reached new code, and is made of the target's own seeds where it is empty.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import tempfile
from pathlib import Path

import atheris

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS / "support"), str(Path(__file__).parent)]

with atheris.instrument_imports(include=["sam2rt", "targets"]):
    from targets import TARGETS


def main() -> None:
    name, seconds = sys.argv[1], sys.argv[2]
    target = TARGETS[name]
    corpus = Path(sys.argv[3] if len(sys.argv) > 3 else tempfile.mkdtemp(prefix="sam2rt-corpus-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed{number}").write_bytes(seed)

    def one(content: bytes) -> None:
        with contextlib.suppress(*target.refuses):
            target.read(content)

    # ten seconds for one input count as hung, two gigabytes more than now as too much: the peak of
    # the process that started this one counts as its own
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    limits = ["-timeout=10", f"-rss_limit_mb={peak + 2048}", "-max_len=65536"]
    options = [f"-max_total_time={seconds}", *limits]
    atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
