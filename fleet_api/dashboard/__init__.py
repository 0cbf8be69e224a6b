"""The first page: rendered here so that it shows the fleet at once, kept live in the browser by plain ES modules."""
