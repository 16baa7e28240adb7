"""Many runs: the paper's tables as plans, what they cost, and sweeps side by side."""
