"""`/live`, `/ready` and `/metrics` of the operator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from coxswain_crds import names
from coxswain_operator import metrics

Object = dict[str, Any]


async def serve(port: int, *, ready: Callable[[], Awaitable[str]], measure: Callable[[], None]) -> web.AppRunner:
    """Listen. `ready` answers with what is not ready yet, or nothing; `measure` brings gauges up to date."""

    async def live(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def is_ready(_: web.Request) -> web.Response:
        missing = await ready()
        return web.Response(text=f"{missing or 'ready'}\n", status=503 if missing else 200)

    async def show_metrics(_: web.Request) -> web.Response:
        measure()
        return web.Response(body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/live", live), web.get("/ready", is_ready), web.get("/metrics", show_metrics)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner


async def webhook_answers(port: int) -> bool:
    """Whether our own webhook refuses what it must refuse: it listens, has its certificate, and validates."""
    url = f"https://127.0.0.1:{port}{names.WEBHOOK_PATH}"
    timeout = aiohttp.ClientTimeout(total=3)
    # The certificate is for the Service's name, and this connection does not leave the Pod.
    connector = aiohttp.TCPConnector(ssl=False)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.post(url, json=_review()) as answer,
        ):
            response = (await answer.json()).get("response", {})
            return answer.status == 200 and response.get("allowed") is False
    except (TimeoutError, aiohttp.ClientError, ValueError, OSError):
        return False


def _review() -> Object:
    """An LLMService without a model."""
    resource = {"group": names.GROUP, "version": names.VERSION, "resource": names.LLM_SERVICES}
    body = {
        "apiVersion": names.API_VERSION,
        "kind": names.LLM_SERVICE,
        "metadata": {"name": "probe", "namespace": "probe"},
        "spec": {},
    }
    request = {
        "uid": "probe",
        "resource": resource,
        "operation": "CREATE",
        "dryRun": True,
        "userInfo": {"username": "probe"},
        "object": body,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
