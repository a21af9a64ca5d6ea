# Build: docker build -t lookalike .
# With the encoder lite, without CLIP's weights: --build-arg ENCODER=lite
# For a GPU (docker run --gpus all): --target gpu

FROM python:3.13-slim AS build
WORKDIR /srv/lookalike
COPY requirements.txt .
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY lookalike lookalike
COPY templates templates
COPY static static
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation .
# The weights and their int8 form become part of the image, so a container starts without a download.
# What is made here rather than downloaded (ENCODER=lite) goes to DATA_DIR: a new volume begins with it,
# and a container with another makes it again in seconds.
ARG ENCODER=clip
ENV HF_HOME=/opt/models
RUN mkdir -p /opt/models /data && DATA_DIR=/data /opt/venv/bin/lookalike model fetch "$ENCODER"

# ONNX Runtime for CUDA writes into the same folder as that for CPUs, which must be gone by then.
FROM build AS build-gpu
RUN version=$(/opt/venv/bin/python -c 'from importlib.metadata import version; print(version("onnxruntime"))') \
    && /opt/venv/bin/pip uninstall --yes onnxruntime \
    && /opt/venv/bin/pip install --no-cache-dir "onnxruntime-gpu[cuda,cudnn]==$version"

FROM python:3.13-slim AS base
RUN useradd --create-home --uid 1000 lookalike
COPY --from=build --chown=lookalike /opt/models /opt/models
COPY --from=build --chown=lookalike /data /data
ARG ENCODER=clip
ENV PATH=/opt/venv/bin:$PATH \
    HF_HOME=/opt/models \
    HF_HUB_OFFLINE=1 \
    ENCODER=$ENCODER \
    BIND=0.0.0.0 \
    DATA_DIR=/data
USER lookalike
WORKDIR /data
VOLUME /data
EXPOSE 8000
# The server listens on PORT, which hosts such as Cloud Run set.
CMD ["lookalike", "serve"]

FROM base AS gpu
COPY --from=build-gpu /opt/venv /opt/venv
# What the driver of the host gives to a container.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# Without a target, this is built.
FROM base
COPY --from=build /opt/venv /opt/venv
