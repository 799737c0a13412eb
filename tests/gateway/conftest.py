"""A gateway on free loopback ports, scripted replicas, and a real byte-level tokenizer."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
import pytest
from openai import AsyncOpenAI
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from coxswain_gateway.gateway import Gateway, Ports
from coxswain_gateway.settings import Settings
from coxswain_protocol.messages import EngineInfo
from coxswain_protocol.status import GatewayStatus
from tests.gateway.scripted import ScriptedReplica

MODEL = "tiny"
TEXT = [
    "def add(left, right):\n    return left + right\n",
    "The quick brown fox jumps over the lazy dog. " * 3,
    "Füße, naïveté, Ελληνικά, русский, 你好世界，今天天气很好。 日本語のテキスト 🎉🚀👩‍👩‍👧‍👦 ok",
]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|end|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer()


@pytest.fixture(scope="session")
def files(tokenizer: Tokenizer) -> dict[str, bytes]:
    config = {"eos_token": "<|end|>", "chat_template": CHAT_TEMPLATE}
    return {"tokenizer.json": tokenizer.to_str().encode(), "tokenizer_config.json": json.dumps(config).encode()}


@pytest.fixture
def info(tokenizer: Tokenizer) -> EngineInfo:
    return EngineInfo(
        engine="scripted",
        model=MODEL,
        weights_digest="w1",
        tokenizer_digest="t1",
        vocab_size=tokenizer.get_vocab_size(),
        max_model_len=4096,
        block_size=16,
        num_blocks=1024,
        max_num_seqs=64,
        eos_ids=(0,),
        features=frozenset({"exact"}),
        step_floor_seconds=0.002,
    )


@dataclass
class Running:
    """A started gateway with its clients, and the replicas that dialled it."""

    gateway: Gateway
    ports: Ports
    http: aiohttp.ClientSession
    openai: AsyncOpenAI
    replicas: list[ScriptedReplica] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.api}"

    async def post(self, path: str, body: Any, **options: Any) -> tuple[int, Any, Any]:
        """Status, JSON and headers."""
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        async with self.http.post(f"{self.url}{path}", data=data, **options) as answer:
            return answer.status, await answer.json(), answer.headers

    async def status(self) -> GatewayStatus:
        headers = {"Authorization": "Bearer secret"}
        url = f"http://127.0.0.1:{self.ports.status}/internal/status"
        async with self.http.get(url, headers=headers) as answer:
            return msgspec.json.decode(await answer.read(), type=GatewayStatus)

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        async with self.http.get(f"{self.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        found = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        assert found, f"no metric {name}"
        return sum(found)

    async def until(self, condition: Callable[[], bool], *, what: str, timeout: float = 10) -> None:
        """Poll the gateway's own state, which changes on this very loop."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():  # noqa: ASYNC110 - another process, or any state at all, is watched
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"waited {timeout:g} s for {what}") from None

    async def add(self, replica: ScriptedReplica) -> ScriptedReplica:
        """Connect a replica and wait until it has proved itself."""
        await replica.connect(self.ports.replicas)
        self.replicas.append(replica)
        members = self.gateway.fleet.members
        await self.until(
            lambda: any(m.replica == replica.name and m.proved for m in members), what=f"{replica.name} to serve"
        )
        return replica


Start = Callable[..., Awaitable[Running]]
NewReplica = Callable[..., ScriptedReplica]


@pytest.fixture
def settings() -> Settings:
    return Settings(
        service="chat",
        namespace="default",
        model=MODEL,
        gateway="gateway-0",
        token="secret",
        host="127.0.0.1",
        port=0,
        replica_port=0,
        status_port=0,
        replay="Exact",
        linger_seconds=0.2,
        heartbeat_limit=0.4,
    )


@pytest.fixture
def new_replica(info: EngineInfo, files: dict[str, bytes]) -> NewReplica:
    """Make a scripted replica, not yet connected; keyword arguments `info_*` change its EngineInfo."""

    def make(name: str, **knobs: Any) -> ScriptedReplica:
        changes = {key.removeprefix("info_"): knobs.pop(key) for key in list(knobs) if key.startswith("info_")}
        return ScriptedReplica(name, msgspec.structs.replace(info, **changes), files, **knobs)

    return make


@pytest.fixture
async def start(settings: Settings) -> AsyncIterator[Start]:
    """Start a gateway; keyword arguments change its settings. Everything started is stopped afterwards."""
    started: list[Running] = []

    async def run(**changes: Any) -> Running:
        values = {name: getattr(settings, name) for name in Settings.__dataclass_fields__}
        gateway = Gateway(Settings(**(values | changes)))
        ports = await gateway.start()
        client = AsyncOpenAI(base_url=f"http://127.0.0.1:{ports.api}/v1", api_key="none", max_retries=0, timeout=20)
        started.append(Running(gateway, ports, aiohttp.ClientSession(), client))
        return started[-1]

    yield run
    for running in started:
        for replica in running.replicas:
            await replica.kill()
        await running.http.close()
        await running.openai.close()
        await running.gateway.stop()


@pytest.fixture
async def gateway(start: Start, new_replica: NewReplica) -> Running:
    """A gateway with two replicas."""
    running = await start()
    for name in ("replica-0", "replica-1"):
        await running.add(new_replica(name))
    return running


@pytest.fixture
async def scripted(start: Start, new_replica: NewReplica) -> tuple[Running, ScriptedReplica]:
    """A gateway with a single replica, and that replica."""
    gateway = await start()
    return gateway, await gateway.add(new_replica("replica-0"))
