"""Mutation testing of the code that proves things: a test must notice when a line of it is wrong."""
