"""All benchmarks, one after the other: `python -m tests.bench`.  They write docs/BENCHMARKS.md."""

from tests.bench import (
    campaign,
    capture,
    cluster,
    collector,
    control_plane,
    datasets,
    drift,
    drift_soak,
    labels,
    profile,
    scale,
    server,
    split,
    training,
    trials,
)

if __name__ == "__main__":
    server.main()
    capture.main()
    split.main()
    profile.main()
    datasets.main()
    drift.main()
    collector.main()
    control_plane.main()
    scale.main()
    cluster.main()
    campaign.main()
    training.main()
    trials.main()
    labels.main()
    drift_soak.main()
