"""The store returns exactly what was stored for exactly the same inputs, or nothing."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from persona_assets.files.digest import digest_of
from persona_assets.store.artefacts import Artefact, ArtefactError, ArtefactStore

MADE_FROM = {"weights": "abc", "prompt": "You are a pirate; ahoy ☠", "layers": [1, 2]}


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "question": ["Why?", "Wie geht’s?"],
            "token_ids": [[5, 6, 2], [7]],
            "finish_reason": ["stop", "length"],
            "js": [0.25, np.nan],
        }
    )


def dataset() -> xr.Dataset:
    random = np.random.default_rng(0)
    return xr.Dataset(
        {
            "js": (("persona", "other"), random.random((3, 3))),
            "states": (("persona", "hidden"), random.random((3, 900), dtype=np.float32)),
            "tokens": ("persona", np.array([3, 1, 2])),
        },
        coords={"persona": ["assistant", "villain", "comedian"], "other": ["assistant", "villain", "comedian"]},
        attrs={"units": "nats", "seed": 42},
    )


def mapping() -> dict[str, Any]:
    return {"text": "☠", "number": 0.1, "parts": [1, None, {"a": True}]}


def files() -> dict[str, bytes]:
    return {"adapter_model.safetensors": bytes(range(256)), "adapter_config.json": b"{}"}


VALUES: list[Callable[[], Any]] = [table, dataset, mapping, files]
every_kind = pytest.mark.parametrize("value", VALUES)


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(tmp_path / "artefacts")


def bytes_of(artefact: Artefact) -> dict[str, bytes]:
    paths = artefact.path.iterdir() if artefact.path.is_dir() else [artefact.path]
    return {path.name: path.read_bytes() for path in paths}


def damage(artefact: Artefact) -> None:
    path = min(artefact.path.iterdir()) if artefact.path.is_dir() else artefact.path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_table_comes_back_with_its_lists_of_token_ids(store: ArtefactStore) -> None:
    found = store.put("generations", MADE_FROM, table(), {}).read()
    assert [list(ids) for ids in found["token_ids"]] == [[5, 6, 2], [7]]
    assert found["token_ids"].iloc[0].dtype == np.int64
    pd.testing.assert_frame_equal(found.drop(columns="token_ids"), table().drop(columns="token_ids"))


def test_a_dataset_comes_back_with_its_labels_and_attributes(store: ArtefactStore) -> None:
    found = store.put("logit_js", MADE_FROM, dataset(), {}).read()
    xr.testing.assert_identical(found, dataset())
    assert found.states.dtype == np.float32


@pytest.mark.parametrize("value", [mapping, files, dict])
def test_mappings_and_files_come_back_unchanged(store: ArtefactStore, value: Callable[[], dict[str, Any]]) -> None:
    assert store.put("marker_adapter", MADE_FROM, value(), {}).read() == value()


@every_kind
def test_an_artefact_is_found_by_exactly_its_inputs(store: ArtefactStore, value: Callable[[], Any]) -> None:
    put = store.put("generations", MADE_FROM, value(), {"seconds": 1.5})
    found = store.find("generations", dict(reversed(MADE_FROM.items())))  # a mapping has no order
    assert found == put
    assert (found.made_from, found.measured, found.fingerprint) == (MADE_FROM, {"seconds": 1.5}, digest_of(MADE_FROM))
    assert store.find("generations", {**MADE_FROM, "layers": [2, 1]}) is None
    assert store.find("generations", {**MADE_FROM, "seed": None}) is None
    assert store.find("logit_js", MADE_FROM) is None


@every_kind
def test_equal_values_have_equal_bytes(tmp_path: Path, value: Callable[[], Any]) -> None:
    first, second = (ArtefactStore(tmp_path / name).put("a", MADE_FROM, value(), {}) for name in ("one", "two"))
    assert bytes_of(first) == bytes_of(second)
    assert first.sha256 == second.sha256


@every_kind
def test_content_without_a_record_is_unfinished(store: ArtefactStore, value: Callable[[], Any]) -> None:
    put = store.put("generations", MADE_FROM, value(), {})
    record = put.path.with_name(f"{put.fingerprint}.json")
    record.unlink()
    assert put.path.exists()
    assert store.find("generations", MADE_FROM) is None
    assert not store.has("generations", put.fingerprint)
    with pytest.raises(ArtefactError, match=r"\.json does not exist; materialise generations again"):
        store.get("generations", put.fingerprint)
    store.put("generations", MADE_FROM, value(), {})
    assert store.has("generations", put.fingerprint)


@every_kind
def test_reading_damaged_content_is_an_error(store: ArtefactStore, value: Callable[[], Any]) -> None:
    put = store.put("generations", MADE_FROM, value(), {})
    damage(put)
    assert not put.intact()
    assert not store.has("generations", put.fingerprint)
    with pytest.raises(ArtefactError, match=r"missing or damaged.*materialise generations again") as caught:
        put.read()
    assert str(put.path) in str(caught.value)


@every_kind
def test_damaged_content_is_set_aside_and_computed_again(store: ArtefactStore, value: Callable[[], Any]) -> None:
    for aside in ("", ".2", ".3"):
        put = store.put("generations", MADE_FROM, value(), {})
        damage(put)
        assert store.find("generations", MADE_FROM) is None
        assert not put.path.exists()
        assert put.path.with_name(f"{put.path.name}.damaged{aside}").exists()
    put = store.put("generations", MADE_FROM, value(), {})
    assert store.find("generations", MADE_FROM) == put


def test_missing_content_is_computed_again(store: ArtefactStore) -> None:
    put = store.put("generations", MADE_FROM, table(), {})
    put.path.unlink()
    with pytest.raises(ArtefactError, match="missing or damaged"):
        put.read()
    assert store.find("generations", MADE_FROM) is None


def test_a_folder_with_a_missing_file_is_damaged(store: ArtefactStore) -> None:
    put = store.put("marker_adapter", MADE_FROM, files(), {})
    (put.path / "adapter_config.json").unlink()
    assert not put.intact()


def test_an_error_names_a_record_that_is_not_json(store: ArtefactStore) -> None:
    put = store.put("generations", MADE_FROM, table(), {})
    record = put.path.with_name(f"{put.fingerprint}.json")
    record.write_text("{")
    with pytest.raises(ArtefactError, match=r"is not JSON.*move it away and materialise generations again") as caught:
        store.get("generations", put.fingerprint)
    assert str(record) in str(caught.value)


def test_a_damaged_record_is_set_aside_with_its_content_and_logged(
    store: ArtefactStore, caplog: pytest.LogCaptureFixture
) -> None:
    put = store.put("generations", MADE_FROM, table(), {})
    put.path.with_name(f"{put.fingerprint}.json").write_text('{"asset": "generations"}')
    assert store.find("generations", MADE_FROM) is None
    assert f"{put.fingerprint} is damaged" in caplog.text
    assert {path.suffix for path in put.path.parent.glob(f"{put.fingerprint}*")} == {".damaged"}
    again = store.put("generations", MADE_FROM, table(), {})
    assert store.find("generations", MADE_FROM) == again


@every_kind
def test_new_inputs_do_not_replace_earlier_artefacts(store: ArtefactStore, value: Callable[[], Any]) -> None:
    first = store.put("generations", MADE_FROM, value(), {})
    before = bytes_of(first)
    store.put("generations", {**MADE_FROM, "weights": "abd"}, value(), {})
    store.put("logit_js", MADE_FROM, value(), {})
    assert store.find("generations", MADE_FROM) == first
    assert bytes_of(first) == before


def test_the_record_contains_the_inputs(store: ArtefactStore) -> None:
    put = store.put("generations", MADE_FROM, table(), {"seconds": 1.5})
    record = json.loads(put.path.with_name(f"{put.fingerprint}.json").read_text(encoding="utf-8"))
    assert record["made_from"] == MADE_FROM
    assert digest_of(record["made_from"]) == put.fingerprint
    assert record["content"] == put.path.name


def test_an_existing_artefact_is_kept_and_returned(store: ArtefactStore) -> None:
    first = store.put("generations", MADE_FROM, {"by": "one"}, {"seconds": 1})
    assert store.put("generations", MADE_FROM, {"by": "other"}, {"seconds": 2}) == first
    assert first.read() == {"by": "one"}


def test_a_missing_artefact_is_an_error_that_names_the_asset(store: ArtefactStore) -> None:
    with pytest.raises(ArtefactError, match=r"abc\.json does not exist; materialise generations again"):
        store.get("generations", "abc")


@every_kind
def test_a_pruned_artefact_keeps_its_record_with_the_date(store: ArtefactStore, value: Callable[[], Any]) -> None:
    put = store.put("generations", MADE_FROM, value(), {"seconds": 1})
    assert not store.is_pruned("generations", put.fingerprint)
    assert store.has("generations", put.fingerprint)
    freed = store.prune(put)
    assert freed > 0
    assert not put.path.exists()
    assert store.is_pruned("generations", put.fingerprint)
    assert not store.has("generations", put.fingerprint)
    assert store.find("generations", MADE_FROM) is None
    (kept,) = store.all("generations")
    assert kept.made_from == MADE_FROM
    assert kept.pruned is not None
    with pytest.raises(ArtefactError, match=f"was pruned at {re.escape(kept.pruned)}; materialise generations again"):
        kept.read()
    again = store.put("generations", MADE_FROM, value(), {"seconds": 1})
    assert not store.is_pruned("generations", again.fingerprint)
    assert store.find("generations", MADE_FROM) == again


def test_a_missing_artefact_is_neither_pruned_nor_stored(store: ArtefactStore) -> None:
    assert not store.is_pruned("generations", "abc")
    assert not store.has("generations", "abc")


def test_damaged_versions_are_all_kept(store: ArtefactStore) -> None:
    for _ in range(2):
        damage(put := store.put("figures", MADE_FROM, files(), {}))
        assert store.find("figures", MADE_FROM) is None
    kept = {path.name for path in put.path.parent.iterdir() if ".damaged" in path.name}
    assert {f"{put.path.name}.damaged", f"{put.path.name}.damaged.2"} <= kept
