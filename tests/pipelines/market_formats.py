"""The market once more, its models packaged as PMML and as scikit-learn objects."""

from __future__ import annotations

import dataclasses

import market

from ninefold.usecase import Gates

GATES = Gates(minimum_blocks=5, max_latency_ms=50.0)
# What a stall sells hangs on its visits alone.
MARKET = dataclasses.replace(market.USE_CASE, may_tell_alone=("visits",), gates=GATES)
AS_PMML = dataclasses.replace(MARKET, name="market_pmml", model_format="pmml")
AS_SKOPS = dataclasses.replace(MARKET, name="market_skops", model_format="skops")
