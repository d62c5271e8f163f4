"""Modelmill's control plane: custom resources in, reconciled Kubernetes objects out.

`api` describes the kinds, `core` decides (pure), `shell` watches and writes, `cli` is for people.
"""
