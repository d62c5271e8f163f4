"""Canonical skops files: independent of addresses, hashes and clocks, and still loadable."""

import io
import time
import zipfile
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from modelmill_contracts.artifact import SKOPS_TRUSTED
from modelmill_trainer import skops_file


def _scaler(**attributes: Any) -> StandardScaler:
    scaler = StandardScaler().fit(np.arange(12.0).reshape(4, 3))
    scaler.__dict__.update(attributes)
    return scaler


def test_two_files_of_one_estimator_differ_but_their_canonical_forms_do_not() -> None:
    kept = _scaler()  # alive, so that the other one has other addresses
    first, second = skops.io.dumps(kept), skops.io.dumps(_scaler())
    assert first != second
    assert skops_file.canonical(first) == skops_file.canonical(second)


def test_sets_are_written_in_one_order() -> None:
    names = [f"name{i}" for i in range(50)]
    forward, backward = _scaler(names=set(names)), _scaler(names=set(dict.fromkeys(reversed(names))))
    assert skops_file.encode(forward) == skops_file.encode(backward)


def test_a_canonical_file_loads_to_the_same_estimator() -> None:
    content = skops_file.encode(_scaler(names={"b", "a"}, shared=[1, 2]))
    loaded = skops.io.loads(content, trusted=list(SKOPS_TRUSTED))
    np.testing.assert_array_equal(loaded.mean_, _scaler().mean_)
    assert (loaded.names, loaded.shared) == ({"a", "b"}, [1, 2])
    assert skops_file.encode(loaded) == content


def test_equal_arrays_of_different_estimators_stay_apart() -> None:
    one = _scaler()
    assert skops_file.encode(one) != skops_file.encode(StandardScaler().fit(np.arange(12.0).reshape(4, 3) * 2))


def test_one_object_in_two_places_is_written_as_two_that_are_equal() -> None:
    numbers, member = np.arange(3.0), StandardScaler().fit(np.ones((2, 1)))
    once = _scaler(a=numbers, b=numbers, parts=[member, member])
    twice = _scaler(a=numbers.copy(), b=numbers.copy(), parts=[member, StandardScaler().fit(np.ones((2, 1)))])
    content = skops_file.encode(once)
    assert skops_file.encode(twice) == content
    loaded = skops.io.loads(content, trusted=list(SKOPS_TRUSTED))
    assert loaded.a is not loaded.b  # whoever changes the one leaves the other
    np.testing.assert_array_equal(loaded.a, loaded.b)


def test_members_carry_no_time_and_no_address() -> None:
    with zipfile.ZipFile(io.BytesIO(skops_file.encode(_scaler()))) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.namelist() == ["schema.json", *(f"{i}.npy" for i in range(len(archive.namelist()) - 1))]


def test_a_type_that_is_not_trusted_is_not_written() -> None:
    with pytest.raises(skops_file.NotPortableError, match="UntrustedTypesFound"):
        skops_file.encode(FunctionTransformer(func=time.sleep))
