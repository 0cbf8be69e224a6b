"""Images: built from folders of this machine, kept in the fleet's registry."""
