"""The shell: watches, remembers, queues, and carries out the core's plans.  All I/O of the operator is here.

watch (own kinds through kopf, children by a lean list-watch) -> cache -> work queue -> reconciler
    -> core -> plan -> executor -> API server
"""
