"""Rows of tables of events."""

NAMES = {2: "low", 5: "middle", 9: "high"}


def event(recording, species, start_s, end_s, score, *, file="", band=(100.0, 200.0), **others):
    """An event as a row of a table; uncalibrated, and without a clock, unless `others` say so."""
    return {
        "recording_id": recording,
        "file": str(file),
        "species_id": species,
        "species": NAMES.get(species, f"s{species}"),
        "start_s": start_s,
        "end_s": end_s,
        "low_hz": band[0],
        "high_hz": band[1],
        "score": score,
        "probability": float("nan"),
        "start_time": "",
        "end_time": "",
        **others,
    }
