"""What to do, decided without doing it: one file per kind, `reconcile(observed, now) -> Plan`.

Each kind has three pure steps.  *observe* boils a snapshot down to small, hashable facts; *decide* turns facts
and time into a decision; *render* writes the decision as manifests and status.  No I/O, no clock, no kopf, no
randomness: the same snapshot gives the same plan, and at the fixpoint the plan is empty.
"""
