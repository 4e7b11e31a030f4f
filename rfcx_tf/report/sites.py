"""Recordings that are called by their paths -> tables that compare their sites.

A site is the first folder of a recording's id: site1 of site1/20210101_050000.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import numpy as np
import pandas as pd

# Shades of a table's cells; CSS has a class for each.
_SHADES = 4


def site_of(recording_id: str) -> str:
    """The first folder of an id; "" if it is a file's name alone."""
    return recording_id.partition("/")[0] if "/" in recording_id else ""


def site_table(
    events: pd.DataFrame,
    recordings: Iterable[str],
    durations_s: Mapping[str, float],
    starts: Mapping[str, datetime],
    unused: Iterable[str],
) -> pd.DataFrame:
    """A row for every site; columns as in sites.html.

    Args:
        events: a table of `EVENT_COLUMNS`.
        recordings: ids of all that were searched.
        durations_s: their lengths; empty if unknown.
        starts: when they began, as far as that is known.
        unused: ids of recordings that could not be used, or in part.

    Returns:
        A DataFrame with the index site. Empty where there are not two sites.
    """
    searched = pd.DataFrame({"recording_id": sorted({*recordings, *events["recording_id"]})})
    names = searched["recording_id"]
    searched["site"] = names.map(site_of)
    searched["hours"] = names.map(durations_s).astype(float) / 3600
    searched["day"] = [starts[name].date() if name in starts else None for name in names]
    by_site = searched.groupby("site")
    table = pd.DataFrame({"recordings": by_site.size(), "days": by_site["day"].nunique()})
    if len(table) < 2:
        return table[:0]
    if not starts:
        del table["days"]
    own = events.assign(site=events["recording_id"].map(site_of)).groupby("site")
    counts = pd.Series([site_of(name) for name in set(unused)], dtype=str).value_counts()
    table["unused"] = counts.reindex(table.index, fill_value=0)
    table["species"] = own["species_id"].nunique().reindex(table.index, fill_value=0)
    table["events"] = own.size().reindex(table.index, fill_value=0)
    if set(names) <= durations_s.keys():
        table["hours"] = by_site["hours"].sum()
        table["per_hour"] = table["events"] / table["hours"].replace(0, np.nan)
    return table.rename_axis("site")


def species_by_site(
    events: pd.DataFrame, names: Mapping[str, str], sites: pd.DataFrame
) -> pd.DataFrame:
    """How often every species was heard at every site.

    Args:
        events: a table of `EVENT_COLUMNS`.
        names: of species, by class column s<id>.
        sites: of `site_table`.

    Returns:
        A row for every species that was heard, the most often heard first: `name`, `class`,
        `all` events; then by number of the site `site<n>`, events per recorded hour (events,
        where it is not known how much was recorded), and `shade<n>`, 0 to 4, of the row's most.
    """
    site = events["recording_id"].map(site_of)
    counts = pd.crosstab(events["species_id"], site).reindex(columns=sites.index, fill_value=0)
    values = counts.astype(float)
    if "hours" in sites:
        values = values / sites["hours"].replace(0, np.nan)
    most = values.max(axis=1).to_numpy()[:, None]
    shades = np.ceil(_SHADES * values.fillna(0) / np.maximum(most, 1e-12)).astype(int)
    rows = pd.DataFrame({"class": [f"s{i}" for i in counts.index]}, counts.index)
    rows["name"] = rows["class"].map(names)
    rows["all"] = counts.sum(axis=1)
    for number, column in enumerate(sites.index):
        rows[f"site{number}"], rows[f"shade{number}"] = values[column], shades[column]
    return rows.sort_values(["all", "name"], ascending=[False, True], kind="stable")
