"""`kubectl mill`: Modelmill from the command line, with the rights of who asks.

command.py   the arguments, the verbs, what an error looks like
cluster.py   reading objects through the user's own kubeconfig
tree.py      trees as text
lineage.py   the verb `lineage`; each verb has a module of its own
"""
