"""User models: networks that are programs of the user's own, run only when trusted."""
