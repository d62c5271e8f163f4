"""What scikit-learn itself says: the pipeline of training-logistic.yaml, written by hand, with the same split."""

import json
import sys

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

data = pd.read_csv(sys.argv[1])
target = data.pop("benign")
train, test, train_target, _ = train_test_split(data, target, test_size=0.2, stratify=target, random_state=7)
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, train_target)

rows = test.iloc[:20]
print(
    json.dumps(
        {
            "rows": rows.to_numpy().tolist(),
            "labels": model.predict(rows).tolist(),
            "probabilities": model.predict_proba(rows)[:, 1].tolist(),
        }
    )
)
