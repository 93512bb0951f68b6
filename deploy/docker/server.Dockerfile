# The server, and every command that manages: no torch. Build at the top of the tree:
#   docker build -f deploy/docker/server.Dockerfile --build-arg PYTHON_DIGEST=sha256:... -t hpo-server .
# The digest is that of the python image below; it has no default, so that nothing is built on an unpinned base.
ARG PYTHON_DIGEST

FROM python:3.11-slim@${PYTHON_DIGEST} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY alembic ./alembic
COPY studies ./studies
COPY hpo_service ./hpo_service
RUN python -m venv /opt/hpo && \
    /opt/hpo/bin/python -m pip install --no-cache-dir -c constraints.txt ".[web]"

FROM python:3.11-slim@${PYTHON_DIGEST}
COPY --from=build /opt/hpo /opt/hpo
ENV PATH=/opt/hpo/bin:$PATH \
    HOME=/tmp \
    HPO_SERVICE_OUTPUT=/hpo
RUN install -d -o 1000 -g 1000 /hpo
USER 1000:1000
WORKDIR /hpo
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["hpo-service"]
CMD ["serve", "--host", "0.0.0.0"]
