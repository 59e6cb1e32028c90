"""Who releases are for: holdouts, segments, id sets, and the attributes that predicates may ask for."""
