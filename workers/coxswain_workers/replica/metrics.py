"""Counters of one engine process, under the names vLLM's dashboards know, and Coxswain's own beside them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from coxswain_protocol.messages import Load, StepEvent

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2.5, 5, 10, 30, 60)
_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_LABELS = ("model_name",)


class EngineMetrics:
    """Observed from the network thread, once per step or per request."""

    def __init__(self, *, model: str) -> None:
        self._registry = CollectorRegistry()
        self._model = model
        self._running = self._gauge("vllm:num_requests_running", "Sequences in the batch")
        self._waiting = self._gauge("vllm:num_requests_waiting", "Sequences waiting")
        self._cache = self._gauge("vllm:kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1")
        self._prompt = self._counter("vllm:prompt_tokens", "Prompt tokens computed")
        self._generated = self._counter("vllm:generation_tokens", "Tokens produced")
        self._preemptions = self._counter("vllm:num_preemptions", "Sequences preempted")
        self._queries = self._counter("vllm:prefix_cache_queries", "Prompt tokens looked up")
        self._hits = self._counter("vllm:prefix_cache_hits", "Prompt tokens found cached")
        self._ttft = self._histogram("vllm:time_to_first_token_seconds", "From submission to the first token")
        self._inter_token = self._histogram("vllm:inter_token_latency_seconds", "Between two tokens of a request")
        self._whole = self._histogram("vllm:e2e_request_latency_seconds", "From submission to the last token")
        self._step = self._histogram("coxswain_engine_step_seconds", "One engine step")
        self._tokens = self._histogram("vllm:iteration_tokens_total", "Tokens computed in one step", buckets=_TOKENS)
        self._finished = Counter(
            "vllm:request_success", "Finished requests", (*_LABELS, "finished_reason"), registry=self._registry
        )
        self.gateways = self._gauge("coxswain_replica_gateways", "Gateways connected")
        self.dropped = self._counter("coxswain_replica_gateways_dropped", "Gateways that fell silent or did not read")

    def stepped(self, event: StepEvent, load: Load) -> None:
        """One engine step."""
        self._running.set(load.running)
        self._waiting.set(load.waiting)
        self._cache.set(1 - load.free_blocks / load.total_blocks if load.total_blocks else 0)
        self._prompt.inc(event.prefill_tokens)
        self._preemptions.inc(event.preemptions)
        self._step.observe(event.seconds)
        self._tokens.observe(event.prefill_tokens + event.decode_sequences)

    def first_token(self, seconds: float, *, prompt_tokens: int, cached: int) -> None:
        """A request got its first token, `seconds` after it was submitted."""
        self._ttft.observe(seconds)
        self._queries.inc(prompt_tokens)
        self._hits.inc(cached)

    def next_token(self, seconds: float) -> None:
        """A request got another token, `seconds` after the one before."""
        self._inter_token.observe(seconds)

    def generated(self, tokens: int) -> None:
        """Tokens of one step, over all requests."""
        self._generated.inc(tokens)

    def finished(self, reason: str, seconds: float) -> None:
        """A request ended."""
        self._finished.labels(self._model, reason).inc()
        self._whole.observe(seconds)

    def page(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, _LABELS, registry=self._registry).labels(self._model)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, _LABELS, registry=self._registry).labels(self._model)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
        return Histogram(name, text, _LABELS, buckets=buckets, registry=self._registry).labels(self._model)
