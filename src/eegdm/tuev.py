"""What TUEV's annotators marked: the names that configuration, data and models share."""

TUEV_CLASSES = ("SPSW", "GPED", "PLED", "EYEM", "ARTF", "BCKG")
"""In the order of TUEV's codes 1..6 and of the published logits; the last one is background."""
