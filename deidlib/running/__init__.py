"""A run: started, followed, and told of in the end."""
