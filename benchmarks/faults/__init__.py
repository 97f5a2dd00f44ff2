"""What becomes of queries on Ray Serve, behind our dispatcher, when a replica or its host dies or stalls."""
