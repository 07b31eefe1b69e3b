# The gateway as an image: targets `cpu` (the default), `gpu` and `loadtest`.
#
#   docker build --tag onnx-gateway .
#   docker build --tag onnx-gateway:gpu --target gpu .
#   docker run --read-only --tmpfs /tmp -p 8000:8000 -v ./models:/models:ro -v gateway-state:/var/lib/gateway onnx-gateway
#
# The base is pinned by its exact tag. Tags can be moved and digests cannot: where you build for production, look the
# digest up once and pass it: --build-arg BASE=python:3.11.14-slim-bookworm@sha256:...
ARG BASE=python:3.11.14-slim-bookworm

# --- what is built from, and how: every step is deploy/install.sh, which the tests run as well ------------------
FROM ${BASE} AS source
ENV PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE requirements.lock requirements-gpu.lock requirements-test.lock ./
COPY deploy/install.sh deploy/lock_part.py deploy/
COPY gateway gateway

FROM source AS build-cpu
RUN deploy/install.sh requirements.lock /opt/gateway

FROM source AS build-gpu
RUN deploy/install.sh requirements-gpu.lock /opt/gateway

FROM source AS build-loadtest
RUN deploy/install.sh requirements-test.lock /opt/loadtest locust scikit-learn orjson

# --- what runs: no pip, no compiler, nobody's shell account, nothing to write but the state and /tmp -------------
FROM ${BASE} AS runtime
RUN python -m pip uninstall --yes --quiet --root-user-action=ignore setuptools wheel pip \
    && groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gateway \
    && install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/gateway
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001

FROM runtime AS loadtest
COPY --from=build-loadtest /opt/loadtest /opt/loadtest
COPY loadtests /srv/loadtests
ENV PATH=/opt/loadtest/bin:$PATH
WORKDIR /srv
# With a shape and without its web page, locust ends well on this signal only.
STOPSIGNAL SIGINT
ENTRYPOINT ["python", "-m", "locust", "-f", "loadtests/locustfile.py"]
CMD ["--help"]

FROM runtime AS serving
COPY deploy/healthcheck.py /opt/healthcheck.py
# The admin plane stays on the container's loopback: to listen further it needs tokens, see docs/operations.md.
ENV PATH=/opt/gateway/bin:$PATH \
    GATEWAY_REPOSITORY=/models \
    GATEWAY_HOST=0.0.0.0 \
    GATEWAY_STATE_DIR=/var/lib/gateway \
    GATEWAY_LOG_FORMAT=json
WORKDIR /var/lib/gateway
VOLUME ["/var/lib/gateway"]
EXPOSE 8000 8002
# Readiness is 503 at once, requests are answered for the drain delay, then what is in flight is finished.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["python", "/opt/healthcheck.py", "/livez"]
ENTRYPOINT ["gateway"]
CMD ["serve"]

# CUDA and cuDNN come as packages of the lock; the host brings the driver and its container runtime.
FROM serving AS gpu
COPY --from=build-gpu /opt/gateway /opt/gateway
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    LD_LIBRARY_PATH=/opt/gateway/lib/python3.11/site-packages/nvidia/cu13/lib:/opt/gateway/lib/python3.11/site-packages/nvidia/cudnn/lib

FROM serving AS cpu
COPY --from=build-cpu /opt/gateway /opt/gateway
