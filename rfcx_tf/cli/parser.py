"""The parser of a verb's arguments, which refuses wrong ones in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from rfcx_tf.core.errors import UserError


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` with `UserError` for what is wrong."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[0].upper()}{message[1:]}. See {self.prog} --help.")

    def refuse_group(self, arguments: argparse.Namespace, title: str, why: str) -> None:
        """Refuses options that do not go with the others.

        Args:
            arguments: what was parsed.
            title: of the group of options.
            why: the sentence's end, behind the name of an option.

        Raises:
            UserError: if an option of the group has another value than its default.
        """
        for group in self._action_groups:
            for action in group._group_actions if group.title == title else ():
                if getattr(arguments, action.dest) not in (action.default, []):
                    option = (action.option_strings or [action.metavar])[0]
                    raise UserError(f"{option} {why}")
