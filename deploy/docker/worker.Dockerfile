# A worker that trains, on GPUs or on CPUs: torch's wheel brings CUDA with it, the node only its driver.
# Build at the top of the tree:
#   docker build -f deploy/docker/worker.Dockerfile --build-arg PYTHON_DIGEST=sha256:... -t hpo-worker .
# The digest is that of the python image below; it has no default, so that nothing is built on an unpinned base.
ARG PYTHON_DIGEST

FROM python:3.11-slim@${PYTHON_DIGEST} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY alembic ./alembic
COPY studies ./studies
COPY hpo_service ./hpo_service
RUN python -m venv /opt/hpo && \
    /opt/hpo/bin/python -m pip install --no-cache-dir -c constraints.txt ".[train]"

FROM python:3.11-slim@${PYTHON_DIGEST}
COPY --from=build /opt/hpo /opt/hpo
ENV PATH=/opt/hpo/bin:$PATH \
    HOME=/tmp \
    HPO_SERVICE_OUTPUT=/hpo \
    HPO_SERVICE_CACHE=/tmp/cache \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN install -d -o 1000 -g 1000 /hpo
USER 1000:1000
WORKDIR /hpo
STOPSIGNAL SIGTERM
# a worker whose libraries or folder are gone is of no use; the database's outages it waits for by itself
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s \
    CMD ["python", "-c", "import tempfile, hpo_service.worker.supervisor; tempfile.TemporaryFile(dir='/hpo')"]
ENTRYPOINT ["hpo-service"]
CMD ["worker"]
