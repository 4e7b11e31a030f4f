"""How calls refuse what a user can mend."""

import pytest

from rfcx_tf.core.errors import UserError


def refused(call, *arguments, **options) -> str:
    """The one line of the UserError that a call raises."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text
