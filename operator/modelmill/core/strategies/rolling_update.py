"""RollingUpdate: the new revision comes up beside the one that serves, and takes over once all its pods are ready."""

from modelmill.core.strategies.strategy import Strategy

STRATEGY = Strategy(steps=())
