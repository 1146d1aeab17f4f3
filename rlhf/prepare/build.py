"""Build the prepared data set: read, sort out, split, tokenise, filter, report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerBase

from rlhf.core.errors import UserError
from rlhf.core.seeding import derive
from rlhf.models.text import hub
from rlhf.models.text.chat_mark import use_tokens
from rlhf.models.text.chat_template import ChatTemplate
from rlhf.models.text.control import FAMILIES, control_tokens, pattern, unsigned
from rlhf.models.text.load import load_tokenizer
from rlhf.models.text.model_folder import check_model_folder
from rlhf.models.text.tokens import encode_prompt
from rlhf.prepare.accept import accepted
from rlhf.prepare.annotators import Annotators, compare_annotators, pair_ranking
from rlhf.prepare.label_metrics import pair_metrics
from rlhf.prepare.labels import Labelled, labelled_pairs
from rlhf.prepare.lengths import Lengths, PromptRoom, check_prompts, token_lengths
from rlhf.prepare.params import AS_IT_IS, DataParams
from rlhf.prepare.report import Metrics, data_report
from rlhf.prepare.room import Reply, check_replies, check_some_asked
from rlhf.prepare.row_counts import Ledger
from rlhf.prepare.rows import Pair
from rlhf.prepare.sources import Source, read_ood, read_probes
from rlhf.prepare.splits import SPLITS, split_of
from rlhf.prepare.templates import Chat, Dialogue, Raw, Template
from rlhf.prepare.tokenizer import END, PAD, check_fits, context_of, train_tokenizer
from rlhf.prepare.written import Writer, write_all, written_rankings
from rlhf.synthetic import task
from rlhf.synthetic.annotator import noise_ceiling
from rlhf.synthetic.beliefs import Probe

Splits = dict[str, list[Pair]]
OOD = "out-of-distribution"  # a set of prompts beside the splits


@dataclass(frozen=True, slots=True)
class BaseChoice:
    """The base model that the data is for: it brings the tokenizer and the context. Only a source's own keys are
    used."""

    source: Literal["pretrain", "path", "hub"]
    path: str | None
    repo: str | None
    revision: str | None
    context: int  # of a model that is pretrained


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything the stage writes."""

    splits: Splits
    ood: list[tuple[str, str]]
    probes: list[Probe]
    corpus: list[str]
    tokenizer: PreTrainedTokenizerBase
    ledger: Ledger
    annotators: Annotators
    gold: Literal["synthetic"] | None
    ceiling: float | None
    metrics: Metrics
    notes: list[str]  # what is no error and must be said
    label_annotators: Annotators | None = None  # of data.labels; None where they are not read


def prepare(
    data: DataParams,
    base: BaseChoice,
    seed: int,
    *,
    room: PromptRoom | None = None,
    replies: Sequence[Reply] = (),
) -> Prepared:
    """Run the whole stage, in memory.

    `room`: the space that PPO needs for prompts; None where there will be no PPO. `replies`: lengths that other stages
    will ask for.

    Raises:
        UserError: a bad row where `data.on_bad_row` is stop, nothing left after the filters, an empty split, a sequence
            length or a prompt that the base model cannot take, a source that is not there.
    """
    folder = _base_folder(base)
    context = context_of(folder) if folder else base.context
    check_fits(context, data.max_tokens)
    tokenizer = load_tokenizer(folder, noted=False) if folder else None
    writer, ledger = make_writer(data, tokenizer, folder), Ledger()
    source = Source(data, seed)
    pairs = list(accepted(write_all(source, writer, ledger), ledger, data))
    if not pairs:  # before a tokenizer is trained on nothing
        raise UserError(f"data: nothing is left: {ledger.summary()}; see data.path{_of_turn_marker(ledger)}")
    corpus: list[str] = []
    if tokenizer is None:
        corpus = list(_corpus(data, pairs, seed))
        tokenizer = train_tokenizer(corpus, data.vocabulary)
    kept = _filtered(pairs, token_lengths(pairs, tokenizer), data, seed, ledger)
    labels = labelled_pairs(data, pairs, writer)
    added = _labels_kept(labels, tokenizer, data, seed) if labels else []
    splits = _split([pair for pair, _ in kept + added], data, seed, ledger)
    of_prompt = {pair.prompt: lengths.prompt for pair, lengths in kept + added}
    in_splits = {name: [of_prompt[pair.prompt] for pair in pairs] for name, pairs in splits.items()}
    if room is not None:
        check_some_asked(in_splits, room.longest, room.splits)
    if room is not None and context is not None:
        check_prompts(splits, of_prompt, room, context)
    ood = read_ood(data, seed, writer)
    in_splits[OOD] = [len(encode_prompt(tokenizer, prompt)) for prompt, _ in ood]
    check_replies(in_splits, replies, context)
    ceiling = _ceiling(splits["test"])
    ranked = map(pair_ranking, pairs) if source.rankings is None else written_rankings(source.rankings, writer)
    annotators = compare_annotators(ranked)
    metrics = data_report(ledger, splits, [lengths for _, lengths in kept + added])
    metrics |= annotators.metrics | {
        "prepare_noise_ceiling": ceiling,
        "prepare_prompts_ood": len(ood),
        "prepare_corpus_documents": len(corpus),
        "prepare_vocabulary": len(tokenizer),
    }
    if labels:
        sizes = {name: sum(pair.labelled_by is not None for pair in members) for name, members in splits.items()}
        metrics |= labels.answers.metrics | pair_metrics([pair for pair, _ in added], sizes, labels.ledger)
    gold: Literal["synthetic"] | None = "synthetic" if data.source == "synthetic" else None
    return Prepared(
        splits, ood, read_probes(data, writer), corpus, tokenizer, ledger, annotators, gold, ceiling, metrics,
        source.notes.lines() + (labels.said() if labels else []), labels.answers.annotators if labels else None,
    )  # fmt: skip


def asked_replies(sampled: int | None, measured: int, split: str) -> list[Reply]:
    """List the lengths that later stages ask of replies: sft of its samples, evaluate on `split` and on OOD prompts."""
    return [
        Reply("sft.sample_tokens", sampled, "test"),
        Reply("evaluate.response_tokens", measured, split),
        Reply("evaluate.response_tokens", measured, OOD),
    ]


def read_from(data: DataParams, base: BaseChoice) -> list[Path]:
    """List the user's own files and folders that the stage reads."""
    own = [data.path] if data.source == "files" else []
    own += [data.labels.path] if data.labels.use else []
    return [Path(path) for path in (*own, base.path if base.source == "path" else None) if path]


def make_writer(data: DataParams, tokenizer: PreTrainedTokenizerBase | None, folder: Path | None) -> Writer:
    """Choose the template of the parameters. `tokenizer` in `folder`; None where it is yet to be trained.

    Raises:
        UserError: the tokenizer has no chat template, or none that prompts and replies can be written by.
    """
    control = (END, PAD) if tokenizer is None else control_tokens(tokenizer)
    edge = control
    if tokenizer is not None:
        ends = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token)
        edge = tuple(sorted({str(name) for name in ends if name and len(str(name)) > 1}))
    template: Template
    if data.template == "chat":
        if tokenizer is None:
            raise UserError(
                "data.template: found 'chat', but base.source is pretrain, whose tokenizer has no chat template; set "
                "data.template to dialogue or raw"
            )
        chat = ChatTemplate.of(tokenizer, str(folder))
        template, control = Chat(chat), control_tokens(tokenizer)
        edge = tuple(sorted({*edge, chat.end}))
    elif data.template == "raw" or data.prompt_template == AS_IT_IS:
        template = Raw()
    else:
        written = pattern(control).search(data.prompt_template) is not None
        if written and tokenizer is not None:
            use_tokens(tokenizer)
        template = Dialogue(data.prompt_template, control if written else ())
    return Writer(template, edge, control, data.on_turn_marker, tuple(name for name in FAMILIES if name not in control))


def _base_folder(base: BaseChoice) -> Path | None:
    """Find the folder with the base model's tokenizer and config; None for one that is yet to be pretrained."""
    if base.source == "pretrain":
        return None
    if base.source == "hub":
        return hub.fetch(base.repo or "", base.revision or "", files=hub.TOKENIZER_FILES)
    folder = Path(base.path or "")
    check_model_folder(folder)
    return folder


def _corpus(data: DataParams, pairs: Sequence[Pair], seed: int) -> Iterator[str]:
    """Choose the documents to pretrain on: the world's, or the dialogues of the training prompts; no prompt of another
    split."""

    def in_train(prompt: str) -> bool:
        return _split_of(prompt, data, seed) == "train"

    if data.source == "synthetic":
        yield from task.corpus(data.synthetic, seed, in_train)
        return
    for pair in pairs:
        if in_train(pair.prompt):
            yield unsigned(pair.prompt) + pair.chosen
            yield unsigned(pair.prompt) + pair.rejected


def _filtered(
    pairs: Sequence[Pair], lengths: Sequence[Lengths], data: DataParams, seed: int, ledger: Ledger
) -> list[tuple[Pair, Lengths]]:
    """Keep pairs whose sequences both have an allowed length, at most `max_pairs` of them (0: all), drawn by the
    seed."""
    kept = _fitting(pairs, lengths, data, ledger)
    if data.max_pairs and len(kept) > data.max_pairs:
        ledger.dropped["over_max_pairs"] = len(kept) - data.max_pairs
        drawn = sorted(range(len(kept)), key=lambda index: derive(seed, "max_pairs", index))[: data.max_pairs]
        kept = [kept[index] for index in sorted(drawn)]
    ledger.kept = len(kept)
    ledger.check()
    if not kept:
        raise UserError(f"data: nothing is left: {ledger.summary()}; see data.path, data.min_tokens, data.max_tokens")
    return kept


def _of_turn_marker(ledger: Ledger) -> str:
    return ", and data.on_turn_marker=cut" if ledger.dropped["turn_marker"] else ""


def _fitting(
    pairs: Sequence[Pair], lengths: Sequence[Lengths], data: DataParams, ledger: Ledger
) -> list[tuple[Pair, Lengths]]:
    kept = []
    for pair, length in zip(pairs, lengths, strict=True):
        reason = length.dropped_by(data.min_tokens, data.max_tokens)
        if reason is None:
            kept.append((pair, length))
        else:
            ledger.dropped[reason] += 1
    return kept


def _labels_kept(
    labels: Labelled, tokenizer: PreTrainedTokenizerBase, data: DataParams, seed: int
) -> list[tuple[Pair, Lengths]]:
    """Filter the pairs of answers. `max_pairs` is about the source. A tie can be learnt from, and measures nothing."""
    ledger = labels.ledger
    kept = _fitting(labels.pairs, token_lengths(labels.pairs, tokenizer), data, ledger)
    useful = [one for one in kept if one[0].target > 0.5 or _split_of(one[0].prompt, data, seed) == "train"]
    ledger.dropped["held_out_tie"] += len(kept) - len(useful)
    ledger.kept = len(useful)
    ledger.check()
    return useful


def _split(pairs: Sequence[Pair], data: DataParams, seed: int, ledger: Ledger) -> Splits:
    splits: Splits = {name: [] for name in SPLITS}
    for pair in pairs:
        splits[_split_of(pair.prompt, data, seed)].append(pair)
    for name, members in splits.items():
        if not members:
            raise UserError(
                f"data: no pair falls into the {name} split: {ledger.summary()}; "
                "give more data, or raise data.validation_share and data.test_share"
            )
    return splits


def _split_of(prompt: str, data: DataParams, seed: int) -> str:
    return split_of(prompt, seed, validation_share=data.validation_share, test_share=data.test_share)


def _ceiling(pairs: Sequence[Pair]) -> float | None:
    """The noise ceiling of held-out pairs, where every label's probability is known."""
    known = [pair.probability for pair in pairs if pair.probability is not None]
    return noise_ceiling(known) if len(known) == len(pairs) else None
