"""How fast every stage is, against a named alternative, in one run."""
