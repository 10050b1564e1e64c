"""The API under a fuzzer that reads its own description: no fault, only what it promises.

By hand for longer: ``FUZZ_SECONDS=300 pytest -m slow tests/serving/test_fuzz.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from served import Served, serving

from sam2rt.serving.meta.routes import meta_routes
from sam2rt.serving.sessions.media import _SAMPLES

SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_schema_conformance",
)  # fmt: skip
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def described(served: Served, root: Path) -> dict[str, Any]:
    """The server's description, with ids of sessions that exist and prompts that fit now and then.

    Otherwise nearly all a fuzzer asks for is unknown, and no request reaches the model.
    """
    sessions = [served.session(sample=name) for name in ("shapes", "shapes", "still")]
    sessions += [served.session(media=served.upload(_SAMPLES / "shapes.mp4"))]
    for at in sessions:
        served.ok("POST", f"{at}/prompts", {"object": 1, "points": [[100, 120]], "labels": [1]})
    document = served.ok("GET", "/openapi.json")
    known = {
        "session": {"enum": [at.rpartition("/")[2] for at in sessions]},
        "object": {"type": "integer", "minimum": 0, "maximum": 4},
        "frame": {"type": "integer", "minimum": 0, "maximum": 30},
    }
    for item in document["paths"].values():
        for parameter in item["parameters"]:
            parameter["schema"] = known.get(parameter["name"], parameter["schema"])
    # what would end those sessions
    del document["paths"]["/v1/sessions/{session}"]["delete"]
    prompt = _body(document, "/v1/sessions/{session}/prompts")
    number = {"type": "number", "minimum": -20, "maximum": 270}
    pair = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    prompt |= {
        "object": known["object"],
        "frame": known["frame"],
        "points": {"type": "array", "items": pair, "minItems": 1, "maxItems": 3},
        "labels": {"type": "array", "items": {"enum": [0, 1]}, "minItems": 1, "maxItems": 3},
    }
    _body(document, "/v1/sessions")["sample"] = {"enum": ["shapes", "still", "none"]}
    return document


def _body(document: dict[str, Any], path: str) -> dict[str, Any]:
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    properties: dict[str, Any] = content["schema"]["properties"]
    return properties


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 300)
@pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="needs schemathesis")
def test_no_request_makes_a_fault(session, tmp_path):
    with serving(session, sessions=100_000, root=tmp_path) as served:
        shutil.copy(_SAMPLES / "still.png", tmp_path / "a.png")
        (tmp_path / "api.json").write_text(json.dumps(described(served, tmp_path)))
        done = _fuzzed(tmp_path, "api.json", served)
        assert done.returncode == 0, done.stdout[-20_000:]
        assert served.ok("GET", "/v1/health")["status"] == "ok"
        metrics = served.raw("GET", "/metrics")[1].decode()
    assert 'status="5' not in metrics
    # some have reached the model
    assert 'status="200"' in metrics


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 300)
@pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="needs schemathesis")
def test_no_operation_of_metas_page_makes_a_fault(session, tmp_path):
    with serving(session, sessions=100_000, extra=lambda _: meta_routes()) as served:
        text = (Path(meta_routes.__code__.co_filename).parent / "schema.graphql").read_text()
        (tmp_path / "schema.graphql").write_text(text)
        # answers of GraphQL hold their errors: only faults of the server count
        done = _fuzzed(tmp_path, "schema.graphql", served, "/graphql", checks=CHECKS[:1])
        metrics = served.raw("GET", "/metrics")[1].decode()
    assert 'status="5' not in metrics, done.stdout[-20_000:]
    assert "a fault of the server" not in done.stdout


def _fuzzed(
    folder: Path, document: str, served: Served, path: str = "", checks: tuple[str, ...] = CHECKS
) -> subprocess.CompletedProcess[str]:
    words = [
        str(SCHEMATHESIS), "run", document, "--url", f"http://127.0.0.1:{served.port}{path}",
        "--max-time", str(SECONDS), "--checks", ",".join(checks), "--max-examples", "500",
        "--request-timeout", "120", "--no-color", "--continue-on-failure", "--seed", "1",
    ]  # fmt: skip
    return subprocess.run(
        words, cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS * 2 + 240
    )
