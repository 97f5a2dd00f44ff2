"""Answers to questions about a plan, for people and programs: what breaks it, what if, what it costs, and why."""
