"""The rollout controller: reads what is known of a candidate, decides, and records the step. It routes nothing."""
