"""Ansible, run in a child process of its own: nothing of it is ever imported into the API's process."""
