"""Counters and times in the text form of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

#: seconds
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sam2rt_requests_total", "Answers, by status code.", ["status"], registry=self.registry
        )
        self.frames = Counter(
            "sam2rt_frames_total", "Frames tracked, by kind of work.", ["work"],
            registry=self.registry,
        )  # fmt: skip
        self.dropped = Counter(
            "sam2rt_live_frames_dropped_total",
            "Frames of live streams left out for newer ones.",
            registry=self.registry,
        )
        self.uploaded = Counter(
            "sam2rt_uploaded_bytes_total", "Bytes of finished uploads.", registry=self.registry
        )
        self.click = Histogram(
            "sam2rt_click_seconds",
            "Time from a prompt to its masks, waiting for a turn included.",
            buckets=_BUCKETS,
            registry=self.registry,
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show what `value` gives whenever the metrics are read."""
        Gauge(name, text, registry=self.registry).set_function(value)


async def metrics_route(request: Request) -> Response:
    """``GET /metrics``."""
    metrics: Metrics = request.app.state.services.metrics
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
