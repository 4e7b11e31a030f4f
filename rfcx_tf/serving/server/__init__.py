"""A local server of any SavedModel folder, with TensorFlow Serving's REST and gRPC surfaces.

    rest, grpc_api -> service -> batching -> model
         |               |
    budget (bodies)   versions (watches the folder)

One asyncio loop takes the requests, as far as their bodies have room; small thread pools decode
them and run the model. Nothing here knows the detector: a model is what its SavedModel says of
itself.
"""
