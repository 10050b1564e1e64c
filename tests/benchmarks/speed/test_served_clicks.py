"""The measurement of clicks on a server: as many as told, alone and among others."""

from __future__ import annotations

import pytest

from sam2rt.benchmarks.speed import served_clicks


def test_clicks_are_timed_alone_and_among_others(bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_clicks, "_ROUNDS", 2)
    monkeypatch.setattr(served_clicks, "_CLICKS", 3)
    figures = served_clicks.click_latency(bundle, others=2, threads=1)
    assert (figures["others"], figures["clicks"]) == (2, 6)
    for share in (50, 99):
        lone, crowded = figures[f"lone_p{share}_ms"], figures[f"crowded_p{share}_ms"]
        assert lone > 0
        assert figures[f"ratio_p{share}"] == pytest.approx(crowded / lone, rel=0.05)
    assert figures["lone_p50_ms"] <= figures["lone_p99_ms"]
