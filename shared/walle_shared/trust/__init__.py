"""Who may say what: The Update Framework's roles (``roles``), and what devices do with them (``trusted``)."""
