"""All benchmarks, one after the other: `python -m tests.bench`.  They write docs/BENCHMARKS.md."""

from tests.bench import server

if __name__ == "__main__":
    server.main()
