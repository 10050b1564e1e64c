"""The proof of engines: what the reference gave at export against a session of engines.

Neither torch nor onnx is imported, nor what the command line needs, so that it runs on the machine
the engines are for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...configs.bundle import Bundle
from ...configs.progress import Progress, silent
from ...runtime.session import Session
from ..proof.compare import compare
from ..proof.record import bundle_record
from ..proof.report import BOUNDS, check


def prove_session(
    bundle: Bundle, session: Session, progress: Progress = silent
) -> Mapping[str, Any]:
    """Compare a session of engines with what the reference gave when the bundle was exported.

    Gives what was measured, as the engines' records keep it. Raises BundleError when the bundle
    keeps no record, ProofError when an output is out of the precision's bounds.
    """
    bounds = BOUNDS[bundle.precision]
    report = compare(bundle_record(bundle), session, bounds, progress=progress)
    check(report, bounds, "the engine")
    return report.as_dict()
