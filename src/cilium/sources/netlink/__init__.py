"""What netlink says of this node, as observed tables. `source` watches, `devices` decides what a row says."""
