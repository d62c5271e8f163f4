"""All benchmarks, one after the other: `python -m tests.bench`.  They write docs/BENCHMARKS.md."""

from tests.bench import cluster, control_plane, datasets, profile, scale, server, split, training

if __name__ == "__main__":
    server.main()
    split.main()
    profile.main()
    datasets.main()
    control_plane.main()
    scale.main()
    cluster.main()
    training.main()
