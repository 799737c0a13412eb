"""What a gateway sees of a replica."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coxswain_protocol.messages import PROTOCOL_VERSION, Beat, Blocks, Step, Tokenizer
from coxswain_workers.addresses import GatewayAddresses
from coxswain_workers.engine.interface import EngineOptions
from coxswain_workers.engine.native import load_native
from coxswain_workers.engine.tokenizer import tokenizer_files
from coxswain_workers.replica.replica import EngineFailedError, RefusedError
from tests.replica.conftest import running
from tests.replica.engines import INFO, Metronome
from tests.replica.gateway import TestGateway, request


async def test_a_replica_introduces_itself_and_sends_its_blocks() -> None:
    async with TestGateway() as gateway, running(Metronome(), gateway, accelerator="h100") as (replica, _):
        hello = await gateway.joined()
    assert hello.protocol == PROTOCOL_VERSION
    assert (hello.replica, hello.incarnation, hello.draining) == ("chat-serve-0-1", replica.incarnation, False)
    assert hello.info.accelerator == "h100"
    assert gateway.all(Blocks)[0].hashes == (7, 8, 9)
    assert not gateway.all(Tokenizer)


async def test_the_tokenizer_is_sent_to_a_gateway_that_wants_it() -> None:
    files = {"tokenizer.json": b"{}" * 1_000_000, "chat_template.jinja": b"hi"}
    async with TestGateway(wants_tokenizer=True) as gateway:
        async with running(Metronome(), gateway, tokenizer=files, max_backlog=1000):
            await gateway.joined()
    assert gateway.all(Tokenizer) == [Tokenizer(INFO.tokenizer_digest, files)]


async def test_a_native_engine_streams_the_tokens_it_computes(checkpoint: Path) -> None:
    options = EngineOptions(num_blocks=64)
    engine = load_native(checkpoint, options)
    engine.submit(request("alone", tokens=12))
    expected: list[int] = []
    while engine.has_work():
        expected += [token for chunk in engine.step().chunks for token in chunk.tokens]
    async with TestGateway(wants_tokenizer=True) as gateway:
        async with running(load_native(checkpoint, options), gateway, tokenizer=tokenizer_files(checkpoint)):
            await gateway.joined()
            gateway.submit(request("a#1", tokens=12))
            await gateway.until(lambda: gateway.finished("a#1"), "the stream to finish")
            gateway.submit(request("long#1", prompt=(5,) * 600))
            await gateway.until(lambda: gateway.finished("long#1"), "an error for a prompt that is too long")
    assert list(gateway.tokens("a#1")) == expected
    assert [chunk.start for chunk in gateway.chunks("a#1")] == list(range(12))
    (refusal,) = gateway.chunks("long#1")
    assert refusal.finish is not None
    assert refusal.finish.reason == "error"
    assert "600" in refusal.finish.message


async def test_each_gateway_gets_its_own_tokens_and_every_step() -> None:
    async with TestGateway("one") as one, TestGateway("two") as two:
        async with running(Metronome(blocks=1), one, two):
            await asyncio.gather(one.joined(), two.joined())
            one.submit(request("a", prompt=(100,), tokens=20))
            two.submit(request("b", prompt=(500,), tokens=20))
            await one.until(lambda: one.finished("a"), "stream a")
            await two.until(lambda: two.finished("b"), "stream b")
            last = max(one.all(Step)[-1].event.number, two.all(Step)[-1].event.number)
            for gateway in (one, two):
                await gateway.until(lambda g=gateway: g.all(Step)[-1].event.number == last, "the last step")  # type: ignore[misc]
    assert one.tokens("a") == tuple(range(101, 121))
    assert two.tokens("b") == tuple(range(501, 521))
    assert not one.chunks("b")
    assert not two.chunks("a")
    assert [step.stored for step in one.all(Step)] == [step.stored for step in two.all(Step)]
    numbers = [step.event.number for step in one.all(Step)]
    assert numbers == list(range(1, last + 1)), "one frame per step"


async def test_an_aborted_request_stops() -> None:
    engine = Metronome()
    async with TestGateway() as gateway, running(engine, gateway):
        await gateway.joined()
        gateway.submit(request("a", tokens=1_000_000))
        await gateway.until(lambda: len(gateway.tokens("a")) > 3, "tokens")
        gateway.abort("a")
        gateway.abort("unknown")
        await gateway.until(lambda: engine.aborted == ["a"], "the engine to hear of it")
        await gateway.until(lambda: gateway.all(Beat)[-1].load.running == 0, "an idle engine")
    assert not gateway.finished("a")


async def test_an_id_that_is_already_running_is_refused_and_the_first_goes_on() -> None:
    async with TestGateway("one") as one, TestGateway("two") as two, running(Metronome(), one, two):
        await asyncio.gather(one.joined(), two.joined())
        one.submit(request("same", tokens=300))
        await one.until(lambda: one.tokens("same"), "the first")
        two.submit(request("same", tokens=300))
        await two.until(lambda: two.finished("same"), "the refusal")
        await one.until(lambda: one.finished("same"), "the first to finish")
    finish = two.chunks("same")[0].finish
    assert finish is not None
    assert finish.reason == "error"
    assert len(one.tokens("same")) == 300


async def test_beats_go_on_while_a_step_takes_long() -> None:
    engine = Metronome()
    async with TestGateway() as gateway, running(engine, gateway):
        await gateway.joined()
        engine.hold.set()
        gateway.submit(request("a"))
        await asyncio.sleep(0.1)
        before = len(gateway.all(Beat))
        await gateway.until(lambda: len(gateway.all(Beat)) >= before + 15, "beats during the step")
        assert not gateway.tokens("a")
        engine.hold.clear()
        engine.released.set()
        await gateway.until(lambda: gateway.finished("a"), "the stream to finish")
        steps = gateway.all(Step)[-1].event.number
        await gateway.until(lambda: gateway.all(Beat)[-1].steps == steps, "a beat with the steps' progress")
    times = [at for at, message in gateway.heard if isinstance(message, Beat)][before : before + 15]
    assert (times[-1] - times[0]) / 14 == pytest.approx(0.1, abs=0.03)


async def test_a_gateway_that_does_not_read_is_dropped_and_the_others_go_on() -> None:
    engine = Metronome(period=0.02, blocks=20_000)
    async with TestGateway("deaf") as deaf, TestGateway("keen") as keen:
        async with running(engine, deaf, keen, max_backlog=2_000_000) as (replica, _):
            await asyncio.gather(deaf.joined(), keen.joined())
            deaf.submit(request("d", tokens=1_000_000))
            keen.submit(request("k", tokens=1_000_000))
            deaf.stop_reading()
            await keen.until(lambda: "d" in engine.aborted, "the deaf gateway's request to be aborted")
            reached = len(keen.tokens("k"))
            await keen.until(lambda: len(keen.tokens("k")) > reached + 20, "more tokens for the one that reads")
            page = replica.metrics.page().decode()
    assert 'coxswain_replica_gateways_dropped_total{model_name="counting"} 1.0' in page
    assert engine.aborted[0] == "d"
    tokens = keen.tokens("k")
    assert tokens == tuple(range(tokens[0], tokens[0] + len(tokens)))


async def test_a_closed_connection_aborts_its_requests_and_is_dialled_again() -> None:
    engine = Metronome()
    async with TestGateway() as gateway, running(engine, gateway) as (replica, _):
        await gateway.joined()
        gateway.submit(request("a", tokens=1_000_000))
        await gateway.until(lambda: gateway.tokens("a"), "tokens")
        gateway.disconnect()
        await gateway.until(lambda: len(gateway.hellos) == 2, "a second hello")
        await gateway.until(lambda: engine.aborted == ["a"], "the request to be aborted")
        gateway.submit(request("b"))
        await gateway.until(lambda: gateway.finished("b"), "a stream on the new connection")
    assert [hello.incarnation for hello in gateway.hellos] == [replica.incarnation] * 2


async def test_a_silent_gateway_is_dropped() -> None:
    engine = Metronome()
    async with TestGateway(beats=False) as gateway, running(engine, gateway, silence_seconds=0.3):
        await gateway.joined()
        gateway.submit(request("a", tokens=1_000_000))
        await gateway.until(lambda: engine.aborted == ["a"] and len(gateway.hellos) > 1, "to be dropped and dialled")


async def test_a_wrong_token_is_refused_and_said_to_be_so() -> None:
    async with TestGateway() as gateway:
        async with running(Metronome(), gateway, token="another", refusal_seconds=0.5) as (_, task):
            async with asyncio.timeout(10):
                with pytest.raises(RefusedError, match="token"):
                    await task
    assert not gateway.connected


@pytest.mark.parametrize("fault", [None, RuntimeError("the device is gone")])
async def test_an_engine_that_hangs_or_fails_ends_the_replica(fault: Exception | None) -> None:
    engine = Metronome()
    async with TestGateway() as gateway, running(engine, gateway, stall_seconds=0.5) as (_, task):
        await gateway.joined()
        engine.fault = fault
        if fault is None:
            engine.hold.set()
        gateway.submit(request("a"))
        try:
            async with asyncio.timeout(10):
                with pytest.raises(EngineFailedError, match="has been running" if fault is None else "device is gone"):
                    await asyncio.shield(task)
                    pytest.fail("the replica ended without an error")
        finally:
            engine.released.set()


async def test_gateways_are_found_by_name_and_kept_when_dns_fails() -> None:
    answers: list[frozenset[tuple[str, int]]] = []

    async def resolve(host: str, port: int) -> frozenset[tuple[str, int]]:
        assert (host, port) == ("chat-gateways", 8001)
        if not answers:
            raise OSError("DNS is down")
        return answers.pop(0)

    async with TestGateway("one") as one, TestGateway("two") as two:
        addresses = [(host, int(port)) for host, port in (gateway.address.split(":") for gateway in (one, two))]
        answers += [frozenset(addresses[:1]), frozenset(addresses)]
        names = GatewayAddresses.parse("chat-gateways:8001")
        async with running(Metronome(), gateways=names, resolve_name=resolve):
            await one.joined()
            await two.joined()
            assert not answers
            one.disconnect()
            await one.until(lambda: len(one.hellos) == 2, "a second hello, with DNS down")
            assert two.connections == 1
