"""The weight of a row: refused where it is none, and exactly how often the row counts in training."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.errors import DataError
from hpo_service.training.data.pieces import pieces
from hpo_service.training.data.reading.columns import named
from hpo_service.training.data.reading.source import RawRow
from hpo_service.training.data.reading.weight import counts, weight_of
from hpo_service.training.data.row_cache import RowCache
from hpo_service.training.data.rows import prepare_rows
from hpo_service.training.data.tokens import TokenRow, TokenRows, collate
from hpo_service.training.distributed.process_group import ProcessGroup
from hpo_service.training.engines.data_parallel import SUPERVISED, RankCollator
from hpo_service.training.winner.final_run import joined
from tests.training.experts import save_experts
from tests.training.packed.packs import Workshop, reports
from tests.training.tiny import Trainee, byte_tokenizer, pairs, write_rows


def raw(*fields, part=None):
    return [RawRow(f"rows.jsonl, line {number}", each, part=part) for number, each in enumerate(fields, start=1)]


@pytest.mark.parametrize("value, weight", [(0, 0), (0.5, 0.5), (2, 2), ("0.25", 0.25), (1e-6, 1e-6), (1e6, 1e6)])
def test_a_weight_is_a_number_or_text_of_one(value, weight):
    (row,) = raw({"w": value})
    assert weight_of(row, "w") == weight
    assert counts(row, "w") == (weight > 0)


@pytest.mark.parametrize(
    "fields, state",
    [
        ({"w": -1}, "is -1"),
        ({"w": math.nan}, "is nan"),
        ({"w": math.inf}, "is inf"),
        ({"w": "heavy"}, "is 'heavy'"),
        ({"w": ""}, "is ''"),
        ({"w": None}, "is nothing"),
        ({"w": [1]}, "is a list"),
        ({"w": True}, "is True"),
        ({"w": 1e-9}, "is 1e-09"),
        ({"w": 10**400}, "is 1000000"),
        ({"v": 1}, "is missing"),
    ],
)
def test_anything_else_is_refused_with_its_row(fields, state):
    with pytest.raises(DataError) as caught:
        counts(raw({"w": 1}, fields)[1], "w")
    assert str(caught.value).startswith(f"rows.jsonl, line 2: column 'w', which data.weight names, {state}")
    assert str(caught.value).endswith("; a weight is 0 or a number from 1e-06 to 1e+06")
    assert "\n" not in str(caught.value)


def test_held_out_rows_need_no_weight_but_a_wrong_one_is_named():
    there, wrong = raw({}, {"w": -1}, part="validation")
    assert weight_of(there, "w") == 1
    with pytest.raises(DataError, match=r"line 2: column 'w', which data\.weight names, is -1"):
        weight_of(wrong, "w")


def test_other_columns_of_weights_still_only_leave_rows_out():
    (row,) = raw({"weight": 0.5, "loss_weight": 0})
    assert not counts(row, "weight")
    with pytest.raises(DataError, match=r"write data\.weight: weight to weigh rows by it"):
        counts(row)


def test_the_column_keeps_its_name_whatever_becomes_of_others():
    spec = DataSpec(source="x", columns={"completion": "w"}, prompt_template="{w}", weight="w")
    (row,) = raw({"w": "2"})
    assert named(row, spec).fields == {"w": "2", "completion": "2", "prompt": "2"}


def prepared(folder, rows, **fields):
    return prepare_rows(DataSpec(source=write_rows(folder / "rows.jsonl", rows), **fields), byte_tokenizer())


def test_each_row_keeps_its_weight_through_split_and_cache(tmp_path):
    rows = [{"prompt": f"{i} ", "completion": "x" * (1 + i), "w": (i + 1) / 4} for i in range(60)]
    spec = DataSpec(source=write_rows(tmp_path / "rows.jsonl", rows), weight="w")
    made, read = (RowCache(tmp_path / "cache").rows(spec, byte_tokenizer(), "a tokenizer") for _ in range(2))
    for found in (made, read):
        for part in (found.train, found.validation, found.test):
            # the completion and its end are what is learned
            assert [row.weight for row in part] == [(row.supervised - 1) / 4 for row in part]
    assert read.fingerprint == made.fingerprint
    assert made.report.understanding.columns_unused == {}
    assert joined(made.train, made.validation).weights.tolist() == [*made.train.weights, *made.validation.weights]
    assert made.train.first(3).weights.tolist() == made.train.weights[:3].tolist()


def test_lost_weights_in_a_cache_are_noticed(tmp_path, caplog):
    spec = DataSpec(source=write_rows(tmp_path / "rows.jsonl", [{**row, "w": 2} for row in pairs(60)]), weight="w")
    RowCache(tmp_path / "cache").rows(spec, byte_tokenizer(), "a tokenizer")
    (file,) = (tmp_path / "cache").rglob("train-weights.npy")
    file.unlink()
    assert RowCache(tmp_path / "cache").rows(spec, byte_tokenizer(), "a tokenizer").train.weights[0] == 2
    assert "are damaged" in caplog.text


def test_rows_tell_by_their_fingerprint_that_they_weigh_otherwise(tmp_path):
    rows = [{**row, "w": 1} for row in pairs(60)]
    plain = prepared(tmp_path, rows)
    assert prepared(tmp_path, rows, weight="w").fingerprint == plain.fingerprint
    assert prepared(tmp_path, [*rows[:-1], {**rows[-1], "w": 2}], weight="w").fingerprint != plain.fingerprint


def test_rows_of_weight_0_are_left_out_and_must_not_be_all(tmp_path):
    rows = [{**row, "w": i % 3} for i, row in enumerate(pairs(90))]
    report = prepared(tmp_path, rows, weight="w").report
    assert (report.rows_read, report.rows_without_weight) == (90, 30)
    with pytest.raises(DataError, match="every row has the weight 0, so there is nothing to learn"):
        prepared(tmp_path, [{**row, "w": 0} for row in rows], weight="w")


def test_pieces_weigh_as_their_row():
    row = TokenRow(np.arange(9, dtype=np.int32), np.arange(9, dtype=np.int32), 0.5)
    assert [piece.weight for piece in pieces([row], 4)] == [0.5, 0.5]
    assert TokenRows.of([row]).weighted


def test_ranks_divide_by_what_the_rows_of_all_weigh():
    rows = [TokenRow(np.arange(4, dtype=np.int32), np.asarray([-100, 1, 2, 3], np.int32), w) for w in (0.5, 2.0, 1.0)]
    batches = [RankCollator(ProcessGroup(rank, 2), partial(collate, padding=0))(rows) for rank in (0, 1)]
    assert [batch[SUPERVISED] for batch in batches] == [10.5, 10.5]


# One step an epoch: then a row that weighs 3 is the same as one that stands there three times.
ONE_STEP = {"effective_batch": 256, "epochs": 3, "evaluations_per_epoch": 1, "learning_rate": 2e-2}


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Rows that weigh 3, and the same ones three times."""
    folder, rows = tmp_path_factory.mktemp("twins"), list(enumerate(pairs(70)))
    weighted = write_rows(folder / "weighted.jsonl", [{**row, "w": 3 if i % 3 == 0 else 1} for i, row in rows])
    repeated = [row for i, row in rows for _ in range(3 if i % 3 == 0 else 1)]
    return weighted, write_rows(folder / "repeated.jsonl", repeated)


def compared(one, other):
    assert [each.value for each in one] == pytest.approx([each.value for each in other], abs=1e-6)
    losses = [[each.metrics["train_loss"] for each in found] for found in (one, other)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


@pytest.mark.parametrize("pack_rows", [False, True])
def test_a_row_that_weighs_3_is_three_rows(trainee, twins, pack_rows):
    weighted, repeated = twins
    data = {"pack_rows": pack_rows}
    trainee.run(trainee.config(**ONE_STEP, data={**data, "source": weighted, "weight": "w"}), "weighted")
    found = trainee.reports
    trainee.run(trainee.config(**ONE_STEP, data={**data, "source": repeated}), "repeated")
    compared(found, trainee.reports)
    trainee.run(trainee.config(**ONE_STEP, data={**data, "source": weighted}), "plain")
    assert abs(trainee.reports[-1].value - found[-1].value) > 1e-4


def test_so_it_is_where_experts_are_to_be_used_evenly(twins, tmp_path):
    weighted, repeated = twins
    path = save_experts("mixtral", tmp_path / "model", output_router_logits=True, router_aux_loss_coef=1.0)
    trainee = Trainee(path, repeated, tmp_path)
    trainee.run(trainee.config(**ONE_STEP, data={"source": weighted, "weight": "w"}), "weighted")
    found = trainee.reports
    trainee.run(trainee.config(**ONE_STEP), "repeated")
    compared(found, trainee.reports)


def test_weights_that_are_all_alike_change_nothing(trainee, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", [{**row, "w": 4} for row in pairs(70)])
    trainee.run(trainee.config(data={"source": rows, "weight": "w"}), "weighted")
    found = trainee.reports
    trainee.run(trainee.config(), "plain")
    compared(found, trainee.reports)


def test_packed_trials_weigh_rows_as_they_do_alone(llama, twins, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", [{**row, "w": (1 + i % 7) / 3} for i, row in enumerate(pairs(70))])
    workshop = Workshop(Trainee(llama, rows, tmp_path), tmp_path)
    data = {"source": rows, "weight": "w"}
    configs = {
        "a": workshop.config(data=data, evaluations_per_epoch=3, effective_batch=5),
        "b": workshop.config(data=data, lora_rank=8, effective_batch=16, micro_batch=4, epochs=2, order="curriculum"),
    }
    crowd = workshop.run(configs)
    for name, config in configs.items():
        _, expected = workshop.alone(config)
        found = reports(crowd, name)
        assert [r.value for r in found] == pytest.approx([r.value for r in expected], rel=1e-5)
        for measure in ("train_loss", "grad_norm"):
            values = [r.metrics[measure] for r in expected]
            assert [r.metrics[measure] for r in found] == pytest.approx(values, rel=1e-4)
        assert crowd.outcome(name).facts.environment.engine == "packed"


def test_a_file_of_validation_rows_needs_no_weights(tmp_path: Path):
    held = write_rows(tmp_path / "valid.jsonl", [{"prompt": f"ask {i} ", "completion": "yes"} for i in range(20)])
    rows = prepared(tmp_path, [{**row, "w": 2} for row in pairs(60)], weight="w", validation=held)
    assert (set(rows.train.weights), set(rows.validation.weights)) == ({2.0}, {1.0})
