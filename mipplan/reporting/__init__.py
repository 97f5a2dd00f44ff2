"""What people and programs are shown: JSON documents, and tables for a terminal."""
