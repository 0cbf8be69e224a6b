#!/bin/sh
# Resolve every lock again. Needs uv.
set -eu
cd "$(dirname "$0")/.."
compile() {
    output=$1; shift
    uv pip compile -q --generate-hashes --no-emit-package fleet-worker --no-emit-index-url --no-emit-find-links --no-annotate \
        --custom-compile-command "make locks" --upgrade "$@" -o "$output"
}
compile requirements/runtime.lock --universal --python-version 3.11 pyproject.toml requirements/build.in
compile requirements/test.lock --universal --python-version 3.11 pyproject.toml requirements/build.in --group test
compile requirements/lint.lock --universal --python-version 3.11 pyproject.toml requirements/build.in --group test --group lint
compile gpu_inference/requirements.lock --universal --python-version 3.10 gpu_inference/pyproject.toml
# Python 3.8 and 3.9: wheels alone, as a Jetson should compile nothing.
compile gpu_inference/requirements-py38.lock --python-version 3.8 --only-binary :all: gpu_inference/pyproject.toml
# The agent alone, in the versions of the whole: what roles/node_agent installs.
compile gpu_inference/requirements-agent.lock --universal --python-version 3.10 gpu_inference/requirements-agent.in -c gpu_inference/requirements.lock
compile gpu_inference/requirements-agent-py38.lock --python-version 3.8 --only-binary :all: gpu_inference/requirements-agent.in \
    -c gpu_inference/requirements-py38.lock
# The engine with PyTorch for CUDA, in the versions of the other's.
compile gpu_inference/requirements-cuda.lock --universal --python-version 3.10 --only-binary :all: gpu_inference/pyproject.toml \
    gpu_inference/requirements-cuda.in -c gpu_inference/requirements.lock
# CLIP's vocabulary alone, of a package whose code is not used: importing checkpoints needs it.
compile requirements/vocabulary.lock --no-deps requirements/vocabulary.in
