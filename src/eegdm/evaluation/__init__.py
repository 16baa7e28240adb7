"""From logits to what may be said of them: scores, decision rules, and what to compare with."""
