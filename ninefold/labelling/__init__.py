"""From what experts said in Label Studio to truths: pure rules, and the one way in which both are kept."""
