"""All benchmarks, one after the other: `python -m tests.bench`.  They write docs/BENCHMARKS.md."""

from tests.bench import cluster, operator, server

if __name__ == "__main__":
    server.main()
    operator.main()
    cluster.main()
