"""Why plan at all: latency and cost by hardware, model size, batch, load, burstiness (`docs/motivation.md`)."""
