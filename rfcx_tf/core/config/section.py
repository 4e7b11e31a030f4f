"""What all sections of a recipe are made of: checked, immutable values, and rules on them."""

from __future__ import annotations

import functools
from typing import Annotated

import pydantic
from pydantic import Field

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class ConfigSection(pydantic.BaseModel):
    """Refuses unknown keys, and changes after it was made.

    A section checks the rules on its own values in a `model_validator`. Rules on the values of
    several sections stand in `Config`.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    def require(self, holds: bool, rule: str) -> None:
        """Refuses the values unless a rule holds.

        Args:
            holds: whether the rule holds.
            rule: what a value must be. It begins with the value's dotted key from this section on;
                other keys in it are written from the recipe on.
        """
        if not holds:
            found = functools.reduce(getattr, rule.split()[0].split("."), self)
            raise ValueError(f"{rule}. Received: {found}.")
