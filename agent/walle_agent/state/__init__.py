"""What must survive a crash: identity, counters that only rise, slots, reports not yet delivered."""
