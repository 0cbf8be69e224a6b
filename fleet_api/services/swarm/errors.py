"""What can be wrong with the swarm."""

from __future__ import annotations

from fleet_api.errors import Conflict


class NoSwarm(Conflict):
    """There is none yet."""

    def __init__(self) -> None:
        super().__init__(
            "There is no swarm yet: POST /api/clusters forms one on its manager, and POST /api/swarm/join-remote on the first node."
        )


class OtherSwarm(Conflict):
    """The node is in a swarm that is not this fleet's."""


class NoManagingNode(Conflict):
    """The swarm is managed by machines alone that plays cannot sign in to."""

    def __init__(self) -> None:
        super().__init__(
            "No node of the fleet that has an address and a credential manages the swarm, and agents in containers want one to ask; make a "
            "member that is such a node a manager: POST /api/swarm/nodes/{node_id}/role with the role manager."
        )


class AgentInside(Conflict):
    """The node's own agent is a container of the swarm, and would end with its membership."""

    def __init__(self, node_id: str) -> None:
        super().__init__(
            f"The agent of node {node_id} runs in a container of the swarm and would end with its membership; give the node its native "
            f"agent first: fleet vision install {node_id}, or POST /api/operations with kind gpu_inference."
        )
