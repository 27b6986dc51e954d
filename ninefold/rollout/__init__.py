"""From a candidate to the live version, or back: the pure core of a rollout. What it rests on: docs/rollouts.md."""
