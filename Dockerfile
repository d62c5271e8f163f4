# One target for each image: operator, trainer, model-server.
#
#   docker build --target operator -t modelmill/operator:dev .
#
# BASE needs Python 3.11 or newer with pip.  Dependencies come from the lock files, in a layer of their own, so
# that a change of our code costs seconds.  The secrets pip and ca (a machine's pip settings and CA bundle) may be
# absent.  Everything is compiled at build time: pods have a read-only root.
ARG BASE=python:3.13-slim

FROM ${BASE} AS base
ENV PYTHONPATH=/opt/modelmill/code:/opt/modelmill/packages \
    PYTHONUNBUFFERED=1 \
    LC_ALL=C.UTF-8
WORKDIR /opt/modelmill

FROM base AS operator
COPY requirements/operator.txt requirements.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip install --require-hashes --no-compile --target packages -r requirements.txt \
    # Of the official client only the configuration is used: its 3,000 models are not worth 60 MB of bytecode.
    && python3 -m compileall -q -x '/kubernetes/(client|dynamic|stream|utils)/|/kubernetes/aio/client/(api|models)/' packages
COPY contracts/modelmill_contracts code/modelmill_contracts
COPY operator/modelmill code/modelmill
RUN python3 -m compileall -q code
USER 65532:65532
ENTRYPOINT ["python3", "-m", "modelmill"]

FROM base AS trainer
COPY requirements/trainer.txt requirements.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip install --require-hashes --target packages -r requirements.txt
COPY contracts/modelmill_contracts code/modelmill_contracts
COPY trainer/modelmill_trainer code/modelmill_trainer
RUN python3 -m compileall -q code
USER 65532:65532
ENTRYPOINT ["python3", "-m", "modelmill_trainer"]

FROM base AS model-server
COPY requirements/server.txt requirements.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip install --require-hashes --target packages -r requirements.txt
COPY contracts/modelmill_contracts code/modelmill_contracts
COPY model_server/modelmill_server code/modelmill_server
RUN python3 -m compileall -q code
# `docker run -p 8080:8080 -v ./model:/models/x:ro IMAGE /models/x` serves it to whoever reaches the port.
ENV MILL_HOST=""
USER 65532:65532
ENTRYPOINT ["python3", "-m", "modelmill_server"]
