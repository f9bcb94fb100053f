"""Information bottlenecks: how many bits of a layer the decision needs, and where they are."""
