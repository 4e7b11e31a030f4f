"""A DataFrame -> the lines of a Markdown table."""

import numpy as np
import pandas as pd


def markdown_table(table: pd.DataFrame) -> list[str]:
    """Markdown lines, floats with four digits and NaN as an empty cell."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:.4f}"
        return str(value)

    lines = [table.columns, ["---"] * len(table.columns)]
    lines += [map(cell, row) for row in table.itertuples(index=False)]
    return [f"| {' | '.join(line)} |" for line in lines]
