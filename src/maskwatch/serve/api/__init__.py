"""The routes of the service and the schemas of what they answer."""
