"""The quantities of study `scaleout`, a file a group, and the deployments that they are read off."""
