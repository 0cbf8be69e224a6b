#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""One look at a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_node_info
short_description: Tell what a node is
description:
  - One call gathers what Fleet Commander wants to know of a node. That it is no Jetson is an answer, not a failure.
  - Nothing is cached, so that a node that was flashed again is seen as it is.
author:
  - Fleet Commander maintainers
options:
  device_tree:
    description: Where the device tree is. Left out, C(/proc/device-tree), or a lab's own.
    type: path
extends_documentation_fragment:
  - fleet.commander.attributes.info
"""

EXAMPLES = r"""
- name: Look at the node
  fleet.commander.fleet_node_info:
  register: look

- name: Say which JetPack it has
  ansible.builtin.debug:
    msg: "{{ look.node.jetpack_version or 'not a Jetson' }}"
"""

RETURN = r"""
node:
  description: What the node is.
  returned: always
  type: dict
  contains:
    is_jetson:
      description: Whether it is a Jetson.
      type: bool
      sample: true
    jetpack_version:
      description: The JetPack that its L4T came with, or null.
      type: str
      sample: "5.1.2"
    l4t_version:
      description: Its L4T, or null.
      type: str
      sample: "35.4.1"
    cuda_version:
      description: CUDA, or null.
      type: str
      sample: "11.4.19"
    cudnn_version:
      description: cuDNN, or null.
      type: str
      sample: "8.6.0.166"
    tensorrt_version:
      description: TensorRT, or null.
      type: str
      sample: "8.5.2"
    board:
      description: The board's model as its device tree has it, or null.
      type: str
      sample: NVIDIA Jetson AGX Orin Developer Kit
    soc:
      description: The chip, or null.
      type: str
      sample: Orin
    compute_capability:
      description: The GPU's CUDA compute capability, or null.
      type: str
      sample: "8.7"
    power_mode:
      description: Name and id of the power mode, or null.
      type: dict
      sample: {name: MAXN, id: 0}
    gpus:
      description: GPUs that nvidia-smi or the device tree tell of.
      type: list
      elements: dict
      sample: [{name: Orin, uuid: null, memory_mib: null, compute_capability: "8.7"}]
    nvidia_driver:
      description: The version of NVIDIA's driver as nvidia-smi tells it, or null, as on a Jetson.
      type: str
      sample: 550.54.15
    nvidia_cards:
      description: How many cards of NVIDIA's that display or compute the PCI bus has, with a driver or without.
      type: int
      sample: 0
    gpu_groups:
      description: Those of the groups that may open a GPU's devices which there are.
      type: list
      elements: str
      sample: [video, render]
    memory_mib:
      description: Memory.
      type: int
      sample: 30588
    cpus:
      description: Processors.
      type: int
      sample: 12
    disks:
      description: File systems on disks, with sizes in MiB.
      type: list
      elements: dict
      sample: [{mount: /, device: /dev/nvme0n1p1, size_mib: 468000, free_mib: 301000}]
    room_mib:
      description: What may be taken where agents are installed, and of /var/tmp, in MiB; null where that is not told.
      type: dict
      sample: {agent: 301000, temporary: 301000}
    docker:
      description: Version, data root and runtimes of the Docker Engine, or null when none answers.
      type: dict
      sample: {version: "24.0.5", data_root: /var/lib/docker, default_runtime: nvidia, gpu_resources: 1}
    docker_installed:
      description: Whether a Docker Engine is installed.
      type: bool
      sample: true
    nvidia_runtime:
      description: Whether the container runtime for NVIDIA GPUs is installed.
      type: bool
      sample: true
    machine_id:
      description: The machine's id.
      type: str
      sample: 52a212507859464496bab032eb77c276
    boot_id:
      description: The id of this boot.
      type: str
      sample: 63405a84-ce77-4224-aca2-387ec3a28e7c
    hostname:
      description: The host's name.
      type: str
      sample: agx0
    os:
      description: Name and version of the operating system.
      type: dict
      sample: {id: ubuntu, version: "20.04", codename: focal, name: Ubuntu 20.04.6 LTS}
    kernel:
      description: The kernel's release.
      type: str
      sample: 5.10.120-tegra
    ip_vs:
      description: Whether the kernel has IP_VS, or can load it; a swarm's ingress network wants it.
      type: bool
      sample: true
    machine:
      description: The processor's architecture.
      type: str
      sample: aarch64
    python_version:
      description: Python's version.
      type: str
      sample: "3.8.10"
    container:
      description: Whether the node is itself a container.
      type: bool
      sample: false
    time_service:
      description: The installed service that sets the clock, or null.
      type: str
      sample: systemd-timesyncd
    agent:
      description:
        - What is known of the agent of Fleet Commander.
        - C(product) is what was installed, as C(fleet_bundle) names it; C(container) is the swarm's service that runs it, or null.
        - C(bundle) and C(libraries) are the digests of what is in use.
      type: dict
      sample:
        bundle: 9f2c11d4a0b37e55
        libraries: 1d0c5a7f3be2946a
        product: agent
        engine: false
        enrolled: true
        node_id: agx0
        running: true
        container: null
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils.node import look


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"device_tree": {"type": "path"}}, supports_check_mode=True)
    module.exit_json(changed=False, node=look(module.params["device_tree"]))


if __name__ == "__main__":
    main()
