"""What was found in a data folder -> the sections of a page with pictures and sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
from markupsafe import Markup

from rfcx_tf.audio.decode import AudioError
from rfcx_tf.audio.excerpt import read_excerpt
from rfcx_tf.check.facts import Facts
from rfcx_tf.check.recipe import Proposal, recipe_text
from rfcx_tf.check.screen import sound_lines
from rfcx_tf.report.charts import LINES, Chart, add_axes, add_legend, name_axes, new_figure, svg
from rfcx_tf.report.event_clips import data_uri, encode_mp3, event_svg
from rfcx_tf.report.page import PageSection, fill_template, make_section

# Pixels of a chart with a line for every species.
_LINE, _NAMES, _WIDTH = 17, 128, 360
_CONTEXT_S, _LONGEST_S = 1.0, 10.0
_LETTERS_OF_A_NAME = 22
# Of a page that can be mailed.
_MOST_EXAMPLES = 60


def check_sections(
    facts: Facts,
    folds: pd.DataFrame | str,
    suspicious: Mapping[str, Sequence[str]],
    proposal: Proposal | str,
    command: str,
) -> list[PageSection]:
    """The sections, in the order of a page; arguments as of `screen_text`.

    Args:
        command: that the recipe is proposed by.
    """
    is_recipe = isinstance(proposal, Proposal)
    return [
        make_section(
            "check-overview",
            "Overview",
            facts=facts,
            hours=facts.sounds["duration_s"].sum() / 3600,
            doubtful=sum(map(len, suspicious.values())),
            sounds=sound_lines(facts.sounds),
        ),
        make_section("check-doubts", "What to look at", suspicious=suspicious),
        make_section(
            "check-species",
            "Species and boxes",
            species=facts.species,
            figures=[*_species_charts(facts.species), *_length_charts(facts.rows, facts.species)],
        ),
        make_section("check-examples", "A box of every species", cards=_examples(facts)),
        make_section("check-folds", "Folds", folds=folds, has_folds=not isinstance(folds, str)),
        make_section(
            "check-recipe",
            "Proposed recipe",
            remarks=proposal.remarks if is_recipe else [proposal],
            recipe=recipe_text(proposal, command) if is_recipe else "",
        ),
    ]


def _axes(species: pd.DataFrame, below: int = 34, top: int = 8):
    """Axes with a line for every species, the first at the top."""
    height = _LINE * len(species)
    figure = new_figure(_WIDTH, top + height + below)
    axis = add_axes(figure, _NAMES, top, _WIDTH - _NAMES - 12, height)
    names = [_short(name) for name in species["name"]]
    axis.set(ylim=(len(species) - 0.5, -0.5))
    axis.set_yticks(np.arange(len(species)), names, parse_math=False)
    axis.grid(axis="y", visible=False)
    axis.grid(axis="x", color="#c9cdd1", linewidth=0.7)
    return axis


def _species_charts(species: pd.DataFrame) -> list[Chart]:
    lines = np.arange(len(species))
    axis = _axes(species, top=30)
    for shift, column, colour in ((-0.19, "tp", LINES[0]), (0.19, "fp", LINES[1])):
        axis.barh(lines + shift, species[column], 0.36, color=colour, label=column.upper())
    name_axes(axis, "rows")
    add_legend(axis, loc="lower right", bbox_to_anchor=(1.02, 1), ncols=2)
    said = "Rows by species: " + ", ".join(
        f"{row.name} {row.tp} TP and {row.fp} FP" for row in species.itertuples()
    )
    charts = [("Rows", "", svg(axis.figure, said))]
    known = species[species["tp"] > 0]
    axis = _axes(known)
    axis.set_xscale("log")
    lines = np.arange(len(known))
    axis.barh(
        lines,
        known["high_hz"] - known["low_hz"].clip(lower=20),
        0.5,
        left=known["low_hz"].clip(lower=20),
        color=LINES[2],
    )
    _plain_ticks(axis, (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000))
    name_axes(axis, "Hz, median box")
    said = "Bands by species: " + ", ".join(
        f"{row.name} {row.low_hz:.0f} to {row.high_hz:.0f} Hz" for row in known.itertuples()
    )
    return [*charts, ("Bands", "of the TP boxes", svg(axis.figure, said))]


def _length_charts(rows: pd.DataFrame, species: pd.DataFrame) -> list[Chart]:
    known = species[species["tp"] > 0]
    axis = _axes(known)
    axis.set_xscale("log")
    tp = rows[rows["present"]]
    for line, row in enumerate(known.itertuples()):
        own = tp[tp["species_id"] == row.species_id]
        axis.scatter(own["t_max"] - own["t_min"], np.full(len(own), line), 9, LINES[0], alpha=0.35)
        axis.plot([row.median_s] * 2, [line - 0.35, line + 0.35], color=LINES[1], linewidth=2)
    _plain_ticks(axis, (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50))
    name_axes(axis, "seconds")
    said = "Lengths of boxes by species: " + ", ".join(
        f"{row.name} {row.shortest_s:.2f} to {row.longest_s:.2f} s" for row in known.itertuples()
    )
    return [("Lengths", "of the TP boxes; the stroke is the median", svg(axis.figure, said))]


def _plain_ticks(axis, ticks: Sequence[float]) -> None:
    """A few plain numbers below a logarithmic axis."""
    low, high = axis.get_xlim()
    inside = [tick for tick in ticks if low <= tick <= high]
    while len(inside) > 6:
        inside = inside[::2]
    axis.set_xticks(inside, [f"{tick:g}" for tick in inside])
    axis.minorticks_off()
    axis.set_xlim(low, high)


def _examples(facts: Facts) -> list[Markup]:
    """Cards of the TP box of every species that is nearest to its median in length."""
    rows = facts.used_rows
    rows = rows[rows["present"]]
    cards = []
    for species in facts.species[facts.species["tp"] > 0].head(_MOST_EXAMPLES).itertuples():
        own = rows[rows["species_id"] == species.species_id]
        length_s = own["t_max"] - own["t_min"]
        for number in (length_s - species.median_s).abs().sort_values(kind="stable").index[:3]:
            try:
                cards.append(_card(own.loc[number], species.name, facts))
                break
            except AudioError:  # Another section names it.
                continue
    return cards


def _card(row: pd.Series, name: str, facts: Facts) -> Markup:
    source = facts.recordings[row["recording_id"]]
    end_s = min(row["t_max"], row["t_min"] + _LONGEST_S)
    excerpt = read_excerpt(source, row["t_min"] - _CONTEXT_S, end_s + _CONTEXT_S)
    event = SimpleNamespace(
        recording_id=row["recording_id"],
        species=name,
        start_s=row["t_min"],
        end_s=row["t_max"],
        low_hz=row["f_min"],
        high_hz=row["f_max"],
    )
    return fill_template(
        "check-card.html",
        name=name,
        event=event,
        source=row["source"],
        picture=event_svg(event, excerpt, None),
        sound=data_uri(encode_mp3(excerpt), "audio/mpeg"),
    )


def _short(name: str) -> str:
    if len(name) <= _LETTERS_OF_A_NAME:
        return name
    return name[: _LETTERS_OF_A_NAME - 1] + "…"
