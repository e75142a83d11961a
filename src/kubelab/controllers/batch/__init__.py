"""Pods that run to an end: Jobs, and CronJobs that start them."""
