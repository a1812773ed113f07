"""A published run is validated as a whole; errors name the file and field, and missing data is listed."""

import json
from pathlib import Path

import numpy as np
import pytest

from persona_assets.published.files import PublishedRunError
from persona_assets.published.run import read_published_run

REFERENCE = Path(__file__).resolve().parents[3] / "shared/reference/qwen2.5-7b-instruct"


def changed(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def error_message(directory: Path) -> str:
    with pytest.raises(PublishedRunError) as error:
        read_published_run(directory, "assistant")
    return str(error.value)


def test_all_files_are_read(published_files):
    run = read_published_run(published_files, "assistant")
    assert list(run.personas) == ["villain", "comedian", "librarian", "teacher", "assistant"]
    assert run.questions == ("Why?", "How?", "When?")
    assert run.training_questions == ("What for?", "Where to?")
    assert run.generations.query("persona == 'villain' and question == 'How?'").text.item() == "villain says How?"
    matrices = json.loads((published_files / "divergence_matrices.json").read_text())
    response = matrices["per_prompt_js"][str(1 * 3 + 2)]  # the second persona's response to the third question
    js = run.logit_js["comedian"].js.sel(question="When?")
    assert js.sel(persona="librarian", other="villain").item() == response["villain__librarian"]
    assert run.logit_js["comedian"].kl_over_all.to_numpy().tolist() == matrices["kl_matrix"]
    assert list(run.source_rates.columns) == ["persona", "source_rate", "js", "cosine_layer10"]
    assert run.about["model"] == "somebody/model"


def test_personas_and_questions_may_be_in_the_parent_folder(published_files):
    for name in ("personas_core.json", "eval_questions.json"):
        (published_files / name).rename(published_files.parent / name)
    assert len(read_published_run(published_files, "assistant").personas) == 5


def test_a_matrix_in_another_order_is_reordered(published_files):
    before = read_published_run(published_files, "assistant").cosine.cosine.sel(population="study", layer=20)

    def turn(content):
        order = [4, 2, 0, 1, 3]
        content["cosine_matrix_l20"] = np.array(content["cosine_matrix_l20"])[np.ix_(order, order)].tolist()
        content["persona_names"] = [content["persona_names"][place] for place in order]

    changed(published_files / "cosine_5_l20.json", turn)
    after = read_published_run(published_files, "assistant").cosine.cosine.sel(population="study", layer=20)
    np.testing.assert_allclose(after, before, atol=1e-15)


def test_missing_data_is_listed(published_files):
    run = read_published_run(published_files, "assistant")
    assert "centroids" in run.absent
    assert "cosine study layer 10" in run.absent
    assert "cosine 9_personas layer 20 for 1 of 10 pairs" in run.absent  # teacher – assistant: neither is a source
    cosine = run.cosine.cosine
    assert cosine.sel(population="study", layer=10).isnull().all()
    assert np.isnan(cosine.sel(population="9_personas", layer=20, persona="teacher", other="assistant"))
    assert "kl" not in run.logit_js["villain"]


def test_truncated_json_is_rejected(published_files):
    file = published_files / "generations.json"
    file.write_text(file.read_text()[:-20])
    assert str(file) in error_message(published_files)
    assert "is truncated" in error_message(published_files)


@pytest.mark.parametrize("field", ["js_matrix", "kl_matrix"])
def test_a_wrong_shape_is_rejected(published_files, field):
    changed(published_files / "divergence_matrices.json", lambda content: content[field][2].pop())
    assert f"{field}: found 5 rows of [4, 5] numbers; expected 5 rows of 5 numbers" in error_message(published_files)


def test_an_unknown_persona_is_rejected(published_files):
    changed(published_files / "generations.json", lambda content: content.update(pirate=content.pop("villain")))
    assert "generations.json: personas: 'pirate' is unknown" in error_message(published_files)


def test_a_missing_response_is_rejected(published_files):
    changed(published_files / "generations.json", lambda content: content["teacher"].pop("How?"))
    assert "generations.json: teacher: questions: 'How?' is missing" in error_message(published_files)


def test_an_asymmetric_js_matrix_is_rejected(published_files):
    changed(published_files / "divergence_matrices.json", lambda content: content["js_matrix"][0].__setitem__(1, 0.5))
    assert "js_matrix: is not symmetric: found 0.5 for villain, comedian" in error_message(published_files)


def test_a_js_matrix_that_is_not_the_mean_of_its_responses_is_rejected(published_files):
    changed(
        published_files / "divergence_matrices.json",
        lambda content: content["per_prompt_js"]["7"].update(villain__comedian=0.6),
    )
    assert "js_matrix: villain – comedian as the mean of per_prompt_js" in error_message(published_files)


def test_a_js_above_ln_2_is_rejected_with_its_location(published_files):
    changed(
        published_files / "divergence_matrices.json",
        lambda content: content["per_prompt_js"]["7"].update(villain__comedian=0.7),
    )
    message = error_message(published_files)
    assert "per_prompt_js: 7: villain__comedian: found 0.7; expected a number within [0, 0.6931]" in message


def test_cosines_that_contradict_the_matrix_are_rejected(published_files):
    file = published_files / "dyads12.csv"
    file.write_text(file.read_text().replace("cosine_l20_centred9", "cosine_l20_centred5"))
    assert "dyads12.csv: row 1 (villain → comedian): cosine_l20_centred5: found" in error_message(published_files)


def test_a_source_rate_outside_0_to_1_is_rejected(published_files):
    file = published_files / "coupling4.csv"
    file.write_text(file.read_text().replace(",0.4", ",1.4"))
    assert "coupling4.csv: row 2 (comedian): source_rate: found '1.4'" in error_message(published_files)


def test_a_folder_without_cosines_is_rejected(published_files):
    (published_files / "cosine_5_l20.json").unlink()
    assert "no cosine_5_l<layer>.json" in error_message(published_files)


def test_an_unknown_baseline_is_rejected(published_files):
    with pytest.raises(PublishedRunError, match="baseline 'nobody' is unknown"):
        read_published_run(published_files, "nobody")


def test_the_published_qwen_run_is_read():
    if not REFERENCE.is_dir():
        pytest.skip(f"the published run is missing: {REFERENCE}")
    run = read_published_run(REFERENCE, "assistant")
    assert (len(run.personas), len(run.questions), len(run.generations)) == (11, 20, 220)
    assert run.layers == [10, 15, 20, 25]
    known = run.cosine.cosine.notnull().sum(("persona", "other"))
    assert known.sel(population="study").to_numpy().tolist() == [0, 0, 121, 0]
    assert known.sel(population="111_personas").to_numpy().tolist() == [91, 91, 91, 91]  # 11 + 2 × 40 pairs
