"""What becomes of queries on Ray Serve, behind our dispatcher, when a replica or the dispatcher's host dies or stalls."""
