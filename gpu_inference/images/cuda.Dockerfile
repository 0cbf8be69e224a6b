# The agent of a node as an image, for x86-64 machines with an NVIDIA GPU (CUDA 12.6, TensorRT 10.5 with its bindings,
# Python 3.10).
# Unverified: the base image was never pulled by the project. Build it on a machine of that kind, from the folder gpu_inference:
#   ansible-playbook playbooks/build_image.yml -e image_build_name=fleet-agent -e image_build_context=$PWD/gpu_inference \
#       -e image_build_tag=cuda -e image_build_dockerfile=images/cuda.Dockerfile
ARG BASE_IMAGE=nvcr.io/nvidia/tensorrt:24.10-py3
FROM ${BASE_IMAGE}
ARG REQUIREMENTS=requirements.lock
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --create-home --home-dir /var/lib/fleet-agent --shell /usr/sbin/nologin fleet-agent
COPY requirements.lock requirements-py38.lock /opt/fleet/
RUN python3 -m venv --system-site-packages /opt/fleet/agent \
 && /opt/fleet/agent/bin/pip install --no-cache-dir --require-hashes -r /opt/fleet/${REQUIREMENTS}
COPY . /opt/fleet/source
RUN /opt/fleet/agent/bin/pip install --no-cache-dir --no-deps /opt/fleet/source \
 && rm -rf /opt/fleet/source
# Docker gives a container ten seconds to end. Beyond its loopback the agent answers to its credential or a key alone.
ENV FLEET_AGENT_STATE_DIR=/var/lib/fleet-agent FLEET_AGENT_DRAIN_SECONDS=7 FLEET_AGENT_HTTP=0.0.0.0:8080
VOLUME /var/lib/fleet-agent
USER fleet-agent
EXPOSE 8080
ENTRYPOINT ["/opt/fleet/agent/bin/fleet-worker"]
CMD ["run"]
