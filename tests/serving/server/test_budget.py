"""Room for bodies, request by request."""

import asyncio

import grpc
import pytest

from rfcx_tf.serving.server import budget as module
from rfcx_tf.serving.server.budget import BodyBudget
from rfcx_tf.serving.server.status import ServingError

FOR_EVER_S = 600


async def let_others_run():
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_request_waits_for_room_and_smaller_ones_pass_it():
    order = []

    async def hold(budget, name, size, until):
        async with budget.room(size):
            order.append(name)
            await until.wait()

    async def main():
        budget = BodyBudget(100, FOR_EVER_S, FOR_EVER_S)
        first, rest = asyncio.Event(), asyncio.Event()
        tasks = [
            asyncio.create_task(hold(budget, "70", 70, first)),
            asyncio.create_task(hold(budget, "90", 90, rest)),
            asyncio.create_task(hold(budget, "10", 10, rest)),
        ]
        await let_others_run()
        assert order == ["70", "10"]
        first.set()
        await let_others_run()
        assert order == ["70", "10", "90"]
        rest.set()
        await asyncio.gather(*tasks)
        async with budget.room(100):
            pass

    asyncio.run(main())


def test_who_hangs_up_while_it_waits_takes_no_room():
    async def main():
        budget = BodyBudget(100, FOR_EVER_S, FOR_EVER_S)
        async with budget.room(60):
            waiting = asyncio.create_task(budget.room(60).__aenter__())
            await let_others_run()
            waiting.cancel()
            await let_others_run()
        async with budget.room(100):
            pass

    asyncio.run(main())


def test_what_is_given_back_early_is_there_for_others():
    async def main():
        budget = BodyBudget(100, FOR_EVER_S, FOR_EVER_S)
        async with budget.room(100) as room:
            budget.shrink(room, 30)
            # Nobody needs more than the room that it asked for.
            budget.shrink(room, 50)
            async with budget.room(70):
                pass
        async with budget.room(100):
            pass

    asyncio.run(main())


def test_without_room_in_time_a_request_is_refused():
    async def main():
        budget = BodyBudget(100, FOR_EVER_S, wait_s=0.01)
        async with budget.room(60):
            with pytest.raises(ServingError, match="Try again later") as caught:
                async with budget.room(60):
                    pass
        assert caught.value.code == grpc.StatusCode.UNAVAILABLE
        async with budget.room(100):
            pass

    asyncio.run(main())


@pytest.mark.parametrize("patience", [0, 1])
def test_a_body_that_hangs_gives_way_to_those_that_wait(monkeypatch, patience):
    monkeypatch.setattr(module, "_PATIENCE", patience)

    async def never():
        await asyncio.Event().wait()

    async def main():
        budget = BodyBudget(100, FOR_EVER_S, FOR_EVER_S)
        outcomes = []

        async def hang():
            async with budget.room(50):
                try:
                    await budget.read(never())
                except ServingError as error:
                    outcomes.append(error.http_status)

        async def come():
            async with budget.room(50):
                outcomes.append("came")

        hanging = [asyncio.create_task(hang()) for _ in range(2)]
        await let_others_run()
        assert outcomes == []
        coming = asyncio.create_task(come())
        await let_others_run()
        # One of them is enough.
        assert outcomes == ([408, "came"] if patience == 0 else [])
        for task in [*hanging, coming]:
            task.cancel()
        await asyncio.gather(*hanging, coming, return_exceptions=True)

    asyncio.run(main())
