"""
Several tests at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults


async def together(deferreds: Sequence[Deferred[Any]]) -> list[Any]:
    """
    Wait for all.

    @return: the results, in order.
    @raise Exception: the first failure, as it is; the others are forgotten.
    """
    try:
        return await gatherResults(deferreds, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
        raise  # it always does
