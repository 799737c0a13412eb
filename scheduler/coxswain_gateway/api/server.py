"""The HTTP side: routes, admission, and the way of a request through checks to its answer."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from coxswain_gateway.api.calls import Call, Wanted
from coxswain_gateway.api.errors import Invalid, Overloaded, Unavailable
from coxswain_gateway.api.exchanges import Exchanges, request_id
from coxswain_gateway.api.prompts import Ids, chat_prompt, completion_prompts
from coxswain_gateway.api.requests import ChatRequest, CommonRequest, CompletionRequest, decode
from coxswain_gateway.api.sampling import check, sampling
from coxswain_gateway.api.shapes import ChatShape, CompletionShape
from coxswain_gateway.api.writing import write_stream, write_whole
from coxswain_gateway.fleet import Fleet
from coxswain_gateway.metrics import Exposition
from coxswain_gateway.settings import Settings
from coxswain_gateway.texts import Texts
from coxswain_gateway.tokenizer import ModelText
from coxswain_protocol.messages import EngineInfo

log = logging.getLogger(__name__)


class Server:
    """The OpenAI API of one model."""

    def __init__(self, *, settings: Settings, fleet: Fleet, texts: Texts) -> None:
        self._settings = settings
        self._fleet = fleet
        self._texts = texts
        self._exchanges = Exchanges(statistics=fleet.statistics, max_body_bytes=settings.max_body_bytes)
        self._metrics = Exposition(settings=settings, fleet=fleet)
        self._preparing = 0
        self._running: dict[Call, web.Request] = {}
        self._started = int(time.time())

    def application(self) -> web.Application:
        """For aiohttp to serve."""
        app = web.Application(middlewares=[self._exchanges.frame], client_max_size=self._settings.max_body_bytes)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/completions", self.completion)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/v1/models/{model:.+}", self.model)
        app.router.add_get("/health", self.health)
        app.router.add_get("/metrics", self.metrics)
        return app

    def close(self) -> None:
        """Take no new requests, on whatever connection they come."""
        self._exchanges.closed = True

    async def idle(self) -> None:
        """Until every request has been answered to the end."""
        await self._exchanges.idle()

    def drop_stalled(self, now: float) -> None:
        """Cut off clients that have taken nothing for too long."""
        for call, request in list(self._running.items()):
            if call.writing_since is not None and now - call.writing_since > self._settings.stall_seconds:
                log.warning("client takes nothing: dropped", extra={"request_id": call.request_id})
                if request.transport is not None:
                    request.transport.abort()

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        ask = decode(await self._body(request), ChatRequest)

        async def prompts(text: ModelText, _: EngineInfo) -> list[Ids]:
            return [await chat_prompt(ask, text, self._texts)]

        return await self._answer(request, ask, prompts, ChatShape)

    async def completion(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/completions."""
        ask = decode(await self._body(request), CompletionRequest)

        async def prompts(text: ModelText, info: EngineInfo) -> list[Ids]:
            return await completion_prompts(ask, text, self._texts, vocab_size=info.vocab_size)

        return await self._answer(request, ask, prompts, CompletionShape)

    async def models(self, _: web.Request) -> web.Response:
        """GET /v1/models."""
        return _json({"object": "list", "data": [self._card()]})

    async def model(self, request: web.Request) -> web.Response:
        """GET /v1/models/NAME."""
        self._check_model(request.match_info["model"])
        return _json(self._card())

    async def health(self, _: web.Request) -> web.Response:
        """GET /health: 200 if a replica has served a token and this gateway is not on its way out."""
        if self._fleet.draining:
            raise Unavailable("this gateway is shutting down", code="draining")
        if not self._fleet.ready:
            raise Unavailable("no replica is ready")
        return web.Response(text="ok\n")

    async def metrics(self, _: web.Request) -> web.Response:
        """GET /metrics."""
        return web.Response(body=self._metrics.text(), headers={"Content-Type": self._metrics.content_type})

    async def _body(self, request: web.Request) -> bytes:
        if self._exchanges.closed:
            raise Unavailable("this gateway is shutting down", code="draining", retry_after=1)
        limit = self._settings.max_body_bytes
        if (request.content_length or 0) > limit:
            raise web.HTTPRequestEntityTooLarge(limit, request.content_length or 0)
        return await request.read()

    async def _answer(
        self,
        request: web.Request,
        ask: CommonRequest,
        read_prompts: Callable[[ModelText, EngineInfo], Awaitable[list[Ids]]],
        shape: type[ChatShape | CompletionShape],
    ) -> web.StreamResponse:
        self._check_model(ask.model)
        check(ask)
        self._admit(1)
        info = self._model_info()
        text = self._texts.get(info.tokenizer_digest)
        self._preparing += 1
        try:
            prompts = await read_prompts(text, info)
        finally:
            self._preparing -= 1
        call = self._open(request, ask, prompts, text, info)
        options = shape(call, model=self._settings.model, token_ids=bool(ask.return_token_ids),
                        include_usage=ask.include_usage)  # fmt: skip
        self._running[call] = request
        try:
            return await (write_stream if ask.stream else write_whole)(request, call, options)
        finally:
            del self._running[call]
            call.close()
            self._log(call)

    def _open(
        self, request: web.Request, ask: CommonRequest, prompts: list[Ids], text: ModelText, info: EngineInfo
    ) -> Call:
        samplings = [
            sampling(ask, prompt_tokens=len(ids), max_model_len=info.max_model_len, vocab_size=info.vocab_size)
            for ids in prompts
        ]
        wanted = Wanted(
            n=ask.n or 1,
            stops=ask.stops,
            include_stop=bool(ask.include_stop_str_in_output),
            skip_special=ask.skip_special_tokens is not False,
            priority=-(ask.priority or 0),
        )
        self._admit(len(prompts) * wanted.n)
        call = Call(request_id=request_id(request), fleet=self._fleet, text=text)
        call.start(prompts, samplings, wanted)
        return call

    def _admit(self, sequences: int) -> None:
        """Raises Overloaded when too much waits, Invalid when so much could never be taken."""
        limit, waiting = self._settings.max_waiting, self._fleet.ledger.waiting
        if sequences > limit:
            raise Invalid(f"n: {sequences} sequences at once are more than this service takes, {limit}", param="n")
        if waiting + self._preparing + sequences > limit:
            raise Overloaded(
                f"{waiting} requests are waiting already; come back later", retry_after=self._fleet.predicted_wait()
            )

    def _model_info(self) -> EngineInfo:
        """What most open replicas serve; while a model rolls out there may be two. Raises Unavailable."""
        infos = [member.info for member in self._fleet.members.open()]
        if not infos:
            raise Unavailable("no replica is ready")
        most, _ = Counter(info.tokenizer_digest for info in infos).most_common(1)[0]
        return max((info for info in infos if info.tokenizer_digest == most), key=lambda info: info.max_model_len)

    def _check_model(self, model: str | None) -> None:
        if model is not None and model != self._settings.model:
            raise Invalid(
                f"The model `{model}` does not exist; this service has `{self._settings.model}`.",
                param="model",
                code="model_not_found",
                status=404,
            )

    def _card(self) -> dict[str, object]:
        lengths = [member.info.max_model_len for member in self._fleet.members.open()]
        card = {"id": self._settings.model, "object": "model", "created": self._started, "owned_by": "coxswain"}
        return card | {"max_model_len": max(lengths, default=None)}

    def _log(self, call: Call) -> None:
        logs = [choice.generation.log for choice in call.choices]
        log.info(
            "request done",
            extra={
                "request_id": call.request_id,
                "finish": [choice.finish or choice.generation.error or "client gone" for choice in call.choices],
                "prompt_tokens": sum(len(entry.prompt) for entry in logs),
                "output_tokens": sum(choice.tokens for choice in call.choices),
                "attempts": max(entry.attempt for entry in logs),
                "replica": sorted({c.generation.replica for c in call.choices}),
                "seconds": round(max(c.generation.last_token_at - c.generation.created for c in call.choices), 3),
            },
        )


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
