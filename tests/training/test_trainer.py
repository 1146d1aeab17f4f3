"""The trainer: exact losses, planted bests, and runs that are killed and end with the same bytes."""

import csv
import hashlib
import json
import math
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf.core.checkpoint import Checkpoints, sealed
from rlhf.core.errors import Stopped, UserError
from rlhf.core.runtime import Runtime, RuntimeParams
from rlhf.training.token_loss import token_loss
from rlhf.training.trainer import Fit, Plan, fit
from rlhf.training.trainer_checkpoints import newest_whole

STEPS = 24
PLAN = Plan(
    stream="toy", steps=STEPS, batch_size=2, accumulate=2, lr=1e-2, schedule="linear", warmup_steps=3,
    weight_decay=0.1, grad_clip=1.0, eval_every=5, log_every=2, patience=0,
)  # fmt: skip


def toy_model(seed: int = 0) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    # Dropout is on here: a resumed run must restore the library's own random state as well.
    config = GPT2Config(
        vocab_size=17, n_positions=8, n_embd=8, n_layer=1, n_head=2, resid_pdrop=0.1, bos_token_id=0, eos_token_id=0
    )
    return GPT2LMHeadModel(config)


def toy_rows(count: int = 12) -> list[torch.Tensor]:
    return list(torch.randint(0, 17, (count, 8), generator=torch.Generator().manual_seed(5)))


def toy_collate(rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    ids = torch.stack(rows)
    labels = ids.clone()
    labels[:, 0] = -100
    return {"input_ids": ids, "labels": labels}


def runtime() -> Runtime:
    params = RuntimeParams(
        device="cpu", dtype="float32", threads=1, portable=False, checkpoint_s=1e9, checkpoint_steps=0
    )
    return Runtime.start(params, seed=3)


def train(
    folder: Path, *, plan: Plan = PLAN, validate: Callable[[nn.Module], float] | None = None, every_steps: int = 0
) -> tuple[GPT2LMHeadModel, Fit]:
    started, rows = runtime(), toy_rows()
    model = toy_model()
    count = plan.steps * plan.accumulate * plan.batch_size
    result = fit(
        model,
        examples=rows,
        order=[(7 * index) % len(rows) for index in range(count)],
        collate=toy_collate,
        validate=validate or (lambda trained: token_loss(trained, [toy_collate(rows[:5])], started.device)),
        plan=plan,
        runtime=started,
        checkpoints=Checkpoints(folder / "checkpoints", every_s=1e9, every_steps=every_steps),
        curve=folder / "curve.csv",
    )
    return model, result


def digest(model: nn.Module) -> str:
    whole = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        whole.update(name.encode() + tensor.numpy().tobytes())
    return whole.hexdigest()


class Planted:
    """Says the losses it was given, and remembers the weights it saw."""

    def __init__(self, losses: list[float]) -> None:
        self.losses, self.seen = losses, []

    def __call__(self, model: nn.Module) -> float:
        self.seen.append(digest(model))
        return self.losses[len(self.seen) - 1]


@pytest.mark.parametrize("best", [0, 2, 4])
def test_the_weights_of_the_best_validation_are_kept(tmp_path: Path, best: int) -> None:
    losses = [3.0] * 5
    losses[best] = 1.5
    planted = Planted(losses)
    model, result = train(tmp_path, validate=planted)
    assert len(planted.seen) == 5  # steps 5, 10, 15, 20 and the last
    assert digest(model) == planted.seen[best]
    assert result.best_step == [5, 10, 15, 20, 24][best]
    assert result.validation_loss == 1.5


def test_patience_ends_the_run_and_the_best_is_kept(tmp_path: Path) -> None:
    planted = Planted([2.0, 1.0, 1.5, 1.0, 0.5])
    model, result = train(tmp_path, plan=replace(PLAN, patience=2), validate=planted)
    assert len(planted.seen) == 4  # the lowest came at the second; an equal one is no better
    assert (digest(model), result.best_step) == (planted.seen[1], 10)
    rows = (tmp_path / "curve.csv").read_text().splitlines()
    assert rows[-1].startswith('"20",')


def test_of_equal_validations_the_first_is_kept(tmp_path: Path) -> None:
    planted = Planted([2.0, 1.0, 1.0, 1.0, 2.0])
    model, result = train(tmp_path, validate=planted)
    assert (digest(model), result.best_step) == (planted.seen[1], 10)


def test_the_loop_is_adamw_with_the_planned_schedule(tmp_path: Path) -> None:
    """Against torch's own AdamW, the loss as the mean over the step's tokens, and the schedule worked by hand.

    AdamW divides a gradient by its size, so that an entry near 0 takes its rounding error into a step of up to the
    learning rate, 1e-2: weights agree to 4e-6 on one processor, and not closer than some 1e-5 on any. The decay is
    strong, so that its absence would show as 1e-2.
    """
    plan = replace(PLAN, steps=6, eval_every=6, weight_decay=5.0)
    planted = Planted([1.0])
    rows = toy_rows()

    def without_dropout(model: GPT2LMHeadModel) -> GPT2LMHeadModel:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return model

    expected = without_dropout(toy_model())
    decayed = [p for n, p in expected.named_parameters() if p.dim() > 1]
    plain = [p for n, p in expected.named_parameters() if p.dim() == 1]
    optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": 5.0}, {"params": plain, "weight_decay": 0.0}])
    rates = [0.0, 1 / 3, 2 / 3, 1.0, 2 / 3, 1 / 3]  # three steps up from 0, three down to 0
    for step, rate in enumerate(rates):
        ids = torch.stack([rows[(7 * (4 * step + k)) % 12] for k in range(4)])
        logits = expected(input_ids=ids).logits[:, :-1]
        loss = nn.functional.cross_entropy(logits.reshape(-1, 17), ids[:, 1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * rate
        optimiser.step()
        optimiser.zero_grad()

    started, model = runtime(), without_dropout(toy_model())
    fit(
        model, examples=rows, order=[(7 * i) % 12 for i in range(24)], collate=toy_collate, validate=planted,
        plan=plan, runtime=started, checkpoints=Checkpoints(tmp_path / "c", every_s=1e9, every_steps=0),
        curve=tmp_path / "curve.csv",
    )  # fmt: skip
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_the_curve_has_a_row_for_each_log_and_validation(tmp_path: Path) -> None:
    train(tmp_path, validate=Planted([5.0, 4.0, 3.0, 2.0, 1.0]))
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    assert list(rows[0]) == ["step", "train_loss", "validation_loss"]
    steps = [int(row["step"]) for row in rows]
    assert steps == [2, 4, 5, 6, 8, 10, 12, 14, 15, 16, 18, 20, 22, 24]
    assert {int(row["step"]): row["validation_loss"] for row in rows if row["validation_loss"]} == {
        5: "5.0", 10: "4.0", 15: "3.0", 20: "2.0", 24: "1.0"
    }  # fmt: skip


def test_when_checkpoints_are_made_changes_nothing(tmp_path: Path, uninterrupted: tuple[str, bytes]) -> None:
    child(tmp_path, every_steps=0)
    assert outcome(tmp_path) == uninterrupted  # which made one after every step


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path: Path) -> None:
    started, model = runtime(), toy_model()

    def poisoned(rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            model.transformer.wte.weight[0, 0] = math.nan
        return toy_collate(rows)

    with pytest.raises(UserError, match=r"toy: the training loss became nan between steps 1 and 1; lower toy's lr"):
        fit(
            model, examples=toy_rows(), order=[0] * 96, collate=poisoned, validate=Planted([1.0] * 5), plan=PLAN,
            runtime=started, checkpoints=Checkpoints(tmp_path / "c", every_s=1e9, every_steps=1),
            curve=tmp_path / "curve.csv",
        )  # fmt: skip
    assert newest_whole(tmp_path / "c") is None  # what was broken was not sealed


def test_a_validation_loss_that_is_not_a_number_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"toy: the validation loss became inf at step 5"):
        train(tmp_path, validate=Planted([math.inf]))


def test_the_validation_loss_by_hand() -> None:
    """Logits are planted: log-probabilities are ln 1/2 and ln 1/4 by hand, and padding does not count."""

    class Fixed(nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
            rows = torch.tensor([0.5, 0.25, 0.125, 0.125]).log().expand(*input_ids.shape, 4)
            return type("Output", (), {"logits": rows})

    labels = torch.tensor([[-100, 0, 1, -100], [-100, -100, 3, 0]])
    batch = {"input_ids": torch.zeros(2, 4, dtype=torch.long), "attention_mask": torch.ones(2, 4), "labels": labels}
    by_hand = (math.log(2) + math.log(4) + math.log(8) + math.log(2)) / 4
    assert token_loss(Fixed(), [batch], torch.device("cpu")) == pytest.approx(by_hand, abs=1e-6)
    # A batch of one token weighs one token, not half.
    single = {name: tensor[:1, :2] for name, tensor in batch.items()}
    by_hand = (4 * by_hand + math.log(2)) / 5
    assert token_loss(Fixed(), [batch, single], torch.device("cpu")) == pytest.approx(by_hand, abs=1e-6)


def test_a_uniform_model_has_the_vocabulary_as_perplexity() -> None:
    model = toy_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    loss = token_loss(model, [toy_collate(toy_rows())], torch.device("cpu"))
    assert math.exp(loss) == pytest.approx(17.0, rel=1e-5)


# --- killed and run again -------------------------------------------------------------------------------------------

FORKS = multiprocessing.get_context("fork")  # of this process, which has made its imports


def child(folder: Path, every_steps: int) -> None:
    try:
        model, result = train(folder, every_steps=every_steps)
    except Stopped:
        sys.exit(130)
    (folder / "result.txt").write_text(f"{digest(model)} {result}")


def start(folder: Path, every_steps: int = 1) -> ForkProcess:
    process = FORKS.Process(target=child, args=(folder, every_steps))
    process.start()
    return process


def outcome(folder: Path) -> tuple[str, bytes]:
    return (folder / "result.txt").read_text(), (folder / "curve.csv").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    process = start(folder)
    process.join(600)
    assert process.exitcode == 0
    return outcome(folder)


def wait_for(folder: Path, number: int, process: ForkProcess) -> None:
    """Until the library has begun its `number`-th checkpoint."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.is_alive():
        found = [int(item.name.split("-")[1]) for item in (folder / "checkpoints").glob("checkpoint-*")]
        if any(step >= number for step in found):
            return
        time.sleep(0.001)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.thorough)])
def test_killed_at_any_moment_it_ends_with_the_same_bytes(
    tmp_path: Path, kills: int, uninterrupted: tuple[str, bytes]
) -> None:
    """Kills of one run: at random delays after the start, and while a checkpoint is being written."""
    draw = random.Random(20)
    for kill in range(kills):
        process = start(tmp_path)
        if kill % 3 == 0:
            time.sleep(draw.uniform(0.0, 2.0))
        else:
            wait_for(tmp_path, 2 * kill, process)
            time.sleep(draw.uniform(0.0, 0.03))
        process.kill()
        process.join()
    process = start(tmp_path)
    process.join(600)
    assert process.exitcode == 0
    assert outcome(tmp_path) == uninterrupted


def test_a_truncated_checkpoint_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], uninterrupted: tuple[str, bytes]
) -> None:
    newest = crash_after(tmp_path, 18)[0]  # the one before it, after step 17, is in the middle of a row of the curve
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    child(tmp_path, every_steps=1)
    assert f"{newest}: broken checkpoint" in capsys.readouterr().err
    assert outcome(tmp_path) == uninterrupted


class CrashError(Exception):
    pass


def crash_after(folder: Path, step: int) -> list[Path]:
    """Train until an exception after `step` steps; the checkpoints left, newest first."""
    count = 0

    def crash(rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        nonlocal count
        count += 1
        if count > step * PLAN.accumulate + PLAN.accumulate:  # the loader reads ahead
            raise CrashError
        return toy_collate(rows)

    started, rows = runtime(), toy_rows()
    with pytest.raises(CrashError):
        fit(
            toy_model(), examples=rows, order=[(7 * i) % len(rows) for i in range(96)], collate=crash,
            validate=lambda trained: token_loss(trained, [toy_collate(rows[:5])], started.device), plan=PLAN,
            runtime=started, checkpoints=Checkpoints(folder / "checkpoints", every_s=1e9, every_steps=1),
            curve=folder / "curve.csv",
        )  # fmt: skip
    return sorted((folder / "checkpoints").glob("checkpoint-*"), key=lambda f: -int(f.name.split("-")[1]))


def test_without_its_best_a_checkpoint_is_not_resumed(tmp_path: Path) -> None:
    """The end of the run loads the best weights: a newer checkpoint that cannot say them is of no use."""
    left = crash_after(tmp_path, 17)
    assert [folder.name for folder in left] == ["checkpoint-17", "checkpoint-16", "checkpoint-15"]
    state = json.loads((left[0] / "trainer_state.json").read_text())
    assert Path(state["best_model_checkpoint"]) == left[2]
    (left[2] / "model.safetensors").unlink()
    assert newest_whole(tmp_path / "checkpoints") is None
    assert not any(folder.exists() for folder in left)


def test_checkpoints_hold_no_pickled_arguments_and_load_as_plain_tensors(tmp_path: Path) -> None:
    for folder in crash_after(tmp_path, 17):
        assert sealed(folder)
        assert not (folder / "training_args.bin").exists()
        for file in folder.iterdir():
            if file.suffix in (".pt", ".pth"):
                torch.serialization.get_unsafe_globals_in_checkpoint(file)  # readable at all
        torch.load(folder / "optimizer.pt", weights_only=True)
        torch.load(folder / "scheduler.pt", weights_only=True)


@pytest.mark.thorough  # tests/stages/test_kill.py sends both to stages that train so
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_stops_and_resumes(
    tmp_path: Path, number: signal.Signals, uninterrupted: tuple[str, bytes]
) -> None:
    process = start(tmp_path, every_steps=3)
    wait_for(tmp_path, 4, process)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(600)
    assert process.exitcode == 130
    saved = newest_whole(tmp_path / "checkpoints")
    assert saved is not None
    assert 4 <= int(saved.name.split("-")[1]) < STEPS
    process = start(tmp_path)
    process.join(600)
    assert process.exitcode == 0
    assert outcome(tmp_path) == uninterrupted
