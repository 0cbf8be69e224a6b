#!/bin/sh
# Resolve every lock again. Needs uv.
set -eu
cd "$(dirname "$0")/.."
compile() {
    python_version=$1; output=$2; shift 2
    uv pip compile -q --universal --python-version "$python_version" --generate-hashes --no-emit-package fleet-worker \
        --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make locks" --upgrade "$@" -o "$output"
}
compile 3.11 requirements/runtime.lock pyproject.toml requirements/build.in
compile 3.11 requirements/test.lock pyproject.toml requirements/build.in --group test
compile 3.11 requirements/lint.lock pyproject.toml requirements/build.in --group test --group lint
compile 3.8 gpu_inference/requirements.lock gpu_inference/pyproject.toml
