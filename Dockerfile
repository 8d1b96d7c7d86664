# Three images from one file: `client` submits and knows no torch, `monitor` adds Flower, `worker` does the work.
# PYTHON_IMAGE: any image of Debian or Ubuntu with Python 3.11 and its module venv.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS base
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 DISTILL_STORE=/store
# A new volume belongs to whom the folder belongs that it is mounted on.
RUN useradd --uid 1000 --create-home distill && mkdir /store && chown distill:distill /store
WORKDIR /app

# What is installed changes seldom: it comes before the code, which changes often.
FROM base AS dependencies
ARG PIP_OPTIONS=
ENV PIP_NO_CACHE_DIR=1
RUN python3 -m venv /venv
COPY pyproject.toml constraints.txt README.md ./
RUN mkdir scheduler shared worker && pip install ${PIP_OPTIONS} -c constraints.txt .

FROM dependencies AS code
ARG PIP_OPTIONS=
COPY shared shared
COPY scheduler scheduler
COPY worker worker
RUN pip wheel ${PIP_OPTIONS} --no-deps --wheel-dir /wheel .

# Without what nobody runs: installers, tests, C sources, type stubs, and the bytecode of modules that it does not import.
FROM dependencies AS slim
COPY --from=code /wheel /wheel
RUN pip install --no-deps --no-index --force-reinstall /wheel/*.whl && pip uninstall --yes pip setuptools \
    && find /venv -depth \( -name tests -o -name __pycache__ -o -name '*.c' -o -name '*.pyi' \) -exec rm -r {} + \
    && python -c "import pkgutil, scheduler; [__import__('scheduler.' + module.name) for module in pkgutil.iter_modules(scheduler.__path__)]"

FROM base AS client
COPY --from=slim /venv /venv
USER 1000
ENTRYPOINT ["distill"]

FROM dependencies AS monitor
ARG PIP_OPTIONS=
RUN pip install ${PIP_OPTIONS} -c constraints.txt '.[monitor]'
COPY --from=code /wheel /wheel
RUN pip install --no-deps --no-index --force-reinstall /wheel/*.whl
USER 1000
CMD ["celery", "-A", "worker.app", "flower"]

FROM dependencies AS worker
ARG PIP_OPTIONS=
RUN pip install ${PIP_OPTIONS} -c constraints.txt '.[worker]'
COPY --from=code /wheel /wheel
RUN pip install --no-deps --no-index --force-reinstall /wheel/*.whl
USER 1000
CMD ["celery", "-A", "worker.app", "worker", "-Q", "cpu,any", "-l", "INFO"]
