"""IPA's five pipelines over its workload: cost and accuracy of its program, of FA2 and RIM, and of our plans."""
