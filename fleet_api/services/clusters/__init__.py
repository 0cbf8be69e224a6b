"""Clusters: nodes under one name, which services are placed by."""
