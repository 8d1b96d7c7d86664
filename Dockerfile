# Three images from one file: `client` submits and knows no torch, `monitor` adds Flower, `worker` does the work.
# PYTHON_IMAGE: any image of Debian or Ubuntu with Python 3.11 and its module venv.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS base
LABEL org.opencontainers.image.title=distill-queue
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 DISTILL_STORE=/store DISTILL_CACHE=/store/cache
# A new volume belongs to whom the folder belongs that it is mounted on.
RUN useradd --uid 1000 --create-home distill && mkdir /store && chown distill:distill /store

# What is installed changes seldom: it comes before the code, which changes often.
FROM base AS dependencies
ARG PIP_OPTIONS=
ENV PIP_NO_CACHE_DIR=1
RUN python3 -m venv /venv
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
# What is built of the empty ones is newer than the code that is copied over them, and would be taken for it.
RUN mkdir distill_queue && touch distill_queue/__init__.py && pip install ${PIP_OPTIONS} -c constraints.txt . \
    && rm -rf build

FROM dependencies AS code
ARG PIP_OPTIONS=
COPY distill_queue distill_queue
COPY shared shared
COPY scheduler scheduler
COPY worker worker
RUN pip wheel ${PIP_OPTIONS} --no-deps --wheel-dir /wheel .

# The client alone, without what it does not need of Debian, of Python and of its packages: 285 MB become 192.
# fontTools' compiled modules have twins in Python, which it takes without them.
FROM dependencies AS slim
COPY --from=code /wheel /wheel
RUN pip install --no-deps --no-index --force-reinstall /wheel/*.whl && pip uninstall --yes pip setuptools
RUN stdlib=$(python3 -c "import sysconfig; print(sysconfig.get_path('stdlib'))") \
    && find $stdlib /venv -depth \( -path $stdlib/site-packages -o -name test -o -name tests -o -name idlelib -o -name lib2to3 \
        -o -name ensurepip -o -name pydoc_data -o -name sample_data -o -name __pycache__ \
        -o -name '*.c' -o -name '*.h' -o -name '*.pyi' -o -path '*/fontTools/*.so' \) -exec rm -r {} + \
    # Bytecode of what it imports, as nobody may write it later; Flower's configuration is for the monitor.
    && python -P -c "import pkgutil; from distill_queue import scheduler; \
        [__import__(module.name) for module in pkgutil.walk_packages(scheduler.__path__, 'distill_queue.scheduler.') \
            if not module.name.endswith('flower_settings')]" \
    # tar and a shell: for copies of the store.
    && programs="$(readlink /venv/bin/python3) $(which sh tar gzip)" \
    && libraries=$(find $stdlib /venv -name '*.so*' | xargs ldd $programs | grep -o '\s/[^ ]*' | grep -v '/venv' | sort -u) \
    && mkdir /slim && cd / \
    && cp -a --parents $stdlib /venv /store /home /tmp /etc/passwd /etc/group /etc/ld.so.cache /slim \
    && cp -L --parents /etc/ssl/certs/ca-certificates.crt $programs $libraries /slim && ln -s usr/bin /slim/bin

FROM scratch AS client
LABEL org.opencontainers.image.title=distill-queue
COPY --from=slim /slim /
ENV PATH=/venv/bin:/usr/bin PYTHONUNBUFFERED=1 DISTILL_STORE=/store DISTILL_CACHE=/store/cache SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /app
USER 1000
ENTRYPOINT ["distill"]

FROM dependencies AS monitor
ARG PIP_OPTIONS=
RUN pip install ${PIP_OPTIONS} -c constraints.txt '.[monitor]'
COPY --from=code /wheel /wheel
RUN pip install --no-deps --no-index --force-reinstall /wheel/*.whl && mkdir --mode=700 /flower && chown 1000:1000 /flower
WORKDIR /app
USER 1000
CMD ["distill", "flower", "--db=/flower/history"]

FROM dependencies AS worker
ARG PIP_OPTIONS=
# Python reads it before anything else, so that the command cannot set it for itself (see worker/machine/libraries.py).
ENV PYTHONHASHSEED=0
RUN pip install ${PIP_OPTIONS} -c constraints.txt '.[worker,s3,export]'
COPY --from=code /wheel /wheel
RUN pip install --no-deps --no-index --force-reinstall /wheel/*.whl
WORKDIR /app
USER 1000
CMD ["celery", "-A", "distill_queue.worker.app", "worker", "-Q", "cpu,any", "-l", "INFO"]
