"""Facts and a machine -> a recipe, as YAML in which each value has its reason."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import yaml

from rfcx_tf.check.facts import Facts
from rfcx_tf.check.frontend_rules import middle_hz
from rfcx_tf.check.rules import BATCH, Choice, choose_values, schedule
from rfcx_tf.check.speed import Machine, examples_per_s, fold_minutes
from rfcx_tf.core.config import Config

# Of configs/listeners/birdnet.yaml: what it can hear.
_LISTENER_TOP_HZ = 15_000
# Of configs/yamnet.yaml: the sample rate, and what it can hear.
_YAMNET_RATE_HZ, _YAMNET_TOP_HZ = 16_000, 7500
_YAMNET = (
    "Published weights are the better start: on fieldmix YAMNet's gave 0.896 where random ones "
    "gave 0.851 (docs/recipe.md). Fetch https://storage.googleapis.com/audioset/yamnet.h5 (15 MB) "
    "and add --weights yamnet.h5."
)
_NO_FP = (
    "There are no FP rows. That is enough to train, but thresholds need some: judge what the "
    "detector hears (rfcx-tf review serve) and train again, or name recordings in which all calls "
    "are marked in complete.csv."
)


@dataclass(frozen=True)
class Proposal:
    """A recipe that fits a data folder.

    Attributes:
        config: the recipe.
        choices: the values that are no defaults, in the order of a recipe.
        remarks: sentences on the whole: time, listener, what to expect.
    """

    config: Config
    choices: Sequence[Choice]
    remarks: Sequence[str]


def propose_recipe(
    facts: Facts, machine: Machine, minutes: float | None = None, start: Config | None = None
) -> Proposal:
    """The recipe for a data folder and a machine.

    Args:
        facts: of the folder.
        machine: that will train it.
        minutes: for all folds together; fewer examples are seen where these would take longer.
        start: as for `choose_values`.

    Raises:
        UserError: as `choose_values`.
    """
    choices = choose_values(facts, machine, start)
    config = _config(choices)
    if minutes is not None:
        choices, config = _within(minutes, choices, config, machine)
    minutes_a_fold, folds = fold_minutes(config, machine), config.training.folds
    remarks = [
        f"A fold takes about {_in_words(minutes_a_fold)} on {machine}, all {folds} about "
        f"{_in_words(folds * minutes_a_fold)}: an estimate from measured rates, here "
        f"{examples_per_s(config, machine):.0f} examples a second, right to within a factor of two "
        "where nothing else runs.",
    ]
    if start is None and _could_begin_from_yamnet(facts):
        remarks.append(_YAMNET)
    remarks.append(_listener(facts.species))
    if facts.rows["present"].all() and not facts.complete:
        remarks.insert(0, _NO_FP)
    here = int(facts.used_rows["present"].sum())
    if here < (all_rows := int(facts.rows["present"].sum())):
        remarks.insert(0, f"For all {all_rows} TP rows. {here} of them have their recording here.")
    return Proposal(config, _no_defaults(choices), remarks)


def recipe_text(proposal: Proposal, command: str) -> str:
    """The recipe as YAML: remarks at the top, before every value its reason, no defaults."""
    lines = [f"# Proposed by: {command}", "#"]
    for remark in proposal.remarks:
        lines += textwrap.wrap(remark, 98, initial_indent="# ", subsequent_indent="# ")
    written: list[str] = []
    said = ""
    for choice in proposal.choices:
        *sections, name = choice.key.split(".")
        for depth, section in enumerate(sections):
            if sections[: depth + 1] != written[: depth + 1]:
                lines.append(f"{'  ' * depth}{section}:")
                said = ""
        written = sections
        indent = "  " * len(sections)
        if choice.reason != said:
            comment = f"{indent}# "
            lines += textwrap.wrap(
                choice.reason, 98, initial_indent=comment, subsequent_indent=comment
            )
        said = choice.reason
        value = yaml.safe_dump(choice.value, default_flow_style=True).splitlines()[0]
        lines.append(f"{indent}{name}: {value}")
    return "\n".join(lines) + "\n"


def _within(
    minutes: float, choices: list[Choice], config: Config, machine: Machine
) -> tuple[list[Choice], Config]:
    """Fewer examples where all folds would take longer than so many minutes."""
    training = config.training
    wanted = fold_minutes(config, machine) * training.folds
    if wanted <= minutes:
        return choices, config
    examples = training.epochs * training.steps_per_epoch * BATCH
    steps, epochs = schedule(examples * minutes / wanted, training.epochs)
    why = (
        f"As much as {minutes:g} minutes allow: {epochs * steps * BATCH:,} examples, where "
        f"{examples:,} would take {_in_words(wanted)}."
    )
    fewer = {"training.epochs": epochs, "training.steps_per_epoch": steps}
    choices = [Choice(c.key, fewer[c.key], why) if c.key in fewer else c for c in choices]
    return choices, _config(choices)


def _could_begin_from_yamnet(facts: Facts) -> bool:
    """Whether most recordings, and the usual boxes of all species, lie where YAMNet hears."""
    rate_hz = facts.sounds["rate_hz"].mode().max()
    return bool(rate_hz >= _YAMNET_RATE_HZ and middle_hz(facts.species).max() < _YAMNET_TOP_HZ)


def _listener(species: pd.DataFrame) -> str:
    heard = "A listener (configs/listeners/birdnet.yaml; bring BirdNET's model, mind its licence) "
    if float(species["high_hz"].max()) > _LISTENER_TOP_HZ:
        return heard + (
            f"does not hear above {_LISTENER_TOP_HZ // 1000} kHz, where calls here are: none is "
            "proposed."
        )
    return heard + (
        "takes minutes to fit on the same shards. On fieldmix it was as good as the network alone "
        "(0.855, 0.851), and both together 0.922 (docs/recipe.md): worth it where a score counts."
    )


def _config(choices: Sequence[Choice]) -> Config:
    values: dict = {}
    for choice in choices:
        *sections, name = choice.key.split(".")
        section = values
        for part in sections:
            section = section.setdefault(part, {})
        section[name] = choice.value
    return Config.model_validate(values)


def _no_defaults(choices: Sequence[Choice]) -> list[Choice]:
    """Choices whose values are no defaults, in the order of the sections of a recipe."""
    order = list(Config.model_fields)
    kept = []
    for choice in choices:
        default = Config()
        for part in choice.key.split("."):
            default = getattr(default, part)
        if choice.value != default:
            kept.append(choice)
    return sorted(kept, key=lambda choice: order.index(choice.key.split(".")[0]))


def _in_words(minutes: float) -> str:
    if minutes < 1.5:
        return "a minute"
    return f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"
