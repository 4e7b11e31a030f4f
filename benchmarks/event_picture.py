"""A picture of calls: where they are, stretches of windows that heard them, and boxes.

    rfcx-tf predict --run runs/demo --audio demo/data/test --out scores.csv \\
        --window-scores windows.parquet
    python -m benchmarks.event_picture --window-scores windows.parquet \\
        --boxes demo/data/truth_events.csv --threshold 0.75 --out events.png

The calls are drawn at random, species in turn, found or not; events are those of the same species.
A stretch of windows is what an event is without boxes and without the usual length of a call: from
the centre of the first window to that of the last, at least as long as a window. Both are compared
with all calls of the recordings, which --boxes lists.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from rfcx_tf.audio.excerpt import read_excerpt
from rfcx_tf.evaluation.box_fit import interval_iou
from rfcx_tf.evaluation.event_scores import (
    calls_of_boxes,
    event_figures,
    events_to_compare,
    read_boxes,
)
from rfcx_tf.events.find import find_events
from rfcx_tf.events.window_table import RecordingWindows, open_window_table
from rfcx_tf.scoring.card import ModelCard

# Okabe and Ito's colours, which people with any colour vision tell apart.
_KINDS = {
    "call": ("#009E73", "-", 2.4),
    "stretch of windows": ("#E69F00", "--", 1.6),
    "box": ("#56B4E9", "-", 1.6),
}
_MARGIN_S = 1.8
_FIGURES = ["events", "f1", "f1_iou50", "f1_iou70", "median_iou", "median_band_iou"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--window-scores", required=True, type=Path, help="of `predict`")
    parser.add_argument("--boxes", required=True, type=Path, help="all calls of the recordings")
    parser.add_argument("--threshold", type=float, default=0.5, help="of events")
    parser.add_argument("--calls", type=int, default=10, help="to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, type=Path, help="PNG, WebP, ...")
    arguments = parser.parse_args()
    with open_window_table(arguments.window_scores) as table:
        card, recordings = table.card, list(table.recordings())
    files = {windows.recording.recording_id: windows.recording.file for windows in recordings}
    calls = calls_of_boxes(read_boxes(arguments.boxes))
    calls = calls[calls["recording_id"].isin(files)].reset_index(drop=True)
    found = {
        kind: events_to_compare(find_all(recordings, card, arguments.threshold, kind))
        for kind in list(_KINDS)[1:]
    }
    species = [(c.species_id, c.name) for c in card.classes]
    figures = {kind: event_figures(own, calls, species).table for kind, own in found.items()}
    rows = [figures[kind].iloc[-1][_FIGURES].rename(kind) for kind in figures]
    print(pd.DataFrame(rows).to_string(float_format="{:.3f}".format))
    drawn = draw_calls(calls, arguments.calls, arguments.seed)
    figure = draw(drawn, {"call": calls} | found, files, dict(species))
    figure.savefig(arguments.out, dpi=80)
    kilobytes = arguments.out.stat().st_size / 1000
    print(f"Wrote {arguments.out}: {len(drawn)} of {len(calls)} calls, {kilobytes:.0f} kB.")


def find_all(
    recordings: list[RecordingWindows], card: ModelCard, threshold: float, kind: str
) -> pd.DataFrame:
    """Events of all recordings, of their boxes or of stretches of windows."""
    if kind != "box":
        card = card.replace(mean_box_s=(np.nan,) * len(card.classes))
        recordings = [windows._replace(boxes=None) for windows in recordings]
    return pd.concat(
        [
            find_events(recording, scores, card, threshold, window_boxes=boxes)
            for recording, scores, boxes in recordings
        ],
        ignore_index=True,
    )


def draw_calls(calls: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """So many calls at random, species in turn, in the order of species."""
    mixed = calls.sample(frac=1, random_state=seed)
    turn = mixed.groupby("species_id").cumcount()
    return mixed.assign(turn=turn).sort_values(["turn", "species_id"], kind="stable").head(count)


def draw(drawn: pd.DataFrame, tables: dict[str, pd.DataFrame], files: dict, names: dict) -> Figure:
    """A figure with a spectrogram of each call, and what tables say of its species there."""
    columns = 5
    lines = -(-len(drawn) // columns)
    figure = Figure(figsize=(3.4 * columns, 3 * lines + 0.4), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, call in zip(axes, drawn.itertuples(), strict=False):
        _draw_call(axis, call, tables, files[call.recording_id])
        fit = [f"{kind} {best_iou(call, tables[kind]):.2f}" for kind in list(_KINDS)[1:]]
        axis.set_title(f"{names[call.species_id]}\nIoU: {', '.join(fit)}", fontsize=9)
    for axis in axes[len(drawn) :]:
        axis.set_axis_off()
    keys = [Line2D([], [], color=c, linestyle=s, linewidth=w) for c, s, w in _KINDS.values()]
    figure.legend(keys, _KINDS, loc="outside upper center", ncols=3, frameon=False)
    figure.supxlabel("seconds in the recording", fontsize=9)
    figure.supylabel("kHz", fontsize=9)
    return figure


def _draw_call(axis, call, tables: dict[str, pd.DataFrame], file: str) -> None:
    excerpt = read_excerpt(file, call.begin_s - _MARGIN_S, call.end_s + _MARGIN_S)
    rate_hz, extent_s = excerpt.sample_rate_hz, (excerpt.begin_s, excerpt.end_s)
    length = 2 ** round(np.log2(0.025 * rate_hz))
    # Silence has no logarithm.
    samples = excerpt.samples + np.float32(1e-7) * np.sin(np.arange(len(excerpt.samples)))
    levels = axis.specgram(
        samples, NFFT=length, Fs=rate_hz, noverlap=length // 2, xextent=extent_s, cmap="gray_r"
    )[0]
    top_hz = min(rate_hz / 2, 1.6 * call.high_hz)
    seen = 10 * np.log10(levels[: 1 + int(top_hz / rate_hz * length)])
    # Most of what is below the median is noise.
    axis.images[0].set_clim(np.median(seen) + 3, seen.max())
    for kind, (colour, style, width) in _KINDS.items():
        for box in _of_call(call, tables[kind]).itertuples():
            low_hz, high_hz = np.nan_to_num(box.low_hz), np.nan_to_num(box.high_hz, nan=top_hz)
            corner, box_s = (box.begin_s, low_hz), box.end_s - box.begin_s
            line = {"edgecolor": colour, "linestyle": style, "linewidth": width}
            axis.add_patch(Rectangle(corner, box_s, high_hz - low_hz, fill=False, **line))
    axis.set(xlim=extent_s, ylim=(0, top_hz))
    axis.yaxis.set_major_formatter(lambda hz, _: f"{hz / 1000:g}")
    axis.tick_params(labelsize=8)


def _of_call(call, table: pd.DataFrame) -> pd.DataFrame:
    own = (table["recording_id"] == call.recording_id) & (table["species_id"] == call.species_id)
    return table[own]


def best_iou(call, table: pd.DataFrame) -> float:
    """The largest overlap in time of a call with one of its species' events; 0: none."""
    spans = _of_call(call, table)[["begin_s", "end_s"]].to_numpy(float)
    return interval_iou(spans, np.array([call.begin_s, call.end_s])).max(initial=0.0)


if __name__ == "__main__":
    main()
