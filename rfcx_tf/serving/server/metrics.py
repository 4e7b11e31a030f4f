"""What the server counts, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client import generate_latest as _generate

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60)


class Metrics:
    """The counters of one server, in a registry of their own: a process may hold several."""

    def __init__(self):
        registry = self._registry = CollectorRegistry()
        # Among others process_resident_memory_bytes and process_cpu_seconds_total.
        ProcessCollector(registry=registry)
        labels = ["protocol", "signature"]
        self.requests = Counter(
            "serving_requests", "Predict requests answered.", [*labels, "code"], registry=registry
        )
        self.seconds = Histogram(
            "serving_request_seconds",
            "Time from the whole request to its answer.",
            labels,
            buckets=_SECONDS,
            registry=registry,
        )
        self.model_seconds = Histogram(
            "serving_model_seconds",
            "Time of one call of the model.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_requests = Histogram(
            "serving_batch_requests",
            "Requests joined into one call.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=registry,
        )
        self.queue = Gauge("serving_queue_length", "Requests that wait.", registry=registry)
        self.admitted = Gauge(
            "serving_requests_in_progress",
            "Requests that are decoded, wait or run.",
            registry=registry,
        )
        self.version = Gauge("serving_model_version", "Version that serves.", registry=registry)
        self.loads = Counter(
            "serving_model_loads", "Versions loaded or refused.", ["result"], registry=registry
        )
        for result in ("loaded", "refused"):
            self.loads.labels(result)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return _generate(self._registry)
