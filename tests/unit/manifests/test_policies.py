"""The admission policies know every field that names a Secret; what they do is asked of the API server."""

import pytest
import yaml

from live import ROOT
from secret_references import SecretReference, secret_references


@pytest.mark.parametrize("reference", secret_references(), ids=str)
def test_a_field_that_names_a_secret_has_its_policy(reference: SecretReference) -> None:
    field = "object." + ".".join(reference.path)
    folder = ROOT / "manifests/policies"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    policies = [next(iter(yaml.safe_load_all((folder / name).read_text()))) for name in listed]
    about = [
        policy
        for policy in policies
        if any(reference.plural in rule["resources"] for rule in policy["spec"]["matchConstraints"]["resourceRules"])
        and field in yaml.safe_dump(policy["spec"], width=10000)
    ]
    assert about, f"no policy in manifests/policies asks who writes {field} of {reference.plural}"
