# rfcx-tf with today's set of packages. Its command is the demo; a folder of your own recordings:
#   docker build -t rfcx-tf .                                    (CPU)
#   docker build -t rfcx-tf --build-arg DEVICE=gpu .             (NVIDIA GPU: docker run --gpus all)
#   docker run --rm rfcx-tf
#   docker run --rm -v "$PWD/data:/data" rfcx-tf rfcx-tf predict --help
FROM python:3.13-slim-bookworm

ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*

WORKDIR /rfcx-tf
# The packages first, so that a change of the code does not install them again.
COPY locks locks
COPY scripts/environment.sh scripts/environment.sh
COPY Makefile Makefile
RUN make environment
ENV PATH="/rfcx-tf/.venv/bin:$PATH"
RUN if [ "$DEVICE" = gpu ]; then \
      pip install "tensorflow[and-cuda]==$(python -c 'import importlib.metadata as m; print(m.version("tensorflow"))')"; \
    fi

COPY . .
RUN pip install --no-deps .

CMD ["make", "demo"]
