"""The outside, each behind a Protocol: SSH, Ansible, the network."""
