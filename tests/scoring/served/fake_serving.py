"""A server that speaks TensorFlow Serving's REST and gRPC, with failures by script.

It knows nothing of the client or of our server: protocol and numbers are written down here again.
"""

import asyncio
import base64
import io
import json
import threading
import time
from concurrent import futures

import numpy as np
import soundfile
from aiohttp import web

RATE_HZ, WINDOW, HOP = 1000, 100, 50
SPECIES_IDS, NAMES = [4, 7], ["frög", "owl"]


def window_scores(waveform) -> np.ndarray:
    """Mean and highest absolute sample of every window: float32 [windows, 2]."""
    padded = np.pad(waveform, (0, max(0, WINDOW - len(waveform))))
    starts = range(0, len(padded) - WINDOW + 1, HOP)
    sounds = np.abs(np.stack([padded[start : start + WINDOW] for start in starts]))
    return np.stack([sounds.mean(axis=1), sounds.max(axis=1)], axis=1).astype(np.float32)


class FakeServing:
    """One model on a REST and a gRPC port.

    Attributes:
        rest, grpc: addresses for `--server`.
        script: what to do with the next requests for scores, one entry each; then: answer.
            A number is a REST status (gRPC has its own name for it), `hang`, `close`, or a
            function that changes the outputs, or bytes, which REST sends as they are.
        requests: (signature, inputs) of every request for scores.
        card: of the model, which the signature `about` gives.
        signatures: (inputs, outputs) by name.
        delay_s: how long an answer takes.
        most_at_once: requests that were in work together.
    """

    CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"} | {
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
        500: "INTERNAL",
    }

    def __init__(self):
        scores = ["scores", "window_scores", "window_start_s"]
        self.card = {
            "version": 1,
            "classes": [
                {"species_id": number, "name": name}
                for number, name in zip(SPECIES_IDS, NAMES, strict=True)
            ],
            "sample_rate_hz": RATE_HZ,
            "window_s": WINDOW / RATE_HZ,
            "hop_s": HOP / RATE_HZ,
            "window_centre_s": [0.05, 0.05],
            "mean_box_s": [0.2, None],
            "box_hz": [[100, 200], [None, None]],
            "ends_inside": True,
            "smoothing": "",
            "calibration": None,
            "frontend": "",
            "made_by": "runs/here",
        }
        self.signatures = {
            "serving_default": (["waveform"], scores),
            "wav": (["wav"], scores),
            "about": (["samples"], ["card", "windows"]),
        }
        self.script, self.requests = [], []
        self.delay_s, self.most_at_once, self._at_once = 0.0, 0, 0
        self.retry_after = None
        self._lock = threading.Lock()
        self.stopping = threading.Event()

    def predict(self, signature, inputs) -> dict[str, np.ndarray]:
        if signature == "about":
            assert inputs["samples"].shape == ()
            card = np.array(json.dumps(self.card, ensure_ascii=False).encode(), object)
            return {"card": card, "windows": np.int32(1)}
        if signature == "wav":
            (content,) = inputs["wav"]
            samples, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32")
            assert rate_hz == RATE_HZ
        else:
            assert inputs["waveform"].dtype == np.float32
            (samples,) = inputs["waveform"]
        scores = window_scores(samples)
        starts_s = np.arange(len(scores), dtype=np.float32) * HOP / RATE_HZ
        outputs = (scores.max(axis=0)[None], scores[None], starts_s)
        outputs = dict(zip(["scores", "window_scores", "window_start_s"], outputs, strict=True))
        return {name: outputs[name] for name in self.signatures[signature][1]}

    def next_step(self, signature, inputs):
        """What the script says, counted as in work until `answered`."""
        if signature == "about":
            return None
        with self._lock:
            self.requests.append((signature, inputs))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            step = self.script.pop(0) if self.script else None
        return step

    def answered(self, signature):
        if signature != "about":
            with self._lock:
                self._at_once -= 1

    # REST

    async def rest_metadata(self, _):
        tensors = [
            {
                key: {name: {"dtype": "DT_FLOAT"} for name in names}
                for key, names in zip(("inputs", "outputs"), pair, strict=True)
            }
            for pair in self.signatures.values()
        ]
        described = dict(zip(self.signatures, tensors, strict=True))
        described["__saved_model_init_op"] = {"inputs": {}, "outputs": {"op": {}}}
        inner = {"@type": "type.googleapis.com/...", "signature_def": described}
        return web.json_response({"model_spec": {}, "metadata": {"signature_def": inner}})

    async def rest_predict(self, request):
        body = await request.json()
        (names, _), inputs = self.signatures[body["signature_name"]], {}
        assert sorted(body["inputs"]) == sorted(names)
        for name, value in body["inputs"].items():
            if name == "wav":
                inputs[name] = [base64.b64decode(entry["b64"]) for entry in value]
            else:
                inputs[name] = np.array(value, np.float32)
        signature = body["signature_name"]
        step = self.next_step(signature, inputs)
        try:
            await asyncio.sleep(self.delay_s)
            if step == "hang":
                while not self.stopping.is_set():
                    await asyncio.sleep(0.02)
            if step == "close":
                request.transport.abort()
                return web.Response()
            if isinstance(step, bytes):
                return web.Response(body=step, content_type="text/html")
            if isinstance(step, int):
                headers = {"Retry-After": self.retry_after} if self.retry_after else {}
                error = {"error": f"scripted {step}"}
                return web.json_response(error, status=step, headers=headers)
            outputs = self.predict(signature, inputs)
            outputs = step(dict(outputs)) if step else outputs
            texts = {name: _as_json(value) for name, value in outputs.items()}
            return web.json_response({"outputs": texts}, dumps=json.dumps)
        finally:
            self.answered(signature)

    def serve_rest(self, ready):
        async def serve():
            app = web.Application(client_max_size=1 << 28)
            app.router.add_get("/v1/models/fake/metadata", self.rest_metadata)
            app.router.add_post("/v1/models/fake:predict", self.rest_predict)
            runner = web.AppRunner(app, handler_cancellation=True)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            ready.set_result(runner.addresses[0][1])
            while not self.stopping.is_set():
                await asyncio.sleep(0.02)
            await runner.cleanup()

        asyncio.run(serve())

    # gRPC

    def grpc_metadata(self, request, _):
        from tensorflow_serving.apis import get_model_metadata_pb2

        assert request.model_spec.name == "fake"
        described = get_model_metadata_pb2.SignatureDefMap()
        for name, (inputs, outputs) in self.signatures.items():
            for own in inputs:
                described.signature_def[name].inputs[own].name = own
            for own in outputs:
                described.signature_def[name].outputs[own].name = own
        reply = get_model_metadata_pb2.GetModelMetadataResponse()
        reply.metadata["signature_def"].Pack(described)
        return reply

    def grpc_predict(self, request, context):
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        signature = request.model_spec.signature_name
        step = self.next_step(signature, inputs)
        try:
            time.sleep(self.delay_s)
            if step == "hang":
                while context.is_active() and not self.stopping.is_set():
                    time.sleep(0.02)
            if isinstance(step, int):
                context.abort(getattr(grpc.StatusCode, self.CODES[step]), f"scripted {step}")
            outputs = self.predict(signature, inputs)
            outputs = step(dict(outputs)) if step else outputs
            reply = predict_pb2.PredictResponse()
            for name, value in outputs.items():
                if not request.output_filter or name in request.output_filter:
                    reply.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return reply
        finally:
            self.answered(signature)

    def serve_grpc(self):
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        options = [("grpc.max_receive_message_length", -1)]
        server = grpc.server(futures.ThreadPoolExecutor(32), options=options)
        servicer = prediction_service_pb2_grpc.PredictionServiceServicer()
        servicer.Predict, servicer.GetModelMetadata = self.grpc_predict, self.grpc_metadata
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return server, port


def _as_json(value):
    values = np.asarray(value)
    return values.item().decode() if values.dtype == object else values.tolist()
