"""What runs on a node: the agent, its engine children, and the models they load."""

__version__ = "0.1.0"
