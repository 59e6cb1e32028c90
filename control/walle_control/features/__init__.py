"""The features of the control plane, one folder each.

``routes`` -> ``service`` -> ``store``; ``read_model`` answers the questions of other features.
"""
