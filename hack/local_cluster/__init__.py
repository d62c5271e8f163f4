"""A real Kubernetes on one machine, for developers, tests and newcomers.

`cli` reads the command line and hands over to one of three backends: `kind` (where Docker answers),
`upstream` (the upstream components as processes) and `own_context` (the user's own cluster, which is never
touched). Standard library only: it has to run on a machine where nothing was prepared but Python.
"""
