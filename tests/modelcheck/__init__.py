"""The model checker: every state that the shipped core can get a small cluster into.

What is explored is the core as it ships (observe, decide, render), what it is put in is a model of its surroundings:

    objects.py   versions of objects as numbers, so that a state is a short tuple
    cluster.py   what can happen to a state: others' changes, the watch, the operator's writes, crashes, time
    writes.py    writes in words
    search.py    breadth-first search, convergence from every state, and the story of a violation
    systems/     for each kind: what is there at first, what may happen to it, what must hold
"""
