# Three images of one house: pipeline, serving, labelling (docs/images.md). Build them with: make images
#
# Packages come from the hash-locked lists in requirements/, in stages that stay behind: an image holds its packages,
# our code, and neither installer nor compiler. Packages and code are layers of their own, so that a change of code
# moves two megabytes. Bytecode is compiled here, because a container's root file system is read-only.

ARG BASE=python:3.11-slim

FROM ${BASE} AS base
RUN python -c 'import sys; v = "%d.%d" % sys.version_info[:2]; v == "3.11" or sys.exit(f"BASE has Python {v}; the locked packages are for 3.11. Give --build-arg BASE=python:3.11-slim or one like it.")' \
    # Some bases come without the standard library's bytecode, and a read-only root would never keep it.
    && python -m compileall -q -x '/(dist-packages|ensurepip|idlelib|lib2to3|site-packages|test|tests|tkinter|turtledemo)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && groupadd --gid 65532 ninefold \
    && useradd --key UID_MAX=65535 --uid 65532 --gid 65532 --no-create-home --home-dir /var/lib/ninefold --shell /usr/sbin/nologin ninefold \
    # Group 0 may write, too: some platforms run a container as a user of their own choice, in that group.
    && install --directory --owner=65532 --group=0 --mode=0775 /var/lib/ninefold

FROM base AS installer
# Where packages come from, for both installers; by default their own. Nothing of this stage's settings reaches an image.
ARG PIP_INDEX_URL=""
ARG UV_DEFAULT_INDEX=""
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1 \
    # Copied files may lose their times; bytecode that does not ask for them is also read faster.
    PYC_INVALIDATION_MODE=UNCHECKED_HASH
COPY requirements/installer.txt /requirements/
RUN python -m venv /opt/installer \
    && /opt/installer/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check \
        --require-hashes --requirement /requirements/installer.txt \
    && python -m venv --without-pip /opt/ninefold \
    && echo /opt/ninefold/code > "$(/opt/ninefold/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ninefold.pth"

# Our own code, the same layer in all three.
FROM installer AS code
COPY pyproject.toml README.md LICENSE /code/
COPY ninefold /code/ninefold
COPY usecases /code/usecases
COPY feature_repo /code/feature_repo
COPY components /code/components
COPY serving /code/serving
COPY pipelines /code/pipelines
RUN /opt/installer/bin/uv build --quiet --wheel --no-build-isolation --python /opt/installer/bin/python \
        --out-dir /wheel /code \
    && /opt/installer/bin/uv pip install --quiet --no-deps --offline --python /opt/ninefold/bin/python \
        --target /opt/ninefold/code /wheel/*.whl
COPY images/health.py /opt/ninefold/code/bin/health.py
# A checkout may be its owner's alone; the image's files are everybody's to read.
RUN chmod -R a+rX /opt/ninefold/code

# The lists are whole, so nothing is looked for beyond them (--no-deps). What comes as source is built with the
# installer's own locked setuptools.
FROM installer AS pipeline-packages
COPY requirements/pipeline.txt /requirements/
RUN /opt/installer/bin/uv pip install --quiet --python /opt/ninefold/bin/python --no-deps \
        --require-hashes --build-constraints /requirements/installer.txt --requirement /requirements/pipeline.txt

FROM installer AS serving-packages
COPY requirements/serving.txt /requirements/
RUN /opt/installer/bin/uv pip install --quiet --python /opt/ninefold/bin/python --no-deps \
        --require-hashes --build-constraints /requirements/installer.txt --requirement /requirements/serving.txt \
    # A seventh of it all is packages' own tests, which nothing imports.
    && find /opt/ninefold/lib -type d -name tests -prune -exec rm -r {} +

# Whole: scikit-learn imports scipy, scipy all of numpy, and that some of numpy's own tests.
FROM installer AS formats-packages
COPY requirements/formats.txt /requirements/
RUN /opt/installer/bin/uv pip install --quiet --python /opt/ninefold/bin/python --no-deps \
        --require-hashes --build-constraints /requirements/installer.txt --requirement /requirements/formats.txt

FROM installer AS labelling-packages
COPY requirements/labelling.txt /requirements/
RUN /opt/installer/bin/uv pip install --quiet --python /opt/ninefold/bin/python --no-deps \
        --require-hashes --build-constraints /requirements/installer.txt --requirement /requirements/labelling.txt

FROM base AS house
ENV PATH=/opt/ninefold/bin:/opt/ninefold/code/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 \
    NINEFOLD_HOME=/var/lib/ninefold NINEFOLD_HOST=0.0.0.0 \
    # Else it would be a folder below the home, which can be written: code comes from a layer alone.
    NINEFOLD_USECASES=/opt/ninefold/code/usecases \
    # What libraries like to keep lies in the one other place that can be written.
    HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib FEAST_USAGE=False DO_NOT_TRACK=1
WORKDIR /var/lib/ninefold
USER 65532:65532
ENTRYPOINT ["python"]
CMD ["-m", "ninefold", "--help"]
# It tells by the container's own arguments what to ask, and where (docs/images.md). Kubernetes goes by probes instead.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "/opt/ninefold/code/bin/health.py"]
# Version, revision and base are labels that `make images` gives: in here a layer of an earlier build would keep its own.
LABEL org.opencontainers.image.vendor="Ninefold" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM house AS pipeline
LABEL org.opencontainers.image.title="Ninefold pipeline" \
      org.opencontainers.image.description="The pipelines' steps and the runs API"
# LightGBM's wheel wants the system's OpenMP.
USER 0
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends libgomp1 >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/*
USER 65532:65532
COPY --from=pipeline-packages /opt/ninefold /opt/ninefold
COPY --from=code /opt/ninefold/code /opt/ninefold/code

FROM house AS labelling
LABEL org.opencontainers.image.title="Ninefold labelling" \
      org.opencontainers.image.description="Programs that talk to Label Studio"
COPY --from=labelling-packages /opt/ninefold /opt/ninefold
COPY --from=code /opt/ninefold/code /opt/ninefold/code

# Built when it is named: make images TARGETS=formats.
FROM house AS formats
LABEL org.opencontainers.image.title="Ninefold formats" \
      org.opencontainers.image.description="Model server of PMML and scikit-learn packages"
COPY --from=formats-packages /opt/ninefold /opt/ninefold
COPY --from=code /opt/ninefold/code /opt/ninefold/code

# The last one is what a build without --target makes.
FROM house AS serving
LABEL org.opencontainers.image.title="Ninefold serving" \
      org.opencontainers.image.description="Front end, collector, featurizer, model server and rollout controller"
COPY --from=serving-packages /opt/ninefold /opt/ninefold
COPY --from=code /opt/ninefold/code /opt/ninefold/code
