"""Webhooks: who else hears of what happens, signed, in order, again until it is heard."""
