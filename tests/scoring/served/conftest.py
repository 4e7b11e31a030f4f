"""A scripted server on free ports."""

import threading
from concurrent import futures

import pytest
from fake_serving import FakeServing


@pytest.fixture
def serving():
    fake, ready = FakeServing(), futures.Future()
    thread = threading.Thread(target=fake.serve_rest, args=[ready], daemon=True)
    thread.start()
    fake.rest = f"http://127.0.0.1:{ready.result(10)}"
    grpc_server, port = fake.serve_grpc()
    fake.grpc = f"grpc://127.0.0.1:{port}"
    yield fake
    fake.stopping.set()
    grpc_server.stop(0).wait(5)
    thread.join(5)
