"""Joined requests get exactly what they get alone."""

import asyncio

import grpc
import numpy as np
import pytest

from rfcx_tf.serving.server.batching import Batcher, Job, join_key, run_batch
from rfcx_tf.serving.server.metrics import Metrics
from rfcx_tf.serving.server.model import ServedModel
from rfcx_tf.serving.server.status import ServingError


@pytest.fixture(scope="module")
def loaded(tiny_model_folder):
    return ServedModel(tiny_model_folder / "1", 1)


@pytest.fixture
def model(loaded, monkeypatch):
    """The tiny model, which has learned nothing, with the sizes of its calls noted in `calls`."""
    run, loaded.calls = loaded.run, []
    loaded.alone.clear()

    def noting_run(signature, inputs):
        loaded.calls.append(len(next(iter(inputs.values()))))
        return run(signature, inputs)

    monkeypatch.setattr(loaded, "run", noting_run)
    return loaded


def waveforms(*rows, samples=300):
    random = np.random.default_rng(sum(rows))
    return [{"waveform": random.normal(size=(n, samples)).astype(np.float32)} for n in rows]


def make_jobs(model, signature, inputs):
    return [Job(model, signature, i, *join_key(model, signature, i), None) for i in inputs]


def assert_equal_outputs(outputs, expected):
    for found, wanted in zip(outputs, expected, strict=True):
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[name], array)


# Three windows, and three rows in all: lengths alone could not tell windows from rows.
@pytest.mark.parametrize("rows", [(1, 1, 1), (2, 1), (1, 3)])
def test_joined_requests_get_what_they_get_alone(model, rows):
    inputs = waveforms(*rows)
    expected = [model.run("serving_default", i) for i in inputs]
    run_batch(make_jobs(model, "serving_default", waveforms(1)))
    model.calls.clear()
    outputs = run_batch(make_jobs(model, "serving_default", inputs))
    assert model.calls == [sum(rows)]
    assert_equal_outputs(outputs, expected)


def test_as_many_windows_as_rows_alone(model):
    # The request that ran alone had 3 rows and 3 windows: which is which is not known from it.
    run_batch(make_jobs(model, "serving_default", waveforms(3)))
    inputs = waveforms(1, 1)
    expected = [model.run("serving_default", i) for i in inputs]
    assert_equal_outputs(run_batch(make_jobs(model, "serving_default", inputs)), expected)


def test_an_output_of_the_whole_batch_is_not_joined(model):
    inputs = [{"values": np.float32([n])} for n in (1, 3)]
    run_batch(make_jobs(model, "average", inputs[:1]))
    outputs = run_batch(make_jobs(model, "average", inputs))
    assert [float(o["average"]) for o in outputs] == [1, 3]
    assert [o["doubled"].tolist() for o in outputs] == [[2], [6]]


def test_keys_tell_apart_what_must_not_be_joined(model):
    def key(signature, **inputs):
        return join_key(model, signature, inputs)[0]

    three, four = np.zeros((1, 300), np.float32), np.zeros((1, 400), np.float32)
    assert key("serving_default", waveform=three) == key("serving_default", waveform=three + 1)
    assert key("serving_default", waveform=three) != key("serving_default", waveform=four)
    text = np.array([b"a" * 50, b"a" * 50], object)
    assert key("texts", texts=text[:1]) == key("texts", texts=text[1:])
    assert key("texts", texts=text) != key("texts", texts=np.array([b"a" * 51], object))
    assert key("texts", texts=text) != key("texts", texts=np.array([b"b" * 50], object))
    # Without rows there is nothing to join along.
    assert key("texts", texts=np.array(b"RIFF", object)) is None
    assert key("wav", wav=np.array(b"RIFF", object)) is None


def test_one_bad_request_does_not_spoil_the_others(model, monkeypatch):
    inputs = waveforms(1, 1, 1)
    run_batch(make_jobs(model, "serving_default", inputs))
    run = model.run

    def failing_run(signature, values):
        if np.any(values["waveform"] == 99):
            raise ValueError("99")
        return run(signature, values)

    expected = [run("serving_default", i) for i in inputs]
    inputs[1]["waveform"][0, 7] = 99
    monkeypatch.setattr(model, "run", failing_run)
    outputs = run_batch(make_jobs(model, "serving_default", inputs))
    assert isinstance(outputs[1], ValueError)
    assert_equal_outputs([outputs[0], outputs[2]], [expected[0], expected[2]])


def test_batcher_joins_up_to_the_limit(model):
    inputs = waveforms(*[1] * 10)
    expected = [model.run("serving_default", i) for i in inputs]

    async def main():
        batcher = Batcher(Metrics(), max_batch=4, wait_s=0.02, max_pending=20, workers=1)

        async def send(values):
            with batcher.admit() as ticket:
                await asyncio.sleep(0)
                return await batcher.submit(ticket, model, "serving_default", values)

        await send(inputs[0])
        model.calls.clear()
        outputs = await asyncio.gather(*map(send, inputs))
        await batcher.close()
        return outputs

    assert_equal_outputs(asyncio.run(main()), expected)
    assert max(model.calls) == 4
    assert sum(model.calls) == 10


def test_a_full_server_refuses(model):
    async def main():
        batcher = Batcher(Metrics(), max_batch=4, wait_s=0, max_pending=1, workers=1)
        with batcher.admit():
            with pytest.raises(ServingError) as raised, batcher.admit():
                pass
            assert raised.value.code == grpc.StatusCode.UNAVAILABLE
        with batcher.admit():
            pass
        await batcher.close()

    asyncio.run(main())


def test_given_up_requests_do_not_run(model):
    async def main():
        batcher = Batcher(Metrics(), max_batch=1, wait_s=0, max_pending=9, workers=1)

        async def send(values):
            with batcher.admit() as ticket:
                return await batcher.submit(ticket, model, "serving_default", values)

        tasks = [asyncio.create_task(send(i)) for i in waveforms(1, 2, 3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await batcher.close()

    asyncio.run(main())
    assert model.calls == [1, 3]
