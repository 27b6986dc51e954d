"""The market once more, its models packaged as PMML and as scikit-learn objects."""

from __future__ import annotations

import dataclasses

import market

from ninefold.usecase import Gates

GATES = Gates(minimum_blocks=5, max_latency_ms=50.0)
AS_PMML = dataclasses.replace(market.USE_CASE, name="market_pmml", model_format="pmml", gates=GATES)
AS_SKOPS = dataclasses.replace(market.USE_CASE, name="market_skops", model_format="skops", gates=GATES)
