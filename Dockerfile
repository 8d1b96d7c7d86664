# Three images from one file: `client` submits and knows no torch, `monitor` adds Flower, `worker` does the work.
ARG BASE=python:3.11-slim

FROM ${BASE} AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 DISTILL_STORE=/store
RUN useradd --uid 1000 --create-home distill && mkdir /store && chown distill /store
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
COPY shared shared
COPY scheduler scheduler
COPY worker worker

FROM base AS client
RUN pip install -c constraints.txt .
USER distill
ENTRYPOINT ["distill"]

FROM base AS monitor
RUN pip install -c constraints.txt '.[monitor]' && mkdir --mode=700 /flower && chown distill /flower
USER distill
CMD ["celery", "-A", "worker.app", "flower", "--conf=scheduler/flower_settings.py", "--db=/flower/history"]

FROM base AS worker
RUN pip install -c constraints.txt '.[worker]'
USER distill
CMD ["celery", "-A", "worker.app", "worker", "-Q", "cpu,any", "-l", "INFO"]
