"""How fast and how good: tools of the project, not of the package."""
