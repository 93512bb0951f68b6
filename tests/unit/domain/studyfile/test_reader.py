"""From a file's text to a study: errors in plain words, warnings, and paths that hold anywhere."""

from __future__ import annotations

import dataclasses

import pytest

from hpo_service.domain.study.sources import Surroundings, is_local, looks_local
from hpo_service.domain.studyfile.reader import StudyFile, read_study
from hpo_service.errors import StudyFileError

GOOD = "name: x\nmodel: {base: a/small}\ndata: {source: c/rows}\n"


def around(*existing: str, **architectures: str) -> Surroundings:
    return Surroundings(
        absolute=lambda name: name if name.startswith("/") else f"/here/{name.removeprefix('./')}",
        exists=lambda path: path in existing,
        architecture=lambda path: architectures.get(path.rpartition("/")[2]),
    )


NOWHERE = around()


def read(text: str, where: Surroundings = NOWHERE) -> StudyFile:
    return read_study(text, "f.yaml", where)


def refused(text: str, where: Surroundings = NOWHERE) -> str:
    with pytest.raises(StudyFileError) as error:
        read(text, where)
    message = str(error.value)
    assert message.startswith("f.yaml:")
    assert "\n" not in message
    return message.removeprefix("f.yaml:")


def warned(text: str, where: Surroundings = NOWHERE) -> list[str]:
    return [str(warning) for warning in read(GOOD + text, where).warnings]


def test_a_good_file_is_read_without_warnings():
    study = read(GOOD + "training: {learning_rate: 3e-4}\nspace: {parameters: {learning_rate: null}}\n")
    assert study.spec.training.learning_rate == 3e-4
    assert study.warnings == []


@pytest.mark.parametrize(
    "text, message",
    [
        # unknown keys: near by spelling, by another tool's name, in another section, or nowhere
        ("serach: {}", "4: serach: is not a key here; the nearest is search"),
        ("training: {num_train_epochs: 1}", "4: training.num_train_epochs: is not a key here; the nearest is epochs"),
        ("trials: 3", "4: trials: is not a key here; it belongs under search.budget"),
        ("search: {trials: 3}", "4: search.trials: is not a key here; it belongs under search.budget"),
        ("seed: 3", "4: seed: is not a key here; it belongs under data.split or search"),
        (
            "lora_rank: 3",
            "4: lora_rank: is not a key here; put it under training to fix it, or under space.parameters to search it",
        ),
        (
            "lr: 3",
            "4: lr: is not a key here; for learning_rate, put it under training to fix it, "
            "or under space.parameters to search it",
        ),
        ("search: {budget: {zzz: 3}}", "4: search.budget.zzz: is not a key here; those are trials, gpu_hours"),
        ("transfer: {sampler: tpe}", "4: transfer.sampler: is not a key here; it belongs under search"),
        ("confirm: {default: {lora_rnk: 8}}", "4: confirm.default.lora_rnk: is no hyper-parameter; the nearest is "),
        # wrong types
        ("search: {budget: {trials: many}}", "4: search.budget.trials: must be a whole number, not the text 'many'"),
        ("search: {budget: {trials: 2.5}}", "4: search.budget.trials: must be a whole number, not 2.5"),
        ("search: {budget: {trials: true}}", "4: search.budget.trials: must be a whole number, not true"),
        ('training: {epochs: "2"}', "4: training.epochs: must be a whole number, not the text '2'; drop the quotes"),
        (
            'training: {learning_rate: "2e-4"}',
            "4: training.learning_rate: must be a number, not the text '2e-4'; drop the quotes",
        ),
        ("training: {learning_rate: .nan}", "4: training.learning_rate: must be a finite number, not nan"),
        ("confirm: {enabled: on}", "4: confirm.enabled: must be true or false, not the text 'on'"),
        ("description: 3", "4: description: must be text, not 3; text that looks like something else needs quotes"),
        ("search: {rungs: 0.5}", "4: search.rungs: must be a list such as [a, b], not 0.5"),
        ("search:\n", "4: search: is empty; give it keys such as sampler, pruner, rungs, or drop the line"),
        ("search: [tpe]", "4: search: must hold keys such as sampler, pruner, rungs, not a list"),
        ("space: {parameters: 3}", "4: space.parameters: must hold keys with a value each, not 3"),
        ("confirm: {default: {lora_rank: null}}", "4: confirm.default.lora_rank: must be a number, text, true or "),
        ("confirm: {default: {lora_rank: {a: 1}}}", "4: confirm.default.lora_rank: must be a number, text, true or "),
        # bounds
        ("training: {lora_rank: 0}", "4: training.lora_rank: must be at least 1, not 0"),
        ("training: {learning_rate: 0}", "4: training.learning_rate: must be above 0, not 0"),
        ("training: {learning_rate: 2}", "4: training.learning_rate: must be at most 1, not 2"),
        ("training: {lora_dropout: 1.0}", "4: training.lora_dropout: must be below 1, not 1"),
        ("model: {base: ''}", "4: model: stands twice, first in line 2; drop one"),
        (f"description: {'x' * 2001}", "4: description: must be at most 2000 characters long"),
        ("transfer: {bracket: []}", "4: transfer.bracket: must not be an empty list"),
        ("training: {target_modules: []}", "4: training.target_modules: must not be an empty list"),
        # choices
        (
            "training: {target_modules: attn}",
            "4: training.target_modules: must be one of minimal, attention, all-linear, full, not the text 'attn'",
        ),
        ("training: {target_modules: [1]}", "4: training.target_modules[0]: must be text, not 1"),
        (
            "search: {pruner: asha}",
            "4: search.pruner: must be one of early_exit, halving, successive_halving, hyperband, percentile, median, "
            "patient, threshold, none, not the text 'asha'",
        ),
        ("search: {parallel_per_gpu: 0}", "4: search.parallel_per_gpu: must be auto or at least 1, not 0"),
        ("search: {parallel_per_gpu: 65}", "4: search.parallel_per_gpu: must be auto or at most 64, not 65"),
        ("search: {parallel_per_gpu: x}", "4: search.parallel_per_gpu: must be auto or a whole number, not the text "),
        (
            "search: {sampler: 3}",
            "4: search.sampler: must be one of gp, tpe, cma-es, nsga-ii, random, grid, qmc, not 3",
        ),
        # the space
        ("space: {parameters: {lora_rank: 8}}", "4: space.parameters.lora_rank: must say what to search, not 8; write"),
        ("space: {parameters: {lora_rank: {}}}", "4: space.parameters.lora_rank: needs choices, or low and high"),
        (
            "space: {parameters: {lora_rank: {low: 8}}}",
            "4: space.parameters.lora_rank.high: is missing: largest value, included",
        ),
        (
            "space: {parameters: {lora_rank: {min: 4, max: 8}}}",
            "4: space.parameters.lora_rank.min: is not a key here; ",
        ),
        (
            "space: {parameters: {lora_rank: {values: [4]}}}",
            "4: space.parameters.lora_rank.values: is not a key here; ",
        ),
        ("space: {parameters: {lora_rank: {type: q, low: 1}}}", "4: space.parameters.lora_rank.type: must be one of "),
        (
            "space: {parameters: {weight_decay: {low: a, high: 1}}}",
            "4: space.parameters.weight_decay.low: must be a number, not the text 'a'",
        ),
        (
            "space: {parameters: {weight_decay: {low: 0, high: 0.1, log: true, step: 0.1}}}",
            "4: space.parameters.weight_decay.low: a log scale needs low above 0, not 0",
        ),
        ("space: {parameters: {lora_rank: {choices: [null]}}}", "4: space.parameters.lora_rank.choices[0]: must be a "),
        # objectives
        ("objective: {python: train}", "4: objective.python: must read package.module:function, not the text 'train'"),
        ("objective: {command: 'x {'}", "4: objective.command: cannot be read as a command line ("),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(text, message):
    assert refused(GOOD + text).startswith(message)


@pytest.mark.parametrize(
    "text, message",
    [
        ("model: {base: a/b}\n", "1: name: is missing: name of the study, unique in its database"),
        ("name: x\nmodel:\n  quantisation: nf4\n", "2: model.base: is missing: hub name, local folder, or "),
        ("name: x\nmodel:\n  bsae: a/b\ndata: {source: a/b}", "3: model.bsae: is not a key here; the nearest is base"),
        ("name: ''\n", "1: name: must be up to 100 letters, digits, '.', '_' or '-', starting with a letter or digit"),
        ("name: --\n", "1: name: must be up to 100 letters, digits, '.', '_' or '-', starting with a letter or digit"),
        ("name: x\nmodel: {base: ''}\ndata: {source: a/b}", "2: model.base: must not be empty"),
        ("name: x\nobjective: {}\n", "2: objective: give exactly one of python and command"),
    ],
)
def test_what_is_missing_is_described(text, message):
    assert refused(text).startswith(message)


def test_a_bad_name_comes_with_a_good_one():
    assert refused("name: my study (2nd)\n" + GOOD.partition("\n")[2]).endswith("; for example my-study-2nd")


def test_long_text_is_shown_short():
    message = refused(GOOD + f"search: {{sampler: {'x' * 500}}}")
    assert "..." in message
    assert len(message) < 200


def test_the_first_by_line_is_told_with_the_number_of_others():
    assert refused(GOOD + "search: {samler: tpe}\ntraining: {epochs: 0, patience: -1}\n") == (
        "4: search.samler: is not a key here; the nearest is sampler (and 2 more)"
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("data: {source: rows.jsonl}", "data.source: rows.jsonl does not exist (/here/rows.jsonl; relative paths "),
        ("data: {source: ./rows}", "data.source: ./rows does not exist (/here/rows; "),
        ("data: {source: /rows.csv}", "data.source: /rows.csv does not exist; correct the path, or write a hub name"),
        (
            "data: {source: 'builtin:docstrings'}",
            "data.source: there is no builtin:docstrings; the nearest is builtin:",
        ),
        ("data: {source: 'builtin:zz'}", "data.source: there is no builtin:zz; there is builtin:stdlib-docstrings"),
    ],
)
def test_data_that_is_not_there_is_told_before_any_training(text, message):
    assert refused(f"name: x\nmodel: {{base: a/b}}\n{text}\n").startswith(f"3: {message}")


def test_local_models_and_builtin_ones_must_exist_too():
    model = "name: x\ndata: {source: a/b}\nmodel:\n  base: ./small\n  target: builtin:llama-smal\n"
    assert refused(model).endswith("write a hub name (and 1 more)")
    assert refused(model, around("/here/small")).startswith("5: model.target: there is no builtin:llama-smal; the nea")


def test_a_path_whose_folder_has_a_name_that_cannot_be_stored_is_refused():
    half = dataclasses.replace(around("/\udc80/rows.jsonl"), absolute=lambda name: f"/\udc80/{name.removeprefix('./')}")
    message = refused("name: x\nmodel: {base: a/b}\ndata: {source: ./rows.jsonl}\n", half)
    assert message.startswith("3: data.source: its absolute path cannot be stored")


def test_local_paths_are_made_absolute_and_hub_names_are_left_alone():
    text = "name: x\nmodel: {base: ./small, target: c/large}\ndata: {source: rows.jsonl}\n"
    spec = read(text, around("/here/small", "/here/rows.jsonl")).spec
    assert spec.model is not None
    assert spec.data is not None
    assert (spec.model.base, spec.model.target, spec.data.source) == ("/here/small", "c/large", "/here/rows.jsonl")
    assert spec.data.model_fields_set == {"source"}


def test_an_existing_folder_wins_over_a_hub_name():
    assert is_local("c/rows", around("/here/c/rows"))
    assert not is_local("c/rows", NOWHERE)
    assert not is_local("builtin:llama-tiny", around("/here/builtin:llama-tiny"))
    assert [name for name in ("./a", "../a", "~/a", "/a", "a/", "a.parquet", "a/b") if not looks_local(name)] == ["a/b"]


def test_an_objective_of_ones_own_needs_no_files():
    study = read("name: x\nobjective: {python: 'a.b:c'}\nspace: {parameters: {depth: {low: 1, high: 99}}}\n")
    assert study.spec.model is None
    assert study.warnings == []


def test_warnings_come_in_the_order_of_the_file():
    text = "transfer: {top: 2}\nsearch: {budget: {trials: 5}}\n"
    assert [warning.partition(":")[0] for warning in warned(text)] == ["4", "5"]


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "search: {sampler: tpe, budget: {trials: 9}}",
            "4: search.budget.trials: with 9 trials random search is as good as TPE; ",
        ),
        (
            "search: {startup_trials: 20}",
            "4: search.startup_trials: all 20 trials are start-up trials, which fill the space and",
        ),
        (
            "search: {budget: {trials: 1}, sampler: random, enqueue: [{lora_rank: 8}]}",
            "4: search.enqueue: 2 configurations come first, and the budget has 1 trials: the last "
            "are never run; enqueue fewer, or raise the budget",
        ),
        (
            "space: {parameters: {lora_rank: {choices: [4, 8]}}}",
            "4: space.parameters.lora_rank: the default, 16, is none of its choices: 4, 8: search begins with 8; widen "
            "the range to hold it, or give confirm.default a lora_rank of your own",
        ),
        (
            "space: {preset: minimal, parameters: {learning_rate: {choices: [1e-4, 2e-4]}}}",
            "1: search.budget.trials: the space has only 6 configurations: 20 trials repeat some",
        ),
        (
            "space: {parameters: {warmup_ratio: {low: 0.1, high: 0.3}}}\nsearch: {pruner: halving}",
            "5: search.rungs[0]: warm-up may last for 30% of the run, longer than the rung at 25%",
        ),
        (
            "training: {evaluations_per_epoch: 2}",
            "4: training.evaluations_per_epoch: pruner early_exit can stop nobody: it needs two evaluations",
        ),
        (
            "training: {evaluations_per_epoch: 4, warmup_ratio: 0.8}\nspace: {parameters: {warmup_ratio: null}}",
            "4: training.evaluations_per_epoch: pruner early_exit can stop nobody: it needs two evaluations",
        ),
        (
            "search: {rungs: [0.25]}",
            "4: search.rungs: are read by pruner halving alone, not by early_exit; drop them",
        ),
        (
            "training: {evaluations_per_epoch: 1}\nsearch: {pruner: halving}",
            "5: search.rungs[0]: the first of 1 evaluations at or after 25% is the last, where nothing is left to stop",
        ),
        (
            "search:\n  pruner: halving\n  rungs: [0.3, 0.35]\ntraining: {evaluations_per_epoch: 4}",
            "6: search.rungs[1]: falls on the same evaluation as the rung at 30%; raise",
        ),
        (
            "training: {lora_rank: 8}",
            "4: training.lora_rank: is searched too, so this value is not used in search; to fix it, write "
            "`lora_rank: null` under space.parameters",
        ),
        (
            "training: {method: full}",
            "1: space: method full does not read lora_alpha_multiplier, lora_",
        ),
        (
            "training: {method: full}\nspace: {preset: full, parameters: {learning_rate: {low: 1e-3, high: 1e-2}}}",
            "5: space.parameters.learning_rate: is above what guides give for method full, 1e-06 to 5e-05; start",
        ),
        (
            "training: {method: prefix, learning_rate: 1e-5}\n"
            "space: {preset: none, parameters: {prefix_tokens: {low: 5, high: 500}}}",
            "4: training.learning_rate: is below what guides give for method prefix, 0.0001 to 0.01; start",
        ),
        (
            "space: {preset: minimal, parameters: {method: {choices: [lora, prefix]}}}",
            "4: space: lora_rank is sampled with method prefix too, which does not read it; add when: {method: [lora]}",
        ),
        (
            "space: {preset: minimal, parameters: {scheduler_power: {low: 1, high: 3}}}",
            "4: space: scheduler cosine does not read scheduler_power, so searching that wastes trials; take it out",
        ),
        ("transfer: {top: 2}", "4: transfer: has no effect without model.target"),
    ],
)
def test_what_is_probably_not_meant_is_warned_about(text, message):
    assert any(warning.startswith(message) for warning in warned(text))


@pytest.mark.parametrize(
    "text",
    [
        "search: {sampler: random, budget: {trials: 5}}",
        "search: {pruner: none}\ntraining: {evaluations_per_epoch: 1}",
        "space: {preset: full}\ntraining: {method: full}",
        "training: {evaluations_per_epoch: 2, epochs: 4}",
    ],
)
def test_what_is_fine_is_not_warned_about(text):
    assert warned(text) == []


def models(base: str, target: str, where: Surroundings = NOWHERE) -> list[str]:
    text = f"name: x\nmodel: {{base: '{base}', target: '{target}'}}\ndata: {{source: c/rows}}\n"
    return [warning.message for warning in read(text, where).warnings]


@pytest.mark.parametrize(
    "base, target",
    [
        ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-1.7B"),
        ("builtin:llama-tiny", "builtin:llama-small"),
        ("unknown/thing", "Qwen/Qwen2.5-7B"),
        ("Qwen/Qwen2.5-0.5B", "./large"),
    ],
)
def test_models_of_one_family_or_of_unknown_ones_are_not_warned_about(base, target):
    assert models(base, target, around("/here/large", large="qwen2")) == []


def test_a_target_of_another_family_is_warned_about():
    (message,) = models("HuggingFaceTB/SmolLM2-135M", "Qwen/Qwen2.5-7B")
    assert message.startswith("Qwen2.5 is another family than the base's SmolLM2: no rule carries a learning rate")
    (message,) = models("./small", "Qwen/Qwen2.5-7B", around("/here/small", small="llama"))
    assert message.startswith("Qwen2.5 is another family than the base's llama")


def test_a_target_that_is_the_base_or_smaller_is_warned_about():
    assert models("a/b", "a/b")[0].startswith("is the base itself")
    assert models("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-0.5B") == [
        "is smaller than the base (Qwen/Qwen2.5-7B): are the two swapped?"
    ]


def test_a_tracker_that_is_not_installed_here_is_doubtful():
    tracked = "tracking: {trackers: [tensorboard, mlflow]}\n"
    without = dataclasses.replace(NOWHERE, installed=lambda package: package != "mlflow")
    assert warned(tracked) == []
    (warning,) = warned(tracked, without)
    assert warning.startswith("4: tracking.trackers[1]: mlflow is not installed here")
    assert "pip install 'hpo-service[trackers]'" in warning


def test_who_selects_on_a_metric_is_told_that_losers_are_stopped_by_the_loss_and_how_coarse_it_is():
    pruned, coarse = warned("evaluation: {select: exact_match, examples: 20}\n")
    assert pruned.startswith("4: evaluation.select: losers are stopped by their validation loss half-way")
    assert "of 20 rows exact match moves in steps of 5 points" in coarse
    assert warned("evaluation: {select: token_f1}\nsearch: {pruner: none}\n") == []


def test_every_source_of_rows_becomes_absolute_or_is_told_missing():
    text = "name: x\nmodel: {base: a/small}\ndata: {source: [./a.jsonl, c/rows, 'b/*.jsonl'], validation: v.jsonl}\n"
    spec = read(text, around("/here/a.jsonl", "/here/b/*.jsonl", "/here/v.jsonl")).spec
    assert spec.data is not None
    assert spec.data.source == ["/here/a.jsonl", "c/rows", "/here/b/*.jsonl"]
    assert (spec.data.validation, spec.data.test) == ("/here/v.jsonl", None)
    said = refused(text, around("/here/a.jsonl", "/here/v.jsonl"))
    assert "data.source[2]: b/*.jsonl does not exist" in said
    assert "data.validation: v.jsonl does not exist" in refused(text, around("/here/a.jsonl", "/here/b/*.jsonl"))


def test_a_chat_template_is_kept_as_text_wherever_it_was_written():
    files = {"/here/chat.jinja": "{{ messages }}", "/here/empty.jinja": "words"}
    where = dataclasses.replace(NOWHERE, text=files.get)
    text = GOOD.replace("c/rows", "c/rows, chat_template: '%s'")
    for written in ("chat.jinja", "{{ messages }}"):
        spec = read(text % written, where).spec
        assert spec.data is not None
        assert spec.data.chat_template == "{{ messages }}"
    assert "data.chat_template: none.jinja cannot be read" in refused(text % "none.jinja", where)
    assert "data.chat_template: empty.jinja holds no template" in refused(text % "empty.jinja", where)


@pytest.mark.parametrize(
    "search, key, reason",
    [
        ("search: {warm_start: x}\n", "search.warm_start", "names this study itself"),
        ("search: {sampler: random, warm_start: y}\n", "search.warm_start", "sampler random learns from nothing"),
        ("search: {sampler: cma-es, goals: [loss, seconds]}\n", "search.sampler", "cma-es learns from one value"),
        ("protocol: quick\nsearch: {warm_start: y}\n", "search.warm_start", "protocol quick has no search"),
        ("protocol: quick\nsearch: {enqueue: [{lora_rank: 8}]}\n", "search.enqueue", "protocol quick has no search"),
    ],
)
def test_what_a_search_cannot_begin_with_is_refused(search: str, key: str, reason: str):
    said = refused(GOOD + search)
    assert key in said
    assert reason in said
