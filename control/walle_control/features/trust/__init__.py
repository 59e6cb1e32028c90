"""Trust: who may say what to devices. ``repository`` holds the rules, ``book`` keeps them in the database."""
