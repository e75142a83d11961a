"""The prober: a client that asks many addresses at once and tells what came back."""
