"""Objects that reach every field of every kind, and what each pattern is there to let in and to keep out.

Where fields exclude each other there is more than one object of a kind.
"""

from copy import deepcopy
from typing import Any

from modelmill.api.dataset import CRON

DIGEST = "sha256:" + "0" * 64
TIME = "2026-11-23T10:00:00.5Z"
PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"
RESOURCES = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
PROGRESS: dict[str, Any] = {
    "observedGeneration": 1,
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "observedGeneration": 1,
            "lastTransitionTime": TIME,
            "reason": "Found",
            "message": "it is as it should be",
        }
    ],
}

PASSED = {
    "step": 1, "weight": 5, "shadow": 0, "startedAt": TIME, "endedAt": TIME, "requests": 700, "failures": 1,
}  # fmt: skip
TRAINED: dict[str, Any] = {
    "modelRef": {"name": "triage"},
    "data": {
        "datasetRef": {"name": "tumours"},
        "version": DIGEST,
        "target": "benign",
        "features": ["radius"],
        "split": {"test": "0.2", "method": "Stratified", "stratify": False},
    },
    "estimator": {
        "columns": [
            {
                "name": "num",
                "select": ["radius"],
                "steps": [
                    {
                        "name": "scale",
                        "class": "sklearn.preprocessing.StandardScaler",
                        "params": {"with_mean": True},
                    }
                ],
            }
        ],
        "steps": [{"name": "f", "class": "sklearn.ensemble.RandomForestClassifier", "params": {"max_depth": 5}}],
    },
    "seed": 7,
    "evaluation": {"metrics": ["roc_auc"], "crossValidation": 5, "slices": ["age_group"]},
    "reproduce": {"runs": 2},
    "workers": 2,
    "resources": {
        "requests": RESOURCES["requests"],
        "limits": {**RESOURCES["limits"], "nvidia.com/gpu": "1", "example.org/Fast_nic": "12"},
    },
    "limits": {"timeout": "2h", "retries": 1},
    "queueName": "team-a",
    "suspend": False,
}
OWN_TRAINED: dict[str, Any] = {
    "data": {
        "datasetRef": {"name": "tumours"},
        "target": "benign",
        "split": {"method": "Group", "by": "patient_id"},
    },
    "container": {
        "image": "registry.example.org/ml/train:1",
        "command": ["train"],
        "args": ["--fast"],
        "env": [{"name": "DEPTH", "value": "5"}],
    },
}
STOPPED: dict[str, Any] = {
    "data": {"datasetRef": {"name": "tumours"}, "target": "benign"},
    "estimator": {"steps": [{"name": "f", "class": "sklearn.ensemble.RandomForestClassifier"}]},
    "evaluation": {
        "metrics": ["roc_auc"],
        "crossValidation": 5,
        "stopping": {"metric": "roc_auc", "direction": "Maximize", "bounds": [{"folds": 1, "value": "0.9"}]},
    },
}

OBJECTS: dict[str, list[dict[str, Any]]] = {
    "Workspace": [
        {
            "metadata": {"name": "default"},
            "spec": {
                "store": {
                    "uri": "s3://models/a",
                    "endpoint": "http://store:7070",
                    "region": "eu-central-1",
                    "secretRef": {"name": "store"},
                    "collect": {"enabled": True, "artifacts": True},
                },
                "identity": {"serviceAccountName": "cloud", "podLabels": {"azure.workload.identity/use": "true"}},
                "allow": {
                    "images": ["registry.example.org/ml/*"],
                    "sources": ["s3"],
                    "estimatorPackages": ["sklearn"],
                    "artifacts": "ReadyVersions",
                },
                "training": {
                    "maxParallel": 4,
                    "priorityClasses": ["ml-urgent", "ml-background"],
                    "queuePriorityClasses": ["urgent"],
                },
                "signing": {"required": True, "keys": [{"name": "ana", "publicKey": PUBLIC_KEY}]},
            },
            "status": {
                **PROGRESS,
                "preflight": DIGEST,
                "owned": DIGEST,
                "collected": {"at": TIME, "moved": 2, "restored": 1, "deleted": 3, "freed": 4711},
                "admitted": [{"name": "forest", "uid": "8a5f"}],
            },
        },
        {
            "metadata": {"name": "default"},
            "spec": {
                "store": {"uri": "gs://models"},
                "tracking": {
                    "mlflow": {
                        "uri": "https://mlflow.example.org:5000/base",
                        "secretRef": {"name": "mlflow"},
                        "prefix": "/Shared/prod.",
                    },
                },
            },
            "status": {
                **PROGRESS,
                "mirrored": [{"uid": "8a5f", "run": "4f00"}, {"uid": "8a60", "refused": "EXPERIMENT_DELETED"}],
            },
        },
        {"metadata": {"name": "default"}, "spec": {"store": {"uri": "az://models", "account": "modelsofteama"}}},
        {"metadata": {"name": "default"}, "spec": {"store": {"uri": "pvc://models/team-a"}}},
    ],
    "UseCase": [
        {
            "metadata": {"name": "tumour-triage"},
            "spec": {
                "owner": "radiology-ml@example.org",
                "description": "Flag malignant tumours for a second reading.",
                "priority": {"value": 8, "urgency": 5, "riskReduction": 8, "effort": 3},
                "data": [{"datasetRef": {"name": "tumours"}, "minRows": 500}],
                "requirements": [
                    {
                        "name": "quality",
                        "metric": {"name": "roc_auc", "min": "0.98", "max": "1", "everySlice": "age_group"},
                    },
                    {"name": "latency", "latency": {"quantile": "0.99", "max": "20ms"}},
                    {"name": "available", "availability": {"min": "0.999", "window": "1h"}},
                    {"name": "fresh", "dataFreshness": {"datasetRef": {"name": "tumours"}, "max": "24h"}},
                    {"name": "recall", "metric": {"name": "recall", "min": "0.9"}},
                    {"name": "loss", "metric": {"name": "log_loss", "max": "0.3"}},
                ],
            },
            "status": {
                **PROGRESS,
                "score": "7.00",
                "rank": 1,
                "met": "4/5",
                "next": "train a better one",
                "automationLevel": 1,
                "automation": {"evidence": ["Pipeline nightly trains on night (schedule)"], "next": "to level 2: ..."},
                "models": ["triage"],
                "requirements": [
                    {
                        "name": "quality",
                        "met": "False",
                        "observed": "0.97",
                        "threshold": "roc_auc >= 0.98",
                        "evidence": "modelversion/triage-7",
                        "at": TIME,
                        "message": "train a better one",
                    }
                ],
            },
        }
    ],
    "Dataset": [
        {
            "metadata": {"name": "tumours"},
            "spec": {
                "source": {
                    "uri": "s3://lake/a.csv",
                    "endpoint": "http://lake:7070",
                    "region": "eu-central-1",
                    "secretRef": {"name": "lake"},
                },
                "columns": [
                    {"name": "radius", "type": "Float", "nullable": False, "min": "0", "max": "10.5"},
                    {"name": "low", "type": "Float", "min": "0"},
                    {"name": "high", "type": "Integer", "max": "9"},
                    {"name": "group", "type": "String", "values": ["young", "old"]},
                    {"name": "plain", "type": "Boolean"},
                ],
                "extraColumns": "Keep",
                "expectations": {
                    "minRows": 10,
                    "maxAge": "24h",
                    "uniqueKey": ["id"],
                    "maxNullFraction": "0.05",
                    "drift": {"against": "Previous", "maxEffect": "0.2"},
                },
                "refresh": {"schedule": "0 6 * * MON-FRI", "timeZone": "Europe/Berlin"},
                "resources": RESOURCES,
                "versionHistoryLimit": 5,
            },
            "status": {
                **PROGRESS,
                "version": DIGEST,
                "shortVersion": "0123456789abcdef",
                "rows": 569,
                "modifiedAt": TIME,
                "checkedAt": TIME,
                "lastSchedule": TIME,
                "handledRuns": ["8a5f/data"],
                "lastHandledRefresh": "2026-11-23",
                "lastRun": "8a5f",
                "history": [
                    {
                        "version": DIGEST,
                        "file": DIGEST,
                        "rows": 569,
                        "observedAt": TIME,
                        "profile": DIGEST,
                        "page": DIGEST,
                        "store": DIGEST,
                        "from": [{"name": "visits", "version": DIGEST}],
                    }
                ],
                "snapshot": DIGEST,
                "usage": {"cpuSeconds": 3, "bytes": 4711},
                "problems": [
                    {"rule": "BelowMinimum", "column": "radius", "message": "1 value is", "count": 1, "rows": [7]}
                ],
            },
        },
        {
            "metadata": {"name": "tumours"},
            "spec": {"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}},
        },
        {"metadata": {"name": "tumours"}, "spec": {"source": {"uri": "pvc://lake/a/b.parquet"}}},
        {"metadata": {"name": "tumours"}, "spec": {"source": {"uri": "az://lake/a.csv", "account": "lakeofteama"}}},
        {
            "metadata": {"name": "tumours"},
            "spec": {"source": {"sql": {"urlRef": {"name": "warehouse", "key": "url"}, "query": "select 1"}}},
        },
        {
            "metadata": {"name": "tumours"},
            "spec": {
                "source": {
                    "deployment": {"name": "triage", "labels": "Optional", "since": "168h", "target": "malignant"}
                }
            },
        },
        {
            "metadata": {"name": "tumours"},
            "spec": {"source": {"derive": {"from": [{"name": "visits"}], "sql": "select * from visits"}}},
        },
        {
            "metadata": {"name": "tumours"},
            "spec": {
                "source": {
                    "derive": {
                        "from": [{"name": "visits"}],
                        "container": {"image": "registry.example.org/ml/clean:1", "command": ["clean"], "args": ["-f"]},
                    }
                }
            },
        },
    ],
    "TrainingJob": [
        {
            "metadata": {"name": "forest"},
            "spec": TRAINED,
            "status": {
                **PROGRESS,
                "datasetVersion": DIGEST,
                "datasetFile": DIGEST,
                "recipe": DIGEST,
                "progress": {
                    "percent": 40,
                    "phase": "fold",
                    "metrics": [{"name": "roc_auc", "value": "0.99"}],
                    "at": TIME,
                },
                "artifact": {
                    "uri": "s3://models/artifacts/x",
                    "digest": DIGEST,
                    "files": [{"name": "model.onnx", "digest": DIGEST}],
                    "modelBytes": 4711,
                },
                "folds": ["0.995", "0.987"],
                "reproduction": {"digest": DIGEST, "differs": ["model.onnx"]},
                "metrics": [{"name": "roc_auc", "value": "0.991", "stddev": "0.004"}],
                "slices": [
                    {"metric": "roc_auc", "column": "age_group", "slice": "old", "rows": 40, "value": "0.93"},
                ],
                "modelVersion": "triage-7",
                "usage": {"cpuSeconds": 41, "acceleratorSeconds": 90},
                "mlflow": {"run": "4f00"},
            },
        },
        {
            "metadata": {"name": "forest"},
            "spec": OWN_TRAINED,
            "status": {**PROGRESS, "mlflow": {"refused": "INVALID_PARAMETER_VALUE"}},
        },
        {"metadata": {"name": "forest"}, "spec": STOPPED},
    ],
    "Experiment": [
        {
            "metadata": {"name": "search"},
            "spec": {
                "objective": {"metric": "roc_auc", "direction": "Maximize", "goal": "0.995"},
                "search": {"algorithm": "TPE", "seed": 1, "earlyStopping": "Median"},
                "parameters": [
                    {"param": "f__criterion", "categorical": ["gini", "entropy"]},
                    {"param": "f__n_estimators", "integer": {"min": 50, "max": 500, "step": 50, "log": False}},
                    {
                        "param": "f__min_impurity_decrease",
                        "float": {"min": "0.0001", "max": "0.1", "step": "0.0001", "log": False},
                        "when": {"param": "f__criterion", "equals": "gini"},
                    },
                ],
                "trials": {"max": 30, "parallel": 4, "maxFailed": 3, "ttl": "168h", "timeout": "12h"},
                "template": {"spec": TRAINED},
                "promote": "Best",
                "suspend": False,
            },
            "status": {
                **PROGRESS,
                "datasetVersion": DIGEST,
                "startedAt": TIME,
                "endedAt": TIME,
                "expired": True,
                "trials": {"succeeded": 26, "running": 1, "failed": 1, "stopped": 2},
                "best": {
                    "trial": "search-17",
                    "value": "0.994",
                    "stddev": "0.003",
                    "parameters": [{"name": "f__criterion", "value": "gini"}],
                    "recipe": DIGEST,
                    "artifact": DIGEST,
                    "message": "search-4 has 0.9941",
                },
                "top": [{"trial": "search-17", "value": "0.994", "parameters": "criterion=gini"}],
                "promoted": "search-best-17",
                "modelVersion": "triage-7",
                "report": DIGEST,
            },
        },
        {
            "metadata": {"name": "search"},
            "spec": {
                "objective": {"metric": "roc_auc"},
                "parameters": [{"env": "DEPTH", "integer": {"min": 1, "max": 1000000000}}],
                "template": {"spec": OWN_TRAINED},
            },
        },
        {
            "metadata": {"name": "search"},
            "spec": {
                "objective": {"metric": "roc_auc"},
                "search": {"algorithm": "Random"},
                "parameters": [
                    {"param": "f__max_depth", "integer": {"min": -1000000000, "max": 9}},
                    {"param": "f__ccp_alpha", "float": {"min": f"-{'9' * 31}", "max": "9" * 32}},
                ],
                "template": {"spec": STOPPED},
            },
        },
    ],
    "Model": [
        {
            "metadata": {"name": "triage"},
            "spec": {
                "description": "for a second reading",
                "useCaseRef": {"name": "tumour-triage"},
                "tests": {
                    "metrics": [{"name": "recall", "min": "0.9", "max": "1", "everySlice": "age_group"}],
                    "baseline": {"deploymentRef": {"name": "triage"}, "metric": "roc_auc", "maxRegression": "0.005"},
                    "behaviour": [
                        {
                            "name": "bigger-is-worse",
                            "perturb": [{"column": "radius", "by": "+10%"}],
                            "expect": "NotDecrease",
                        }
                    ],
                    "latency": {"quantile": "0.99", "max": "10ms"},
                    "resources": RESOURCES,
                },
                "approval": "Manual",
                "versionHistoryLimit": 20,
            },
            "status": {
                **PROGRESS,
                "lastVersion": 7,
                "latestReady": 6,
                "useCase": {
                    "name": "tumour-triage",
                    "rank": 1,
                    "metrics": [
                        {
                            "requirement": "fair",
                            "name": "recall",
                            "min": "0.9",
                            "max": "1",
                            "everySlice": "age_group",
                        }
                    ],
                    "latency": [{"requirement": "latency", "quantile": "0.99", "max": "20ms"}],
                    "availability": {"requirement": "available", "min": "0.999", "window": "1h"},
                },
                "reservations": [{"version": 7, "trainingJob": "forest", "uid": "8a5f"}],
                "retiring": [{"version": 1, "uid": "7b2e", "since": TIME}],
            },
        }
    ],
    "ModelVersion": [
        {
            "metadata": {"name": "triage-7"},
            "spec": {
                "modelRef": {"name": "triage"},
                "version": 7,
                "artifact": {"uri": "s3://models/artifacts/x", "digest": DIGEST},
                "lineage": {
                    "trainingJob": {"name": "forest", "uid": "8a5f"},
                    "recipe": DIGEST,
                    "dataset": {"name": "tumours", "version": DIGEST, "file": DIGEST},
                    "gitCommit": "9f2c1e0b4d5a69788796a5b4c3d2e1f00f1e2d3c",
                },
            },
            "status": {
                **PROGRESS,
                "schema": {
                    "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 30]}],
                    "outputs": [{"name": "label", "datatype": "INT64", "shape": [-1, 1]}],
                },
                "size": 4711,
                "signature": {"key": "ana", "fingerprint": "9f2c1e0b4d5a6978"},
                "tests": [
                    {
                        "name": "recall of every age_group",
                        "passed": False,
                        "observed": "0.81",
                        "threshold": ">= 0.9",
                        "source": "model/triage",
                        "slice": "age_group=old",
                        "message": "1 of 3 slices do not define it",
                    }
                ],
                "tested": DIGEST,
                "testedImage": "registry.example.org/modelmill/server:1",
                "testedAt": TIME,
                "testing": DIGEST,
                "baseline": {
                    "deployment": "triage",
                    "version": 6,
                    "artifact": {"uri": "s3://models/artifacts/x", "digest": DIGEST},
                },
                "approval": {"name": "triage-7", "decision": "Approve", "by": "ana@example.org", "at": TIME},
            },
        },
        {  # the longest name
            "metadata": {"name": "a" * 40 + "-999999"},
            "spec": {
                "modelRef": {"name": "a" * 40},
                "version": 999999,
                "artifact": {"uri": "s3://models/artifacts/x", "digest": DIGEST},
            },
        },
    ],
    "ModelApproval": [
        {
            "metadata": {"name": "triage-7"},
            "spec": {
                "modelVersionRef": {"name": "triage-7"},
                "digest": DIGEST,
                "decision": "Approve",
                "by": "ana@example.org",
                "reason": "second reading done",
            },
            "status": PROGRESS,
        }
    ],
    "ModelDeployment": [
        {
            "metadata": {"name": "triage"},
            "spec": {
                "model": {"name": "triage", "version": 7},
                "replicas": 2,
                "server": {
                    "resources": RESOURCES,
                    "container": {
                        "image": "registry.example.org/ml/triton:24",
                        "command": ["serve"],
                        "args": ["--port=$(MILL_PORT)"],
                        "port": 9000,
                        "protocol": "V2",
                    },
                },
                "access": {"namespaces": ["shop"]},
                "autoscaling": {"min": 1, "max": 1000, "cpuPercent": 70, "scaleDownAfter": "5m"},
                "expose": {
                    "gateway": {"name": "public", "namespace": "infra", "sectionName": "https"},
                    "hostnames": ["triage.example.org"],
                    "scheme": "HTTPS",
                },
                "rollout": {
                    "strategy": "Canary",
                    "steps": [
                        {"shadow": "10m"},
                        {"weight": 5, "hold": "5m"},
                        {"weight": 25},
                        {"weight": 50, "hold": "Manual"},
                    ],
                    "analysis": {
                        "confidence": "0.95",
                        "interval": "15s",
                        "minRequests": 500,
                        "errorRate": {"maxIncrease": "0.01"},
                        "latency": {"quantile": "0.99", "maxRatio": "1.2"},
                        "agreement": {"min": "0.90"},
                        "prometheus": [
                            {"name": "revenue", "query": "sum(revenue)", "min": "-1.5", "max": "90", "failures": 2}
                        ],
                        "latencyBounds": [{"quantile": "0.99", "max": "20ms"}],
                        "deadline": "24h",
                        "onInconclusive": "Pause",
                    },
                    "onFailure": "Rollback",
                    "stickyBy": {"header": "X-User-Id"},
                },
                "monitoring": {
                    "drift": {
                        "window": "30m",
                        "minRows": 1000,
                        "minEffect": "0.1",
                        "falseDiscoveryRate": "0.05",
                    },
                    "quality": {
                        "metric": "accuracy",
                        "min": "0.95",
                        "labelsWithin": "24h",
                        "window": "1h",
                        "minRows": 200,
                    },
                    "serviceLevels": {
                        "availability": {"min": "0.999", "window": "1h"},
                        "latency": [{"quantile": "0.99", "max": "20ms"}],
                    },
                },
                "revisionHistoryLimit": 3,
            },
            "status": {
                **PROGRESS,
                "serviceLevels": {
                    "source": "usecase/tumour-triage",
                    "window": "1h",
                    "availability": {
                        "min": "0.999",
                        "observed": "0.999500",
                        "met": "True",
                        "burn": "0.50",
                        "recentBurn": "0.00",
                    },
                    "latency": [{"quantile": "0.99", "max": "20ms", "observed": "10.624ms", "met": "True"}],
                    "requests": 2000,
                    "failures": 1,
                    "since": TIME,
                    "slots": [{"at": TIME, "requests": 2000, "failures": 1, "times": "75:2000"}],
                },
                "url": "http://triage.team-a.svc",
                "replicas": 2,
                "selector": "modelmill.dev/modeldeployment=triage",
                "stable": {"revision": "3fa94c1b", "version": 6, "ready": 2},
                "candidate": {
                    "revision": "90ab11c2",
                    "version": 7,
                    "ready": 1,
                    "step": 2,
                    "steps": 4,
                    "weight": 5,
                    "shadow": 0,
                    "requests": 1840,
                    "failures": 3,
                    "evidence": [
                        {
                            "gate": "errorRate",
                            "logE": "-0.310",
                            "threshold": "4.094",
                            "logEPromotion": "1.020",
                            "thresholdPromotion": "2.996",
                            "verdict": "Hold",
                            "state": '[4,"-0.7","1.02",900,9,1840,3]',
                        }
                    ],
                    "prometheus": [
                        {
                            "name": "revenue",
                            "verdict": "Hold",
                            "reason": "OutsideOfBound",
                            "failures": 1,
                            "countedAt": TIME,
                        }
                    ],
                    "message": "step 2 of 4 goes on for 3m",
                    "state": "Running",
                    "startedAt": TIME,
                    "stepAt": TIME,
                    "windows": 4,
                    "weighedAt": TIME,
                    "epoch": "90ab11c2-5c1f-1767225600",
                    "passed": [dict(PASSED)],
                },
                "drift": {
                    "revision": "3fa94c1b",
                    "profile": DIGEST,
                    "windows": 41,
                    "window": {"startedAt": TIME, "endedAt": TIME, "rows": 1840, "reference": "Season"},
                    "drifted": 1,
                    "worst": [
                        {"of": "Feature", "feature": "radius", "aspect": "Values", "effect": "0.312", "windows": 2}
                    ],
                    "recent": ["1", "3"],
                    "season": "eJxjYGBgAAAABAAB",
                },
                "quality": {
                    "artifact": DIGEST,
                    "metric": "accuracy",
                    "min": "0.95",
                    "labelsWithin": "24h",
                    "since": TIME,
                    "until": TIME,
                    "windows": 3,
                    "rows": 2840,
                    "dropped": True,
                    "evidence": "-1.250000",
                    "alarms": 1,
                    "window": {
                        "startedAt": TIME,
                        "endedAt": TIME,
                        "rows": 1000,
                        "value": "0.93",
                        "lower": "0.912413",
                        "upper": "9.45e-01",
                        "counted": True,
                        "unknown": 1,
                        "late": 2,
                        "repeated": 3,
                        "ofOthers": 4,
                        "mistyped": 5,
                    },
                    "estimated": {"accuracy": "0.9412", "error": "0.0125", "rows": 1840, "at": TIME},
                    "detector": ["-0.100000", "0.250000", "-3.000000", "-9.000000", "-30.000000"],
                    "spread": "0.0651",
                },
                "lastRollout": {
                    "revision": "77cd0a1e",
                    "version": 5,
                    "stable": "3fa94c1b",
                    "strategy": "Canary",
                    "outcome": "RolledBack",
                    "reason": "EvidenceAgainst",
                    "message": "errorRate",
                    "startedAt": TIME,
                    "endedAt": TIME,
                    "windows": 4,
                    "requests": 1840,
                    "failures": 90,
                    "evidence": [
                        {
                            "gate": "errorRate",
                            "logE": "4.310",
                            "threshold": "4.094",
                            "logEPromotion": "-1.020",
                            "thresholdPromotion": "2.996",
                            "verdict": "Reject",
                        }
                    ],
                    "prometheus": [{"name": "revenue", "verdict": "Promote", "reason": "InsideBound"}],
                    "passed": [dict(PASSED)],
                },
                "rolledBack": {
                    "revision": "77cd0a1e",
                    "version": 5,
                    "reason": "EvidenceAgainst",
                    "message": "errorRate",
                    "spec": "5c1f0a9b",
                    "at": TIME,
                },
                "lastHandledAction": "resume@90ab11c2",
                "autoscaling": {"replicas": 4, "changedAt": TIME, "lower": 2, "lowerSince": TIME},
                "history": [
                    {
                        "revision": "3fa94c1b",
                        "version": 6,
                        "model": "triage",
                        "artifact": {"uri": "s3://models/artifacts/x", "digest": DIGEST},
                        "promotedAt": TIME,
                    }
                ],
            },
        },
        {"metadata": {"name": "triage"}, "spec": {"model": {"uri": "s3://models/x", "digest": DIGEST}}},
        {
            "metadata": {"name": "triage"},
            "spec": {"model": {"uri": "s3://models/x", "digest": DIGEST}, "rollout": {"onFailure": "Pause"}},
        },
        {
            "metadata": {"name": "triage"},
            "spec": {"model": {"name": "triage"}, "server": {"workers": 2}, "rollout": {"strategy": "BlueGreen"}},
        },
        {
            "metadata": {"name": "triage"},
            "spec": {"model": {"name": "triage"}, "autoscaling": {"min": 2, "max": 1000, "requestsPerSecond": 200}},
        },
        {
            "metadata": {"name": "triage"},
            "spec": {"model": {"name": "triage"}, "monitoring": {"drift": {"window": "30m", "seasonality": "Daily"}}},
        },
        {
            "metadata": {"name": "triage"},
            "spec": {
                "model": {"name": "triage"},
                "capture": {"sample": "0.01", "columns": ["age"], "retention": "720h"},
                "monitoring": {"quality": {"metric": "log_loss", "max": "0.3"}},
            },
            "status": {
                "quality": {
                    "artifact": DIGEST,
                    "metric": "log_loss",
                    "max": "0.3",
                    "labelsWithin": "24h",
                    "since": TIME,
                    "until": TIME,
                }
            },
        },
    ],
}

# A stage holds the spec of what it makes, with every field of that.
OBJECTS["Pipeline"] = [
    {
        "metadata": {"name": "triage"},
        "spec": {
            "triggers": [
                {"name": "nightly", "schedule": {"cron": "0 3 * * *", "timeZone": "Europe/Berlin"}},
                {"name": "data", "newVersionOf": {"datasetRef": {"name": "tumours"}}},
                {"name": "drift", "onCondition": {"deploymentRef": {"name": "triage"}, "types": ["DriftDetected"]}},
                {"name": "code", "onSpecChange": True},
            ],
            "concurrencyPolicy": "Queue",
            "cooldown": "1h",
            "maxRunsPerDay": 6,
            "suspend": True,
            "stages": [
                {"name": "data", "refresh": {"datasetRef": {"name": "tumours"}}, "timeout": "1h"},
                {"name": "train", "trainingJob": {"spec": deepcopy(OBJECTS["TrainingJob"][0]["spec"])}},
                {"name": "gate", "approve": "Manual"},
                {"name": "release", "rollout": {"deploymentRef": {"name": "triage"}}},
                *({"name": "search", "experiment": {"spec": deepcopy(e["spec"])}} for e in OBJECTS["Experiment"][:1]),
            ],
            "runHistoryLimit": {"succeeded": 3, "failed": 2},
        },
        "status": {
            **PROGRESS,
            "active": {
                "name": "triage-drift-3fa94c1b",
                "uid": "8a5f",
                "since": TIME,
                "replacedBy": "triage-code-90ab11c2",
            },
            "lastRun": {"name": "triage-nightly-0f1e2d3c", "result": "Succeeded", "endedAt": TIME},
            "starts": [TIME],
            "runsToday": 1,
            "triggers": [
                {
                    "name": "nightly",
                    "declared": "schedule 0 3 * * * Europe/Berlin",
                    "handled": "2026-11-23T03:00:00Z",
                    "runs": 7,
                    "lastRun": "triage-nightly-0f1e2d3c",
                    "pending": "2026-11-24T03:00:00Z",
                    "next": TIME,
                    "message": "it waits until run triage-drift-3fa94c1b has ended",
                }
            ],
        },
    },
    *(
        {
            "metadata": {"name": "triage"},
            "spec": {"stages": [{"name": "make", field: {"spec": deepcopy(made["spec"])}}]},
        }
        for kind, field in (("TrainingJob", "trainingJob"), ("Experiment", "experiment"))
        for made in OBJECTS[kind]
    ),
]
OBJECTS["PipelineRun"] = [
    {
        "metadata": {"name": "triage-drift-3fa94c1b"},
        "spec": {
            "pipelineRef": {"name": "triage"},
            "cause": {
                "trigger": "drift",
                "key": "DriftDetected@2026-11-23T10:00:00Z",
                "message": "DriftDetected of ModelDeployment triage",
            },
            "retryOf": {"name": "triage-nightly-0f1e2d3c"},
            "cancel": False,
        },
        "status": {
            **PROGRESS,
            "pipeline": {"uid": "8a5f", "generation": 3, "stages": '[{"approve": "Manual", "name": "gate"}]'},
            "stages": [
                {
                    "name": "data",
                    "state": "Succeeded",
                    "output": DIGEST,
                    "message": "569 rows, a new version",
                    "progress": 100,
                    "made": {"kind": "Dataset", "name": "tumours", "uid": "7b2e"},
                    "takenFrom": "triage-nightly-0f1e2d3c",
                    "startedAt": TIME,
                    "finishedAt": TIME,
                }
            ],
            "stage": "data",
            "modelVersion": "triage-7",
            "summary": "data 4f2a91c0 > train 40% > gate > release",
            "startedAt": TIME,
            "finishedAt": TIME,
        },
    }
]

PEM = r"^-----BEGIN PUBLIC KEY-----\n([A-Za-z0-9+/=]+\n)+-----END PUBLIC KEY-----\n?$"
# Pattern or format: (what it lets in, what it keeps out).
TEXTS: dict[str, tuple[list[str], list[str]]] = {
    # Windows of labels: not shorter than 10 seconds.
    "^([1-9][0-9]{1,5}s|[1-9][0-9]{0,5}(m|h))$": (
        ["10s", "999999s", "1m", "1h"],
        ["", "0s", "9s", "09s", "100ms", "1d", "h", "1", "0h", "1h1m"],
    ),
    # Numbers of any size.
    r"^-?[0-9]+(\.[0-9]+)?(e[-+][0-9]+)?$": (
        ["0", "-1.5", "1e-07", "1.25e+12"],
        ["", "e1", "1e", "1e5", ".5", "1.", "nan", "inf", "+1", "1E-07", " 1"],
    ),
    "^[a-zA-Z][-a-zA-Z0-9]*$": (["revenue", "p99-Latency", "a"], ["9a", "-a", "a_b", "a b", "ä"]),
    # What a stage may take, and how long triggers wait: bounded, and not nothing.
    "^([1-9][0-9]{0,3}(s|m|h)){1,3}$": (
        ["1s", "90m", "1h30m", "9999h"],
        ["", "0s", "10ms", "1d", "h", "1", "01h", "-1h", "1.5h", "10000h", "1h 1m"],
    ),
    "^(0s|([1-9][0-9]{0,3}(s|m|h)){1,3})$": (
        ["0s", "1s", "90m", "1h30m", "9999h"],
        ["", "0h", "10ms", "1d", "h", "1", "01h", "-1h", "1.5h", "10000h", "1h 1m"],
    ),
    "^default$": (["default"], ["other", "Default", "defaul"]),
    "^[1-9][0-9]{0,4}h$": (["1h", "720h", "99999h"], ["", "0h", "24", "90m", "01h", "1.5h", "1h30m", "100000h"]),
    # A share of predictions: of all of them at most, and not of none.
    r"^(1|0\.[0-9]*[1-9][0-9]*)$": (
        ["1", "0.5", "0.000001", "0.10"],
        ["0", "0.0", "1.0", "2", ".5", "0.", "-0.5", "1e-3", "01"],
    ),
    # MLflow: a server, and what the names of its experiments begin with.
    r"^https?://([-_.A-Za-z0-9]+|\[[.:0-9A-Fa-f]+\])(:[0-9]+)?(/[-_.A-Za-z0-9]+)*$": (
        ["http://mlflow:5000", "https://mlflow.example.org/base/x", "http://[fd00::1]:80", "http://a_b"],
        [
            *("ftp://a", "http://", "http://a/", "http://a:b", "http://ann:secret@a", "http://a?b", "http://a#b"),
            *("http://a b", "http://a\\@b", "http://ä", "http://[::1", "http://a:80:80", "mlflow:5000"),
        ],
    ),
    "^[-_.@/A-Za-z0-9]+$": (["prod/", "/Users/ann@example.org/", "a_b.c-"], ["", "a b", "a'b", "ä", "a:b"]),
    # Names of our objects, which children's names and labels start with.
    "^[a-z]([-a-z0-9]*[a-z0-9])?$": (
        ["a", "triage-7", "a--b-1"],
        ["Triage", "7a", "-a", "a-", "a.b", "a_b", "a/b", "ä", "a b"],
    ),
    # Names of namespaces.
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": (
        ["a", "7", "team-7", "a--b"],
        ["A", "-a", "a-", "a.b", "a_b", "a b", "ä"],
    ),
    # Names of others' objects.
    "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$": (
        ["a", "7", "a.b-c"],
        ["A", ".a", "a.", "-a", "a-", "a_b", "../a", "a b"],
    ),
    # Names of hosts, as the Gateway API takes them.
    r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$": (
        ["a", "7.example.org", "*.example.org", "a--b.c"],
        ["A", "*", "a.*", ".a", "a.", "a..b", "-a", "a-.b", "a_b", "a:80", "https://a", "a/b", "ä"],
    ),
    "^[-_a-zA-Z0-9][-._a-zA-Z0-9]*$": (["a", "data.csv", "-A_9..b"], [".a", "..", "../b", "a/b", "a b", "ä"]),
    "^(s3|gs|az|pvc)://[a-z0-9][-._a-z0-9]*(/[-._a-zA-Z0-9]+)*$": (
        ["s3://models", "gs://models/team-a/X_1", "az://m.n/a", "pvc://claim/a"],
        [
            "ftp://models",
            "file:///models",
            "s3:/models",
            "s3://",
            "s3://M",
            "s3://m/",
            "s3://m//a",
            "s3://m/a b",
            "as3://m",
        ],
    ),
    r"^https?://[^\s/]+$": (
        ["http://store:7070", "https://s3.example.org"],
        ["store:7070", "ahttp://store", "ftp://store", "http://", "http://store/", "http://store/a", "http://st ore"],
    ),
    "^[a-z0-9]+$": (["models7", "777"], ["Models", "mo-dels", "mo.dels", "mo dels", "möd"]),
    "^[-a-z0-9]+$": (["eu-central-1", "a"], ["EU", "eu_1", "eu central", "eu.1"]),
    "^[a-zA-Z_][a-zA-Z0-9_]*$": (["sklearn", "_a9", "A"], ["os.path", "9a", "a-b", "a b", "*"]),
    # Names of images, and of many.
    "^[a-zA-Z0-9][-a-zA-Z0-9._/:@]*$": (
        ["python", "registry.example.org:5000/ml/Clean_1:2", f"a@{DIGEST}"],
        ["-a", ".a", "/a", "a b", "a*", "a;b", "a$b", "ä"],
    ),
    "^[a-zA-Z0-9*][-a-zA-Z0-9._/:@*]*$": (
        ["*", "registry.example.org/ml/*", "*/clean:1"],
        ["-a", ".a", "/a", "a b", "a?", "a[b]", "ä"],
    ),
    # A label's value.
    "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$": (
        ["", "a", "true", "A-b_c.9"],
        ["-a", "a-", ".a", "a b", "a/b", "ä"],
    ),
    CRON: (
        ["0 6 * * *", "*/5 0-6,18-23 1,15 JAN-JUN MON", "0,30 6 * * MON-FRI", "0,3 6 * * *", "59 23 31 12 7"],
        [
            "",
            "* * * *",
            "* * * * * *",
            "@daily",
            "a * * * *",
            "* * * * Mon",
            "*/ * * * *",
            "1- * * * *",
            "*  * * * *",
            " * * * * *",
            "* * * * * ",
            "100 * * * *",
            "MON * * * *",
            "-1 * * * *",
            "? * * * *",
            "* * L * *",
        ],
    ),
    "^[A-Za-z][-A-Za-z0-9_+]*(/[A-Za-z0-9][-A-Za-z0-9_+]*)*$": (
        ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+1"],
        ["", "+1", "Europe/", "/Berlin", "../etc", "Europe/../a", "Europe Berlin", "Europe//Berlin", "ä"],
    ),
    r"^[0-9]+(\.[0-9]+)?$": (["0", "0.2", "10.25"], ["-1", "1.", ".5", "1e3", "20%", "1 "]),
    r"^[0-9]{1,3}(\.[0-9]+)?$": (["0", "0.1", "10.25", "999"], ["-1", "1.", ".5", "1e3", "20%", "1 ", "1000"]),
    r"^(0(\.[0-9]+)?|1(\.0+)?)$": (["0", "0.05", "1", "1.0"], ["1.5", "2", "-0.1", ".5", "0.", "5%", "00", "01"]),
    r"^(s3|gs|az|https|pvc)://[^\s]+$": (
        ["s3://lake/a.csv", "gs://lake/*.parquet", "az://lake/a", "https://example.org/a.csv?b=c", "pvc://lake/a"],
        ["http://example.org/a", "file:///etc/passwd", "/etc/passwd", "s3://", "s3://a b", " s3://a", "S3://a"],
    ),
    r"^-?[0-9]+(\.[0-9]+)?$": (
        ["0", "-1", "10.25", "007"],
        ["one", "+1", "1.", ".5", "1e3", "1,5", "1 ", "--1", "NaN", "1.2.3", "0x1"],
    ),
    r"^[+-][0-9]+(\.[0-9]+)?%?$": (
        ["+10%", "-2.5", "+0"],
        ["10%", "+", "+%", "+.5", "+1.", "+1e3", "+1 %", "+-1", "+1%%", "*2"],
    ),
    r"^0\.[0-9]*[1-9][0-9]*$": (["0.2", "0.001", "0.50"], ["0", "1", "0.0", "1.5", "0.", ".5", "-0.2", "20%", "0.2x"]),
    "^([0-9]{1,6}(ms|s|m|h)){1,4}$": (
        ["168h", "1h30m", "500ms", "999999ms"],
        ["7d", "1", "h", "1.5h", "-1h", "1h ", "1 h", "1234567s", "1h1h1h1h1h", "1H"],
    ),
    "^[1-9][0-9]*(m|k|M|G|T|Ki|Mi|Gi|Ti)?$": (
        ["500m", "2", "1Gi", "10k"],
        ["0.5Gi", "0", "01", "half", "1gi", "1K", "1 Gi", "-1", "1e3", "Gi", "1Pi"],
    ),
    "^sha256:[0-9a-f]{64}$": (
        [DIGEST, "sha256:" + "0123456789abcdef" * 4],
        ["latest", "sha256:abc", "sha512:" + "0" * 64, "0" * 64, "sha256:" + "A" * 64, "sha256:" + "g" * 64],
    ),
    # Names of images.
    "^[a-zA-Z0-9]([-._/a-zA-Z0-9]|:[a-zA-Z0-9_])*(@sha256:[0-9a-f]{64})?$": (
        ["own", "registry:5000/ml/own_1.2-a:v1", "a@" + DIGEST, "a:1@" + DIGEST],
        [
            "-own",
            "/own",
            "http://a/own",
            "a:",
            "a:-",
            "a b",
            "user@host/own",
            "a@sha256:0",
            "a@" + DIGEST + "0",
            "a:b\n",
        ],
    ),
    r"^[a-z][a-z0-9]*://[^\s]+$": (
        ["s3://models/x", "gs://a", "file:///a"],
        ["models", "/models", "s3:/a", "s3://", "3s://a", "S3://a", "s3://a b", "://a"],
    ),
    # A name within a pipeline: scikit-learn joins them with two underscores.
    "^[a-zA-Z][a-zA-Z0-9_]*$": (["C", "f__max_depth", "A9_"], ["_a", "9a", "a-b", "a.b", "a b", "ä"]),
    r"^(0\.[0-9]*[1-9][0-9]*|[1-9][0-9]*(\.[0-9]+)?)$": (
        ["0.2", "0.001", "1", "10.25"],
        ["0", "0.0", "-1", "1.", ".5", "1e3", "01", "1 "],
    ),
    "^[a-zA-Z](_?[a-zA-Z0-9])*$": (["f", "min_max", "A9_b"], ["a__b", "_a", "a_", "9a", "a-b", "a.b", "a b"]),
    r"^[a-zA-Z_][a-zA-Z0-9_]*(\.[a-zA-Z_][a-zA-Z0-9_]*)+$": (
        ["sklearn.svm.SVC", "a._b.C9"],
        ["SVC", "os.system('x')", "sklearn..SVC", ".svm.SVC", "sklearn.", "sklearn.9a", "a-b.c", "a b.c", "a:b.c"],
    ),
    PEM: (
        [PUBLIC_KEY, PUBLIC_KEY.rstrip("\n")],
        ["MCowBQYDK2VwAyEA", PUBLIC_KEY.replace("PUBLIC", "PRIVATE"), PUBLIC_KEY + "x", PUBLIC_KEY.replace("\n", " ")],
    ),
    "^(Manual|([0-9]{1,6}(ms|s|m|h)){1,4})$": (
        ["Manual", "5m", "1h30m", "500ms", "999999ms"],
        ["manual", "", "5", "7d", "Manual5m", "5m Manual", "1.5h", "1h1h1h1h1h"],
    ),
    "^[1-9][0-9]{0,5}(s|m|h)$": (["1s", "15s", "5m", "999999h"], ["0s", "500ms", "15", "1m30s", "1d", "1 s", "01s"]),
    r"^[1-9][0-9]{0,3}(\.[0-9]+)?$": (["1", "1.2", "2.50", "9999"], ["0.9", "0", "1.", "-1", "1e3", "12345", "1.2x"]),
    r"^0\.[5-9][0-9]{0,7}$": (["0.5", "0.95", "0.999"], ["0.4", "1", "0", "0.", ".95", "95%", "1.5", "0.95x"]),
    "^[a-zA-Z0-9][-a-zA-Z0-9_]*$": (["X-User-Id", "u", "9_a"], ["-a", "_a", "a b", "a:b", "a.b", "ä"]),
    "^([1-9][0-9]{0,3}ms|([1-9]|1[0-6])s)$": (
        ["20ms", "9999ms", "1s", "16s"],
        ["0ms", "0s", "17s", "1m", "1.5s", "20", "ms", "1s500ms", "05ms", "-1s", "20 ms"],
    ),
    "^(([5-9]|[1-9][0-9]{1,2})m|([1-9]|1[0-9]|2[0-4])h)$": (
        ["5m", "30m", "999m", "1h", "24h"],
        ["4m", "0m", "25h", "0h", "30s", "1d", "1h1m", "5", "m"],
    ),
    "^[0-9a-f]{7,64}$": (["9f2c1e0", "0" * 64], ["9f2c1e", "9F2C1E0", "main", "9f2c1e0g", "sha1:9f2c1e0"]),
    "^[a-z][a-z0-9_]*$": (["f1", "roc_auc"], ["ROC", "roc auc", "1f", "_f", "roc-auc"]),
    "^[A-Za-z]+$": (["Ready", "a"], ["Not Ready", "Ready2", "a.b/C", "a-b"]),
    "^[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9_])?$": (["Found", "A", "A_1"], ["not found", "1A", "_A", "A:B", "A,b", "A-b"]),
    "date-time": (
        ["2026-11-23T10:00:00Z", TIME, "2026-11-23T10:00:00+01:00"],
        ["today", "2026-11-23", "10:00:00", "2026-11-23 10:00", "2026-13-01T10:00:00Z", "1795428000"],
    ),
}
