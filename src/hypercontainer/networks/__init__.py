"""Networks between pods: not yet (a later release brings bridges, published ports and DNS)."""
