"""What was found in a data folder -> one screen of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from rfcx_tf.check.facts import Facts
from rfcx_tf.check.recipe import Proposal

_LINES_A_KIND = 3


def screen_text(
    facts: Facts,
    folds: pd.DataFrame | str,
    suspicious: Mapping[str, Sequence[str]],
    proposal: Proposal | str,
) -> str:
    """The page for a terminal.

    Args:
        facts: of the folder.
        folds: of `fold_table`, or why there are none.
        suspicious: of `find_suspicious`.
        proposal: a recipe, or why there is none.
    """
    rows, sounds = facts.rows, facts.sounds
    hours, named = sounds["duration_s"].sum() / 3600, rows["recording_id"].nunique()
    missing = f", {len(facts.missing)} of them not there" if facts.missing else ""
    complete = []
    if facts.complete:
        complete = [f"In {len(facts.complete)} recordings all calls are marked (complete.csv)."]
    parts = [
        f"{len(sounds)} recordings ({hours:.1f} h); rows name {named}{missing}. "
        f"{int(rows['present'].sum())} TP and {int((~rows['present']).sum())} FP rows of "
        f"{len(facts.species)} species.",
        *complete,
        *facts.notes,
        "",
        species_lines(facts.species).to_string(index=False),
        "",
        *(f"{line}." for line in sound_lines(sounds)),
        "",
        folds if isinstance(folds, str) else "What a fold will hold out, by the proposed recipe:",
    ]
    if not isinstance(folds, str):
        names = {"annotated": "with rows", "tp": "TP", "fp": "FP"}
        names |= {"without_tp": "without TP of", "untaught": "not taught"}
        # A column is shown where it says something.
        said = folds.loc[:, (folds != "").any()]
        parts.append(said.rename(columns=names).to_string(index=False))
    parts.append("")
    if not suspicious:
        parts.append("Nothing is missing, damaged or doubtful.")
    for kind, lines in suspicious.items():
        parts.append(f"{kind}: {len(lines)}")
        parts += [f"  {line}" for line in lines[:_LINES_A_KIND]]
        if len(lines) > _LINES_A_KIND:
            parts.append(f"  and {len(lines) - _LINES_A_KIND} more")
    parts.append("")
    parts += [proposal] if isinstance(proposal, str) else ["Proposed recipe.", *proposal.remarks]
    return "\n".join(parts)


def species_lines(species: pd.DataFrame) -> pd.DataFrame:
    """Species with lengths and bands of their boxes in words, for people to read."""
    lengths = [
        ""
        if pd.isna(row.median_s)
        else f"{row.shortest_s:.2f} {row.median_s:.2f} {row.longest_s:.2f}"
        for row in species.itertuples()
    ]
    bands = [
        "" if pd.isna(row.low_hz) else f"{row.low_hz:.0f} to {row.high_hz:.0f}"
        for row in species.itertuples()
    ]
    return pd.DataFrame(
        {
            "species": species["name"].str.slice(0, 32),
            "id": species["species_id"],
            "TP": species["tp"],
            "FP": species["fp"],
            "recordings": species["recordings"],
            "s: least, median, most": lengths,
            "Hz, median box": bands,
        }
    )


def sound_lines(sounds: pd.DataFrame) -> list[str]:
    """How many recordings have which sample rate and channels, and how long they are."""
    lines = []
    for (rate_hz, channels), own in sounds.groupby(["rate_hz", "channels"]):
        least, most = own["duration_s"].min(), own["duration_s"].max()
        long = f"{least:.1f} s" if most - least < 0.1 else f"{least:.1f} to {most:.1f} s"
        several = "" if channels == 1 else f", {channels} channels"
        lines.append(f"{len(own)} recordings at {rate_hz} Hz{several}, {long}")
    return lines
