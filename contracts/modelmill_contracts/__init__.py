"""What two of Modelmill's programs must agree on, written down once.

The operator renders tasks, the trainer and the model server carry them out and answer with reports; the
trainer writes artifacts, the server loads them.  Each module here is one such agreement.  Nothing here
imports the operator, the trainer or the server.
"""

__version__ = "0.1.0"
